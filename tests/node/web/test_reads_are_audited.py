"""Every route says what it leaves in the audit, and does: reads before they are shown, writes."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from node.db import audit as chain
from node.db.session import Actor, begin, read
from node.db.tables import analysis_run, audit, instance, study
from node.domain.rights import Right
from node.errors import Retryable
from node.web.auth import declarations
from node.web.read_log import ReadLog

#: What each route that shows patients' data leaves, asked as below.
READS = {
    "/": "worklist.shown",
    "/api/worklist": "worklist.shown",
    "/review/{study_id}": "study.opened",
    "/api/studies/{study_id}": "study.opened",
    "/api/studies/{study_id}/chart": "chart.opened",
    "/api/studies/{study_id}/candidates": "candidates.opened",
    "/api/studies/{study_id}/patient-page": "patient_page.shown",
    "/api/studies/{study_id}/patient-page.pdf": "patient_page.printed",
    "/patient/{study_id}": "patient_page.shown",
    "/api/images/{image_id}/preview": "image.previewed",
    "/api/images/{image_id}/pixels": "image.opened",
    "/api/images/{image_id}/dicom": "image.downloaded",
    "/dicomweb/studies": "archive.searched",
    "/dicomweb/series": "archive.searched",
    "/dicomweb/instances": "archive.searched",
    "/dicomweb/studies/{study}/series": "archive.searched",
    "/dicomweb/studies/{study}/instances": "archive.searched",
    "/dicomweb/studies/{study}/series/{series}/instances": "archive.searched",
    "/dicomweb/studies/{study}": "archive.opened",
    "/dicomweb/studies/{study}/series/{series}": "archive.opened",
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}": "archive.opened",
    "/dicomweb/studies/{study}/metadata": "archive.opened",
    "/dicomweb/studies/{study}/series/{series}/metadata": "archive.opened",
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata": "archive.opened",
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}": (
        "archive.opened"
    ),
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}/rendered": "archive.opened",
}
#: Reads that need more than a study and one image; each has its own test.
ELSEWHERE = {
    "/api/images/{image_id}/color": "image.opened",
    "/api/studies/{study_id}/versions": "study.versions_shown",
    "/api/studies/{study_id}/comparisons/{number}/{part}": "image.opened, images.compared",
    "/dicomweb/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}": (
        "archive.opened"
    ),
    "/open/{token}": "study.link_opened",
}
#: What shows no patient, and why.
NO_PATIENT = {
    "/login", "/account", "/people", "/search", "/workflows", "/static/{name:path}",  # forms, files
    "/api/me", "/api/sessions", "/api/second-factor", "/api/tokens",  # of the one who asks
    "/api/people", "/api/people/{user_id}/sessions",  # who works here
    "/emergency", "/emergency/{study_id}", "/emergencies", "/api/emergencies",  # reasons, ids
    "/api/events",  # ids and numbers
    "/healthz", "/metrics",
    "/audit",  # the form; what it finds is asked by POST
}  # fmt: skip
#: Searches that are asked by POST.
SEARCHES = {
    "/api/patients/search": "patients.searched",
    "/api/findings/search": "findings.searched",
    "/api/findings/export": "findings.exported",
    "/api/audit/search": "audit.searched",
    "/api/audit/export": "audit.exported",
}


def gets(practice) -> set[str]:
    return {path for method, path, _ in declarations(practice.app) if method == "GET"}


def patients_rights() -> set[Right]:
    words = ("patients.", "images.", "findings.", "patient_page.", "worklist.")
    return {right for right in Right if right.value.startswith(words)}


def test_every_route_that_shows_patients_says_what_it_leaves(practice):
    """A new route fails here until it is listed with its entry, or among those without patients."""
    said = {*READS, *ELSEWHERE}
    unsaid = [
        path
        for method, path, gate in declarations(practice.app)
        if method == "GET"
        and path not in said
        and set(getattr(gate, "rights", ())) & patients_rights()
        and path not in NO_PATIENT
    ]
    assert unsaid == []
    assert said <= gets(practice)


@pytest.fixture
def asked(practice):
    """A dentist, and what stands in the places of paths."""
    study_id = practice.add_study(images=1)
    dentist = practice.sign_in("dentist")
    with begin(practice.db, Actor("test", "main"), "test.series") as tx:
        tx.conn.execute(instance.update().values(series_instance_uid="1.2.3"))
    with read(practice.db) as conn:
        row = conn.execute(
            sa.select(instance, study.c.study_instance_uid)
            .join(study, study.c.id == instance.c.study_id)
            .where(study.c.id == study_id)
        ).one()
    places = {
        "study_id": study_id, "image_id": row.id, "study": row.study_instance_uid,
        "series": row.series_instance_uid, "instance": row.sop_instance_uid, "frames": "1",
    }  # fmt: skip
    return dentist, places


def entries(practice, after: int) -> list[tuple[str, str]]:
    with read(practice.db) as conn:
        rows = conn.execute(sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq))
        return [(row.action, row.actor) for row in rows]


def last(practice) -> int:
    with read(practice.db) as conn:
        return chain.read_head(conn).seq


@pytest.mark.parametrize("path", sorted(READS))
def test_each_read_leaves_its_entry_every_time(practice, asked, path):
    dentist, places = asked
    if "patient" in path:
        dentist.see_all(places["study_id"])
        dentist.accept_all(places["study_id"])
        assert dentist.sign(places["study_id"]).status_code == 200
    url = re.sub(r"\{(\w+)\}", lambda found: places[found[1]], path)
    for _ in range(2):
        before = last(practice)
        answer = dentist.get(url)
        assert answer.status_code == 200, answer.text[:200]
        assert (READS[path], dentist.me["user_id"]) in entries(practice, before)


def test_an_entry_names_the_image_and_nobody(practice, asked):
    dentist, places = asked
    before = last(practice)
    dentist.get(f"/api/images/{places['image_id']}/pixels")
    dentist.get(f"/dicomweb/studies/{places['study']}/metadata")
    dentist.get("/dicomweb/studies")
    with read(practice.db) as conn:
        rows = conn.execute(sa.select(audit).where(audit.c.seq > before)).all()
    told = {row.action: row for row in rows}
    assert told["image.opened"].subject == f"instance:{places['image_id']}"
    assert told["archive.opened"].detail["instances"] == [places["instance"]]
    assert places["study"] in told["archive.searched"].detail["studies"]
    assert "Doe" not in str(rows)


@pytest.mark.parametrize("path", sorted(SEARCHES))
def test_searches_leave_their_entries(practice, path):
    if path not in {each for _, each, _ in declarations(practice.app)}:
        pytest.skip("this route is not part of this application")
    person = practice.sign_in("auditor" if "patients" not in path else "dentist")
    body = {"name": "doe"} if path == "/api/patients/search" else {}
    before = last(practice)
    answer = person.post(path, body)
    if answer.status_code == 422:
        answer = person.post(path, {"text": "doe"})
    assert answer.status_code == 200, answer.text
    assert SEARCHES[path] in [action for action, _ in entries(practice, before)]


def test_nothing_is_shown_that_could_not_be_written_down(practice, asked):
    dentist, places = asked
    with unwritable(practice.db):
        for path in ("/api/images/{image_id}/pixels", "/api/images/{image_id}/preview"):
            answer = dentist.get(path.format(**places))
            assert answer.status_code == 503, path
    before = last(practice)
    assert dentist.get(f"/api/images/{places['image_id']}/pixels").status_code == 200
    assert ("image.opened", dentist.me["user_id"]) in entries(practice, before)


def test_what_a_page_asks_again_by_itself_counts_once_and_is_never_lost(practice, asked):
    dentist, places = asked
    url, again = f"/api/studies/{places['study_id']}/chart", {"x-background": "1"}
    with unwritable(practice.db):
        assert dentist.get(url, headers=again).status_code == 503
    before = last(practice)
    for _ in range(3):
        assert dentist.get(url, headers=again).status_code == 200
    assert [action for action, _ in entries(practice, before)].count("chart.opened") == 1


@contextmanager
def unwritable(db: sa.Engine) -> Iterator[None]:
    """Let no insert into the audit through, as a full disk would."""

    def refuse(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT INTO audit"):
            raise sa.exc.OperationalError(statement, None, OSError("disk full"))

    sa.event.listen(db, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        sa.event.remove(db, "before_cursor_execute", refuse)


def test_a_burst_of_reads_is_written_together_and_whole(sqlite_database):
    log, commits = ReadLog(sqlite_database), []
    sa.event.listen(sqlite_database, "commit", lambda conn: commits.append(conn))
    barrier = threading.Barrier(20)

    def look(number: int) -> None:
        barrier.wait(30)
        for step in range(5):
            log.note(Actor(f"user{number}", "main"), "image.opened", f"instance:{step}")

    threads = [threading.Thread(target=look, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with read(sqlite_database) as conn:
        assert chain.verify(conn) == (100, None)
    assert len(commits) <= 100


def test_a_read_that_cannot_be_written_is_told_to_everyone_who_waits(sqlite_database):
    log = ReadLog(sqlite_database)
    with unwritable(sqlite_database), pytest.raises(Retryable):
        log.note(Actor("u", "main"), "image.opened", "instance:1")
    log.note(Actor("u", "main"), "image.opened", "instance:1")
    with read(sqlite_database) as conn:
        assert chain.verify(conn) == (1, None)


@contextmanager
def watched(db: sa.Engine) -> Iterator[list[str]]:
    """Collect the writes of transactions that committed without an entry in the audit."""
    writes: dict[int, list[str]] = {}
    unaudited: list[str] = []

    def note(conn, cursor, statement, parameters, context, executemany):
        found = re.match(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)", statement)
        if found:
            writes.setdefault(id(conn.connection.dbapi_connection), []).append(found[1])

    def judge(conn):
        tables = writes.pop(id(conn.connection.dbapi_connection), [])
        if tables and "audit" not in tables:
            unaudited.extend(tables)

    sa.event.listen(db, "before_cursor_execute", note)
    sa.event.listen(db, "commit", judge)
    try:
        yield unaudited
    finally:
        sa.event.remove(db, "before_cursor_execute", note)
        sa.event.remove(db, "commit", judge)


def test_no_write_of_a_whole_review_is_without_its_entry(practice):
    study_id = practice.add_study(images=2)
    before = last(practice)
    with watched(practice.db) as unaudited:
        dentist = practice.sign_in("dentist")
        dentist.see_all(study_id)
        dentist.accept_all(study_id)
        assert dentist.sign(study_id).status_code == 200
        assert dentist.post(f"/api/studies/{study_id}/amend", {"reason": "again"}).is_success
        dentist.post("/api/lock")
    assert [name for name in unaudited if not name.startswith(("dbos", "workflow_status"))] == []
    actions = {action for action, _ in entries(practice, before)}
    assert {"session.opened", "review.operations", "review.signed", "review.amending"} <= actions
    with read(practice.db) as conn:
        assert chain.verify(conn)[1] is None


def test_refused_sign_ins_are_written_down(practice):
    practice.add_user("mia", "dentist")
    before = last(practice)
    client = practice.client()
    for name in ("mia", "nobody-here"):
        answer = client.post("/api/login", json={"username": name, "password": "wrong password"})
        assert answer.status_code == 401
    rows = entries(practice, before)
    assert len([action for action, _ in rows if "wrong" in action or "refused" in action]) == 2
    with begin(practice.db, Actor("test", "main"), "test.done") as tx:
        kept = str(tx.conn.execute(sa.select(audit)).all())
    assert "nobody-here" not in kept
    assert "wrong password" not in kept


def test_an_inference_leaves_its_image_networks_and_a_digest_of_what_they_said(practice):
    practice.analysed_study(images=2)
    rows = practice.rows(sa.select(audit).where(audit.c.action == "analysis.stored"))
    runs = set(practice.rows(sa.select(analysis_run.c.id)))
    assert len(rows) == len(runs) == 2
    for row in rows:
        assert row.subject.startswith("instance:")
        assert len(row.detail["sha256"]) == len(row.detail["output"]) == 64
        assert row.detail["models"][0]["version"]
    assert {row.detail["kept"] for row in rows} == {f"analysis_run:{run.id}" for run in runs}
