"""The sandbox PMS beyond the schedule: insurance, claims, recalls, perio, labs, referrals."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx2
import pytest

from pms_writeback.sandbox.seed import seed
from pms_writeback.sandbox.server import running
from pms_writeback.sandbox.store import ServerClock, Store

NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)


@pytest.fixture
def api(tmp_path):
    with running(tmp_path / "pms.sqlite", clock=lambda: NOON) as pms:
        headers = {
            "Authorization": f"ODFHIR {pms.developer_key}/{pms.customer_key}",
            "Content-Type": "application/json",
        }
        with httpx2.Client(base_url=pms.url, headers=headers) as client:
            yield client


def refused(answer, status, text):
    assert answer.status_code == status, answer.text
    assert text in answer.json()


def insured(api):
    return api.get("/patplans").json()[0]


def planned(api, patient):
    body = {
        "PatNum": patient,
        "ProcDate": "2026-06-10",
        "ProcStatus": "TP",
        "procCode": "D2740",
        "ToothNum": "30",
        "ProcFee": 1450,
    }
    return api.post("/procedurelogs", json=body).json()["ProcNum"]


def test_a_preauthorisation_makes_its_lines_and_its_total(api):
    plan = insured(api)
    procedure = planned(api, plan["PatNum"])
    body = {"PatNum": plan["PatNum"], "procNums": [procedure], "ClaimType": "PreAuth"}
    claim = api.post("/claims", json=body)
    assert claim.status_code == 201, claim.text
    claim = claim.json()
    assert (claim["ClaimStatus"], claim["InsSubNum"]) == ("U", plan["InsSubNum"])
    (line,) = api.get("/claimprocs", params={"ClaimNum": claim["ClaimNum"]}).json()
    assert (line["ProcNum"], line["Status"], line["CodeSent"]) == (procedure, "Preauth", "D2740")
    refused(api.put(f"/claims/{claim['ClaimNum']}", json={"ClaimStatus": "X"}), 400, "U, H, W")
    refused(api.put(f"/claims/{claim['ClaimNum']}", json={"ClaimNote": "x" * 401}), 400, "400 char")
    sent = api.put(f"/claims/{claim['ClaimNum']}/Status", json={"DateSent": "2026-06-10"})
    assert sent.json()["ClaimStatus"] == "S"
    track = {"ClaimNum": claim["ClaimNum"], "Note": "sent", "TrackingDefNum": 281}
    assert api.post("/claimtrackings", json=track).status_code == 201
    refused(api.post("/claimtrackings", json={**track, "TrackingDefNum": 1}), 400, "TrackingDefNum")
    assert api.delete(f"/claims/{claim['ClaimNum']}").status_code == 200
    assert api.get("/claimprocs", params={"ClaimNum": claim["ClaimNum"]}).json() == []


def test_a_claim_of_planned_work_or_of_somebody_else_is_refused(api):
    plan = insured(api)
    procedure = planned(api, plan["PatNum"])
    body = {"PatNum": plan["PatNum"], "procNums": [procedure], "ClaimType": "P"}
    refused(api.post("/claims", json=body), 400, "status C")
    refused(api.post("/claims", json={**body, "PatNum": plan["PatNum"] + 1}), 404, "Procedure")
    refused(api.post("/claims", json={**body, "procNums": []}), 400, "procNums")


def test_one_recall_of_each_type_and_its_status_logs_the_contact(api):
    recall = api.get("/recalls").json()[0]
    same = {"PatNum": recall["PatNum"], "RecallTypeNum": recall["RecallTypeNum"]}
    refused(api.post("/recalls", json=same), 400, "already exists")
    other = api.post("/recalls", json={**same, "RecallTypeNum": 3})
    assert (other.status_code, other.json()["RecallInterval"]) == (200, "5y")
    refused(
        api.post("/recalls", json={**same, "RecallTypeNum": 2, "RecallInterval": "soon"}),
        400,
        "RecallInterval",
    )
    status = {"PatNum": recall["PatNum"], "recallType": "Prophy", "RecallStatus": 261}
    assert api.put("/recalls/Status", json={**status, "commlogMode": "Text"}).status_code == 200
    shown = api.get("/recalls", params={"PatNum": recall["PatNum"]}).json()[0]
    assert shown["recallStatus"] == "Texted"
    assert api.get("/commlogs", params={"PatNum": recall["PatNum"]}).json()[-1]["Mode_"] == "Text"


def test_perio_measures_have_ranges_and_no_twins(api):
    exam = api.post("/perioexams", json={"PatNum": 1}).json()
    assert exam["ExamDate"] == "2026-06-10"
    body = {"PerioExamNum": exam["PerioExamNum"], "SequenceType": "Probing", "IntTooth": 30}
    made = api.post("/periomeasures", json={**body, "MBvalue": 5}).json()
    assert (made["MBvalue"], made["Bvalue"]) == (5, -1)
    refused(api.post("/periomeasures", json=body), 400, "already exists")
    refused(api.post("/periomeasures", json={**body, "IntTooth": 33}), 400, "IntTooth")
    gums = {**body, "SequenceType": "GingMargin"}
    refused(api.post("/periomeasures", json={**gums, "Bvalue": 50}), 400, "Bvalue")
    assert api.post("/periomeasures", json={**gums, "Bvalue": 103}).status_code == 201
    assert api.delete(f"/perioexams/{exam['PerioExamNum']}").status_code == 200


def test_a_lab_case_belongs_to_a_scheduled_visit_of_its_patient(api):
    visit = next(
        row
        for row in api.get("/appointments", params={"date": "2026-06-10"}).json()
        if row["AptStatus"] == "Scheduled"
    )
    body = {"PatNum": visit["PatNum"], "LaboratoryNum": 1, "ProvNum": 1, "AptNum": visit["AptNum"]}
    case = api.post("/labcases", json=body)
    assert case.status_code == 201, case.text
    refused(api.post("/labcases", json={**body, "PatNum": visit["PatNum"] + 1}), 400, "Scheduled")
    refused(api.post("/labcases", json={**body, "LaboratoryNum": 99}), 404, "Laboratory not found")
    path = f"/labcases/{case.json()['LabCaseNum']}"
    sent = api.put(path, json={"DateTimeSent": "2026-06-11 09:00:00"}).json()
    assert sent["DateTimeSent"] == "2026-06-11 09:00:00"


def test_a_referral_to_an_unknown_name_makes_a_directory_entry(api):
    known = api.post("/refattaches", json={"PatNum": 1, "referralName": "Rootwell"}).json()
    assert (known["ReferralNum"], known["ReferralType"]) == (1, "RefFrom")
    before = len(api.get("/referrals").json())
    new = api.post(
        "/refattaches", json={"PatNum": 1, "referralName": "Nobodyknown", "ReferralType": "RefTo"}
    ).json()
    assert new["referralName"] == "Nobodyknown"
    assert len(api.get("/referrals").json()) == before + 1
    refused(api.post("/refattaches", json={"PatNum": 1}), 400, "required")


def test_patient_fields_are_the_offices_own(api):
    field = {"PatNum": 1, "FieldName": "AI imaging status", "FieldValue": "waiting"}
    assert api.put("/patfields", json=field).status_code in (200, 201)
    assert api.put("/patfields", json={**field, "FieldValue": "done"}).json()["FieldValue"] == (
        "done"
    )
    refused(api.put("/patfields", json={**field, "FieldName": "ai imaging status"}), 404, "not")


def test_insurance_is_verified_in_one_row(api):
    plan = insured(api)
    body = {"VerifyType": "PatientEnrollment", "FKey": plan["PatPlanNum"], "DefNum": 361}
    first = api.put("/insverifies", json=body).json()
    again = api.put("/insverifies", json={**body, "Note": "by phone"}).json()
    assert (again["InsVerifyNum"], again["Note"]) == (first["InsVerifyNum"], "by phone")


def test_history_is_kept_by_number_or_name(api):
    disease = api.post("/diseases", json={"PatNum": 1, "diseaseDefName": "Hypertension"}).json()
    assert (disease["DiseaseDefNum"], disease["ProbStatus"]) == (2, "Active")
    refused(api.post("/diseases", json={"PatNum": 1, "diseaseDefName": "Nope"}), 404, "DiseaseDef")
    refused(api.post("/allergies", json={"PatNum": 1}), 400, "AllergyDefNum")
    plan = api.post("/treatplans", json={"PatNum": 1, "Heading": "Crown 30"}).json()
    assert plan["TPStatus"] == "Inactive"


def test_changes_since_leave_the_same_second_out(api):
    changed = {"SecDateTEdit": "2026-06-10 13:00:00"}
    assert api.get("/inssubs", params=changed).json() == []
    assert api.get("/inssubs", params={"SecDateTEdit": "2026-06-10 12:59:59"}).json() != []


def test_a_practice_of_realistic_size_is_the_same_each_time(tmp_path):
    counts = []
    for name in ("a", "b"):
        store = Store(tmp_path / f"{name}.sqlite", ServerClock("America/New_York", lambda: NOON))
        seed(store, patients=300, years=3)
        seed(store, patients=300, years=3)  # idempotent
        with store.begin() as chart:
            counts.append(
                {r: chart.count(r) for r in ("patients", "appointments", "recalls", "inssubs")}
            )
        store.close()
    assert counts[0] == counts[1]
    assert counts[0]["patients"] == 300
    assert counts[0]["appointments"] > 300 * 6
