"""The order of the worklist: in the chair, on the schedule, waiting; urgency only on wish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import begin, new_id
from node.db.tables import appointment, operatory, study, study_reading
from node.domain.cdt import load
from node.domain.conclusions import conclude
from node.domain.findings import Box, CariesDepth, Finding, FindingKind
from node.domain.reading import StudyFacts, StudyFinding, StudyReading
from node.domain.rollout import Subject
from node.domain.teeth import Surface, Tooth
from node.rollout import rules

SILENT = "the roll-out keeps part of this study's suggestions silent"


def visit(practice, study_id: str, starts_in_min: int, status: str = "scheduled") -> None:
    """Give the study's patient an appointment of an hour today."""
    key = new_id()[:12]
    with begin(practice.db, practice.actor, "test.visit") as tx:
        common = {"location_id": practice.location_id, "synced_at": tx.now}
        patient_id = tx.conn.execute(
            sa.select(study.c.patient_id).where(study.c.id == study_id)
        ).scalar()
        tx.conn.execute(
            appointment.insert().values(
                id=new_id(),
                pms_key=key,
                patient_id=patient_id,
                start_at=datetime.now(UTC) + timedelta(minutes=starts_in_min),
                duration_min=60,
                operatory_key="7",
                status=status,
                accession_number=key,
                study_instance_uid=f"1.2.{int(key, 16)}",
                **common,
            )
        )


def read_with(practice, study_id: str, *findings: Finding) -> None:
    listed = [StudyFinding(new_id(), new_id(), finding) for finding in findings]
    facts = StudyFacts()
    reading = StudyReading(facts, conclude(listed, facts, load(None), is_signed=False))
    with begin(practice.db, practice.actor, "test.reading") as tx:
        tx.conn.execute(
            study_reading.insert().values(
                study_id=study_id,
                location_id=practice.location_id,
                generation=0,
                patient_id=None,
                inputs="x",
                content=reading.to_json(),
                computed_at=tx.now,
            )
        )


DEEP = Finding(
    FindingKind.CARIES,
    Box(1, 1, 30, 30),
    Tooth("46"),
    (Surface.MESIAL,),
    CariesDepth.D3,
    probability=0.97,
)


@pytest.fixture
def room(practice) -> None:
    with begin(practice.db, practice.actor, "test.room") as tx:
        tx.conn.execute(
            operatory.insert().values(
                id=new_id(),
                location_id=practice.location_id,
                pms_key="7",
                name="Room 2",
            )
        )


def near_midnight() -> bool:
    """Whether an appointment an hour around now may fall on another day of the practice."""
    return datetime.now(UTC).hour in (0, 23)


@pytest.mark.skipif(near_midnight(), reason="appointments around now would be on two days")
def test_the_chair_comes_first_then_the_schedule_then_waiting(practice, room):
    waits, later, chair, broken = (practice.add_study() for _ in range(4))
    visit(practice, later, 40)
    visit(practice, chair, -10)
    visit(practice, broken, -20, status="broken")
    answer = practice.sign_in("dentist").get("/api/worklist").json()
    assert [row["id"] for row in answer["rows"]] == [chair, later, waits, broken]
    first = answer["rows"][0]
    assert (first["is_in_chair"], first["operatory"], first["urgency"]) == (True, "Room 2", None)
    today = practice.sign_in("dentist").get("/api/worklist?filter=today").json()
    assert {row["id"] for row in today["rows"]} == {chair, later}
    assert today["counts"]["today"] == 2


def test_urgency_sorts_only_for_who_asked_and_says_why(practice):
    calm, urgent = practice.add_study(), practice.add_study()
    read_with(practice, calm)
    read_with(practice, urgent, DEEP)
    browser = practice.sign_in("dentist")
    assert [row["id"] for row in browser.get("/api/worklist").json()["rows"]] == [calm, urgent]
    browser.post("/api/preferences", {"sorts_by_urgency": True})
    rows = browser.get("/api/worklist").json()["rows"]
    assert [row["id"] for row in rows] == [urgent, calm]
    assert rows[0]["urgency"]["level"] in ("soon", "prompt")
    assert rows[0]["urgency"]["reasons"]
    # others keep their order, and who may not see unsigned content hears nothing of it
    manager = practice.sign_in("office_manager")
    manager.post("/api/preferences", {"sorts_by_urgency": True})
    assert [row["urgency"] for row in manager.get("/api/worklist").json()["rows"]] == [None, None]


def test_a_partly_silent_study_says_so_and_nothing_of_what_is_silent(practice):
    calm, urgent = practice.add_study(), practice.add_study()
    read_with(practice, urgent, DEEP)
    with begin(practice.db, practice.actor, "rollout.changed") as tx:
        rules.switch_back(tx, Subject.parse("finding:caries"))
    browser = practice.sign_in("dentist")
    browser.post("/api/preferences", {"sorts_by_urgency": True})
    rows = browser.get("/api/worklist").json()["rows"]
    assert [row["id"] for row in rows] == [calm, urgent]  # in the order of waiting
    said = {"level": "unknown", "reasons": [SILENT]}
    assert [row["urgency"] for row in rows] == [said, said]  # one has caries, one was never read
    manager = practice.sign_in("office_manager")
    manager.post("/api/preferences", {"sorts_by_urgency": True})
    assert [row["urgency"] for row in manager.get("/api/worklist").json()["rows"]] == [None, None]
