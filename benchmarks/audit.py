"""What the audit costs: receiving films, reads of pictures, and walking the chain.

What is measured: C-STORE of 3 MB films over one and over four associations, without an audit, with
it, and with it and encryption at rest, in turns so that a busy machine is busy for all (images a
second and CPU milliseconds an image); the CPU time of one entry; the time that one read waits for
its entry, alone and in bursts of twenty from six threads, as a page of pictures asks for them;
verifying 100,000 rows of SQLite against an anchored head; archiving them.

Run: ``python -m benchmarks.audit`` (about three minutes).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from benchmarks.encryption import receive
from benchmarks.store import make_films
from node.db import audit
from node.db.audit_archive import close_part
from node.db.audit_rows import AuditEntry
from node.db.migrate import migrate
from node.db.session import Actor, begin_group, look, new_id, open_database, read
from node.web.read_log import ReadLog

WAYS = {"without": ("--unaudited",), "audit": (), "audit, encryption": ("--sealed",)}
ROWS = 100_000
ACTOR = Actor("benchmark", "main")


def main() -> None:
    """Print tables in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        films = make_films(Path(folder))
        print(f"| measure | {' | '.join(WAYS)} | more |")
        print("|---|" + "--:|" * (len(WAYS) + 1))
        for associations in (1, 4):
            rates, costs = receive(films, associations, WAYS)
            name = f"C-STORE, {associations} association{'s' * (associations > 1)}"
            _line(f"{name}: images/s", rates, lambda base, now: base / now - 1)
            _line(f"{name}: CPU ms an image", costs, lambda base, now: now / base - 1)
    print()
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(f"sqlite:///{folder}/audit.sqlite")
        migrate(db)
        _chain(db, Path(folder))
        _entries(db)
        _reads(db)
        db.dispose()
    print(f"load {os.getloadavg()[0]:.0f}")


def _line(name: str, found: dict[str, float], more: Callable[[float, float], float]) -> None:
    base, *others = (found[way] for way in WAYS)
    cells = " | ".join(f"{found[way]:.1f}" for way in WAYS)
    shares = ", ".join(f"{more(base, other):+.1%}" for other in others)
    print(f"| {name} | {cells} | {shares} |", flush=True)


def _reads(db: sa.Engine) -> None:
    log = ReadLog(db)

    def look(number: int) -> float:
        started = time.perf_counter()
        log.note(ACTOR, "image.opened", f"instance:{new_id()}", role="dentist", number=number)
        return (time.perf_counter() - started) * 1000

    alone = [look(number) for number in range(200)]
    print(f"one read waits for its entry: {statistics.median(alone):.2f} ms (median of 200)")
    bursts = []
    with ThreadPoolExecutor(6) as pool:
        for _ in range(30):
            started = time.perf_counter()
            list(pool.map(look, range(20)))
            bursts.append((time.perf_counter() - started) * 1000)
    print(f"a page of 20 pictures, 6 at a time: {statistics.median(bursts):.1f} ms in all")


def _entries(db: sa.Engine) -> None:
    """Measure the CPU time of one entry, as arrivals in groups of eight append theirs."""
    started, count = time.process_time(), 0
    for _ in range(250):
        with begin_group(db) as conn:
            for _ in range(8):
                detail = {"sha256": "a" * 64, "sender": "SENSOR", "study": new_id()}
                audit.append(conn, look(ACTOR, "image.received", f"instance:{new_id()}", **detail))
                count += 1
    print(f"one entry: {(time.process_time() - started) / count * 1e6:.0f} µs of CPU time")


def _chain(db: sa.Engine, folder: Path) -> None:
    long_ago = datetime(2015, 1, 1, tzinfo=UTC)
    for start in range(0, ROWS, 5_000):
        entries = [
            AuditEntry(
                "main", long_ago + timedelta(seconds=start + number), new_id(), "image.opened",
                f"instance:{new_id()}", {"role": "dentist", "models": ["a", "b"], "number": number},
            )
            for number in range(5_000)
        ]  # fmt: skip
        with begin_group(db) as conn:
            audit.append(conn, *entries)
    with read(db) as conn:
        head = audit.read_head(conn)
        started = time.perf_counter()
        count, broken = audit.verify(conn, {head.seq: head.hash})
    assert broken is None
    rate = count / (time.perf_counter() - started)
    print(f"verifying {count} rows: {rate:,.0f} rows a second")
    started = time.perf_counter()
    while close_part(db, ACTOR, folder / "archive", datetime(2020, 1, 1, tzinfo=UTC)):
        continue
    print(f"archiving them, read back and verified: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
