"""The reader's path through the API: worklist, study, operations, conflicts, undo."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from node.db.tables import audit, finding, operation


def caries_of(browser, study_id):
    return next(f for f in browser.study(study_id)["findings"] if f["kind"] == "caries")


def on(mark, kind, /, **data):
    return {"kind": kind, "finding_id": mark["id"], "base_rev": mark["rev"], "data": data}


def test_the_worklist_shows_a_ready_study_and_its_suggestions(practice):
    study_id = practice.analysed_study(images=2)
    answer = practice.sign_in("dentist").get("/api/worklist").json()
    row = next(row for row in answer["rows"] if row["id"] == study_id)
    assert row["label"] == "BW 2"
    assert row["state"] == "ready"
    assert row["suggestions"] == {"B": 2, "C": 2}
    assert row["patient"]["family_name"] == "Doe"
    assert row["patient"]["source"] == "pms"
    assert answer["counts"] == {
        "to_review": 1,
        "today": 0,
        "signed_today": 0,
        "all": 1,
        "problems": 0,
    }


def test_an_unmatched_study_is_a_problem_with_its_reason(practice):
    study_id = practice.analysed_study(patient_id=None)
    answer = practice.sign_in("dentist").get("/api/worklist", params={"filter": "problems"}).json()
    (row,) = answer["rows"]
    assert row["id"] == study_id
    assert row["problems"][0]["kind"] == "unmatched"
    assert "name and birth date" in row["problems"][0]["words"]
    assert row["patient"]["source"] == "sender"


def test_a_study_answer_draws_the_page(practice):
    study_id = practice.analysed_study()
    shown = practice.sign_in("dentist").study(study_id)
    (image,) = shown["images"]
    assert image["view"] == "bitewing"
    assert image["grey"]["windows"] == [{"center": 2048.0, "width": 4096.0, "label": ""}]
    assert image["grey"]["sample_offset"] == 0
    assert image["teeth"][0]["universal"] == "30"
    caries = next(f for f in shown["findings"] if f["kind"] == "caries")
    assert caries["geometry"] == {"type": "box", "points": [[30.0, 30.0], [50.0, 50.0]]}
    assert (caries["letter"], caries["universal"], caries["surfaces"]) == ("C", "30", "D")
    assert caries["model"]["version"] == "1.0"
    assert shown["notes"] == ["Caries marks on this view are suggestions."]
    assert shown["sign"]["needs_reason"] is False


def test_accept_reject_and_edit_keep_who_and_the_original(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    mark = caries_of(dentist, study_id)
    answer = dentist.ops(
        study_id,
        {
            "kind": "set_geometry",
            "finding_id": mark["id"],
            "base_rev": 1,
            "data": {"geometry": {"type": "box", "points": [[28, 31], [52, 49]]}},
        },
        {"kind": "set_depth", "finding_id": mark["id"], "base_rev": 2, "data": {"depth": "D1"}},
        {
            "kind": "set_disposition",
            "finding_id": mark["id"],
            "base_rev": 3,
            "data": {"disposition": "restore"},
        },
    )
    assert answer.status_code == 200, answer.text
    edited = answer.json()["results"][-1]["finding"]
    assert edited["state"] == "edited"
    assert edited["rev"] == 4
    assert edited["depth"] == "D1"
    assert edited["disposition"] == "restore"
    assert edited["original"]["geometry"]["points"] == [[30.0, 30.0], [50.0, 50.0]]
    assert edited["original"]["depth"] is None
    assert edited["decided_by"] == "The dentist of main"
    assert edited["decided_by_me"] is True
    rejected = dentist.ops(study_id, on(edited, "reject", reason="overlap")).json()["results"][0]
    assert (rejected["finding"]["state"], rejected["finding"]["reason"]) == ("rejected", "overlap")


def test_the_same_operation_twice_has_one_effect_and_one_answer(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    accept = {"op_id": str(uuid.uuid4()), **on(caries_of(dentist, study_id), "accept")}
    first = dentist.post(f"/api/studies/{study_id}/ops", {"operations": [accept]})
    again = dentist.post(f"/api/studies/{study_id}/ops", {"operations": [accept, accept]})
    assert first.status_code == again.status_code == 200
    assert again.json()["results"] == first.json()["results"] * 2
    assert caries_of(dentist, study_id)["rev"] == 2
    assert len(practice.rows(sa.select(operation))) == 1


def test_an_operation_id_of_somebody_else_is_refused_without_a_leak(practice):
    study_id = practice.analysed_study()
    dentist, hygienist = practice.sign_in("dentist"), practice.sign_in("hygienist")
    accept = {"op_id": str(uuid.uuid4()), **on(caries_of(dentist, study_id), "accept")}
    dentist.post(f"/api/studies/{study_id}/ops", {"operations": [accept]})
    answer = hygienist.post(f"/api/studies/{study_id}/ops", {"operations": [accept]})
    assert answer.status_code == 409
    (result,) = answer.json()["results"]
    assert (result["status"], result["finding"]) == ("refused", None)


def test_a_conflict_keeps_both_decisions_and_the_others_go_on(practice):
    study_id = practice.analysed_study()
    first, second = practice.sign_in("dentist"), practice.sign_in("dentist")
    mark = caries_of(first, study_id)
    other = next(f for f in first.study(study_id)["findings"] if f["kind"] == "bone_level")
    assert first.ops(study_id, on(mark, "accept")).status_code == 200
    answer = second.ops(study_id, on(mark, "reject", reason="other"), on(other, "accept"))
    assert answer.status_code == 409
    conflict, applied = answer.json()["results"]
    assert conflict["status"] == "conflict"
    assert conflict["finding"]["state"] == "accepted"
    assert conflict["mine"]["kind"] == "reject"
    assert applied["status"] == "applied"
    kept = practice.rows(sa.select(operation.c.kind, operation.c.outcome))
    assert [(row.kind, row.outcome["status"]) for row in kept][:2] == [
        ("accept", "applied"),
        ("reject", "conflict"),
    ]
    mine = second.ops(study_id, on(conflict["finding"], "reject", reason="other"))
    assert mine.json()["results"][0]["finding"]["state"] == "rejected"


def test_undo_and_redo_put_back_exactly_what_was(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    mark = caries_of(dentist, study_id)
    reject = {"op_id": str(uuid.uuid4()), **on(mark, "reject", reason="overlap")}
    done = dentist.post(f"/api/studies/{study_id}/ops", {"operations": [reject]}).json()
    undo = {
        "op_id": str(uuid.uuid4()),
        **on(done["results"][0]["finding"], "restore", op_id=reject["op_id"]),
    }
    undone = dentist.post(f"/api/studies/{study_id}/ops", {"operations": [undo]}).json()
    back = undone["results"][0]["finding"]
    assert {**back, "rev": 1} == {**mark, "rev": 1}
    redone = dentist.ops(study_id, on(back, "restore", op_id=undo["op_id"])).json()
    assert redone["results"][0]["finding"]["state"] == "rejected"
    assert redone["results"][0]["finding"]["reason"] == "overlap"


def test_undo_never_touches_another_persons_change(practice):
    study_id = practice.analysed_study()
    first = practice.sign_in("dentist")
    practice.add_user("second", "dentist")
    second = practice.sign_in("second")
    accept = {"op_id": str(uuid.uuid4()), **on(caries_of(first, study_id), "accept")}
    first.post(f"/api/studies/{study_id}/ops", {"operations": [accept]})
    second.ops(study_id, on(caries_of(second, study_id), "set_depth", depth="E2"))
    mark = caries_of(first, study_id)
    answer = first.ops(study_id, on(mark, "restore", op_id=accept["op_id"]))
    assert answer.status_code == 409
    assert caries_of(first, study_id)["depth"] == "E2"


def test_an_added_mark_is_born_accepted_and_measured_on_the_server(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    (image_id,) = practice.image_ids(study_id)
    mark_id = uuid.uuid4().hex
    data = {
        "image_id": image_id,
        "kind": "bone_level",
        "geometry": {"type": "line", "points": [[100, 40], [100, 90]]},
        "tooth": "36",
        "surfaces": "M",
    }
    answer = dentist.ops(study_id, {"kind": "add", "finding_id": mark_id, "data": data})
    mark = answer.json()["results"][0]["finding"]
    assert (mark["id"], mark["origin"], mark["state"]) == (mark_id, "human", "accepted")
    assert mark["value_mm"] == 1.0  # 50 pixels of 0.02 mm
    assert mark["model"] is None
    removed = dentist.ops(study_id, on(mark, "remove_own"))
    assert removed.status_code == 200
    assert mark_id not in {f["id"] for f in dentist.study(study_id)["findings"]}
    ai = caries_of(dentist, study_id)
    assert dentist.ops(study_id, on(ai, "remove_own")).status_code == 409


def test_bad_marks_are_refused_one_by_one_and_change_nothing(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    mark = caries_of(dentist, study_id)
    bad = [
        on(mark, "set_geometry", geometry={"type": "box", "points": [[150, 10], [170, 40]]}),
        on(mark, "set_geometry", geometry={"type": "box", "points": [[10, 10], [12, 40]]}),
        on(mark, "set_geometry", geometry={"type": "circle", "points": [[1, 1]]}),
        on(mark, "set_geometry", geometry=None),
        on(mark, "set_tooth", tooth="99", surfaces="M"),
        on(mark, "set_tooth", tooth="46", surfaces="MM"),
        on(mark, "set_depth", depth="E9"),
        on(mark, "set_class", kind="bone_level"),
        on(mark, "set_value", value_mm=3.0, value_percent=None),
        on(mark, "reject", reason="because"),
        on(mark, "comment", text="x" * 501),
        {"kind": "add", "data": {"kind": "caries"}},
        {"kind": "accept", "finding_id": mark["id"]},
    ]
    answer = dentist.ops(study_id, *bad)
    assert answer.status_code == 422
    assert {result["status"] for result in answer.json()["results"]} <= {"invalid", "refused"}
    assert caries_of(dentist, study_id) == mark
    assert len(practice.rows(sa.select(finding))) == 2


def test_a_hygienist_proposes_and_the_dentist_decides(practice):
    study_id = practice.analysed_study()
    hygienist, dentist = practice.sign_in("hygienist"), practice.sign_in("dentist")
    proposed = hygienist.ops(study_id, on(caries_of(hygienist, study_id), "accept"))
    assert proposed.json()["results"][0]["status"] == "proposed"
    assert proposed.json()["results"][0]["finding"]["proposal"]["by"] == "The hygienist of main"
    mark = caries_of(dentist, study_id)
    assert (mark["state"], mark["rev"]) == ("suggested", 1)
    assert mark["proposal"]["kind"] == "accept"
    refused = hygienist.ops(study_id, on(mark, "set_depth", depth="E2"))
    assert refused.status_code == 409
    assert dentist.ops(study_id, on(mark, "accept")).status_code == 200
    assert caries_of(dentist, study_id)["proposal"] is None


def test_every_change_leaves_an_audit_row_without_names(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    dentist.ops(study_id, on(caries_of(dentist, study_id), "accept"))
    rows = practice.rows(sa.select(audit).where(audit.c.action == "review.operations"))
    assert rows[-1].actor == dentist.me["user_id"]
    assert rows[-1].subject == f"study:{study_id}"
    assert rows[-1].detail["operations"][0]["state"] == "accepted"
    opened = practice.rows(sa.select(audit).where(audit.c.action == "study.opened"))
    assert {row.actor for row in opened} == {dentist.me["user_id"]}
    assert "Doe" not in str([tuple(row) for row in practice.rows(sa.select(audit))])


def test_findings_stay_open_to_work_while_others_are_refused_on_another_study(practice):
    first, second = practice.analysed_study(), practice.analysed_study()
    dentist = practice.sign_in("dentist")
    mark = caries_of(dentist, first)
    answer = dentist.ops(second, on(mark, "accept"))
    assert answer.json()["results"][0]["status"] == "refused"
    assert caries_of(dentist, first)["state"] == "suggested"
