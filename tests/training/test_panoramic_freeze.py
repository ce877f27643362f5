"""What is frozen on tuning films: which opinion counts how much, and from where on it is said."""

import pytest

pytest.importorskip("torch")

import numpy as np

from models.panoramic_findings import KINDS, WEIGHED
from node.domain.findings import FindingKind
from training import panoramic_freeze as freeze

CARIES = FindingKind.CARIES
IMPACTED = FindingKind.IMPACTED_TOOTH
TELLS = 1  # the column of the crop network's opinion on caries


def film(rng, source, number, ill=1, well=8):
    """Make a film whose carious teeth have a higher opinion in one column, mostly."""
    boxes = [(40.0 * k, 10.0, 40.0 * k + 30.0, 90.0) for k in range(ill + well)]
    opinions = rng.normal(0, 1, (ill + well, WEIGHED))
    opinions[:, 0] = 1.0
    opinions[:, TELLS] += np.where(np.arange(ill + well) < ill, 2.0, -2.0)
    truth = {kind: [] for kind in KINDS} | {CARIES: boxes[:ill], IMPACTED: boxes[:ill]}
    return freeze.Seen(source, f"{number}", boxes, opinions, truth)


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(5)
    return [film(rng, source, n) for source in ("a", "b") for n in range(30)]


def test_the_best_box_is_the_lesion_and_its_neighbours_are_left_out():
    boxes = [(0.0, 0.0, 30.0, 80.0), (2.0, 0.0, 30.0, 80.0), (200.0, 0.0, 230.0, 80.0)]
    truth = {kind: [] for kind in KINDS} | {CARIES: [(0.0, 0.0, 30.0, 80.0)]}
    seen = freeze.Seen("a", "1", boxes, np.zeros((3, WEIGHED)), truth)
    assert np.array_equal(freeze.labels(seen, CARIES), [1.0, np.nan, 0.0], equal_nan=True)


def test_the_opinion_that_tells_counts_most(films):
    mix = freeze.fit_mix(films, IMPACTED)
    assert np.argmax(np.abs(mix[1:])) + 1 == TELLS
    assert mix[TELLS] > 0


def test_operating_points_keep_to_their_rates(films):
    scores = freeze.out_of_fold(films, CARIES)
    for rate in (freeze.REVIEW_RATE, freeze.SPECIFIC_RATE):
        level = freeze.threshold_at(films, CARIES, scores, rate)
        for source in ("a", "b"):
            own = [(f, s) for f, s in zip(films, scores, strict=True) if f.source == source]
            false = sum(
                score >= level and not hit
                for f, s in own
                for score, hit in freeze.marks(f, s, CARIES)
            )
            assert false <= rate * len(own)


def test_calibrated_scores_mean_what_they_say(films):
    scores = freeze.out_of_fold(films, IMPACTED)
    curve = freeze.calibrate(films, IMPACTED, scores)
    rows = [r for f, s in zip(films, scores, strict=True) for r in freeze.marks(f, s, IMPACTED)]
    said = curve.apply(np.array([score for score, _ in rows]))
    true = np.array([hit for _, hit in rows])
    assert said.mean() == pytest.approx(true.mean(), abs=0.03)
    assert said[true].mean() > 0.6 > 0.2 > said[~true].mean()


def test_a_set_that_never_speaks_of_a_kind_teaches_nothing_of_it(films):
    silent = [
        freeze.Seen("c", f.group, f.boxes, f.opinions, {kind: [] for kind in KINDS}) for f in films
    ]
    mixes = [freeze.fit_mix(some, IMPACTED) for some in ([*films, *silent], films)]
    assert mixes[0] == pytest.approx(mixes[1])
    scores = freeze.out_of_fold([*films, *silent], IMPACTED)
    assert all(len(own) == 0 for own in scores[len(films) :])
