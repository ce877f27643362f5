"""Writes about a patient's care: history, perio, recalls, treatment plans, labs and referrals."""

from __future__ import annotations

import re

from pms_writeback.sandbox.rules import (
    add_row,
    change_row,
    created,
    refuse_deleted,
    refuse_missing,
    stored,
)
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

_INTERVAL = re.compile(r"(?=.)(\d+y)?(\d+m)?(\d+w)?(\d+d)?")
_SITES = ("MBvalue", "Bvalue", "DBvalue", "MLvalue", "Lvalue", "DLvalue")
_WHOLE_TOOTH = ("Mobility", "SkipTooth")


def add_allergy(chart: Chart, call: Call) -> Answer:
    """Add an allergy, by its definition's number or by its text."""
    if not call.number("AllergyDefNum") and not call.text("defDescription"):
        raise Refusal(400, "AllergyDefNum or defDescription is required")
    return _add(chart, call, {"StatusIsActive": "true"})


def add_disease(chart: Chart, call: Call) -> Answer:
    """Add a problem, by its definition's number or name; the name must be one of the office's."""
    number = call.number("DiseaseDefNum")
    if not number:
        names = TABLES["diseasedefs"].c.DiseaseName
        found = chart.select("diseasedefs", names == call.text("diseaseDefName"))
        if not found:
            raise Refusal(404, "DiseaseDef not found")
        number = int(found[0]["DiseaseDefNum"])
    return _add(chart, call, {"ProbStatus": "Active"}, {"DiseaseDefNum": number})


def add_perio_exam(chart: Chart, call: Call) -> Answer:
    """Add the head of a perio exam; measures follow one by one."""
    return _add(
        chart, call, {"ExamDate": chart.stamp[:10], "ProvNum": 1, "DateTMeasureEdit": chart.stamp}
    )


def add_perio_measure(chart: Chart, call: Call) -> Answer:
    """Add the measures of one tooth and sequence; a second row for the same is refused."""
    refuse_missing(chart, call)
    columns = TABLES["periomeasures"].c
    exam, kind = call.number("PerioExamNum"), call.text("SequenceType")
    if chart.get("perioexams", exam) is None:
        raise Refusal(404, "PerioExam not found")
    if not 1 <= call.number("IntTooth") <= 32:
        raise Refusal(400, "IntTooth is invalid.")
    same = chart.select(
        "periomeasures",
        columns.PerioExamNum == exam,
        columns.IntTooth == call.number("IntTooth"),
        columns.SequenceType == kind,
    )
    if same:
        raise Refusal(400, "A PerioMeasure with this tooth and SequenceType already exists.")
    _check_range(call, kind)
    blank: Row = dict.fromkeys((*_SITES, "ToothValue"), -1)
    row = chart.add("periomeasures", {**blank, **stored(call)})
    chart.change("perioexams", exam, {"DateTMeasureEdit": chart.stamp})
    return created(chart, call, row)


def _check_range(call: Call, kind: str) -> None:
    names = ("ToothValue",) if kind in _WHOLE_TOOTH else _SITES
    highest = 15 if kind == "BleedSupPlaqCalc" else 19
    for name in names:
        value = int(call.given.get(name, -1))
        is_above_cej = kind == "GingMargin" and 101 <= value <= 119
        if not (-1 <= value <= highest or is_above_cej):
            raise Refusal(400, f"{name} is invalid.")


def add_recall(chart: Chart, call: Call) -> Answer:
    """Add a recall; a patient has at most one of each type. Documented with status 200."""
    columns = TABLES["recalls"].c
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    same = chart.select(
        "recalls",
        columns.PatNum == call.number("PatNum"),
        columns.RecallTypeNum == call.number("RecallTypeNum"),
    )
    if same:
        raise Refusal(400, "A recall of this type already exists for this patient.")
    kind = chart.get("recalltypes", call.number("RecallTypeNum"))
    if kind is None:
        raise Refusal(404, "RecallType not found")
    interval = call.text("RecallInterval") or str(kind["DefaultInterval"])
    if not _INTERVAL.fullmatch(interval):
        raise Refusal(400, "RecallInterval is invalid.")
    row = chart.add("recalls", {"Priority": "Normal", **stored(call), "RecallInterval": interval})
    return Answer(200, show(chart, call.operation, row))


def set_recall_status(chart: Chart, call: Call) -> Answer:
    """Set the status of a patient's prophy or perio recall and log the contact."""
    refuse_missing(chart, call)
    types = TABLES["recalltypes"].c
    found = chart.select("recalltypes", types.Description == call.text("recallType"))
    columns = TABLES["recalls"].c
    recalls = chart.select(
        "recalls",
        columns.PatNum == call.number("PatNum"),
        columns.RecallTypeNum == (int(found[0]["RecallTypeNum"]) if found else 0),
    )
    if not recalls:
        raise Refusal(404, "Recall not found")
    if "RecallStatus" in call.given:
        chart.change(
            "recalls",
            int(recalls[0]["RecallNum"]),
            {"RecallStatus": call.number("RecallStatus")},
        )
    chart.add(
        "commlogs",
        {
            "PatNum": call.number("PatNum"),
            "CommDateTime": chart.stamp,
            "Note": call.text("commlogNote") or "Recall reminder.",
            "Mode_": call.text("commlogMode") or "None",
            "SentOrReceived": "Sent",
            "CommSource": "API",
        },
    )
    return Answer(200)


def add_treatment_plan(chart: Chart, call: Call) -> Answer:
    """Add an inactive treatment plan."""
    return _add(
        chart,
        call,
        {"TPStatus": "Inactive", "TPType": "Insurance", "DateTP": chart.stamp[:10]},
    )


def add_lab_case(chart: Chart, call: Call) -> Answer:
    """Add a lab case; its appointment must be scheduled, its planned one planned."""
    _check_lab_visits(chart, call, call.number("PatNum"))
    return _add(chart, call, {"DateTimeCreated": chart.stamp})


def change_lab_case(chart: Chart, call: Call) -> Answer:
    """Update a lab case under the same rules."""
    row = chart.get("labcases", call.key or 0)
    _check_lab_visits(chart, call, int(row["PatNum"]) if row else 0)
    return change_row(chart, call)


def _check_lab_visits(chart: Chart, call: Call, patient: int) -> None:
    for name, status in (("AptNum", "Scheduled"), ("PlannedAptNum", "Planned")):
        key = call.number(name)
        row = chart.get("appointments", key) if key else None
        if key and (row is None or row["AptStatus"] != status or row["PatNum"] != patient):
            raise Refusal(400, f"{name} must be a {status} appointment of this patient.")


def add_referral_event(chart: Chart, call: Call) -> Answer:
    """Refer a patient; a name that nobody has makes a new entry in the directory, as there."""
    number, name = call.number("ReferralNum"), call.text("referralName")
    if not number and not name:
        raise Refusal(400, "ReferralNum or referralName is required")
    if not number:
        found = chart.select("referrals", TABLES["referrals"].c.LName == name)
        row = found[0] if found else chart.add("referrals", {"LName": name})
        number = int(row["ReferralNum"])
    fixed: Row = {"ReferralNum": number}
    defaults: Row = {
        "ReferralType": "RefFrom",
        "RefToStatus": "None",
        "RefDate": chart.stamp[:10],
    }
    return _add(chart, call, defaults, fixed)


def set_patient_field(chart: Chart, call: Call) -> Answer:
    """Set one field of a patient; the office must have defined it, case counts."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    name = call.text("FieldName")
    defined = chart.select("patfielddefs", TABLES["patfielddefs"].c.FieldName == name)
    if not defined:
        raise Refusal(404, "PatFieldDef not found")
    columns = TABLES["patfields"].c
    same = chart.select(
        "patfields", columns.PatNum == call.number("PatNum"), columns.FieldName == name
    )
    if not same:
        return add_row(chart, call)
    if call.operation.method == "POST":
        raise Refusal(400, "PatField already exists.")
    row = chart.change("patfields", int(same[0]["PatFieldNum"]), stored(call))
    return Answer(200, show(chart, call.operation, row))


def _add(chart: Chart, call: Call, defaults: Row, fixed: Row | None = None) -> Answer:
    """Create a row of a patient with the office's defaults under what was given."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    values = {**defaults, **stored(call), **(fixed or {})}
    return created(chart, call, chart.add(call.operation.resource, values))


def subscribe(chart: Chart, call: Call) -> Answer:
    """Subscribe to the changes of a table or to an event of the program's windows."""
    if bool(call.text("WatchTable")) == bool(call.text("UiEventType")):
        raise Refusal(400, "Exactly one of WatchTable or UiEventType is required")
    if call.text("WatchTable") and call.text("WatchTable") not in WATCH_TABLES:
        raise Refusal(400, "WatchTable is invalid.")
    defaults: Row = {"DateTimeStart": chart.stamp, "PollingSeconds": 30}
    row = chart.add("subscriptions", {**defaults, **stored(call)})
    return created(chart, call, row)


WATCH_TABLES = frozenset(
    {
        *("Appointment", "AppointmentDeleted", "Patient", "PatField", "Operatory", "Provider"),
        *("Schedule", "ToothInitial"),
    }
)
"""Tables whose changes can be subscribed to."""
