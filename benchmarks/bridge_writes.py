"""1,000 queued writes through 200 faults: does each land once, in order, and how long does it take.

What is measured: writes that are missing, doubled or out of their patient's order in the practice
afterwards, how often a person had to be asked, and the time. The bridge is a process of its own,
killed and started again; the node's side is the outbox's delivery with its waits simulated; the
practice is the sandbox of Dentrix's views. Faults in equal shares: the bridge killed at a random
moment, and right after the practice's commit; the line cut; the answer lost at the clinic; the
practice's database locked; a posting that shows late; the node killed before the send, and after
the answer.

Run: ``python -m benchmarks.bridge_writes`` (about ten minutes; ``WRITES FAULTS`` for another size).
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from node.db.migrate import migrate
from node.db.session import open_database
from node.dicom.instances import FolderStore
from node.engine import DurableEngine
from pms_writeback.pms import AppendCommlog
from tests.faults import bridge_storm
from tests.faults.bridge_storm import Storm, bridge_process, wait_connected
from tests.faults.storm import ENGINE_KEY, Report
from tests.pms_writeback.bridge_world import clinic

WRITES, FAULTS, PATIENTS, QUIET = 1000, 200, 50, 200


def measure(folder: Path, writes: int, faults: int) -> tuple[Report, float]:
    """Run the storm; gives its report and the median write of a quiet line, in milliseconds."""
    url = f"sqlite:///{folder / 'node.sqlite'}"
    db = open_database(url)
    migrate(db)
    engine = DurableEngine(url, ENGINE_KEY, "bench-1")
    engine.migrate()
    engine.connect()
    with clinic(folder, db, patients=PATIENTS) as world:
        world.listen()
        world.enrol()
        with bridge_process(world) as bridge:
            wait_connected(world)
            quiet_ms = _quiet_write_ms(world.pms)
            storm = Storm(world, bridge, engine, FolderStore(folder / "images"))
            report = storm.run(bridge_storm.FAULTS, writes, faults, PATIENTS)
    engine.close()
    db.dispose()
    return report, quiet_ms


def _quiet_write_ms(pms: object) -> float:
    """Measure one write after the other, over a line on which nothing goes wrong."""
    times = []
    for number in range(QUIET):
        moment = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
        command = AppendCommlog("1", "Quiet.", moment, f"ref:BW-quiet{number:05d}")
        begun = time.perf_counter()
        pms.execute(command)  # type: ignore[attr-defined]
        times.append(time.perf_counter() - begun)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> int:
    """Print the rows; returns 1 when a write did not land exactly once in order."""
    writes, faults = (int(each) for each in (sys.argv[1:] or (WRITES, FAULTS)))
    with tempfile.TemporaryDirectory() as folder:
        report, quiet_ms = measure(Path(folder), writes, faults)
    print(report.table())
    print(f"| one write over a quiet line, median, ms | {quiet_ms:.0f} | – |")
    return int(not report.is_exact)


if __name__ == "__main__":
    raise SystemExit(main())
