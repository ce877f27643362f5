"""Every DIMSE service that reads or writes patients' data leaves its entry, before the answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from node.db import audit as chain
from node.db.session import read
from node.db.tables import audit
from tests.protocol.conftest import IO, Node, make_film
from tests.protocol.test_mpps_scp import ended, started
from tests.protocol.test_storage_commitment import COMMITMENT_INSTANCE, request_of

pytestmark = pytest.mark.protocol

SERVICES = ("store", "query", "retrieve", "worklist", "steps", "commitment")
OURS = (
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)


@pytest.fixture
def device(start) -> Iterator[tuple[Node, Association, Dataset]]:
    """A device with one film stored, on an association for every service."""
    entity = AE("SENSOR")
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, contexts=[build_context(IO, ExplicitVRLittleEndian)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)],
    )  # fmt: skip
    port = server.socket.getsockname()[1]
    peer = {"name": "sensor", "ae_title": "SENSOR", "host": "127.0.0.1", "port": port}
    node = start(clients=[{"ae_title": "*", "services": list(SERVICES)}], peers=[peer])
    for sop_class in (*OURS, IO):
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    assoc = entity.associate(
        "127.0.0.1", node.port, ext_neg=[build_role(IO, scp_role=True, scu_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)],
    )  # fmt: skip
    assert assoc.is_established
    film = make_film()
    assert assoc.send_c_store(film).Status == 0x0000
    yield node, assoc, film
    assoc.release()
    server.shutdown()


def entries(node: Node, after: int = 0) -> list[sa.Row]:
    with read(node.db) as conn:
        return list(conn.execute(sa.select(audit).where(audit.c.seq > after)))


def query(film: Dataset) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.StudyInstanceUID, ds.PatientName = "STUDY", film.StudyInstanceUID, ""
    return ds


def step() -> Dataset:
    ds = Dataset()
    ds.PatientName, ds.ScheduledProcedureStepSequence = "", [Dataset()]
    ds.ScheduledProcedureStepSequence[0].Modality = ""
    return ds


def act(assoc: Association, service: str, film: Dataset) -> None:
    """Use one service, whole."""
    match service:
        case "C-STORE":
            assert assoc.send_c_store(make_film()).Status == 0x0000
        case "C-FIND":
            found = list(assoc.send_c_find(query(film), StudyRootQueryRetrieveInformationModelFind))
            assert found[0][1].PatientName == film.PatientName
        case "C-FIND of the worklist":
            list(assoc.send_c_find(step(), ModalityWorklistInformationFind))
        case "C-GET":
            list(assoc.send_c_get(query(film), StudyRootQueryRetrieveInformationModelGet))
        case "C-MOVE":
            model = StudyRootQueryRetrieveInformationModelMove
            *_, (status, _) = assoc.send_c_move(query(film), "SENSOR", model)
            assert status.NumberOfCompletedSuboperations == 1
        case "N-CREATE, N-SET":
            uid, model = generate_uid(), ModalityPerformedProcedureStep
            assert assoc.send_n_create(started(), model, uid)[0].Status == 0x0000
            assert assoc.send_n_set(ended(), model, uid)[0].Status == 0x0000
        case "N-ACTION":
            asked = request_of((IO, film.SOPInstanceUID))
            model = StorageCommitmentPushModel
            status, _ = assoc.send_n_action(asked, 1, model, COMMITMENT_INSTANCE)
            assert status.Status == 0x0000


@pytest.mark.parametrize(
    ("service", "action", "times"),
    [
        ("C-STORE", "image.received", 1),
        ("C-FIND", "archive.queried", 1),
        ("C-FIND of the worklist", "worklist.queried", 1),
        ("C-GET", "archive.retrieved", 1),
        ("C-MOVE", "archive.moved", 1),
        ("N-CREATE, N-SET", "step.performed", 2),
        ("N-ACTION", "commitment.requested", 1),
    ],
)
def test_each_service_leaves_its_entry(device, service: str, action: str, times: int) -> None:
    node, assoc, film = device
    with read(node.db) as conn:
        before = chain.read_head(conn).seq
    act(assoc, service, film)
    found = [row for row in entries(node, before) if row.action == action]
    assert len(found) == times
    text = str(found)
    assert "Doe" not in text
    if service in ("C-GET", "C-MOVE"):
        assert found[0].detail["instances"] == [film.SOPInstanceUID]
        assert found[0].detail["peer"] == "SENSOR"
    if service == "C-FIND":
        assert found[0].detail["studies"] == [film.StudyInstanceUID]


def test_what_cannot_be_written_down_is_not_given_out(device) -> None:
    node, assoc, film = device

    def refuse(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT INTO audit"):
            raise sa.exc.OperationalError(statement, None, OSError("disk full"))

    sa.event.listen(node.db, "before_cursor_execute", refuse)
    try:
        find = assoc.send_c_find(query(film), StudyRootQueryRetrieveInformationModelFind)
        steps = assoc.send_c_find(step(), ModalityWorklistInformationFind)
        for answers in (find, steps):
            ((status, identifier),) = list(answers)
            assert (status.Status, identifier) == (0xA700, None)
        *_, (status, _) = assoc.send_c_get(query(film), StudyRootQueryRetrieveInformationModelGet)
        assert status.Status == 0xA700
        assert not status.get("NumberOfCompletedSuboperations")
    finally:
        sa.event.remove(node.db, "before_cursor_execute", refuse)
