"""Drawing findings into a film: every mark visible, labels apart, the film in its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.dicom.annotation import annotate, mark, writable
from node.domain.findings import Box, Finding, FindingKind, Line, Polygon
from node.errors import InvalidInput

BANNER = ["AI-assisted – findings signed by Anna Lin, 2026-03-04 15:30, version 1"]


def drawn(rows: int, cols: int, *findings: Finding) -> np.ndarray:
    film = np.full((rows, cols), 128, dtype=np.uint8)
    return annotate(film, [mark(finding, "#3") for finding in findings], BANNER)


@given(
    rows=st.integers(1, 300),
    cols=st.integers(1, 300),
    corner=st.tuples(st.floats(-400, 400), st.floats(-400, 400)),
    kind=st.sampled_from(FindingKind),
)
@settings(max_examples=60, deadline=None)
def test_any_film_with_any_mark_keeps_its_width_and_gains_a_strip(rows, cols, corner, kind):
    x, y = corner
    shapes = [Box(x, y, x + 9, y + 9), Line(((x, y), (y, x))), Polygon(((x, y), (0, 0), (y, x)))]
    picture = drawn(rows, cols, *(Finding(kind, shape) for shape in shapes))
    assert picture.dtype == np.uint8
    assert picture.shape[0] > rows
    assert picture.shape[1:] == (cols, 3)


def test_a_film_without_marks_is_untouched():
    assert (drawn(200, 300)[:200] == 128).all()


def test_kinds_have_their_own_colours():
    box = Box(50, 50, 100, 100)
    caries = drawn(200, 300, Finding(FindingKind.CARIES, box))
    calculus = drawn(200, 300, Finding(FindingKind.CALCULUS, box))
    assert (caries != calculus).any()


def test_two_marks_at_one_place_have_two_labels():
    boxes = [Finding(FindingKind.CARIES, Box(50, 50, 100, 100)) for _ in range(2)]
    orange = (0xF2, 0x8E, 0x00)
    one = (drawn(200, 300, boxes[0]) == orange).all(axis=-1).sum()
    two = (drawn(200, 300, *boxes) == orange).all(axis=-1).sum()
    assert two > one * 1.2


@pytest.mark.parametrize(
    "film",
    [
        np.zeros((5, 5), dtype=np.uint16),
        np.zeros((5, 5, 3), dtype=np.uint8),
        np.zeros((0, 5), dtype=np.uint8),
    ],
    ids=["16 bit", "colour", "empty"],
)
def test_only_an_8_bit_grey_film_can_be_annotated(film):
    with pytest.raises(InvalidInput):
        annotate(film, [], BANNER)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Anna Müller – O’Brien", "Anna Müller – O’Brien"),
        ("Jiří Kovář", "Jiri Kovar"),
        ("山田太郎", "user 7"),
        ("Ольга", "user 7"),
    ],
)
def test_a_name_is_written_in_letters_the_font_has(name, expected):
    assert writable(name, "user 7") == expected
