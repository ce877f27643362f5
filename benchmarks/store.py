"""C-STORE throughput and CPU per image, beside DCMTK storescp and Orthanc on the same files.

What is measured: images per second from starting DCMTK's storescu until it has released, the
server's CPU time per image (user and system, all its processes) and the most memory that the
receiving process took in all its runs, and the server as a whole. On what: 3 MB intraoral films,
explicit little endian, over 1, 4 and 8 associations on loopback, every peer with
``TCP_NODELAY=1``; one film is sent before the clock starts. Durable means: on the disk
(fdatasync) and indexed before Success. "In memory" puts everything on a file system in memory,
where flushing costs nothing: what a server costs without its disk. The servers take turns, each
time with an empty store; the best of the rounds counts. Last, one volume of 500 MB. With
``--postgresql URL`` the node is also measured with its rows on that server, whose own processor
time is not counted; the URL names a database to create and drop others from.

Run: ``python -m benchmarks.store`` (about five minutes). On a machine with other work, measure
what an idle one would do with ``chrt -r 5 python -m benchmarks.store`` and say so.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmarks.worklist import await_port, free_port

IMAGES = 81
ROUNDS = 3
ASSOCIATIONS = (1, 4, 8)
MEMORY = Path("/dev/shm")
NODELAY = {**os.environ, "TCP_NODELAY": "1"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens and the process whose CPU counts."""

    port: int
    pid: int


@contextlib.contextmanager
def bitewing(folder: Path, *options: str) -> Iterator[Server]:
    """Run the node's listener with its database."""
    command = [sys.executable, "-m", "benchmarks.listener", str(folder), *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)
        assert process.stdin is not None
        process.stdin.close()


@contextlib.contextmanager
def bitewing_plain(folder: Path) -> Iterator[Server]:
    """Run the node's listener with ``fast_store = false``."""
    with bitewing(folder, "--plain") as server:
        yield server


@contextlib.contextmanager
def bitewing_sealed(folder: Path) -> Iterator[Server]:
    """Run the node's listener with objects sealed."""
    with bitewing(folder, "--sealed") as server:
        yield server


@contextlib.contextmanager
def bitewing_on_postgresql(folder: Path, server: str) -> Iterator[Server]:
    """Run the node's listener, objects sealed, with a new database of a PostgreSQL server."""
    name = f"bench_{secrets.token_hex(4)}"
    maintenance = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with maintenance.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    try:
        with bitewing(folder, "--sealed", "--database", url) as running:
            yield running
    finally:
        with maintenance.connect() as conn:
            conn.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        maintenance.dispose()


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[Server]:
    """Run DCMTK's storescp, one process an association; it neither flushes nor indexes."""
    folder.mkdir()
    port = free_port()
    command = ["/usr/bin/storescp", "--fork", "-pdu", "131072", "-B", "+uf", "-od", str(folder)]
    with _run([*command, str(port)]) as server:
        yield Server(port, server)


@contextlib.contextmanager
def orthanc(folder: Path, is_durable: bool = True) -> Iterator[Server]:
    """Run Orthanc: durable as installed, or told not to flush."""
    folder.mkdir()
    port = free_port()
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": port,
        "DicomAet": "BITEWING",
        "HttpServerEnabled": False,
        "Plugins": [],
        "SyncStorageArea": is_durable,
        "StoreMD5ForAttachments": is_durable,
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": 8,
        "MaximumPduLength": 131072,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with _run(["/usr/sbin/Orthanc", str(file)]) as server:
        await_port(port)
        yield Server(port, server)


@contextlib.contextmanager
def orthanc_without_flushing(folder: Path) -> Iterator[Server]:
    """Run Orthanc without fdatasync and MD5."""
    with orthanc(folder, is_durable=False) as server:
        yield server


@contextlib.contextmanager
def _run(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(
        command, env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def make_films(folder: Path) -> list[Path]:
    """Write films of 3 MB with noise that does not compress."""
    study, paths = generate_uid(), list[Path]()
    rng = np.random.default_rng(1)
    for number in range(IMAGES):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.3", generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, generate_uid()
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Doe^Jane", "17", "19800102"
        ds.StudyDate, ds.Modality, ds.InstanceNumber = "20261122", "IO", number + 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel = 1300, 1154, 1
        ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.PixelData = rng.integers(0, 4096, (1300, 1154), dtype=np.uint16).tobytes()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        paths.append(folder / f"{number:03}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def send(port: int, films: list[Path], associations: int) -> float:
    """Send the films over so many associations at once; return the seconds it took."""

    def share(number: int) -> None:
        files = [str(path) for path in films[number::associations]]
        command = ["/usr/bin/storescu", "-aec", "BITEWING", "-pdu", "131072", "127.0.0.1"]
        subprocess.run([*command, str(port), *files], check=True, env=NODELAY)

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(associations) as pool:
        list(pool.map(share, range(associations)))
    return time.perf_counter() - start


def processes(pid: int) -> list[int]:
    """List a process and all that it has started and that still run (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in _read(task / "children").split():
            found += processes(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Read a server's CPU time, all its processes included (Linux)."""
    return sum(_cpu_ticks(each) for each in processes(pid)) / os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) if fields else 0


def peak_mb(pid: int) -> float:
    """Read the most memory that a process took, in 10^6 bytes (Linux)."""
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def receiving(pid: int) -> int:
    """Find the process that takes the images: the node's child, or the server itself."""
    found = [it for it in processes(pid) if "node.dicom.intake" in _command(it)]
    return found[0] if found else pid


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline"))


def _read(path: Path) -> str:
    """Read what the kernel says of a process; nothing when it has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


Serve = Callable[[Path], contextlib.AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server to be measured: its program, and where it keeps its files (None: on the disk)."""

    name: str
    serve: Serve
    program: str
    disk: Path | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: images a second, CPU milliseconds an image, peak memory in 10^6 bytes."""

    rate: float
    cpu_ms: float
    receiving_mb: float
    all_mb: float


def measure(contestant: Contestant, films: list[Path], associations: int) -> Measured:
    """Measure one run on an empty store, all films but the first, which is sent before."""
    first, rest = films[:1], films[1:]
    with (
        tempfile.TemporaryDirectory(dir=contestant.disk) as folder,
        contestant.serve(Path(folder) / "data") as running,
    ):
        await_port(running.port)
        send(running.port, first, 1)
        before = cpu_seconds(running.pid)
        seconds = send(running.port, rest, associations)
        cpu = cpu_seconds(running.pid) - before
        return Measured(
            len(rest) / seconds,
            cpu / len(rest) * 1000,
            peak_mb(receiving(running.pid)),
            sum(peak_mb(each) for each in processes(running.pid)),
        )


def make_volume(folder: Path) -> Path:
    """Write a CBCT volume of 500 MB."""
    frames, side = 625, 632
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "Doe^Jane", "17", "CT"
    ds.Rows = ds.Columns = side
    ds.NumberOfFrames, ds.SamplesPerPixel = frames, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = bytes(frames * side * side * 2)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path = folder / "volume.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def measure_volume() -> None:
    """Print how a volume of 500 MB is received."""
    with tempfile.TemporaryDirectory() as folder:
        volume = make_volume(Path(folder))
        with bitewing(Path(folder) / "data") as running:
            await_port(running.port)
            seconds = send(running.port, [volume], 1)
            each = [f"{peak_mb(pid):.0f}" for pid in (receiving(running.pid), running.pid)]
        size = volume.stat().st_size / 1e6
        print(
            f"\n{size:.0f} MB in one object: {seconds:.1f} s; peak MB, receiving / node: ", end=""
        )
        print(" / ".join(each))


CONTESTANTS = (
    Contestant("bitewing (durable, indexed, analysis queued)", bitewing, sys.executable),
    Contestant("bitewing, objects sealed", bitewing_sealed, sys.executable),
    Contestant("bitewing, `fast_store = false`", bitewing_plain, sys.executable),
    Contestant("Orthanc (durable, indexed)", orthanc, "/usr/sbin/Orthanc"),
    Contestant("Orthanc, no fdatasync, no MD5", orthanc_without_flushing, "/usr/sbin/Orthanc"),
    Contestant("DCMTK storescp -B (files only)", storescp, "/usr/bin/storescp"),
    Contestant("bitewing, in memory", bitewing, sys.executable, MEMORY),
    Contestant(
        "Orthanc, no fdatasync, no MD5, in memory",
        orthanc_without_flushing,
        "/usr/sbin/Orthanc",
        MEMORY,
    ),
    Contestant("DCMTK storescp -B, in memory", storescp, "/usr/bin/storescp", MEMORY),
)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", default="", help="URL of a server's maintenance database")
    parser.add_argument("--only", default="", help="contestants whose names contain this text")
    given = parser.parse_args()
    contestants = list(CONTESTANTS)
    if given.postgresql:
        serve = functools.partial(bitewing_on_postgresql, server=given.postgresql)
        name = "bitewing, encrypted, rows in PostgreSQL"
        contestants.insert(2, Contestant(name, serve, sys.executable))
    there = [it for it in contestants if Path(it.program).exists() and given.only in it.name]
    runs: dict[tuple[str, int], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        films = make_films(Path(folder))
        for associations in ASSOCIATIONS:
            for _ in range(ROUNDS):
                for it in there:
                    result = measure(it, films, associations)
                    runs.setdefault((it.name, associations), []).append(result)
    heads = [f"{count} association{'s' * (count > 1)}" for count in ASSOCIATIONS]
    print(f"| server: images/s, CPU ms/image | {' | '.join(heads)} | peak MB, receiving / all |")
    print("|---|" + "--:|" * (len(ASSOCIATIONS) + 1))
    for it in there:
        results = [runs[it.name, count] for count in ASSOCIATIONS]
        best = [max(each, key=lambda run: run.rate) for each in results]
        cells = [f"{run.rate:.0f}, {run.cpu_ms:.1f}" for run in best]
        every = [run for each in results for run in each]
        peaks = [max(getattr(run, kind) for run in every) for kind in ("receiving_mb", "all_mb")]
        print(f"| {it.name} | {' | '.join(cells)} | {peaks[0]:.0f} / {peaks[1]:.0f} |")
    print(f"\nload {os.getloadavg()[0]:.0f}")
    measure_volume()


if __name__ == "__main__":
    main()
