"""NexHealth rows as the values of the PMS contract. Times carry their offset; none is local."""

from __future__ import annotations

from datetime import UTC, date, datetime

from node.errors import Rejected
from pms_writeback.curve.connection import Row
from pms_writeback.pms import (
    AppointmentStatus,
    PatientStatus,
    PmsAppointment,
    PmsContact,
    PmsOperatory,
    PmsPatient,
    PmsProvider,
)

_SEXES = {"male": "M", "female": "F", "other": "O"}


def patient(row: Row) -> PmsPatient:
    """Read a row of /patients."""
    bio = row.get("bio")
    person = bio if isinstance(bio, dict) else {}
    is_active = not row.get("inactive") and not person.get("non_patient")
    return PmsPatient(
        key=key(row, "id"),
        family_name=text(row, "last_name").strip(),
        given_name=text(row, "first_name").strip(),
        middle_name=text(row, "middle_name").strip(),
        preferred_name="",
        birth_date=_day(text(person, "date_of_birth")),
        sex=_SEXES.get(text(person, "gender").lower(), ""),
        status=PatientStatus.ACTIVE if is_active else PatientStatus.INACTIVE,
        chart_number=text(row, "foreign_id"),
        provider_key=text(row, "provider_id"),
        clinic_key="",
        language="",
        changed_at=moment(row, "updated_at"),
        contact=PmsContact(
            email=text(row, "email").strip(),
            mobile=text(person, "cell_phone_number").strip(),
            # the service tells who unsubscribed, not who agreed
            text_allowed="no" if row.get("unsubscribe_sms") else "",
            guarantor_key=text(row, "guarantor_id"),
        ),
    )


def appointment(row: Row) -> PmsAppointment:
    """Read a row of /appointments."""
    start, end = moment(row, "start_time"), moment(row, "end_time")
    minutes = round((end - start).total_seconds() / 60) if start and end else 0
    return PmsAppointment(
        key=key(row, "id"),
        patient_key=key(row, "patient_id"),
        starts_at=start,
        minutes=max(0, minutes),
        status=_status(row),
        operatory_key=text(row, "operatory_id"),
        provider_key=text(row, "provider_id"),
        hygienist_key="",
        clinic_key="",
        is_hygiene=False,
        is_new_patient=bool(row.get("is_new_clients_patient")),
        procedures_text="",
        note=text(row, "note"),
        confirmation="confirmed" if row.get("confirmed") else "",
        arrived_at=moment(row, "checkin_at"),
        changed_at=moment(row, "updated_at"),
    )


def is_visit(row: Row) -> bool:
    """Tell a patient's visit from a blocked time, which comes as an appointment as well."""
    return not row.get("unavailable") and row.get("patient_id") is not None


def operatory(row: Row) -> PmsOperatory:
    """Read a row of /operatories."""
    return PmsOperatory(
        key=key(row, "id"),
        name=text(row, "name"),
        abbreviation=text(row, "display_name"),
        is_hidden=row.get("active") is False,
        dentist_key="",
        hygienist_key="",
        clinic_key="",
    )


def provider(row: Row) -> PmsProvider:
    """Read a row of /providers."""
    return PmsProvider(
        key=key(row, "id"),
        abbreviation=text(row, "display_name") or text(row, "last_name")[:12],
        family_name=text(row, "last_name"),
        given_name=text(row, "first_name"),
        is_hidden=bool(row.get("inactive")),
        is_secondary=False,
        national_provider_id=text(row, "npi"),
        changed_at=moment(row, "updated_at"),
    )


def key(row: Row, name: str) -> str:
    """Read a key; raises Rejected when there is none."""
    found = text(row, name)
    if not found:
        raise Rejected(f"a row of NexHealth has no {name}")
    return found


def text(row: Row, name: str) -> str:
    """Read a text; empty for none."""
    value = row.get(name)
    return "" if value is None else str(value)


def moment(row: Row, name: str) -> datetime | None:
    """Read an instant with its offset; None for none or an unreadable one."""
    try:
        found = datetime.fromisoformat(text(row, name))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None


def _status(row: Row) -> AppointmentStatus:
    if row.get("deleted") or row.get("cancelled"):
        return AppointmentStatus.BROKEN
    if row.get("patient_missed"):
        return AppointmentStatus.BROKEN
    return AppointmentStatus.SCHEDULED
