"""A restore drill: the records of 10,000 studies are backed up, verified and brought back.

Every study has four films (2 kB stand-ins: what counts is their number), three
writes to the chart and twelve audit rows. Measured on the disk of the temporary folder: the first
backup, the next night's, verifying, restoring with the audit walked.

Run: ``python -m benchmarks.restore`` (a few minutes).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from node.backup.runs import create, find_run, problems_of
from node.config import Config, read_config
from node.db import audit
from node.db.audit_rows import AuditEntry
from node.db.migrate import migrate
from node.db.session import Actor, begin, new_id, open_database
from node.db.tables import instance, patient, pms_command, study, study_identity
from node.restoring import restore

STUDIES = 10_000
FILMS = 4
WRITES = 3
_PART = 500


def main() -> None:
    """Print the rows of docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder) / "data")
        db = open_database(config.database_url)
        migrate(db)
        fill(db, config)
        root = Path(folder) / "backups"
        took = {
            "backup, the first": timed(lambda: create(db, config, root)),
            "backup, the next night": timed(lambda: create(db, config, root)),
        }
        run = find_run(root)
        found: list[str] = []
        took["verify every byte"] = timed(lambda: found.extend(problems_of(root, run)))
        assert not found, found
        db.dispose()
        there = configured(Path(folder) / "restored")
        took["restore, audit walked"] = timed(lambda: restore(there, root, run, lambda _: None))
        rows = sum(run.manifest.database.rows.values())
        size = run.manifest.size_bytes / 1e6
    print(f"{STUDIES} studies: {rows} rows, {len(run.manifest.files)} files, {size:.0f} MB")
    print("| step | seconds |\n|---|--:|")
    for name, seconds in took.items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"load {os.getloadavg()[0]:.1f}")


def configured(data_dir: Path) -> Config:
    """Configure a practice without a system of its own."""
    return read_config(environment={}, overrides={"node": {"data_dir": data_dir}})


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that an act took."""
    start = time.monotonic()
    act()
    return time.monotonic() - start


def fill(db: sa.Engine, config: Config) -> None:
    """Write the records, five hundred studies in a transaction."""
    actor = Actor("benchmark", "main")
    for first in range(0, STUDIES, _PART):
        ids = [new_id() for _ in range(_PART)]
        with begin(db, actor, "benchmark.filled") as tx:
            insert(tx.conn, config, ids, first)
        for study_id in ids:
            audit_rows(db, actor, study_id)


def audit_rows(db: sa.Engine, actor: Actor, study_id: str) -> None:
    """Write what a study leaves in the audit, in one transaction."""
    now = datetime.now(UTC)
    entries = [
        AuditEntry("main", now, actor.name, f"step.{number}", f"study:{study_id}", {"n": number})
        for number in range(11)
    ]
    with begin(db, actor, "study.reviewed") as tx:
        audit.append(tx.conn, *entries)
        tx.record(f"study:{study_id}")


def insert(conn: sa.Connection, config: Config, ids: list[str], first: int) -> None:
    """Write studies with their films and writes."""
    now, common = datetime.now(UTC), {"location_id": "main"}
    patients = [new_id() for _ in ids]
    conn.execute(
        patient.insert(),
        [
            {"id": each, "pms_key": str(first + number), "synced_at": now, **common}
            for number, each in enumerate(patients)
        ],
    )
    conn.execute(
        study.insert(),
        [
            {
                "id": each, "study_instance_uid": f"2.25.{int(each, 16)}", "state": "signed",
                "match_state": "matched", "patient_id": patients[number], "received_at": now,
                "last_image_at": now, **common,
            }
            for number, each in enumerate(ids)
        ],
    )  # fmt: skip
    conn.execute(
        study_identity.insert(),
        [{"study_id": each, "patient_name": "Sandbox^Ada", **common} for each in ids],
    )
    conn.execute(instance.insert(), [row for each in ids for row in films(config, each, now)])
    conn.execute(
        pms_command.insert(),
        [
            {
                "id": new_id(), "key": f"{each}:{number}", "ref": new_id()[:12], "study_id": each,
                "patient_id": patients[at], "kind": "CreateTask", "payload": {"text": "x" * 400},
                "state": "done", "created_at": now, "updated_at": now, **common,
            }
            for at, each in enumerate(ids)
            for number in range(WRITES)
        ],
    )  # fmt: skip


def films(config: Config, study_id: str, now: datetime) -> list[dict[str, object]]:
    """Lay stand-ins where the store keeps films, and give their rows."""
    rows: list[dict[str, object]] = []
    for number in range(FILMS):
        film_id = new_id()
        key = f"main/{film_id[:2]}/{film_id}"
        path = config.node.data_dir / "images" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(2048))
        rows.append(
            {
                "id": film_id, "location_id": "main", "study_id": study_id,
                "sop_instance_uid": f"2.25.{int(film_id, 16)}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.3",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "instance_number": number,
                "sha256": "0" * 64, "size_bytes": 2048, "storage_key": key, "state": "analysed",
                "received_at": now,
            }
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
