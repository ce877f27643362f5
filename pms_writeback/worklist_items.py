"""The worklist that follows from the synced appointments, and what differs in it.

A closed item is kept: a sensor may still send back the ids that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from node.config import Config
from node.db.session import new_id
from node.db.tables import appointment, operatory, patient, procedure, worklist_item
from node.domain import schedule
from node.domain.schedule import Station, Step, Visit
from pms_writeback.changes import Changes, Row, bounds, chunks, difference
from pms_writeback.pms import AppointmentStatus, ProcedureStatus
from pms_writeback.schedule_rows import PracticeReading

_ON_THE_VISIT = (ProcedureStatus.TREATMENT_PLANNED.value, ProcedureStatus.COMPLETE.value)


class WorklistItems:
    """Compares the appointments of one location with its worklist."""

    def __init__(self, config: Config) -> None:
        self._location_id = config.node.location_id
        self._zone = config.zone
        self._default_ae_title = config.dicom.default_station_ae_title
        self._stations = tuple(
            Station(each.operatory, each.ae_title, each.modality) for each in config.dicom.stations
        )

    def compare(self, conn: sa.Connection, reading: PracticeReading, changes: Changes) -> Changes:
        """Find what differs in the worklist once `changes` are applied."""
        affected = self._affected(conn, reading, changes)
        rooms = self._rooms(conn)
        found = Changes()
        for chunk in chunks(affected):
            visits = self._visits(conn, chunk, rooms)
            items = self._items(conn, [str(row["id"]) for row, _ in visits])
            for row, visit in visits:
                self._compare_item(row, visit, items.get(str(row["id"]), {}), found)
        return found

    def _affected(
        self, conn: sa.Connection, reading: PracticeReading, changes: Changes
    ) -> list[str]:
        """Keys of the appointments whose worklist items may differ."""
        keys = set(changes.keys(appointment))
        procedures = changes.keys(procedure)
        keys |= {each.appointment_key for each in reading.procedures if each.key in procedures}
        condition: list[sa.ColumnElement[bool]] = [
            patient.c.pms_key.in_(chunk) for chunk in chunks(changes.keys(patient))
        ]
        if reading.is_whole_window and reading.window is not None:
            start, end = bounds(reading.window, self._zone)
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
            elif different := difference(item, values):
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
