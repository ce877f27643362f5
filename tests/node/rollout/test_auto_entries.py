"""Automatic entries: only what is let in, once each, verified by people, their errors estimated."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from node.analysis.findings import store_analysis
from node.config import read_config
from node.db.session import Actor, begin, read
from node.db.tables import auto_entry, study_reading
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    Orientation,
    QualityFlag,
    QualityKind,
    View,
)
from node.domain.reading import (
    Arrival,
    Conclusions,
    Priority,
    ProcedureCheck,
    Series,
    SlotPlace,
    StudyFacts,
    StudyReading,
    Urgency,
)
from node.domain.rollout import Place, RollMode, Subject
from node.errors import NotFound, Rejected
from node.rollout import auto, rules
from tests.node.analysis.test_pilot import hold
from tests.roll_out import acknowledge, lead

CONFIG = read_config(environment={}, overrides={"rollout": {"auto_sample": 1.0}})
MODEL = ModelVersion("triage", "2.0.0", "d" * 64)
ACTOR = Actor("test", "main")


def let(db: sa.Engine, subject: str, mode: str, **place: str) -> None:
    with begin(db, lead(db), "rollout.set") as tx:
        rules.set_mode(tx, Subject.parse(subject), RollMode(mode), place=Place(**place))


def read_study(db: sa.Engine, key: str, view: View = View.BITEWING) -> str:
    """Hold a study whose reading has just been computed."""
    mark = Finding(FindingKind.CARIES, Box(1, 1, 2, 2), probability=0.9, model=MODEL)
    study_id = hold(db, key, (mark,))
    with read(db) as conn:
        image_id = conn.execute(
            sa.text("SELECT id FROM instance WHERE study_id = :id"), {"id": study_id}
        ).scalar_one()
    said = ImageAnalysis(
        view, 0.9, findings=(mark,), models=(MODEL,), orientation=Orientation(1, True),
        quality=(QualityFlag(QualityKind.BLUR, "soft"),),
    )  # fmt: skip
    store_analysis(db, ACTOR, image_id, said, datetime.now(UTC))
    facts = StudyFacts(
        series=Series("BW2", (SlotPlace(image_id, "R-MOL-BW", 0.1),)),
        procedures=(ProcedureCheck(("D0272",), 2, 1, Arrival.SHORT, "one is missing"),),
    )
    reading = StudyReading(facts, Conclusions(False, (), Priority(Urgency.ROUTINE, (), "")))
    with begin(db, ACTOR, "test.read") as tx:
        tx.conn.execute(study_reading.delete().where(study_reading.c.study_id == study_id))
        tx.conn.execute(
            study_reading.insert().values(
                study_id=study_id, location_id="main", generation=0, inputs="x",
                content=reading.to_json(), computed_at=tx.now,
            )
        )  # fmt: skip
    return study_id


def entries(db: sa.Engine) -> dict[str, str]:
    with read(db) as conn:
        return {row.tag: row.value for row in auto.waiting(conn, "main")}


def test_nothing_is_entered_before_somebody_lets_it(sqlite_database):
    acknowledge(sqlite_database)
    read_study(sqlite_database, "1")
    assert auto.enter_due(sqlite_database, CONFIG) == 0


def test_what_is_automatic_is_entered_once_and_nothing_else(database):
    acknowledge(database)
    for tag in ("view", "orientation", "quality", "series", "completeness"):
        let(database, f"tag:{tag}", "auto")
    read_study(database, "1")
    assert auto.enter_due(database, CONFIG) == 5
    assert auto.enter_due(database, CONFIG) == 0
    assert entries(database) == {
        "view": "bitewing",
        "orientation": "turned by 90°, mirrored",
        "quality": "blur",
        "series": "BW2 R-MOL-BW",
        "completeness": "D0272: 1 of 2",
    }
    with read(database) as conn:
        (models,) = set(map(str, conn.execute(sa.select(auto_entry.c.models)).scalars()))
    assert "triage 2.0.0" in models


def test_a_rule_for_one_view_and_the_switch_back_hold(sqlite_database):
    acknowledge(sqlite_database)
    let(sqlite_database, "tag:view", "auto", view="panoramic")
    read_study(sqlite_database, "1")
    assert auto.enter_due(sqlite_database, CONFIG) == 0
    let(sqlite_database, "tag:view", "auto")
    with begin(sqlite_database, lead(sqlite_database), "rollout.back") as tx:
        rules.switch_back(tx, Subject(None), RollMode.ASSIST)
    read_study(sqlite_database, "2")
    assert auto.enter_due(sqlite_database, CONFIG) == 0
    assert entries(sqlite_database) == {}


def test_what_the_models_say_otherwise_later_takes_its_place(sqlite_database):
    acknowledge(sqlite_database)
    let(sqlite_database, "tag:completeness", "auto")
    study_id = read_study(sqlite_database, "1")
    assert auto.enter_due(sqlite_database, CONFIG) == 1
    checks = (ProcedureCheck(("D0272",), 2, 2, Arrival.COMPLETE, ""),)
    reading = StudyReading(
        StudyFacts(procedures=checks), Conclusions(False, (), Priority(Urgency.ROUTINE, (), ""))
    )
    with begin(sqlite_database, ACTOR, "test.read") as tx:
        tx.conn.execute(
            study_reading.update()
            .where(study_reading.c.study_id == study_id)
            .values(content=reading.to_json(), computed_at=tx.now)
        )
    assert auto.enter_due(sqlite_database, CONFIG) == 1
    assert entries(sqlite_database) == {"completeness": "D0272: 2 of 2"}


def test_people_verify_and_the_drawn_ones_estimate_the_errors(database):
    acknowledge(database)
    let(database, "tag:view", "auto")
    for number in range(5):
        read_study(database, str(number))
    assert auto.enter_due(database, CONFIG) == 5
    with read(database) as conn:
        ids = [row.id for row in auto.waiting(conn, "main")]
    for number, entry_id in enumerate(ids):
        for _ in range(2):  # twice has one effect
            with begin(database, lead(database), "auto.verified") as tx:
                auto.verify(tx, entry_id, is_right=number > 0)
    with read(database) as conn:
        (rate,) = auto.error_rates(conn, "main")
        assert auto.waiting(conn, "main") == []
    assert (rate.tag, rate.entered, rate.drawn, rate.decided, rate.wrong) == ("view", 5, 5, 5, 1)
    assert rate.low is not None
    assert rate.high is not None
    assert 0.03 < rate.low < 0.2 < rate.high < 0.7
    with (
        pytest.raises(Rejected, match="wrong already"),
        begin(database, lead(database), "auto.verified") as tx,
    ):
        auto.verify(tx, ids[0], is_right=True)
    with pytest.raises(NotFound), begin(database, ACTOR, "auto.verified") as tx:
        auto.verify(tx, "f" * 32, is_right=True)


def test_only_the_drawn_part_is_sampled(sqlite_database):
    acknowledge(sqlite_database)
    let(sqlite_database, "tag:view", "auto")
    config = read_config(environment={}, overrides={"rollout": {"auto_sample": 0.000001}})
    read_study(sqlite_database, "1")
    auto.enter_due(sqlite_database, config)
    with read(sqlite_database) as conn:
        (rate,) = auto.error_rates(conn, "main")
    assert (rate.entered, rate.drawn, rate.low) == (1, 0, None)
