"""Who may do what, through the server; two locations; nothing personal in addresses or logs."""

from __future__ import annotations

import logging
import re

import pytest

from node.domain.rights import Role

READERS = {"dentist", "hygienist", "assistant", "auditor"}
#: Path, body, and the roles whose request is not answered with 403.
MATRIX = [
    ("/api/worklist", None, READERS | {"office_manager", "admin"}),
    ("/api/studies/{study}", None, READERS),
    ("/api/images/{image}/preview", None, READERS),
    ("/api/images/{image}/pixels", None, READERS),
    ("/api/images/{image}/dicom", None, {"dentist", "hygienist", "auditor"}),
    ("/api/studies/{study}/comparisons/0/now", None, {"dentist", "hygienist", "auditor"}),
    ("/api/studies/{study}/candidates", None, {"dentist", "hygienist", "assistant"}),
    ("/api/studies/{study}/ops", {"operations": []}, READERS),
    ("/api/studies/{study}/sign", {}, {"dentist"}),
    ("/api/studies/{study}/amend", {}, {"dentist"}),
    ("/api/studies/{study}/link", {}, {"dentist", "hygienist", "assistant"}),
    ("/api/patients/search", {"text": "doe"}, {"dentist", "hygienist", "assistant"}),
    (
        "/api/images/{image}/retry",
        {},
        {"dentist", "hygienist", "office_manager", "admin"},
    ),
    ("/api/images/{image}/release", {}, {"dentist"}),
    ("/api/receipts/{image}/retry", {}, {"dentist", "office_manager", "admin"}),
]


def ask(browser, path, body):
    return browser.get(path) if body is None else browser.post(path, body)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SERVICE])
def test_each_role_reaches_exactly_what_the_table_says(practice, role):
    study_id = practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    browser = practice.sign_in(role.value)
    for path, body, allowed in MATRIX:
        answer = ask(browser, path.format(study=study_id, image=image_id), body)
        assert (answer.status_code != 403) == (role.value in allowed), (path, answer.text)
        if answer.status_code == 403:
            assert "You need the right" in answer.json()["title"]


def test_without_a_session_nothing_is_answered(practice):
    study_id = practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    stranger = practice.client()
    for path, body, _ in MATRIX:
        path = path.format(study=study_id, image=image_id)
        answer = stranger.get(path) if body is None else stranger.post(path, json=body)
        assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated")
    assert stranger.get("/api/events").status_code == 401


@pytest.mark.parametrize("role", ["assistant", "office_manager", "admin"])
def test_who_may_not_see_unsigned_findings_never_gets_one(practice, role):
    study_id = practice.analysed_study()
    browser = practice.sign_in(role)
    row = browser.get("/api/worklist").json()["rows"][0]
    assert row["suggestions"] is None
    assert row["undecided"] is None
    assert row["label"] == "IO 1"
    for path in ("/api/worklist", f"/api/studies/{study_id}", "/", f"/review/{study_id}"):
        text = browser.get(path).text
        assert "caries" not in text.lower()
        assert '"C":' not in text


def test_an_assistant_sees_what_was_signed_and_nothing_under_amendment(practice):
    study_id = practice.analysed_study()
    dentist, assistant = practice.sign_in("dentist"), practice.sign_in("assistant")
    dentist.see_all(study_id)
    dentist.accept_all(study_id)
    assert dentist.sign(study_id).status_code == 200
    kinds = [mark["kind"] for mark in assistant.study(study_id)["findings"]]
    assert sorted(kinds) == ["bone_level", "caries"]
    dentist.post(f"/api/studies/{study_id}/amend", {"reason": "looked again"})
    mark = dentist.study(study_id)["findings"][0]
    on = {"finding_id": mark["id"], "base_rev": mark["rev"], "data": {"text": "not yet said"}}
    assert dentist.ops(study_id, {"kind": "comment", **on}).status_code == 200
    assert "not yet said" not in str(assistant.study(study_id))


@pytest.mark.parametrize("role", ["office_manager", "admin"])
def test_names_are_only_for_those_who_may_see_patients(practice, role):
    practice.analysed_study()
    browser = practice.sign_in(role)
    for path in ("/api/worklist", "/"):
        assert "Doe" not in browser.get(path).text
        assert "Jane" not in browser.get(path).text


def test_two_locations_on_one_database_see_nothing_of_each_other(open_practice):
    north, south = open_practice("north"), open_practice("south")
    study_id = north.analysed_study()
    (image_id,) = north.image_ids(study_id)
    own = south.analysed_study()
    here, there = north.sign_in("dentist"), south.sign_in("dentist")
    assert [row["id"] for row in there.get("/api/worklist").json()["rows"]] == [own]
    foreign = north.add_patient("Roe", "Sam")
    for path, body in [
        (f"/api/studies/{study_id}", None),
        (f"/review/{study_id}", None),
        (f"/api/images/{image_id}/preview", None),
        (f"/api/images/{image_id}/pixels", None),
        (f"/api/images/{image_id}/dicom", None),
        (f"/api/images/{image_id}/retry", {}),
        (f"/api/studies/{study_id}/candidates", None),
        (f"/api/studies/{study_id}/link", {"patient_id": foreign}),
        (f"/api/studies/{own}/link", {"patient_id": foreign}),
        (f"/api/studies/{study_id}/amend", {"reason": "curious"}),
    ]:
        assert ask(there, path, body).status_code == 404, path
    mark = here.study(study_id)["findings"][0]
    accept = {"kind": "accept", "finding_id": mark["id"], "base_rev": 1}
    assert there.ops(study_id, accept).status_code == 404
    assert there.ops(own, accept).json()["results"][0]["status"] == "refused"
    assert there.post("/api/patients/search", {"text": "roe"}).json()["candidates"] == []
    assert here.post("/api/patients/search", {"text": "Roe, S"}).json()["candidates"] != []
    intruder = south.client()
    intruder.cookies.set("bitewing_session", here.http.cookies["bitewing_session"])
    assert intruder.get("/api/me").status_code == 401


def test_patients_are_found_by_parts_of_names_and_number(practice):
    patient_id = practice.add_patient("van der Berg", "Anna Maria")
    practice.add_patient("Vandal", "Bob")
    dentist = practice.sign_in("dentist")

    def found(text):
        answer = dentist.post("/api/patients/search", {"text": text}).json()["candidates"]
        return [one["patient_id"] for one in answer]

    assert found("van der be") == [patient_id]
    assert found("VAN DER BERG, anna") == [patient_id]
    assert len(found("vand")) == 2
    assert found("%%") == []


def test_addresses_and_logs_carry_no_names(practice, caplog):
    caplog.set_level(logging.DEBUG)
    study_id = practice.analysed_study(patient_id=None)
    practice.add_patient()
    dentist = practice.sign_in("dentist")
    dentist.get("/")
    page = dentist.get(f"/review/{study_id}").text
    dentist.get(f"/api/studies/{study_id}/candidates")
    dentist.post("/api/patients/search", {"text": "doe"})
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("node", "uvicorn"))]
    for text in [*ours, *re.findall(r'(?:href|src)="([^"]*)"', page)]:
        assert "doe" not in text.lower()


def test_a_strange_id_is_simply_not_there(practice):
    dentist = practice.sign_in("dentist")
    for path in ("/api/studies/x", "/api/images/..%2f..%2fetc/pixels", "/review/DOE^JANE"):
        answer = dentist.get(path)
        assert answer.status_code == 404
        assert "DOE" not in answer.text
