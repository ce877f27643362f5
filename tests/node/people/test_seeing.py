"""Who sees what: unsigned findings, other locations' ids, approvals, and emergencies."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import begin, new_id
from node.db.tables import (
    approval,
    audit,
    emergency_access,
    instance,
    patient,
    study,
    workflow_case,
)
from node.domain.rights import RIGHTS, Right, Role
from node.web.auth import Gate, PageGate, declarations
from tests.node.web.conftest import Practice
from tests.roll_out import acknowledge

NON_CLINICAL = ("assistant", "office_manager", "front_desk", "lab_coordinator", "admin")
REASON = "The patient is at the emergency room and the hospital calls."
BODIES = {
    "POST /api/studies/{study_id}/ops": {
        "operations": [
            {
                "op_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "kind": "seen_image",
                "data": {"image_id": "{image_id}"},
            }
        ]
    },
    "POST /api/studies/{study_id}/sign": {"version": 1, "content_hash": "0" * 64},
    "POST /api/studies/{study_id}/amend": {"reason": "curious"},
    "POST /api/studies/{study_id}/link": {"patient_id": "{patient_id}"},
    "POST /api/studies/{study_id}/presence": {"image_id": None},
    "POST /api/studies/{study_id}/retract": {
        "kind": "patient",
        "reason": "wrong patient",
        "password": "correct horse battery",
    },
    "POST /api/cases/{case_id}/cancel": {"reason": "curious"},
    "POST /api/approvals/{approval_id}": {"verdict": "approved"},
    "POST /api/people/{user_id}": {"role": "admin"},
}


def fill(house) -> Practice:
    """What tests of the pages use to fill the tables, over this application."""
    return Practice("", house.db, house.web.store, house.web.location_id, {}, house.app)


def add_case(house, right: Right, draft: dict) -> str:
    """A case that waits for a decision."""
    case_id, approval_id = new_id(), new_id()
    with begin(house.db, house.actor, "test.case") as tx:
        tx.conn.execute(
            workflow_case.insert().values(
                id=case_id,
                location_id=tx.location_id,
                workflow="preauthorisation",
                key=case_id,
                state="waiting",
                stage="ask",
                data={},
                created_at=tx.now,
                updated_at=tx.now,
            )
        )
        tx.conn.execute(
            approval.insert().values(
                id=approval_id,
                location_id=tx.location_id,
                case_id=case_id,
                kind="narrative",
                title="Send",
                right=right.value,
                draft=draft,
                state="waiting",
                escalate_to=Role.OFFICE_MANAGER.value,
                created_at=tx.now,
            )
        )
    return approval_id


@pytest.fixture
def clinic(house):
    acknowledge(house.db, "main")
    return house


# --- unsigned findings ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", NON_CLINICAL)
def test_no_route_gives_an_unsigned_finding_to_who_is_not_clinical(clinic, role):
    practice = fill(clinic)
    study_id = practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    (row,) = clinic.rows(sa.select(study))
    (film,) = clinic.rows(sa.select(instance))
    marks = [
        m["id"] for m in clinic.person("dentist").get(f"/api/studies/{study_id}").json()["findings"]
    ]
    assert len(marks) == 2
    approval_id = add_case(clinic, Right.FINDINGS_SIGN, {"narrative": "caries on tooth 46"})
    values = {
        "study_id": study_id, "image_id": image_id, "number": "0", "part": "now", "frames": "1",
        "study": row.study_instance_uid, "series": film.series_instance_uid or "1.2",
        "instance": film.sop_instance_uid, "tag": "7FE00010", "approval_id": approval_id,
        "name": "x", "path": "",
    }  # fmt: skip
    person = clinic.person(role)
    if Right.GLASS_BREAK in RIGHTS[Role(role)]:
        opened = person.post("/api/emergencies", {"study_id": study_id, "reason": REASON})
        assert opened.status_code == 201, opened.text
    reached = 0
    for method, path, gate in declarations(clinic.app):
        if not isinstance(gate, Gate) or method == "HEAD" or path in ("/api/logout", "/api/lock"):
            continue
        if path == "/api/events":
            continue  # below
        address = re.sub(r"\{(\w+)[^}]*\}", lambda m: values.get(m[1], "0" * 32), path)
        body = json.loads(
            json.dumps(BODIES.get(f"{method} {path}", {})).replace("{image_id}", image_id)
        )
        answer = person.ask(method, address, None if method == "GET" else body)
        reached += answer.status_code == 200
        text = answer.text.lower() if "image" not in answer.headers.get("content-type", "") else ""
        kinds = () if path.startswith("/api/rollout") else ("caries", "bone_level", "0.93", '"c":')
        for word in (*kinds, *marks):  # the roll-out names kinds, of nobody
            assert word not in text, (method, path, word)
    assert reached >= (20 if role == "assistant" else 3)
    for news in clinic.app.state.live.since(0):
        told = news.model_dump_json().lower()
        assert "caries" not in told
        assert not any(mark in told for mark in marks)


def test_signed_findings_are_seen_by_the_assistant_and_drafts_only_by_who_decides(clinic):
    approval_id = add_case(clinic, Right.FINDINGS_SIGN, {"narrative": "caries on tooth 46"})
    assert "caries" in clinic.person("dentist").get(f"/api/approvals/{approval_id}").text
    for role in ("office_manager", "front_desk", "lab_coordinator", "admin", "auditor"):
        person = clinic.person(role)
        assert person.get(f"/api/approvals/{approval_id}").status_code == 403
        assert "caries" not in person.get("/api/approvals").text


# --- approvals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "right",
    [
        Right.PREAUTHS_APPROVE,
        Right.MESSAGES_APPROVE,
        Right.LAB_CASES_MANAGE,
        Right.LAB_CASES_PRESCRIBE,
        Right.RECALLS_ADJUST,
        Right.FINDINGS_SIGN,
    ],
)
def test_each_approval_is_decided_by_exactly_the_roles_with_its_right(house, right):
    for role in Role:
        if role is Role.SERVICE:
            continue
        approval_id = add_case(house, right, {"narrative": "words"})
        path = f"/api/approvals/{approval_id}"
        answer = house.person(role.value).post(path, {"verdict": "approved"})
        may = {Right.WORKFLOWS_SEE, right} <= RIGHTS[role]
        assert (answer.status_code == 403) == (not may), (role, answer.text)
        (row,) = house.rows(sa.select(approval.c.state).where(approval.c.id == approval_id))
        assert row.state == ("approved" if may else "waiting"), role


def test_no_token_decides_an_approval(house):
    approval_id = add_case(house, Right.PREAUTHS_APPROVE, {"narrative": "words"})
    program = house.program(Right.WORKFLOWS_SEE, role="office_manager")
    answer = program.post(f"/api/approvals/{approval_id}", {"verdict": "approved"})
    assert answer.status_code == 403
    assert program.get(f"/api/approvals/{approval_id}").status_code == 403


# --- ids of another location ---------------------------------------------------------------------


def test_every_route_with_an_id_answers_that_another_locations_is_not_there(open_house):
    north, south = open_house("north"), open_house("south")
    practice = fill(north)
    study_id = practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    (row,) = north.rows(sa.select(study))
    (film,) = north.rows(sa.select(instance))
    (person,) = north.rows(sa.select(patient))
    approval_id = add_case(north, Right.PREAUTHS_APPROVE, {"narrative": "words"})
    (case,) = north.rows(sa.select(workflow_case))
    foreign = {
        "study_id": study_id, "image_id": image_id, "case_id": case.id,
        "approval_id": approval_id, "user_id": north.user("dentist"), "patient_id": person.id,
        "receipt_id": practice.add_failed_write(study_id, "refused"), "number": "0", "part": "now",
        "study": row.study_instance_uid, "series": film.series_instance_uid or "1.2",
        "instance": film.sop_instance_uid, "frames": "1", "tag": "7FE00010",
    }  # fmt: skip
    tried = 0
    for method, path, gate in declarations(south.app):
        names = set(re.findall(r"\{(\w+)", path))
        if not isinstance(gate, Gate) or method == "HEAD" or not names or not names <= set(foreign):
            continue
        body = json.dumps(BODIES.get(f"{method} {path}", {"reason": "curious"}))
        for name, value in foreign.items():
            body = body.replace(f"{{{name}}}", value)
        address = re.sub(r"\{(\w+)[^}]*\}", lambda m: foreign[m[1]], path)
        roles = [role for role in Role if set(gate.rights) <= RIGHTS[role]]
        role = Role.DENTIST if Role.DENTIST in roles else roles[0]
        answer = south.person(role.value).ask(
            method, address, None if method == "GET" else json.loads(body)
        )
        if method == "POST" and path.startswith("/dicomweb/"):
            assert answer.status_code == 415  # nothing is looked up there
            continue
        if answer.status_code == 422 and f"{method} {path}" not in BODIES:
            continue  # a later route that wants another body looks nothing up without it
        if "/dicomweb/" in path and path.endswith(("/series", "/instances")):
            assert answer.status_code == 204, path  # a search that finds nothing
        else:
            assert answer.status_code == 404, (method, path, answer.text[:300])
        assert "Doe" not in answer.text
        tried += not isinstance(gate, PageGate)
    assert tried > 35
    (untouched,) = north.rows(sa.select(approval.c.state))
    assert untouched.state == "waiting"
    intruder = south.person("dentist")
    assert intruder.get("/api/worklist").json()["rows"] == []
    manager = south.person("office_manager")
    body = {"study_id": study_id, "reason": REASON}
    assert manager.post("/api/emergencies", body).status_code == 404
    body = {"patient_number": person.pms_key, "reason": REASON}
    assert manager.post("/api/emergencies", body).status_code == 404


def test_a_session_or_token_of_another_location_opens_nothing(open_house):
    north, south = open_house("north"), open_house("south")
    visitor = south.stranger()
    visitor.http.cookies = north.person("dentist").http.cookies
    assert visitor.get("/api/me").status_code == 401
    program = south.stranger()
    program.headers = north.program(Right.WORKLIST_SEE).headers
    assert program.get("/api/worklist").status_code == 401


# --- emergencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["office_manager", "front_desk", "admin"])
def test_an_emergency_opens_one_study_and_no_unsigned_finding(clinic, role):
    practice = fill(clinic)
    study_id, other = practice.analysed_study(), practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    (hidden,) = practice.image_ids(other)
    person = clinic.person(role)
    assert person.get(f"/api/studies/{study_id}").status_code == 403
    assert person.get(f"/review/{study_id}").headers["location"] == f"/emergency/{study_id}"
    opened = person.post("/api/emergencies", {"study_id": study_id, "reason": REASON})
    assert opened.status_code == 201, opened.text
    shown = person.get(f"/api/studies/{study_id}")
    assert shown.json()["patient"]["family_name"] == "Doe"
    assert shown.json()["findings"] == []
    assert person.get(f"/review/{study_id}").status_code == 200
    assert person.get(f"/api/images/{image_id}/pixels").status_code == 200
    for path in (f"/api/studies/{other}", f"/api/images/{hidden}/pixels"):
        assert person.get(path).status_code == 403
    assert person.get(f"/api/images/{image_id}/dicom").status_code == 403
    assert clinic.person(role, f"other-{role}").get(f"/api/studies/{study_id}").status_code == 403
    trail = [row for row in clinic.rows(sa.select(audit)) if row.action == "emergency.opened"]
    assert [row.actor for row in trail] == [clinic.people[role]]
    assert study_id in str(trail[0].detail)
    looks = [row for row in clinic.rows(sa.select(audit)) if row.action == "study.opened"]
    assert looks
    assert all(row.detail.get("emergency") for row in looks)
    assert "hospital" not in str([tuple(row) for row in clinic.rows(sa.select(audit))])


def test_an_emergency_changes_nothing_of_the_study(clinic):
    practice = fill(clinic)
    study_id = practice.analysed_study()
    (image_id,) = practice.image_ids(study_id)
    manager = clinic.person("office_manager")
    manager.post("/api/emergencies", {"study_id": study_id, "reason": REASON})
    mark = clinic.person("dentist").get(f"/api/studies/{study_id}").json()["findings"][0]
    for kind, more in (
        ("accept", {"finding_id": mark["id"], "base_rev": mark["rev"]}),
        ("comment", {"finding_id": mark["id"], "base_rev": mark["rev"], "data": {"text": "x"}}),
        ("place", {"data": {"image_id": image_id, "slot": "", "quarter_turns": 1}}),
    ):
        operation = {"op_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "kind": kind, **more}
        answer = manager.post(f"/api/studies/{study_id}/ops", {"operations": [operation]})
        assert "applied" not in answer.text, kind
        assert "proposed" not in answer.text, kind
    body = {"version": 1, "content_hash": "0" * 64}
    assert manager.post(f"/api/studies/{study_id}/sign", body).status_code == 403


def test_an_emergency_ends(clinic):
    study_id = fill(clinic).analysed_study()
    manager = clinic.person("office_manager")
    answer = manager.post("/api/emergencies", {"study_id": study_id, "reason": REASON})
    until = datetime.fromisoformat(answer.json()["expires_at"])
    assert timedelta(minutes=29) < until - datetime.now(UTC) <= timedelta(minutes=30)
    with clinic.db.begin() as conn:
        conn.execute(emergency_access.update().values(expires_at=datetime.now(UTC)))
    assert manager.get(f"/api/studies/{study_id}").status_code == 403


def test_a_patients_studies_are_opened_by_their_number(clinic):
    practice = fill(clinic)
    study_id = practice.analysed_study()
    practice.analysed_study()
    (row,) = clinic.rows(sa.select(patient).join(study).where(study.c.id == study_id))
    desk = clinic.person("front_desk")
    body = {"patient_number": row.pms_key, "reason": REASON}
    assert desk.post("/api/emergencies", body).json()["studies"] == [study_id]
    assert desk.get(f"/api/studies/{study_id}").status_code == 200
    assert desk.post("/api/emergencies", {**body, "patient_number": "?"}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"reason": REASON},
        {"study_id": "0" * 32, "reason": "because"},
        {"study_id": "0" * 32, "reason": " " * 40},
        {"study_id": "0" * 32, "patient_number": "1", "reason": REASON},
        {"study_id": "../etc", "reason": REASON},
    ],
)
def test_an_emergency_without_a_reason_or_a_place_is_refused(house, body):
    assert house.person("office_manager").post("/api/emergencies", body).status_code == 422


def test_emergencies_can_be_switched_off(open_house):
    house = open_house(web={"emergency_min": 0})
    study_id = fill(house).analysed_study()
    answer = house.person("office_manager").post(
        "/api/emergencies", {"study_id": study_id, "reason": REASON}
    )
    assert answer.status_code == 403


def test_every_emergency_is_shown_and_looked_at_by_somebody_else(clinic):
    study_id = fill(clinic).analysed_study()
    manager, auditor = clinic.person("office_manager"), clinic.person("auditor")
    manager.post("/api/emergencies", {"study_id": study_id, "reason": REASON})
    assert auditor.get("/api/me").json()["emergencies"] == 1
    assert clinic.person("dentist").get("/api/me").json()["emergencies"] == 0
    shown = auditor.get("/api/emergencies").json()
    (access,) = shown["accesses"]
    assert (shown["not_reviewed"], access["reason"], access["is_own"]) == (1, REASON, False)
    path = f"/api/emergencies/{access['id']}/reviewed"
    assert manager.post(path).status_code == 409
    assert auditor.post(path).status_code == 204
    shown = manager.get("/api/emergencies").json()
    assert (shown["not_reviewed"], shown["accesses"][0]["reviewed_by"]) == (0, "The auditor")
    for role in ("front_desk", "admin", "dentist"):
        assert clinic.person(role).get("/api/emergencies").status_code == 403
