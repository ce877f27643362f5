"""A tooth laid over itself on two films, and the change that is measured there."""

import math
from dataclasses import replace

import numpy as np
import pytest

from models import change
from models.bone_change import (
    SMALLEST_MM,
    Alignment,
    LevelChange,
    ToothOnFilm,
    changed_strip,
    level_change,
    move,
    tooth_axis,
)
from models.change import Film, darkening, register
from node.domain.findings import NO_SPACING, BoneSite, Box, Spacing
from node.domain.teeth import Surface, Tooth
from sample_studies import phantoms
from sample_studies.progression import Capture, LowerCrest, NewLesion, capture, progress

MM = 0.08
SPACING = Spacing(MM, MM, "detector")
SIZE = (375, 500)
STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def film(pixels, truth, spacing=SPACING) -> Film:
    teeth = {}
    for row in truth["teeth"]:
        tooth = Tooth(row["tooth"])
        cej = {
            Surface(site["surface"]): tuple(site["cej"])
            for site in truth["sites"]
            if site["tooth"] == row["tooth"]
        }
        teeth[tooth] = ToothOnFilm(tooth, Box(*row["box"]), cej)
    return Film(pixels, spacing, teeth)


def site_of(truth, tooth: str, surface: str) -> BoneSite:
    row = next(s for s in truth["sites"] if (s["tooth"], s["surface"]) == (tooth, surface))
    return BoneSite(
        Tooth(tooth), Surface(surface), tuple(row["cej"]), tuple(row["crest"]), None,
        row["level_mm"], None, 1.0,
    )  # fmt: skip


class Visits:
    """One mouth on two days; what happened in between is known."""

    def __init__(self, seed: int, changes=(), **later) -> None:
        rng = np.random.default_rng(seed)
        large = phantoms.bitewing(rng, cols=580, rows=435, pixel_mm=MM)
        pixels = (large.pixels / (2**large.bits_stored - 1)).astype(np.float32)
        truth = large.truth()
        aged, after = progress(pixels, truth, list(changes))
        second = Capture(**later) if later else Capture.random(rng)
        self.before, self.was = capture(pixels, truth, Capture.random(rng), SIZE, rng)
        self.now, self.truth = capture(aged, after, second, SIZE, rng)

    def register(self) -> dict[Tooth, Alignment]:
        found = register(film(self.now, self.truth), film(self.before, self.was))
        return {each.tooth: each for each in found}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_teeth_are_laid_over_themselves_to_a_fraction_of_a_millimetre(seed):
    visits = Visits(seed)
    usable = [each for each in visits.register().values() if each.is_usable]
    assert len(usable) >= 5
    errors = []
    for each in usable:
        for row in visits.was["sites"]:
            if row["tooth"] != each.tooth.code:
                continue
            for twin in visits.truth["sites"]:
                if (twin["tooth"], twin["surface"]) == (row["tooth"], row["surface"]):
                    moved = move(each.transform, tuple(row["cej"]))
                    errors.append(math.dist(moved, twin["cej"]) * MM)
    assert np.median(errors) < 0.15
    assert max(errors) < 0.6


def test_another_mouth_is_not_laid_over():
    first, second = Visits(21), Visits(22)
    found = register(film(first.now, first.truth), film(second.now, second.truth))
    refused = [each for each in found if not each.is_usable]
    assert len(refused) >= 0.7 * len(found)
    assert all(each.reason for each in refused)


def test_a_turned_film_may_only_be_looked_at():
    visits = Visits(2, turn_deg=27.0)
    found = visits.register()
    assert found
    assert not any(each.is_usable for each in found.values())


def test_a_film_without_spacing_is_aligned_but_not_in_millimetres():
    visits = Visits(3)
    found = register(
        film(visits.now, visits.truth, NO_SPACING), film(visits.before, visits.was, NO_SPACING)
    )
    assert any(each.is_usable for each in found)
    assert all(each.residual_mm is None for each in found)


def test_the_same_films_give_the_same_answer():
    visits = Visits(1)
    assert visits.register() == visits.register()


def test_films_that_share_no_tooth_give_nothing():
    visits = Visits(1)
    empty = Film(visits.before, SPACING, {})
    assert register(film(visits.now, visits.truth), empty) == ()


def test_a_blank_film_is_refused_in_words():
    visits = Visits(1)
    blank = film(np.zeros(SIZE, np.float32), visits.was)
    assert all(
        not each.is_usable and each.reason
        for each in register(film(visits.now, visits.truth), blank)
    )


def _lower_site(seed: int) -> tuple[str, str]:
    """A site of a lower molar that is well inside both films."""
    visits = Visits(seed)
    for row in visits.truth["sites"]:
        known = [(s["tooth"], s["surface"]) for s in visits.was["sites"]]
        is_lower_back = row["tooth"][0] in "34" and row["tooth"][1] in "567"
        is_inside = (row["tooth"], row["surface"]) in known and 60 < row["crest"][0] < 440
        if is_lower_back and is_inside:
            return row["tooth"], row["surface"]
    pytest.fail("the phantom shows no such site")


def test_lost_bone_is_measured_and_seen():
    tooth, surface = _lower_site(8)
    visits = Visits(8, [LowerCrest(tooth, surface, 2.5)])
    alignment = visits.register()[Tooth(tooth)]
    now, before = site_of(visits.truth, tooth, surface), site_of(visits.was, tooth, surface)
    one = film(visits.now, visits.truth).teeth[Tooth(tooth)]
    axis = tooth_axis(one, Surface(surface))
    found = level_change(now, before, alignment, SPACING, axis)
    assert isinstance(found, LevelChange)
    assert found.is_measurable
    assert found.delta_mm == pytest.approx(2.5, abs=0.5)
    strip = changed_strip(one, now, before, SPACING)
    assert darkening(visits.now, visits.before, alignment, strip) > 2


def test_an_unchanged_site_is_no_change_and_looks_like_none():
    tooth, surface = _lower_site(8)
    visits = Visits(8)
    alignment = visits.register()[Tooth(tooth)]
    now, before = site_of(visits.truth, tooth, surface), site_of(visits.was, tooth, surface)
    axis = tooth_axis(film(visits.now, visits.truth).teeth[Tooth(tooth)], Surface(surface))
    found = level_change(now, before, alignment, SPACING, axis)
    assert isinstance(found, LevelChange)
    assert not found.is_measurable
    misread = replace(before, level_mm=before.level_mm - 1.5)  # as a network might have read it
    strip = changed_strip(film(visits.now, visits.truth).teeth[Tooth(tooth)], now, misread, SPACING)
    assert abs(darkening(visits.now, visits.before, alignment, strip)) < 2


def test_a_new_lesion_is_darker_than_before():
    for seed in range(5, 12):
        visits = Visits(seed)
        teeth = {row["tooth"] for row in visits.was["teeth"]}
        place = next((t for t in ("36", "46", "35", "45") if t in teeth), None)
        if place is not None:
            break
    visits = Visits(seed, [NewLesion(place, "M")])
    lesion = [each for each in visits.truth["lesions"] if each["tooth"] == place][-1]
    alignment = visits.register()[Tooth(place)]
    points = [tuple(point) for point in lesion["polygon"]]
    assert darkening(visits.now, visits.before, alignment, points) > 3


def _site(level: float | None, crest=(10.0, 40.0), apex=None) -> BoneSite:
    return BoneSite(Tooth("46"), Surface.MESIAL, (10.0, 10.0), crest, apex, level, None, 0.9)


ALIGNED = Alignment(Tooth("46"), STILL, 0.9, 0.1, True)
DOWN = (0.0, 1.0)


def test_nothing_below_the_smallest_detectable_change_counts():
    for step_px, counts in ((13, False), (15, True)):  # 1.04 and 1.20 mm
        now = _site(3.0 + step_px * MM, crest=(10.0, 40.0 + step_px))
        found = level_change(now, _site(3.0), ALIGNED, SPACING, DOWN)
        assert isinstance(found, LevelChange)
        assert found.is_measurable is counts
        assert found.smallest_mm == SMALLEST_MM == 1.1


def test_a_long_root_asks_for_more():
    root_px = 20.0 / MM
    now = _site(4.2, crest=(10.0, 55.0), apex=(10.0, 10.0 + root_px))
    found = level_change(now, _site(3.0), ALIGNED, SPACING, DOWN)
    assert isinstance(found, LevelChange)
    assert found.smallest_mm == pytest.approx(1.4)
    assert not found.is_measurable


def test_measures_that_disagree_are_not_believed():
    answer = level_change(_site(5.0), _site(3.0), ALIGNED, SPACING, DOWN)
    assert isinstance(answer, str)
    assert "differ" in answer


@pytest.mark.parametrize(
    ("now", "before", "spacing"),
    [(None, 3.0, SPACING), (3.0, None, SPACING), (4.0, 3.0, NO_SPACING)],
)
def test_without_millimetres_there_is_no_change_in_millimetres(now, before, spacing):
    assert isinstance(level_change(_site(now), _site(before), ALIGNED, spacing, DOWN), str)


def test_the_axis_comes_from_what_is_seen():
    box = Box(0, 0, 40, 80)
    upper = ToothOnFilm(Tooth("16"), box)
    assert tooth_axis(upper, Surface.MESIAL) == (0.0, -1.0)
    level = {Surface.MESIAL: (0.0, 50.0), Surface.DISTAL: (40.0, 50.0)}
    lower = ToothOnFilm(Tooth("46"), box, level)
    assert tooth_axis(lower, Surface.MESIAL) == pytest.approx((0.0, 1.0))
    apex = ToothOnFilm(Tooth("46"), box, level, {Surface.MESIAL: (30.0, 90.0)})
    assert tooth_axis(apex, Surface.MESIAL) == pytest.approx((0.6, 0.8))


def test_darkening_outside_the_film_is_nothing():
    pixels = np.random.default_rng(0).random((100, 100)).astype(np.float32)
    away = ((-50.0, -50.0), (-40.0, -50.0), (-40.0, -40.0))
    assert darkening(pixels, pixels, ALIGNED, away) == 0.0
    assert change.LEAST_CORRELATION < 1.0
