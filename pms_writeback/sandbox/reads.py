"""Answers to GET: one row by key, or a page of rows by the operation's filters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement

from pms_writeback.sandbox.rules import refuse_missing
from pms_writeback.sandbox.store import Chart, Row, Value, stamp
from pms_writeback.sandbox.tables import KEYS, TABLES
from pms_writeback.sandbox.twins import NOUNS, show
from pms_writeback.sandbox.wire import Answer, Call, Refusal, one_line

Condition = ColumnElement[bool]


def read_one(chart: Chart, call: Call) -> Answer:
    """Answer one row by the key in the path, or 404."""
    resource = call.operation.resource
    row = None if call.key is None else chart.get(resource, call.key)
    if row is None:
        raise Refusal(404, f"{NOUNS[resource]} not found")
    return Answer(200, show(chart, call.operation, row))


def read_list(chart: Chart, call: Call) -> Answer:
    """Answer one page of rows; no total, no order by change time, as the manual says."""
    resource = call.operation.resource
    refuse_missing(chart, call, "PatNum")
    conditions = [
        condition
        for name, value in _filters(chart, call).items()
        if (condition := _condition(resource, name, value)) is not None
    ]
    rows = chart.select(
        resource, *conditions, order=_order(resource), limit=call.limit, offset=call.offset
    )
    if resource == "documents" and not rows and call.offset == 0:
        raise Refusal(404, "No documents exist for this patient")
    return Answer(200, [one_line(show(chart, call.operation, row)) for row in rows])


def _filters(chart: Chart, call: Call) -> Row:
    default = _DEFAULT_FILTERS.get(call.operation.path)
    return {**(default(chart, call) if default else {}), **call.given}


def _condition(resource: str, name: str, value: Value) -> Condition | None:
    """Translate one filter; None where the documented filter does nothing in this office."""
    columns = TABLES[resource].c
    if name in ("date", "dateStart", "dateEnd"):
        return _day(columns[_DAY_COLUMNS[resource]], name, str(value))
    if name == "ExamDate":  # "on or after"
        return columns[name] >= str(value)[:10]
    if name in ("DateTStamp", "DateTimeOriginal", "SecDateTEdit"):
        # "altered after the specified date and time": the same second is not included.
        return columns[name] > str(value)
    if name in ("LName", "FName", "City", "Address", "Email"):
        return columns[name].ilike(f"%{_escaped(str(value))}%", escape="\\")
    if name == "_visible":
        return _visible(resource, str(value))
    if name in columns:
        return columns[name] == value
    return None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_DAY_COLUMNS = {
    "appointments": "AptDateTime",
    "histappointments": "HistDateTStamp",
    "schedules": "SchedDate",
}


def _day(column: ColumnElement[str], name: str, value: str) -> Condition:
    day = datetime.fromisoformat(value[:10])
    # A date sorts before every time of its day, so this serves dates and moments alike.
    begin, end = day.date().isoformat(), (day + timedelta(days=1)).date().isoformat()
    if name == "dateStart":
        return column >= begin
    if name == "dateEnd":
        return column < end
    return (column >= begin) & (column < end)


def _visible(resource: str, which: str) -> Condition:
    columns = TABLES[resource].c
    if resource == "patients":
        return columns.PatStatus.not_in(
            ("Deleted", "Archived") if which == "false" else ("Deleted",)
        )
    return columns["isHidden" if resource == "definitions" else "IsHidden"] == "false"


def _hidden_unless(parameter: str) -> Callable[[Chart, Call], Row]:
    def default(_chart: Chart, call: Call) -> Row:
        return {} if call.text(parameter).lower() == "true" else {"_visible": "false"}

    return default


def _people(_chart: Chart, call: Call) -> Row:
    return {"_visible": call.text("showArchived").lower() or "false"}


def _two_weeks(chart: Chart, _call: Call) -> Row:
    # Tasks GET: "DateTimeOriginal defaults to the last 14 days".
    return {"DateTimeOriginal": stamp(chart.now - timedelta(days=14))}


_DEFAULT_FILTERS: dict[str, Callable[[Chart, Call], Row]] = {
    "/definitions": _hidden_unless("includeHidden"),
    "/userods": _hidden_unless("includeHidden"),
    "/patients": _people,
    "/tasks": _two_weeks,
}


def _order(resource: str) -> tuple[ColumnElement[object], ...]:
    columns = TABLES[resource].c
    if resource == "procnotes":
        return (columns[KEYS[resource]].desc(),)
    if resource == "documents":
        return (columns.DateCreated,)
    if resource == "operatories":
        return (columns.ItemOrder,)
    return ()
