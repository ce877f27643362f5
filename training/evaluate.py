"""Measure a network on annotated films: ``python -m training.evaluate --task NAME --data DIR``.

Films run through the same classes as in the product, with the thresholds frozen in the weights.
``--out FILE.json`` gets every figure with a 95 % bootstrap interval over patients. Films whose
``split`` is ``train`` are left out, unless the folder has no others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import panoramic, weights
from models.backbone import DenseNet
from node.domain.findings import FindingKind, View
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH
from node.errors import BitewingError, ConfigError, InvalidInput, outcome
from training.datasets import Film, read_coco, read_views, split
from training.dentex import is_dentex, read_dentex

#: False marks per film at which the FROC curve is read. Source: clinical FROC practice.
FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)

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


def match(found: Sequence[Found], truth: Sequence[BoxPx], iou: float) -> list[int | None]:
    """Pair predictions with truth boxes, the most probable first, each truth box once.

    Returns the index of the truth box, or None for a false mark, per prediction.
    """
    taken: set[int] = set()
    pairs: list[int | None] = [None] * len(found)
    for index in sorted(range(len(found)), key=lambda i: -found[i].probability):
        free = [
            (panoramic.iou(found[index].box, box), -number)
            for number, box in enumerate(truth)
            if number not in taken and is_hit(found[index].box, box, iou)
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


def truth_boxes(film: Film, label: str | None = None) -> list[BoxPx]:
    """List the annotated boxes of `film`, of one label or of all."""
    return [mark.box for mark in film.marks if label is None or mark.label == label]


def teeth_found(net: DenseNet, film: Film) -> list[Found]:
    """Run the tooth network on `film`, without a threshold."""
    pixels = film.read()
    maps = panoramic.run(net, panoramic.prepare(pixels / np.float32(255)))
    return [
        Found(tooth.code, _scaled(peak.box, pixels.shape), probability)
        for tooth, peak, probability in panoramic.decode_teeth(maps)
    ]


def finding_peaks(net: DenseNet, film: Film, floor: float = 0.01) -> list[Found]:
    """Run the findings network on `film`, without thresholds."""
    pixels = film.read()
    maps = panoramic.run(net, panoramic.prepare(pixels / np.float32(255)))
    return [
        Found(panoramic.FINDING_LABELS[p.channel], _scaled(p.box, pixels.shape), p.score)
        for p in panoramic.peaks(maps, floor, 0.45)
    ]


def _scaled(box: BoxPx, shape: tuple[int, ...]) -> BoxPx:
    fx, fy = shape[1] / panoramic.INPUT[1], shape[0] / panoramic.INPUT[0]
    return box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its 95 % bootstrap interval over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one evaluation found; ``rule`` says what counts as a hit."""

    task: str
    films: int
    patients: int
    rule: str
    figures: dict[str, Figure]


def bootstrap(
    groups: Sequence[str], figures: Callable[[np.ndarray], dict[str, float]], resamples: int = 2000
) -> dict[str, Figure]:
    """Compute `figures` of per-film weights, with intervals from resampling whole patients.

    `figures` gets one weight per film (1 for the estimate itself). Figures that are not a number
    in a resample are left out of its interval.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(0)
    point = figures(np.ones(len(groups)))
    draws: dict[str, list[float]] = {name: [] for name in point}
    for _ in range(resamples):
        count = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        for name, value in figures(count[index].astype(float)).items():
            if np.isfinite(value):
                draws[name].append(value)
    return {
        name: Figure(value, *(float(v) for v in np.percentile(draws[name] or [value], (2.5, 97.5))))
        for name, value in point.items()
    }


def teeth_report(model: panoramic.PanoramicTeeth, films: Sequence[Film]) -> Report:
    """Measure tooth detection (F1 at IoU 0.5) and numbering (exact ISO 3950 of matched teeth)."""
    counts = np.array([_teeth_counts(model, film) for film in films], dtype=float)

    def figures(weight: np.ndarray) -> dict[str, float]:
        found, truth, hits, exact, near = (weight[:, None] * counts).sum(axis=0)
        return {
            "precision": _ratio(hits, found),
            "recall": _ratio(hits, truth),
            "f1": _ratio(2 * hits, found + truth),
            "fdi_exact_of_matched": _ratio(exact, hits),
            "fdi_off_by_one_of_matched": _ratio(near, hits),
            "f1_with_exact_fdi": _ratio(2 * exact, found + truth),
        }

    groups = [film.group for film in films]
    rule = "IoU >= 0.5, most probable first, each annotated tooth matched once"
    return Report("panoramic_teeth", len(films), len(set(groups)), rule, bootstrap(groups, figures))


def _teeth_counts(model: panoramic.PanoramicTeeth, film: Film) -> tuple[int, ...]:
    marks = model.find(film.read() / np.float32(255))
    found = [
        Found(m.tooth.code, (m.box.x0, m.box.y0, m.box.x1, m.box.y1), m.probability) for m in marks
    ]
    pairs = match(found, truth_boxes(film), iou=0.5)
    codes = [
        (f.label, film.marks[p].label) for f, p in zip(found, pairs, strict=True) if p is not None
    ]
    exact = sum(a == b for a, b in codes)
    near = sum(_places_apart(a, b) == 1 for a, b in codes)
    return len(found), len(film.marks), len(codes), exact, near


def _places_apart(a: str, b: str) -> int:
    for order in (UPPER_ARCH, LOWER_ARCH):
        places = [tooth.code for tooth in order]
        if a in places and b in places:
            return abs(places.index(a) - places.index(b))
    return 99


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


#: The words data sets use for what a findings class shows.
_TRUTH_WORDS: dict[FindingKind, tuple[str, ...]] = {
    FindingKind.CARIES: ("cavity", "caries"),
    FindingKind.RESTORATION: ("filling",),
    FindingKind.IMPACTED_TOOTH: ("impacted tooth", "impacted"),
}


def findings_report(
    model: panoramic.PanoramicFindings, films: Sequence[Film], iou: float = 0.3
) -> Report:
    """Measure findings as lesion hits: FROC, and both sides at the frozen threshold."""
    marks = [_candidates(model, film) for film in films]
    groups = [film.group for film in films]
    figures: dict[str, Figure] = {}
    for label, kind in panoramic.KINDS.items():
        words = _TRUTH_WORDS[kind]
        truth = [[m.box for m in film.marks if m.label in words] for film in films]
        if not any(truth):
            continue
        found = [[f for f in film if f.label == label] for film in marks]
        threshold = model.thresholds[panoramic.FINDING_LABELS.index(label)]
        curve = bootstrap(groups, _froc(found, truth, threshold, iou))
        figures |= {f"{kind.value}_{name}": figure for name, figure in curve.items()}
    rule = f"IoU >= {iou} with the annotated box, each annotated box matched once"
    return Report("panoramic_caries", len(films), len(set(groups)), rule, figures)


def _candidates(model: panoramic.PanoramicFindings, film: Film) -> list[Found]:
    pixels = film.read()
    return [
        Found(panoramic.FINDING_LABELS[p.channel], _scaled(p.box, pixels.shape), p.score)
        for p in model.candidates(pixels / np.float32(255), floor=0.01)
    ]


def _froc(
    found: Sequence[Sequence[Found]],
    truth: Sequence[Sequence[BoxPx]],
    threshold: float,
    iou: float,
) -> Callable[[np.ndarray], dict[str, float]]:
    rows = []
    for number, (film, boxes) in enumerate(zip(found, truth, strict=True)):
        pairs = match(film, boxes, iou)
        rows += [(f.probability, number, p is not None) for f, p in zip(film, pairs, strict=True)]
    rows.sort(key=lambda row: -row[0])
    score = np.array([row[0] for row in rows])
    film_of = np.array([row[1] for row in rows], dtype=int)
    hit = np.array([row[2] for row in rows], dtype=bool)
    lesions = np.array([len(boxes) for boxes in truth], dtype=float)

    def figures(weight: np.ndarray) -> dict[str, float]:
        w = weight[film_of]
        hits = np.concatenate([[0.0], np.cumsum(w * hit)])
        false = np.concatenate([[0.0], np.cumsum(w * ~hit)])
        total, count = float(weight @ lesions), weight.sum()
        result = {}
        for rate in FROC_RATES:
            last = int(np.searchsorted(false, rate * count, side="right")) - 1
            result[f"sensitivity_at_{rate:g}_false_per_film"] = _ratio(hits[last], total)
        kept = int((score >= threshold).sum())
        result["sensitivity_at_threshold"] = _ratio(hits[kept], total)
        result["false_per_film_at_threshold"] = _ratio(false[kept], count)
        result["precision_at_threshold"] = _ratio(hits[kept], hits[kept] + false[kept])
        return result

    return figures


def triage_report(
    view_of: Callable[[np.ndarray], tuple[View | None, float]], films: Sequence[Film]
) -> Report:
    """Measure the view: accuracy over all and per view; an abstention counts as wrong."""
    truth = [film.marks[0].label for film in films]
    said = []
    for film in films:
        view, _ = view_of(film.read() / np.float32(255))
        said.append(view.value if view else "abstained")
    right = np.array([a == b for a, b in zip(said, truth, strict=True)])
    abstained = np.array([a == "abstained" for a in said])

    def figures(weight: np.ndarray) -> dict[str, float]:
        result = {
            "accuracy": _ratio(weight @ right, weight.sum()),
            "abstained": _ratio(weight @ abstained, weight.sum()),
        }
        for view in sorted(set(truth)):
            w = weight * np.array([t == view for t in truth])
            result[f"accuracy_{view}"] = _ratio(w @ right, w.sum())
        return result

    groups = [film.group for film in films]
    rule = "view named exactly; an abstention is wrong"
    return Report("triage", len(films), len(set(groups)), rule, bootstrap(groups, figures))


def measure(task: str, data: Path, folder: Path) -> Report:
    """Measure the installed weights of `task` in `folder` on the films under `data`.

    Raises ConfigError when the task has no weights, InvalidInput when there are no films.
    """
    loaded = weights.load(task, folder)
    if loaded is None:
        raise ConfigError(f"no weights for {task} are installed in {folder}")
    if task == "intraoral":
        return _intraoral(loaded, data)
    films = _films(task, data)
    chosen = split(films).test or tuple(films)
    if not chosen:
        raise InvalidInput(f"{data} has no films")
    if task == "panoramic_teeth":
        return teeth_report(panoramic.PanoramicTeeth.from_state(*loaded), chosen)
    if task == "panoramic_caries":
        return findings_report(panoramic.PanoramicFindings.from_state(*loaded), chosen)
    from models.triage import Triage

    return triage_report(Triage.from_state(*loaded).view, chosen)


def _films(task: str, data: Path) -> tuple[Film, ...]:
    if task == "triage":
        return read_views(data)
    if is_dentex(data):
        return read_dentex(data, diagnoses=task == "panoramic_caries")
    return read_coco(data)


def _intraoral(loaded: weights.Loaded, data: Path) -> Report:
    from models.intraoral import IntraoralModel
    from training import intraoral_report
    from training.synthetic import read_part

    return intraoral_report.report(IntraoralModel.from_state(*loaded), read_part(data, "test"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--task", required=True, choices=weights.TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the films")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--weights", type=Path, default=weights.DEFAULT_DIR)
    options = parser.parse_args(arguments)
    try:
        report = measure(options.task, options.data, options.weights)
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    sys.stdout.write(table(report))
    if options.out:
        options.out.write_text(as_json(report), encoding="utf-8")
    return 0


def table(report: Report) -> str:
    """Write the figures of `report` as a Markdown table."""
    lines = [
        f"{report.task}: {report.films} films of {report.patients} patients; hit: {report.rule}",
        "| figure | value | 95 % interval |",
        "|---|--:|---|",
    ]
    lines += [
        f"| {name} | {f.value:.3f} | {f.low:.3f} – {f.high:.3f} |"
        for name, f in report.figures.items()
    ]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Write `report` as JSON; a figure that could not be computed is null."""
    figures = {
        name: {key: _number(getattr(f, key)) for key in ("value", "low", "high")}
        for name, f in report.figures.items()
    }
    body = {
        "task": report.task,
        "films": report.films,
        "patients": report.patients,
        "rule": report.rule,
        "figures": figures,
    }
    return json.dumps(body, indent=2) + "\n"


def _number(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
