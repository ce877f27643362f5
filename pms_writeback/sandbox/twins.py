"""Computed fields of a row: text twins of foreign keys, sums and paths that no table stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pms_writeback.sandbox.catalog import Operation
from pms_writeback.sandbox.store import Chart, Row, Value
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.wire import Shaped, shape

CATEGORY_NAMES = {
    2: "ApptConfirmed",
    4: "BillingTypes",
    11: "ProcCodeCats",
    13: "RecallUnschedStatus",
    16: "Diagnosis",
    18: "ImageCats",
    20: "TxPriorities",
    27: "CommLogTypes",
    25: "BlockoutTypes",
    30: "Prognosis",
    31: "ClaimCustomTracking",
    33: "TaskPriorities",
    35: "ProviderSpecialties",
    36: "ClaimPaymentTracking",
    38: "InsuranceVerificationStatus",
}
"""Definition categories the sandbox's office uses: number to name."""


def show(chart: Chart, operation: Operation, row: Row) -> Shaped:
    """Shape one stored row as `operation` answers it, computed fields included."""
    values: dict[str, str | int | float | list[int]] = dict(row)
    for name in operation.row:
        twin = _TWINS.get((operation.resource, name)) or _TWINS.get(("*", name))
        if twin is not None:
            values[name] = twin(chart, row)
    return shape(operation.row, values)


Twin = Callable[[Chart, Row], Value | list[int]]


def _lookup(resource: str, column: str, source: str) -> Twin:
    def twin(chart: Chart, row: Row) -> Value:
        found = chart.get(resource, int(row.get(source, 0) or 0))
        return "" if found is None else found[column]

    return twin


def _server_time(chart: Chart, _row: Row) -> str:
    return chart.stamp


def _category(_chart: Chart, row: Row) -> str:
    return CATEGORY_NAMES.get(int(row["Category"]), "")


def procedures_text(chart: Chart, row: Row) -> str:
    """List the abbreviations of an appointment's procedures, as the schedule shows them."""
    table = TABLES["procedurelogs"]
    done = chart.select(
        "procedurelogs", table.c.AptNum == int(row["AptNum"]), table.c.ProcStatus != "D"
    )
    codes = (chart.get("procedurecodes", int(each["CodeNum"])) for each in done)
    return ", ".join(str(code["AbbrDesc"]) for code in codes if code is not None)


def _file_path(_chart: Chart, row: Row) -> str:
    name = str(row.get("FileName", ""))
    if name in ("", "x", "xx"):
        return ""
    return f"\\\\SANDBOX\\OpenDentImages\\{row['PatNum']}\\{name}"


def _rooms(chart: Chart, row: Row) -> str:
    """List the operatories of a schedule block, comma separated."""
    found = chart.select(
        "scheduleops", TABLES["scheduleops"].c.ScheduleNum == int(row["ScheduleNum"])
    )
    return ",".join(str(each["OperatoryNum"]) for each in found)


def _is_patient(_chart: Chart, row: Row) -> str:
    return "true" if int(row.get("PatNum", 0) or 0) else "false"


def _groups(_chart: Chart, _row: Row) -> list[int]:
    return [1]


_DEFINITION = {
    ("appointments", "confirmed"): "Confirmed",
    ("appointments", "unschedStatus"): "UnschedStatus",
    ("histappointments", "confirmed"): "Confirmed",
    ("histappointments", "unschedStatus"): "UnschedStatus",
    ("procedurelogs", "dxName"): "Dx",
    ("procedurelogs", "priority"): "Priority",
    ("procedurecodes", "procCat"): "ProcCat",
    ("documents", "docCategory"): "DocCategory",
    ("commlogs", "commType"): "CommType",
    ("operatories", "operatoryType"): "OperatoryType",
    ("treatplanattaches", "priority"): "Priority",
    ("proctps", "priority"): "Priority",
    ("recalls", "recallStatus"): "RecallStatus",
    ("claims", "customTracking"): "CustomTracking",
    ("claimprocs", "claimPaymentTracking"): "ClaimPaymentTracking",
    ("referrals", "specialty"): "Specialty",
    ("schedules", "blockoutType"): "BlockoutType",
}
_TWINS: Mapping[tuple[str, str], Twin] = {
    **{field: _lookup("definitions", "ItemName", source) for field, source in _DEFINITION.items()},
    ("*", "serverDateTime"): _server_time,
    ("*", "provAbbr"): _lookup("providers", "Abbr", "ProvNum"),
    ("*", "clinicAbbr"): _lookup("clinics", "Abbr", "ClinicNum"),
    ("patients", "priProvAbbr"): _lookup("providers", "Abbr", "PriProv"),
    ("patients", "secProvAbbr"): _lookup("providers", "Abbr", "SecProv"),
    ("procedurelogs", "procCode"): _lookup("procedurecodes", "ProcCode", "CodeNum"),
    ("procedurelogs", "descript"): _lookup("procedurecodes", "Descript", "CodeNum"),
    ("definitions", "category"): _category,
    ("appointments", "ProcDescript"): procedures_text,
    ("histappointments", "ProcDescript"): procedures_text,
    ("documents", "filePath"): _file_path,
    ("userods", "providerName"): _lookup("providers", "Abbr", "ProviderNum"),
    ("userods", "userGroupNums"): _groups,
    ("benefits", "procCode"): _lookup("procedurecodes", "ProcCode", "CodeNum"),
    ("diseases", "diseaseDefName"): _lookup("diseasedefs", "DiseaseName", "DiseaseDefNum"),
    ("refattaches", "referralName"): _lookup("referrals", "LName", "ReferralNum"),
    ("schedules", "operatories"): _rooms,
    ("referrals", "isPatient"): _is_patient,
}

NOUNS = {
    "patients": "Patient",
    "appointments": "Appointment",
    "histappointments": "HistAppointment",
    "operatories": "Operatory",
    "providers": "Provider",
    "clinics": "Clinic",
    "userods": "Userod",
    "definitions": "Definition",
    "preferences": "Preference",
    "procedurecodes": "ProcedureCode",
    "procedurelogs": "Procedure",
    "procnotes": "ProcNote",
    "documents": "Document",
    "toothinitials": "ToothInitial",
    "commlogs": "Commlog",
    "tasklists": "TaskList",
    "tasks": "Task",
    "tasknotes": "TaskNote",
    "carriers": "Carrier",
    "allergies": "Allergy",
    "allergydefs": "AllergyDef",
    "diseases": "Disease",
    "diseasedefs": "DiseaseDef",
    "medicationpats": "MedicationPat",
    "medications": "Medication",
    "schedules": "Schedule",
    "scheduleops": "ScheduleOp",
    "appointmenttypes": "AppointmentType",
    "treatplans": "TreatPlan",
    "treatplanattaches": "TreatPlanAttach",
    "proctps": "ProcTP",
    "perioexams": "PerioExam",
    "periomeasures": "PerioMeasure",
    "recalltypes": "RecallType",
    "recalls": "Recall",
    "claims": "Claim",
    "claimprocs": "ClaimProc",
    "claimtrackings": "ClaimTracking",
    "laboratories": "Laboratory",
    "labturnarounds": "LabTurnaround",
    "labcases": "LabCase",
    "referrals": "Referral",
    "refattaches": "RefAttach",
    "insplans": "InsPlan",
    "inssubs": "InsSub",
    "patplans": "PatPlan",
    "benefits": "Benefit",
    "covcats": "CovCat",
    "insverifies": "InsVerify",
    "subscriptions": "Subscription",
    "patfields": "PatField",
    "patfielddefs": "PatFieldDef",
    "popups": "Popup",
}
"""What "… not found" calls a row of each resource."""
