"""Open Dental rows as the values of the PMS contract."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pms_writeback.opendental.rows import Fields
from pms_writeback.pms import (
    AppointmentStatus,
    OfficeTime,
    PatientStatus,
    PmsAppointment,
    PmsContact,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
)

MINUTES_A_CHARACTER = 5
"""Length of one character of an appointment's pattern."""

Stamp = Callable[[Fields, str], datetime | None]
"""Reads a change stamp as UTC by our clock."""

_PATIENT_STATUS = {
    "Patient": PatientStatus.ACTIVE,
    "Prospective": PatientStatus.ACTIVE,
    "NonPatient": PatientStatus.INACTIVE,
    "Inactive": PatientStatus.INACTIVE,
    "Archived": PatientStatus.INACTIVE,
    "Deceased": PatientStatus.INACTIVE,
    "Deleted": PatientStatus.DELETED,
}
_TEXTING = {"Yes": "yes", "No": "no"}
_APPOINTMENT_STATUS = {
    "Scheduled": AppointmentStatus.SCHEDULED,
    "ASAP": AppointmentStatus.SCHEDULED,
    "Complete": AppointmentStatus.COMPLETE,
    "Broken": AppointmentStatus.BROKEN,
    "Planned": AppointmentStatus.PLANNED,
    "UnschedList": AppointmentStatus.UNSCHEDULED,
    "None": AppointmentStatus.OTHER,
    "PtNote": AppointmentStatus.OTHER,
    "PtNoteCompleted": AppointmentStatus.OTHER,
}
_PROCEDURE_STATUS = {
    "TP": ProcedureStatus.TREATMENT_PLANNED,
    "TPi": ProcedureStatus.TREATMENT_PLANNED,
    "C": ProcedureStatus.COMPLETE,
    "EC": ProcedureStatus.EXISTING,
    "EO": ProcedureStatus.EXISTING,
    "R": ProcedureStatus.REFERRED,
    "Cn": ProcedureStatus.CONDITION,
    "D": ProcedureStatus.DELETED,
}
_SEXES = {"Male": "M", "Female": "F", "Other": "O"}


def patient(row: Fields, stamp: Stamp) -> PmsPatient:
    """Read a row of /patients or /patients/Simple."""
    return PmsPatient(
        key=row.own_key("PatNum"),
        family_name=row.text("LName").strip(),
        given_name=row.text("FName").strip(),
        middle_name=row.text("MiddleI").strip(),
        preferred_name=row.text("Preferred").strip(),
        birth_date=row.day("Birthdate"),
        sex=_SEXES.get(row.text("Gender"), ""),
        status=row.one_of("PatStatus", _PATIENT_STATUS, PatientStatus.OTHER),
        chart_number=row.text("ChartNumber"),
        provider_key=row.key("PriProv"),
        clinic_key=row.key("ClinicNum"),
        language=row.text("Language"),
        changed_at=stamp(row, "DateTStamp"),
        contact=PmsContact(
            email=row.text("Email").strip(),
            mobile=row.text("WirelessPhone").strip(),
            text_allowed=_TEXTING.get(row.text("TxtMsgOk"), ""),
            contact_method=row.text("PreferContactMethod"),
            recall_method=row.text("PreferRecallMethod"),
            guarantor_key=row.key("Guarantor"),
        ),
        # A birth date stays out of the operational tables even when it cannot be read.
        raw={name: value for name, value in row.odd.items() if name != "Birthdate"},
    )


def appointment(row: Fields, stamp: Stamp, office: OfficeTime) -> PmsAppointment:
    """Read a row of /appointments; its wall-clock times are the office's."""
    wall, arrived = row.moment("AptDateTime"), row.moment("DateTimeArrived")
    if arrived is not None and (arrived.hour, arrived.minute, arrived.second) == (0, 0, 0):
        arrived = None  # the program stores midnight for "not arrived"
    return PmsAppointment(
        key=row.own_key("AptNum"),
        patient_key=row.own_key("PatNum"),
        starts_at=None if wall is None else office.to_utc(wall),
        minutes=len(row.text("Pattern")) * MINUTES_A_CHARACTER,
        status=row.one_of("AptStatus", _APPOINTMENT_STATUS, AppointmentStatus.OTHER),
        operatory_key=row.key("Op"),
        provider_key=row.key("ProvNum"),
        hygienist_key=row.key("ProvHyg"),
        clinic_key=row.key("ClinicNum"),
        is_hygiene=row.flag("IsHygiene"),
        is_new_patient=row.flag("IsNewPatient"),
        procedures_text=row.text("ProcDescript"),
        note=row.text("Note"),
        confirmation=row.text("confirmed"),
        arrived_at=None if arrived is None else office.to_utc(arrived),
        changed_at=stamp(row, "DateTStamp"),
        raw=row.odd,
    )


def operatory(row: Fields) -> PmsOperatory:
    """Read a row of /operatories."""
    return PmsOperatory(
        key=row.own_key("OperatoryNum"),
        name=row.text("OpName"),
        abbreviation=row.text("Abbrev"),
        is_hidden=row.flag("IsHidden"),
        dentist_key=row.key("ProvDentist"),
        hygienist_key=row.key("ProvHygienist"),
        clinic_key=row.key("ClinicNum"),
    )


def provider(row: Fields, stamp: Stamp) -> PmsProvider:
    """Read a row of /providers; deleted ones are hidden for good."""
    return PmsProvider(
        key=row.own_key("ProvNum"),
        abbreviation=row.text("Abbr"),
        family_name=row.text("LName"),
        given_name=row.text("FName"),
        is_hidden=row.flag("IsHidden") or row.text("ProvStatus") == "Deleted",
        is_secondary=row.flag("IsSecondary"),
        national_provider_id=row.text("NationalProvID"),
        changed_at=stamp(row, "DateTStamp"),
    )


def procedure(row: Fields, stamp: Stamp) -> PmsProcedure:
    """Read a row of /procedurelogs; times of day are not read."""
    return PmsProcedure(
        key=row.own_key("ProcNum"),
        patient_key=row.own_key("PatNum"),
        appointment_key=row.key("AptNum"),
        cdt_code=row.text("procCode"),
        description=row.text("descript"),
        status=row.one_of("ProcStatus", _PROCEDURE_STATUS, ProcedureStatus.OTHER),
        tooth=row.text("ToothNum"),
        surfaces=row.text("Surf"),
        tooth_range=row.text("ToothRange"),
        day=row.day("ProcDate"),
        provider_key=row.key("ProvNum"),
        clinic_key=row.key("ClinicNum"),
        changed_at=stamp(row, "DateTStamp"),
        raw=row.odd,
    )
