"""Tooth numbers along an arch: order and uniqueness hold whatever the network says."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import arch


@given(
    st.integers(0, 20).flatmap(
        lambda n: arrays(np.float64, (n, 16), elements=st.floats(1e-12, 1.0, width=64))
    )
)
def test_labels_strictly_increase_and_never_repeat(probability):
    labels = [k for k in arch.number(np.log(probability)) if k is not None]
    assert all(a < b for a, b in itertools.pairwise(labels))
    assert len(arch.number(np.log(probability))) == len(probability)


@given(st.sets(st.integers(0, 15), min_size=1))
def test_confident_teeth_in_order_keep_their_labels_across_gaps(places):
    truth = sorted(places)
    probability = np.full((len(truth), 16), 0.005)
    probability[np.arange(len(truth)), truth] = 0.9
    assert arch.number(np.log(probability)) == truth


def test_two_candidates_for_one_label_become_neighbours_when_a_place_is_free():
    probability = np.full((2, 16), 1e-4)
    probability[0, 4:6] = (0.5, 0.4)
    probability[1, 4:6] = (0.5, 0.4)
    assert arch.number(np.log(probability)) == [4, 5]


def test_a_candidate_that_fits_nowhere_is_dropped():
    probability = np.full((3, 16), 1e-6)
    probability[0, 3] = probability[2, 4] = 0.9
    probability[1, 9] = 0.05
    assert arch.number(np.log(probability)) == [3, None, 4]


@given(
    st.integers(1, 4).flatmap(
        lambda n: arrays(np.float64, (n, 4), elements=st.floats(1e-4, 1.0, width=64))
    )
)
def test_no_other_numbering_is_more_probable(probability):
    def total(labels):
        kept = [(i, k) for i, k in enumerate(labels) if k is not None]
        return sum(np.log(probability[i, k] / 0.02) for i, k in kept)

    def all_numberings(count, least=0):
        if count == 0:
            yield []
            return
        for rest in all_numberings(count - 1, least):
            yield [None, *rest]
        for first in range(least, 4):
            for rest in all_numberings(count - 1, first + 1):
                yield [first, *rest]

    best = max(total(labels) for labels in all_numberings(len(probability)))
    assert total(arch.number(np.log(probability))) >= best - 1e-9


def spaced(probability, missing):
    return arch.number_spaced(np.log(np.array(probability)), np.array(missing), 2.0)


CLOSE = [[0.0, 0.0], [0.0, 0.0]]
APART = [[0.0, 1.0], [1.0, 0.0]]
SURE_THEN_UNSURE = [[0.9, 0.05, 0.05], [0.02, 0.44, 0.54]]


def test_neighbours_that_touch_prefer_consecutive_numbers():
    assert spaced(SURE_THEN_UNSURE, CLOSE) == [0, 1]


def test_a_gap_prefers_a_skipped_number():
    assert spaced(SURE_THEN_UNSURE, APART) == [0, 2]


def test_a_sure_number_overrules_the_gap():
    assert spaced([[0.98, 0.01, 0.01], [0.005, 0.005, 0.99]], CLOSE) == [0, 2]


def test_nothing_likely_is_dropped_and_an_empty_row_stays_empty():
    assert spaced([[0.001, 0.001]], [[0.0]]) == [None]
    assert arch.number_spaced(np.zeros((0, 16)), np.zeros((0, 0)), 2.0) == []


@given(
    st.lists(st.lists(st.floats(1e-4, 1.0), min_size=5, max_size=5), min_size=1, max_size=6),
    st.floats(0.0, 4.0),
)
def test_spaced_numbers_increase_whatever_the_gaps(probability, gap):
    missing = np.full((len(probability), len(probability)), gap)
    chosen = [label for label in spaced(probability, missing) if label is not None]
    assert chosen == sorted(set(chosen))
