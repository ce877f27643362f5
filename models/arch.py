"""Tooth numbers along an arch: the most probable numbering that keeps the anatomical order."""

from __future__ import annotations

import numpy as np


def number(log_probability: np.ndarray, floor: float = 0.02) -> list[int | None]:
    """Choose a label for each candidate so that labels strictly increase along the arch.

    `log_probability` is (candidates, labels): the natural log of the probability that the
    candidate, in image order from left to right, is a tooth with that label, labels in arch order.
    A candidate may get None: it is dropped when keeping it would cost more than `floor`, the
    probability given to "no tooth". Gaps (missing teeth) are free.

    Returns one label index or None per candidate; no label occurs twice. Ties keep the lower
    label, so that the result is deterministic.

    Source: dynamic programming over the sequence constraint; the order of ISO 3950 numbers.
    """
    count, labels = log_probability.shape
    gain = np.maximum(log_probability, -1e6) - np.log(floor)
    # best[i, k]: the highest total using the first i candidates and labels below k.
    best = np.zeros((count + 1, labels + 1))
    taken = np.zeros((count + 1, labels + 1), dtype=bool)
    for i in range(1, count + 1):
        for k in range(labels + 1):
            best[i, k] = best[i - 1, k]
            if k and best[i, k - 1] >= best[i, k]:
                best[i, k] = best[i, k - 1]
            if k and best[i - 1, k - 1] + gain[i - 1, k - 1] > best[i, k]:
                best[i, k] = best[i - 1, k - 1] + gain[i - 1, k - 1]
                taken[i, k] = True
    return _trace(best, taken)


def _trace(best: np.ndarray, taken: np.ndarray) -> list[int | None]:
    i, k = best.shape[0] - 1, best.shape[1] - 1
    chosen: list[int | None] = [None] * i
    while i > 0 and k >= 0:
        if taken[i, k]:
            chosen[i - 1] = k - 1
            i, k = i - 1, k - 1
        elif k and best[i, k - 1] >= best[i - 1, k]:
            k -= 1
        else:
            i -= 1
    return chosen
