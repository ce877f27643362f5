"""Writes to appointments, each leaving a history row as the program does."""

from __future__ import annotations

import re

from pms_writeback.sandbox.rules import created, current, refuse_deleted, refuse_missing, stored
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

NOT_CONFIRMED = 19
"""DefNum of "Not Called" in the seeded office."""


def add_appointment(chart: Chart, call: Call) -> Answer:
    """Schedule an appointment; overlaps are not refused, as in the documented API."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    values: Row = {
        "AptStatus": "Scheduled",
        "Pattern": "/XX/",
        "Confirmed": NOT_CONFIRMED,
        "Priority": "Normal",
        "colorOverride": "0,0,0",
        **stored(call),
    }
    values.setdefault("PatternSecondary", "/" * len(str(values["Pattern"])))
    if "ProvNum" not in values:
        operatory = chart.get("operatories", call.number("Op"))
        values["ProvNum"] = operatory["ProvDentist"] if operatory else 0
    _check_pattern(values)
    row = chart.add("appointments", values)
    record_history(chart, row, "Created")
    return created(chart, call, row)


def change_appointment(chart: Chart, call: Call) -> Answer:
    """Overwrite the given fields of an appointment."""
    refuse_missing(chart, call)
    row = current(chart, call)
    values = stored(call)
    if "Pattern" in values and "PatternSecondary" not in values:
        values["PatternSecondary"] = "/" * len(str(values["Pattern"]))
    _check_pattern({**row, **values})
    return _changed(chart, call, row, values, "Changed")


def break_appointment(chart: Chart, call: Call) -> Answer:
    """Break a scheduled appointment, or move it to the unscheduled list."""
    row = current(chart, call)
    if row["AptStatus"] != "Scheduled":
        raise Refusal(400, "Only appointments with AptStatus Scheduled can be broken.")
    unscheduled = call.text("sendToUnscheduledList") == "true"
    values: Row = {"AptStatus": "UnschedList" if unscheduled else "Broken"}
    action = "Missed" if call.text("breakType") == "Missed" else "Cancelled"
    return _changed(chart, call, row, values, action)


def append_appointment_note(chart: Chart, call: Call) -> Answer:
    """Append a line to an appointment's note."""
    row = current(chart, call)
    note = "\n".join(filter(None, (str(row["Note"]), call.text("Note"))))
    return _changed(chart, call, row, {"Note": note}, "Changed")


def confirm_appointment(chart: Chart, call: Call) -> Answer:
    """Set the confirmation status by name or by definition, exactly one of them."""
    row = current(chart, call)
    if bool(call.text("confirmVal")) == bool(call.number("defNum")):
        raise Refusal(400, "Exactly one of confirmVal or defNum is required")
    columns = TABLES["definitions"].c
    wanted = (
        columns.DefNum == call.number("defNum")
        if call.number("defNum")
        else columns.ItemName == _CONFIRM_NAMES[call.text("confirmVal")]
    )
    found = chart.select("definitions", columns.Category == 2, wanted)
    if not found:
        raise Refusal(404, "Definition not found")
    return _changed(chart, call, row, {"Confirmed": found[0]["DefNum"]}, "Changed")


_CONFIRM_NAMES = {
    "None": "Not Called",
    "Sent": "eConfirm Sent",
    "Confirmed": "Appointment Confirmed",
    "Not Accepted": "Not Accepted",
    "Failed": "eConfirm Failed",
}


def delete_appointment(chart: Chart, key: int) -> None:
    """Delete an appointment as a user of the program can and the API cannot."""
    row = chart.get("appointments", key)
    if row is None:
        raise Refusal(404, "Appointment not found")
    record_history(chart, row, "Deleted")
    table = TABLES["procedurelogs"]
    for procedure in chart.select("procedurelogs", table.c.AptNum == key):
        chart.change("procedurelogs", int(procedure["ProcNum"]), {"AptNum": 0})
    chart.remove("appointments", key)


def record_history(chart: Chart, row: Row, action: str) -> None:
    """Keep a copy of an appointment with what happened to it."""
    columns = TABLES["histappointments"].c
    copied = {name: value for name, value in row.items() if name in columns}
    chart.add(
        "histappointments",
        {**copied, "HistApptAction": action, "ApptSource": "API", "HistDateTStamp": chart.stamp},
    )


def _changed(chart: Chart, call: Call, row: Row, values: Row, action: str) -> Answer:
    changed = chart.change("appointments", int(row["AptNum"]), values)
    record_history(chart, changed, action)
    return Answer(200, show(chart, call.operation, changed) if call.operation.row else None)


def _check_pattern(values: Row) -> None:
    # One character for each 5 minutes, at most 9 hours.
    pattern, secondary = str(values["Pattern"]), str(values["PatternSecondary"])
    if not re.fullmatch(r"[X/]{1,108}", pattern):
        raise Refusal(400, "Pattern is invalid.")
    if not re.fullmatch(r"[X/]*", secondary) or len(secondary) not in (0, len(pattern)):
        raise Refusal(400, "PatternSecondary must be the same length as Pattern.")
