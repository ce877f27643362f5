"""1,000 queued writes through 200 faults at Open Dental: does each land once, in order, how fast.

What is measured: contact entries, tasks and documents that are missing, doubled or out of their
patient's order in the practice afterwards, how often a person had to be asked, and the time. The
practice is the sandbox over HTTP; the node's side is the outbox's delivery with its waits
simulated. Faults in equal shares: 429, 423, 504 before and after the commit, the eConnector's 400,
the answer lost with and without a commit, cut, or followed by a list that does not show the record
yet, answers and work slower than the adapter waits, the office away, and the node killed before the
send and after the answer.

Run: ``python -m benchmarks.office_writes`` (some minutes; ``WRITES FAULTS`` for another size).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from node.db.migrate import migrate
from node.db.session import open_database
from node.engine import DurableEngine
from pms_writeback.pms import AppendCommlog
from tests.faults.office_storm import FAULTS as KINDS
from tests.faults.office_storm import OfficeStorm, office_storm
from tests.faults.storm import ENGINE_KEY, WHEN, Report

WRITES, FAULTS, PATIENTS, QUIET = 1000, 200, 40, 100


def measure(folder: Path, writes: int, faults: int) -> tuple[Report, float]:
    """Run the storm; gives its report and the median search and write of a quiet office, in ms."""
    url = f"sqlite:///{folder / 'node.sqlite'}"
    db = open_database(url)
    migrate(db)
    engine = DurableEngine(url, ENGINE_KEY, "bench-1")
    engine.migrate()
    engine.connect()
    with office_storm(folder, db, engine, PATIENTS) as storm:
        quiet_ms = _quiet_write_ms(storm)
        report = storm.run(KINDS, writes, faults, PATIENTS)
    engine.close()
    db.dispose()
    return report, quiet_ms


def _quiet_write_ms(storm: OfficeStorm) -> float:
    """Measure a search and a write, one after the other, with nothing going wrong."""
    times = []
    for number in range(QUIET):
        command = AppendCommlog("1", "Quiet.", WHEN, f"ref:BW-quiet{number:05d}")
        begun = time.perf_counter()
        assert storm.pms.find(command) is None
        storm.pms.execute(command)
        times.append(time.perf_counter() - begun)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> int:
    """Print the rows; returns 1 when a write did not land exactly once in order."""
    writes, faults = (int(each) for each in (sys.argv[1:] or (WRITES, FAULTS)))
    with tempfile.TemporaryDirectory() as folder:
        report, quiet_ms = measure(Path(folder), writes, faults)
    print(report.table())
    print(f"| one search and write in a quiet office, median, ms | {quiet_ms:.0f} | – |")
    return int(not report.is_exact)


if __name__ == "__main__":
    raise SystemExit(main())
