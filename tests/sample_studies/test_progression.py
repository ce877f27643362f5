"""A mouth on a later day: what happened is known, what did not happen stays."""

import numpy as np
import pytest

from node.errors import InvalidInput
from sample_studies import phantoms
from sample_studies.progression import Capture, LowerCrest, NewLesion, capture, progress

MM = 0.08


@pytest.fixture(scope="module")
def mouth():
    film = phantoms.bitewing(np.random.default_rng(8), cols=580, rows=435, pixel_mm=MM)
    return (film.pixels / (2**film.bits_stored - 1)).astype(np.float32), film.truth()


def back_site(truth) -> dict:
    return next(
        row
        for row in truth["sites"]
        if row["tooth"][0] in "34" and row["tooth"][1] in "567" and 200 < row["crest"][0] < 400
    )


def test_a_lower_crest_is_lower_in_truth_and_darker_in_the_film(mouth):
    pixels, truth = mouth
    site = back_site(truth)
    aged, after = progress(pixels, truth, [LowerCrest(site["tooth"], site["surface"], 2.0)])
    twin = next(
        row
        for row in after["sites"]
        if (row["tooth"], row["surface"]) == (site["tooth"], site["surface"])
    )
    assert twin["level_mm"] == pytest.approx(site["level_mm"] + 2.0)
    moved = np.hypot(*np.subtract(twin["crest"], site["crest"])) * MM
    assert moved == pytest.approx(2.0, abs=0.01)
    assert (aged <= pixels + 1e-6).all()
    assert (aged < pixels - 0.02).sum() * MM**2 > 0.5, "square mm of bone are gone"
    assert truth["sites"] != after["sites"], "the truth before is left as it was"


def test_a_new_lesion_stands_in_the_truth_where_the_film_is_darker(mouth):
    pixels, truth = mouth
    site = back_site(truth)
    aged, after = progress(pixels, truth, [NewLesion(site["tooth"], site["surface"])])
    assert len(after["lesions"]) == len(truth["lesions"]) + 1
    x, y = np.mean(after["lesions"][-1]["polygon"], axis=0)
    assert aged[int(y), int(x)] < 0.85 * pixels[int(y), int(x)]


def test_nothing_happened_is_the_same_mouth(mouth):
    pixels, truth = mouth
    aged, after = progress(pixels, truth, [])
    assert np.array_equal(aged, pixels)
    assert after == truth


@pytest.mark.parametrize("change", [LowerCrest("11", "M", 1.0), NewLesion("11", "D")])
def test_what_the_film_does_not_show_cannot_change(mouth, change):
    with pytest.raises(InvalidInput):
        progress(*mouth, [change])


def test_a_capture_moves_film_and_truth_together(mouth):
    pixels, truth = mouth
    rng = np.random.default_rng(0)
    how = Capture(shift_mm=(0.8, -0.4), turn_deg=3.0, scale=1.02)
    film, seen = capture(pixels, truth, how, (375, 500), rng)
    assert film.shape == (375, 500)
    straight, still = capture(pixels, truth, Capture(), (375, 500), rng)
    assert np.abs(film - straight).mean() > 0.01
    for row in seen["teeth"]:
        x0, y0, x1, y1 = row["box"]
        assert 0 <= x0 < x1 <= 500
        assert 0 <= y0 < y1 <= 375
    by_site = {(row["tooth"], row["surface"]): row for row in still["sites"]}
    moved = [row for row in seen["sites"] if (row["tooth"], row["surface"]) in by_site]
    assert moved
    for row in moved:
        before = by_site[(row["tooth"], row["surface"])]
        assert row["level_mm"] == pytest.approx(1.02 * before["level_mm"], abs=0.01)


def test_the_same_seed_takes_the_same_film(mouth):
    films = [
        capture(*mouth, Capture.random(rng), (300, 400), rng)[0]
        for rng in (np.random.default_rng(9), np.random.default_rng(9))
    ]
    assert np.array_equal(*films)
