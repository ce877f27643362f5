"""Acknowledgement, report and policy before anything is shown; on both databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from node.config import Mode, read_config
from node.db.session import Actor, begin, read
from node.domain.rollout import Area, Place, RollMode, Subject
from node.errors import InvalidInput, NotFound, Rejected
from node.rollout import acknowledgements, reports, rules
from node.rollout.acknowledgements import Card, compose_text, give, record_installed
from node.rollout.reports import Report
from node.rollout.showing import read_showing
from node.rollout.workflow_modes import workflow_mode
from tests.roll_out import lead

CARD = Card("intraoral", "1.0", "d" * 64, "Trained on synthetic films. AUROC 0.9.")
MODEL = {"name": "intraoral", "version": "1.0", "digest": "d" * 64}
CARIES = Subject(Area.FINDING, "caries")


def config(**sections: dict):
    return read_config(environment={}, overrides=sections)


def install(db: sa.Engine, *cards: Card) -> None:
    with begin(db, Actor("analysis", "main"), "models.installed") as tx:
        record_installed(tx, cards)


def report_of(studies: int, **changes) -> Report:
    values = {"views": (("bitewing", studies),), "models": ("intraoral 1.0",), **changes}
    return Report("silent", studies, studies, studies, **values)


def acknowledge(db: sa.Engine, report: Report, *cards: Card) -> str:
    person = lead(db)
    with begin(db, person, "rollout.reported") as tx:
        report_id = reports.keep(tx, report)
    with begin(db, person, "rollout.acknowledged") as tx:
        return give(tx, person.name, report_id, cards, compose_text(cards, report))


def set_mode(db: sa.Engine, subject: Subject, mode: str, **options) -> None:
    with begin(db, lead(db), "rollout.set") as tx:
        rules.set_mode(tx, subject, RollMode(mode), **options)


def is_shown(db: sa.Engine, model=MODEL, kind="caries", view="bitewing", **place: str) -> bool:
    with read(db) as conn:
        return read_showing(conn, config()).at(Place(**place)).shows(kind, view, model)


def test_nothing_is_let_in_without_an_acknowledgement(database):
    install(database, CARD)
    with pytest.raises(Rejected, match="clinical lead"):
        set_mode(database, CARIES, "assist")
    assert not is_shown(database)


def test_nothing_is_let_in_on_too_few_studies(database):
    install(database, CARD)
    acknowledge(database, report_of(19), CARD)
    with pytest.raises(Rejected, match="19 studies; 20"):
        set_mode(database, CARIES, "assist", min_studies=20)
    with pytest.raises(Rejected, match="0 studies on panoramic"):
        set_mode(database, CARIES, "assist", min_studies=1, place=Place(view="panoramic"))
    set_mode(database, CARIES, "assist", min_studies=19, place=Place(view="bitewing"))
    assert is_shown(database)
    assert not is_shown(database, view="periapical")


def test_a_report_about_another_model_or_a_kind_that_was_shown_is_no_ground(database):
    install(database, CARD)
    acknowledge(database, report_of(50, models=("intraoral 0.9",)), CARD)
    with pytest.raises(Rejected, match="0 studies"):
        set_mode(database, CARIES, "assist", min_studies=1)
    acknowledge(database, report_of(50, shown=("caries",)), CARD)
    with pytest.raises(Rejected, match="0 studies"):
        set_mode(database, CARIES, "assist", min_studies=1)
    set_mode(database, Subject(Area.FINDING, "calculus"), "assist", min_studies=50)


def test_a_new_version_with_another_card_asks_again_and_one_with_the_same_does_not(database):
    install(database, CARD)
    acknowledge(database, report_of(30), CARD)
    set_mode(database, Subject(Area.FINDING), "assist")
    same = Card("intraoral", "1.1", "e" * 64, CARD.text)
    install(database, same)
    assert is_shown(database, {**MODEL, "version": "1.1"})
    other = Card("intraoral", "1.2", "f" * 64, "Trained on something else.")
    install(database, other)
    assert not is_shown(database, {**MODEL, "version": "1.2"})
    assert is_shown(database), "what the acknowledged version said stays shown"
    with read(database) as conn:
        assert acknowledgements.standing(conn, "main") is None
    with pytest.raises(Rejected, match="changed card"):
        set_mode(database, CARIES, "assist")


def test_the_text_is_kept_word_for_word_and_an_outdated_one_is_refused(database):
    install(database, CARD)
    ack_id = acknowledge(database, report_of(3), CARD)
    with read(database) as conn:
        given = acknowledgements.standing(conn, "main")
    assert given is not None
    assert given.id == ack_id
    assert given.name == "Dr Clinical Lead"
    for words in ("Not cleared as a medical device", "AUROC 0.9", "intraoral 1.0", "3 studies"):
        assert words in given.text
    person = lead(database)
    with (
        pytest.raises(Rejected, match="Read again"),
        begin(database, person, "rollout.acknowledged") as tx,
    ):
        give(tx, person.name, given.report_id, (CARD,), "I agree to everything")
    with (
        pytest.raises(NotFound),
        begin(database, Actor(person.name, "other"), "rollout.acknowledged") as tx,
    ):
        give(tx, person.name, given.report_id, (CARD,), given.text)


def test_withdrawing_hides_everything_at_once(database):
    install(database, CARD)
    acknowledge(database, report_of(3), CARD)
    set_mode(database, Subject(Area.FINDING), "assist")
    assert is_shown(database)
    with begin(database, lead(database), "rollout.withdrawn") as tx:
        assert acknowledgements.withdraw(tx)
    assert not is_shown(database)


def test_one_switch_back_holds_and_lifting_lets_the_rules_speak_again(database):
    install(database, CARD)
    acknowledge(database, report_of(3), CARD)
    set_mode(database, Subject(Area.FINDING), "assist")
    set_mode(database, CARIES, "assist", place=Place(operatory="2", view="bitewing"))
    for subject in (Subject(None), Subject(Area.FINDING), CARIES):
        with begin(database, lead(database), "rollout.back") as tx:
            rules.switch_back(tx, subject)
        assert not is_shown(database, operatory="2")
        with begin(database, lead(database), "rollout.lifted") as tx:
            assert rules.lift(tx, subject)
        assert is_shown(database, operatory="2")
    with pytest.raises(InvalidInput), begin(database, lead(database), "rollout.back") as tx:
        rules.switch_back(tx, CARIES, RollMode.AUTO)


def test_the_same_rule_again_replaces_it_and_locations_do_not_see_each_other(database):
    install(database, CARD)
    acknowledge(database, report_of(3), CARD)
    set_mode(database, CARIES, "assist")
    set_mode(database, CARIES, "silent")
    with read(database) as conn:
        standing = rules.read_rules(conn, "main")
        assert [rule.words for rule in standing] == ["finding:caries silent"]
        assert rules.read_rules(conn, "elsewhere") == ()


def test_the_configuration_can_hold_everything_silent(database):
    install(database, CARD)
    acknowledge(database, report_of(3), CARD)
    set_mode(database, Subject(Area.FINDING), "assist")
    with read(database) as conn:
        held = read_showing(conn, config(node={"mode": Mode.SILENT})).at(Place())
        assert not held.is_any
        assert "configuration" in held.why("caries", "bitewing", MODEL)


def test_a_finding_is_never_automatic_and_a_tag_may_be(database):
    install(database, CARD)
    acknowledge(database, report_of(3), CARD)
    with pytest.raises(Rejected, match="never automatic"):
        set_mode(database, CARIES, "auto")
    with pytest.raises(Rejected, match="never automatic"):
        set_mode(database, Subject(Area.WORKFLOW, "recall"), "auto")
    set_mode(database, Subject(Area.TAG, "view"), "auto")


def test_workflows_follow_configuration_then_rules_then_ceilings(database):
    settings = config(workflows={"modes": {"recall": "assist", "lab_case": "off"}})
    subject = Subject(Area.WORKFLOW, "recall")

    def mode(name: str, **data: str) -> Mode | None:
        with read(database) as conn:
            return workflow_mode(conn, settings, name, data)

    assert mode("recall") is Mode.ASSIST
    assert mode("eligibility") is Mode.SILENT
    assert mode("lab_case") is None
    set_mode(database, Subject(Area.WORKFLOW, "lab_case"), "assist")
    assert mode("lab_case") is None, "what the configuration switched off stays off"
    set_mode(database, subject, "silent")
    assert mode("recall") is Mode.SILENT
    set_mode(database, subject, "assist", place=Place(lab="north"))
    assert mode("recall", lab="north") is Mode.ASSIST
    assert mode("recall", lab="south") is Mode.SILENT
    with begin(database, lead(database), "rollout.back") as tx:
        rules.switch_back(tx, Subject(None))
    assert mode("recall", lab="north") is Mode.SILENT
