"""Writes to patients: the documented duplicate guard, names, no delete."""

from __future__ import annotations

import re

from sqlalchemy import func

from pms_writeback.sandbox.rules import change_row, created, refuse_missing, stored
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.wire import Answer, Call, Refusal


def add_patient(chart: Chart, call: Call) -> Answer:
    """Create a patient unless one agrees on names, birth date and an e-mail or phone."""
    _check(call)
    refuse_missing(chart, call)
    values: Row = {
        "PatStatus": "Patient",
        "Gender": "Unknown",
        "Position": "Single",
        "TxtMsgOk": "Unknown",
        **stored(call),
    }
    if _is_duplicate(chart, values):
        raise Refusal(400, "Patient already exists.")
    row = chart.add("patients", values)
    if not call.number("Guarantor"):
        row = chart.change("patients", int(row["PatNum"]), {"Guarantor": row["PatNum"]})
    return created(chart, call, row)


def change_patient(chart: Chart, call: Call) -> Answer:
    """Update a patient's given fields."""
    _check(call)
    return change_row(chart, call)


def _check(call: Call) -> None:
    number = call.text("SSN")
    if number and not re.fullmatch(r"\d{9}", number):
        raise Refusal(400, "SSN must be 9 digits.")


def _is_duplicate(chart: Chart, values: Row) -> bool:
    columns = TABLES["patients"].c
    same = chart.select(
        "patients",
        func.lower(columns.LName) == str(values["LName"]).lower(),
        func.lower(columns.FName) == str(values["FName"]).lower(),
        columns.Birthdate == str(values.get("Birthdate", "0001-01-01")),
    )
    contacts = ("Email", "HmPhone", "WkPhone", "WirelessPhone")
    return any(values.get(name) and values[name] == row[name] for row in same for name in contacts)
