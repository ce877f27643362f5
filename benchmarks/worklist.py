"""Worklist C-FIND latency over one open association, beside DCMTK's wlmscpfs.

What is measured: milliseconds from sending a query to its last answer, median of many, by a client
that costs next to nothing (a few lines of upper layer, below). On what: 200 and 10,000 items of 100
a day; one match by patient ID, 100 matches by day. wlmscpfs runs with ``TCP_NODELAY=1``, else it
waits 40 ms for an acknowledgement. Both answer the same matches; the counts are checked.

Run: ``python -m benchmarks.worklist`` (about two minutes).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.listener import step

MWL = b"1.2.840.10008.5.1.4.31"
IMPLICIT = b"1.2.840.10008.1.2"


class Finder:
    """A worklist SCU over one association: PS3.8 as far as one context needs it."""

    def __init__(self, port: int, called: str = "BITEWING") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", 1 << 20)
        self._socket.sendall(_associate_rq(called))
        kind, _ = self._pdu()
        if kind != 2:
            raise SystemExit(f"the association was refused (PDU {kind})")

    def find(self, identifier: bytes) -> int:
        """Send one query; return how many answers came before the last."""
        self._socket.sendall(_data_pdu(1, 3, _find_rq()) + _data_pdu(1, 2, identifier))
        count, command = 0, b""
        while True:
            _, body = self._pdu()
            at = 0
            while at < len(body):
                length = struct.unpack_from(">L", body, at)[0]
                control, fragment = body[at + 5], body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & 1:
                    command += fragment
                if control == 3:
                    status = _status(command)
                    command = b""
                    if status not in (0xFF00, 0xFF01):
                        if status:
                            raise SystemExit(f"the query failed with {status:04X}")
                        return count
                    count += 1

    def close(self) -> None:
        """Release the association."""
        self._socket.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        self._pdu()
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self._file.read(6))
        return kind, self._file.read(length)


def _associate_rq(called: str) -> bytes:
    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(value)) + value

    context = b"\1\0\0\0" + item(0x30, MWL) + item(0x40, IMPLICIT)
    user = item(0x51, struct.pack(">L", 131072)) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH", 1, 0) + called.ljust(16).encode() + b"BENCH".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBL", 1, 0, len(body)) + body


def _find_rq() -> bytes:
    elements = b"".join(
        (
            _element(0, 0x0002, MWL),
            _element(0, 0x0100, b"\x20\0"),
            _element(0, 0x0110, b"\1\0"),
            _element(0, 0x0700, b"\0\0"),
            _element(0, 0x0800, b"\1\0"),
        )
    )
    return _element(0, 0, struct.pack("<L", len(elements))) + elements


def _data_pdu(context: int, control: int, data: bytes) -> bytes:
    value = struct.pack(">LBB", len(data) + 2, context, control) + data
    return struct.pack(">BBL", 4, 0, len(value)) + value


def _element(group: int, number: int, value: bytes) -> bytes:
    value += (b"\0" if group == 0 else b" ") * (len(value) % 2)
    return struct.pack("<HHL", group, number, len(value)) + value


def _status(command: bytes) -> int:
    at = command.index(b"\0\0\0\x09\2\0\0\0")
    return int(struct.unpack_from("<H", command, at + 8)[0])


def query(patient_id: str = "", day: str = "") -> bytes:
    """Encode a usual query (implicit little endian) with two of its keys set."""
    items = b"".join(
        (
            _element(0x0008, 0x0060, b""),
            _element(0x0040, 0x0001, b""),
            _element(0x0040, 0x0002, day.encode()),
            _element(0x0040, 0x0003, b""),
            _element(0x0040, 0x0006, b""),
            _element(0x0040, 0x0007, b""),
            _element(0x0040, 0x0009, b""),
        )
    )
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(items)) + items
    return b"".join(
        (
            _element(0x0008, 0x0050, b""),
            _element(0x0010, 0x0010, b""),
            _element(0x0010, 0x0020, patient_id.encode()),
            _element(0x0010, 0x0030, b""),
            _element(0x0010, 0x0040, b""),
            _element(0x0020, 0x000D, b""),
            struct.pack("<HHL", 0x0040, 0x0100, len(sequence)) + sequence,
            _element(0x0040, 0x1001, b""),
        )
    )


@contextlib.contextmanager
def ours(items: int, folder: Path) -> Iterator[int]:
    """Serve `items` with the node's listener."""
    command = [sys.executable, "-m", "benchmarks.listener", str(folder), "--items", str(items)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


@contextlib.contextmanager
def wlmscpfs(items: int, folder: Path) -> Iterator[int]:
    """Serve `items` with DCMTK's wlmscpfs."""
    files = folder / "BITEWING"
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    for number in range(items):
        _worklist_file(number).save_as(files / f"{number}.wl", enforce_file_format=True)
    port = free_port()
    command = ["/usr/bin/wlmscpfs", "-dfp", str(folder), "-dfr", "-csk", str(port)]
    with subprocess.Popen(
        command,
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        await_port(port)
        yield port
        process.terminate()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def await_port(port: int) -> None:
    """Wait until somebody listens on `port`."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit("the server did not start")


def _worklist_file(number: int) -> Dataset:
    it, ds, item = step(number), Dataset(), Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = MWL.decode()
    ds.file_meta.MediaStorageSOPInstanceUID = it["study_uid"]
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.AccessionNumber, ds.StudyInstanceUID = it["accession"], it["study_uid"]
    ds.PatientName, ds.PatientID = f"{it['family']}^{it['given']}", it["patient_id"]
    ds.PatientBirthDate, ds.PatientSex = "19800102", "F"
    ds.RequestedProcedureID, ds.RequestedProcedureDescription = f"R{number}", "Bitewings"
    item.Modality, item.ScheduledStationAETitle = it["modality"], it["station"]
    item.ScheduledProcedureStepStartDate = it["date"]
    item.ScheduledProcedureStepStartTime = it["time"]
    item.ScheduledPerformingPhysicianName = ""
    item.ScheduledProcedureStepDescription = "Bitewings"
    item.ScheduledProcedureStepID = f"S{number}"
    ds.ScheduledProcedureStepSequence = [item]
    return ds


def measure(port: int, identifier: bytes, expected: int, seconds: float) -> tuple[float, float]:
    """Ask for `seconds`; return the median and the 95th percentile in milliseconds."""
    finder, times = Finder(port), list[float]()
    for _ in range(3):
        finder.find(identifier)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 5:
        start = time.perf_counter()
        count = finder.find(identifier)
        times.append((time.perf_counter() - start) * 1000)
        if count != expected:
            raise SystemExit(f"{count} answers instead of {expected}")
    finder.close()
    times.sort()
    return statistics.median(times), times[int(len(times) * 0.95)]


def main() -> None:
    """Print a table in Markdown."""
    print("| server | items | one match p50 / p95 ms | 100 matches p50 / p95 ms |")
    print("|---|--:|--:|--:|")
    servers = {"bitewing": ours}
    if shutil.which("/usr/bin/wlmscpfs"):
        servers["wlmscpfs, TCP_NODELAY=1"] = wlmscpfs
    for items in (200, 10_000):
        for name, server in servers.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                server(items, Path(folder) / "data") as port,
            ):
                one = measure(port, query(patient_id="137"), 1, 5)
                day = measure(port, query(day="20260102"), 100, 5)
            cells = " | ".join(f"{p50:.1f} / {p95:.1f}" for p50, p95 in (one, day))
            print(f"| {name} | {items:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
