"""The recall sweep of a large practice: what choosing whom to remind costs, and seeing bookings.

What is measured: processor and wall time of the daily choice (``starts``) among 10,000 patients who
are all due, and of one look for bookings (``bookings``) while all 10,000 cases are open, which
follows every change of the schedule; resident memory of the process afterwards. On what: rows
written as the sync leaves them, SQLite, no model of the practice's other records.

Run: ``python -m benchmarks.recall_sweep`` from a checkout.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from node.config import read_config
from node.db.migrate import migrate
from node.db.session import Actor, begin, new_id, open_database
from node.db.tables import patient, pms_record, workflow_case
from node.dicom.instances import FolderStore
from orchestration.access import Chart
from orchestration.recall.facts import READS
from orchestration.recall.sweep import RECALL, bookings, starts
from orchestration.workflow import Workflow

T = TypeVar("T")
PATIENTS = 10_000
NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
ACTOR = Actor("benchmark", "main")


def main() -> None:
    """Print a markdown row a measurement."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = {
            "node": {"data_dir": folder, "time_zone": "America/New_York"},
            "recall": {"most_a_day": 10 * PATIENTS},
        }
        config = read_config(environment={}, overrides=overrides)
        db = open_database(config.database_url)
        migrate(db)
        _fill(db)
        flow = Workflow(RECALL, "Recall", reads=READS)
        chart = Chart(db, config, FolderStore(folder / "images"), flow, NOW)
        found = _measured("choosing whom to remind", lambda: starts(chart, config))
        with begin(db, ACTOR, "benchmark.cases") as tx:
            rows = [
                {
                    "id": new_id(), "location_id": "main", "workflow": RECALL, "key": each.key,
                    "patient_id": each.patient_id, "state": "waiting", "stage": "plan",
                    "data": each.data, "wake_at": NOW + timedelta(days=5), "created_at": NOW,
                    "updated_at": NOW,
                }
                for each in found
            ]  # fmt: skip
            tx.conn.execute(workflow_case.insert(), rows)
        _measured("one look for bookings", lambda: bookings(chart))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| memory of the process | {memory:.0f} MB |")
        db.dispose()


def _fill(db: sa.Engine) -> None:
    ids = [new_id() for _ in range(PATIENTS)]
    types = {"name": "Prophy", "interval": "6m1d", "codes": "D1110"}
    common = {"location_id": "main", "raw": {}, "digest": "", "synced_at": NOW}
    with begin(db, ACTOR, "benchmark.rows") as tx:
        tx.conn.execute(
            patient.insert(),
            [
                {
                    "id": each, "location_id": "main", "pms_key": str(number), "status": "active",
                    "synced_at": NOW,
                }
                for number, each in enumerate(ids)
            ],
        )  # fmt: skip
        tx.conn.execute(
            pms_record.insert(),
            [
                {**common, "id": new_id(), "kind": "recall_type", "pms_key": "1", "patient_key": "",
                 "record": types},
                *(
                    {**common, "id": new_id(), "kind": "recall", "pms_key": str(number),
                     "patient_key": str(number), "record": _recall(number)}
                    for number in range(PATIENTS)
                ),
            ],
        )  # fmt: skip


def _recall(number: int) -> dict[str, object]:
    due = date(2026, 3, 1) - timedelta(days=number % 90)
    return {
        "due": due.isoformat(), "previous": "2025-09-01", "scheduled": None, "interval": "6m1d",
        "type_key": "1", "is_disabled": False, "disabled_until": None, "status": "", "note": "",
    }  # fmt: skip


def _measured(what: str, act: Callable[[], Iterable[T]]) -> list[T]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = list(act())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"| {what}, {PATIENTS:,} patients | {len(found):,} found, {cpu:.2f} s CPU, {wall:.2f} s |"
    )
    return found


if __name__ == "__main__":
    main()
