"""The receiving process: small, replaceable, and gone when the node is."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from node.db import audit
from node.db.keyring import KeyRing, Purpose, new_key
from node.db.session import read
from node.db.tables import instance, study, study_identity
from node.dicom.instances import FolderStore
from node.dicom.intake_process import IntakeProcess
from node.dicom.raw_file import RawFile
from node.dicom.scp import DicomListener
from node.dicom.sealed_file import MAGIC
from node.dicom.streaming import IS_SUPPORTED
from tests.conftest import make_engine
from tests.protocol.conftest import Node, make_film, wait_until
from tests.protocol.test_fast_store import STORE, Sender, is_kept, pdv, store_request
from tests.protocol.test_quirks import encoded

pytestmark = [
    pytest.mark.protocol,
    pytest.mark.skipif(not IS_SUPPORTED, reason="the fast path needs Linux"),
]

MOST_MB = 100


def intakes() -> list[int]:
    """Find this process's receiving processes."""
    children = [
        int(child)
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid for pid in children if b"node.dicom.intake" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start(fast_store=True)


def test_eight_associations_take_little_memory(node):
    (pid,) = intakes()
    senders = [Sender(node) for _ in range(8)]
    for _ in range(2):
        for sender in senders:
            film = make_film(Rows=1000, Columns=1500, PixelData=bytes(3_000_000))
            assert sender.store(film.SOPInstanceUID, encoded(film), 131_000) == 0
    assert peak_mb(pid) < MOST_MB
    for sender in senders:
        sender.close()


def test_a_killed_process_breaks_its_associations_and_is_replaced(node):
    first, cut = make_film(), make_film()
    sender = Sender(node)
    assert sender.store(first.SOPInstanceUID, encoded(first)) == 0
    sender.send(pdv(STORE, store_request(cut.SOPInstanceUID), 3), pdv(STORE, encoded(cut)[:99], 0))
    (pid,) = intakes()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionError)):
        sender.status()
    again = Sender(node)
    assert again.store(cut.SOPInstanceUID, encoded(cut)) == 0
    assert intakes() != [pid]
    assert len(node.rows(instance)) == 2  # what was answered Success is there
    sender.close()
    again.close()


def test_it_ends_with_the_listener(start):
    node = start(fast_store=True)
    (pid,) = intakes()
    node.listener.stop()
    assert pid not in intakes()
    assert command_of(pid) == b""


def test_it_ends_when_the_node_is_killed():
    program = (
        "import sys; from node.dicom.intake_process import IntakeProcess; it = IntakeProcess();"
        "it.start(); print(it.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: command_of(pid) == b"")


def test_a_stopped_one_is_not_started_again():
    intake = IntakeProcess()
    intake.start()
    intake.stop()
    assert intake.pid is None


def test_a_sealed_store_is_sealed_on_this_path_too(node):
    node.listener.stop()
    ring = KeyRing("main", [new_key(purpose) for purpose in Purpose])
    store = FolderStore(node.folder, ring=ring)
    listener = DicomListener(node.config, node.db, store, node.engine)
    listener.start()
    node.port = listener.port
    film = make_film(Rows=1000, Columns=700, PixelData=bytes(1_400_000))
    sender = Sender(node)
    try:
        assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    finally:
        sender.close()
        listener.stop()
    (path,) = node.files()
    assert path.read_bytes().startswith(MAGIC)
    (row,) = node.rows(instance)
    assert (row.rows, row.columns) == (1000, 700)
    assert store.file(row.storage_key).read_bytes().endswith(encoded(film))


def test_a_header_longer_than_what_is_told_is_read_from_the_store(node):
    film = make_film()
    film.add_new(0x00090010, "LO", "BITEWING TEST")
    film.add_new(0x00091001, "OB", bytes(200_000))
    sender = Sender(node)
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    sender.close()
    (row,) = node.rows(study)
    assert row.study_instance_uid == film.StudyInstanceUID
    (identity,) = node.rows(study_identity)
    assert identity.patient_name == "Doe^Jane"


@pytest.mark.parametrize("size", [3, 14, 2_000])
def test_more_fragments_than_one_write_takes(node, size):
    film = make_film()
    sender = Sender(node)
    data = encoded(film)
    values = [data[at : at + size] for at in range(0, len(data), size)]
    pdus = [
        struct.pack(">BBL", 4, 0, len(value) + 6) + pdv(STORE, value, 2 * (value is values[-1]))
        for value in values
    ]
    sender.send(pdv(STORE, store_request(film.SOPInstanceUID), 3))
    sender.socket.sendall(b"".join(pdus))
    assert sender.status() == 0
    assert is_kept(node, data)
    sender.close()


def test_an_unknown_fault_is_answered_and_leaves_nothing(node, tmp_path):
    """The folder of parts is gone and cannot be made again."""
    parts = next(path for path in node.folder.rglob("parts"))
    parts.rmdir()
    parts.write_text("not a folder")
    sender = Sender(node)
    film = make_film()
    status = sender.store(film.SOPInstanceUID, encoded(film))
    assert status is not None
    assert status >> 12 in (0xA, 0xC)
    parts.unlink()
    assert sender.store(film.SOPInstanceUID, encoded(film)) == 0
    sender.close()
    assert len(node.files()) == len(node.rows(instance)) == 1


def test_pieces_make_one_file(tmp_path):
    pieces = [memoryview(generate_uid().encode()) for _ in range(1500)]
    file = RawFile(str(tmp_path / "file"))
    counts = [file.write_all(pieces), file.write_all(pieces[:2]), file.write(b"end")]
    file.flush()
    file.close()
    file.close()
    expected = b"".join([*pieces, *pieces[:2], b"end"])
    assert (tmp_path / "file").read_bytes() == expected
    assert sum(counts) == len(expected)


def test_many_at_once_and_twice_on_both_databases(database, tmp_path):
    engine = make_engine(database)
    engine.connect()
    node = Node(database, tmp_path / "images", engine, fast_store=True)
    films = [make_film(StudyInstanceUID="2.25.77") for _ in range(6)]
    statuses: list[int | None] = []

    def send_all() -> None:
        sender = Sender(node)
        statuses.extend(sender.store(film.SOPInstanceUID, encoded(film)) for film in films)
        sender.close()

    threads = [threading.Thread(target=send_all) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert statuses == [0] * 18
        assert len(node.files()) == len(node.rows(instance)) == 6
        assert len(node.rows(study)) == 1
        with read(database) as conn:
            assert audit.verify(conn) == (18, None)
    finally:
        node.listener.stop()
        engine.close(wait_s=0)
