"""Hostile and broken peers, a corpus of fixed seeds: the node stays up, bounded, its log clean."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind

from node.db.tables import instance, study_identity
from tests.protocol.conftest import IO, Node, make_film, wait_until
from tests.protocol.test_quirks import encoded, send, send_bytes

pytestmark = pytest.mark.protocol

#: Enough mutations to reach every field of every PDU, few enough for a run of seconds.
MUTATIONS = 100
IMPLICIT = ImplicitVRLittleEndian
WORKLIST = ModalityWorklistInformationFind


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start()


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def associate_request() -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "FUZZ", "BITEWING"
    contexts = [build_context(IO, IMPLICIT), build_context(WORKLIST, IMPLICIT)]
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


def data_pdu(context_id: int, command: bytes, is_command: bool) -> bytes:
    value = struct.pack(">BB", context_id, 2 | is_command) + command
    item = struct.pack(">L", len(value)) + value
    return struct.pack(">BBL", 4, 0, len(item)) + item


def command_set(*elements: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack("<HHL", 0, tag, len(data)) + data for tag, data in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_request(uid: bytes) -> bytes:
    uid += b"\0" * (len(uid) % 2)
    return command_set(
        (0x0002, IO.encode() + b"\0" * (len(IO) % 2)),
        (0x0100, struct.pack("<H", 1)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0)),
        (0x1000, uid),
    )


def conversation() -> bytes:
    """An association request, a C-STORE and a C-FIND, all sent at once."""
    query = struct.pack("<HHL", 0x10, 0x10, 4) + b"DOE*"
    find = command_set(
        (0x0002, WORKLIST.encode() + b"\0" * (len(WORKLIST) % 2)),
        (0x0100, struct.pack("<H", 0x20)),
        (0x0110, struct.pack("<H", 2)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0)),
    )
    return b"".join(
        (
            associate_request(),
            data_pdu(1, store_request(generate_uid().encode()), True),
            data_pdu(1, struct.pack("<HHL", 0x10, 0x10, 8) + b"DOE^JANE", False),
            data_pdu(3, find, True),
            data_pdu(3, query, False),
        )
    )


def mutate(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                changed[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff"))
            case 2:
                del changed[at : at + dice.randint(1, 40)]
            case 3:
                changed[at:at] = bytes(dice.randrange(256) for _ in range(dice.randint(1, 40)))
            case _:
                changed[at:at] = changed[at : at + dice.randint(1, 200)]
        if not changed:
            return b"\0"
    return bytes(changed)


def throw(node: Node, data: bytes) -> None:
    """Send bytes, read a little of the answer, hang up."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.02)
            sock.recv(4096)
        except OSError:
            return


def is_alive(node: Node) -> bool:
    entity = AE("ALIVE")
    entity.add_requested_context("1.2.840.10008.1.1")
    assoc = entity.associate("127.0.0.1", node.port)
    if not assoc.is_established:
        return False
    status = assoc.send_c_echo()
    assoc.release()
    return "Status" in status and status.Status == 0


def outside(node: Node) -> set[Path]:
    """List what lies beside the node's own folder and database."""
    return {
        path
        for path in node.folder.parent.rglob("*")
        if node.folder not in path.parents and not path.name.startswith("bitewing.sqlite")
    }


def test_mutated_conversations_leave_the_node_standing(node, caplog):
    caplog.set_level(logging.INFO)
    before, places = resident_mb(), outside(node)
    dice, whole = random.Random(20261122), conversation()
    for _ in range(MUTATIONS):
        throw(node, mutate(whole, dice))
    wait_until(lambda: is_alive(node), 60)
    assert resident_mb() - before < 150
    assert outside(node) == places
    assert "DOE" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_half_open_associations_are_ended_and_others_served(start):
    node = start(max_associations=4)
    opened = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(40)]
    try:
        for sock in opened[:20]:
            sock.sendall(associate_request()[:30])
        wait_until(lambda: is_alive(node), 60)
    finally:
        for sock in opened:
            sock.close()
    wait_until(lambda: is_alive(node), 60)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 24])
@pytest.mark.parametrize("kind", [1, 4])
def test_a_pdu_of_giant_length_is_hung_up_on(node, kind, length):
    before = resident_mb()
    throw(node, struct.pack(">BBL", kind, 0, length) + b"x" * 100)
    assert resident_mb() - before < 60
    assert is_alive(node)


@pytest.mark.parametrize(
    "uid", [b"../../../tmp/evil", b"/etc/passwd", b"1.2.3\0/../x", b"1..2", b"9" * 65, b""]
)
def test_path_tricks_in_uids_are_refused_and_write_nothing(node, uid):
    places = outside(node)
    throw(
        node,
        associate_request()
        + data_pdu(1, store_request(uid), True)
        + data_pdu(1, struct.pack("<HHL", 0x10, 0x10, 8) + b"DOE^JANE", False),
    )
    assert is_alive(node)
    assert outside(node) == places
    assert all(row.sop_instance_uid.replace(".", "").isdigit() for row in node.rows(instance))
    assert all(path.name.split(".")[0].isalnum() for path in node.files())


def test_a_path_in_the_study_uid_is_no_uid(node):
    film = make_film()
    data = encoded(film).replace(
        film.StudyInstanceUID.encode(), b"../" * (len(film.StudyInstanceUID) // 3) + b"1" * (
            len(film.StudyInstanceUID) % 3
        ),
    )  # fmt: skip
    assert send_bytes(node, data, film.SOPInstanceUID) == 0
    assert all(path.is_relative_to(node.folder) for path in node.files())


def test_a_deflate_bomb_stays_small(node):
    film = make_film()
    head = encoded(film)[:400]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeeze.compress(head)
    for _ in range(200):
        bomb += squeeze.compress(bytes(1 << 20))
    bomb += squeeze.flush()
    before = resident_mb()
    data = bomb + b"\0" * (len(bomb) % 2)
    assert send_bytes(node, data, film.SOPInstanceUID, DeflatedExplicitVRLittleEndian) in (
        0,
        0xB007,
    )
    assert resident_mb() - before < 100


def nested(depth: int) -> bytes:
    """Sequences in sequences, of undefined length, implicit little endian."""
    return b"\x40\0\x00\x01\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth


@pytest.mark.parametrize("depth", [9, 500, 20_000])
def test_nested_sequences_do_not_recurse(node, depth):
    film = make_film()
    assert send_bytes(node, nested(depth), film.SOPInstanceUID, IMPLICIT) in (0, 0xB007)
    assert len(node.rows(instance)) == 1, "kept as bytes, told as a problem"
    assert is_alive(node)


@pytest.mark.parametrize("abstract", [WORKLIST, ModalityPerformedProcedureStep])
def test_nested_identifiers_are_refused(node, abstract, monkeypatch):
    from pynetdicom import association

    entity = AE("FUZZ")
    entity.add_requested_context(abstract, IMPLICIT)
    assoc = entity.associate("127.0.0.1", node.port)
    monkeypatch.setattr(association, "encode", lambda *_: nested(2000))
    query = Dataset()
    query.PatientName = ""
    if abstract == WORKLIST:
        statuses = [status.Status for status, _ in assoc.send_c_find(query, abstract)]
    else:
        statuses = [assoc.send_n_create(query, abstract, generate_uid())[0].Status]
    assoc.release()
    assert statuses in ([0xA900], [0x0110])
    assert is_alive(node)


def test_four_hundred_thousand_tiny_elements_are_not_walked(node):
    film = make_film()
    data = struct.pack("<HHL", 0x0009, 0x1001, 0) * 400_000
    assert send_bytes(node, data, film.SOPInstanceUID, IMPLICIT) in (0, 0xB007)
    assert is_alive(node)


@pytest.mark.parametrize(
    "title", ["EVIL\nINFO", "<script>", "\x1b[31mRED", "'; DROP--", "%s%n%x", "A" * 16]
)
def test_an_ae_title_injects_nothing_into_the_log(node, caplog, title):
    caplog.set_level(logging.INFO)
    request = bytearray(associate_request())
    request[26:42] = title.encode().ljust(16)[:16]
    throw(node, bytes(request))
    assert is_alive(node)
    assert all(title not in record.getMessage() for record in caplog.records)
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_script_in_names_is_text_and_nothing_more(node, caplog):
    caplog.set_level(logging.INFO)
    name = "<script>alert(1)</script>^Jane\r\n<img>"
    assert send(node, make_film(PatientName=name.replace("\r\n", ""))) == [0]
    (row,) = node.rows(study_identity)
    assert row.patient_name.startswith("<script>")
    assert "script" not in caplog.text


def test_the_corpus_is_the_same_every_time():
    first, second = random.Random(1), random.Random(1)
    assert [mutate(b"x" * 500, first) for _ in range(5)] == [
        mutate(b"x" * 500, second) for _ in range(5)
    ]
