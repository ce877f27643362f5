"""Calibration and operating points from tuning films."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from models import weights
from models.calibration import Isotonic, Temperature
from node.domain.findings import FindingKind
from node.errors import InvalidInput
from training import calibrate, metrics
from training.detection import Found, Marks, match_lesions


def drawn(count, seed, sharpness=2.0):
    """Draw scores that are too sure of themselves: the true chance is a flatter one."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, count)
    is_true = rng.random(count) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-sharpness * logit)), is_true


@pytest.mark.parametrize(("count", "kind"), [(400, Temperature), (4000, Isotonic)])
def test_a_curve_makes_scores_mean_what_they_say(count, kind):
    score, is_true = drawn(count, 1)
    curve = calibrate.fit(score, is_true)
    assert isinstance(curve, kind)
    fresh, truth = drawn(4000, 2)
    one = np.ones((1, len(fresh)))
    before = metrics.calibration_error(fresh, truth, one)[0]
    after = metrics.calibration_error(curve.apply(fresh), truth, one)[0]
    assert after < before / 2
    assert (np.diff(curve.apply(np.linspace(0, 1, 50))) >= -1e-12).all()


def test_a_temperature_is_found_again():
    score, is_true = drawn(900, 3, sharpness=2.0)
    curve = calibrate.fit(score, is_true)
    assert curve.temperature == pytest.approx(2.0, rel=0.25)
    assert curve.bias == pytest.approx(0.0, abs=0.25)


def test_few_marks_and_scores_without_meaning_give_no_curve():
    score, is_true = drawn(30, 4)
    assert calibrate.fit(score[:12], is_true[:12]) is None
    assert calibrate.fit(1 - score, is_true) is None or is_true.sum() < 10
    upside_down, truth = drawn(500, 5)
    assert calibrate.fit(1 - upside_down, truth) is None


def marks_of(false_scores, hit_scores, films=10):
    box = (0.0, 0.0, 10.0, 10.0)
    found = [[] for _ in range(films)]
    for number, score in enumerate(false_scores):
        found[number % films].append(Found("c", (50.0, 50.0, 60.0, 60.0), score))
    for number, score in enumerate(hit_scores):
        found[number % films].append(Found("c", box, score))
    truth = [[box] if number < len(hit_scores) else [] for number in range(films)]
    return Marks.of(found, truth, match_lesions)


def test_operating_points_allow_so_many_false_marks_per_film():
    marks = marks_of([0.9, 0.7, 0.5, 0.3, 0.2, 0.1], [0.95, 0.8, 0.6, 0.4, 0.25])
    rates = calibrate.Rates(review=0.4, high_specificity=0.1)
    point = calibrate.operating_point(marks, marks.score, rates)
    # Four false marks on ten films: from 0.25 up; one: from 0.8 up.
    assert point.review == 0.25
    assert point.high_specificity == 0.8


def test_kinds_that_the_films_do_not_show_get_nothing():
    shown = marks_of([0.4, 0.2], [0.9, 0.8, 0.7])
    empty = marks_of([0.4], [])
    made = calibrate.settings(
        {FindingKind.CARIES: shown, FindingKind.IMPLANT: empty}, "a" * 64, calibrate.Rates()
    )
    assert set(made.operating_points) == {FindingKind.CARIES}
    assert made.calibration == {}
    assert made.reference_digest == "a" * 64
    again = weights.settings_from_json(json.loads(json.dumps(weights.settings_to_json(made))))
    assert again == made
    with pytest.raises(InvalidInput):
        calibrate.settings({FindingKind.IMPLANT: empty}, "a" * 64, calibrate.Rates())


def test_teeth_are_calibrated_by_one_curve_of_two_numbers():
    score, is_right = drawn(3000, 5)
    made = calibrate.tooth_settings(score, is_right, "a" * 64)
    (curve,) = made.calibration.values()
    assert list(made.calibration) == ["tooth"]
    assert curve.temperature == pytest.approx(2.0, rel=0.25)
    assert made.reference_digest == "a" * 64
    with pytest.raises(InvalidInput, match="too few"):
        calibrate.tooth_settings(score[:20], np.ones(20, bool), "a" * 64)
