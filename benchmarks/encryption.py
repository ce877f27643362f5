"""What encryption at rest costs: receiving films, worklist queries, opening a film, sealing itself.

What is measured, each with and without keys, in turns so that a busy machine is busy for both:
C-STORE of 3 MB films over one and over four associations (images a second and CPU milliseconds an
image, the receiving process included); worklist queries at 10,000 items (median
CPU milliseconds of matching); decoding a stored 3 MB film as the review page does; a
value sealed and opened; memory while 500 MB are written and read.

Run: ``python -m benchmarks.encryption`` (about three minutes).
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import sqlalchemy as sa

from benchmarks import worklist
from benchmarks.listener import schedule
from benchmarks.store import bitewing, make_films, send
from node.config import read_config
from node.db.keyring import KeyRing, Purpose, new_key
from node.db.keys import open_keys
from node.db.migrate import migrate
from node.db.session import Actor, open_database, read
from node.dicom.instances import FolderStore
from node.dicom.object_file import chunks_of
from node.dicom.pixels import decode
from node.dicom.query import parse_query
from node.dicom.worklist import match

#: A multiple of two and of three ways, each of which begins as often: what follows a pause is slow.
ROUNDS = 6
WAYS: Mapping[str, Sequence[str]] = {"plain": (), "sealed": ("--sealed",)}
LARGE_BYTES = 500_000_000


def main() -> None:
    """Print tables in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        films = make_films(Path(folder))
        print("| measure | plain | sealed | more |")
        print("|---|--:|--:|--:|")
        for associations in (1, 4):
            rates, costs = receive(films, associations)
            over = f"{associations} association" + "s" * (associations > 1)
            line(f"C-STORE, {over}: images/s", rates, "{:.0f}", is_rate=True)
            line(f"… CPU ms an image ({over})", costs, "{:.1f}")
        line("decoding a stored film: CPU ms", opening(films[0]), "{:.2f}")
    for name, times in queries().items():
        line(f"worklist, 10,000 items, {name}: CPU ms", times, "{:.2f}")
    print()
    values()
    large()


def line(name: str, values_of: dict[str, float], form: str, is_rate: bool = False) -> None:
    """Print what was measured both ways, and how much more sealing costs."""
    plain, sealed = (values_of[way] for way in WAYS)
    more = plain / sealed - 1 if is_rate else sealed / plain - 1
    print(f"| {name} | {form.format(plain)} | {form.format(sealed)} | {more:+.1%} |", flush=True)


def receive(
    films: list[Path], associations: int, ways: Mapping[str, Sequence[str]] = WAYS
) -> tuple[dict[str, float], dict[str, float]]:
    """Receive the films in turns; the median rate, and the least CPU an image.

    `ways` gives the listener's options of each way.
    """
    rates: dict[str, list[float]] = {way: [] for way in ways}
    costs: dict[str, list[float]] = {way: [] for way in ways}
    names = list(ways)
    for turn in range(ROUNDS):
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            with (
                tempfile.TemporaryDirectory() as folder,
                bitewing(Path(folder) / "data", *ways[way]) as server,
            ):
                send(server.port, films[:2], 1)  # the first association makes folders
                before = family_cpu_s(server.pid)
                seconds = send(server.port, films[2:], associations)
                cpu = family_cpu_s(server.pid) - before
            rates[way].append((len(films) - 2) / seconds)
            costs[way].append(cpu / (len(films) - 2) * 1000)
    return (
        {way: statistics.median(found) for way, found in rates.items()},
        {way: min(found) for way, found in costs.items()},
    )


def family_cpu_s(pid: int) -> float:
    """Read the CPU time of a process and its children (Linux)."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if int(path.parent.name) == pid or int(fields[1]) == pid:
            total += sum(int(fields[at]) for at in (11, 12)) / os.sysconf("SC_CLK_TCK")
    return total


def queries() -> dict[str, dict[str, float]]:
    """Ask two worklists of 10,000 items in turns; CPU time, so that others' load does not count."""
    found: dict[str, dict[str, list[float]]] = {}
    asked = {
        "one match by number": (worklist.query(patient_id="137"), 1),
        "100 matches by day": (worklist.query(day="20260102"), 100),
    }
    with tempfile.TemporaryDirectory() as folder:
        databases = {way: _scheduled(Path(folder) / way, way == "sealed") for way in WAYS}
        for _ in range(30):
            for name, (identifier, count) in asked.items():
                for way, db in databases.items():
                    start = time.process_time()
                    query = parse_query(identifier, "1.2.840.10008.1.2", "ISO_IR 100")
                    with read(db) as conn:
                        matches = match(query, conn, "main")
                    times = found.setdefault(name, {}).setdefault(way, [])
                    times.append((time.process_time() - start) * 1000)
                    if len(matches) != count:
                        raise SystemExit(f"{len(matches)} answers instead of {count}")
    return {
        name: {way: statistics.median(times) for way, times in ways.items()}
        for name, ways in found.items()
    }


def _scheduled(folder: Path, is_sealed: bool) -> sa.Engine:
    config = read_config(None, {}, {"node": {"data_dir": str(folder)}})
    db = open_database(config.database_url)
    migrate(db)
    if is_sealed:
        open_keys(db, config, Actor("keys", "main"))
    schedule(db, 10_000)
    return db


@contextmanager
def stores() -> Iterator[dict[str, FolderStore]]:
    """Make an empty store with keys and one without."""
    ring = KeyRing("main", [new_key(purpose) for purpose in Purpose])
    with tempfile.TemporaryDirectory() as folder:
        yield {
            "plain": FolderStore(Path(folder) / "plain"),
            "sealed": FolderStore(Path(folder) / "sealed", ring=ring),
        }


def opening(film: Path) -> dict[str, float]:
    """Decode a stored film in turns, as the review page does."""

    def write(file: BinaryIO) -> None:
        with film.open("rb") as source:
            shutil.copyfileobj(source, file)

    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with stores() as made:
        keys = {way: store.put("main", "film0001.dcm", write) for way, store in made.items()}
        for _ in range(40):
            for way, store in made.items():
                times[way].append(timed(lambda s=store, w=way: decode(s.file(keys[w].storage_key))))
    return {way: statistics.median(found) * 1000 for way, found in times.items()}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def values() -> None:
    """Print what one value costs."""
    ring = KeyRing("main", [new_key(purpose) for purpose in Purpose])
    print("| one value | µs |")
    print("|---|--:|")
    count, sealed = 20_000, ring.seal("Doe-Example", "patient_identity.family_name")
    for name, work in (
        ("sealed", lambda: ring.seal("Doe-Example", "patient_identity.family_name")),
        ("sealed for looking up", lambda: ring.seal_for_lookup("doe^jane", "name_key")),
        ("opened", lambda: ring.open(sealed, "patient_identity.family_name")),
    ):
        seconds = timed(lambda w=work: [w() for _ in range(count)])
        print(f"| {name} | {seconds / count * 1e6:.1f} |")
    print()


def large() -> None:
    """Print the memory that writing and reading 500 MB takes."""
    piece = os.urandom(1 << 20)

    def write(file: BinaryIO) -> None:
        for _ in range(LARGE_BYTES // len(piece)):
            file.write(piece)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with stores() as made:
        stored = made["sealed"].put("main", "large001.dcm", write)
        start = time.perf_counter()
        size = sum(len(chunk) for chunk in chunks_of(made["sealed"].file(stored.storage_key)))
        seconds = time.perf_counter() - start
    if size != stored.size_bytes:
        raise SystemExit("not what was written")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
    print(f"{size / 1e6:.0f} MB written and read sealed: {grown:.0f} MB of memory more, ", end="")
    print(f"read at {size / 1e6 / seconds:.0f} MB/s")


if __name__ == "__main__":
    main()
