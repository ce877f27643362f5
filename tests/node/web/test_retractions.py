"""Taking back what was signed, as the page asks for it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from node.db.tables import finding, retraction, study

PASSWORD = "correct horse battery"
WRONG = {"kind": "patient", "reason": "films of another patient", "password": PASSWORD}


@pytest.fixture
def signed(practice):
    """A signed study of two accepted marks."""
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    browser.see_all(study_id)
    browser.accept_all(study_id)
    assert browser.sign(study_id).status_code == 200
    return browser, study_id


def test_a_wrong_patient_is_moved_to_the_right_one_and_signed_again(practice, signed):
    browser, study_id = signed
    right = practice.add_patient("Poe", "Ann")
    answer = browser.post(f"/api/studies/{study_id}/retract", {**WRONG, "patient_id": right})
    assert answer.status_code == 200, answer.text
    assert answer.json()["match"]["state"] == "linked"
    shown = browser.study(study_id)
    assert (shown["patient"]["family_name"], shown["state"]) == ("Poe", "amending")
    (taken,) = shown["retractions"]
    assert (taken["kind"], taken["version"], taken["by"]) == (
        "patient",
        1,
        "The dentist of main",
    )
    # nothing that was signed for the wrong person is shown to any patient
    assert browser.get(f"/api/studies/{study_id}/patient-page").status_code == 404
    assert browser.sign(study_id, reason="right patient").status_code == 200
    assert browser.get(f"/api/studies/{study_id}/patient-page").json()["version"] == 2


def test_without_a_known_patient_the_study_waits_for_a_link(practice, signed):
    browser, study_id = signed
    assert browser.post(f"/api/studies/{study_id}/retract", WRONG).status_code == 200
    shown = browser.study(study_id)
    assert shown["match"]["is_certain"] is False
    assert "unlinked" in [blocker["kind"] for blocker in shown["sign"]["blockers"]]


def test_a_wrong_finding_is_rejected_and_the_rest_signed_again(practice, signed):
    browser, study_id = signed
    first, *others = browser.study(study_id)["findings"]
    body = {
        "kind": "findings",
        "reason": "it was burnout",
        "password": PASSWORD,
        "finding_ids": [first["id"]],
    }
    assert browser.post(f"/api/studies/{study_id}/retract", body).status_code == 200
    states = {row.id: row.state for row in practice.rows(sa.select(finding))}
    assert states.pop(first["id"]) == "rejected"
    assert set(states.values()) == ({"accepted"} if others else set())
    assert browser.study(study_id)["state"] == "amending"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"password": "wrong"}, 401),
        ({"reason": "x"}, 422),
        ({"kind": "findings"}, 422),
        ({"kind": "findings", "finding_ids": ["0" * 32]}, 422),
        ({"patient_id": "0" * 32}, 404),
    ],
)
def test_a_wrong_request_changes_nothing(practice, signed, change, status):
    browser, study_id = signed
    answer = browser.post(f"/api/studies/{study_id}/retract", {**WRONG, **change})
    assert answer.status_code == status, answer.text
    assert practice.rows(sa.select(retraction)) == []
    assert practice.rows(sa.select(study.c.state), scalars=True) == ["signed"]


def test_the_same_patient_again_and_a_second_time_are_refused(practice, signed):
    browser, study_id = signed
    (owner,) = practice.rows(sa.select(study.c.patient_id), scalars=True)
    path = f"/api/studies/{study_id}/retract"
    assert browser.post(path, {**WRONG, "patient_id": owner}).status_code == 409
    assert browser.post(path, WRONG).status_code == 200
    assert browser.post(path, WRONG).status_code == 409


def test_nothing_signed_is_nothing_to_take_back(practice):
    study_id = practice.add_study()
    answer = practice.sign_in("dentist").post(f"/api/studies/{study_id}/retract", WRONG)
    assert answer.status_code == 409


@pytest.mark.parametrize("role", ["hygienist", "assistant", "office_manager", "auditor"])
def test_only_who_signs_takes_back(practice, signed, role):
    _, study_id = signed
    answer = practice.sign_in(role).post(f"/api/studies/{study_id}/retract", WRONG)
    assert answer.status_code == 403
