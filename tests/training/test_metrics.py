"""Figures of merit against cases worked out by hand."""

import numpy as np
import pytest

from training import metrics

ONE = np.ones((1, 1))


def flags(text):
    return np.array([c == "x" for c in text])


def test_average_precision_of_one_film_by_hand():
    # Three objects, four marks: hit, false, hit, false. Recall 1/3, 1/3, 2/3, 2/3;
    # precision 1, 1/2, 2/3, 1/2; envelope 1, 2/3, 2/3, 1/2.
    # COCO: levels 0..0.33 (34 of them) at 1, 0.34..0.66 (33) at 2/3, the rest at 0.
    value = metrics.average_precision(
        np.array([0.9, 0.8, 0.7, 0.6]), flags("x-x-"), np.zeros(4, int), np.array([3.0]), ONE
    )
    assert value[0] == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_average_precision_is_one_for_all_found_and_unknown_without_objects():
    score, owner = np.array([0.9, 0.1]), np.array([0, 1])
    one = metrics.average_precision(score, flags("xx"), owner, np.ones(2), np.ones((1, 2)))
    assert one[0] == pytest.approx(1.0)
    none = metrics.average_precision(score, flags("--"), owner, np.zeros(2), np.ones((1, 2)))
    assert np.isnan(none[0])
    empty = metrics.average_precision(
        np.zeros(0), flags(""), np.zeros(0, int), np.ones(2), np.ones((1, 2))
    )
    assert empty[0] == 0.0


def test_a_film_counted_twice_counts_as_two_films():
    score, owner = np.array([0.9, 0.8, 0.5]), np.array([0, 1, 1])
    hit, objects = flags("x-x"), np.array([1.0, 2.0])
    twice = metrics.average_precision(score, hit, owner, objects, np.array([[1.0, 2.0]]))
    three = metrics.average_precision(
        score[[0, 1, 2, 1, 2]],
        hit[[0, 1, 2, 1, 2]],
        np.array([0, 1, 1, 2, 2]),
        np.array([1.0, 2.0, 2.0]),
        np.ones((1, 3)),
    )
    assert twice[0] == pytest.approx(three[0])


def test_froc_reads_sensitivity_at_false_marks_per_film():
    # Two films, three lesions. By falling score: hit, false, hit, false, false.
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    owner = np.array([0, 1, 1, 0, 1])
    values = metrics.froc(
        score, flags("x-x--"), owner, np.array([1.0, 2.0]), np.ones((1, 2)), (0.25, 0.5, 1.0, 4.0)
    )
    assert values[0] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])


def test_marks_of_one_score_stand_or_fall_together():
    values = metrics.froc(
        np.array([0.5, 0.5]), flags("x-"), np.array([0, 0]), np.ones(1), ONE, (0.5, 1.0)
    )
    assert values[0] == pytest.approx([0.0, 1.0])


def test_afroc_by_hand_with_ties_and_missed_lesions():
    # Films: two lesions (0.8 and missed), one lesion (0.3), two lesion-free (0.5 and no mark).
    lesion = np.array([0.8, -np.inf, 0.3])
    highest = np.array([-np.inf, -np.inf, 0.5, -np.inf])
    free = flags("--xx")
    owner = np.array([0, 0, 1])
    # Pairs (lesion, lesion-free film): 0.8 beats both: 2; missed: 0 and a tie: 0.5; 0.3: 0 and 1.
    plain = metrics.afroc(lesion, owner, highest, free, np.ones((1, 4)))
    assert plain[0] == pytest.approx((2 + 0.5 + 1) / 6)
    # Weighted: film 0's lesions count half each: (2 + 0.5) / 2 + 1 over 2 films x 2 films.
    weighted = metrics.afroc(lesion, owner, highest, free, np.ones((1, 4)), weighted=True)
    assert weighted[0] == pytest.approx((2.5 / 2 + 1) / 4)


def test_auroc_by_hand():
    score = np.array([0.1, 0.4, 0.35, 0.8])
    assert metrics.auroc(score, flags("--xx"), np.ones((1, 4)))[0] == pytest.approx(0.75)
    tied = metrics.auroc(np.array([0.5, 0.5]), flags("x-"), np.ones((1, 2)))
    assert tied[0] == 0.5
    assert np.isnan(metrics.auroc(score, flags("xxxx"), np.ones((1, 4)))[0])


def test_calibration_by_hand():
    # Two bins of two: mean 0.2 with none true, mean 0.9 with one of two true.
    p = np.array([0.1, 0.3, 0.8, 1.0])
    error = metrics.calibration_error(p, flags("--x-"), np.ones((1, 4)), bins=2)
    assert error[0] == pytest.approx(0.5 * 0.2 + 0.5 * 0.4)
    assert metrics.brier(p, flags("--x-"), np.ones((1, 4)))[0] == pytest.approx(
        (0.01 + 0.09 + 0.04 + 1.0) / 4
    )
    rows = metrics.reliability(p, flags("--x-"), bins=2)
    assert rows == [(pytest.approx(0.2), 0.0, 2), (pytest.approx(0.9), 0.5, 2)]


def test_bland_altman_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    found = np.array([1.5, 2.5, 3.0, 5.0])
    bias, low, high = metrics.bland_altman(truth, found, np.ones((1, 4)))
    gaps = np.array([0.5, 0.5, 0.0, 1.0])
    assert bias[0] == pytest.approx(0.5)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * gaps.std(ddof=1))


def test_icc_of_two_judges_of_a_published_table():
    # Judges 1 and 4 of Shrout and Fleiss 1979, table 2; mean squares spelled out.
    one = np.array([9.0, 6, 8, 7, 10, 6])
    four = np.array([8.0, 2, 6, 5, 9, 7])
    table = np.stack([one, four], axis=1)
    n, k = table.shape
    grand = table.mean()
    rows = k * ((table.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((table.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + grand
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    expected = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    assert metrics.icc(one, four, np.ones((1, 6)))[0] == pytest.approx(expected)
    assert metrics.icc(one, one, np.ones((1, 6)))[0] == pytest.approx(1.0)


def test_weighted_kappa_by_hand():
    # Three classes, linear weights. Truth 0 0 1 2, found 0 1 1 2: cost 0.5 / 4 = 0.125 observed.
    # Expected: truth (.5, .25, .25), found (.25, .5, .25).
    truth, found = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    expected = (
        0.5 * (0.5 * 0.5 + 0.25 * 1.0)
        + 0.25 * (0.25 * 0.5 + 0.25 * 0.5)
        + 0.25 * (0.25 * 1.0 + 0.5 * 0.5)
    )
    value = metrics.weighted_kappa(truth, found, 3, np.ones((1, 4)))
    assert value[0] == pytest.approx(1 - 0.125 / expected)


def test_quantiles_of_weighted_values():
    value = np.array([3.0, 1.0, 2.0])
    assert metrics.quantile(value, np.ones((1, 3)), 0.5)[0] == 2.0
    assert metrics.quantile(value, np.array([[5.0, 1.0, 1.0]]), 0.5)[0] == 3.0
    assert metrics.quantile(value, np.ones((1, 3)), 0.95)[0] == 3.0


def test_dice_of_masks():
    one = np.array([[1, 1, 0, 0]])
    other = np.array([[0, 1, 1, 0]])
    assert metrics.dice(one, other) == 0.5
    assert np.isnan(metrics.dice(one * 0, one * 0))


def test_patients_are_resampled_whole():
    # One patient has nine right films, the other one wrong film: resamples are 0, 0.9 or 1.
    right = np.array([1.0] * 9 + [0.0])
    seen = []

    def figures(weight):
        value = metrics.share(right, weight)
        seen.extend(np.round(value, 6))
        return {"right": value}

    figure = metrics.bootstrap(["a"] * 9 + ["b"], figures, resamples=250)["right"]
    assert figure.value == pytest.approx(0.9)
    assert (figure.low, figure.high) == (0.0, 1.0)
    assert set(seen) == {0.0, 0.9, 1.0}
    assert len(seen) == 251


def test_many_weightings_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(3)
    films, items = 12, 60
    owner = rng.integers(0, films, items)
    score = rng.random(items).round(1)
    hit = rng.random(items) < 0.4
    lesions = rng.integers(1, 5, films).astype(float)
    weights = rng.integers(0, 4, (7, films)).astype(float)
    cases = (
        lambda w: metrics.average_precision(score, hit, owner, lesions, w),
        lambda w: metrics.froc(score, hit, owner, lesions, w, (0.5, 2.0)),
        lambda w: metrics.auroc(score, hit, w[..., owner]),
        lambda w: metrics.calibration_error(score, hit, w[..., owner]),
        lambda w: metrics.icc(score, score**2, w[..., owner]),
        lambda w: metrics.quantile(score, w[..., owner], 0.5),
    )
    for case in cases:
        together = case(weights)
        alone = np.stack([case(row[None])[0] for row in weights])
        assert together == pytest.approx(alone, nan_ok=True)
