"""An invented practice that shows the public tables of Eaglesoft, in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path

from pms_writeback.bridge.sandbox import SandboxDriver
from pms_writeback.bridge.sandbox_office import SandboxLayout, SandboxOffice
from pms_writeback.bridge.sandbox_visits import WallVisit
from pms_writeback.eaglesoft import tables


class _Visits:
    """Visits in ``appointment`` and the sandbox's own columns."""

    def add(self, db: sqlite3.Connection, visit: WallVisit) -> str:
        """Insert a visit; gives its key."""
        cursor = db.execute(
            "INSERT INTO appointment (start_time, patient_id, date_appointed, x_sandbox_minutes,"
            " x_sandbox_operatory_id, x_sandbox_provider_id) VALUES (?, ?, ?, ?, ?, ?)",
            (
                _text(visit.starts_at),
                visit.patient_key,
                _text(visit.starts_at)[:10],
                visit.minutes,
                visit.room,
                visit.provider,
            ),
        )
        return str(cursor.lastrowid)

    def visits(
        self, db: sqlite3.Connection, *, key: str | None = None, room: str | None = None
    ) -> list[WallVisit]:
        """Read one visit, or those of a room."""
        rows = db.execute(
            "SELECT appointment_id, patient_id, start_time, x_sandbox_minutes,"
            " x_sandbox_operatory_id, x_sandbox_provider_id, walkout_time FROM appointment"
            " WHERE appointment_id = ? OR x_sandbox_operatory_id = ?",
            (key, room),
        ).fetchall()
        return [
            WallVisit(
                str(row[0]),
                str(row[1]),
                datetime.fromisoformat(row[2]) if row[2] else None,
                int(row[3]),
                str(row[4]),
                str(row[5]),
                bool(row[6]),
            )
            for row in rows
        ]

    def place(
        self, db: sqlite3.Connection, key: str, starts_at: datetime | None, room: str
    ) -> None:
        """Put a visit at a time and into a room; without a time it is on no list."""
        db.execute(
            "UPDATE appointment SET start_time = ?, x_sandbox_operatory_id = ?"
            " WHERE appointment_id = ?",
            (_text(starts_at), room, key),
        )

    def confirm(self, db: sqlite3.Connection, key: str, words: str) -> None:
        """Set a visit's confirmation."""
        db.execute(
            "UPDATE appointment SET x_sandbox_confirmation = ? WHERE appointment_id = ?",
            (words, key),
        )


def _text(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


LAYOUT = SandboxLayout(
    product="Eaglesoft",
    alias="",
    tables=tables.SANDBOX,
    patients=("patient", "patient_id"),
    procedures=("appointment", "appointment_id", "patient_id"),
    visits=_Visits(),
)
_SCHEMA = """
CREATE TABLE patient (
    patient_id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, last_name TEXT NOT NULL,
    birth_date TEXT, x_sandbox_sex TEXT
);
CREATE TABLE appointment (
    appointment_id INTEGER PRIMARY KEY, start_time TEXT NOT NULL, patient_id INTEGER,
    date_appointed TEXT, walkout_time TEXT, x_sandbox_minutes INTEGER,
    x_sandbox_operatory_id INTEGER, x_sandbox_provider_id TEXT, x_sandbox_confirmation TEXT
);
CREATE TABLE planned_services (
    appt_id INTEGER NOT NULL, service_code TEXT NOT NULL, date_planned TEXT NOT NULL,
    x_sandbox_description TEXT, x_sandbox_tooth TEXT
);
CREATE TABLE provider (
    provider_id CHAR(8) PRIMARY KEY, national_prov_id TEXT, x_sandbox_first_name TEXT,
    x_sandbox_last_name TEXT
);
CREATE TABLE system_preferences (version TEXT);
INSERT INTO system_preferences VALUES ('sandbox');
CREATE TABLE x_sandbox_operatory (operatory_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""


def make_practice(
    path: Path, today: date, patients: int = 40, days_around: int = 7, time_zone: str = "UTC"
) -> None:
    """Make the practice; raises ConfigError when the file is there already."""
    from pms_writeback.bridge import invented

    office = SandboxOffice(path, LAYOUT)
    office.create(_SCHEMA, time_zone)
    with office.writing() as db:
        db.executemany(
            "INSERT INTO patient VALUES (?, ?, ?, ?, ?)",
            [
                (
                    each.key,
                    each.given_name,
                    each.family_name,
                    each.birth_date.isoformat(),
                    each.sex,
                )
                for each in invented.people(patients)
            ],
        )
        db.executemany(
            "INSERT INTO provider VALUES (?, '', ?, ?)",
            [(f"{key:<8}", given, family) for key, given, family in invented.PROVIDERS],
        )
        db.executemany("INSERT INTO x_sandbox_operatory VALUES (?, ?)", invented.ROOMS)
        for visit in invented.visits(patients, today, days_around):
            end = visit.starts_at + timedelta(minutes=visit.minutes)
            db.execute(
                "INSERT INTO appointment VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
                (
                    visit.key,
                    visit.starts_at.strftime("%Y-%m-%d %H:%M:%S"),
                    visit.patient_key,
                    visit.starts_at.date().isoformat(),
                    end.strftime("%Y-%m-%d %H:%M:%S") if visit.is_done else None,
                    visit.minutes,
                    visit.room,
                    visit.provider,
                ),
            )
            db.executemany(
                "INSERT INTO planned_services VALUES (?, ?, ?, ?, '')",
                [
                    (
                        visit.key,
                        code,
                        visit.starts_at.date().isoformat(),
                        invented.DESCRIPTIONS.get(code, ""),
                    )
                    for code in visit.codes
                ],
            )


def open_sandbox(options: Mapping[str, object], folder: Path) -> SandboxDriver:
    """Open the practice at ``path``; raises ConfigError when there is none."""
    path = Path(str(options.get("path", "eaglesoft.sqlite")))
    return SandboxDriver(SandboxOffice(folder / path, LAYOUT))
