"""Performed steps told by pynetdicom's SCU, and what becomes of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityPerformedProcedureStep as MPPS

from node.db.session import read
from node.db.tables import event, performed_step, worklist_item
from tests.node.dicom.conftest import Practice
from tests.protocol.conftest import IO, Node

pytestmark = pytest.mark.protocol


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start()


@pytest.fixture
def device(node: Node) -> Iterator[Association]:
    entity = AE("SENSOR")
    entity.add_requested_context(MPPS)
    entity.add_requested_context("1.2.840.10008.5.1.4.31")
    assoc = entity.associate("127.0.0.1", node.port)
    yield assoc
    assoc.release()


@pytest.fixture
def visit(practice: Practice) -> tuple[str, str]:
    """Jane Doe's four bitewings; the ids of the appointment and of its scheduled step."""
    patient_id = practice.patient()
    appointment_id = practice.appointment(patient_id)
    item = practice.item(patient_id, appointment_id, expected_images=4)
    return appointment_id, item


def started(**changes: object) -> Dataset:
    """What a device says when it begins the step S2 of the first visit."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID, scheduled.AccessionNumber = "2.25.14", "Amain1"
    scheduled.RequestedProcedureID, scheduled.ScheduledProcedureStepID = "R2", "S2"
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [scheduled]
    ds.PatientName, ds.PatientID = "Doe^Jane", "17"
    ds.PatientBirthDate, ds.PatientSex = "19800102", "F"
    ds.PerformedProcedureStepID, ds.PerformedStationAETitle = "P1", "SENSOR"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20261122", "1015"
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.Modality, ds.PerformedSeriesSequence = "IO", []
    for name, value in changes.items():
        setattr(ds, name, value)
    return ds


def ended(status: str = "COMPLETED", images: tuple[str, ...] = ()) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = generate_uid(), []
    for uid in images:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = IO, uid
        series.ReferencedImageSequence.append(image)
    ds = Dataset()
    ds.PerformedProcedureStepStatus = status
    ds.PerformedProcedureStepEndDate, ds.PerformedProcedureStepEndTime = "20261122", "1020"
    ds.PerformedSeriesSequence = [series]
    return ds


def create(device: Association, ds: Dataset, uid: str | None) -> tuple[int, Dataset | None]:
    status, answer = device.send_n_create(ds, MPPS, uid)
    return status.Status, answer


def change(device: Association, ds: Dataset, uid: str) -> Dataset:
    status, _ = device.send_n_set(ds, MPPS, uid)
    return status


def step_of(db: sa.Engine) -> sa.Row:
    with read(db) as conn:
        return conn.execute(sa.select(performed_step)).one()


def performed(db: sa.Engine) -> str:
    with read(db) as conn:
        return conn.execute(sa.select(worklist_item.c.performed)).scalar_one()


def kinds(db: sa.Engine) -> list[str]:
    with read(db) as conn:
        return list(conn.execute(sa.select(event.c.kind).order_by(event.c.seq)).scalars())


def on_the_worklist(device: Association) -> list[str]:
    """Return the status of each scheduled step that the worklist offers."""
    query, step = Dataset(), Dataset()
    query.PatientName = ""
    step.Modality, step.ScheduledProcedureStepStatus = "IO", ""
    query.ScheduledProcedureStepSequence = [step]
    answers = device.send_c_find(query, "1.2.840.10008.5.1.4.31")
    return [
        ds.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus
        for _, ds in answers
        if ds is not None
    ]


def test_a_step_walks_from_the_worklist_to_done(node, device, visit):
    uid, images = generate_uid(), (generate_uid(), generate_uid())
    assert on_the_worklist(device) == ["SCHEDULED"]
    assert create(device, started(), uid)[0] == 0x0000
    row = step_of(node.db)
    assert (row.state, row.match_state, row.appointment_id, row.worklist_item_id) == (
        "started",
        "matched",
        *visit,
    )
    assert on_the_worklist(device) == ["STARTED"]
    assert change(device, ended(images=images), uid).Status == 0x0000
    row = step_of(node.db)
    assert (row.state, row.image_uids, row.ended_at is not None) == ("completed", [*images], True)
    assert on_the_worklist(device) == []
    assert kinds(node.db) == ["step.started", "step.completed"]
    kept = [dcmread(node.folder / key) for key in row.messages]
    assert [str(ds.PerformedProcedureStepStatus) for ds in kept] == ["IN PROGRESS", "COMPLETED"]


def test_a_discontinued_step_stays_on_the_worklist_with_its_reason_kept(node, device, visit):
    uid, end = generate_uid(), ended("DISCONTINUED")
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator = "110513", "DCM"
    reason.CodeMeaning = "Discontinued for unspecified reason"
    end.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    create(device, started(), uid)
    assert change(device, end, uid).Status == 0x0000
    assert (step_of(node.db).reason, performed(node.db)) == ("110513", "discontinued")
    assert on_the_worklist(device) == ["SCHEDULED"]


@pytest.mark.parametrize(
    ("ds", "status"),
    [
        (started(PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        (started(PerformedProcedureStepStatus="NONSENSE"), 0x0106),
        (started(PerformedProcedureStepStatus=""), 0x0120),
    ],
)
def test_a_step_begins_in_progress_or_not_at_all(node, device, ds, status):
    assert create(device, ds, generate_uid())[0] == status
    assert node.rows(performed_step) == []
    assert node.files() == []


def test_a_second_create_under_one_uid_is_a_duplicate(node, device, visit):
    uid = generate_uid()
    create(device, started(), uid)
    assert create(device, started(), uid)[0] == 0x0111
    assert len(node.rows(performed_step)) == 1
    assert len(node.files()) == 1


def test_a_set_of_what_nobody_created_is_refused(node, device):
    assert change(device, ended(), generate_uid()).Status == 0x0112


@pytest.mark.parametrize("end", ["COMPLETED", "DISCONTINUED"])
def test_an_ended_step_cannot_be_changed(node, device, visit, end):
    uid = generate_uid()
    create(device, started(), uid)
    change(device, ended(end), uid)
    answer = change(device, ended("IN PROGRESS"), uid)
    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert step_of(node.db).state == end.lower()


def test_the_node_names_a_step_that_the_device_did_not(node, device, visit):
    status, _ = create(device, started(), None)
    assert status == 0x0000
    uid = step_of(node.db).sop_instance_uid
    assert uid.startswith("2.25.")
    assert change(device, ended(), uid).Status == 0x0000


def test_an_interim_set_may_say_only_some_things(node, device, visit):
    uid, part = generate_uid(), Dataset()
    part.PerformedProcedureStepDescription = "Two of four"
    create(device, started(), uid)
    assert change(device, part, uid).Status == 0x0000
    assert step_of(node.db).state == "started"


@pytest.mark.parametrize(
    ("changes", "match_state"),
    [
        ({"PatientName": "Roe^Richard"}, "ambiguous"),  # the keys name Jane
        ({"PatientBirthDate": ""}, "ambiguous"),
        ({"PatientID": "", "ScheduledStepAttributesSequence": []}, "suggested"),  # the name alone
        ({"PatientID": "99", "PatientName": "No^Body", "ScheduledStepAttributesSequence": []}, ""),
    ],
)
def test_a_step_is_never_attached_by_halves(node, device, visit, changes, match_state):
    assert create(device, started(**changes), generate_uid())[0] == 0x0000
    row = step_of(node.db)
    assert row.match_state == (match_state or "unmatched")
    assert (row.appointment_id, row.worklist_item_id, performed(node.db)) == (None, None, "")


def test_unscheduled_work_finds_the_visit_of_the_day(node, device, visit):
    assert create(device, started(ScheduledStepAttributesSequence=[]), generate_uid())[0] == 0
    row = step_of(node.db)
    assert (row.match_state, row.appointment_id, row.worklist_item_id) == ("matched", *visit)


def test_two_visits_keep_their_steps_apart(node, device, visit, practice):
    other = practice.patient("Roe", "Richard", number="18")
    practice.item(other, practice.appointment(other))
    create(device, started(), generate_uid())
    with read(node.db) as conn:
        rows = conn.execute(sa.select(worklist_item.c.id, worklist_item.c.performed)).all()
    assert sorted((row.performed, row.id == visit[1]) for row in rows) == [
        ("", False),
        ("started", True),
    ]
