"""Several people at once, on SQLite and on PostgreSQL, where writers really run side by side."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from node.db import audit
from node.db.session import read
from node.db.tables import finding, operation, review


@pytest.fixture
def database_path(database_url: str) -> str:
    """Run the practice of this module on both databases."""
    return database_url


def at_once(*calls: Callable[[], object]) -> list:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_the_whole_path_from_queue_to_signature(practice):
    study_id = practice.analysed_study(images=2, patient_id=None)
    patient_id = practice.add_patient()
    dentist = practice.sign_in("dentist")
    row = dentist.get("/api/worklist").json()["rows"][0]
    assert row["suggestions"] == {"B": 2, "C": 2}
    assert dentist.post("/api/patients/search", {"text": "doe ja"}).json()["candidates"]
    link = {"patient_id": patient_id}
    assert dentist.post(f"/api/studies/{study_id}/link", link).status_code == 200
    dentist.see_all(study_id)
    dentist.accept_all(study_id)
    assert dentist.sign(study_id).status_code == 200
    assert dentist.get("/api/worklist", params={"filter": "signed_today"}).json()["rows"]


def test_the_same_operation_sent_twice_at_once_is_applied_once(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    mark = dentist.study(study_id)["findings"][0]
    body = {
        "operations": [
            {
                "op_id": str(uuid.uuid4()),
                "kind": "accept",
                "finding_id": mark["id"],
                "base_rev": 1,
            }
        ]
    }
    answers = at_once(*[lambda: dentist.post(f"/api/studies/{study_id}/ops", body)] * 4)
    assert {answer.status_code for answer in answers} == {200}
    assert len({str(answer.json()["results"]) for answer in answers}) == 1
    assert len(practice.rows(sa.select(operation))) == 1


def test_of_two_decisions_at_once_one_wins_and_both_are_kept(practice):
    study_id = practice.analysed_study()
    practice.add_user("second", "dentist")
    first, second = practice.sign_in("dentist"), practice.sign_in("second")
    mark = first.study(study_id)["findings"][0]
    on = {"finding_id": mark["id"], "base_rev": 1}
    answers = at_once(
        lambda: first.ops(study_id, {"kind": "accept", **on}),
        lambda: second.ops(study_id, {"kind": "reject", **on}),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(practice.rows(sa.select(operation))) == 2
    query = sa.select(finding.c.rev).where(finding.c.id == mark["id"])
    assert practice.rows(query, scalars=True) == [2]


def test_two_signatures_at_once_leave_one_version(practice):
    study_id = practice.analysed_study()
    practice.add_user("second", "dentist")
    people = [practice.sign_in("dentist"), practice.sign_in("second")]
    for person in people:
        person.see_all(study_id)
    people[0].accept_all(study_id)
    answers = at_once(*[lambda person=person: person.sign(study_id) for person in people])
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(practice.rows(sa.select(review))) == 1
    with read(practice.db) as conn:
        held, broken = audit.verify(conn)
    assert held > 10
    assert broken is None
