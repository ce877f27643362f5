"""Intraoral decoding from maps, and the installed network on seeded synthetic films."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import intraoral, weights
from models.backbone import DenseNet
from models.intraoral import HEADS, IntraoralModel
from models.intraoral_reading import IntraoralReading
from node.domain.findings import (
    NO_SPACING,
    CariesDepth,
    FindingKind,
    Line,
    ModelVersion,
    Spacing,
    View,
)
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface, Tooth
from node.errors import ConfigError
from sample_studies import __main__ as films

VERSION = ModelVersion("intraoral", "1.0.0", "0" * 64)
CELL = intraoral.CELL
ROWS, COLS = 96, 128
SPACING = Spacing(0.078, 0.078, "detector")


def maps_with(teeth, points=()):
    """Make the maps of a network that is sure of (index in TEETH, row, column) and points."""
    maps = {
        "centre": np.zeros((2, ROWS, COLS), np.float32),
        "box": np.full((4, ROWS, COLS), 2.0, np.float32),
        "tooth": np.zeros((33, ROWS, COLS), np.float32),
        "points": np.zeros((6, ROWS, COLS), np.float32),
        "offsets": np.zeros((12, ROWS, COLS), np.float32),
        "caries": np.zeros((1, ROWS, COLS), np.float32),
        "outline": np.zeros((1, ROWS, COLS), np.float32),
        "depth": np.zeros((4, ROWS, COLS), np.float32),
    }
    maps["tooth"][0] = 1.0
    for index, row, column in teeth:
        maps["centre"][index // 16, row, column] = 0.9
        area = (slice(row - 8, row + 8), slice(column - 8, column + 8))
        maps["tooth"][(slice(None), *area)] = 0.0
        maps["tooth"][(index + 1, *area)] = 1.0
    for (row, column), channel, (point_row, point_column) in points:
        maps["points"][channel, point_row, point_column] = 0.8
        unit = intraoral.panoramic.BOX_UNIT / CELL
        maps["offsets"][2 * channel, row, column] = (point_column - column) / unit
        maps["offsets"][2 * channel + 1, row, column] = (point_row - row) / unit
    return maps


def place(code):
    return intraoral.TEETH.index(Tooth(code))


def test_a_bitewing_shows_one_side_even_if_one_tooth_looks_like_the_other():
    maps = maps_with([(place("16"), 30, 30), (place("15"), 30, 60), (place("24"), 30, 90)])
    maps["tooth"][1 + place("14"), 22:38, 82:98] = 0.4
    found = intraoral.decode(maps, View.BITEWING)
    assert [one.tooth.code for one in found] == ["16", "15", "14"]


def test_a_periapical_shows_one_jaw_and_may_cross_the_midline():
    teeth = [(place("12"), 40, 20), (place("11"), 40, 50), (place("21"), 40, 80)]
    maps = maps_with([*teeth, (place("41"), 80, 50)])
    found = intraoral.decode(maps, View.PERIAPICAL)
    assert [one.tooth.code for one in found] == ["12", "11", "21"]


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
    assert intraoral.surface_at(Tooth(code), side) is surface


def test_points_belong_to_the_tooth_that_expects_them():
    at = (40, 60)
    found = intraoral.decode(
        maps_with([(place("46"), *at)], [(at, 0, (36, 52)), (at, 2, (44, 51))]), View.BITEWING
    )
    (tooth,) = found
    assert set(tooth.points) == {("cej", "left"), ("crest", "left")}
    (x, y), heat = tooth.points[("cej", "left")]
    assert (x, y) == pytest.approx((52.5 * CELL, 36.5 * CELL))
    assert heat == pytest.approx(0.8)


def test_a_lesion_is_the_part_of_the_outline_round_its_peak():
    outline = np.zeros((ROWS, COLS), np.float32)
    outline[10:13, 20:22] = 0.9
    outline[30:34, 20:22] = 0.9
    mask = intraoral.lesion_mask(outline, 11, 20)
    assert mask.sum() == 6
    assert mask[11, 20]
    assert intraoral.lesion_mask(np.zeros_like(outline), 5, 5).sum() == 1


def test_lesion_peaks_come_best_first():
    heat = np.zeros((ROWS, COLS), np.float32)
    heat[5, 5], heat[50, 60], heat[51, 60] = 0.3, 0.9, 0.6
    assert [(r, c) for r, c, _ in intraoral.lesion_peaks(heat)] == [(50, 60), (5, 5)]


def state(thresholds):
    torch.manual_seed(0)
    return dict(DenseNet(HEADS).state_dict()) | {"thresholds": torch.tensor(thresholds)}


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError):
        IntraoralModel.from_state(state([0.3, 0.1]), VERSION)
    with pytest.raises(ConfigError):
        IntraoralModel.from_state({"thresholds": torch.zeros(4)}, VERSION)


@pytest.fixture(scope="module")
def model():
    found = weights.load("intraoral", weights.DEFAULT_DIR)
    if found is None:
        pytest.skip("the intraoral weights are not installed")
    return IntraoralModel.from_state(*found)


@pytest.fixture(scope="module")
def readings(model):
    made = [films.film("mixed", 900, index) for index in range(12)]
    found = [(film, model.analyse(_pixels(film), film.view, SPACING)) for film in made]
    return [(film, (reading.teeth, reading.findings)) for film, reading in found]


def _pixels(film):
    return film.pixels.astype(np.float32) / (2**film.bits_stored - 1)


def test_it_numbers_most_teeth_of_synthetic_films(readings):
    right = sum(
        len({t.tooth for t in film.teeth} & {m.tooth for m in teeth})
        for film, (teeth, _) in readings
    )
    there = sum(len(film.teeth) for film, _ in readings)
    named = sum(len(teeth) for _, (teeth, _) in readings)
    assert 2 * right / (there + named) > 0.7


def test_every_mark_lies_on_the_film_and_names_what_it_means(readings):
    for film, (teeth, findings) in readings:
        rows, cols = film.pixels.shape
        assert len({m.tooth for m in teeth}) == len(teeth)
        allowed = {m.tooth for m in teeth}
        for finding in findings:
            assert finding.kind in (FindingKind.CARIES, FindingKind.BONE_LEVEL)
            assert finding.tooth is None or finding.tooth in allowed
            for x, y in finding.geometry.points:
                assert 0 <= x <= cols
                assert 0 <= y <= rows
            if finding.kind is FindingKind.CARIES:
                assert finding.depth in intraoral.DEPTHS
            else:
                assert isinstance(finding.geometry, Line)
                assert finding.surfaces[0] in (Surface.MESIAL, Surface.DISTAL)
                assert finding.value_mm is not None


def test_bone_levels_of_synthetic_films_are_close(model):
    errors = []
    for index in range(8):
        film = films.film("bitewing", 901, index)
        truth = {(s.tooth, s.surface): s.level_mm for s in film.sites}
        for level in model.read(_pixels(film), film.view, SPACING).levels:
            key = (level.finding.tooth, level.finding.surfaces[0])
            if key in truth:
                errors.append(abs(level.loss_mm - truth[key]))
    assert len(errors) > 40
    assert np.mean(errors) < 1.0


def test_healthy_bone_is_not_reported(readings, model):
    for _, (_, findings) in readings:
        for finding in findings:
            if finding.kind is FindingKind.BONE_LEVEL:
                assert finding.value_mm >= model.thresholds["level_mm"] - 0.01


def test_without_spacing_there_are_no_millimetres(model):
    film = films.film("bitewing", 14, 0)
    reading = model.analyse(_pixels(film), film.view, NO_SPACING)
    assert all(f.value_mm is None for f in reading.findings)
    assert all(site.level_mm is None for site in reading.sites)


def test_a_share_of_the_root_needs_a_periapical(model):
    for index in range(4):
        film = films.film("bitewing", 902, index)
        levels = model.read(_pixels(film), View.BITEWING, SPACING).levels
        assert all(level.finding.value_percent is None for level in levels)
    shares = [
        level.finding.value_percent
        for index in range(4)
        for film in [films.film("periapical", 902, index)]
        for level in model.read(_pixels(film), film.view, SPACING).levels
        if level.finding.value_percent is not None
    ]
    assert shares
    assert all(0 <= share <= 100 for share in shares)


@pytest.mark.parametrize("shape", [(32, 32), (40, 3000), (2000, 60), (384, 512)])
@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_an_empty_film_shows_nothing(model, shape, grey):
    empty = np.full(shape, grey, np.float32)
    assert model.analyse(empty, View.BITEWING, NO_SPACING) == IntraoralReading()


def test_the_result_is_the_same_twice(model):
    film = films.film("mixed", 15, 1)
    first = model.analyse(_pixels(film), film.view, SPACING)
    assert first == model.analyse(_pixels(film), film.view, SPACING)


def test_larger_pixels_of_the_same_film_give_the_same_teeth(model):
    fine = films.film("bitewing", 16, 0)
    pixels = _pixels(fine)
    double = np.kron(pixels, np.ones((2, 2), np.float32))
    half = Spacing(0.039, 0.039, "detector")
    teeth = model.analyse(pixels, fine.view, SPACING).teeth
    same = model.analyse(double, fine.view, half).teeth
    assert {m.tooth for m in teeth} == {m.tooth for m in same}


def test_depths_are_ordered_as_they_deepen():
    assert intraoral.DEPTHS == (
        CariesDepth.E1,
        CariesDepth.E2,
        CariesDepth.D1,
        CariesDepth.D2,
        CariesDepth.D3,
    )
    assert intraoral.TEETH == UPPER_ARCH + LOWER_ARCH
