"""What the intraoral network says of a film: from made-up maps, and the installed network."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models import intraoral, weights
from models.backbone import DenseNet
from models.geometry import Canvas
from models.intraoral import HEADS, THRESHOLDS, IntraoralModel, Sight, depth_of, see
from models.intraoral_bone import Level
from models.intraoral_caries import DEPTHS, Lesion
from models.intraoral_maps import CELL, TEETH
from models.intraoral_marks import Mark
from models.intraoral_reading import Contact, IntraoralReading, SurfaceCaries
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import (
    NO_SPACING,
    Box,
    CariesDepth,
    FindingKind,
    Line,
    ModelVersion,
    OperatingPoint,
    Polygon,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError
from sample_studies import __main__ as films

VERSION = ModelVersion("intraoral", "2.0.0", "0" * 64)
SPACING = Spacing(0.078, 0.078, "detector")
FRONT, BACK = Tooth("45"), Tooth("46")
RING = Polygon(((0.0, 0.0), (4.0, 0.0), (4.0, 4.0)))


def state(thresholds):
    torch.manual_seed(0)
    return dict(DenseNet(HEADS).state_dict()) | {"thresholds": torch.tensor(thresholds)}


def untrained(settings=NO_SETTINGS):
    return IntraoralModel.from_state(state([0.3, 0.1, 2.5, 0.3]), VERSION, settings)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError):
        IntraoralModel.from_state(state([0.3, 0.1]), VERSION)
    with pytest.raises(ConfigError):
        IntraoralModel.from_state({"thresholds": torch.zeros(4)}, VERSION)


# --- what of a sight is said -----------------------------------------------------------------


def sight(lesions=(), marks=(), levels=(), contacts=(), cut=()):
    teeth = tuple(
        ToothMark(tooth, Box(x, 0.0, x + 90.0, 200.0), 0.9, VERSION)
        for tooth, x in ((BACK, 10.0), (FRONT, 100.0))
    )
    return Sight(
        teeth, tuple(lesions), tuple(marks), tuple(levels), {}, tuple(contacts), (), frozenset(cut)
    )


def lesion(score, tooth=BACK, surface=Surface.MESIAL):
    return Lesion(tooth, surface, score, (0.1, 0.2, 0.5, 0.1, 0.1, 0.0), RING)


def points(**reviews):
    return Settings({FindingKind(k): OperatingPoint(v, max(v, 0.9)) for k, v in reviews.items()})


def surface_of(reading, tooth, surface):
    return next(s for s in reading.surfaces if (s.tooth, s.surface) == (tooth, surface))


def test_caries_is_said_from_its_review_point_with_its_likeliest_depth():
    model = untrained(points(caries=0.4))
    (finding,) = model.reading(sight([lesion(0.45), lesion(0.35, FRONT)])).findings
    assert (finding.tooth, finding.surfaces) == (BACK, (Surface.MESIAL,))
    assert finding.depth is CariesDepth.D1
    assert finding.probability == pytest.approx(0.45)


def test_every_surface_has_a_distribution_that_sums_to_one():
    reading = untrained().reading(sight([lesion(0.6)]))
    assert len(reading.surfaces) == 6
    for one in reading.surfaces:
        assert one.none + sum(one.depths) == pytest.approx(1.0, abs=1e-3)
    ill = surface_of(reading, BACK, Surface.MESIAL)
    assert ill.at_least(CariesDepth.E1) == pytest.approx(0.6, abs=1e-3)
    assert ill.at_least(CariesDepth.D1) == pytest.approx(0.6 * 0.7, abs=1e-3)
    assert ill.at_least(CariesDepth.D2) == pytest.approx(0.6 * 0.2, abs=1e-3)
    sound = surface_of(reading, FRONT, Surface.DISTAL)
    assert sound.at_least(CariesDepth.E1) < 0.01
    assert depth_of(sound) is None


def test_surfaces_under_overlapping_crowns_are_not_scored():
    contact = Contact((BACK, FRONT), (100.0, 50.0), 1.1)
    reading = untrained().reading(sight([lesion(0.9), lesion(0.9, FRONT)], contacts=[contact]))
    assert not surface_of(reading, BACK, Surface.MESIAL).is_readable
    assert not surface_of(reading, FRONT, Surface.DISTAL).is_readable
    assert surface_of(reading, BACK, Surface.DISTAL).is_readable
    assert [f.tooth for f in reading.findings] == [FRONT]  # its mesial side is open
    assert depth_of(surface_of(reading, BACK, Surface.MESIAL)) is None


def test_a_surface_off_the_film_is_not_scored():
    reading = untrained().reading(
        sight([lesion(0.9, BACK, Surface.DISTAL)], cut=[(BACK, Surface.DISTAL)])
    )
    assert not surface_of(reading, BACK, Surface.DISTAL).is_readable
    assert reading.findings == ()


def mark(kind, score, tooth=BACK, surfaces=()):
    return Mark(kind.value, kind, Box(1.0, 1.0, 9.0, 9.0), tooth, surfaces, score)


def test_each_kind_has_its_own_review_point():
    model = untrained(points(calculus=0.6, crown=0.2))
    found = model.reading(
        sight(marks=[mark(FindingKind.CALCULUS, 0.5), mark(FindingKind.CROWN, 0.5)])
    ).findings
    assert [f.kind for f in found] == [FindingKind.CROWN]


def test_disease_without_a_number_is_not_said_but_metal_is():
    model = untrained()
    found = model.reading(
        sight(marks=[mark(k, 0.9, None) for k in (FindingKind.CALCULUS, FindingKind.IMPLANT)])
    ).findings
    assert [(f.kind, f.tooth) for f in found] == [(FindingKind.IMPLANT, None)]


def level(loss, score=0.9, is_calibrated=True):
    return Level(BACK, "left", (1.0, 1.0), (1.0, 9.0), None, loss, None, is_calibrated, score)


def test_every_site_is_kept_and_only_lowered_ones_are_findings():
    reading = untrained().reading(sight(levels=[level(1.2), level(4.0)]))
    assert [site.level_mm for site in reading.sites] == [1.2, 4.0]
    (finding,) = reading.findings
    assert (finding.kind, finding.value_mm) == (FindingKind.BONE_LEVEL, 4.0)
    assert isinstance(finding.geometry, Line)


def test_millimetres_need_a_spacing_that_can_be_trusted():
    reading = untrained().reading(sight(levels=[level(4.0, is_calibrated=False)]))
    assert [site.level_mm for site in reading.sites] == [None]
    assert [finding.value_mm for finding in reading.findings] == [None]


def test_an_angular_defect_carries_its_depth():
    seen = sight(
        marks=[mark(FindingKind.ANGULAR_DEFECT, 0.9, surfaces=(Surface.MESIAL,))],
        levels=[level(1.0)],
    )
    seen = replace(seen, angular_mm={(BACK, Surface.MESIAL): 3.21})
    (finding,) = untrained().reading(seen).findings
    assert finding.value_mm == 3.21


def test_a_tooth_at_the_border_has_a_cut_side():
    maps = {name: np.zeros((count, 96, 128), np.float32) for name, count in HEADS.items()}
    maps["tooth"][0] = 1.0
    maps["centre"][1, 40, 8] = 0.9
    maps["tooth"][:, 30:50, 0:16] = 0.0
    maps["tooth"][1 + TEETH.index(BACK), 30:50, 0:16] = 1.0
    maps["box"][:] = np.array([2.2, 2.5, 2.0, 2.5], np.float32)[:, None, None]
    canvas = Canvas.fit(384, 512, NO_SPACING)
    found = see(maps, canvas, View.BITEWING, NO_SPACING, dict.fromkeys(THRESHOLDS, 0.1), VERSION)
    assert [m.tooth for m in found.teeth] == [BACK]
    assert found.cut == {(BACK, Surface.DISTAL)}
    (outline,) = (m.outline for m in found.teeth)
    xs, ys = zip(*outline, strict=True)
    assert (min(xs), max(xs)) == pytest.approx((0, 16 * CELL), abs=3)
    assert (min(ys), max(ys)) == pytest.approx((30 * CELL, 50 * CELL), abs=3)


def test_the_likeliest_state_of_a_surface():
    assert depth_of(SurfaceCaries(BACK, Surface.MESIAL, True, 0.3, (0.1, 0.4, 0.2, 0, 0, 0))) is (
        CariesDepth.E2
    )


# --- the installed network ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    found = weights.load("intraoral", weights.DEFAULT_DIR)
    if found is None:
        pytest.skip("the intraoral weights are not installed")
    return IntraoralModel.from_state(*found)


@pytest.fixture(scope="module")
def readings(model):
    made = [films.film("mixed", 900, index) for index in range(12)]
    return [(film, model.analyse(_pixels(film), film.view, _spacing(film))) for film in made]


def _pixels(film):
    return film.pixels.astype(np.float32) / (2**film.bits_stored - 1)


def _spacing(film):
    return Spacing(film.spacing_mm, film.spacing_mm, "detector")


def test_it_numbers_most_teeth_of_synthetic_films(readings):
    right = sum(
        len({t.tooth for t in film.teeth} & {m.tooth for m in reading.teeth})
        for film, reading in readings
    )
    there = sum(len(film.teeth) for film, _ in readings)
    named = sum(len(reading.teeth) for _, reading in readings)
    assert 2 * right / (there + named) > 0.75


def test_every_mark_lies_on_the_film_and_names_what_it_means(readings):
    for film, reading in readings:
        rows, cols = film.pixels.shape
        numbers = {m.tooth for m in reading.teeth}
        assert len(numbers) == len(reading.teeth)
        shapes = [f.geometry.points for f in reading.findings]
        shapes += [m.outline for m in reading.teeth]
        shapes += [(s.cej, s.crest) for s in reading.sites]
        for x, y in (point for shape in shapes for point in shape):
            assert 0 <= x <= cols
            assert 0 <= y <= rows
        for finding in reading.findings:
            assert finding.tooth is None or finding.tooth in numbers
            assert 0 <= finding.probability <= 1
            assert (finding.depth in DEPTHS) == finding.kind.is_caries


def test_findings_start_at_their_review_points(readings, model):
    for _, reading in readings:
        for finding in reading.findings:
            point = model.settings.operating_points[finding.kind]
            assert finding.probability >= point.review
            if finding.kind is FindingKind.BONE_LEVEL:
                assert finding.value_mm >= model.thresholds["level_mm"] - 0.01


def test_bone_levels_of_synthetic_films_are_close(model):
    errors = []
    for index in range(8):
        film = films.film("bitewing", 901, index)
        truth = {(s.tooth, s.surface): s.level_mm for s in film.sites}
        for site in model.analyse(_pixels(film), film.view, _spacing(film)).sites:
            key = (site.tooth, site.surface)
            if key in truth:
                errors.append(abs(site.level_mm - truth[key]))
    assert len(errors) > 40
    assert np.mean(errors) < 0.8


def test_without_spacing_there_are_no_millimetres(model):
    film = films.film("bitewing", 14, 0)
    reading = model.analyse(_pixels(film), film.view, NO_SPACING)
    assert reading.sites
    assert all(site.level_mm is None for site in reading.sites)
    assert all(finding.value_mm is None for finding in reading.findings)


def test_a_share_of_the_root_needs_a_seen_apex(model):
    shares = []
    for index in range(4):
        film = films.film("periapical", 902, index)
        for site in model.analyse(_pixels(film), film.view, _spacing(film)).sites:
            assert (site.percent is None) or site.apex is not None
            shares.append(site.percent)
    known = [share for share in shares if share is not None]
    assert known
    assert all(0 <= share <= 100 for share in known)


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
    half = Spacing(fine.spacing_mm / 2, fine.spacing_mm / 2, "detector")
    teeth = model.analyse(pixels, fine.view, _spacing(fine)).teeth
    same = model.analyse(double, fine.view, half).teeth
    assert {m.tooth for m in teeth} == {m.tooth for m in same}


def test_the_reading_is_of_the_version_that_was_installed(readings, model):
    assert all(f.model == model.version for _, reading in readings for f in reading.findings)
    assert intraoral.SITE == "site"
