"""Numbered teeth, points, masks and marks read off made-up maps of the intraoral network."""

import numpy as np
import pytest

pytest.importorskip("torch")

from models import intraoral_maps as sight
from models.intraoral_maps import BOX_HEADS, CELL, HEADS, MARK_NAMES, TEETH
from models.panoramic import BOX_UNIT
from node.domain.findings import FindingKind, View
from node.domain.teeth import Surface, Tooth

ROWS, COLS = 96, 128


def blank():
    maps = {name: np.zeros((count, ROWS, COLS), np.float32) for name, count in HEADS.items()}
    maps["box"] += 2.0
    maps["mark_box"] += 1.0
    maps["tooth"][0] = 1.0
    return maps


def maps_with(teeth, points=()):
    """Make the maps of a network that is sure of (code, row, column) and points."""
    maps = blank()
    for code, row, column in teeth:
        index = TEETH.index(Tooth(code))
        maps["centre"][index // 16, row, column] = 0.9
        area = (slice(row - 8, row + 8), slice(column - 8, column + 8))
        maps["tooth"][(slice(None), *area)] = 0.0
        maps["tooth"][(index + 1, *area)] = 1.0
    for (row, column), channel, (point_row, point_column) in points:
        maps["points"][channel, point_row, point_column] = 0.8
        unit = BOX_UNIT / CELL
        maps["offsets"][2 * channel, row, column] = (point_column - column) / unit
        maps["offsets"][2 * channel + 1, row, column] = (point_row - row) / unit
    return maps


def numbers(maps, view):
    return [one.tooth.code for one in sight.decode(maps, view)]


def test_a_bitewing_shows_one_side_even_if_one_tooth_looks_like_the_other():
    maps = maps_with([("16", 30, 30), ("15", 30, 46), ("24", 30, 62)])
    maps["tooth"][1 + TEETH.index(Tooth("14")), 22:38, 54:70] = 0.4
    assert numbers(maps, View.BITEWING) == ["16", "15", "14"]


def test_a_periapical_shows_one_jaw_and_may_cross_the_midline():
    maps = maps_with([("12", 40, 20), ("11", 40, 36), ("21", 40, 52), ("41", 80, 50)])
    assert numbers(maps, View.PERIAPICAL) == ["12", "11", "21"]


def test_neighbours_without_a_gap_get_consecutive_numbers():
    # The third tooth looks like 44 a little more than like 45, but no tooth is missing there.
    maps = maps_with([("47", 40, 20), ("46", 40, 36), ("44", 40, 52)])
    area = (slice(None), slice(32, 48), slice(44, 60))
    maps["tooth"][area] = 0.0
    maps["tooth"][1 + TEETH.index(Tooth("44")), 32:48, 44:60] = 0.55
    maps["tooth"][1 + TEETH.index(Tooth("45")), 32:48, 44:60] = 0.45
    assert numbers(maps, View.PERIAPICAL) == ["47", "46", "45"]


def test_a_wide_gap_leaves_out_a_number():
    maps = maps_with([("47", 40, 20), ("45", 40, 52), ("44", 40, 68)])
    assert numbers(maps, View.PERIAPICAL) == ["47", "45", "44"]


def test_a_tooth_of_low_probability_has_no_number():
    maps = maps_with([("16", 30, 30)])
    maps["centre"][0, 30, 30] = 0.2
    assert sight.decode(maps, View.BITEWING, least=0.6) == []


@pytest.mark.parametrize(
    ("code", "side", "surface"),
    [
        ("16", "right", Surface.MESIAL),
        ("16", "left", Surface.DISTAL),
        ("26", "right", Surface.DISTAL),
        ("36", "left", Surface.MESIAL),
        ("46", "right", Surface.MESIAL),
    ],
)
def test_mesial_is_towards_the_midline(code, side, surface):
    assert sight.surface_at(Tooth(code), side) is surface


def test_points_belong_to_the_tooth_that_expects_them():
    at = (40, 60)
    maps = maps_with([("46", *at)], [(at, 0, (36, 52)), (at, 2, (44, 51))])
    (tooth,) = sight.decode(maps, View.BITEWING)
    assert set(tooth.points) == {("cej", "left"), ("crest", "left")}
    (x, y), heat = tooth.points[("cej", "left")]
    assert (x, y) == pytest.approx((52.5 * CELL, 36.5 * CELL))
    assert heat == pytest.approx(0.8)


def test_a_mask_survives_doubt_about_the_number():
    maps = maps_with([("46", 40, 40), ("45", 40, 56)])
    doubt = (slice(36, 44), slice(36, 44))
    maps["tooth"][(1 + TEETH.index(Tooth("46")), *doubt)] = 0.3
    maps["tooth"][(1 + TEETH.index(Tooth("47")), *doubt)] = 0.7
    seen = sight.decode(maps, View.BITEWING)
    found = dict(zip([s.tooth.code for s in seen], sight.masks(maps, seen), strict=True))
    assert found["46"][38, 38] == pytest.approx(1.0)
    assert found["45"][38, 38] == 0.0
    ring = sight.rings(found["46"])[0]
    assert ring.min() >= 30 * CELL
    assert ring[:, 0].max() <= 50 * CELL


def test_no_teeth_no_masks():
    assert sight.masks(blank(), []) == []


def test_marks_that_share_no_box_head_are_found_in_one_place():
    maps = blank()
    maps["marks"][MARK_NAMES.index("post"), 50, 50] = 0.7
    maps["marks"][MARK_NAMES.index("root_filling"), 50, 50] = 0.9
    found = [(MARK_NAMES[p.channel], p.score) for p in sight.mark_peaks(maps, 0.1)]
    assert found == [("root_filling", pytest.approx(0.9)), ("post", pytest.approx(0.7))]


def test_every_mark_has_a_box_head_and_a_kind():
    assert {head for _, _, head in sight.MARKS} == set(range(BOX_HEADS))
    assert len(set(MARK_NAMES)) == len(MARK_NAMES)
    kinds = {kind for _, kind, _ in sight.MARKS}
    assert {FindingKind.CALCULUS, FindingKind.FURCATION, FindingKind.POST} <= kinds


def test_the_maps_of_a_mirror_image_show_the_other_side():
    at = (40, 60)
    maps = maps_with([("46", *at)], [(at, 0, (36, 52)), (at, 2, (44, 51))])
    maps["box"][0] = 1.0
    seen = {one.tooth.code: one for one in sight.decode(sight.mirrored(maps), View.PERIAPICAL)}
    assert set(seen) == {"36"}
    one = seen["36"]
    assert set(one.points) == {("cej", "right"), ("crest", "right")}
    (x, y), _ = one.points[("cej", "right")]
    assert (x, y) == pytest.approx((COLS * CELL - 52.5 * CELL, 36.5 * CELL))
    middle = COLS * CELL - 60.5 * CELL
    assert (one.box[0], one.box[2]) == pytest.approx((middle - 32.0, middle + 16.0))


def test_mirroring_twice_gives_the_maps_back():
    rng = np.random.default_rng(0)
    maps = {name: rng.random((count, 8, 12)).astype(np.float32) for name, count in HEADS.items()}
    again = sight.mirrored(sight.mirrored(maps))
    assert all(np.array_equal(maps[name], again[name]) for name in maps)
