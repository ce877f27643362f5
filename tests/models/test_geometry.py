"""Canvas and lengths of intraoral films."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2")

from models.geometry import (
    Canvas,
    angular_depth,
    crest_distance,
    crown_root_ratio,
    crown_scale_mm,
    neck_scale_mm,
    tilt_degrees,
)
from node.domain.findings import NO_SPACING, Spacing
from node.domain.teeth import Tooth

sides = st.integers(32, 4000)


@example(729, 729, 0.0, 0.0)  # 384 / 729 * 729 is a hair more than 384
@given(sides, sides, st.floats(0, 1), st.floats(0, 1))
def test_a_point_comes_back_from_the_canvas(rows, cols, right, down):
    canvas = Canvas.fit(rows, cols, NO_SPACING)
    point = (right * cols, down * rows)
    there = (point[0] * canvas.scale + canvas.left, point[1] * canvas.scale + canvas.top)
    assert -1e-6 <= there[0] <= canvas.cols + 1e-6
    assert -1e-6 <= there[1] <= canvas.rows + 1e-6
    assert canvas.to_film(there) == pytest.approx(point, abs=1e-6 * max(rows, cols) + 1e-6)


@settings(deadline=None, max_examples=30)
@given(sides, sides, st.sampled_from([1e-6, 0.02, 0.1, 50.0]))
def test_a_film_stays_on_the_canvas_whatever_its_spacing(rows, cols, mm):
    canvas = Canvas.fit(rows, cols, Spacing(mm, mm, "detector"))
    placed = canvas.place(np.ones((rows, cols), np.float32))
    assert placed.shape == (canvas.rows, canvas.cols)
    assert placed.max() == pytest.approx(1.0)


def test_a_small_film_with_known_spacing_is_not_blown_up():
    size_0 = Spacing(0.05, 0.05, "detector")
    assert Canvas.fit(600, 400, size_0).scale < Canvas.fit(600, 400, NO_SPACING).scale


def test_a_box_off_the_film_is_none():
    canvas = Canvas.fit(384, 512, NO_SPACING)
    assert canvas.box((-40.0, -40.0, -5.0, -5.0)) is None
    assert canvas.box((-5.0, 10.0, 20.0, 30.0)).points == ((0.0, 10.0), (20.0, 30.0))


@given(st.floats(-0.5, 0.5), st.floats(0.5, 12.0))
def test_length_runs_along_a_tilted_tooth(tilt, mm):
    axis = (math.sin(tilt), math.cos(tilt))
    width = (math.cos(tilt) * 50, -math.sin(tilt) * 50)
    # A point off the axis sideways has the same level.
    far = (axis[0] * mm / 0.1 + width[0] * 0.1, axis[1] * mm / 0.1 + width[1] * 0.1)
    measured = crest_distance((0.0, 0.0), far, ((0.0, 0.0), width), (0.1, 0.1))
    assert measured == pytest.approx(mm, rel=1e-6)


def test_rows_and_columns_may_have_different_spacing():
    across = ((0.0, 0.0), (40.0, 0.0))
    assert crest_distance((0.0, 0.0), (0.0, 30.0), across, (0.1, 0.2)) == pytest.approx(3.0)


def test_necks_give_a_scale_and_nothing_gives_none():
    assert neck_scale_mm([]) is None
    assert neck_scale_mm([(Tooth("46"), (0.0, 0.0), (90.0, 0.0))]) == pytest.approx(0.1)
    assert neck_scale_mm([(Tooth("75"), (0.0, 0.0), (90.0, 0.0))]) is None


def test_a_point_is_on_the_film_or_not():
    canvas = Canvas.fit(300, 512, NO_SPACING)
    assert canvas.covers((256.0, 192.0))
    assert not canvas.covers((256.0, 20.0))
    assert canvas.covers((256.0, 44.0))
    assert not canvas.covers((256.0, 44.0), margin=4.0)


@given(st.floats(-0.4, 0.4), st.floats(0.0, 6.0))
def test_an_even_crest_is_no_angular_defect_however_the_film_is_tilted(tilt, mm):
    along, down = (math.cos(tilt), -math.sin(tilt)), (math.sin(tilt), math.cos(tilt))
    other = (along[0] * 60, along[1] * 60)
    crests = [(x + down[0] * mm / 0.1, y + down[1] * mm / 0.1) for x, y in ((0.0, 0.0), other)]
    depth = angular_depth(((0.0, 0.0), crests[0]), (other, crests[1]), (0.1, 0.1))
    assert depth == pytest.approx(0.0, abs=1e-6)


def test_the_deeper_side_of_an_angular_defect_is_positive():
    deep, shallow = ((0.0, 0.0), (0.0, 60.0)), ((30.0, 0.0), (30.0, 20.0))
    assert angular_depth(deep, shallow, (0.1, 0.1)) == pytest.approx(4.0)
    assert angular_depth(shallow, deep, (0.1, 0.1)) == pytest.approx(-4.0)


def test_crown_to_root_is_what_lies_above_the_bone_over_what_lies_in_it():
    assert crown_root_ratio((0.0, 0.0), (5.0, 80.0), (0.0, 200.0)) == pytest.approx(80 / 120)
    assert crown_root_ratio((0.0, 0.0), (0.0, 210.0), (0.0, 200.0)) is None
    assert crown_root_ratio((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)) is None


def test_crowns_give_a_scale_and_nothing_gives_none():
    assert crown_scale_mm([]) is None
    assert crown_scale_mm([(Tooth("46"), 110.0)]) == pytest.approx(0.1)
    assert crown_scale_mm([(Tooth("75"), 110.0)]) is None


def test_the_tilt_of_a_row_of_edges():
    assert tilt_degrees([(0.0, 0.0)]) is None
    assert tilt_degrees([(5.0, 0.0), (5.0, 9.0)]) is None
    assert tilt_degrees([(0.0, 0.0), (100.0, 100.0)]) == pytest.approx(45.0)
    assert tilt_degrees([(0.0, 10.0), (100.0, 10.0), (50.0, 10.0)]) == pytest.approx(0.0)
