"""What the PMS said against what our tables say: the rows that differ.

Rows are matched by the PMS's key within the location and are never removed: what is deleted there
is tombstoned here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from node.config import Config
from node.db.session import new_id
from node.db.tables import (
    appointment,
    operatory,
    patient,
    patient_contact,
    patient_identity,
    procedure,
    provider,
)
from node.domain import schedule
from node.domain.study import name_key, name_start
from pms_writeback.changes import Changes, Row, bounds, chunks, difference, fit, storable
from pms_writeback.pms import (
    AppointmentStatus,
    PatientStatus,
    PmsAppointment,
    PmsContact,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
)

#: What a patient without a row of contacts differs from.
_NO_CONTACT: Row = dict.fromkeys(column.name for column in patient_contact.columns)


@dataclass(frozen=True, slots=True)
class PracticeReading:
    """One reading of the PMS; `window` is the first and last local day that we keep.

    ``is_whole_window`` says that every appointment of the window is in it.
    """

    patients: Sequence[PmsPatient] = ()
    providers: Sequence[PmsProvider] = ()
    operatories: Sequence[PmsOperatory] = ()
    appointments: Sequence[PmsAppointment] = ()
    deleted_appointment_keys: Sequence[str] = ()
    procedures: Sequence[PmsProcedure] = ()
    window: tuple[date, date] | None = None
    is_whole_window: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reading refers to and we do not have yet."""

    patient_keys: tuple[str, ...]
    appointment_keys: tuple[str, ...]


class ScheduleRows:
    """Compares readings with the tables of one location."""

    def __init__(self, config: Config) -> None:
        self._location_id = config.node.location_id
        self._zone = config.zone

    def wanted(self, conn: sa.Connection, reading: PracticeReading) -> Wanted:
        """Find the patients and the appointments' procedures that must be read as well."""
        known = self._rows(conn, appointment, (each.key for each in reading.appointments))
        kept = [each for each in reading.appointments if self._is_kept(each, known, reading)]
        patients = self._rows(conn, patient, (each.patient_key for each in kept))
        missing = {each.patient_key for each in kept if each.patient_key not in patients}
        news = [
            each.key
            for each in kept
            if each.key not in known or known[each.key]["tombstoned_at"] is not None
        ]
        return Wanted(tuple(sorted(missing)), tuple(news))

    def compare(self, conn: sa.Connection, reading: PracticeReading, now: datetime) -> Changes:
        """Find what differs from our tables; the worklist comes after (`WorklistItems`)."""
        changes = Changes()
        self._compare_patients(conn, reading, now, changes)
        self._compare_team(conn, reading, changes)
        self._compare_appointments(conn, reading, now, changes)
        self._compare_procedures(conn, reading, now, changes)
        return changes

    def _compare_patients(
        self, conn: sa.Connection, reading: PracticeReading, now: datetime, changes: Changes
    ) -> None:
        known = self._rows(conn, patient, (each.key for each in reading.patients))
        ids = [str(row["id"]) for row in known.values()]
        identities = self._of_patients(conn, patient_identity, ids)
        contacts = self._of_patients(conn, patient_contact, ids)
        people: list[tuple[str, dict[str, object]]] = []
        reached: list[tuple[str, dict[str, object]]] = []
        for each in {each.key: each for each in reading.patients}.values():
            row = known.get(each.key)
            gone = row["tombstoned_at"] if row else None
            is_merged = row is not None and row["merged_into"] is not None
            is_gone = is_merged or each.status is PatientStatus.DELETED
            values: dict[str, object] = {
                "status": each.status.value,
                "raw": _odd(each.raw),
                "tombstoned_at": (gone or now) if is_gone else None,
            }
            patient_id = self._differ(patient, each.key, row, values, now, changes)
            people.append((patient_id, _identity(each)))
            if patient_id in identities and difference(identities[patient_id], people[-1][1]):
                changes.touch(patient, each.key)
            if each.contact is not None:
                reached.append((patient_id, _contact(each, each.contact)))
                if difference(contacts.get(patient_id, _NO_CONTACT), reached[-1][1]):
                    changes.touch(patient, each.key)
        self._differ_in(patient_identity, identities, people, changes)
        self._differ_in(patient_contact, contacts, reached, changes)

    def _differ_in(
        self,
        table: sa.Table,
        known: Mapping[str, Row],
        people: Iterable[tuple[str, dict[str, object]]],
        changes: Changes,
    ) -> None:
        """Add what differs in a table that has one row a patient."""
        for patient_id, values in people:
            if patient_id not in known:
                where = {"patient_id": patient_id, "location_id": self._location_id}
                changes.inserts.append((table, where | values))
            elif different := difference(known[patient_id], values):
                changes.updates.append((table, patient_id, different))

    def _compare_team(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> None:
        known = self._rows(conn, provider, (each.key for each in reading.providers))
        for person in reading.providers:
            name = ", ".join(part for part in (person.family_name, person.given_name) if part)
            values: dict[str, object] = {
                "abbreviation": fit(person.abbreviation, 64),
                "name": fit(name, 255),
                "is_hidden": person.is_hidden,
            }
            self._differ(provider, person.key, known.get(person.key), values, None, changes)
        known = self._rows(conn, operatory, (each.key for each in reading.operatories))
        for room in reading.operatories:
            values = {
                "name": fit(room.name, 255),
                "abbreviation": fit(room.abbreviation, 64),
                "is_hidden": room.is_hidden,
            }
            self._differ(operatory, room.key, known.get(room.key), values, None, changes)

    def _compare_appointments(
        self, conn: sa.Connection, reading: PracticeReading, now: datetime, changes: Changes
    ) -> None:
        gone = set(reading.deleted_appointment_keys) | self._vanished(conn, reading)
        keys = {each.key for each in reading.appointments} | gone
        known = self._rows(conn, appointment, keys)
        patients = self._patient_ids(conn, reading, changes)
        for each in reading.appointments:
            row = known.get(each.key)
            patient_id = patients.get(each.patient_key)
            if patient_id is None or not self._is_kept(each, known, reading):
                continue
            values = _visit_values(each, patient_id)
            if row is None:
                values |= {
                    "accession_number": schedule.accession_number(self._location_id, each.key),
                    "study_instance_uid": schedule.study_instance_uid(self._location_id, each.key),
                }
            self._differ(appointment, each.key, row, values, now, changes)
        for key in sorted(gone & known.keys()):
            if known[key]["tombstoned_at"] is None:
                self._differ(appointment, key, known[key], {"tombstoned_at": now}, now, changes)

    def _vanished(self, conn: sa.Connection, reading: PracticeReading) -> set[str]:
        """Scheduled appointments of the window that a whole reading no longer has.

        An empty answer closes nothing: a day that was really cleared shows as deletions.
        """
        if reading.window is None or not reading.is_whole_window or not reading.appointments:
            return set()
        start, end = bounds(reading.window, self._zone)
        ours = conn.execute(
            sa.select(appointment.c.pms_key).where(
                appointment.c.location_id == self._location_id,
                appointment.c.tombstoned_at.is_(None),
                appointment.c.status == AppointmentStatus.SCHEDULED.value,
                appointment.c.start_at >= start,
                appointment.c.start_at < end,
            )
        ).scalars()
        return set(ours) - {each.key for each in reading.appointments}

    def _compare_procedures(
        self, conn: sa.Connection, reading: PracticeReading, now: datetime, changes: Changes
    ) -> None:
        known = self._rows(conn, procedure, (each.key for each in reading.procedures))
        visits = set(
            self._rows(conn, appointment, (each.appointment_key for each in reading.procedures))
        )
        visits |= {str(row["pms_key"]) for table, row in changes.inserts if table is appointment}
        patients = self._patient_ids(conn, reading, changes)
        for each in reading.procedures:
            row = known.get(each.key)
            patient_id = patients.get(each.patient_key)
            is_kept = row is not None or each.appointment_key in visits
            if patient_id is None or not (is_kept or _is_imaging_of(each, reading.window)):
                continue
            gone = row["tombstoned_at"] if row else None
            is_gone = each.status is ProcedureStatus.DELETED
            values: dict[str, object] = {
                "patient_id": patient_id,
                "appointment_key": each.appointment_key,
                "cdt_code": fit(each.cdt_code, 16),
                "status": each.status.value,
                "tooth": fit(each.tooth, 4),
                "procedure_date": each.day,
                "raw": _odd(each.raw),
                "tombstoned_at": (gone or now) if is_gone else None,
            }
            self._differ(procedure, each.key, row, values, now, changes)

    def _differ(
        self,
        table: sa.Table,
        key: str,
        row: Row | None,
        values: dict[str, object],
        now: datetime | None,
        changes: Changes,
    ) -> str:
        """Add an insert, an update or nothing; return the row's id."""
        synced = {} if now is None else {"synced_at": now}
        if row is None:
            row_id = new_id()
            own = {"id": row_id, "location_id": self._location_id, "pms_key": key}
            changes.inserts.append((table, own | values | synced))
            changes.touch(table, key)
            return row_id
        if different := difference(row, values):
            changes.updates.append((table, str(row["id"]), different | synced))
            changes.touch(table, key)
        return str(row["id"])

    def _is_kept(
        self, each: PmsAppointment, known: Mapping[str, Row], reading: PracticeReading
    ) -> bool:
        """Whether this appointment is ours to keep: known already, or within the window."""
        if each.key in known:
            return True
        if each.starts_at is None or reading.window is None:
            return False
        day = each.starts_at.astimezone(self._zone).date()
        return reading.window[0] <= day <= reading.window[1]

    def _rows(self, conn: sa.Connection, table: sa.Table, keys: Iterable[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for chunk in chunks(keys):
            rows = conn.execute(
                sa.select(table).where(
                    table.c.location_id == self._location_id, table.c.pms_key.in_(chunk)
                )
            ).mappings()
            found |= {row["pms_key"]: dict(row) for row in rows}
        return found

    def _of_patients(
        self, conn: sa.Connection, table: sa.Table, ids: Iterable[str]
    ) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for chunk in chunks(ids):
            rows = conn.execute(sa.select(table).where(table.c.patient_id.in_(chunk))).mappings()
            found |= {row["patient_id"]: dict(row) for row in rows}
        return found

    def _patient_ids(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> dict[str, str]:
        """Map PMS keys to our ids, those about to be inserted included."""
        keys = {each.patient_key for each in reading.appointments}
        keys |= {each.patient_key for each in reading.procedures}
        known = {key: str(row["id"]) for key, row in self._rows(conn, patient, keys).items()}
        new = {str(row["pms_key"]): str(row["id"]) for t, row in changes.inserts if t is patient}
        return known | new


def _identity(each: PmsPatient) -> dict[str, object]:
    key = fit(name_key(each.family_name, each.given_name), 255)
    return {
        "family_name": fit(each.family_name, 128),
        "given_name": fit(each.given_name, 128),
        "middle_name": fit(each.middle_name, 128),
        "birth_date": each.birth_date,
        "sex": each.sex if each.sex in ("M", "F", "O") else "",
        "name_key": key,
        "name_start": name_start(key),
    }


def _contact(each: PmsPatient, contact: PmsContact) -> dict[str, object]:
    return {
        "email": fit(contact.email, 254),
        "mobile": fit(contact.mobile, 32),
        "text_allowed": fit(contact.text_allowed, 8),
        "contact_method": fit(contact.contact_method, 32),
        "recall_method": fit(contact.recall_method, 32),
        "language": fit(each.language, 32),
        "guarantor_key": fit(contact.guarantor_key, 64),
    }


def _visit_values(each: PmsAppointment, patient_id: str) -> dict[str, object]:
    """Columns of an appointment; one that left the schedule keeps its last start."""
    values: dict[str, object] = {
        "patient_id": patient_id,
        "duration_min": each.minutes,
        "operatory_key": each.operatory_key,
        "provider_key": each.provider_key or each.hygienist_key,
        "status": each.status.value,
        "description": fit(each.procedures_text, 255),
        "raw": _odd(each.raw),
        "tombstoned_at": None,
    }
    return values if each.starts_at is None else values | {"start_at": each.starts_at}


def _odd(raw: Mapping[str, object]) -> dict[str, object] | None:
    """What was not understood, as the column keeps it; most rows have nothing."""
    return storable(raw) or None


def _is_imaging_of(each: PmsProcedure, window: tuple[date, date] | None) -> bool:
    """Whether this is an image charted within the window without an appointment."""
    if window is None or each.day is None or schedule.imaging_code(each.cdt_code) is None:
        return False
    return window[0] <= each.day <= window[1]
