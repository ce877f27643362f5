"""What Eaglesoft's rows mean.

A visit with a walk-out time is complete. A planned service names its visit, and through it the
patient; two of one code in one visit are one row here, because no public column tells them apart.
"""

from __future__ import annotations

from pms_writeback.bridge.fields import day, extra, moment, words
from pms_writeback.bridge.office import TableNames
from pms_writeback.bridge.people import (
    read_operatory,
    read_patient,
    read_provider,
    read_visit,
)
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.eaglesoft import tables
from pms_writeback.pms import (
    OfficeTime,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
)


class EaglesoftShapes:
    """Eaglesoft; see `pms_writeback.bridge.office.Shapes`."""

    product = "Eaglesoft"
    tables = TableNames(
        patients=tables.PATIENT.name,
        appointments=tables.APPOINTMENT.name,
        providers=tables.PROVIDER.name,
        operatories=tables.OPERATORY.name,
        procedures=tables.PLANNED_SERVICE.name,
    )

    def __init__(self, office: OfficeTime) -> None:
        self._office = office

    def patient(self, row: TableRow) -> PmsPatient:
        """Read ``patient``."""
        return read_patient(row)

    def appointment(self, row: TableRow) -> PmsAppointment:
        """Read ``appointment``."""
        starts_at = moment(words(row, "start_time"))
        begin = self._office.to_utc(starts_at) if starts_at else None
        is_done = bool(words(row, "walkout_time"))
        return read_visit(row, begin, extra(row, "provider_id"), is_done=is_done)

    def provider(self, row: TableRow) -> PmsProvider:
        """Read ``provider``; its keys are padded characters, trimmed here."""
        return read_provider(row, "national_prov_id")

    def operatory(self, row: TableRow) -> PmsOperatory:
        """Read a room of the sandbox."""
        return read_operatory(row)

    def procedure(self, row: TableRow, visit: TableRow | None) -> PmsProcedure:
        """Read ``planned_services``; the visit tells whose it is and whether it was done."""
        status = ProcedureStatus.TREATMENT_PLANNED
        if row.is_gone:
            status = ProcedureStatus.DELETED
        elif visit is not None and words(visit, "walkout_time"):
            status = ProcedureStatus.COMPLETE
        return PmsProcedure(
            key=row.key,
            patient_key=words(visit, "patient_id") if visit else "",
            appointment_key=self.visit_key(row),
            cdt_code=words(row, "service_code"),
            description=extra(row, "description"),
            status=status,
            tooth=extra(row, "tooth"),
            surfaces="",
            tooth_range="",
            day=day(words(row, "date_planned")),
            provider_key="",
            clinic_key="",
            changed_at=row.changed_at,
        )

    def visit_key(self, row: TableRow) -> str:
        """Give the visit of a planned service."""
        return words(row, "appt_id")
