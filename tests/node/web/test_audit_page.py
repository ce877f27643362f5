"""The audit's page and API: found by person, patient, study and day; exports prove themselves."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db import audit as chain
from node.db.session import Actor, read
from node.db.tables import audit, patient
from node.domain.audit_chain import verify_export


def actions(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["action"] for row in answer.json()["rows"]]


@pytest.fixture
def looked(practice):
    """Two patients' studies; the dentist looked at the first, an assistant at the second."""
    first, second = practice.add_study(), practice.add_study()
    dentist, assistant = practice.sign_in("dentist"), practice.sign_in("assistant")
    for person, study_id in ((dentist, first), (assistant, second)):
        (image_id,) = practice.image_ids(study_id)
        person.study(study_id)
        assert person.get(f"/api/images/{image_id}/pixels").status_code == 200
    return practice.sign_in("auditor"), first, second


def test_entries_are_found_by_person_study_action_and_day(practice, looked):
    auditor, first, second = looked

    def ask(**body: str):
        return auditor.post("/api/audit/search", body)

    assert set(actions(ask(user="dentist", study=first))) == {"study.opened", "image.opened"}
    assert actions(ask(user="dentist", study=second)) == []
    assert actions(ask(action="image.opened")) == ["image.opened"] * 2
    assert set(actions(ask(action="image"))) == {"image.opened"}
    today = datetime.now(UTC).date()
    assert actions(ask(since=str(today + timedelta(days=1)))) == []
    assert len(actions(ask(until=str(today), user="assistant", action="study"))) == 1
    rows = ask(user="dentist", action="image").json()["rows"]
    assert rows[0]["who"] == "dentist"
    assert ask(study="f" * 32).status_code == 404
    assert ask(since="2026-02-02", until="2026-01-01").status_code == 422


def test_everything_about_a_patient_is_found_by_the_number_of_the_practice(practice, looked):
    auditor, *_ = looked
    with read(practice.db) as conn:
        keys = conn.execute(sa.select(patient.c.pms_key, patient.c.id)).all()
    found = {key: actions(auditor.post("/api/audit/search", {"patient": key})) for key, _ in keys}
    for answers in found.values():
        assert {"study.opened", "image.opened"} <= set(answers)
        assert answers.count("image.opened") == 1


def test_pages_go_on_where_the_last_one_ended(practice, looked):
    auditor, *_ = looked
    web, web_actor = practice.app.state.web, Actor(auditor.me["user_id"], "main")
    for number in range(120):
        web.reads.note(web_actor, "image.opened", f"instance:{number}")
    first = auditor.post("/api/audit/search", {"user": "auditor"}).json()
    assert len(first["rows"]) == 100
    rest = auditor.post(
        "/api/audit/search", {"user": "auditor", "before_seq": first["next_before"]}
    ).json()
    assert rest["rows"][0]["seq"] < first["rows"][-1]["seq"]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_of_one_person_proves_itself(practice, looked, tmp_path, form):
    auditor, *_ = looked
    answer = auditor.post("/api/audit/export", {"user": "dentist", "form": form})
    assert answer.status_code == 200, answer.text
    path = tmp_path / f"audit.{form}"
    path.write_bytes(answer.content)
    proof = verify_export(path)
    assert (proof.problem, proof.shown > 0, proof.left_out > 0) == ("", True, True)
    with read(practice.db) as conn:
        head = chain.read_head(conn)
        row = conn.execute(sa.select(audit.c.hash).where(audit.c.seq == head.seq)).scalar_one()
        exported = conn.execute(sa.select(audit).where(audit.c.action == "audit.exported")).one()
    assert proof.head == row
    assert exported.detail["asked"]["user"] == "dentist"


@pytest.mark.parametrize("role", ["dentist", "office_manager", "admin", "front_desk"])
def test_only_those_who_examine_it_see_the_audit(practice, role):
    person = practice.sign_in(role)
    for path in ("/api/audit/search", "/api/audit/export"):
        assert person.post(path, {}).status_code == 403
    assert person.get("/audit").status_code == 403


def test_the_page_opens_for_the_auditor(practice):
    answer = practice.sign_in("auditor").get("/audit")
    assert answer.status_code == 200
    assert "audit/main.mjs" in answer.text
