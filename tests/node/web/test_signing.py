"""The sign-off gate: what it refuses, what a signature writes, amending, silent mode."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.db.tables import event, instance, review, study, web_session
from node.domain.review import SignedReview
from node.web.signing import signed_hash


def reasons(answer):
    assert answer.status_code == 409, answer.text
    assert answer.json()["type"] == "not_signable"
    return {blocker["kind"] for blocker in answer.json()["blockers"]}


def ready_to_sign(practice, images=1):
    study_id = practice.analysed_study(images)
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    dentist.accept_all(study_id)
    return study_id, dentist


def jobs(practice):
    query = sa.text("SELECT workflow_uuid FROM workflow_status ORDER BY workflow_uuid")
    return practice.rows(query, scalars=True)


def test_nothing_can_be_signed_unseen_or_undecided(practice):
    study_id = practice.analysed_study(images=2)
    dentist = practice.sign_in("dentist")
    assert reasons(dentist.sign(study_id)) == {"unseen", "undecided"}
    dentist.see_all(study_id)
    assert reasons(dentist.sign(study_id)) == {"undecided"}
    assert practice.rows(sa.select(review)) == []
    assert jobs(practice) == []


def test_seeing_is_personal(practice):
    study_id, _ = ready_to_sign(practice)
    practice.add_user("second", "dentist")
    assert reasons(practice.sign_in("second").sign(study_id)) == {"unseen"}


def test_a_doubtful_patient_blocks_the_signature_until_a_person_links(practice):
    study_id = practice.analysed_study(patient_id=None)
    patient_id = practice.add_patient()
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    dentist.accept_all(study_id)
    assert reasons(dentist.sign(study_id)) == {"unlinked"}
    offered = dentist.get(f"/api/studies/{study_id}/candidates").json()
    assert offered["sender"]["family_name"] == "Doe"
    assert [one["patient_id"] for one in offered["candidates"]] == [patient_id]
    linked = dentist.post(f"/api/studies/{study_id}/link", {"patient_id": patient_id})
    assert linked.json()["match"]["state"] == "linked"
    assert dentist.sign(study_id).status_code == 200


def test_an_image_still_on_its_way_blocks_the_signature(practice):
    study_id, dentist = ready_to_sign(practice)
    practice.add_image(study_id, 2, state="received")
    dentist.see_all(study_id)
    assert reasons(dentist.sign(study_id)) == {"not_ready"}


def test_a_study_that_changed_since_the_screen_was_drawn_is_refused(practice):
    study_id, dentist = ready_to_sign(practice)
    shown = dentist.study(study_id)
    mark = shown["findings"][0]
    practice.add_user("second", "dentist")
    reject = {"kind": "reject", "finding_id": mark["id"], "base_rev": mark["rev"]}
    assert practice.sign_in("second").ops(study_id, reject).status_code == 200
    assert reasons(dentist.sign(study_id, content_hash=shown["content_hash"])) == {"changed"}
    assert dentist.sign(study_id).status_code == 200


def test_a_link_to_another_patient_since_the_screen_was_drawn_is_refused(practice):
    study_id, dentist = ready_to_sign(practice)
    shown = dentist.study(study_id)
    other = {"patient_id": practice.add_patient("Roe", "Sam")}
    assert dentist.post(f"/api/studies/{study_id}/link", other).status_code == 200
    assert reasons(dentist.sign(study_id, content_hash=shown["content_hash"])) == {"changed"}


def test_an_old_proof_of_identity_asks_for_the_password(practice):
    study_id, dentist = ready_to_sign(practice)
    with practice.db.begin() as conn:
        long_ago = datetime.now(UTC) - timedelta(minutes=6)
        conn.execute(web_session.update().values(proved_at=long_ago))
    assert reasons(dentist.sign(study_id)) == {"proof"}
    assert reasons(dentist.sign(study_id, password="not the password")) == {"proof"}
    assert dentist.sign(study_id, password="correct horse battery").status_code == 200


def test_a_signature_stores_the_review_and_starts_what_follows(practice):
    study_id, dentist = ready_to_sign(practice, images=2)
    shown = dentist.study(study_id)
    answer = dentist.sign(study_id)
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == 1
    (row,) = practice.rows(sa.select(review))
    signed = SignedReview.from_json(row.content)
    assert row.content_hash == shown["content_hash"] == signed_hash(row.content)
    assert signed.signer_name == "The dentist of main"
    assert signed.signer_role == "dentist"
    assert len(signed.instances) == 2
    assert signed.counts.accepted == signed.counts.suggested == len(signed.findings) == 4
    assert [str(model) for model in signed.models] == ["intraoral 1.0"]
    assert "Doe" not in str(row.content)
    (now,) = practice.rows(sa.select(study))
    assert (now.state, now.review_version) == ("signed", 1)
    (told,) = practice.rows(sa.select(event).where(event.c.kind == "review.signed"))
    assert told.data == {"study_id": study_id, "version": 1}
    assert jobs(practice) == [f"chart:{study_id}:1", f"publish:{study_id}:1:0"]
    after = dentist.study(study_id)
    assert (after["state"], after["is_editable"]) == ("signed", False)
    assert after["versions"][0]["counts"]["accepted"] == 4


def test_a_repeated_signature_has_one_effect_and_the_same_answer(practice):
    study_id, dentist = ready_to_sign(practice)
    shown = dentist.study(study_id)
    body = {"version": 1, "content_hash": shown["content_hash"]}
    first = dentist.post(f"/api/studies/{study_id}/sign", body)
    again = dentist.post(f"/api/studies/{study_id}/sign", body)
    assert first.status_code == again.status_code == 200
    assert again.json()["signed_at"] == first.json()["signed_at"]
    assert len(practice.rows(sa.select(review))) == 1
    assert len(jobs(practice)) == 2


def test_a_signed_study_changes_only_by_an_amendment_with_a_reason(practice):
    study_id, dentist = ready_to_sign(practice)
    assert dentist.sign(study_id).status_code == 200
    mark = dentist.study(study_id)["findings"][0]
    reject = {"kind": "reject", "finding_id": mark["id"], "base_rev": mark["rev"]}
    assert dentist.ops(study_id, reject).status_code == 409
    assert dentist.post(f"/api/studies/{study_id}/amend", {"reason": ""}).status_code == 422
    reason = "wrong tooth"
    amended = dentist.post(f"/api/studies/{study_id}/amend", {"reason": reason})
    assert amended.json() == {"next_version": 2}
    assert dentist.study(study_id)["state"] == "amending"
    assert dentist.ops(study_id, reject).status_code == 200
    assert dentist.sign(study_id).status_code == 200
    versions = practice.rows(sa.select(review).order_by(review.c.version))
    assert [(row.version, row.reason) for row in versions] == [(1, ""), (2, reason)]
    assert [len(row.content["findings"]) for row in versions] == [2, 1]
    assert f"chart:{study_id}:2" in jobs(practice)


def test_a_late_image_needs_a_reason_for_the_second_version(practice):
    study_id, dentist = ready_to_sign(practice)
    assert dentist.sign(study_id).status_code == 200
    practice.add_image(study_id, 2)
    with practice.db.begin() as conn:
        conn.execute(study.update().values(state="ready"))
    dentist.see_all(study_id)
    assert reasons(dentist.sign(study_id)) == {"reason"}
    assert dentist.sign(study_id, reason="one more image").status_code == 200


def test_the_reason_of_an_earlier_amendment_is_not_taken_for_a_later_version(practice):
    study_id, dentist = ready_to_sign(practice)
    assert dentist.sign(study_id).status_code == 200
    amend = {"reason": "wrong tooth"}
    assert dentist.post(f"/api/studies/{study_id}/amend", amend).status_code == 200
    assert dentist.sign(study_id).status_code == 200
    practice.add_image(study_id, 2)
    with practice.db.begin() as conn:
        conn.execute(study.update().values(state="ready"))
    dentist.see_all(study_id)
    assert reasons(dentist.sign(study_id)) == {"reason"}
    assert dentist.sign(study_id, reason="one more image").status_code == 200


def test_only_weak_suggestions_may_expressly_be_left(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    marks = {mark["kind"]: mark["id"] for mark in dentist.study(study_id)["findings"]}
    both = list(marks.values())
    refused = dentist.sign(study_id, left_unreviewed=both)
    assert reasons(refused) == {"undecided"}
    assert refused.json()["blockers"][0]["ids"] == [marks["caries"]]
    mark = {"finding_id": marks["caries"], "base_rev": 1}
    assert dentist.ops(study_id, {"kind": "reject", **mark}).status_code == 200
    assert dentist.sign(study_id, left_unreviewed=both).status_code == 200
    (row,) = practice.rows(sa.select(review))
    assert row.content["counts"]["left_unreviewed"] == 1
    assert row.content["findings"] == []


def test_unreadable_images_do_not_block_and_are_not_signed(practice):
    study_id, dentist = ready_to_sign(practice)
    broken = practice.add_image(study_id, 2)
    with practice.db.begin() as conn:
        conn.execute(
            instance.update()
            .where(instance.c.id == broken)
            .values(state="unreadable", failure="the pixel data is cut off", rows=None)
        )
    shown = dentist.study(study_id)
    assert shown["images"][1]["grey"] is None
    assert shown["images"][1]["failure"] == "the pixel data is cut off"
    assert dentist.sign(study_id).status_code == 200
    (row,) = practice.rows(sa.select(review))
    assert broken not in [pair[0] for pair in row.content["instances"]]


def test_silent_mode_shows_no_suggestion_anywhere_yet_lets_the_reader_work(open_practice):
    practice = open_practice(mode="silent")
    study_id = practice.analysed_study(images=2)
    dentist = practice.sign_in("dentist")
    shown = dentist.study(study_id)
    assert shown["findings"] == []
    assert shown["models"] == shown["notes"] == []
    assert all(image["teeth"] == [] and image["view"] is None for image in shown["images"])
    for path in ("/api/worklist", f"/api/studies/{study_id}", "/", f"/review/{study_id}"):
        text = dentist.get(path).text
        for word in ("caries", "intraoral", "0.93", "suggested"):
            assert word not in text.lower(), (path, word)
    hidden = practice.rows(sa.text("SELECT id FROM finding"), scalars=True)[0]
    accept = {"kind": "accept", "finding_id": hidden, "base_rev": 1}
    assert dentist.ops(study_id, accept).json()["results"][0]["status"] == "refused"
    own = {
        "image_id": shown["images"][0]["id"],
        "kind": "caries",
        "geometry": {"type": "box", "points": [[10, 10], [30, 30]]},
    }
    assert dentist.ops(study_id, {"kind": "add", "data": own}).status_code == 200
    dentist.see_all(study_id)
    assert dentist.sign(study_id).status_code == 200
    (row,) = practice.rows(sa.select(review))
    assert row.content["counts"] == {
        "suggested": 0,
        "accepted": 0,
        "edited": 0,
        "rejected": 0,
        "added": 1,
        "left_unreviewed": 0,
    }
    assert row.content["models"] == []


def test_a_failed_analysis_is_started_again_under_a_new_key(practice):
    study_id = practice.add_study(images=0)
    image_id = practice.add_image(study_id, state="received")
    practice.fail(image_id, "the models failed (RuntimeError)")
    dentist = practice.sign_in("dentist")
    row = dentist.get("/api/worklist").json()["rows"][0]
    assert row["problems"][0]["kind"] == "failed"
    assert row["problems"][0]["instance_id"] == image_id
    assert dentist.post(f"/api/images/{image_id}/retry").json() == {"attempt": 1}
    assert dentist.post(f"/api/images/{image_id}/retry").status_code == 409
    practice.fail(image_id, "the models failed (RuntimeError)")
    assert dentist.post(f"/api/images/{image_id}/retry").json() == {"attempt": 2}
    assert jobs(practice) == [f"analyse:{image_id}:1", f"analyse:{image_id}:2"]


def test_a_write_that_failed_is_a_problem_and_tried_again(practice):
    study_id, dentist = ready_to_sign(practice)
    assert dentist.sign(study_id).status_code == 200
    command_id = practice.add_failed_write(study_id, "the practice system refused the note")
    receipt = dentist.study(study_id)["receipts"][0]
    assert (receipt["state"], receipt["error"]) == (
        "failed",
        "the practice system refused the note",
    )
    manager = practice.sign_in("office_manager")
    listed = manager.get("/api/worklist", params={"filter": "problems"}).json()
    (problem,) = listed["rows"][0]["problems"]
    assert problem["receipt_id"] == command_id
    assert problem["words"] == "The practice system refused the note."
    assert manager.post(f"/api/receipts/{command_id}/retry").status_code == 204
    assert manager.post(f"/api/receipts/{command_id}/retry").status_code == 409
    assert dentist.study(study_id)["receipts"][0]["state"] == "queued"
    assert f"deliver:{command_id}:4" in jobs(practice)


def test_a_reader_cannot_forge_an_operation_id(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    body = {"operations": [{"op_id": "x' OR 1=1", "kind": "accept"}]}
    answer = dentist.post(f"/api/studies/{study_id}/ops", body)
    assert answer.status_code == 422
    assert "OR 1=1" not in answer.text
    assert uuid.UUID(dentist.me["user_id"])
