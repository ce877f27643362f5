"""What a signed review says in words, in the note and the tasks."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
)
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Surface, Tooth
from pms_writeback import notes

CHICAGO = ZoneInfo("America/Chicago")
REF = "ref:BW-0123456789"
MODEL = ModelVersion("caries", "0.3.1", "ab" * 32)


def signed_finding(number: int, finding: Finding, **values) -> SignedFinding:
    return SignedFinding(
        **{
            "id": f"f{number}",
            "instance_id": "i1",
            "sop_instance_uid": "1.2.3.1",
            "origin": "ai",
            "state": DecisionState.ACCEPTED,
            "finding": finding,
            "disposition": None,
            **values,
        }
    )


CARIES = signed_finding(
    1,
    Finding(
        FindingKind.CARIES,
        Box(10, 10, 30, 30),
        Tooth("16"),
        (Surface.MESIAL, Surface.OCCLUSAL),
        CariesDepth.D1,
        probability=0.86,
        model=MODEL,
    ),
    disposition=Disposition.RESTORE,
)
BONE = signed_finding(
    2,
    Finding(
        FindingKind.BONE_LEVEL,
        Line(((1, 1), (1, 20))),
        Tooth("75"),
        (Surface.DISTAL,),
        value_mm=2.44,
        value_percent=31.6,
    ),
    state=DecisionState.EDITED,
    disposition=Disposition.WATCH,
    comment="compare\nin six months",
)
OWN = signed_finding(3, Finding(FindingKind.OTHER, Box(1, 1, 9, 9)), origin="human")
REVIEW = SignedReview(
    study_id="s1",
    study_instance_uid="2.25.1",
    version=1,
    signer_id="u1",
    signer_name="Dr. Ada Example",
    signer_role="dentist",
    signed_at=datetime(2026, 11, 21, 21, 5, tzinfo=UTC),
    statement="I have read every image in full.",
    reason="",
    software_version="0.1.0",
    instances=(("i1", "1.2.3.1"), ("i2", "1.2.3.2")),
    findings=(CARIES, BONE, OWN),
    models=(MODEL, ModelVersion("crest", "0.2", "cd" * 32)),
    counts=DecisionCounts(5, 1, 1, 2, 1, 1),
)


def test_the_note_says_what_was_confirmed_by_whom_and_with_what_help():
    lines = notes.chart_note(REVIEW, zone=CHICAGO, ref=REF).splitlines()
    assert lines[0] == (
        "AI-assisted radiograph findings (caries 0.3.1, crest 0.2), confirmed by "
        "Dr. Ada Example, dentist on 2026-11-21 15:05 (UTC-06:00)."
    )
    assert lines[2] == (
        "1. Caries, tooth #3, mesial and occlusal, outer third of dentin (D1), plan: restore, "
        "AI mark accepted."
    )
    assert lines[3] == (
        "2. Bone level, tooth #K, distal, 2.4 mm (detector plane), 32 % of root length, "
        "plan: watch, AI mark edited. Comment: compare in six months."
    )
    assert lines[4] == "3. Other finding, added by the reader."
    assert lines[5] == (
        "Findings confirmed by Dr. Ada Example, dentist on 2026-11-21. "
        "AI assistance: caries 0.3.1, crest 0.2. "
        "5 suggested, 1 accepted, 1 edited, 2 rejected, 1 added by the reader, 1 left undecided."
    )
    assert "Not cleared as a medical device." in lines[6]
    assert lines[6].endswith(REF)


@pytest.mark.parametrize("state", [DecisionState.SUGGESTED, DecisionState.REJECTED])
def test_what_nobody_confirmed_is_never_put_into_words(state):
    review = replace(REVIEW, findings=(replace(CARIES, state=state), BONE))
    for text in (
        notes.chart_note(review, zone=CHICAGO, ref=REF),
        notes.plan_task(review, zone=CHICAGO, ref=REF),
    ):
        assert "Caries" not in text
        assert "0.86" not in text


def test_a_review_without_findings_does_not_say_healthy():
    text = notes.chart_note(replace(REVIEW, findings=()), zone=CHICAGO, ref=REF)
    assert "No findings recorded. That does not mean no disease." in text


def test_an_amendment_says_what_it_replaces_and_why():
    review = replace(REVIEW, version=2, reason="wrong tooth")
    text = notes.chart_note(review, zone=CHICAGO, ref=REF)
    assert "This amendment replaces version 1. Reason: wrong tooth." in text


def test_a_study_without_models_says_so():
    text = notes.chart_note(replace(REVIEW, models=()), zone=CHICAGO, ref=REF)
    assert text.startswith("AI-assisted radiograph findings (no model installed)")


def test_the_plan_holds_what_is_to_be_restored_or_referred():
    text = notes.plan_task(REVIEW, zone=CHICAGO, ref=REF)
    assert "1. Caries, tooth #3" in text
    assert "Bone level" not in text
    assert text.endswith(REF)
    assert "AI-assisted" in text


def test_the_flag_names_no_finding_and_nobody():
    text = notes.review_task("BWFKKSKJJPRRKQ", REF)
    assert text == (
        "Radiographs are waiting for review. Accession number BWFKKSKJJPRRKQ. State: not signed. "
        + REF
    )
    assert notes.review_task("", REF).startswith("Radiographs are waiting for review. State")


def test_every_kind_depth_and_disposition_has_words():
    for kind in FindingKind:
        depths = list(CariesDepth) if kind is FindingKind.CARIES else [None]
        for depth in depths:
            for disposition in Disposition:
                each = signed_finding(
                    1, Finding(kind, Box(0, 0, 1, 1), depth=depth), disposition=disposition
                )
                assert re.fullmatch(r"[\w ,()%:.#]+", notes.describe(each))


def test_one_thing_confirmed_on_two_images_is_one_line():
    again = replace(CARIES, id="f9", instance_id="i2", sop_instance_uid="1.2.3.2")
    deeper = replace(again, finding=replace(CARIES.finding, depth=CariesDepth.D2))
    review = replace(REVIEW, findings=(CARIES, BONE, deeper))
    lines = notes.chart_note(review, zone=CHICAGO, ref=REF).splitlines()
    assert "middle third of dentin (D2)" in lines[2]
    assert lines[2].endswith("AI mark accepted, confirmed on 2 images.")
    assert lines[3].startswith("2. Bone level")
    assert notes.numbers(review) == {"f1": 1, "f9": 1, "f2": 2}
    assert notes.plan_task(review, zone=CHICAGO, ref=REF).count("Caries") == 1


def test_what_differs_in_plan_or_stands_twice_on_one_image_keeps_its_line():
    other_plan = replace(CARIES, id="f8", instance_id="i2", disposition=Disposition.WATCH)
    same_image = replace(CARIES, id="f9")
    for second in (other_plan, same_image):
        review = replace(REVIEW, findings=(CARIES, second))
        assert len(notes.numbered(review)) == 2


def test_levels_that_differ_between_images_are_all_said():
    second = replace(
        BONE, id="f7", instance_id="i2", finding=replace(BONE.finding, value_mm=3.1), comment=""
    )
    (line,) = notes.numbered(replace(REVIEW, findings=(BONE, second)))
    assert "3.1 mm (detector plane)" in line
    assert "confirmed on 2 images (3.1 and 2.4 mm)" in line
