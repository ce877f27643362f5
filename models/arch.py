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


def number_spaced(
    log_probability: np.ndarray, missing: np.ndarray, cost: float, floor: float = 0.02
) -> list[int | None]:
    """Number a row as :func:`number` does, with the distances between the teeth in mind.

    `missing` is (candidates, candidates): how many teeth the distance between two of them leaves
    room for. A numbering that skips more or fewer labels pays `cost` for each. Ties keep the lower
    label.
    """
    count, labels = log_probability.shape
    gain = np.maximum(log_probability, -1e6) - np.log(floor)
    # best[i, k]: the highest total of candidates up to i when i has label k.
    best = np.zeros((count, labels))
    before: list[list[tuple[int, int] | None]] = [[None] * labels for _ in range(count)]
    for i in range(count):
        for k in range(labels):
            value = 0.0
            if i and k:
                skipped = k - 1 - np.arange(k)
                bent = np.abs(skipped[None] - missing[:i, i, None])
                options = best[:i, :k] - cost * bent
                at = int(np.argmax(options))
                if options.flat[at] > 0:
                    value = float(options.flat[at])
                    before[i][k] = (at // k, at % k)
            best[i, k] = gain[i, k] + value
    return _walk(best, before)


def _walk(best: np.ndarray, before: list[list[tuple[int, int] | None]]) -> list[int | None]:
    chosen: list[int | None] = [None] * best.shape[0]
    if best.size == 0 or best.max() <= 0:
        return chosen
    i, k = divmod(int(np.argmax(best)), best.shape[1])
    step: tuple[int, int] | None = (i, k)
    while step is not None:
        i, k = step
        chosen[i] = k
        step = before[i][k]
    return chosen
