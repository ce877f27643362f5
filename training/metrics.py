"""Figures of merit, each for one or many weightings of the films at once.

A weighting is an array (..., films): one row of ones is the estimate itself, many rows are
bootstrap resamples. Items (marks, teeth, surfaces, sites) name their film by an index ``owner``
into the last axis. Every function reduces the last axis and gives NaN where nothing counts.
Definitions: docs/training.md, "Figures".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

#: Resamples of every interval.
RESAMPLES = 2000
#: How many resamples are computed at once; bounds memory.
_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its 95 % bootstrap interval over patients."""

    value: float
    low: float
    high: float


def bootstrap(
    groups: Sequence[str],
    figures: Callable[[Array], Mapping[str, Array]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Figure]:
    """Compute `figures` of weightings, with intervals from resampling whole patients.

    `groups` names the patient of each film. `figures` gets an array (n, films) and gives (n,)
    per name. Values that are not a number in a resample are left out of that interval.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    point = {name: float(v[0]) for name, v in figures(np.ones((1, len(groups)))).items()}
    draws: dict[str, list[Array]] = {name: [] for name in point}
    for start in range(0, resamples, _AT_ONCE):
        rows = min(_AT_ONCE, resamples - start)
        picks = rng.integers(0, len(names), (rows, len(names)))
        counts = np.zeros((rows, len(names)))
        np.add.at(counts, (np.arange(rows)[:, None], picks), 1.0)
        for name, values in figures(counts[:, index]).items():
            draws[name].append(values)
    return {name: _interval(value, draws[name]) for name, value in point.items()}


def _interval(value: float, draws: Sequence[Array]) -> Figure:
    drawn = np.concatenate([*draws, np.zeros(0)])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Figure(value, value, value)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Figure(value, float(low), float(high))


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Array:
    """Divide, NaN where the whole is nothing."""
    top, bottom = np.asarray(part, float), np.asarray(whole, float)
    result: Array = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    np.divide(top, bottom, out=result, where=np.broadcast_to(bottom != 0, result.shape))
    return result


def share(what: npt.ArrayLike, weight: Array) -> Array:
    """Give the weighted mean of `what`; with flags, the share for which it holds."""
    return ratio(weight @ np.asarray(what, float), weight.sum(axis=-1))


# --- detection -----------------------------------------------------------------------------------


def average_precision(
    score: Array, is_hit: Flags, owner: Places, positives: Array, weight: Array
) -> Array:
    """Average precision over 101 recall levels, as COCO computes it.

    `score`, `is_hit`, `owner` describe the marks of one class at one IoU; `positives` counts the
    annotated objects of each film (films,).
    """
    order = np.argsort(-score, kind="stable")
    w = weight[..., owner[order]]
    hits = np.cumsum(w * is_hit[order], axis=-1)
    marks = np.cumsum(w, axis=-1)
    total = (weight @ positives)[..., None]
    recall, precision = ratio(hits, total), np.nan_to_num(ratio(hits, marks))
    envelope = np.flip(np.maximum.accumulate(np.flip(precision, -1), axis=-1), -1)
    # each mark answers for the recall levels 0, 0.01 … 1 that it is the first to reach
    reached = np.floor(np.nan_to_num(recall) * 100 + 1e-9)
    before = np.concatenate([np.full((*reached.shape[:-1], 1), -1.0), reached[..., :-1]], axis=-1)
    area = (envelope * (reached - before)).sum(axis=-1) / 101.0
    return np.where(total[..., 0] > 0, area, np.nan)


def recall(is_hit: Flags, owner: Places, positives: Array, weight: Array) -> Array:
    """Give the share of annotated objects that any mark hit."""
    return ratio(weight[..., owner] @ is_hit.astype(float), weight @ positives)


def froc(
    score: Array,
    is_hit: Flags,
    owner: Places,
    lesions: Array,
    weight: Array,
    rates: Sequence[float],
) -> Array:
    """Give sensitivities (..., rates) where false marks per film do not exceed each rate.

    Marks of equal score stand or fall together; nothing is interpolated.
    """
    order = np.argsort(-score, kind="stable")
    w = weight[..., owner[order]]
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)[: len(order)])
    zero = np.zeros((*weight.shape[:-1], 1))
    hits = np.concatenate([zero, np.cumsum(w * is_hit[order], axis=-1)[..., ends]], axis=-1)
    false = np.concatenate([zero, np.cumsum(w * ~is_hit[order], axis=-1)[..., ends]], axis=-1)
    films, total = weight.sum(axis=-1), weight @ lesions
    found = []
    for rate in rates:
        last = (false <= (rate * films)[..., None] + 1e-9).sum(axis=-1) - 1
        found.append(np.take_along_axis(hits, last[..., None], axis=-1)[..., 0])
    return ratio(np.stack(found, axis=-1), total[..., None])


def afroc(
    lesion_score: Array,
    lesion_owner: Places,
    highest_false: Array,
    is_lesion_free: Flags,
    weight: Array,
    weighted: bool = False,
) -> Array:
    """Area under the AFROC curve: the chance that a lesion outranks a lesion-free film.

    `lesion_score` (lesions,) is the score of the mark that hit the lesion, −inf when none did;
    `highest_false` (films,) the highest mark of a film, −inf without one. Ties count half.
    `weighted` lets all lesions of one film together count as one (wAFROC). Source: Chakraborty
    2017, Observer Performance Methods for Diagnostic Imaging, ch. 14.
    """
    per_film = np.bincount(lesion_owner, minlength=weight.shape[-1]).astype(float)
    each = weight[..., lesion_owner]
    if weighted:
        each = each / per_film[lesion_owner]
    free = np.flatnonzero(is_lesion_free)
    values = np.concatenate([lesion_score, highest_false[free]])
    is_ill = np.arange(len(values)) < len(lesion_score)
    return auroc(values, is_ill, np.concatenate([each, weight[..., free]], axis=-1))


def auroc(score: Array, is_ill: Flags, weight: Array) -> Array:
    """Area under the ROC curve, ties counting half; `weight` is (..., items)."""
    if not len(score):
        return np.full(weight.shape[:-1], np.nan)
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    with np.errstate(invalid="ignore"):
        starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    w = weight[..., order]
    ill = np.add.reduceat(w * is_ill[order], starts, axis=-1)
    sound = np.add.reduceat(w * ~is_ill[order], starts, axis=-1)
    below = np.cumsum(sound, axis=-1) - sound
    won = (ill * (below + 0.5 * sound)).sum(axis=-1)
    return ratio(won, ill.sum(axis=-1) * sound.sum(axis=-1))


# --- calibration ---------------------------------------------------------------------------------


def calibration_error(probability: Array, is_true: Flags, weight: Array, bins: int = 15) -> Array:
    """Expected calibration error over bins of equal mass; `weight` is (..., items).

    Equal probabilities share a bin, which may therefore hold more than its part.
    """
    if not len(probability):
        return np.full(weight.shape[:-1], np.nan)
    order = np.argsort(probability, kind="stable")
    p, y, w = probability[order], is_true[order].astype(float), weight[..., order]
    starts = np.flatnonzero(np.append(True, p[1:] != p[:-1]))
    mass = np.add.reduceat(w, starts, axis=-1)
    gap = np.add.reduceat(w * (p - y), starts, axis=-1)
    total = mass.sum(axis=-1, keepdims=True)
    middle = np.cumsum(mass, axis=-1) - mass / 2
    place = np.minimum(np.nan_to_num(ratio(middle, total)) * bins, bins - 1).astype(np.int64)
    error = np.zeros(weight.shape[:-1])
    for number in range(bins):
        error = error + np.abs((gap * (place == number)).sum(axis=-1))
    return ratio(error, total[..., 0])


def brier(probability: Array, is_true: Flags, weight: Array) -> Array:
    """Mean squared distance of the probability from what was true; `weight` is (..., items)."""
    return share((probability - is_true) ** 2, weight)


def reliability(
    probability: Array, is_true: Flags, bins: int = 15
) -> list[tuple[float, float, int]]:
    """Give (mean probability, share true, count) of each bin of equal mass, for a plot."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        (float(probability[part].mean()), float(is_true[part].mean()), len(part)) for part in parts
    ]


# --- measured values -----------------------------------------------------------------------------


def quantile(value: Array, weight: Array, level: float) -> Array:
    """Give the smallest value that at least `level` of the weight does not exceed."""
    if not len(value):
        return np.full(weight.shape[:-1], np.nan)
    order = np.argsort(value, kind="stable")
    reached = np.cumsum(weight[..., order], axis=-1)
    total = reached[..., -1:]
    place = (reached < level * total - 1e-9).sum(axis=-1)
    picked: Array = value[order][np.minimum(place, len(value) - 1)]
    return np.where(total[..., 0] > 0, picked, np.nan)


def bland_altman(truth: Array, found: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Give bias (found − true) and the lower and upper 95 % limit of agreement."""
    gap = found - truth
    count = weight.sum(axis=-1)
    bias = share(gap, weight)
    square = share(gap**2, weight) - bias**2
    spread = np.sqrt(np.maximum(square, 0.0) * ratio(count, np.maximum(count - 1, 0)))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread


def icc(truth: Array, found: Array, weight: Array) -> Array:
    """Intraclass correlation ICC(2,1) of two measurers: absolute agreement, single measure.

    Source: Shrout and Fleiss 1979, case 2, with k = 2.
    """
    count = weight.sum(axis=-1)
    mean = (truth + found) / 2
    grand = share(mean, weight)
    first, second = share(truth, weight), share(found, weight)
    rows = 2 * (weight * (mean - grand[..., None]) ** 2).sum(axis=-1)
    columns = count * ((first - grand) ** 2 + (second - grand) ** 2)
    every = (weight * (truth - grand[..., None]) ** 2).sum(axis=-1)
    every = every + (weight * (found - grand[..., None]) ** 2).sum(axis=-1)
    between = ratio(rows, np.maximum(count - 1, 0))
    error = ratio(every - rows - columns, np.maximum(count - 1, 0))
    return ratio(between - error, between + error + 2 * ratio(columns - error, count))


def weighted_kappa(truth: Places, found: Places, classes: int, weight: Array) -> Array:
    """Cohen's kappa with linear weights for `classes` ordered classes numbered from 0."""
    cost = np.abs(truth - found) / max(classes - 1, 1)
    observed = share(cost, weight)
    places = np.arange(classes)
    of_truth = np.stack([share(truth == c, weight) for c in places], axis=-1)
    of_found = np.stack([share(found == c, weight) for c in places], axis=-1)
    apart = np.abs(places[:, None] - places[None]) / max(classes - 1, 1)
    expected = np.einsum("...i,ij,...j->...", of_truth, apart, of_found)
    return 1.0 - ratio(observed, expected)


def dice(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Overlap of two masks of one shape: twice the common area over both areas; NaN if empty."""
    a, b = np.asarray(one, bool), np.asarray(other, bool)
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else float("nan")
