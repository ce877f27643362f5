"""What Dentrix's rows mean.

Only ``completed`` is publicly known of the status values; any other visit of the view counts as
scheduled. Without a licensed column for it the time of day is unknown and a visit begins at
midnight of its day.
"""

from __future__ import annotations

from datetime import datetime, time

from pms_writeback.bridge.fields import day, extra, moment, whole, words
from pms_writeback.bridge.office import TableNames
from pms_writeback.bridge.people import (
    read_operatory,
    read_patient,
    read_provider,
    read_visit,
)
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.dentrix import views
from pms_writeback.pms import (
    OfficeTime,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
)


class DentrixShapes:
    """Dentrix G-series; see `pms_writeback.bridge.office.Shapes`."""

    product = "Dentrix"
    tables = TableNames(
        patients=views.PATIENT.name,
        appointments=views.APPOINTMENT.name,
        providers=views.PROVIDER.name,
        operatories=views.OPERATORY.name,
        procedures=views.PROCEDURE.name,
    )

    def __init__(self, office: OfficeTime) -> None:
        self._office = office

    def patient(self, row: TableRow) -> PmsPatient:
        """Read ``v_patient``."""
        return read_patient(row)

    def appointment(self, row: TableRow) -> PmsAppointment:
        """Read ``v_appt``."""
        is_done = whole(words(row, "status_id")) in views.COMPLETED
        starts_at = _start(words(row, "appointment_date"), extra(row, "start_time"))
        begin = self._office.to_utc(starts_at) if starts_at else None
        return read_visit(row, begin, words(row, "provider_id"), is_done=is_done)

    def provider(self, row: TableRow) -> PmsProvider:
        """Read ``v_provider``; its keys are short words such as "DDS1"."""
        return read_provider(row, "npi")

    def operatory(self, row: TableRow) -> PmsOperatory:
        """Read a room of the sandbox."""
        return read_operatory(row)

    def procedure(self, row: TableRow, visit: TableRow | None) -> PmsProcedure:
        """Read a chart line of the sandbox."""
        status = ProcedureStatus.DELETED if row.is_gone else _STATUSES.get(words(row, "status"))
        return PmsProcedure(
            key=row.key,
            patient_key=words(row, "patient_id"),
            appointment_key=self.visit_key(row),
            cdt_code=words(row, "code"),
            description=words(row, "description"),
            status=status or ProcedureStatus.OTHER,
            tooth=words(row, "tooth"),
            surfaces=words(row, "surfaces"),
            tooth_range="",
            day=day(words(row, "day")),
            provider_key=words(row, "provider_id"),
            clinic_key="",
            changed_at=row.changed_at,
        )

    def visit_key(self, row: TableRow) -> str:
        """Give the visit of a chart line of the sandbox."""
        return words(row, "appointment_id")


_STATUSES = {
    "planned": ProcedureStatus.TREATMENT_PLANNED,
    "complete": ProcedureStatus.COMPLETE,
    "existing": ProcedureStatus.EXISTING,
}


def _start(day_text: str, time_text: str) -> datetime | None:
    found = moment(day_text)
    if found is None:
        return None
    try:
        return datetime.combine(found, time.fromisoformat(time_text)) if time_text else found
    except ValueError:
        return found
