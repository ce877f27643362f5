"""The annotated copy for the chart: the signed marks, numbered as in the note, and who signed."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

from node.domain.findings import Box, DecisionState, Finding, FindingKind, Line, ModelVersion
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from orchestration.annotated import annotated_png, encode_png

CHICAGO = ZoneInfo("America/Chicago")
MODEL = ModelVersion("caries", "0.3.1", "ab" * 32)
CARIES = Finding(FindingKind.CARIES, Box(200, 150, 260, 220), Tooth("16"), model=MODEL)
BONE = Finding(FindingKind.BONE_LEVEL, Line(((300, 200), (305, 260))), Tooth("46"))
ORANGE, BLUE = (0xF2, 0x8E, 0x00), (0x6C, 0xC5, 0xFF)


def signed_finding(name: str, finding: Finding, image_id: str = "i1") -> SignedFinding:
    state = DecisionState.ACCEPTED
    return SignedFinding(name, image_id, "1.2.3.1", "ai", state, finding, None)


FINDINGS = (signed_finding("f1", CARIES), signed_finding("f2", BONE))
REVIEW = SignedReview(
    study_id="s1",
    study_instance_uid="2.25.4711",
    version=1,
    signer_id="u1",
    signer_name="Dr. Ada Example",
    signer_role="dentist",
    signed_at=datetime(2026, 11, 21, 21, 5, tzinfo=UTC),
    statement="Read in full.",
    reason="",
    software_version="0.1.0",
    instances=(("i1", "1.2.3.1"), ("i2", "1.2.3.2")),
    findings=FINDINGS,
    models=(MODEL,),
    counts=DecisionCounts(2, 2, 0, 0, 0),
)


@pytest.fixture
def film() -> np.ndarray:
    rows, columns = np.mgrid[0:480, 0:640]
    return ((np.sin(rows / 60) * np.cos(columns / 80) + 1) * 110 + 20).astype(np.uint8)


def drawn(film: np.ndarray, review: SignedReview = REVIEW, image_id: str = "i1") -> np.ndarray:
    content = annotated_png(film, image_id, review, CHICAGO)
    return np.asarray(Image.open(io.BytesIO(content)))


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(int(part) for part in colour) for colour in picture.reshape(-1, 3)}


def test_the_picture_keeps_its_place_and_shows_the_marks(film):
    picture = drawn(film)
    assert picture.shape[1] == film.shape[1]
    assert picture.shape[0] > film.shape[0]
    assert {ORANGE, BLUE} <= colours(picture[: film.shape[0]])
    assert (picture[:100, :100] == film[:100, :100, None]).all()
    strip = picture[film.shape[0] :]
    assert (strip == np.array([0xE8, 0xED, 0xF2])).all(axis=2).any()


def test_only_the_marks_of_the_image_are_drawn(film):
    elsewhere = replace(REVIEW, findings=(FINDINGS[0], signed_finding("f2", BONE, "i2")))
    assert BLUE not in colours(drawn(film, elsewhere))
    assert ORANGE not in colours(drawn(film, elsewhere, "i2"))


def test_a_mark_that_nobody_confirmed_is_not_drawn(film):
    unsure = replace(FINDINGS[0], state=DecisionState.SUGGESTED)
    with_unsure = replace(REVIEW, findings=(unsure, FINDINGS[1]))
    without = replace(REVIEW, findings=(FINDINGS[1],))
    assert (drawn(film, with_unsure) == drawn(film, without)).all()


def test_a_mark_keeps_the_number_it_has_in_the_note(film):
    second_here = replace(REVIEW, findings=(signed_finding("f1", CARIES, "i2"), FINDINGS[1]))
    first_here = replace(REVIEW, findings=(FINDINGS[1],))
    assert (drawn(film, second_here) != drawn(film, first_here)).any()


def test_the_signer_stands_below(film):
    other = replace(REVIEW, signer_name="Dr. Bo Other")
    rows = film.shape[0]
    assert (drawn(film)[:rows] == drawn(film, other)[:rows]).all()
    assert (drawn(film)[rows:] != drawn(film, other)[rows:]).any()


def test_a_16_bit_picture_is_refused():
    with pytest.raises(InvalidInput):
        annotated_png(np.zeros((4, 4), np.uint16), "i1", REVIEW, CHICAGO)


def test_the_original_comes_back_bit_for_bit(film):
    assert (np.asarray(Image.open(io.BytesIO(encode_png(film)))) == film).all()
