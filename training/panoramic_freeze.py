"""Freeze the panoramic findings: ``python -m training.panoramic_freeze --help``.

Joins the dense network, the crop network and what decides between them into one weight file.
On tuning films only: a logistic regression per kind weighs both networks' opinions, but for
caries (see :data:`CARIES_MIX`); from scores that a film's own truth had no part in (five folds by
patient) come the calibration and two operating points. They are written beside the weights as
``FILE.settings.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models import panoramic, panoramic_findings, weights
from models.calibration import Temperature
from models.panoramic import PanoramicTeeth
from models.panoramic_findings import CROP_PREFIX, KINDS, LABELS, WEIGHED, PanoramicFindings
from models.tooth_crops import TAGS, BoxPx
from models.weights import Settings
from node.domain.findings import FindingKind, ModelVersion, OperatingPoint
from node.errors import BitewingError, InvalidInput, outcome
from training import manifest
from training.datasets import Film
from training.panoramic_report import TRUTH_WORDS
from training.tooth_crops import parts

#: False marks a film that each operating point allows on the tuning films.
REVIEW_RATE, SPECIFIC_RATE = 1.0, 0.2
#: Nothing less probable is suggested, or called strong, however few false marks there would be.
LEAST_CHANCES = (0.15, 0.2)
#: A mark hits from this overlap on.
HIT_IOU = 0.3

#: How caries is weighed. Sets contradict each other: one calls a broken-down tooth a cavity,
#: another calls it something else, and a regression over both serves neither. Both networks count
#: the same; of four weights of "broken" (0, -0.15, -0.3, -0.5) this one found most lesions at one
#: false mark a film, over the tuning films of both sets.
CARIES_MIX = {"caries": 0.6, "cavity": 0.6, "broken": -0.3, "filling tag": -0.15}

_FOLDS = 5
_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One tuning film: its set, its patient, the candidates' boxes, what is weighed of each."""

    source: str
    group: str
    boxes: list[BoxPx]
    opinions: np.ndarray
    truth: dict[FindingKind, list[BoxPx]]


def see(model: PanoramicFindings, teeth: PanoramicTeeth | None, film: Film, source: str) -> Seen:
    """Run both networks on `film` without weighing; boxes are in the dense input's pixels."""
    image = film.read() / np.float32(255)
    standing = teeth.find(image) if teeth else ()
    boxes, opinions = model.opinions(image, standing)
    fx, fy = panoramic.INPUT[1] / film.width, panoramic.INPUT[0] / film.height
    truth = {
        kind: [
            (m.box[0] * fx, m.box[1] * fy, m.box[2] * fx, m.box[3] * fy)
            for m in film.marks
            if m.label in words
        ]
        for kind, words in TRUTH_WORDS.items()
        if kind in KINDS
    }
    return Seen(source, film.group, boxes, opinions, truth)


def labels(seen: Seen, kind: FindingKind) -> np.ndarray:
    """Say per candidate whether it is of `kind`: 1, 0, or NaN beside a better one."""
    result = np.zeros(len(seen.boxes))
    for truth in seen.truth[kind]:
        overlap = np.array([panoramic.iou(box, truth) for box in seen.boxes])
        near = overlap >= HIT_IOU
        result[near & (result == 0)] = np.nan
        if near.any():
            result[int(np.argmax(overlap))] = 1.0
    return result


def fit_mix(films: Sequence[Seen], kind: FindingKind) -> np.ndarray:
    """Fit the weights of one kind; every set that speaks of it counts the same in all."""
    if kind is FindingKind.CARIES:
        return _caries_mix()
    speaking = [f for f in films if _speaks(films, f.source, kind)]
    x = torch.from_numpy(np.concatenate([f.opinions for f in speaking]))
    y = torch.from_numpy(np.concatenate([labels(f, kind) for f in speaking]))
    sizes = {s: sum(len(f.boxes) for f in speaking if f.source == s) for s in _sources(speaking)}
    w = torch.from_numpy(
        np.concatenate([np.full(len(f.boxes), 1.0 / sizes[f.source]) for f in speaking])
    ) * (len(y) / len(sizes))
    known = torch.isfinite(y)
    x, y, w = x[known], y[known], w[known]
    beta = torch.zeros(WEIGHED, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(x @ beta, y, w, reduction="sum")
            + _PENALTY * (beta[1:] ** 2).sum()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return beta.detach().numpy()


def _caries_mix() -> np.ndarray:
    mix = np.zeros(WEIGHED)
    mix[1 + TAGS.index("caries")] = CARIES_MIX["caries"]
    mix[1 + TAGS.index("broken")] = CARIES_MIX["broken"]
    mix[1 + TAGS.index("filling")] = CARIES_MIX["filling tag"]
    mix[1 + len(TAGS) + LABELS.index("cavity")] = CARIES_MIX["cavity"]
    return mix


def _sources(films: Sequence[Seen]) -> list[str]:
    return sorted({film.source for film in films})


def _speaks(films: Sequence[Seen], source: str, kind: FindingKind) -> bool:
    return any(film.truth[kind] for film in films if film.source == source)


def out_of_fold(films: Sequence[Seen], kind: FindingKind) -> list[np.ndarray]:
    """Score every film by weights that its fold had no part in; films of silent sets get none."""
    fold = {g: i % _FOLDS for i, g in enumerate(sorted({f"{f.source} {f.group}" for f in films}))}
    number = [fold[f"{f.source} {f.group}"] for f in films]
    scores = [np.zeros(0)] * len(films)
    for part in range(_FOLDS):
        beta = fit_mix([f for f, n in zip(films, number, strict=True) if n != part], kind)
        for index, film in enumerate(films):
            if number[index] == part and _speaks(films, film.source, kind):
                scores[index] = 1 / (1 + np.exp(-(film.opinions @ beta)))
    return scores


def marks(seen: Seen, scores: np.ndarray, kind: FindingKind) -> list[tuple[float, bool]]:
    """List the marks of one kind on a film, best first: (score, hit)."""
    free = list(seen.truth[kind])
    result = []
    for index in panoramic_findings.distinct(seen.boxes, scores):
        overlaps = [panoramic.iou(seen.boxes[index], box) for box in free]
        hit = bool(overlaps) and max(overlaps) >= HIT_IOU
        if hit:
            free.pop(int(np.argmax(overlaps)))
        result.append((float(scores[index]), hit))
    return result


def calibrate(films: Sequence[Seen], kind: FindingKind, scores: list[np.ndarray]) -> Temperature:
    """Fit temperature and bias of the marks' scores, each set counting the same."""
    listed = [
        (film.source, marks(film, own, kind))
        for film, own in zip(films, scores, strict=True)
        if len(own)
    ]
    sizes = Counter({source: 0 for source, _ in listed})
    for source, found in listed:
        sizes[source] += len(found)
    rows = [(*mark, 1.0 / sizes[source]) for source, found in listed for mark in found]
    p = np.clip(np.array([r[0] for r in rows]), 1e-6, 1 - 1e-6)
    logit, hit, weight = np.log(p / (1 - p)), *np.array([r[1:] for r in rows], float).T
    a, b = 1.0, 0.0
    weight = weight / weight.sum() * len(rows)
    for _ in range(50):  # Newton's method on two numbers
        q = 1 / (1 + np.exp(-(a * logit + b)))
        gradient = np.array([(weight * (q - hit) * logit).sum(), (weight * (q - hit)).sum()])
        curve = weight * q * (1 - q)
        cross = (curve * logit).sum()
        hessian = np.array([[(curve * logit**2).sum() + 1, cross], [cross, curve.sum() + 1e-3]])
        a, b = np.array([a, b]) - np.linalg.solve(hessian, gradient + np.array([a - 1, 0]))
    return Temperature(float(1 / max(a, 0.1)), float(b))


def threshold_at(
    films: Sequence[Seen], kind: FindingKind, scores: list[np.ndarray], rate: float
) -> float:
    """Give the lowest score at which no set has more than `rate` false marks a film."""
    least = 0.0
    for source in _sources(films):
        own = [(f, s) for f, s in zip(films, scores, strict=True) if f.source == source and len(s)]
        if own:
            false = sorted(
                (score for f, s in own for score, hit in marks(f, s, kind) if not hit), reverse=True
            )
            allowed = int(rate * len(own))
            if allowed < len(false):
                least = max(least, false[allowed] + 1e-6)
    return least


def freeze(
    model: PanoramicFindings, films: Sequence[Seen]
) -> tuple[np.ndarray, list[float], Settings]:
    """Give the mix, the raw thresholds (for use without settings) and the settings."""
    mix, thresholds = [], []
    points: dict[FindingKind, OperatingPoint] = {}
    curves: dict[str, Temperature] = {}
    for kind in KINDS:
        scores = out_of_fold(films, kind)
        curve = calibrate(films, kind, scores)
        review = threshold_at(films, kind, scores, REVIEW_RATE)
        specific = threshold_at(films, kind, scores, SPECIFIC_RATE)
        said = np.maximum(curve.apply(np.array([review, specific])).round(4), LEAST_CHANCES)
        points[kind] = OperatingPoint(float(said[0]), float(said[1]))
        curves[kind.value] = Temperature(round(curve.temperature, 4), round(curve.bias, 4))
        mix.append(fit_mix(films, kind))
        thresholds.append(review)
    return np.stack(mix), thresholds, Settings(points, curves)


def joined(dense: Path, tags: Path) -> dict[str, torch.Tensor]:
    """Put a dense and a crop network into one state dict, weighing nothing yet."""
    body = torch.load(dense, weights_only=True)
    body = {
        k: t.float()
        for k, t in body.items()
        if not k.startswith(CROP_PREFIX) and k not in ("mix", "thresholds")
    }
    crop = {f"{CROP_PREFIX}{k}": t.float() for k, t in torch.load(tags, weights_only=True).items()}
    empty = {"mix": torch.zeros(len(KINDS), WEIGHED), "thresholds": torch.full((len(KINDS),), 0.5)}
    return body | crop | empty


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and freeze; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.panoramic_freeze", description=__doc__
    )
    parser.add_argument("--dense", type=Path, required=True, help="weights of the dense network")
    parser.add_argument("--tags", type=Path, required=True, help="weights of the crop network")
    parser.add_argument("--teeth", type=Path, required=True, help="weights of panoramic_teeth")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of films")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    options = parser.parse_args(arguments)
    try:
        settings = _freeze_files(options)
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    text = json.dumps(weights.settings_to_json(settings), indent=2) + "\n"
    options.out.with_suffix(".settings.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _freeze_files(options: argparse.Namespace) -> Settings:
    version = ModelVersion("training", "0.0.0", "0" * 64)
    state = joined(options.dense, options.tags)
    model = PanoramicFindings.from_state(state, version)
    teeth = {k: t.float() for k, t in torch.load(options.teeth, weights_only=True).items()}
    tooth_model = PanoramicTeeth.from_state(teeth, version)
    films: list[Film] = []
    seen: list[Seen] = []
    for folder in options.data:
        tune = parts(folder).tune
        films += tune
        seen += [see(model, tooth_model, film, folder.name) for film in tune]
    if not films:
        raise InvalidInput("there are no tuning films")
    mix, thresholds, settings = freeze(model, seen)
    state |= {
        "mix": torch.from_numpy(mix).float(),
        "thresholds": torch.tensor(thresholds, dtype=torch.float32),
    }
    # The mix stays float32: a score near a threshold must not move.
    kept = {
        k: t.half() if t.is_floating_point() and k not in ("mix", "thresholds") else t
        for k, t in state.items()
    }
    torch.save({k: t.contiguous() for k, t in kept.items()}, options.out)
    digest = manifest.data_digest(film.path for film in films)
    return Settings(settings.operating_points, settings.calibration, digest)


if __name__ == "__main__":
    sys.exit(main())
