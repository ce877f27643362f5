"""Writes to procedures and their append-only notes."""

from __future__ import annotations

from pms_writeback.sandbox.rules import created, current, refuse_deleted, refuse_missing, stored
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.teeth import PRIMARY, is_tooth, is_tooth_range
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Answer, Call, Refusal


def add_procedure(chart: Chart, call: Call) -> Answer:
    """Chart a procedure; tooth and surface as the code's treatment area asks."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    code = _code(chart, call)
    _check_status(call)
    _check_area(call, str(code["TreatArea"]))
    _check_appointment(chart, call)
    values: Row = {
        "CodeNum": code["CodeNum"],
        "UnitQty": 1,
        "PlaceService": "Office",
        "DateTP": chart.stamp[:10],
        **{name: value for name, value in stored(call).items() if name != "CodeNum"},
    }
    return created(chart, call, chart.add("procedurelogs", values))


def change_procedure(chart: Chart, call: Call) -> Answer:
    """Update a procedure; what identifies a completed one is frozen."""
    refuse_missing(chart, call)
    row = current(chart, call)
    frozen = {"procCode", "CodeNum", "ToothNum", "Surf", "ToothRange"}
    # Empty tooth, surface and range are ignored, as the manual says.
    values = {
        name: value for name, value in stored(call).items() if not (name in frozen and value == "")
    }
    if row["ProcStatus"] == "C" and frozen & (set(values) | set(call.given)):
        raise Refusal(400, "Code, tooth, surface and range of a completed procedure are frozen.")
    _check_status(call)
    _check_appointment(chart, call, patient=int(row["PatNum"]))
    if call.text("procCode"):
        values["CodeNum"] = _code(chart, call)["CodeNum"]
    changed = chart.change("procedurelogs", int(row["ProcNum"]), values)
    return Answer(200, show(chart, call.operation, changed))


def delete_procedure(chart: Chart, call: Call) -> Answer:
    """Set a procedure to status D; rows are never removed."""
    row = current(chart, call)
    if row["ProcStatus"] not in ("TP", "TPi", "C"):
        raise Refusal(400, "Procedures with this status cannot be deleted.")
    chart.change("procedurelogs", int(row["ProcNum"]), {"ProcStatus": "D"})
    return Answer(200)


def add_note(chart: Chart, call: Call) -> Answer:
    """Add the newest note of a procedure: it replaces what users see, or appends to it."""
    refuse_missing(chart, call)
    patient, procedure = call.number("PatNum"), call.number("ProcNum")
    refuse_deleted(chart, patient)
    row = chart.get("procedurelogs", procedure)
    if row is None or row["PatNum"] != patient:
        raise Refusal(400, "ProcNum does not belong to PatNum.")
    note = call.text("Note")
    if call.text("doAppendNote").lower() == "true":
        columns = TABLES["procnotes"].c
        earlier = chart.select("procnotes", columns.ProcNum == procedure)
        if earlier and earlier[-1]["Note"]:
            note = f"{earlier[-1]['Note']}\n\n{note}"
    values: Row = {"PatNum": patient, "ProcNum": procedure, "UserNum": 1, "Note": note}
    if call.text("isSigned"):
        values["isSigned"] = call.text("isSigned").lower()
    return created(chart, call, chart.add("procnotes", values))


def _code(chart: Chart, call: Call) -> Row:
    columns = TABLES["procedurecodes"].c
    if call.number("CodeNum"):
        wanted = columns.CodeNum == call.number("CodeNum")
    else:
        wanted = columns.ProcCode == call.text("procCode")
    found = chart.select("procedurecodes", wanted)
    if not found:
        raise Refusal(404, "ProcedureCode not found")
    return found[0]


_STATUSES = ("TP", "C", "EO")
_NEWER_STATUSES = ("EC", "R", "Cn")


def _check_status(call: Call) -> None:
    status = call.text("ProcStatus")
    # Version 25.1.14 added EC, R and Cn.
    allowed = _STATUSES + (_NEWER_STATUSES if call.version >= (25, 1, 14) else ())
    if status and status not in allowed:
        raise Refusal(400, f"ProcStatus is invalid. Allowed: {', '.join(allowed)}.")


def _check_appointment(chart: Chart, call: Call, patient: int = 0) -> None:
    row = chart.get("appointments", call.number("AptNum")) if call.number("AptNum") else None
    if row is not None and row["PatNum"] != (patient or call.number("PatNum")):
        raise Refusal(400, "AptNum does not belong to PatNum.")


_AREA_SURFACES = {
    "Quad": {"UL", "UR", "LL", "LR"},
    "Sextant": {"1", "2", "3", "4", "5", "6"},
    "Arch": {"U", "L"},
}


def _check_area(call: Call, area: str) -> None:
    tooth, surface = call.text("ToothNum"), call.text("Surf")
    if area in ("Surf", "Tooth"):
        if not tooth:
            raise Refusal(400, "ToothNum is required for this procedure code.")
        if not is_tooth(tooth):
            raise Refusal(400, "ToothNum is invalid.")
    if area == "Surf" and (not surface or set(surface.upper()) - set("MOIDBFVL5")):
        raise Refusal(400, "Surf is required for this procedure code.")
    if area in _AREA_SURFACES and surface not in _AREA_SURFACES[area]:
        raise Refusal(400, f"Surf must be one of {', '.join(sorted(_AREA_SURFACES[area]))}.")
    if area == "ToothRange" and not is_tooth_range(call.text("ToothRange")):
        raise Refusal(400, "ToothRange is required for this procedure code.")


def add_tooth_initial(chart: Chart, call: Call) -> Answer:
    """Mark one tooth missing, hidden or primary; the same mark twice is refused."""
    refuse_missing(chart, call)
    refuse_deleted(chart, call.number("PatNum"))
    tooth = call.text("ToothNum").upper()
    if not is_tooth(tooth) or (call.text("InitialType") == "Primary" and tooth in PRIMARY):
        raise Refusal(400, "ToothNum is invalid.")
    columns = TABLES["toothinitials"].c
    same = chart.select(
        "toothinitials",
        columns.PatNum == call.number("PatNum"),
        columns.ToothNum == tooth,
        columns.InitialType == call.text("InitialType"),
    )
    if same:
        raise Refusal(400, "ToothInitial already exists.")
    return created(chart, call, chart.add("toothinitials", {**stored(call), "ToothNum": tooth}))


def delete_tooth_initial(chart: Chart, call: Call) -> Answer:
    """Remove a mark."""
    row = current(chart, call)
    chart.remove("toothinitials", int(row["ToothInitialNum"]))
    return Answer(200)
