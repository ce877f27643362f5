"""What the PMS said against what our tables say: the differences, and the worklist that follows.

Rows are matched by the PMS's key within the location and are never removed: what is deleted there
is tombstoned here, and a closed worklist item keeps its ids, which a sensor may still send back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

import sqlalchemy as sa

from node.config import Config
from node.db.session import new_id
from node.db.tables import (
    appointment,
    operatory,
    patient,
    patient_identity,
    procedure,
    provider,
    worklist_item,
)
from node.domain import schedule
from node.domain.schedule import Station, Step, Visit
from node.domain.study import name_key
from pms_writeback.pms import (
    AppointmentStatus,
    PatientStatus,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
)

Row = Mapping[str, object]
_CHUNK = 500
_ON_THE_VISIT = (ProcedureStatus.TREATMENT_PLANNED.value, ProcedureStatus.COMPLETE.value)


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


@dataclass(slots=True)
class Changes:
    """Rows to insert and update, in the order that foreign keys ask for."""

    inserts: list[tuple[sa.Table, dict[str, object]]] = field(default_factory=list)
    updates: list[tuple[sa.Table, str, dict[str, object]]] = field(default_factory=list)
    touched: dict[str, set[str]] = field(default_factory=dict)

    def touch(self, table: sa.Table, key: str) -> None:
        """Count a changed row under its table."""
        self.touched.setdefault(table.name, set()).add(key)

    def keys(self, table: sa.Table) -> set[str]:
        """Give the keys of a table's changed rows."""
        return self.touched.get(table.name, set())

    @property
    def count(self) -> int:
        """How many rows differ."""
        return sum(len(keys) for keys in self.touched.values())

    def apply(self, conn: sa.Connection) -> None:
        """Write them."""
        waiting: list[dict[str, object]] = []
        for number, (table, values) in enumerate(self.inserts):
            waiting.append(values)
            is_last = number + 1 == len(self.inserts) or self.inserts[number + 1][0] is not table
            if is_last:
                conn.execute(table.insert(), waiting)
                waiting = []
        for table, row_id, values in self.updates:
            key = next(iter(table.primary_key.columns))
            conn.execute(table.update().where(key == row_id).values(values))


class ScheduleRows:
    """Compares readings with the tables of one location."""

    def __init__(self, config: Config) -> None:
        self._location_id = config.node.location_id
        self._zone = config.zone
        self._default_ae_title = config.dicom.default_station_ae_title
        self._stations = tuple(
            Station(each.operatory, each.ae_title, each.modality) for each in config.dicom.stations
        )

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
        """Find what differs from our tables; the worklist comes after (`compare_items`)."""
        changes = Changes()
        self._compare_patients(conn, reading, now, changes)
        self._compare_team(conn, reading, changes)
        self._compare_appointments(conn, reading, now, changes)
        self._compare_procedures(conn, reading, now, changes)
        return changes

    def compare_items(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> Changes:
        """Find what differs in the worklist once `changes` are applied."""
        affected = self._affected(conn, reading, changes)
        rooms = self._rooms(conn)
        found = Changes()
        for chunk in _chunks(affected):
            visits = self._visits(conn, chunk, rooms)
            items = self._items(conn, [str(row["id"]) for row, _ in visits])
            for row, visit in visits:
                self._compare_item(row, visit, items.get(str(row["id"]), {}), found)
        return found

    def _compare_patients(
        self, conn: sa.Connection, reading: PracticeReading, now: datetime, changes: Changes
    ) -> None:
        known = self._rows(conn, patient, (each.key for each in reading.patients))
        identities = self._identities(conn, (str(row["id"]) for row in known.values()))
        people: list[tuple[str, dict[str, object]]] = []
        for each in {each.key: each for each in reading.patients}.values():
            row = known.get(each.key)
            gone = row["tombstoned_at"] if row else None
            is_gone = each.status is PatientStatus.DELETED
            values: dict[str, object] = {
                "status": each.status.value,
                "tombstoned_at": (gone or now) if is_gone else None,
            }
            patient_id = self._differ(patient, each.key, row, values, now, changes)
            people.append((patient_id, _identity(each)))
            if patient_id in identities and _difference(identities[patient_id], people[-1][1]):
                changes.touch(patient, each.key)
        for patient_id, values in people:
            if patient_id not in identities:
                where = {"patient_id": patient_id, "location_id": self._location_id}
                changes.inserts.append((patient_identity, where | values))
            elif different := _difference(identities[patient_id], values):
                changes.updates.append((patient_identity, patient_id, different))

    def _compare_team(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> None:
        known = self._rows(conn, provider, (each.key for each in reading.providers))
        for person in reading.providers:
            name = ", ".join(part for part in (person.family_name, person.given_name) if part)
            values: dict[str, object] = {
                "abbreviation": _fit(person.abbreviation, 64),
                "name": _fit(name, 255),
                "is_hidden": person.is_hidden,
            }
            self._differ(provider, person.key, known.get(person.key), values, None, changes)
        known = self._rows(conn, operatory, (each.key for each in reading.operatories))
        for room in reading.operatories:
            values = {
                "name": _fit(room.name, 255),
                "abbreviation": _fit(room.abbreviation, 64),
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
        """Scheduled appointments of the window that a whole reading no longer has."""
        if reading.window is None or not reading.is_whole_window:
            return set()
        start, end = self._bounds(reading.window)
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
                "cdt_code": _fit(each.cdt_code, 16),
                "status": each.status.value,
                "tooth": _fit(each.tooth, 4),
                "procedure_date": each.day,
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
        if different := _difference(row, values):
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

    def _affected(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> list[str]:
        """Keys of the appointments whose worklist items may differ."""
        keys = set(changes.keys(appointment))
        procedures = changes.keys(procedure)
        keys |= {each.appointment_key for each in reading.procedures if each.key in procedures}
        condition: list[sa.ColumnElement[bool]] = [
            patient.c.pms_key.in_(chunk) for chunk in _chunks(changes.keys(patient))
        ]
        if reading.is_whole_window and reading.window is not None:
            start, end = self._bounds(reading.window)
            condition.append(sa.and_(appointment.c.start_at >= start, appointment.c.start_at < end))
        # A procedure that left an appointment no longer names it: its open items are looked at.
        if procedures:
            condition.append(
                patient.c.pms_key.in_(
                    {each.patient_key for each in reading.procedures if each.key in procedures}
                )
            )
        for clause in condition:
            keys |= set(
                conn.execute(
                    sa.select(appointment.c.pms_key)
                    .join(patient, patient.c.id == appointment.c.patient_id)
                    .where(appointment.c.location_id == self._location_id, clause)
                ).scalars()
            )
        return sorted(keys - {""})

    def _visits(
        self, conn: sa.Connection, keys: Sequence[str], rooms: Mapping[str, tuple[str, ...]]
    ) -> list[tuple[Row, Visit | None]]:
        """Read appointments with what they plan; None for one that is off the list."""
        rows = conn.execute(
            sa.select(appointment, patient.c.tombstoned_at.label("patient_gone_at"))
            .join(patient, patient.c.id == appointment.c.patient_id)
            .where(appointment.c.location_id == self._location_id, appointment.c.pms_key.in_(keys))
        ).mappings()
        codes: dict[str, list[str]] = {}
        for planned in conn.execute(
            sa.select(procedure.c.appointment_key, procedure.c.cdt_code)
            .where(
                procedure.c.location_id == self._location_id,
                procedure.c.appointment_key.in_(keys),
                procedure.c.tombstoned_at.is_(None),
                procedure.c.status.in_(_ON_THE_VISIT),
            )
            .order_by(sa.func.length(procedure.c.pms_key), procedure.c.pms_key)
        ):
            codes.setdefault(planned.appointment_key, []).append(planned.cdt_code)
        return [
            (
                dict(row),
                Visit(
                    self._location_id,
                    row["pms_key"],
                    row["start_at"],
                    rooms.get(row["operatory_key"], ()),
                    tuple(codes.get(row["pms_key"], ())),
                )
                if _is_on_list(dict(row))
                else None,
            )
            for row in rows
        ]

    def _compare_item(
        self, row: Row, visit: Visit | None, items: Mapping[str, Row], changes: Changes
    ) -> None:
        steps = (
            ()
            if visit is None
            else schedule.steps_of(visit, self._stations, self._default_ae_title, self._zone)
        )
        for step in steps:
            values = _item_values(step, str(row["patient_id"]))
            item = items.get(step.modality)
            if item is None:
                own = {
                    "id": new_id(),
                    "location_id": self._location_id,
                    "appointment_id": row["id"],
                    "modality": step.modality,
                }
                changes.inserts.append((worklist_item, own | values))
                changes.touch(worklist_item, step.scheduled_procedure_step_id)
            elif different := _difference(item, values):
                changes.updates.append((worklist_item, str(item["id"]), different))
                changes.touch(worklist_item, str(item["id"]))
        wanted = {step.modality for step in steps}
        for modality, item in items.items():
            if modality not in wanted and item["is_open"]:
                changes.updates.append((worklist_item, str(item["id"]), {"is_open": False}))
                changes.touch(worklist_item, str(item["id"]))

    def _items(self, conn: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, Row]]:
        found: dict[str, dict[str, Row]] = {}
        for item in conn.execute(
            sa.select(worklist_item).where(worklist_item.c.appointment_id.in_(ids))
        ).mappings():
            found.setdefault(item["appointment_id"], {})[item["modality"]] = dict(item)
        return found

    def _rooms(self, conn: sa.Connection) -> dict[str, tuple[str, ...]]:
        rows = conn.execute(
            sa.select(operatory).where(operatory.c.location_id == self._location_id)
        )
        return {row.pms_key: (row.pms_key, row.name, row.abbreviation) for row in rows}

    def _rows(self, conn: sa.Connection, table: sa.Table, keys: Iterable[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for chunk in _chunks(keys):
            rows = conn.execute(
                sa.select(table).where(
                    table.c.location_id == self._location_id, table.c.pms_key.in_(chunk)
                )
            ).mappings()
            found |= {row["pms_key"]: dict(row) for row in rows}
        return found

    def _identities(self, conn: sa.Connection, ids: Iterable[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for chunk in _chunks(ids):
            rows = conn.execute(
                sa.select(patient_identity).where(patient_identity.c.patient_id.in_(chunk))
            ).mappings()
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

    def _bounds(self, window: tuple[date, date]) -> tuple[datetime, datetime]:
        """The instants at which the window's first day begins and its last day ends."""
        first, last = window
        start = datetime.combine(first, time(), self._zone)
        return start, datetime.combine(last + timedelta(days=1), time(), self._zone)


def _identity(each: PmsPatient) -> dict[str, object]:
    return {
        "family_name": _fit(each.family_name, 128),
        "given_name": _fit(each.given_name, 128),
        "middle_name": _fit(each.middle_name, 128),
        "birth_date": each.birth_date,
        "sex": each.sex if each.sex in ("M", "F", "O") else "",
        "name_key": _fit(name_key(each.family_name, each.given_name), 255),
    }


def _visit_values(each: PmsAppointment, patient_id: str) -> dict[str, object]:
    """Columns of an appointment; one that left the schedule keeps its last start."""
    values: dict[str, object] = {
        "patient_id": patient_id,
        "duration_min": each.minutes,
        "operatory_key": each.operatory_key,
        "provider_key": each.provider_key or each.hygienist_key,
        "status": each.status.value,
        "description": _fit(each.procedures_text, 255),
        "tombstoned_at": None,
    }
    return values if each.starts_at is None else values | {"start_at": each.starts_at}


def _item_values(step: Step, patient_id: str) -> dict[str, object]:
    return {
        "patient_id": patient_id,
        "station_ae_title": step.station_ae_title,
        "start_date": step.start_date,
        "start_time": step.start_time,
        "scheduled_procedure_step_id": step.scheduled_procedure_step_id,
        "requested_procedure_id": step.requested_procedure_id,
        "description": step.description,
        "cdt_code": step.cdt_code,
        "expected_images": step.expected_images,
        "is_open": True,
    }


def _is_on_list(row: Mapping[str, object]) -> bool:
    return (
        row["status"] == AppointmentStatus.SCHEDULED.value
        and row["tombstoned_at"] is None
        and row["patient_gone_at"] is None
    )


def _is_imaging_of(each: PmsProcedure, window: tuple[date, date] | None) -> bool:
    """Whether this is an image charted within the window without an appointment."""
    if window is None or each.day is None or schedule.imaging_code(each.cdt_code) is None:
        return False
    return window[0] <= each.day <= window[1]


def _difference(row: Row, values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if row[name] != value}


def _fit(text: str, length: int) -> str:
    """Fit a column: no NUL (PostgreSQL has none), at most `length` characters."""
    return text.replace("\x00", "")[:length]


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    """Split into lists that fit one statement, each key once."""
    once = list(dict.fromkeys(keys))
    for start in range(0, len(once), _CHUNK):
        yield once[start : start + _CHUNK]
