"""Signed findings across patients, their export, and links from a chart."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import begin
from node.db.tables import audit, patient, study, study_link
from node.errors import InvalidInput, Rejected, Retryable
from node.open_study import link_to_study


@pytest.fixture
def two(practice):
    """Two signed studies; of each the first mark was accepted and the others rejected."""
    browser = practice.sign_in("dentist")
    studies = [practice.analysed_study() for _ in range(2)]
    for study_id in studies:
        for number, mark in enumerate(browser.study(study_id)["findings"]):
            kind = "reject" if number else "accept"
            asked = {"kind": kind, "finding_id": mark["id"], "base_rev": mark["rev"]}
            assert browser.ops(study_id, asked).status_code == 200
        browser.see_all(study_id)
        assert browser.sign(study_id).status_code == 200
    return browser, studies


def found(browser, **wanted) -> dict:
    answer = browser.post("/api/findings/search", wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_signed_findings_are_found_and_rejected_ones_never(practice, two):
    browser, studies = two
    answer = found(browser)
    assert [row["study_id"] for row in answer["rows"]] == studies[::-1]
    row = answer["rows"][0]
    assert row["patient"]["family_name"]
    alike = [r for r in answer["rows"] if (r["tooth"], r["kind"]) == (row["tooth"], row["kind"])]
    assert found(browser, tooth=row["tooth"], kind=row["kind"])["rows"] == alike
    assert found(browser, tooth="38")["rows"] == []
    assert found(browser, signed_by="DENTIST OF")["rows"] == answer["rows"]
    assert found(browser, signed_by="100%_")["rows"] == []
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    assert found(browser, signed_from=tomorrow)["rows"] == []
    assert found(browser, change="new")["rows"] == []


def test_a_study_that_is_amended_is_left_out_and_counted(two):
    browser, studies = two
    browser.post(f"/api/studies/{studies[0]}/amend", {"reason": "another look"})
    answer = found(browser)
    assert [row["study_id"] for row in answer["rows"]] == [studies[1]]
    assert answer["amending"] == 1


@pytest.mark.parametrize("wanted", [{"tooth": "99"}, {"kind": "gold"}, {"change": "worse"}])
def test_nonsense_is_refused(practice, wanted):
    assert practice.sign_in("dentist").post("/api/findings/search", wanted).status_code == 422


def test_the_export_has_numbers_and_no_names_and_is_on_record(practice, two):
    browser, _ = two
    answer = browser.post("/api/findings/export", {})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 2
    with practice.db.connect() as conn:
        numbers = set(conn.execute(sa.select(patient.c.pms_key)).scalars())
        last = conn.execute(sa.select(audit.c.action).order_by(audit.c.seq.desc())).scalar()
    assert {row["patient_number"] for row in rows} <= numbers
    assert "Doe" not in answer.text
    assert last == "findings.exported"


@pytest.mark.parametrize(
    ("role", "searches", "exports"),
    [("hygienist", 200, 403), ("auditor", 200, 200), ("assistant", 403, 403),
     ("office_manager", 403, 403)],
)  # fmt: skip
def test_searching_and_exporting_are_rights_of_their_own(practice, role, searches, exports):
    browser = practice.sign_in(role)
    assert browser.post("/api/findings/search", {}).status_code == searches
    assert browser.post("/api/findings/export", {}).status_code == exports
    assert browser.get("/search").status_code == searches


KEY = "k" * 40


def wanted_link(practice, body: dict, key: str = KEY):
    client = practice.client()
    headers = {"Authorization": f"Bearer {key}"}
    return client.post("/api/chart-links", json=body, headers=headers)


@pytest.fixture
def linked(open_practice):
    practice = open_practice(link_key=KEY)
    study_id = practice.add_study()
    with practice.db.connect() as conn:
        number = conn.execute(
            sa.select(patient.c.pms_key)
            .join(study, study.c.patient_id == patient.c.id)
            .where(study.c.id == study_id)
        ).scalar()
    return practice, study_id, number


def test_a_link_from_the_chart_opens_the_study_once(linked):
    practice, study_id, number = linked
    path = wanted_link(practice, {"patient_key": number}).json()["path"]
    assert number not in path
    browser = practice.sign_in("dentist")
    first = browser.get(path, follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, f"/review/{study_id}")
    assert browser.get(path, follow_redirects=False).headers["location"] == "/"


def test_made_up_links_are_not_written_down(linked):
    practice, _, number = linked
    stranger = practice.client()
    entries = sa.select(sa.func.count()).select_from(audit)
    before = practice.rows(entries)
    for made_up in ("x", "y" * 43, "z" * 2_000):
        answer = stranger.get(f"/open/{made_up}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert practice.rows(entries) == before
    path = wanted_link(practice, {"patient_key": number}).json()["path"]
    for _ in range(2):  # one that was made is, used up or not
        stranger.get(path, follow_redirects=False)
    opened = sa.select(audit.c.seq)
    assert len(practice.rows(opened.where(audit.c.action == "study.link_opened"))) == 2


def test_a_link_gives_no_rights(linked):
    practice, study_id, number = linked
    path = wanted_link(practice, {"patient_key": number}).json()["path"]
    stranger = practice.client()
    to = stranger.get(path, follow_redirects=True)
    assert to.url.path == "/login"
    assert study_id in str(to.url)


def test_an_old_link_opens_nothing(linked):
    practice, _, number = linked
    path = wanted_link(practice, {"patient_key": number}).json()["path"]
    with begin(practice.db, practice.actor, "test.time") as tx:
        tx.conn.execute(study_link.update().values(expires_at=tx.now - timedelta(seconds=1)))
    browser = practice.sign_in("dentist")
    assert browser.get(path, follow_redirects=False).headers["location"] == "/"


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [({"patient_key": "nobody"}, KEY, 404), ({"patient_key": "1"}, "wrong", 403),
     ({}, KEY, 422), ({"patient_key": "1", "accession_number": "2"}, KEY, 422)],
)  # fmt: skip
def test_who_asks_wrongly_gets_no_link(linked, body, key, status):
    assert wanted_link(linked[0], body, key).status_code == status


def test_without_a_key_in_the_configuration_nobody_gets_one(practice):
    assert wanted_link(practice, {"patient_key": "1"}, "x").status_code == 403


def test_the_charts_side_gets_an_address_that_opens_the_study(linked):
    practice, study_id, number = linked
    address = link_to_study(practice.url, KEY, patient_key=number)
    browser = practice.sign_in("dentist")
    opened = browser.get(address.removeprefix(practice.url), follow_redirects=False)
    assert opened.headers["location"] == f"/review/{study_id}"
    with pytest.raises(Rejected, match="link key"):
        link_to_study(practice.url, "x" * 40, patient_key=number)
    with pytest.raises(Rejected, match="No study"):
        link_to_study(practice.url, KEY, accession_number="none")
    with pytest.raises(InvalidInput, match="either"):
        link_to_study(practice.url, KEY)
    with pytest.raises(Retryable):
        link_to_study("http://127.0.0.1:1", KEY, patient_key=number)
