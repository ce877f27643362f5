"""An image whose patient is in doubt waits for a person; until then no chart hears of it."""

from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from node.db.tables import pms_command, study
from node.dicom.send import send_paths
from tests.faults.running_node import NodeProcess, Reviewer, sample_study, until
from tests.faults.test_kill_node import all_done, assert_charted_once

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]


def _send_changed(node: NodeProcess, **changes: str) -> str:
    """Send patient 2's film with changed identity; return the study's UID."""
    import datetime

    folder = node.folder / "doubt"
    paths: list[Path] = sample_study("bitewing-1").write(
        folder,
        accession="",
        study_instance_uid=None,
        study_date=datetime.date.today(),  # noqa: DTZ011 - a sensor's own clock
    )
    for path in paths:
        ds = pydicom.dcmread(path)
        for name, value in changes.items():
            setattr(ds, name, value)
        ds.save_as(path)
        uid = str(ds.StudyInstanceUID)
    assert not send_paths(paths, node.peer, calling_ae="SENSOR").failed
    until(lambda: node.study_state(uid) == "ready", 120, "analysis")
    return uid


def _study(node: NodeProcess, uid: str) -> sa.Row:  # type: ignore[type-arg]
    return node.rows(sa.select(study).where(study.c.study_instance_uid == uid))[0]


def test_two_people_of_one_name_are_never_guessed(node: NodeProcess) -> None:
    node.scheduled("2")  # the schedule is here
    tasks = len(node.sandbox.rows("tasks"))
    uid = _send_changed(node, PatientID="")
    row = _study(node, uid)
    assert row.match_state in ("ambiguous", "suggested")
    assert row.patient_id is None
    dentist = node.sign_in()
    dentist.decide_everything(row.id)
    answer = dentist.study(row.id)
    refused = dentist.try_sign(row.id)
    assert refused.status_code == 409
    assert "unlinked" in {blocker["kind"] for blocker in refused.json()["blockers"]}
    assert answer["match"]["is_certain"] is False
    assert node.count(pms_command) == 0
    assert len(node.sandbox.rows("tasks")) == tasks

    people = dentist.get(f"/api/studies/{row.id}/candidates").json()["candidates"]
    assert {person["pms_key"] for person in people} >= {"2", "8"}
    chosen = next(person for person in people if person["pms_key"] == "8")
    dentist.link(row.id, chosen["patient_id"])
    until(lambda: node.count(pms_command) > 0, 30, "the flag")
    dentist.sign(row.id)
    until(lambda: all_done(node, row.id), 120, "the chart write")
    assert_charted_once(node, row.id)
    assert {document["PatNum"] for document in node.sandbox.rows("documents")} == {8}


def test_an_unknown_person_is_told_to_a_person(node: NodeProcess) -> None:
    node.scheduled("2")
    uid = _send_changed(node, PatientID="4711", PatientName="Nobody^Known", PatientBirthDate="")
    row = _study(node, uid)
    assert row.match_state == "unmatched"
    problems = Reviewer(node.url).get("/api/worklist?filter=problems").json()["rows"]
    assert [problem["id"] for problem in problems] == [row.id]
    assert node.count(pms_command) == 0


def test_an_id_whose_name_disagrees_is_not_believed(node: NodeProcess) -> None:
    node.scheduled("2")
    uid = _send_changed(node, PatientID="3")  # the number of somebody else
    row = _study(node, uid)
    assert row.match_state not in ("matched", "linked")
    assert row.patient_id is None
    assert node.count(pms_command) == 0
