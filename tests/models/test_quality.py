"""Quality flags: each flaw made on purpose is flagged with its reason, a good film is not."""

import math

import cv2
import numpy as np
import pytest

from models import quality, quality_pixels
from models.intraoral_reading import Contact, IntraoralReading, Landmarks
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    ModelVersion,
    QualityKind,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Tooth
from sample_studies import phantoms

MODEL = ModelVersion("intraoral", "1.0.0", "0" * 64)
SPACING = Spacing(0.08, 0.08, "detector")
NOTHING = IntraoralReading()


@pytest.fixture(scope="module")
def film():
    """A synthetic bitewing as the networks get it, and its teeth."""
    made = phantoms.bitewing(np.random.default_rng(12))
    pixels = (made.pixels / (2**made.bits_stored - 1)).astype(np.float32)
    teeth = tuple(ToothMark(t.tooth, Box(*t.box), 0.9, MODEL) for t in made.teeth)
    return pixels, teeth


def kinds(image, reading=NOTHING, view=View.BITEWING, faults=None):
    return {f.kind: f for f in quality.of_intraoral(image, view, reading, SPACING, faults or {})}


def test_a_good_film_has_no_flaw_of_its_pixels(film):
    pixels, teeth = film
    assert kinds(pixels, IntraoralReading(teeth=teeth)) == {}


def test_a_blurred_film_is_called_blurred(film):
    blurred = cv2.GaussianBlur(film[0], (0, 0), 4)
    assert quality_pixels.sharpness(blurred) < quality_pixels.sharpness(film[0])
    assert kinds(blurred)[QualityKind.BLUR].is_disqualifying


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_cone_cut_is_measured(film, corner):
    pixels = film[0].copy()
    rows, cols = pixels.shape
    ys, xs = np.mgrid[0:rows, 0:cols]
    far = np.hypot(ys - corner[0] * rows, xs - corner[1] * cols)
    clear = far < np.quantile(far, 0.15)
    pixels[clear] = 0.97
    assert quality_pixels.clear_share(pixels) == pytest.approx(clear.mean(), abs=0.03)
    assert "%" in kinds(pixels)[QualityKind.CONE_CUT].detail


def test_a_clear_frame_all_round_is_no_cone_cut(film):
    framed = np.pad(film[0], 30, constant_values=1.0)
    assert quality_pixels.clear_share(framed) < quality.MOST_CLEAR


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: np.clip(x * 3, 0, 1), QualityKind.UNDEREXPOSED),
        (lambda x: np.clip(x - 0.8, 0, 1), QualityKind.OVEREXPOSED),
        (
            lambda x: np.clip(x + np.random.default_rng(1).normal(0, 0.5, x.shape), 0, 1),
            QualityKind.UNDEREXPOSED,
        ),
    ],
    ids=["white", "black", "noise"],
)
def test_exposure_is_judged_on_the_teeth(film, change, kind):
    pixels, teeth = film
    found = kinds(change(pixels).astype(np.float32), IntraoralReading(teeth=teeth))
    assert kind in found


def test_metal_is_not_called_underexposed(film):
    pixels, teeth = film
    box = teeth[0].box
    pixels = pixels.copy()
    pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 1.0
    crown = Finding(FindingKind.CROWN, box)
    seen = quality_pixels.exposure(pixels, [mark.box for mark in teeth], [box])
    assert seen.bright < quality.MOST_LOST
    reading = IntraoralReading(teeth=teeth, findings=(crown,))
    assert QualityKind.UNDEREXPOSED not in kinds(pixels, reading)


def grain(shape=(300, 400)):
    """Pixels without a flaw of their own."""
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize(("overlap", "is_failed"), [(0.2, False), (0.5, False), (0.7, True)])
def test_an_overlap_hides_caries_of_its_two_teeth(overlap, is_failed):
    contact = Contact((Tooth("16"), Tooth("15")), (100, 100), overlap)
    found = kinds(grain(), IntraoralReading(contacts=(contact,)))
    assert (QualityKind.OVERLAP in found) is is_failed
    if is_failed:
        assert found[QualityKind.OVERLAP].teeth == contact.teeth
        assert found[QualityKind.OVERLAP].is_disqualifying


def mark(code, *box):
    return ToothMark(Tooth(code), Box(*box), 0.9, MODEL)


def test_a_cut_apex_and_a_cut_crown_are_told_apart():
    near_roots = IntraoralReading(teeth=(mark("46", 150, 60, 260, 295), mark("45", 1, 60, 90, 299)))
    found = kinds(grain(), near_roots, View.PERIAPICAL)
    assert found[QualityKind.APEX_CUT].teeth == (Tooth("46"),)
    assert QualityKind.CROWN_CUT not in found
    assert QualityKind.APEX_CUT not in kinds(grain(), near_roots, View.BITEWING)
    near_crowns = IntraoralReading(teeth=(mark("46", 150, 5, 260, 200),))
    found = kinds(grain(), near_crowns, View.PERIAPICAL)
    assert QualityKind.CROWN_CUT in found
    assert QualityKind.APEX_CUT not in found
    upper = IntraoralReading(teeth=(mark("16", 150, 5, 260, 200),))
    assert QualityKind.APEX_CUT in kinds(grain(), upper, View.PERIAPICAL)


def landmarks(code, stretch):
    """A first premolar or canine of usual proportions, `stretch` times as long."""
    length = {"14": 4.5, "13": 4.91}[code] * 50 * stretch
    return Landmarks(Tooth(code), (100, 10 + length), ((100, 10),), ((75, 150), (125, 150)))


@pytest.mark.parametrize(
    ("stretch", "kind"),
    [(1.0, None), (1.4, QualityKind.ELONGATION), (0.7, QualityKind.FORESHORTENING)],
)
def test_teeth_too_long_or_short_for_their_width(stretch, kind):
    two = IntraoralReading(landmarks=(landmarks("14", stretch), landmarks("13", stretch)))
    assert set(kinds(grain(), two)) == ({kind} if kind else set())
    one = IntraoralReading(landmarks=(landmarks("14", stretch),))
    assert kinds(grain(), one) == {}


def test_a_tilted_plane_and_what_the_look_tells():
    assert set(kinds(grain(), IntraoralReading(tilt_degrees=-14.0))) == {QualityKind.TILTED}
    assert kinds(grain(), IntraoralReading(tilt_degrees=9.0)) == {}
    found = kinds(grain(), faults={"receptor": 0.9, "cone_cut": 0.9})
    assert found[QualityKind.RECEPTOR].probability == 0.9
    assert QualityKind.CONE_CUT not in found  # measured, not looked at
    assert kinds(grain(), faults={"receptor": 0.4, "double": 0.9}) == {}


def arch(curve=-0.06, right=1.0, front=1.0):
    """Lay out 28 teeth as on a panoramic 1,000 px wide; `curve` is that of the occlusal line."""
    widths = {1: 40, 2: 38, 3: 45, 4: 48, 5: 50, 6: 80, 7: 78}
    marks = []
    for quadrant, sign in ((1, -1), (2, 1), (3, 1), (4, -1)):
        x = 0.0
        for place, usual in widths.items():
            width = usual * (front if place <= 2 else 1) * (right if sign < 0 and place > 5 else 1)
            left, end = sorted((500 + sign * x, 500 + sign * (x + width)))
            y = 300 + 760 * curve * (((left + end) / 2 - 500) / 380) ** 2
            box = (left, y - 120, end, y) if quadrant < 3 else (left, y, end, y + 120)
            marks.append(mark(f"{quadrant}{place}", *box))
            x += width
    return marks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"right": 1.3}, "right molars"),
        ({"right": 1 / 1.3}, "left molars"),
        ({"curve": -0.25}, "chin was low"),
        ({"curve": 0.1}, "chin was high"),
        ({"front": 0.6}, "too far forward"),
        ({"front": 1.5}, "too far back"),
    ],
)
def test_panoramic_positioning(change, words):
    flags = quality.of_panoramic(grain((600, 1000)), arch(**change), ())
    details = [flag.detail for flag in flags if flag.kind is QualityKind.POSITIONING]
    assert bool(details) is bool(words)
    assert all(words in detail for detail in details)
    assert math.isclose(arch()[0].box.y1, 300, abs_tol=1)


def test_an_empty_panoramic_is_not_judged_by_its_teeth():
    assert quality.of_panoramic(grain((600, 1000)), (), ()) == ()
