"""A picture that may name its patient: shown as a problem, held, let go by a person."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import begin
from node.db.tables import audit, burned_in, image_delivery, study, user_account
from node.dicom.burned_in import note
from node.dicom.forwarding import Forwarder

WORDS = "There seems to be a line of lettering in the picture; it may name the patient."
PEERS = [
    {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 9, "when": "Modality == 'IO'"}
    | more
    for name, more in (("archive", {}), ("clinic", {"external": True}))
]


def lettered_study(practice) -> tuple[str, str]:
    study_id = practice.analysed_study(images=2)
    image_id = practice.image_ids(study_id)[0]
    with begin(practice.db, practice.actor, "test") as tx:
        note(tx, image_id, WORDS)
        tx.conn.execute(study.update().values(state="ready"))
    return study_id, image_id


def problems(browser, study_id: str) -> list[dict]:
    rows = browser.get("/api/worklist?filter=all").json()["rows"]
    (row,) = [row for row in rows if row["id"] == study_id]
    return row["problems"]


def states(practice, peer: str) -> list[str]:
    query = sa.select(image_delivery.c.state).where(image_delivery.c.peer == peer)
    return sorted(practice.rows(query, scalars=True))


def config_of(practice) -> Config:
    dicom = {"peers": PEERS, "min_free_mb": 0}
    return read_config(None, {}, {"dicom": dicom, "node": {"location_id": practice.location_id}})


def test_a_dentist_lets_a_picture_leave_and_nobody_else_may(open_practice):
    practice = open_practice(dicom={"peers": PEERS})
    study_id, image_id = lettered_study(practice)
    dentist = practice.sign_in("dentist")
    (problem,) = problems(dentist, study_id)
    assert (problem["kind"], problem["instance_id"]) == ("lettering", image_id)
    assert problem["words"].startswith(WORDS)
    body = {"reason": "Only the tooth number is written there."}
    hygienist = practice.sign_in("hygienist")
    assert hygienist.post(f"/api/images/{image_id}/release", body).status_code == 403
    assert dentist.post(f"/api/images/{image_id}/release", {"reason": ""}).status_code == 422
    assert dentist.post(f"/api/images/{'0' * 32}/release", body).status_code == 404
    assert dentist.post(f"/api/images/{image_id}/release", body).status_code == 204
    assert problems(dentist, study_id) == []
    (row,) = practice.rows(sa.select(burned_in))
    is_dentist = user_account.c.username == "dentist"
    (user_id,) = practice.rows(sa.select(user_account.c.id).where(is_dentist), scalars=True)
    assert row.released_by == user_id
    (entry,) = practice.rows(sa.select(audit).where(audit.c.action == "image.released"))
    assert "tooth number" not in str(entry.detail), "words of a person stay out of the audit"


def test_where_nothing_leaves_nobody_is_asked(practice):
    study_id, _ = lettered_study(practice)
    assert problems(practice.sign_in("dentist"), study_id) == []


def test_only_peers_outside_the_house_wait(practice):
    lettered_study(practice)
    forwarder = Forwarder(practice.db, practice.store, config_of(practice))
    forwarder.run_due(datetime.now(UTC))  # nobody listens: what may leave stays queued
    assert states(practice, "archive") == ["queued", "queued"]
    assert states(practice, "clinic") == ["held", "queued"]
    with begin(practice.db, practice.actor, "test") as tx:
        tx.conn.execute(burned_in.update().values(released_at=tx.now, released_by="test"))
    forwarder.run_due(datetime.now(UTC))
    assert states(practice, "clinic") == ["queued", "queued"]


def test_what_nobody_could_look_at_does_not_leave_either(practice):
    study_id, _ = lettered_study(practice)
    practice.fail(practice.image_ids(study_id)[1], "the models failed")
    Forwarder(practice.db, practice.store, config_of(practice)).run_due(datetime.now(UTC))
    assert states(practice, "clinic") == ["held", "held"]
