"""What is said of a study, as each person may see it; the pictures of a comparison."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from node.db.session import begin, upsert
from node.db.tables import audit, study, study_reading
from node.domain.findings import FindingKind, View
from node.domain.reading import (
    Arrival,
    Change,
    Conclusions,
    ImageFacts,
    Priority,
    ProcedureCheck,
    Registration,
    StudyFacts,
    StudyReading,
    Urgency,
    Verdict,
)
from node.domain.rollout import Subject
from node.domain.teeth import Surface, Tooth
from node.rollout import rules

TOOTH = Tooth("46")
EMPTY = Conclusions(False, (), Priority(Urgency.ROUTINE, (), ""))
STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.fixture
def compared(practice):
    """A study with an earlier one of the same patient, compared by one tooth."""
    return _compared(practice)


def _compared(practice) -> str:
    patient_id = practice.add_patient()
    earlier = practice.add_study(patient_id=patient_id)
    study_id = practice.add_study(patient_id=patient_id)
    for each in (earlier, study_id):
        (image_id,) = practice.image_ids(each)
        practice.analyse(image_id)
    with begin(practice.db, practice.actor, "test") as tx:
        tx.conn.execute(study.update().where(study.c.id == earlier).values(study_date="20250105"))
    _store(practice, study_id, patient_id, _facts(practice, study_id, earlier))
    return study_id


def _facts(practice, study_id: str, earlier: str) -> StudyFacts:
    (now,), (before,) = practice.image_ids(study_id), practice.image_ids(earlier)
    change = Change(
        FindingKind.BONE_LEVEL, TOOTH, Surface.MESIAL, Verdict.MORE_LOSS,
        "#30 mesial: 2.4 mm more loss", now, before, "2025-01-05", "signed", registration=0,
        delta_mm=2.4,
    )  # fmt: skip
    return StudyFacts(
        images=(ImageFacts(now, View.BITEWING, "R", teeth=(TOOTH,)),),
        registrations=(Registration(TOOTH, now, before, STILL, 0.95, 0.1, True),),
        changes=(change,),
    )


def _store(practice, study_id: str, patient_id: str | None, facts: StudyFacts) -> None:
    with begin(practice.db, practice.actor, "test") as tx:
        values = {
            "study_id": study_id,
            "location_id": practice.location_id,
            "generation": 0,
            "patient_id": patient_id,
            "inputs": "0" * 64,
            "content": StudyReading(facts, EMPTY).to_json(),
            "computed_at": tx.now,
        }
        upsert(tx.conn, study_reading, ("study_id",), values)


def _sign(practice, study_id: str) -> None:
    dentist = practice.sign_in("dentist")
    dentist.accept_all(study_id)
    dentist.see_all(study_id)
    assert dentist.sign(study_id, password="correct horse battery").status_code == 200


def test_a_clinician_sees_facts_and_what_follows_from_the_marks(practice, compared):
    reading = practice.sign_in("dentist").study(compared)["reading"]
    assert reading["facts"]["changes"][0]["words"] == "#30 mesial: 2.4 mm more loss"
    found = reading["conclusions"]
    assert not found["is_signed"]
    assert "caries_suspected" in found["tags"]
    assert found["priority"]["urgency"] == "soon"


def test_a_priority_made_of_a_part_says_so(practice, compared):
    browser = practice.sign_in("dentist")
    whole = browser.study(compared)["reading"]["conclusions"]["priority"]["words"]
    assert "silent" not in whole
    with begin(practice.db, practice.actor, "rollout.changed") as tx:
        rules.switch_back(tx, Subject.parse("finding:root_remnant"))
    partly = browser.study(compared)["reading"]["conclusions"]["priority"]["words"]
    assert partly.endswith("the roll-out keeps part of the suggestions silent.")


def test_before_the_signature_nobody_else_sees_any_of_it(practice, compared):
    assert practice.sign_in("assistant").study(compared)["reading"] is None


def test_after_the_signature_everybody_sees_what_was_signed(practice, compared):
    _sign(practice, compared)
    seen = practice.sign_in("assistant").study(compared)["reading"]
    assert seen["facts"] is None
    assert seen["conclusions"]["is_signed"]
    assert "caries_recorded" in seen["conclusions"]["tags"]
    assert practice.sign_in("dentist").study(compared)["reading"]["facts"] is not None


def test_silent_mode_says_nothing_before_the_signature(open_practice):
    practice = open_practice(mode="silent")
    study_id = _compared(practice)
    dentist = practice.sign_in("dentist")
    assert dentist.study(study_id)["reading"] is None
    assert dentist.get(f"/api/studies/{study_id}/comparisons/0/now").status_code == 404


def test_a_rejected_mark_says_nothing_any_more(practice, compared):
    dentist = practice.sign_in("dentist")
    shown = dentist.study(compared)
    mark = next(each for each in shown["findings"] if each["kind"] == "caries")
    tag = "caries_suspected"
    assert tag in shown["reading"]["conclusions"]["tags"]
    reject = {"kind": "reject", "finding_id": mark["id"], "base_rev": mark["rev"], "data": {}}
    assert dentist.ops(compared, reject).status_code == 200
    assert tag not in dentist.study(compared)["reading"]["conclusions"]["tags"]


def test_changes_are_those_of_the_patient_they_were_computed_for(practice, compared):
    dentist = practice.sign_in("dentist")
    other = practice.add_patient("Roe", "Sam")
    assert dentist.post(f"/api/studies/{compared}/link", {"patient_id": other}).status_code == 200
    facts = dentist.study(compared)["reading"]["facts"]
    assert facts["changes"] == []
    assert facts["registrations"] == []
    assert dentist.get(f"/api/studies/{compared}/comparisons/0/now").status_code == 404


def test_linking_a_finished_study_reads_it_again(practice):
    study_id = practice.add_study(patient_id=None)
    patient_id = practice.add_patient()
    dentist = practice.sign_in("dentist")
    assert dentist.post(f"/api/studies/{study_id}/link", {"patient_id": patient_id}).is_success
    with practice.db.connect() as conn:
        names = conn.execute(sa.text("SELECT workflow_uuid, name FROM workflow_status")).all()
    assert [name for key, name in names if key.startswith(f"finish:{study_id}:")] == [
        "finish_study"
    ]


def test_missing_images_are_told_by_view(practice, compared):
    (image_id,) = practice.image_ids(compared)
    row = practice.rows(sa.select(study).where(study.c.id == compared))[0]
    check = ProcedureCheck(("D0272",), 2, 1, Arrival.SHORT, "1 bitewing of the 2 asked for")
    facts = StudyFacts(images=(ImageFacts(image_id, View.BITEWING),), procedures=(check,))
    _store(practice, compared, row.patient_id, facts)
    shown = practice.sign_in("dentist").study(compared)
    assert shown["reading"]["facts"]["procedures"][0]["state"] == "short"


@pytest.mark.parametrize("part", ["now", "before", "difference"])
def test_a_comparison_is_drawn_as_one_crop(practice, compared, part):
    dentist = practice.sign_in("dentist")
    answer = dentist.get(f"/api/studies/{compared}/comparisons/0/{part}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, no-store"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)))
    whole = dentist.get(f"/api/studies/{compared}/comparisons/0/all")
    wide = np.asarray(Image.open(io.BytesIO(whole.content)))
    assert wide.shape[0] == drawn.shape[0]
    assert wide.shape[1] == 3 * drawn.shape[1] + 12
    assert drawn.shape[1] < 160, "the crop of a tooth, not the film"


def test_the_same_film_twice_differs_nowhere(practice, compared):
    dentist = practice.sign_in("dentist")
    parts = [
        np.asarray(
            Image.open(
                io.BytesIO(dentist.get(f"/api/studies/{compared}/comparisons/0/{part}").content)
            )
        )
        for part in ("now", "difference")
    ]
    assert np.array_equal(*parts)


def test_both_images_of_a_comparison_count_as_opened(practice, compared):
    dentist = practice.sign_in("dentist")
    for _ in range(2):
        dentist.get(f"/api/studies/{compared}/comparisons/0/now")
    actions = [row.action for row in practice.rows(sa.select(audit))]
    assert actions.count("images.compared") == 2
    assert actions.count("image.opened") == 4


@pytest.mark.parametrize("path", ["1/now", "-1/now", "0/sideways", "x/now"])
def test_there_is_no_other_comparison(practice, compared, path):
    answer = practice.sign_in("dentist").get(f"/api/studies/{compared}/comparisons/{path}")
    assert answer.status_code in (404, 422)


def test_a_prior_that_went_to_somebody_else_is_not_shown(practice, compared):
    other = practice.add_patient("Roe", "Sam")
    with begin(practice.db, practice.actor, "test") as tx:
        earlier = study.update().where(study.c.study_date == "20250105")
        tx.conn.execute(earlier.values(patient_id=other))
    answer = practice.sign_in("dentist").get(f"/api/studies/{compared}/comparisons/0/now")
    assert answer.status_code == 404


def test_films_that_never_met_are_refused_in_words(practice, compared):
    row = practice.rows(sa.select(study).where(study.c.id == compared))[0]
    content = practice.rows(sa.select(study_reading.c.content), scalars=True)[0]
    facts = StudyReading.from_json(content).facts
    failed = replace(facts.registrations[0], correlation=0.0, reason="too few points in common")
    _store(practice, compared, row.patient_id, replace(facts, registrations=(failed,)))
    answer = practice.sign_in("dentist").get(f"/api/studies/{compared}/comparisons/0/now")
    assert answer.status_code == 422
    assert "too few points" in answer.text
