"""The views of Dentrix G-series whose names and columns are publicly known, and no others.

Source: public client code against the vendor's licensed read interface. Times of day, rooms,
procedures, notes, documents and every write are documented under licence only.
"""

from __future__ import annotations

from dataclasses import replace

from pms_writeback.bridge.driver import Table

PATIENT = Table(
    "admin.v_patient",
    keys=("patient_id",),
    columns=("patient_id", "patient_guid", "first_name", "last_name", "birth_date"),
    is_heavy=True,
)
APPOINTMENT = Table(
    "admin.v_appt",
    keys=("appointment_id",),
    columns=("appointment_id", "patient_id", "appointment_date", "provider_id", "status_id"),
    day_column="appointment_date",
)
PROVIDER = Table(
    "admin.v_provider", keys=("provider_id",), columns=("provider_id", "npi"), is_heavy=True
)
PUBLIC = (PATIENT, APPOINTMENT, PROVIDER)

COMPLETED = (150, -106)
"""Values of ``status_id`` that mean a finished visit."""

# The sandbox's own additions; none of these names is the vendor's.
OPERATORY = Table(
    "admin.x_sandbox_operatory",
    keys=("operatory_id",),
    columns=("operatory_id", "name"),
    is_heavy=True,
)
PROCEDURE = Table(
    "admin.x_sandbox_procedure",
    keys=("procedure_id",),
    columns=(
        "procedure_id",
        "patient_id",
        "appointment_id",
        "code",
        "description",
        "status",
        "tooth",
        "surfaces",
        "day",
        "provider_id",
    ),
    day_column="day",
)
_EXTRAS = {
    PATIENT: ("x_sandbox_sex",),
    APPOINTMENT: (
        "x_sandbox_start_time",
        "x_sandbox_minutes",
        "x_sandbox_operatory_id",
        "x_sandbox_procedures",
        "x_sandbox_confirmation",
    ),
    PROVIDER: ("x_sandbox_first_name", "x_sandbox_last_name"),
}
SANDBOX = (
    *(replace(table, columns=(*table.columns, *_EXTRAS[table])) for table in PUBLIC),
    OPERATORY,
    PROCEDURE,
)
