"""Measure the panoramic networks: teeth with their numbers and masks, and findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from node.domain.findings import Finding, FindingKind, ToothMark
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH
from node.errors import InvalidInput
from training import metrics, report
from training.datasets import Film, Mark
from training.detection import (
    LESION_RULE,
    BoxPx,
    Found,
    Marks,
    coco,
    is_lesion_hit,
    match,
    match_lesions,
)
from training.metrics import Array, ratio
from training.report import Case, Report

#: The words data sets use for what a finding shows.
TRUTH_WORDS: Mapping[FindingKind, tuple[str, ...]] = {
    FindingKind.CARIES: ("cavity", "caries"),
    FindingKind.RESTORATION: ("filling",),
    FindingKind.IMPACTED_TOOTH: ("impacted tooth", "impacted"),
    FindingKind.PERIAPICAL_RADIOLUCENCY: ("infection",),
    FindingKind.IMPLANT: ("implant",),
    FindingKind.ROOT_REMNANT: ("broken-down crown or root",),
}
#: The word for a tooth that was looked at and has nothing.
_HEALTHY = ("healthy tooth", "healthy")
#: Overlaps at which experts' agreement is published.
_F1_IOU = (0.1, 0.3, 0.5)
#: Marks below this are noise that no calibration is measured on.
_CALIBRATED_FROM = 0.05
_TEETH_RULE = "IoU >= 0.5, most probable first, each annotated tooth matched once"


#: What gives the teeth, or the findings, of a film.
FindsTeeth = Callable[[Film], Sequence[ToothMark]]
FindsFindings = Callable[[Film], Sequence[Finding]]


@dataclass(frozen=True, slots=True)
class _Teeth:
    """What one film contributed: counts, pairs, and each mark's fate."""

    found: list[Found]
    truth: list[tuple[str, BoxPx]]
    counts: tuple[int, ...]
    dice: list[float]
    certain: list[tuple[float, bool]]


def _case(film: Film) -> Case:
    return Case(film.group, {"source": film.source})


def teeth_report(
    find: FindsTeeth, films: Sequence[Film], loose: FindsTeeth | None = None
) -> Report:
    """Measure tooth detection (F1 at IoU 0.5), numbering (exact ISO 3950 of matched) and masks.

    `loose` finds without a threshold, for average precision and calibration.
    """
    seen = [_teeth(find, loose, film) for film in films]
    counts = np.array([one.counts for one in seen], float)
    dice = np.array([value for one in seen for value in one.dice])
    dice_of = np.repeat(np.arange(len(seen)), [len(one.dice) for one in seen])
    sure = np.array([p for one in seen for p, _ in one.certain])
    right = np.array([is_right for one in seen for _, is_right in one.certain], bool)
    sure_of = np.repeat(np.arange(len(seen)), [len(one.certain) for one in seen])
    truth = [one.truth for one in seen]
    levels = {
        "tooth": coco([one.found for one in seen], truth, lambda label: "tooth"),
        "quadrant": coco([one.found for one in seen], truth, lambda label: label[0]),
        "number": coco([one.found for one in seen], truth, lambda label: label[1]),
        "fdi": coco([one.found for one in seen], truth),
    }

    def figures(weight: Array) -> dict[str, Array]:
        found, there, hits, exact, near = np.moveaxis(weight @ counts, -1, 0)
        result = {
            "precision": ratio(hits, found),
            "recall": ratio(hits, there),
            "f1": ratio(2 * hits, found + there),
            "fdi_exact_of_matched": ratio(exact, hits),
            "fdi_off_by_one_of_matched": ratio(near, hits),
            "f1_with_exact_fdi": ratio(2 * exact, found + there),
        }
        if len(dice):
            result["mask_dice_of_matched"] = metrics.share(dice, weight[..., dice_of])
        for name, level in levels.items():
            result |= {f"{name}_{key}": value for key, value in level(weight).items()}
        result["ece"] = metrics.calibration_error(sure, right, weight[..., sure_of])
        result["brier"] = metrics.brier(sure, right, weight[..., sure_of])
        return result

    return report.compose(
        "panoramic_teeth",
        _TEETH_RULE,
        [_case(film) for film in films],
        figures,
        films[0].origin,
        {"tooth": metrics.reliability(sure, right)},
    )


def _teeth(find: FindsTeeth, loose: FindsTeeth | None, film: Film) -> _Teeth:
    marks = find(film)
    every = loose(film) if loose else marks
    boxes = [mark.box for mark in film.marks]
    pairs = match(_found(marks), boxes, iou=0.5)
    both = [(m, film.marks[p]) for m, p in zip(marks, pairs, strict=True) if p is not None]
    all_pairs = match(_found(every), boxes, iou=0.5)
    return _Teeth(
        found=_found(every),
        truth=[(mark.label, mark.box) for mark in film.marks],
        counts=(
            len(marks),
            len(film.marks),
            len(both),
            sum(mark.tooth.code == true.label for mark, true in both),
            sum(places_apart(mark.tooth.code, true.label) == 1 for mark, true in both),
        ),
        dice=[d for mark, true in both if (d := mask_dice(mark.outline, true.outline)) is not None],
        certain=[
            (mark.probability, pair is not None and film.marks[pair].label == mark.tooth.code)
            for mark, pair in zip(every, all_pairs, strict=True)
        ],
    )


def _found(marks: Sequence[ToothMark]) -> list[Found]:
    return [
        Found(m.tooth.code, (m.box.x0, m.box.y0, m.box.x1, m.box.y1), m.probability) for m in marks
    ]


def places_apart(a: str, b: str) -> int:
    """Count the places between two teeth of one arch; 99 for other pairs."""
    for order in (UPPER_ARCH, LOWER_ARCH):
        places = [tooth.code for tooth in order]
        if a in places and b in places:
            return abs(places.index(a) - places.index(b))
    return 99


def mask_dice(
    found: Sequence[tuple[float, float]], truth: Sequence[tuple[float, float]]
) -> float | None:
    """Give the Dice of two outlines, drawn four times finer than pixels; None without either."""
    if len(found) < 3 or len(truth) < 3:
        return None
    a, b = np.asarray(found, float), np.asarray(truth, float)
    low = np.floor(np.minimum(a.min(axis=0), b.min(axis=0)))
    size = np.ceil(np.maximum(a.max(axis=0), b.max(axis=0)) - low).astype(int) + 1
    drawn = []
    for ring in (a, b):
        mask = np.zeros((size[1] * 4, size[0] * 4), np.uint8)
        cv2.fillPoly(mask, [np.round((ring - low) * 4).astype(np.int32)], 1)
        drawn.append(mask)
    return metrics.dice(*drawn)


# --- findings ------------------------------------------------------------------------------------


def findings_report(
    find: FindsFindings,
    films: Sequence[Film],
    points: Mapping[FindingKind, Mapping[str, float]],
) -> Report:
    """Measure findings as lesion hits, per tooth, and by COCO.

    `find` gives findings without thresholds; `points` names the frozen thresholds of each kind
    (``review``, ``high_specificity``).
    """
    found = [[_as_found(mark) for mark in find(film)] for film in films]
    parts: list[tuple[str, Callable[[Array], dict[str, Array]]]] = []
    plots = {}
    for kind, frozen in points.items():
        words = TRUTH_WORDS.get(kind, ())
        truth = [[mark.box for mark in film.marks if mark.label in words] for film in films]
        if any(truth):
            own = [[mark for mark in film if mark.label == kind.value] for film in found]
            marks = Marks.of(own, truth, match_lesions)
            parts.append((kind.value, _kind_figures(own, truth, marks, frozen, films)))
            plotted = marks.score >= _CALIBRATED_FROM
            plots[kind.value] = metrics.reliability(marks.score[plotted], marks.is_hit[plotted])
    if not parts:
        known = sorted({word for kind in points for word in TRUTH_WORDS.get(kind, ())})
        raise InvalidInput(f"no film has a mark that can be measured; known: {', '.join(known)}")

    def figures(weight: Array) -> dict[str, Array]:
        return {
            f"{name}_{key}": value for name, part in parts for key, value in part(weight).items()
        }

    return report.compose(
        "panoramic_caries",
        LESION_RULE,
        [_case(film) for film in films],
        figures,
        films[0].origin,
        plots,
    )


def marks_by_kind(
    find: FindsFindings, films: Sequence[Film], kinds: Iterable[FindingKind]
) -> dict[FindingKind, Marks]:
    """Pair the marks of each kind with what is annotated, for those that are at all."""
    found = [[_as_found(mark) for mark in find(film)] for film in films]
    marks = {}
    for kind in kinds:
        truth = [
            [m.box for m in film.marks if m.label in TRUTH_WORDS.get(kind, ())] for film in films
        ]
        if any(truth):
            own = [[mark for mark in film if mark.label == kind.value] for film in found]
            marks[kind] = Marks.of(own, truth, match_lesions)
    return marks


def _as_found(mark: Finding) -> Found:
    xs, ys = zip(*mark.geometry.points, strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    return Found(mark.kind.value, box, mark.probability or 0.0)


def _kind_figures(
    found: Sequence[Sequence[Found]],
    truth: Sequence[Sequence[BoxPx]],
    marks: Marks,
    frozen: Mapping[str, float],
    films: Sequence[Film],
) -> Callable[[Array], dict[str, Array]]:
    """Prepare every figure of one kind of finding."""
    strict = {iou: Marks.of(found, truth, lambda f, t, i=iou: match(f, t, i)) for iou in _F1_IOU}  # type: ignore[misc]
    boxes = [[("lesion", box) for box in film] for film in truth]
    by_coco = coco([[Found("lesion", f.box, f.probability) for f in film] for film in found], boxes)
    units = _tooth_units(found, truth, films)

    def figures(weight: Array) -> dict[str, Array]:
        result = marks.froc(weight)
        only_iou = strict[0.3].froc(weight)["sensitivity_at_1_false_per_film"]
        result["sensitivity_at_1_false_per_film_iou_0.3"] = only_iou
        for name, threshold in frozen.items():
            result |= marks.at(name, threshold, weight)
        for iou, pairs in strict.items():
            result[f"f1_iou_{iou}"] = pairs.f1(frozen["review"], weight)
        result |= by_coco(weight)
        result |= marks.calibration(weight, _CALIBRATED_FROM)
        if units is not None:
            result |= _unit_figures(units, frozen, weight)
        return result

    return figures


@dataclass(frozen=True, slots=True)
class _Units:
    """Annotated teeth that have the finding or are healthy, with the highest mark on each."""

    score: Array
    is_ill: np.ndarray
    owner: np.ndarray


def _tooth_units(
    found: Sequence[Sequence[Found]], truth: Sequence[Sequence[BoxPx]], films: Sequence[Film]
) -> _Units | None:
    """Score teeth singly, where the set also says which are healthy."""
    rows: list[tuple[float, bool, int]] = []
    for number, (film, marks, boxes) in enumerate(zip(films, found, truth, strict=True)):
        healthy = [mark.box for mark in film.marks if _is_healthy(mark)]
        for box, is_ill in [*((b, True) for b in boxes), *((b, False) for b in healthy)]:
            scores = [f.probability for f in marks if is_lesion_hit(f.box, box)]
            rows.append((max(scores, default=0.0), is_ill, number))
    if not rows or all(is_ill for _, is_ill, _ in rows):
        return None
    return _Units(
        np.array([row[0] for row in rows], float),
        np.array([row[1] for row in rows], bool),
        np.array([row[2] for row in rows], int),
    )


def _is_healthy(mark: Mark) -> bool:
    return mark.label in _HEALTHY


def _unit_figures(units: _Units, frozen: Mapping[str, float], weight: Array) -> dict[str, Array]:
    w = weight[..., units.owner]
    result = {"tooth_auroc": metrics.auroc(units.score, units.is_ill, w)}
    for name, threshold in frozen.items():
        is_marked = units.score >= threshold
        result[f"tooth_sensitivity_at_{name}"] = metrics.share(is_marked, w * units.is_ill)
        result[f"tooth_specificity_at_{name}"] = metrics.share(~is_marked, w * ~units.is_ill)
    return result
