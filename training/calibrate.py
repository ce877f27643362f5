"""Freeze calibration and operating points: ``python -m training.calibrate --task NAME …``.

Runs weights that a training run wrote over the *tuning* films and writes the settings that
``training.export --settings`` installs beside them: a curve per kind of finding that turns scores
into the share of marks that are right, and two thresholds on it. Test films are not touched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import panoramic, weights
from models.calibration import Calibration, Isotonic, platt
from node.domain.findings import FindingKind, OperatingPoint
from node.errors import BitewingError, InvalidInput, outcome
from training import evaluate, report
from training.detection import Marks

TASKS = ("panoramic_teeth", "panoramic_caries", "intraoral")
#: From this many marks on a free curve is fitted, else two numbers. Source: docs/training.md.
_FREE_FROM = 1000
#: Fewer hits than this teach no curve.
_LEAST_HITS = 10
#: The most knots of a free curve.
_KNOTS = 40


@dataclass(frozen=True, slots=True)
class Rates:
    """False marks per tuning film that each operating point allows."""

    review: float = 0.5
    high_specificity: float = 0.1


def fit(score: np.ndarray, is_true: np.ndarray) -> Calibration | None:
    """Fit how often marks of a score are right; None when there are too few to tell.

    From 1,000 marks on by isotonic regression, else by a scaled and shifted logit.
    """
    if int(is_true.sum()) < _LEAST_HITS or int((~is_true).sum()) < _LEAST_HITS:
        return None
    return _isotonic(score, is_true) if len(score) >= _FREE_FROM else platt(score, is_true)


def _isotonic(score: np.ndarray, is_true: np.ndarray) -> Isotonic | None:
    """Fit by pooling adjacent violators and keep the ends of at most :data:`_KNOTS` steps."""
    order = np.argsort(score, kind="stable")
    blocks: list[list[float]] = []  # right marks, marks, lowest and highest score
    for value, right in zip(score[order], is_true[order], strict=True):
        blocks.append([float(right), 1.0, float(value), float(value)])
        while len(blocks) > 1 and _is_out_of_order(blocks[-2], blocks[-1]):
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], blocks[-1][2], last[3]]
    middles = np.array([(low + high) / 2 for _, _, low, high in blocks])
    chances = np.array([right / count for right, count, _, _ in blocks])
    if len(blocks) > _KNOTS:
        kept = np.unique(np.linspace(0, len(blocks) - 1, _KNOTS).round().astype(int))
        middles, chances = middles[kept], chances[kept]
    if len(middles) < 2:
        return None
    return Isotonic(tuple(map(float, middles)), tuple(map(float, chances)))


def _is_out_of_order(before: Sequence[float], after: Sequence[float]) -> bool:
    return before[0] / before[1] >= after[0] / after[1] or before[3] >= after[2]


def operating_point(marks: Marks, probability: np.ndarray, rates: Rates) -> OperatingPoint:
    """Choose the lowest thresholds at which false marks per film stay within `rates`."""
    films = len(marks.positives)
    false = np.sort(probability[~marks.is_hit])[::-1]

    def lowest(rate: float) -> float:
        allowed = int(rate * films)
        bound = float(false[allowed]) if len(false) > allowed else 0.0
        above = probability[probability > bound]
        return float(above.min()) if len(above) else min(1.0, bound + 1e-4)

    review = lowest(rates.review)
    return OperatingPoint(review, max(review, lowest(rates.high_specificity)))


def settings(marks: Mapping[FindingKind, Marks], digest: str, rates: Rates) -> weights.Settings:
    """Fit every kind of finding that the tuning films show.

    `digest` is that of the tuning films.
    """
    curves: dict[str, Calibration] = {}
    points: dict[FindingKind, OperatingPoint] = {}
    for kind, own in marks.items():
        if not own.positives.any() or not len(own.score):
            continue
        curve = fit(own.score, own.is_hit)
        if curve is not None:
            curves[kind.value] = curve
        probability = own.score if curve is None else curve.apply(own.score)
        points[kind] = operating_point(own, probability, rates)
    if not points:
        raise InvalidInput("the tuning films show nothing to calibrate on")
    return weights.Settings(points, curves, digest)


def tooth_settings(score: np.ndarray, is_right: np.ndarray, digest: str) -> weights.Settings:
    """Fit how often panoramic teeth of a score are there and numbered right.

    Raises InvalidInput when the tuning films tell too little.
    """
    few = min(int(is_right.sum()), int((~is_right).sum())) < _LEAST_HITS
    curve = None if few else platt(score, is_right)
    if curve is None:
        raise InvalidInput("the tuning films show too few right or wrong teeth to calibrate on")
    return weights.Settings(calibration={panoramic.TOOTH: curve}, reference_digest=digest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, fit and write the settings; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the films")
    parser.add_argument("--file", type=Path, required=True, help="weights that a run wrote")
    parser.add_argument("--out", type=Path, required=True, help="settings (JSON) to write")
    parser.add_argument("--review-rate", type=float, default=Rates().review)
    parser.add_argument("--specific-rate", type=float, default=Rates().high_specificity)
    options = parser.parse_args(arguments)
    try:
        if options.task == "panoramic_teeth":
            made = tooth_settings(*evaluate.raw_teeth(options.data, options.file))
        else:
            marks, digest = evaluate.raw_marks(options.task, options.data, options.file)
            made = settings(marks, digest, Rates(options.review_rate, options.specific_rate))
        options.out.write_text(report.dumps(weights.settings_to_json(made)), encoding="utf-8")
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    for kind, point in made.operating_points.items():
        sys.stdout.write(
            f"{kind.value}: review {point.review:.3f}, "
            f"high specificity {point.high_specificity:.3f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
