"""Orientation: what is found on the upright copy lands on the same stored pixels."""

import numpy as np
import pytest

from models.orientation import Turned
from node.domain.findings import (
    BoneSite,
    Box,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Orientation,
    Polygon,
    Spacing,
    ToothMark,
)
from node.domain.teeth import Surface, Tooth

MODEL = ModelVersion("test", "1.0.0", "0" * 64)
TURNS = pytest.mark.parametrize("turns", range(4))


def lying(shape, turns, is_inverted=False):
    """Store an upright image of `shape` so that `turns` clockwise quarter turns put it right."""
    upright = np.random.default_rng(5).random(shape).astype(np.float32)
    stored = np.rot90(upright, turns)
    stored = 1 - stored if is_inverted else stored
    return upright, stored, Turned(Orientation(turns, False, is_inverted), *stored.shape)


@TURNS
@pytest.mark.parametrize("is_inverted", [False, True])
def test_the_copy_stands_upright_and_positive(turns, is_inverted):
    upright, stored, turned = lying((30, 50), turns, is_inverted)
    before = stored.copy()
    np.testing.assert_allclose(turned.upright(stored), upright, atol=1e-6)
    np.testing.assert_array_equal(stored, before)


@TURNS
def test_a_pixel_of_the_copy_is_the_same_pixel_of_the_stored_image(turns):
    upright, stored, turned = lying((30, 50), turns)
    for x, y in [(0.5, 0.5), (49.5, 0.5), (17.5, 22.5), (0.5, 29.5)]:
        sx, sy = turned.point((x, y))
        assert stored[int(sy), int(sx)] == upright[int(y), int(x)]


@TURNS
def test_every_part_of_an_analysis_comes_back(turns):
    upright, stored, turned = lying((30, 50), turns)
    box = turned.box(Box(10, 4, 22, 9))
    inside = stored[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    assert sorted(inside.flat) == sorted(upright[4:9, 10:22].flat)
    corners = ((10.0, 4.0), (22.0, 4.0), (22.0, 9.0))
    mark = turned.tooth(ToothMark(Tooth("16"), Box(10, 4, 22, 9), 0.9, MODEL, corners))
    assert mark.box == box
    assert mark.outline == turned.points(corners)
    for geometry in (Box(10, 4, 22, 9), Polygon(corners), Line(corners[:2])):
        finding = turned.finding(Finding(FindingKind.OTHER, geometry))
        assert type(finding.geometry) is type(geometry)
        assert {*turned.points(geometry.points)} <= {
            *finding.geometry.points,
            *((x, y) for x in (box.x0, box.x1) for y in (box.y0, box.y1)),
        }
    site = BoneSite(Tooth("16"), Surface.MESIAL, (1, 2), (3, 4), None, 2.0, None, 0.5)
    moved = turned.site(site)
    assert (moved.cej, moved.crest, moved.apex) == (*turned.points([(1, 2), (3, 4)]), None)


def test_a_quarter_turn_swaps_the_spacing():
    spacing = Spacing(0.1, 0.2, "detector")
    assert lying((3, 4), 2)[2].spacing(spacing) == spacing
    assert lying((3, 4), 1)[2].spacing(spacing) == Spacing(0.2, 0.1, "detector")
