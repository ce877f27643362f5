"""The report as a person will read it."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Polygon,
)
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Surface, Tooth
from pms_writeback.report import ChartPatient, compose_report

CHICAGO = ZoneInfo("America/Chicago")
MODEL = ModelVersion("caries", "0.3.1", "ab" * 32)
PATIENT = ChartPatient("Novák", "Robin & Kim", date(1980, 2, 3), "41", "20261121")


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


FINDINGS = (
    signed_finding(
        1,
        Finding(
            FindingKind.CARIES,
            Box(200, 150, 260, 220),
            Tooth("16"),
            (Surface.MESIAL,),
            CariesDepth.D2,
            model=MODEL,
        ),
        disposition=Disposition.RESTORE,
        comment="<b>pain</b> on biting & cold",
    ),
    signed_finding(
        2,
        Finding(
            FindingKind.BONE_LEVEL,
            Line(((300, 200), (305, 260))),
            Tooth("46"),
            (Surface.DISTAL,),
            value_mm=3.21,
        ),
        disposition=Disposition.WATCH,
    ),
    signed_finding(
        3,
        Finding(
            FindingKind.PERIAPICAL_RADIOLUCENCY,
            Polygon(((400, 300), (450, 320), (440, 360), (395, 350))),
            Tooth("36"),
        ),
        origin="human",
        disposition=Disposition.REFER,
    ),
)
REVIEW = SignedReview(
    study_id="s1",
    study_instance_uid="2.25.4711",
    version=1,
    signer_id="u1",
    signer_name="Dr. Ada Example",
    signer_role="dentist",
    signed_at=datetime(2026, 11, 21, 21, 5, tzinfo=UTC),
    statement="I have read every image in full and confirm the findings listed.",
    reason="",
    software_version="0.1.0",
    instances=(("i1", "1.2.3.1"), ("i2", "1.2.3.2")),
    findings=FINDINGS,
    models=(MODEL,),
    counts=DecisionCounts(4, 2, 0, 2, 1),
)


@pytest.fixture
def film() -> np.ndarray:
    rows, columns = np.mgrid[0:480, 0:640]
    return ((np.sin(rows / 60) * np.cos(columns / 80) + 1) * 110 + 20).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pages_of(content: bytes) -> list[str]:
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages]


def compose(signed=REVIEW, patient=PATIENT, images=()) -> bytes:
    return compose_report(signed, patient, "Elm Street Dental", CHICAGO, images)


def test_the_report_says_whose_what_who_and_with_what_help(film):
    images = [("Image 1", png(film))]
    (text,) = pages_of(compose(images=images))
    for words in (
        "Elm Street Dental",
        "AI-assisted imaging report",
        "Novák, Robin & Kim",
        "1980-02-03",
        "2026-11-21",
        "caries 0.3.1",
        "#3",
        "mesial",
        "middle third of dentin (D2)",
        "3.2 mm (detector plane)",
        "#30",
        "restore",
        "added by the reader",
        "<b>pain</b> on biting & cold",
        "Signed by Dr. Ada Example, dentist on 2026-11-21 15:05 (UTC-06:00)",
        REVIEW.statement,
        "4 suggested, 2 accepted, 0 edited, 2 rejected, 1 added by the reader",
        "Not cleared as a medical device",
        "2.25.4711",
        "Image 1",
        "Page 1",
    ):
        assert words in text, words


def test_the_same_review_gives_the_same_bytes(film):
    images = [("Image 1", png(film))]
    assert compose(images=images) == compose(images=images)


def test_what_nobody_confirmed_is_not_reported():
    unsure = replace(FINDINGS[0], state=DecisionState.SUGGESTED)
    review = replace(REVIEW, findings=(unsure, FINDINGS[1]))
    (text,) = pages_of(compose(review))
    assert "Caries" not in text
    assert "Bone level" in text


def test_a_report_without_findings_does_not_say_healthy():
    (text,) = pages_of(compose(replace(REVIEW, findings=())))
    assert "No findings recorded. That does not mean no disease." in text


def test_an_amendment_is_called_one():
    (text,) = pages_of(compose(replace(REVIEW, version=3, reason="wrong tooth <18>")))
    assert "version 3 replaces version 2. Reason: wrong tooth <18>" in text


def test_a_name_the_font_cannot_write_is_not_half_written():
    (text,) = pages_of(compose(patient=replace(PATIENT, family_name="山田", given_name="太郎")))
    assert "name as in chart 41" in text
    (text,) = pages_of(compose(patient=replace(PATIENT, family_name="Nguyễn", given_name="An")))
    assert "Nguyen, An" in text


def test_four_images_fit_one_page_and_eighteen_a_few(film):
    picture = png(film)
    assert len(pages_of(compose(images=[(f"Image {n}", picture) for n in range(4)]))) == 1
    content = compose(images=[(f"Image {n}", picture) for n in range(18)])
    assert len(pages_of(content)) <= 4
    assert len(content) < 2_000_000


def test_a_hundred_findings_run_over_pages_with_their_heading():
    many = tuple(replace(FINDINGS[1], id=f"m{n}") for n in range(100))
    pages = pages_of(compose(replace(REVIEW, findings=many)))
    assert len(pages) > 1
    assert all("Surfaces" in page for page in pages[:-1])
