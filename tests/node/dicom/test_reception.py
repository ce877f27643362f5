"""What arrives piece by piece is digested beside its writing, whatever way the pieces come."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.db.keyring import Purpose, new_key
from node.dicom.digester import Digester
from node.dicom.gulps import Gulps, HungUp
from node.dicom.parts import PartFolder
from node.dicom.reception import Reception
from node.dicom.report import Report
from node.dicom.sealed_file import MAGIC

IMAGE = "1.2.840.10008.5.1.4.1.1.1.3"
EXPLICIT = "1.2.840.10008.1.2.1"
NOISE = hashlib.shake_256(b"noise").digest(3 << 20)


@pytest.fixture
def digester() -> Iterator[Digester]:
    digester = Digester(set(), 2)
    yield digester
    digester.close()


@pytest.mark.parametrize("sizes", [(), (1,), (70_000, 3, 70_000), (1 << 20, 1 << 20)])
def test_objects_are_digested_one_after_another(digester: Digester, sizes: tuple[int, ...]) -> None:
    for _ in range(2):
        digester.begin()
        at, expected = 0, hashlib.sha256()
        for size in sizes:
            piece = NOISE[at : at + size]
            digester.update([memoryview(piece[: size // 3]), memoryview(piece[size // 3 :])])
            expected.update(piece)
            at += size
        assert digester.hexdigest() == expected.hexdigest()


def test_an_object_that_was_given_up_leaves_nothing_in_the_next(digester: Digester) -> None:
    digester.begin()
    digester.update([memoryview(NOISE)])
    digester.begin()
    digester.update([memoryview(b"film")])
    assert digester.hexdigest() == hashlib.sha256(b"film").hexdigest()


def test_a_crowd_digests_each_by_itself() -> None:
    crowd = set[Digester]()
    digesters = [Digester(crowd, 2) for _ in range(3)]
    for digester in digesters:
        digester.begin()
        digester.update([memoryview(NOISE)])
    expected = hashlib.sha256(NOISE).hexdigest()
    assert [digester.hexdigest() for digester in digesters] == [expected] * 3
    assert not crowd
    for digester in digesters:
        digester.close()


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_buffer_may_be_used_again_after_the_second_flush(
    tmp_path: Path, digester: Digester, is_sealed: bool
) -> None:
    key = new_key(Purpose.DATA)
    folder = PartFolder(tmp_path, current_key=lambda: key if is_sealed else None)
    reports: list[Report] = []

    def tell(report: Report) -> int:
        reports.append(report)
        return 0

    content = bytearray(NOISE * 8)
    expected = hashlib.sha256(content).hexdigest()
    for _ in range(2):
        reception = Reception(folder, "main", digester, tell)
        reception.open(IMAGE, "2.25.1", EXPLICIT, "SENSOR")
        buffer = content.copy()
        reception.write(memoryview(buffer))
        reception.flush()
        reception.flush()  # a gulp that brought no bytes of the object
        buffer[:] = bytes(len(buffer))
        assert reception.finish() == 0
    for report in reports:
        assert (report.failure, report.sha256) == ("", expected)
        on_disk = (tmp_path / report.storage_key).read_bytes()
        assert on_disk.startswith(MAGIC) == is_sealed
        assert is_sealed or on_disk.endswith(content)


@settings(max_examples=25, deadline=None)
@given(
    sent=st.lists(st.integers(1, 400_000), min_size=1, max_size=12),
    taken=st.lists(st.integers(1, 300_000), min_size=1, max_size=6),
    head=st.integers(1, 70_000),
)
def test_what_was_given_stays_until_the_second_reuse(
    sent: list[int], taken: list[int], head: int
) -> None:
    """As an association reads: heads of an exact size, and what is there of the bytes between."""
    data = NOISE[: sum(sent) % len(NOISE) or 1]
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    given_now: list[tuple[int, memoryview]] = []
    given_before: list[tuple[int, memoryview]] = []

    def reuse() -> None:
        for at, piece in given_before:
            assert piece == data[at : at + len(piece)]
        given_before[:] = given_now
        given_now.clear()

    def send() -> None:
        at = 0
        with theirs, contextlib.suppress(OSError):  # the reader may have had enough
            for size in sent:
                theirs.sendall(data[at : at + size])
                at += size

    sender = threading.Thread(target=send)
    sender.start()
    gulps = Gulps(ours)
    gulps.before_reuse = reuse
    at = 0
    try:
        for size in taken * (len(data) // sum(taken) + 1):
            exact = gulps.exactly(head)
            assert exact == data[at : at + head]
            at += head
            piece = gulps.at_most(size)
            given_now.append((at, piece))
            at += len(piece)
    except HungUp:
        assert at + head > len(data)
    finally:
        ours.close()
        sender.join()
