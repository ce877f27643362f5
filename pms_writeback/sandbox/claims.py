"""Writes about insurance: plans of a patient, claims with their lines, tracking, verification."""

from __future__ import annotations

from pms_writeback.sandbox.rules import (
    add_row,
    change_row,
    created,
    current,
    refuse_deleted,
    refuse_missing,
    stored,
)
from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

_STATUSES = frozenset("UHWSR")
_TRACKING = 31
_VERIFIED = {"PatientEnrollment": "patplans", "InsuranceBenefit": "insplans"}


def add_claim(chart: Chart, call: Call) -> Answer:
    """Make a claim of procedures of one patient, with one line each and their total.

    A pre-authorisation takes planned procedures, any other claim completed ones.
    """
    refuse_missing(chart, call)
    patient = call.number("PatNum")
    refuse_deleted(chart, patient)
    is_preauth = call.text("ClaimType") == "PreAuth"
    procedures = [_procedure(chart, key, patient, is_preauth) for key in _numbers(call)]
    subscription = _subscription(chart, call, patient)
    fee = round(sum(float(each["ProcFee"]) for each in procedures), 2)
    values: Row = {
        "ClaimStatus": "U",
        "DateService": chart.stamp[:10],
        "PatRelat": "Self",
        "ProvTreat": procedures[0]["ProvNum"],
        "ProvBill": procedures[0]["ProvNum"],
        **stored(call),
        "InsSubNum": subscription["InsSubNum"],
        "PlanNum": subscription["PlanNum"],
        "ClaimFee": fee,
    }
    claim = chart.add("claims", values)
    for procedure in procedures:
        _add_line(chart, claim, procedure, "Preauth" if is_preauth else "NotReceived")
    return created(chart, call, claim)


def _numbers(call: Call) -> tuple[int, ...]:
    numbers = call.lists.get("procNums", ())
    if not numbers:
        raise Refusal(400, "procNums is required")
    return numbers


def _procedure(chart: Chart, key: int, patient: int, is_preauth: bool) -> Row:
    row = chart.get("procedurelogs", key)
    if row is None or row["PatNum"] != patient:
        raise Refusal(404, "Procedure not found")
    wanted = ("TP", "TPi") if is_preauth else ("C",)
    if row["ProcStatus"] not in wanted:
        raise Refusal(400, f"Procedures of this claim must have status {' or '.join(wanted)}.")
    return row


def _subscription(chart: Chart, call: Call, patient: int) -> Row:
    """Find the insurance that the claim goes to: the one named, else the primary."""
    columns = TABLES["patplans"].c
    plans = chart.select("patplans", columns.PatNum == patient)
    wanted = call.number("InsSubNum")
    for plan in sorted(plans, key=lambda each: int(each["Ordinal"])):
        if wanted in (0, plan["InsSubNum"]):
            row = chart.get("inssubs", int(plan["InsSubNum"]))
            if row is not None:
                return row
    raise Refusal(400, "Patient has no such insurance.")


def _add_line(chart: Chart, claim: Row, procedure: Row, status: str) -> None:
    code = chart.get("procedurecodes", int(procedure["CodeNum"]))
    chart.add(
        "claimprocs",
        {
            "ProcNum": procedure["ProcNum"],
            "ClaimNum": claim["ClaimNum"],
            "PatNum": claim["PatNum"],
            "ProvNum": procedure["ProvNum"],
            "PlanNum": claim["PlanNum"],
            "InsSubNum": claim["InsSubNum"],
            "FeeBilled": float(procedure["ProcFee"]),
            "Status": status,
            "CodeSent": "" if code is None else code["ProcCode"],
            "ProcDate": procedure["ProcDate"],
            "DateCP": claim["DateService"],
        },
    )


def change_claim(chart: Chart, call: Call) -> Answer:
    """Update a claim; the status is one of the letters U, H, W, S, R."""
    status = call.text("ClaimStatus")
    if status and status not in _STATUSES:
        raise Refusal(400, "ClaimStatus is invalid. Allowed: U, H, W, S, R.")
    if len(call.text("ClaimNote")) > 400:
        raise Refusal(400, "ClaimNote is longer than 400 characters.")
    return change_row(chart, call)


def send_claim(chart: Chart, call: Call) -> Answer:
    """Mark a claim sent; nothing is transmitted."""
    row = current(chart, call)
    values: Row = {"ClaimStatus": "S", "DateSent": call.text("DateSent")}
    changed = chart.change("claims", int(row["ClaimNum"]), values)
    return Answer(200, show(chart, call.operation, changed))


def delete_claim(chart: Chart, call: Call) -> Answer:
    """Delete a claim with its lines; one that was received or paid is kept."""
    row = current(chart, call)
    if row["ClaimStatus"] == "R" or float(row["InsPayAmt"]) > 0:
        raise Refusal(400, "Claims that are received or paid cannot be deleted.")
    key = int(row["ClaimNum"])
    for line in chart.select("claimprocs", TABLES["claimprocs"].c.ClaimNum == key):
        chart.remove("claimprocs", int(line["ClaimProcNum"]))
    chart.remove("claims", key)
    return Answer(200)


def add_tracking(chart: Chart, call: Call) -> Answer:
    """Add an entry to a claim's history; its type is one of the office's definitions."""
    refuse_missing(chart, call)
    kind = chart.get("definitions", call.number("TrackingDefNum"))
    if kind is None or kind["Category"] != _TRACKING:
        raise Refusal(400, "TrackingDefNum is invalid.")
    values: Row = {"TrackingType": "ClaimUser", "UserNum": 1, **stored(call)}
    return created(chart, call, chart.add("claimtrackings", values))


def add_patient_plan(chart: Chart, call: Call) -> Answer:
    """Give a patient an insurance, as the next in order unless one is given."""
    refuse_deleted(chart, call.number("PatNum"))
    columns = TABLES["patplans"].c
    taken = chart.select("patplans", columns.PatNum == call.number("PatNum"))
    if any(row["InsSubNum"] == call.number("InsSubNum") for row in taken):
        raise Refusal(400, "Patient already has this insurance.")
    call.given.setdefault("Ordinal", len(taken) + 1)
    call.given.setdefault("Relationship", "Self")
    return add_row(chart, call)


def verify_insurance(chart: Chart, call: Call) -> Answer:
    """Note that an insurance was verified: one row for each plan or benefit, renewed."""
    kind, key = call.text("VerifyType"), call.number("FKey")
    if chart.get(_VERIFIED[kind], key) is None:
        raise Refusal(404, "FKey not found")
    columns = TABLES["insverifies"].c
    same = chart.select("insverifies", columns.VerifyType == kind, columns.FKey == key)
    values: Row = {"DateLastVerified": chart.stamp[:10], **stored(call)}
    if same:
        row = chart.change("insverifies", int(same[0]["InsVerifyNum"]), values)
    else:
        row = chart.add("insverifies", values)
    return Answer(200, show(chart, call.operation, row))
