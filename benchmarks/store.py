"""C-STORE throughput and CPU per image, beside DCMTK storescp and Orthanc on the same files.

What is measured: images per second from starting DCMTK's storescu until it has released, the
server's CPU time per image (user and system, its children included) and the most memory that the
listening process took in all its runs. On what: 3 MB intraoral films, explicit little endian, over
1, 4 and 8 associations on loopback, every peer with ``TCP_NODELAY=1``. Durable means: on the disk
(fdatasync) and indexed before Success. "In memory" puts everything on a file system in memory,
where flushing costs nothing: what a server costs without its disk. The best of two runs, each with
an empty store.

Run: ``python -m benchmarks.store`` (about four minutes).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmarks.worklist import await_port, free_port

IMAGES = 40
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
        yield process.pid
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


def cpu_seconds(pid: int) -> float:
    """Read a process's CPU time, ended children included (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """Read the most memory that a process took, in 10^6 bytes (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: images a second, CPU milliseconds an image, peak memory."""

    rate: float
    cpu_ms: float
    peak_mb: float


def measure(
    server: Callable[[Path], contextlib.AbstractContextManager[Server]],
    films: list[Path],
    associations: int,
    disk: Path | None,
) -> Measured:
    """Measure the best of two runs."""
    results = []
    for _ in range(2):
        with (
            tempfile.TemporaryDirectory(dir=disk) as folder,
            server(Path(folder) / "data") as running,
        ):
            await_port(running.port)
            before = cpu_seconds(running.pid)
            seconds = send(running.port, films, associations)
            cpu = cpu_seconds(running.pid) - before
            results.append(
                Measured(len(films) / seconds, cpu / len(films) * 1000, peak_mb(running.pid))
            )
    return max(results, key=lambda it: it.rate)


def main() -> None:
    """Print a table in Markdown."""
    node, others = sys.executable, ("/usr/sbin/Orthanc", "/usr/bin/storescp")
    servers = {
        "bitewing (durable, indexed)": (bitewing, node, None),
        "bitewing, `fast_store = false`": (bitewing_plain, node, None),
        "Orthanc (durable, indexed)": (orthanc, others[0], None),
        "Orthanc, no fdatasync, no MD5": (orthanc_without_flushing, others[0], None),
        "DCMTK storescp -B (files only)": (storescp, others[1], None),
        "bitewing, in memory": (bitewing, node, MEMORY),
        "Orthanc, no fdatasync, no MD5, in memory": (orthanc_without_flushing, others[0], MEMORY),
        "DCMTK storescp -B, in memory": (storescp, others[1], MEMORY),
    }
    heads = [f"{count} association{'s' * (count > 1)}" for count in ASSOCIATIONS]
    print(f"| server: images/s, CPU ms/image | {' | '.join(heads)} | peak MB |")
    print("|---|" + "--:|" * (len(ASSOCIATIONS) + 1))
    with tempfile.TemporaryDirectory() as folder:
        films = make_films(Path(folder))
        for name, (server, program, disk) in servers.items():
            if not Path(program).exists():
                print(f"| {name} | not installed |" + " |" * len(ASSOCIATIONS))
                continue
            runs = [measure(server, films, count, disk) for count in ASSOCIATIONS]
            cells = [f"{run.rate:.0f}, {run.cpu_ms:.1f}" for run in runs]
            peak = max(run.peak_mb for run in runs)
            print(f"| {name} | {' | '.join(cells)} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
