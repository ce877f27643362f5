"""C-MOVE when its destination is away, hangs, or nobody wants the rest any more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MOVE
from pynetdicom.sop_class import Verification

from tests.protocol.conftest import IO, Node, make_film

pytestmark = pytest.mark.protocol

EVERYTHING = {"ae_title": "*", "services": ["store", "query", "retrieve"]}
FILMS = 20


def peer(port: int) -> dict[str, object]:
    return {"name": "viewer", "ae_title": "VIEWER", "host": "127.0.0.1", "port": port}


def bring(node: Node, count: int) -> str:
    """Store some films of one study; return its UID."""
    first = make_film()
    entity = AE("SENSOR")
    entity.add_requested_context(IO, ExplicitVRLittleEndian)
    assoc = entity.associate("127.0.0.1", node.port)
    for number in range(count):
        film = make_film(StudyInstanceUID=first.StudyInstanceUID, InstanceNumber=number + 1)
        assert assoc.send_c_store(film).Status == 0x0000
    assoc.release()
    return str(first.StudyInstanceUID)


@contextlib.contextmanager
def asking(node: Node) -> Iterator[AE]:
    entity = AE("ASKER")
    entity.dimse_timeout = 60
    entity.add_requested_context(MOVE)
    entity.add_requested_context(Verification)
    assoc = entity.associate("127.0.0.1", node.port)
    assert assoc.is_established
    try:
        yield assoc
    finally:
        assoc.release()


def wanted(study_uid: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.StudyInstanceUID = "STUDY", study_uid
    return ds


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    yield port


@contextlib.contextmanager
def a_full_queue() -> Iterator[int]:
    """A port whose queue is full: who connects hears nothing at all."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("destination", [nobody, a_full_queue])
def test_a_destination_that_is_away_is_told_soon(
    start: Callable[..., Node], destination: Callable[[], contextlib.AbstractContextManager[int]]
) -> None:
    with destination() as port:
        node = start(clients=[EVERYTHING], peers=[peer(port)])
        study_uid = bring(node, 1)
        with asking(node) as assoc:
            began = time.monotonic()
            statuses = [s.Status for s, _ in assoc.send_c_move(wanted(study_uid), "VIEWER", MOVE)]
            assert statuses == [0xA801]
            assert time.monotonic() - began < 50
            assert assoc.send_c_echo().Status == 0x0000


def test_what_is_not_wanted_any_more_is_not_sent(start: Callable[..., Node]) -> None:
    came: list[str] = []
    is_cancelled = threading.Event()

    def take(event: evt.Event) -> int:
        came.append(str(event.request.AffectedSOPInstanceUID))
        assert is_cancelled.wait(60)
        return 0x0000

    viewer = AE("VIEWER")
    viewer.add_supported_context(IO, ExplicitVRLittleEndian)
    server = viewer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    try:
        node = start(clients=[EVERYTHING], peers=[peer(server.server_address[1])])
        study_uid = bring(node, FILMS)
        with asking(node) as assoc:
            threading.Thread(target=_cancel, args=(assoc, came, is_cancelled), daemon=True).start()
            answers = assoc.send_c_move(wanted(study_uid), "VIEWER", MOVE, msg_id=7)
            statuses = [status.Status for status, _ in answers]
            assert statuses[-1] == 0xFE00
            assert len(came) < FILMS
            assert assoc.send_c_echo().Status == 0x0000
    finally:
        server.shutdown()


def _cancel(assoc: AE, came: list[str], is_cancelled: threading.Event) -> None:
    deadline = time.monotonic() + 60
    while not came and time.monotonic() < deadline:
        is_cancelled.wait(0.01)
    context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == MOVE)
    assoc.send_c_cancel(7, context.context_id)
    is_cancelled.set()
