"""What rows of people, rooms and visits mean in every bridged system.

Flags of inactive people are not public: a person counts as active until the table no longer shows
them. The rest of what is not public is read where a site or the sandbox names it (`fields.extra`).
"""

from __future__ import annotations

from datetime import datetime

from pms_writeback.bridge.fields import day, extra, whole, words
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.pms import (
    AppointmentStatus,
    PatientStatus,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProvider,
)


def read_patient(row: TableRow) -> PmsPatient:
    """Read a person; one that is gone counts as deleted."""
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


def read_provider(row: TableRow, national_id: str) -> PmsProvider:
    """Read a provider, whose key is a short word; `national_id` is the column of the NPI."""
    return PmsProvider(
        key=row.key,
        abbreviation=row.key,
        family_name=extra(row, "last_name"),
        given_name=extra(row, "first_name"),
        is_hidden=False,
        is_secondary=False,
        national_provider_id=words(row, national_id),
        changed_at=row.changed_at,
    )


def read_operatory(row: TableRow) -> PmsOperatory:
    """Read a room, which only a sandbox or a licensed site shows."""
    name = words(row, "name")
    return PmsOperatory(row.key, name, name, False, "", "", "")


def read_visit(
    row: TableRow, starts_at: datetime | None, provider_key: str, *, is_done: bool
) -> PmsAppointment:
    """Read a visit that begins at `starts_at` (UTC); one that is not done counts as scheduled."""
    return PmsAppointment(
        key=row.key,
        patient_key=words(row, "patient_id"),
        starts_at=starts_at,
        minutes=whole(extra(row, "minutes")),
        status=AppointmentStatus.COMPLETE if is_done else AppointmentStatus.SCHEDULED,
        operatory_key=extra(row, "operatory_id"),
        provider_key=provider_key,
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
