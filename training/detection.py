"""Marks against annotated boxes: pairing, thresholds, COCO figures, FROC and its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models import panoramic
from training import metrics
from training.metrics import Array, ratio

#: False marks per film at which the FROC curve is read. Source: clinical FROC practice.
FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
#: From this overlap on a mark hits a lesion, also when its middle lies beside it.
LESION_IOU = 0.3
LESION_RULE = (
    f"IoU >= {LESION_IOU} with the annotated box or the mark's middle inside it, "
    "most probable first, each annotated box once"
)
#: COCO's thresholds and the most marks of a class it looks at on a film.
_COCO_IOU = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2))
_COCO_MARKS = 100

BoxPx = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """One prediction: its label, its box in stored film pixels, its probability."""

    label: str
    box: BoxPx
    probability: float


def is_hit(found: BoxPx, truth: BoxPx, iou: float) -> bool:
    """Decide whether a mark hits: IoU of at least `iou`."""
    return panoramic.iou(found, truth) >= iou


def is_lesion_hit(found: BoxPx, truth: BoxPx) -> bool:
    """Decide whether a mark hits a lesion by :data:`LESION_RULE`."""
    x, y = (found[0] + found[2]) / 2, (found[1] + found[3]) / 2
    is_inside = truth[0] <= x <= truth[2] and truth[1] <= y <= truth[3]
    return is_inside or is_hit(found, truth, LESION_IOU)


def match(found: Sequence[Found], truth: Sequence[BoxPx], iou: float) -> list[int | None]:
    """Pair predictions with truth boxes, the most probable first, each truth box once.

    Returns the index of the truth box, or None for a false mark, per prediction.
    """
    return _pair(found, truth, lambda mark, box: is_hit(mark, box, iou))


def match_lesions(found: Sequence[Found], truth: Sequence[BoxPx]) -> list[int | None]:
    """Pair predictions with lesions by :data:`LESION_RULE`, as :func:`match` does."""
    return _pair(found, truth, is_lesion_hit)


def _pair(
    found: Sequence[Found], truth: Sequence[BoxPx], hits: Callable[[BoxPx, BoxPx], bool]
) -> list[int | None]:
    taken: set[int] = set()
    pairs: list[int | None] = [None] * len(found)
    for index in sorted(range(len(found)), key=lambda i: -found[i].probability):
        free = [
            (panoramic.iou(found[index].box, box), -number)
            for number, box in enumerate(truth)
            if number not in taken and hits(found[index].box, box)
        ]
        if free:
            number = -max(free)[1]
            pairs[index] = number
            taken.add(number)
    return pairs


def best_threshold(
    found: Sequence[Sequence[Found]], truth: Sequence[Sequence[BoxPx]], iou: float
) -> float:
    """Choose the probability threshold with the highest F1 over films (0.5 if nothing is found)."""
    scored: list[tuple[float, bool]] = []
    for film, boxes in zip(found, truth, strict=True):
        pairs = match(film, boxes, iou)
        scored += [(f.probability, p is not None) for f, p in zip(film, pairs, strict=True)]
    positives = sum(len(boxes) for boxes in truth)
    if not scored or not positives:
        return 0.5
    scored.sort(key=lambda pair: -pair[0])
    hits = np.cumsum([hit for _, hit in scored])
    f1 = 2 * hits / (np.arange(1, len(scored) + 1) + positives)
    return scored[int(np.argmax(f1))][0]


@dataclass(frozen=True, slots=True)
class Marks:
    """All marks of one kind over all films, and how many there were to find on each."""

    score: Array
    is_hit: np.ndarray
    owner: np.ndarray
    positives: Array
    lesion_score: Array
    lesion_owner: np.ndarray

    @classmethod
    def of(
        cls,
        found: Sequence[Sequence[Found]],
        truth: Sequence[Sequence[BoxPx]],
        pairing: Callable[[Sequence[Found], Sequence[BoxPx]], list[int | None]],
    ) -> Marks:
        """Pair the marks of every film with what is annotated on it."""
        rows: list[tuple[float, bool, int]] = []
        scores: list[float] = []
        for number, (film, boxes) in enumerate(zip(found, truth, strict=True)):
            best = [-np.inf] * len(boxes)
            for mark, pair in zip(film, pairing(film, boxes), strict=True):
                rows.append((mark.probability, pair is not None, number))
                if pair is not None:
                    best[pair] = mark.probability
            scores += best
        return cls(
            np.array([row[0] for row in rows], float),
            np.array([row[1] for row in rows], bool),
            np.array([row[2] for row in rows], int),
            np.array([len(boxes) for boxes in truth], float),
            np.array(scores, float),
            np.repeat(np.arange(len(truth)), [len(boxes) for boxes in truth]),
        )

    def froc(self, weight: Array) -> dict[str, Array]:
        """Sensitivity at each rate of false marks, AFROC and wAFROC."""
        found = metrics.froc(
            self.score, self.is_hit, self.owner, self.positives, weight, FROC_RATES
        )
        highest = np.full(len(self.positives), -np.inf)
        np.maximum.at(highest, self.owner[~self.is_hit], self.score[~self.is_hit])
        free = self.positives == 0
        curve = (self.lesion_score, self.lesion_owner, highest, free, weight)
        return {
            f"sensitivity_at_{rate:g}_false_per_film": found[..., number]
            for number, rate in enumerate(FROC_RATES)
        } | {"afroc": metrics.afroc(*curve), "wafroc": metrics.afroc(*curve, weighted=True)}

    def at(self, name: str, threshold: float, weight: Array) -> dict[str, Array]:
        """Sensitivity, false marks and precision at a frozen threshold called `name`."""
        is_kept = self.score >= threshold
        w = weight[..., self.owner]
        hits, false = w @ (is_kept & self.is_hit), w @ (is_kept & ~self.is_hit)
        return {
            f"sensitivity_at_{name}": ratio(hits, weight @ self.positives),
            f"false_per_film_at_{name}": ratio(false, weight.sum(axis=-1)),
            f"precision_at_{name}": ratio(hits, hits + false),
        }

    def f1(self, threshold: float, weight: Array) -> Array:
        """F1 at a threshold."""
        is_kept = self.score >= threshold
        w = weight[..., self.owner]
        return ratio(2 * (w @ (is_kept & self.is_hit)), w @ is_kept + weight @ self.positives)

    def calibration(self, weight: Array, floor: float = 0.0) -> dict[str, Array]:
        """Expected calibration error and Brier score of marks from `floor` up."""
        kept = self.score >= floor
        p, y, w = self.score[kept], self.is_hit[kept], weight[..., self.owner[kept]]
        return {"ece": metrics.calibration_error(p, y, w), "brier": metrics.brier(p, y, w)}


def coco(
    found: Sequence[Sequence[Found]],
    truth: Sequence[Sequence[tuple[str, BoxPx]]],
    label: Callable[[str], str] = str,
) -> Callable[[Array], Mapping[str, Array]]:
    """Prepare AP50, AP75, AP (.50 to .95) and AR100 over classes; `label` names the class.

    Classes of which nothing is annotated do not count, as in COCO.
    """
    names = sorted({label(name) for film in truth for name, _ in film})
    prepared: list[list[Marks]] = []
    for name in names:
        own = [
            sorted((f for f in film if label(f.label) == name), key=lambda f: -f.probability)
            for film in found
        ]
        kept = [film[:_COCO_MARKS] for film in own]
        boxes = [[box for n, box in film if label(n) == name] for film in truth]
        prepared.append(_at_every_iou(kept, boxes))

    def figures(weight: Array) -> dict[str, Array]:
        ap = np.stack(
            [
                [
                    metrics.average_precision(m.score, m.is_hit, m.owner, m.positives, weight)
                    for m in levels
                ]
                for levels in prepared
            ]
        )
        ar = np.stack(
            [
                [metrics.recall(m.is_hit, m.owner, m.positives, weight) for m in levels]
                for levels in prepared
            ]
        )
        return {
            "ap50": _mean(ap[:, 0]),
            "ap75": _mean(ap[:, 5]),
            "ap": _mean(ap.reshape(-1, ap.shape[-1])),
            "ar100": _mean(ar.reshape(-1, ar.shape[-1])),
        }

    return figures if names else lambda weight: {}


def _at_every_iou(
    found: Sequence[Sequence[Found]], truth: Sequence[Sequence[BoxPx]]
) -> list[Marks]:
    overlaps = [_overlaps(film, boxes) for film, boxes in zip(found, truth, strict=True)]
    levels = []
    for iou in _COCO_IOU:
        hits = [_greedy(table, iou) for table in overlaps]
        levels.append(
            Marks(
                np.array([f.probability for film in found for f in film], float),
                np.concatenate([*hits, np.zeros(0, bool)]),
                np.repeat(np.arange(len(found)), [len(film) for film in found]),
                np.array([len(boxes) for boxes in truth], float),
                np.zeros(0),
                np.zeros(0, int),
            )
        )
    return levels


def _overlaps(found: Sequence[Found], truth: Sequence[BoxPx]) -> Array:
    a = np.array([f.box for f in found], float).reshape(-1, 1, 4)
    b = np.array(truth, float).reshape(1, -1, 4)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    both = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    overlaps: Array = both / np.maximum(areas[0] + areas[1] - both, 1e-9)
    return overlaps


def _greedy(overlaps: Array, iou: float) -> np.ndarray:
    """Pair marks, sorted by falling score, each with the free box it overlaps most."""
    left = overlaps.copy()
    hits = np.zeros(len(left), bool)
    for number in range(len(left)):
        place = int(np.argmax(left[number])) if left.shape[1] else -1
        if place >= 0 and left[number, place] >= iou:
            hits[number] = True
            left[:, place] = -1.0
    return hits


def _mean(values: Array) -> Array:
    """Average over classes, those unknown in a resample left out."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))
