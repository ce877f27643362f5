"""The fast path for storage associations, byte by byte: what a sender may do and what it gets."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from node.db import audit
from node.db.session import read
from node.db.tables import instance, instance_duplicate, study
from node.dicom import messages
from tests.protocol.conftest import IO, Node, data_set_of, make_film, wait_until
from tests.protocol.test_quirks import encoded

pytestmark = pytest.mark.protocol

STORE, ECHO, WORKLIST = 1, 3, 5
ABORT, RELEASE = 0x07, 0x06


class Sender:
    """A sender that says exactly what it is told to, over one connection."""

    def __init__(self, node: Node, worklist: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=60)
        self.socket.sendall(associate_request(worklist))
        kind, body = self.pdu()
        assert kind == 2
        self.accepted = A_ASSOCIATE_AC()
        self.accepted.decode(bytes((2, 0)) + struct.pack(">L", len(body)) + body)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self.exactly(6))
        return kind, self.exactly(length)

    def send(self, *pdvs: bytes) -> None:
        body = b"".join(pdvs)
        self.socket.sendall(struct.pack(">BBL", 4, 0, len(body)) + body)

    def answer(self) -> dict[int, bytes]:
        kind, body = self.pdu()
        assert kind == 4
        return messages.read_command(body[6:])

    def status(self) -> int | None:
        return messages.word(self.answer(), messages.STATUS)

    def store(self, uid: str, data: bytes, size: int = 16_384) -> int | None:
        self.send(pdv(STORE, store_request(uid), 3))
        for at in range(0, len(data), size):
            self.send(pdv(STORE, data[at : at + size], 2 if at + size >= len(data) else 0))
        return self.status()

    def close(self) -> None:
        self.socket.close()


def pdv(context_id: int, data: bytes, control: int) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, control) + data


def store_request(uid: str) -> bytes:
    return messages.write_command(
        {
            messages.CLASS_UID: IO,
            messages.FIELD: messages.C_STORE_RQ,
            messages.MESSAGE_ID: 7,
            0x0700: 0,
            messages.DATA_SET_TYPE: 1,
            messages.INSTANCE_UID: uid,
        }
    )


def associate_request(worklist: bool = False) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SENSOR", "BITEWING"
    contexts = [
        build_context(IO, ExplicitVRLittleEndian),
        build_context(Verification, ImplicitVRLittleEndian),
    ]
    if worklist:
        contexts.append(build_context(ModalityWorklistInformationFind, ImplicitVRLittleEndian))
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16_384
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start(fast_store=True)


@pytest.fixture
def sender(node: Node) -> Iterator[Sender]:
    it = Sender(node)
    yield it
    it.close()


def is_kept(node: Node, data: bytes) -> bool:
    return [data_set_of(path) for path in node.files()] == [data]


@pytest.mark.parametrize("size", [1, 2, 500, 4_000, 100_000, 10_000_000])
def test_fragments_of_any_size_make_the_same_object(node, sender, size):
    film = make_film(PixelData=bytes(range(256)) * 10, Rows=40, Columns=32)
    data = encoded(film)
    assert sender.store(film.SOPInstanceUID, data, size) == 0
    assert is_kept(node, data)
    (row,) = node.rows(instance)
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert row.size_bytes == len(data)
    assert row.sender_ae_title == "SENSOR"


@pytest.mark.parametrize(
    "value", [b"\xe0\x7f\x10\x00OW" + bytes(94), bytes(100_000)], ids=["as pixels begin", "long"]
)
def test_a_header_behind_a_value_of_any_kind_is_read(node, sender, value):
    film = make_film(PixelData=bytes(range(256)) * 10, Rows=40, Columns=32)
    block = film.private_block(0x0009, "SENSOR", create=True)
    block.add_new(0x01, "OB", value)
    data = encoded(film)
    assert sender.store(film.SOPInstanceUID, data, 16_000) == 0
    assert is_kept(node, data)
    (row,) = node.rows(instance)
    assert (row.rows, row.columns, row.failure) == (40, 32, "")


def test_many_values_in_one_pdu_and_a_cut_command(node, sender):
    film = make_film()
    data, request = encoded(film), store_request(film.SOPInstanceUID)
    pieces = [pdv(STORE, data[at : at + 333], 0) for at in range(0, len(data), 333)]
    sender.send(
        pdv(STORE, request[:11], 1),
        pdv(STORE, request[11:], 3),
        *pieces,
        pdv(STORE, b"", 2),
    )
    answer = sender.answer()
    assert messages.word(answer, messages.STATUS) == 0
    assert messages.word(answer, messages.FIELD) == 0x8001
    assert messages.word(answer, messages.RESPONDED_TO) == 7
    assert messages.text(answer, messages.INSTANCE_UID) == film.SOPInstanceUID
    assert is_kept(node, data)


def test_echo_and_store_and_release_in_one_association(node, sender):
    film = make_film()
    echo = messages.write_command(
        {
            messages.CLASS_UID: str(Verification),
            messages.FIELD: messages.C_ECHO_RQ,
            messages.MESSAGE_ID: 1,
            messages.DATA_SET_TYPE: messages.NO_DATA_SET,
        }
    )
    sender.send(pdv(ECHO, echo, 3))
    assert sender.status() == 0
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    sender.socket.sendall(b"\5\0\0\0\0\4\0\0\0\0")
    assert sender.pdu()[0] == RELEASE
    assert sender.socket.recv(1) == b""


def test_requests_sent_ahead_are_answered_in_turn(node, sender):
    films = [make_film() for _ in range(3)]
    for film in films:
        sender.send(pdv(STORE, store_request(film.SOPInstanceUID), 3), pdv(STORE, encoded(film), 2))
    assert [sender.status() for _ in films] == [0, 0, 0]
    assert len(node.rows(instance)) == 3


def test_duplicates_are_told_as_on_the_other_path(node, sender):
    film = make_film()
    data = encoded(film)
    film.ImageComments = "edited afterwards"
    other = encoded(film)
    uid = film.SOPInstanceUID
    assert sender.store(uid, data) == 0
    assert sender.store(uid, data) == 0
    assert len(node.files()) == 1
    assert [sender.store(uid, other) for _ in range(2)] == [0xB007, 0xB007]
    assert len(node.files()) == 2
    assert len(node.rows(instance)) == len(node.rows(instance_duplicate)) == 1


def test_a_lost_file_is_put_back(node, sender):
    film = make_film()
    data = encoded(film)
    assert sender.store(film.SOPInstanceUID, data) == 0
    node.files()[0].unlink()
    assert sender.store(film.SOPInstanceUID, data) == 0
    assert is_kept(node, data)


def test_a_cut_object_leaves_nothing(node):
    sender = Sender(node)
    film = make_film()
    sender.send(pdv(STORE, store_request(film.SOPInstanceUID), 3))
    sender.send(pdv(STORE, encoded(film)[:2000], 0))
    wait_until(lambda: len(node.files()) == 1)  # the part
    sender.close()
    wait_until(lambda: node.files() == [])
    assert node.rows(instance) == node.rows(study) == []


def test_an_abort_after_success_keeps_the_image_and_one_before_does_not(node, sender):
    film = make_film()
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    sender.send(pdv(STORE, store_request(generate_uid()), 3), pdv(STORE, b"abcd", 0))
    wait_until(lambda: len(node.files()) == 2)
    sender.socket.sendall(b"\7\0\0\0\0\4\0\0\0\0")
    wait_until(lambda: len(node.files()) == 1)
    assert len(node.rows(instance)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\0\0\0\0\4abcd",  # an association request in an association
        b"\x63\0\0\0\0\4abcd",  # no PDU at all
        b"\4\0\0\0\0\4abcd",  # too short for a value
        b"\4\0\0\0\0\x08\0\0\xff\xff\1\3ab",  # a value longer than its PDU
        b"\4\0\0\0\0\x08\0\0\0\4\x63\3ab",  # a context that was not negotiated
        b"\4\0\0\0\0\x08\0\0\0\4\1\2ab",  # data before any command
        b"\4\0\0\0\0\x08\0\0\0\4\1\3ab",  # half a command set
    ],
)
def test_what_breaks_the_protocol_is_aborted(node, sender, data):
    sender.socket.sendall(data)
    kind, body = sender.pdu()
    assert (kind, body[2]) == (ABORT, 2)  # by the service provider
    assert node.files() == []


@pytest.mark.parametrize("uid", ["../../evil", "1..2", "9" * 65, ""])
def test_a_false_uid_is_answered_and_the_association_goes_on(node, sender, uid):
    status = sender.store(uid, b"\x08\0\x18\0UI\2\x001\0")
    assert status is not None
    assert status >> 12 in (0xA, 0xC)
    assert node.files() == []
    film = make_film()
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0


def test_a_store_without_data_set_is_answered(node, sender):
    elements: dict[int, int | str] = {
        messages.CLASS_UID: IO,
        messages.FIELD: messages.C_STORE_RQ,
        messages.MESSAGE_ID: 7,
        messages.DATA_SET_TYPE: messages.NO_DATA_SET,
        messages.INSTANCE_UID: "1.2.3",
    }
    sender.send(pdv(STORE, messages.write_command(elements), 3))
    assert (sender.status() or 0) >> 12 in (0xA, 0xC)
    assert node.files() == []


def test_a_worklist_among_the_proposals_goes_the_other_way(node):
    sender = Sender(node, worklist=True)
    film = make_film()
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    sender.close()
    results = [context.result for context in sender.accepted.presentation_context]
    assert results == [0, 0, 0]


def test_both_paths_count_as_associations(start):
    node = start(fast_store=True, max_associations=2)
    fast, slow = Sender(node), Sender(node, worklist=True)
    film = make_film()
    assert slow.store(film.SOPInstanceUID, encoded(film)) == 0  # it is established by now
    entity = AE()
    for contexts in ([IO], [IO, ModalityWorklistInformationFind]):
        entity.requested_contexts = [build_context(uid) for uid in contexts]
        assert entity.associate("127.0.0.1", node.port).is_rejected
    for sender in (fast, slow):
        sender.close()


def test_strangers_are_rejected_and_others_get_what_they_may_use(start):
    clients = [{"ae_title": "WORKLIST", "hosts": [], "services": ["worklist"]}]
    node = start(fast_store=True, clients=clients)
    entity = AE("STRANGER")
    entity.requested_contexts = [build_context(IO)]
    assert entity.associate("127.0.0.1", node.port).is_rejected
    entity = AE("WORKLIST")
    entity.requested_contexts = [build_context(IO), build_context(Verification)]
    assoc = entity.associate("127.0.0.1", node.port)
    assert [str(context.abstract_syntax) for context in assoc.accepted_contexts] == [Verification]
    assert assoc.send_c_echo().Status == 0
    assoc.release()


def test_a_flood_of_silent_connections_keeps_nobody_out(start):
    node = start(fast_store=True, max_associations=2)
    opened = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(40)]
    for sock in opened[:20]:
        sock.sendall(associate_request()[:30])
    sender, film = Sender(node), make_film()
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    for sock in [*opened, sender.socket]:
        sock.close()


def test_many_at_once_are_committed_with_an_audit_row_each(node):
    study_uid = generate_uid()
    statuses: list[int | None] = []

    def send_some() -> None:
        sender = Sender(node)
        for _ in range(6):
            film = make_film(StudyInstanceUID=study_uid)
            statuses.append(sender.store(film.SOPInstanceUID, encoded(film)))
        sender.close()

    threads = [threading.Thread(target=send_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == [0] * 24
    assert len(node.rows(instance)) == 24
    assert len(node.rows(study)) == 1
    with read(node.db) as conn:
        assert audit.verify(conn) == (24, None)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def test_a_volume_of_300_mb_does_not_stand_in_memory(node, sender, tmp_path):
    film = make_film(NumberOfFrames=1500, Rows=320, Columns=320)
    del film.PixelData
    size = 1500 * 320 * 320 * 2
    head = encoded(film) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size)
    piece, digest, before = bytes(1 << 20), hashlib.sha256(head), peak_mb()
    sender.send(pdv(STORE, store_request(film.SOPInstanceUID), 3), pdv(STORE, head, 0))
    for left in range(size, 0, -len(piece)):
        data = piece[:left]
        digest.update(data)
        sender.send(pdv(STORE, data, 0))
    sender.send(pdv(STORE, b"", 2))
    assert sender.status() == 0
    assert peak_mb() - before < 60
    (row,) = node.rows(instance)
    assert (row.size_bytes, row.sha256) == (len(head) + size, digest.hexdigest())
    (path,) = node.files()
    assert os.stat(path).st_size > size
    Path(path).unlink()
