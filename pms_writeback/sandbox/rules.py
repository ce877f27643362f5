"""Checks that several kinds of write share: foreign keys, deleted patients, catalogued writes."""

from __future__ import annotations

from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import KEYS, TABLES
from pms_writeback.sandbox.twins import NOUNS, show
from pms_writeback.sandbox.wire import Answer, Call, Refusal

_FOREIGN = {
    "PatNum": "patients",
    "AptNum": "appointments",
    "PlannedAptNum": "appointments",
    "Op": "operatories",
    "ProvNum": "providers",
    "ProvHyg": "providers",
    "PriProv": "providers",
    "SecProv": "providers",
    "ClinicNum": "clinics",
    "CodeNum": "procedurecodes",
    "ProcNum": "procedurelogs",
    "TaskListNum": "tasklists",
    "TaskNum": "tasks",
    "UserNum": "userods",
    "Guarantor": "patients",
    "ProviderNum": "providers",
    "ProvTreat": "providers",
    "ProvBill": "providers",
    "LaboratoryNum": "laboratories",
    "ReferralNum": "referrals",
    "RecallTypeNum": "recalltypes",
    "ClaimNum": "claims",
    "PlanNum": "insplans",
    "InsSubNum": "inssubs",
    "InsSubNum2": "inssubs",
    "PatPlanNum": "patplans",
    "Subscriber": "patients",
    "CarrierNum": "carriers",
    "TreatPlanNum": "treatplans",
    "PerioExamNum": "perioexams",
    "CovCatNum": "covcats",
    "AllergyDefNum": "allergydefs",
    "DiseaseDefNum": "diseasedefs",
    "MedicationNum": "medications",
}


def refuse_missing(chart: Chart, call: Call, *names: str) -> None:
    """Answer 404 when an input names a row that does not exist; 0 means none."""
    for name in names or tuple(call.given):
        resource = _FOREIGN.get(name)
        key = call.number(name) if resource else 0
        if resource and key and chart.get(resource, key) is None:
            raise Refusal(404, f"{NOUNS[resource]} not found")


def refuse_deleted(chart: Chart, patient: int) -> None:
    """Answer 400: a deleted patient and everything under it is read-only."""
    row = chart.get("patients", patient)
    if row is not None and row["PatStatus"] == "Deleted":
        raise Refusal(400, "Patient is deleted and cannot be changed.")


def stored(call: Call) -> Row:
    """Keep the inputs that are columns; the rest are instructions."""
    columns = TABLES[call.operation.resource].c
    return {name: value for name, value in call.given.items() if name in columns}


def current(chart: Chart, call: Call) -> Row:
    """Read the row in the path, or answer 404."""
    resource = call.operation.resource
    row = None if call.key is None else chart.get(resource, call.key)
    if row is None:
        raise Refusal(404, f"{NOUNS[resource]} not found")
    if "PatNum" in row:
        refuse_deleted(chart, int(row["PatNum"]))
    return row


def created(chart: Chart, call: Call, row: Row) -> Answer:
    """Answer 201 with the new row and where it can be read."""
    key = row[KEYS[call.operation.resource]]
    return Answer(
        201, show(chart, call.operation, row), location=f"/{call.operation.resource}/{key}"
    )


def add_row(chart: Chart, call: Call) -> Answer:
    """Create a row from the catalogue's inputs alone."""
    refuse_missing(chart, call)
    return created(chart, call, chart.add(call.operation.resource, stored(call)))


def change_row(chart: Chart, call: Call) -> Answer:
    """Update the given fields of a row; those left out stay."""
    refuse_missing(chart, call)
    row = current(chart, call)
    key = int(row[KEYS[call.operation.resource]])
    changed = chart.change(call.operation.resource, key, stored(call))
    return Answer(200, show(chart, call.operation, changed) if call.operation.row else None)


def delete_row(chart: Chart, call: Call) -> Answer:
    """Delete a row for good."""
    row = current(chart, call)
    chart.remove(call.operation.resource, int(row[KEYS[call.operation.resource]]))
    return Answer(200)
