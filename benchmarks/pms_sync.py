"""First and idle reading of a practice of realistic size over the Open Dental wire.

What is measured: seconds and peak resident memory of the process that reads the schedule and every
record of 5,000 patients with three years of visits, then seconds of processor time of one more
round of both when nothing changed. The sandbox runs in a process of its own and pages by 1,000
rows, like the vendor's local API service.

Run: ``python -m benchmarks.pms_sync`` (about a minute).
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import sqlalchemy as sa

from node.config import Config, read_config
from node.db.migrate import migrate
from node.db.session import open_database, read
from node.db.tables import pms_record
from pms_writeback.practice import open_pms
from pms_writeback.records import RecordSource
from pms_writeback.sandbox.app import CUSTOMER_KEY, DEVELOPER_KEY
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

PATIENTS, YEARS, PAGE = 5000, 3, 1000
_START_S = 120.0


@contextmanager
def practice(folder: Path) -> Iterator[str]:
    """Run the sandbox in its own process; gives the address of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pms_writeback.sandbox", "--port", str(port)]
    command += ["--db", str(folder / "pms.sqlite"), "--seed-cast", "--page-cap", str(PAGE)]
    command += ["--patients", str(PATIENTS), "--years", str(YEARS)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/", timeout=5)
        except httpx2.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the sandbox did not start")


def measure(config: Config) -> None:
    """Read everything, then once more, and print the rows."""
    db = open_database(config.database_url)
    migrate(db)
    pms = open_pms(config)
    source: object = pms
    if pms is None or not isinstance(source, RecordSource):
        raise SystemExit("the sandbox is no source of records")
    schedule, warehouse = ScheduleSync(db, pms, config), Warehouse(db, source, config)
    began = time.perf_counter()
    report = schedule.run_once(datetime.now(UTC))
    records = warehouse.run_once(datetime.now(UTC))
    first_s = time.perf_counter() - began
    failed = [error for error in (report.error, *(each.error for each in records)) if error]
    if failed:
        raise SystemExit(f"the reading failed: {failed}")
    with read(db) as conn:
        kept = conn.execute(sa.select(sa.func.count()).select_from(pms_record)).scalar_one()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    schedule.run_once(datetime.now(UTC))
    warehouse.run_once(datetime.now(UTC))
    idle_s = time.process_time() - began
    print("| what | measured | target |\n|---|--:|--:|")
    print(
        f"| first reading, {report.patients} patients, {kept} records | {first_s:.0f} s | 180 s |"
    )
    print(f"| peak memory of the reading process | {peak_mb:.0f} MB | 400 MB |")
    print(f"| one idle round of schedule and records | {idle_s:.2f} s CPU | 1 s a minute |")


def main() -> None:
    """Run sandbox and reading in an empty folder."""
    with tempfile.TemporaryDirectory() as name, practice(Path(name)) as url:
        measure(
            read_config(
                environment={},
                overrides={
                    "node": {"data_dir": name, "time_zone": "America/New_York"},
                    "pms": {
                        "kind": "open_dental",
                        "base_url": url,
                        "developer_key": DEVELOPER_KEY,
                        "customer_key": CUSTOMER_KEY,
                        "page_size": PAGE,
                    },
                },
            )
        )


if __name__ == "__main__":
    main()
