"""The sandbox's tables: one a resource, columns taken from the catalogue's row fields.

Computed fields (text twins of foreign keys, ``serverDateTime``) are not stored; `twins` adds them.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from pms_writeback.sandbox.catalog import operations

SCHEMA = 1
"""Raised when a stored column changes its meaning; kept in SQLite's ``user_version``."""

KEYS = {
    "patients": "PatNum",
    "appointments": "AptNum",
    "histappointments": "HistApptNum",
    "operatories": "OperatoryNum",
    "providers": "ProvNum",
    "clinics": "ClinicNum",
    "userods": "UserNum",
    "definitions": "DefNum",
    "preferences": "PrefNum",
    "procedurecodes": "CodeNum",
    "procedurelogs": "ProcNum",
    "procnotes": "ProcNoteNum",
    "documents": "DocNum",
    "toothinitials": "ToothInitialNum",
    "commlogs": "CommlogNum",
    "tasklists": "TaskListNum",
    "tasks": "TaskNum",
    "tasknotes": "TaskNoteNum",
    "carriers": "CarrierNum",
    "allergies": "AllergyNum",
    "allergydefs": "AllergyDefNum",
    "diseases": "DiseaseNum",
    "diseasedefs": "DiseaseDefNum",
    "medicationpats": "MedicationPatNum",
    "medications": "MedicationNum",
    "schedules": "ScheduleNum",
    "scheduleops": "ScheduleOpNum",
    "appointmenttypes": "AppointmentTypeNum",
    "treatplans": "TreatPlanNum",
    "treatplanattaches": "TreatPlanAttachNum",
    "proctps": "ProcTPNum",
    "perioexams": "PerioExamNum",
    "periomeasures": "PerioMeasureNum",
    "recalltypes": "RecallTypeNum",
    "recalls": "RecallNum",
    "claims": "ClaimNum",
    "claimprocs": "ClaimProcNum",
    "claimtrackings": "ClaimTrackingNum",
    "laboratories": "LaboratoryNum",
    "labturnarounds": "LabTurnaroundNum",
    "labcases": "LabCaseNum",
    "referrals": "ReferralNum",
    "refattaches": "RefAttachNum",
    "insplans": "PlanNum",
    "inssubs": "InsSubNum",
    "patplans": "PatPlanNum",
    "benefits": "BenefitNum",
    "covcats": "CovCatNum",
    "insverifies": "InsVerifyNum",
    "subscriptions": "SubscriptionNum",
    "patfields": "PatFieldNum",
    "patfielddefs": "PatFieldDefNum",
    "popups": "PopupNum",
}
"""Resource to its primary key."""

COMPUTED = frozenset(
    {
        *("serverDateTime", "confirmed", "unschedStatus", "provAbbr", "priProvAbbr", "secProvAbbr"),
        *("procCode", "procCat", "descript", "dxName", "priority", "docCategory", "commType"),
        *("category", "clinicAbbr", "siteDesc", "providerName", "employeeName", "emailAddress"),
        *("operatoryType", "userGroupNums", "filePath", "ProcDescript", "Password"),
        *("recallStatus", "customTracking", "claimPaymentTracking", "specialty", "blockoutType"),
        *("operatories", "diseaseDefName", "referralName", "isPatient"),
        "UserGroupNum",
    }
)
"""Row fields that are worked out when a row is shown."""

NO_DATE = "0001-01-01"
NO_DATETIME = "0001-01-01 00:00:00"

_DEFAULTS: dict[str, str] = {
    "int": "0",
    "int-string": "0",
    "number": "0",
    "decimal-string": "0.00",
    "bool-string": "false",
    "date": NO_DATE,
    "datetime": NO_DATETIME,
    "time": "00:00:00",
    "string": "",
}
_INDEXED = frozenset(
    {"PatNum", "AptNum", "ProcNum", "AptDateTime", "DateTStamp", "KeyNum"}
    | {"PerioExamNum", "ClaimNum", "TreatPlanNum", "InsSubNum", "PlanNum", "ScheduleNum"}
)


def _fields(resource: str) -> dict[str, str]:
    paths = {f"/{resource}", f"/{resource}/{{id}}", f"/{resource}/Simple", f"/{resource}/Upload"}
    fields: dict[str, str] = {}
    for operation in operations():
        if operation.path in paths:
            for name, kind in operation.row.items():
                fields.setdefault(name, kind)
    return {name: kind for name, kind in fields.items() if name not in COMPUTED}


FIELD_TYPES: dict[str, dict[str, str]] = {resource: _fields(resource) for resource in KEYS}
"""Resource to its stored fields and their JSON types."""

metadata = MetaData()


def _table(resource: str) -> Table:
    key = KEYS[resource]
    columns = [_column(name, kind) for name, kind in FIELD_TYPES[resource].items() if name != key]
    return Table(
        resource,
        metadata,
        Column(key, Integer, primary_key=True),
        *columns,
        sqlite_autoincrement=True,
    )


def _column(name: str, kind: str) -> Column[int] | Column[float] | Column[str]:
    default, index = _DEFAULTS[kind], name in _INDEXED
    if kind in ("int", "int-string"):
        return Column(name, Integer, nullable=False, server_default=default, index=index)
    if kind == "number":
        return Column(name, REAL, nullable=False, server_default=default)
    return Column(name, Text, nullable=False, server_default=default, index=index)


TABLES: dict[str, Table] = {resource: _table(resource) for resource in KEYS}

FILES = Table(
    "documentfiles",
    metadata,
    Column("DocNum", Integer, primary_key=True),
    Column("Extension", String, nullable=False),
    Column("Sha256", String, nullable=False),
    Column("Content", LargeBinary, nullable=False),
)
"""Bytes of uploaded documents; no API reads them, the sandbox's page does."""

PATIENT_LINKS = Table(
    "patientlink",
    metadata,
    Column("PatientLinkNum", Integer, primary_key=True),
    Column("PatNumFrom", Integer, nullable=False),
    Column("PatNumTo", Integer, nullable=False),
    Column("LinkType", Integer, nullable=False),
    Column("DateTimeLink", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Who was merged into whom (type 1); no resource lists it, only a query does."""
