"""What Dentrix's rows mean.

Only ``completed`` is publicly known of the status values; any other visit of the view counts as
scheduled. Without a licensed column for it the time of day is unknown and a visit begins at
midnight of its day. Flags of inactive people are not public: a person counts as active until the
view no longer shows them.
"""

from __future__ import annotations

from datetime import datetime, time

from pms_writeback.bridge.fields import day, extra, moment, whole, words
from pms_writeback.bridge.office import TableNames
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.dentrix import views
from pms_writeback.pms import (
    AppointmentStatus,
    OfficeTime,
    PatientStatus,
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
        sex = extra(row, "sex").upper()[:1]
        return PmsPatient(
            key=row.key,
            family_name=words(row, "last_name"),
            given_name=words(row, "first_name"),
            middle_name="",
            preferred_name="",
            birth_date=day(words(row, "birth_date")),
            sex=sex if sex in ("M", "F", "O") else "",
            status=PatientStatus.DELETED if row.is_gone else PatientStatus.ACTIVE,
            chart_number="",
            provider_key="",
            clinic_key="",
            language="",
            changed_at=row.changed_at,
        )

    def appointment(self, row: TableRow) -> PmsAppointment:
        """Read ``v_appt``."""
        is_done = whole(words(row, "status_id")) in views.COMPLETED
        starts_at = _start(words(row, "appointment_date"), extra(row, "start_time"))
        return PmsAppointment(
            key=row.key,
            patient_key=words(row, "patient_id"),
            starts_at=self._office.to_utc(starts_at) if starts_at else None,
            minutes=whole(extra(row, "minutes")),
            status=AppointmentStatus.COMPLETE if is_done else AppointmentStatus.SCHEDULED,
            operatory_key=extra(row, "operatory_id"),
            provider_key=words(row, "provider_id"),
            hygienist_key="",
            clinic_key="",
            is_hygiene=False,
            is_new_patient=False,
            procedures_text=extra(row, "procedures"),
            note="",
            confirmation=extra(row, "confirmation"),
            arrived_at=None,
            changed_at=row.changed_at,
        )

    def provider(self, row: TableRow) -> PmsProvider:
        """Read ``v_provider``; its keys are short words such as "DDS1"."""
        return PmsProvider(
            key=row.key,
            abbreviation=row.key,
            family_name=extra(row, "last_name"),
            given_name=extra(row, "first_name"),
            is_hidden=False,
            is_secondary=False,
            national_provider_id=words(row, "npi"),
            changed_at=row.changed_at,
        )

    def operatory(self, row: TableRow) -> PmsOperatory:
        """Read a room of the sandbox."""
        name = words(row, "name")
        return PmsOperatory(row.key, name, name, False, "", "", "")

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
