"""What is silent is shown nowhere: every way out of the web, whole and by kind."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from node.analysis.silent_agreement import silent_report
from node.db.session import begin
from node.db.tables import silent_reading
from node.domain.rollout import Place, RollMode, Subject
from node.rollout import rules
from tests.roll_out import acknowledge, lead

PAGES = ("/api/worklist", "/api/studies/{study}", "/", "/review/{study}", "/api/events?after=0")
TOLD = ('"caries"', '"bone_level"', "caries_suspected", "bone_loss")


def switch(practice, subject: str, mode: str, **place: str) -> None:
    with begin(practice.db, lead(practice.db), "rollout.set") as tx:
        rules.set_mode(tx, Subject.parse(subject), RollMode(mode), place=Place(**place))


def kinds(browser, study_id: str) -> set[str]:
    return {mark["kind"] for mark in browser.study(study_id)["findings"]}


def test_a_fresh_install_shows_nobody_anything(open_practice):
    practice = open_practice(mode="fresh")
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    for page in PAGES[:4]:
        text = browser.get(page.format(study=study_id)).text
        assert not [word for word in TOLD if word in text], page
    shown = browser.study(study_id)
    assert shown["findings"] == []
    assert shown["reading"] is None
    assert shown["settings"]["mode"] == "silent"
    assert shown["images"][0]["view"] is None
    assert shown["images"][0]["teeth"] == []
    row = browser.get("/api/worklist").json()["rows"][0]
    assert (row["suggestions"], row["undecided"], row["label"]) == (None, None, "IO 1")


def test_a_kind_that_is_silent_is_hidden_and_the_others_are_not(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    assert kinds(browser, study_id) == {"caries", "bone_level"}
    switch(practice, "finding:bone_level", "silent")
    assert kinds(browser, study_id) == {"caries"}
    row = browser.get("/api/worklist").json()["rows"][0]
    assert row["suggestions"] == {"C": 1}
    assert row["undecided"] == 1
    assert '"bone_level"' not in browser.get(f"/review/{study_id}").text


def test_a_view_can_be_silent(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    switch(practice, "finding:caries", "silent", view="bitewing")
    assert kinds(browser, study_id) == {"bone_level"}


def test_a_hidden_suggestion_cannot_be_touched_and_does_not_stand_in_the_way(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    (hidden,) = [m for m in browser.study(study_id)["findings"] if m["kind"] == "bone_level"]
    switch(practice, "finding:bone_level", "silent")
    accept = {"kind": "accept", "finding_id": hidden["id"], "base_rev": hidden["rev"]}
    answer = browser.ops(study_id, accept)
    assert answer.status_code == 409
    assert "There is no such finding" in answer.text
    assert "bone_level" not in answer.text
    browser.see_all(study_id)
    browser.accept_all(study_id)
    assert browser.sign(study_id).status_code == 200
    found = browser.post("/api/findings/search", {}).json()["rows"]
    assert [row["kind"] for row in found] == ["caries"]
    exported = browser.post("/api/findings/export", {}).text
    assert "bone_level" not in exported


def test_what_a_person_decided_stays_shown_when_its_kind_goes_silent(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    browser.accept_all(study_id)
    switch(practice, "finding:*", "silent")
    assert kinds(browser, study_id) == {"caries", "bone_level"}


def test_a_tag_that_is_silent_is_not_said(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    assert browser.study(study_id)["images"][0]["view"] == "bitewing"
    switch(practice, "tag:view", "silent")
    switch(practice, "tag:teeth", "silent")
    image = browser.study(study_id)["images"][0]
    assert (image["view"], image["teeth"]) == (None, [])
    assert browser.get("/api/worklist").json()["rows"][0]["label"] == "IO 1"


@pytest.mark.parametrize("subject", ["*", "finding:*", "finding:caries"])
def test_one_switch_back_hides_at_once(practice, subject):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    assert "caries" in kinds(browser, study_id)
    with begin(practice.db, lead(practice.db), "rollout.back") as tx:
        rules.switch_back(tx, Subject.parse(subject))
    assert "caries" not in kinds(browser, study_id)


def test_what_was_hidden_at_the_signature_is_compared_with_what_the_dentist_marked(open_practice):
    practice = open_practice(mode="fresh")
    for _ in range(3):
        study_id = practice.analysed_study()
        browser = practice.sign_in("dentist")
        (image_id,) = practice.image_ids(study_id)
        mark = {
            "kind": "add",
            "data": {
                "image_id": image_id,
                "kind": "caries",
                "tooth": "46",
                "surfaces": "D",
                "geometry": {"type": "box", "points": [[31, 31], [51, 51]]},
            },
        }
        assert browser.ops(study_id, mark).status_code == 200
        browser.see_all(study_id)
        answer = browser.sign(study_id)
        assert answer.status_code == 200, answer.text
    report = silent_report(practice.db, "main")
    assert (report.studies, report.patients, report.images) == (3, 3, 3)
    assert dict(report.views) == {"bitewing": 3}
    rows = {(row.kind, row.view, row.level): row for row in report.rows}
    both = rows[("caries", "bitewing", "surface")]
    assert (both.signed, both.said, both.both) == (3, 3, 3)
    assert both.sensitivity.value == both.precision.value == 1.0
    assert both.is_few
    alone = rows[("bone_level", "bitewing", "tooth")]
    assert (alone.signed, alone.said, alone.both) == (0, 3, 0)
    assert alone.sensitivity.value is None
    assert report.models == ("intraoral 1.0",)
    kept = practice.rows(sa.select(silent_reading.c.content), scalars=True)
    assert "Doe" not in json.dumps(kept)


def test_what_the_reader_saw_is_not_compared(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    switch(practice, "finding:bone_level", "silent")
    browser.see_all(study_id)
    browser.accept_all(study_id)
    assert browser.sign(study_id).status_code == 200
    report = silent_report(practice.db, "main")
    assert {row.kind for row in report.rows} == {"bone_level"}
    assert report.shown == ("caries",)


def test_a_second_location_lets_in_by_itself(open_practice):
    here = open_practice("main", mode="fresh")
    there = open_practice("branch", mode="fresh")
    acknowledge(here.db, "branch")
    assert kinds(there.sign_in("dentist"), there.analysed_study()) == {"caries", "bone_level"}
    assert kinds(here.sign_in("hygienist"), here.analysed_study()) == set()
