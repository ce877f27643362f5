"""From a DICOM file to findings: milliseconds an image, images a second, memory.

What is measured: the node's own inference process with the shipped networks and 2 threads, asked
for one film after the other as the node does; from the request to the findings read back (decoding
the file, every network, the pipe), and the CPU time that the process used meanwhile, which other
work on the machine disturbs least. Once with PyTorch and once with each faster runtime that is
installed, and with ``auto``. Peak memory is the process's high-water mark, on a start that finds
its exports made. Beside it the forward pass alone of plain torchvision networks on the same films
(:mod:`benchmarks.plain_networks`).

Run: ``python -m benchmarks.inference [--rounds 20] [--threads 2]`` (about six minutes), at a
quiet moment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from node.analysis.inference import InferenceProcess
from node.config import AnalysisSection
from sample_studies.catalog import catalog

#: Films by name: (study of the sample package, number of the image, target in ms).
FILMS = {
    "bitewing": ("bitewing-1", 0, 700),
    "periapical": ("periapicals-2", 0, 700),
    "panoramic": ("panoramic-real", 0, 1500),
}
TARGET_MB = 1229  # 1.2 GB
RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]


def main() -> None:
    """Measure and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = {film: _write(folder, *place[:2]) for film, place in FILMS.items()}
        _ours(films, folder / "cache", options.rounds, options.threads)
        _plain(films, options.threads)


def _write(folder: Path, key: str, number: int) -> Path:
    study = next(study for study in catalog() if study.key == key)
    paths = study.write(
        folder / key, accession="B1", study_instance_uid=None, study_date=date(2026, 1, 5)
    )
    return paths[number]


def _ours(films: dict[str, Path], cache: Path, rounds: int, threads: int) -> None:
    print("| runtime | film | median ms | CPU ms | images/s | target ms | peak MB (target 1,229) |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for runtime in _runtimes():
        section = AnalysisSection(threads=threads, runtime=runtime, device="cpu")
        first = InferenceProcess(section, cache)
        first_s = _start(first)
        first.close()
        process = InferenceProcess(section, cache)
        ready_s = _start(process)
        for film, path in films.items():
            process.analyse(path)
            before = _cpu_s(process.process_id)
            seconds = [_timed(process, path) for _ in range(rounds)]
            cpu_s = _cpu_s(process.process_id) - before
            print(
                f"| {runtime} | {film} | {1000 * statistics.median(seconds):,.0f} "
                f"| {1000 * cpu_s / rounds:,.0f} | {rounds / sum(seconds):.1f} "
                f"| {FILMS[film][2]:,} | {_peak_mb(process.process_id):,.0f} |",
                flush=True,
            )
        words = f"start; the very first {first_s:,.1f} s"
        print(f"| {runtime} | {words} | {1000 * ready_s:,.0f} | – | – | – | – |")
        process.close()
    print()


def _runtimes() -> list[RuntimeName]:
    known: tuple[RuntimeName, ...] = ("openvino", "onnxruntime")
    found = [name for name in known if find_spec(name) is not None]
    return ["torch", *found, *(("auto",) if found else ())]


def _timed(process: InferenceProcess, path: Path) -> float:
    start = time.perf_counter()
    process.analyse(path)
    return time.perf_counter() - start


def _start(process: InferenceProcess) -> float:
    start = time.perf_counter()
    process.installed()
    return time.perf_counter() - start


def _cpu_s(process_id: int | None) -> float:
    """Read user and system time of a process (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(process_id: int | None) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _plain(films: dict[str, Path], threads: int) -> None:
    if find_spec("torchvision") is None:
        print("torchvision is not installed; no plain networks to compare with")
        return
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.plain_networks", "--threads", str(threads)),
            *(f"{name}={path}" for name, path in films.items()),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print("| plain network, forward pass only | film | input | median ms | CPU ms | images/s |")
    print("|---|---|---|--:|--:|--:|")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        median = statistics.median(row["seconds"])
        size = " × ".join(map(str, row["size"]))
        print(
            f"| {row['network']} | {row['film']} | {size} "
            f"| {1000 * median:,.0f} | {1000 * row['cpu_s']:,.0f} | {1 / median:.1f} |"
        )


if __name__ == "__main__":
    main()
