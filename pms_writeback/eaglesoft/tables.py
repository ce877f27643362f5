"""The tables of Eaglesoft whose names and columns are publicly known, and no others.

Source: public client code of authorised integrators. Rooms, lengths, notes, documents, charts and
every write are documented under licence only.
"""

from __future__ import annotations

from dataclasses import replace

from pms_writeback.bridge.driver import Table

PATIENT = Table(
    "patient",
    keys=("patient_id",),
    columns=("patient_id", "first_name", "last_name", "birth_date"),
    is_heavy=True,
)
APPOINTMENT = Table(
    "appointment",
    keys=("appointment_id",),
    columns=("appointment_id", "start_time", "patient_id", "date_appointed", "walkout_time"),
    day_column="start_time",
)
PLANNED_SERVICE = Table(
    "planned_services",
    keys=("appt_id", "service_code"),
    columns=("appt_id", "service_code", "date_planned"),
    day_column="date_planned",
)
PROVIDER = Table(
    "provider",
    keys=("provider_id",),
    columns=("provider_id", "national_prov_id"),
    is_heavy=True,
)
PUBLIC = (PATIENT, APPOINTMENT, PLANNED_SERVICE, PROVIDER)
VERSION_QUERY = "SELECT version FROM system_preferences"

# The sandbox's own additions; none of these names is the vendor's.
OPERATORY = Table(
    "x_sandbox_operatory",
    keys=("operatory_id",),
    columns=("operatory_id", "name"),
    is_heavy=True,
)
_EXTRAS = {
    PATIENT: ("x_sandbox_sex",),
    APPOINTMENT: (
        "x_sandbox_minutes",
        "x_sandbox_operatory_id",
        "x_sandbox_provider_id",
        "x_sandbox_confirmation",
    ),
    PLANNED_SERVICE: ("x_sandbox_description", "x_sandbox_tooth"),
    PROVIDER: ("x_sandbox_first_name", "x_sandbox_last_name"),
}
SANDBOX = (
    *(replace(table, columns=(*table.columns, *_EXTRAS[table])) for table in PUBLIC),
    OPERATORY,
)
