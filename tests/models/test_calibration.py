"""Calibration: scores become probabilities, and reports say how well they do."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import calibration
from models.calibration import Isotonic, Temperature
from node.errors import ConfigError

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_a_temperature_of_one_changes_nothing():
    scores = np.array([0.01, 0.5, 0.99])
    assert Temperature(1.0).apply(scores) == pytest.approx(scores)


def test_a_high_temperature_draws_towards_one_half_and_a_bias_shifts():
    assert 0.5 < float(Temperature(2.0).apply(np.array(0.9))) < 0.9
    assert float(Temperature(1.0, bias=-2.0).apply(np.array(0.5))) == pytest.approx(
        0.1192, abs=1e-4
    )


def test_classes_stay_a_distribution_and_keep_their_order():
    shares = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    softened = Temperature(2.0).apply_classes(shares)
    assert softened.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert softened[0, 0] < 0.7
    assert (softened.argmax(axis=1) == shares.argmax(axis=1)).all()


def test_an_isotonic_curve_is_straight_between_its_points_and_flat_beyond():
    curve = Isotonic((0.2, 0.6), (0.1, 0.9))
    assert curve.apply(np.array([0.0, 0.2, 0.4, 0.6, 1.0])) == pytest.approx(
        [0.1, 0.1, 0.5, 0.9, 0.9]
    )


@given(SCORES, st.floats(0.1, 10), st.floats(-3, 3))
def test_every_curve_rises_and_stays_a_probability(scores, temperature, bias):
    ordered = np.sort(np.array(scores))
    for curve in (Temperature(temperature, bias), Isotonic((0.1, 0.5, 0.8), (0.0, 0.0, 1.0))):
        result = curve.apply(ordered)
        assert (result >= 0).all()
        assert (result <= 1).all()
        assert (np.diff(result) >= -1e-12).all()


@pytest.mark.parametrize("curve", [Temperature(1.5, -0.2), Isotonic((0.0, 1.0), (0.1, 0.9))])
def test_a_curve_comes_back_from_its_json(curve):
    assert calibration.from_json("caries", calibration.to_json(curve)) == curve


@pytest.mark.parametrize(
    "data",
    [
        3,
        {},
        {"method": "magic"},
        {"method": "temperature"},
        {"method": "temperature", "temperature": 0},
        {"method": "temperature", "temperature": "warm"},
        {"method": "temperature", "temperature": 1, "slope": 2},
        {"method": "isotonic", "scores": [0.1], "probabilities": [0.1]},
        {"method": "isotonic", "scores": [0.5, 0.1], "probabilities": [0.1, 0.2]},
        {"method": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.3, 0.2]},
        {"method": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.3, 1.2]},
        {"method": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.3]},
        {"method": "isotonic", "scores": 3, "probabilities": [0.3]},
        {"method": "isotonic", "scores": [0.1, float("nan")], "probabilities": [0.3, 0.4]},
    ],
)
def test_a_curve_that_makes_no_sense_is_refused_by_name(data):
    with pytest.raises(ConfigError, match="calculus"):
        calibration.from_json("calculus", data)


def test_perfect_probabilities_have_no_error_and_wrong_ones_have():
    said, true = [0.0] * 10 + [1.0] * 10, [False] * 10 + [True] * 10
    assert calibration.expected_error(calibration.reliability(said, true)) == 0
    assert calibration.brier(said, true) == 0
    always = [0.9] * 20
    assert calibration.expected_error(calibration.reliability(always, true, 1)) == pytest.approx(
        0.4
    )
    assert calibration.brier(always, true) == pytest.approx(0.41)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_reliability_bins_count_every_unit_once(units):
    bins = calibration.reliability([p for p, _ in units], [t for _, t in units])
    assert sum(one.count for one in bins) == len(units)
    assert all(a.said <= b.said + 1e-12 for a, b in itertools.pairwise(bins))
