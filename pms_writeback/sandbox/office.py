"""Writes of the front office: commlogs, tasks and their notes, definitions."""

from __future__ import annotations

from pms_writeback.sandbox.rules import created, current, refuse_deleted, refuse_missing, stored
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import CATEGORY_NAMES, show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

COMMLOG_TYPES = 27
"""Category number of commlog types in /definitions."""


def add_commlog(chart: Chart, call: Call) -> Answer:
    """Add a communication entry; by default a phone call that the office made."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    values: Row = {
        "CommDateTime": chart.stamp,
        "Mode_": "Phone",
        "SentOrReceived": "Sent",
        "CommSource": "API",
        **stored(call),
    }
    if call.text("commType"):
        values["CommType"] = _commlog_type(chart, call.text("commType"))
    return created(chart, call, chart.add("commlogs", values))


def _commlog_type(chart: Chart, name: str) -> int:
    columns = TABLES["definitions"].c
    for row in chart.select("definitions", columns.Category == COMMLOG_TYPES):
        if str(row["ItemName"]).lower() == name.lower():
            return int(row["DefNum"])
    raise Refusal(400, "commType is invalid.")


def add_task(chart: Chart, call: Call) -> Answer:
    """Put a task on a list, linked to a patient or appointment."""
    refuse_missing(chart, call)
    _check_object(chart, call.text("ObjectType"), call.number("KeyNum"))
    values: Row = {
        "TaskStatus": "New",
        "ObjectType": "None",
        "DateType": "None",
        **stored(call),
        "DateTimeOriginal": chart.stamp,
    }
    return created(chart, call, chart.add("tasks", values))


def change_task(chart: Chart, call: Call) -> Answer:
    """Update a task; a new description turns a finished one back to viewed."""
    row = current(chart, call)
    values = stored(call)
    object_type = str(values.get("ObjectType", row["ObjectType"]))
    _check_object(chart, object_type, int(values.get("KeyNum", row["KeyNum"])))
    if row["TaskStatus"] == "Done" and "Descript" in values and "TaskStatus" not in values:
        values["TaskStatus"] = "Viewed"
    if values.get("TaskStatus") == "Done" and row["TaskStatus"] != "Done":
        values["DateTimeFinished"] = chart.stamp
    changed = chart.change("tasks", int(row["TaskNum"]), values)
    return Answer(200, show(chart, call.operation, changed))


def _check_object(chart: Chart, object_type: str, key: int) -> None:
    resource = {"Patient": "patients", "Appointment": "appointments"}.get(object_type)
    if resource is not None and chart.get(resource, key) is None:
        raise Refusal(404, f"{object_type} not found")


def add_definition(chart: Chart, call: Call) -> Answer:
    """Add a definition to one of the office's categories, named by its text."""
    wanted = call.text("category").lower()
    for number, name in CATEGORY_NAMES.items():
        if name.lower() == wanted:
            return created(
                chart, call, chart.add("definitions", {**stored(call), "Category": number})
            )
    raise Refusal(400, "category is invalid.")
