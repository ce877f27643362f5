"""A bare DICOM listener for measuring: database, image store and port, no web, no analysis.

Prints its port and serves until its standard input is closed. ``--items N`` schedules N worklist
items of 100 a day, the first day being 2026-01-01. ``--sealed`` switches encryption at rest on;
``--database URL`` uses an empty database elsewhere than in the folder.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import read_config
from node.db import audit, tables
from node.db.keys import open_keys
from node.db.migrate import migrate
from node.db.session import Actor, begin, new_id, open_database
from node.dicom.instances import FolderStore
from node.dicom.scp import DicomListener
from node.domain.study import name_key
from node.engine import DurableEngine

FAMILIES = ("Smith", "Tanaka", "Müller", "Garcia", "Nguyen", "Okafor", "Rossi", "Ivanova", "Doe")
MODALITIES = ("IO", "IO", "IO", "PX", "CT")
PER_DAY = 100


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--sealed", action="store_true", help="with encryption at rest")
    parser.add_argument("--unaudited", action="store_true", help="what the audit costs")
    parser.add_argument("--database", default="", help="URL of an empty database")
    arguments = parser.parse_args()
    if arguments.unaudited:
        audit.append = lambda conn, *entries: None
    config = read_config(
        None,
        {},
        {
            "node": {"data_dir": str(arguments.folder)},
            "database": {"url": arguments.database},
            "dicom": {
                "host": "127.0.0.1",
                "port": 0,
                "min_free_mb": 0,
                "fast_store": not arguments.plain,
            },
        },
    )
    db = open_database(config.database_url)
    migrate(db)
    ring = open_keys(db, config, Actor("keys", "main")) if arguments.sealed else None
    engine = DurableEngine(config.database_url, bytes(32), "benchmark")
    engine.migrate()
    engine.connect()
    schedule(db, arguments.items)
    listener = DicomListener(
        config, db, FolderStore(arguments.folder / "images", ring=ring), engine
    )
    listener.start()
    print(listener.port, flush=True)
    sys.stdin.read()
    listener.stop()


def schedule(db: sa.Engine, count: int) -> None:
    """Put `count` steps into the worklist, 100 a day."""
    if not count:
        return
    now, rows = datetime.now(UTC), [_rows(number) for number in range(count)]
    with begin(db, Actor("benchmark", "main"), "benchmark") as tx:
        for table in (
            tables.patient,
            tables.patient_identity,
            tables.appointment,
            tables.worklist_item,
        ):
            stamped = {"synced_at": now} if "synced_at" in table.c else {}
            values = [row[table.name] | stamped | {"location_id": "main"} for row in rows]
            tx.conn.execute(table.insert(), values)
    with db.connect() as conn:
        conn.exec_driver_sql("ANALYZE")


def step(number: int) -> dict[str, str]:
    """Describe scheduled step `number` as its attributes' texts."""
    day = date(2026, 1, 1) + timedelta(days=number // PER_DAY)
    minute = number % PER_DAY * 5
    return {
        "family": FAMILIES[number % len(FAMILIES)],
        "given": f"Eva{number // len(FAMILIES)}",
        "patient_id": f"{number + 1}",
        "accession": f"A{number:08}",
        "study_uid": f"2.25.{10**30 + number}",
        "modality": MODALITIES[number % len(MODALITIES)],
        "station": f"SENSOR{number % 7}",
        "date": f"{day:%Y%m%d}",
        "time": f"{8 + minute // 60:02}{minute % 60:02}00",
    }


def _rows(number: int) -> dict[str, dict[str, object]]:
    it, patient_id, visit_id = step(number), new_id(), new_id()
    return {
        "patient": {"id": patient_id, "pms_key": it["patient_id"]},
        "patient_identity": {
            "patient_id": patient_id,
            "family_name": it["family"],
            "given_name": it["given"],
            "birth_date": date(1980, 1, 2),
            "sex": "F",
            "name_key": name_key(it["family"], it["given"]),
        },
        "appointment": {
            "id": visit_id,
            "pms_key": it["patient_id"],
            "patient_id": patient_id,
            "start_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number // PER_DAY),
            "duration_min": 30,
            "status": "scheduled",
            "accession_number": it["accession"],
            "study_instance_uid": it["study_uid"],
        },
        "worklist_item": {
            "id": new_id(),
            "appointment_id": visit_id,
            "patient_id": patient_id,
            "modality": it["modality"],
            "station_ae_title": it["station"],
            "start_date": it["date"],
            "start_time": it["time"],
            "scheduled_procedure_step_id": f"S{number}",
            "requested_procedure_id": f"R{number}",
            "description": "Bitewings",
            "cdt_code": "D0274",
        },
    }


if __name__ == "__main__":
    main()
