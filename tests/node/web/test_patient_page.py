"""The patient page: signed findings in plain words, and nothing else."""

from __future__ import annotations

import pytest

from node.domain.findings import CariesDepth, Disposition, FindingKind
from node.domain.teeth import Tooth
from node.web.plain_words import all_texts, plan_words, reading_grade, tooth_words, words_for


def test_every_text_is_easy_to_read():
    texts = [text for text in all_texts() if len(text.split()) > 4]  # a title is no sentence
    hard = {text: reading_grade(text) for text in texts if reading_grade(text) > 7.0}
    assert hard == {}
    assert reading_grade(" ".join(all_texts())) <= 5.0


def test_every_disease_has_words_and_no_filling_has():
    for kind in FindingKind:
        assert (words_for(kind, None) is not None) == (kind.is_disease or kind.value == "other")
    for depth in CariesDepth:
        assert words_for(FindingKind.CARIES, depth) != words_for(FindingKind.CARIES, None)
    assert len({plan_words(each) for each in (*Disposition, None)}) == len(Disposition) + 1


@pytest.mark.parametrize(
    ("code", "words"),
    [("46", "lower right back tooth"), ("23", "upper left eye tooth"),
     ("85", "lower right back milk tooth"), ("18", "upper right wisdom tooth")],
)  # fmt: skip
def test_teeth_are_named_by_their_place(code, words):
    assert tooth_words(Tooth(code)) == words


def signed(practice):
    study_id = practice.analysed_study()
    browser = practice.sign_in("dentist")
    marks = browser.study(study_id)["findings"]
    for number, mark in enumerate(marks):
        kind = "accept" if number == 0 else "reject"
        browser.ops(study_id, {"kind": kind, "finding_id": mark["id"], "base_rev": mark["rev"]})
    browser.see_all(study_id)
    return browser, study_id, marks


def test_nothing_is_shown_before_the_signature(practice):
    browser, study_id, _ = signed(practice)
    assert browser.get(f"/api/studies/{study_id}/patient-page").status_code == 404
    assert browser.get(f"/patient/{study_id}").status_code == 404


def test_only_what_was_accepted_stands_there_without_scores(practice):
    browser, study_id, marks = signed(practice)
    assert len(marks) > 1
    assert browser.sign(study_id).status_code == 200
    answer = practice.sign_in("assistant").get(f"/api/studies/{study_id}/patient-page")
    page = answer.json()
    assert [item["tooth"] for item in page["items"]] == [marks[0]["tooth"]]
    assert page["signed_by"] == "The dentist of main"
    assert page["reading_grade"] <= 7
    for hidden in ("probability", "model", "intraoral", "score", "%", "$"):
        assert hidden not in answer.text
    shell = browser.get(f"/patient/{study_id}")
    assert shell.status_code == 200
    assert '"patient_page":{' in shell.text


def test_while_it_is_amended_the_signed_version_still_stands(practice):
    browser, study_id, _ = signed(practice)
    browser.sign(study_id)
    assert browser.post(f"/api/studies/{study_id}/amend", {"reason": "another look"}).is_success
    assert browser.get(f"/api/studies/{study_id}/patient-page").json()["version"] == 1


def test_it_prints_as_a_pdf(practice):
    browser, study_id, _ = signed(practice)
    browser.sign(study_id)
    answer = browser.get(f"/api/studies/{study_id}/patient-page.pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    again = browser.get(f"/api/studies/{study_id}/patient-page.pdf")
    assert again.content == answer.content


@pytest.mark.parametrize("role", ["office_manager", "front_desk", "auditor", "admin"])
def test_others_may_not_show_it(practice, role):
    browser, study_id, _ = signed(practice)
    browser.sign(study_id)
    answer = practice.sign_in(role).get(f"/api/studies/{study_id}/patient-page")
    assert answer.status_code == 403
