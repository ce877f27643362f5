"""An invented practice that shows the public views of Dentrix, in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

from node.errors import ConfigError
from pms_writeback.bridge.sandbox import SandboxDriver
from pms_writeback.bridge.sandbox_office import SandboxLayout, SandboxOffice
from pms_writeback.bridge.sandbox_visits import WallVisit
from pms_writeback.dentrix import views

_SANDBOX_SCHEDULED = 0
"""The sandbox's own word for a visit that is not finished; the vendor's is not public."""


class _Visits:
    """Visits in ``v_appt`` and the sandbox's own columns."""

    def add(self, db: sqlite3.Connection, visit: WallVisit) -> str:
        """Insert a visit; gives its key."""
        day, clock = _day_first(visit.starts_at)
        cursor = db.execute(
            "INSERT INTO v_appt (patient_id, patient_name, appointment_date, provider_id,"
            " status_id, x_sandbox_start_time, x_sandbox_minutes, x_sandbox_operatory_id)"
            " VALUES (?, '', ?, ?, ?, ?, ?, ?)",
            (
                visit.patient_key,
                day,
                visit.provider,
                _SANDBOX_SCHEDULED,
                clock,
                visit.minutes,
                visit.room,
            ),
        )
        return str(cursor.lastrowid)

    def visits(
        self, db: sqlite3.Connection, *, key: str | None = None, room: str | None = None
    ) -> list[WallVisit]:
        """Read one visit, or those of a room."""
        rows = db.execute(
            "SELECT appointment_id, patient_id, appointment_date, x_sandbox_start_time,"
            " x_sandbox_minutes, x_sandbox_operatory_id, provider_id, status_id FROM v_appt"
            " WHERE appointment_id = ? OR x_sandbox_operatory_id = ?",
            (key, room),
        ).fetchall()
        return [
            WallVisit(
                str(row[0]),
                str(row[1]),
                datetime.fromisoformat(f"{row[2]}T{row[3]}") if row[2] else None,
                int(row[4]),
                str(row[5]),
                str(row[6]),
                row[7] in views.COMPLETED,
            )
            for row in rows
        ]

    def place(
        self, db: sqlite3.Connection, key: str, starts_at: datetime | None, room: str
    ) -> None:
        """Put a visit at a time and into a room; without a day it is on no list."""
        db.execute(
            "UPDATE v_appt SET appointment_date = ?, x_sandbox_start_time = ?,"
            " x_sandbox_operatory_id = ? WHERE appointment_id = ?",
            (*_day_first(starts_at), room, key),
        )

    def confirm(self, db: sqlite3.Connection, key: str, words: str) -> None:
        """Set a visit's confirmation."""
        db.execute(
            "UPDATE v_appt SET x_sandbox_confirmation = ? WHERE appointment_id = ?", (words, key)
        )


def _day_first(moment: datetime | None) -> tuple[str, str]:
    if moment is None:
        return "", ""
    return moment.date().isoformat(), moment.strftime("%H:%M")


LAYOUT = SandboxLayout(
    product="Dentrix",
    alias="admin",
    tables=views.SANDBOX,
    patients=("v_patient", "patient_id"),
    procedures=("x_sandbox_procedure", "procedure_id", "patient_id"),
    visits=_Visits(),
)
_SCHEMA = """
CREATE TABLE v_patient (
    patient_id INTEGER PRIMARY KEY, patient_guid TEXT NOT NULL, first_name TEXT NOT NULL,
    last_name TEXT NOT NULL, birth_date TEXT, x_sandbox_sex TEXT
);
CREATE TABLE v_appt (
    appointment_id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL, patient_name TEXT,
    appointment_date TEXT NOT NULL, provider_id TEXT, status_id INTEGER NOT NULL,
    x_sandbox_start_time TEXT, x_sandbox_minutes INTEGER, x_sandbox_operatory_id INTEGER,
    x_sandbox_procedures TEXT, x_sandbox_confirmation TEXT
);
CREATE TABLE v_provider (
    provider_id TEXT PRIMARY KEY, npi TEXT, x_sandbox_first_name TEXT, x_sandbox_last_name TEXT
);
CREATE TABLE x_sandbox_operatory (operatory_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE x_sandbox_procedure (
    procedure_id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL, appointment_id INTEGER,
    code TEXT NOT NULL, description TEXT, status TEXT NOT NULL, tooth TEXT, surfaces TEXT,
    day TEXT NOT NULL, provider_id TEXT
);
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
            "INSERT INTO v_patient VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    each.key,
                    f"00000000-0000-4000-8000-{each.key:012d}",
                    each.given_name,
                    each.family_name,
                    each.birth_date.isoformat(),
                    each.sex,
                )
                for each in invented.people(patients)
            ],
        )
        db.executemany(
            "INSERT INTO v_provider VALUES (?, '', ?, ?)",
            [(key, given, family) for key, given, family in invented.PROVIDERS],
        )
        db.executemany("INSERT INTO x_sandbox_operatory VALUES (?, ?)", invented.ROOMS)
        for visit in invented.visits(patients, today, days_around):
            db.execute(
                "INSERT INTO v_appt VALUES (?, ?, '', ?, ?, ?, ?, ?, ?, ?, '')",
                (
                    visit.key,
                    visit.patient_key,
                    visit.starts_at.date().isoformat(),
                    visit.provider,
                    views.COMPLETED[0] if visit.is_done else _SANDBOX_SCHEDULED,
                    visit.starts_at.strftime("%H:%M"),
                    visit.minutes,
                    visit.room,
                    ", ".join(visit.codes),
                ),
            )
            db.executemany(
                "INSERT INTO x_sandbox_procedure (patient_id, appointment_id, code, description,"
                " status, tooth, surfaces, day, provider_id) VALUES (?, ?, ?, ?, ?, '', '', ?, ?)",
                [
                    (
                        visit.patient_key,
                        visit.key,
                        code,
                        invented.DESCRIPTIONS.get(code, ""),
                        "complete" if visit.is_done else "planned",
                        visit.starts_at.date().isoformat(),
                        visit.provider,
                    )
                    for code in visit.codes
                ],
            )


class DentrixSandbox(SandboxDriver):
    """The sandbox with the workstation's registration, without which nothing is served."""

    def __init__(self, office: SandboxOffice) -> None:
        super().__init__(office)
        if self._setting("unregistered"):
            raise ConfigError(
                "this workstation is not registered with Dentrix: sign in at the clinic's machine"
                " and confirm the registration once"
            )


def open_sandbox(options: Mapping[str, object], folder: Path) -> DentrixSandbox:
    """Open the practice at ``path``; raises ConfigError when there is none."""
    path = Path(str(options.get("path", "dentrix.sqlite")))
    return DentrixSandbox(SandboxOffice(folder / path, LAYOUT))
