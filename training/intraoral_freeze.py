"""Freeze what goes with intraoral weights: ``python -m training.intraoral_freeze --help``.

On the tuning films, which no step learns from, thresholds are chosen, every head's scores are
calibrated, and two operating points are set for each kind of finding. ``training.publish
--settings`` takes the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models import runtime
from models.backbone import DenseNet, fused
from models.calibration import Temperature
from models.intraoral import SITE, IntraoralModel, Sight
from models.intraoral_bone import NORMAL_MM
from models.intraoral_maps import MARK_NAMES, MARKS
from models.weights import Settings, settings_to_json
from node.domain.findings import FindingKind, ModelVersion, OperatingPoint
from node.errors import BitewingError, ConfigError, outcome
from training import layouts, manifest
from training.intraoral_tally import Tally, fates, tally
from training.synthetic import SyntheticFilm

#: False caries marks a film may have at the review point, and at the high specificity point.
FALSE_PER_FILM = (0.3, 0.05)
#: Caries is never shown below this probability, however rare false marks are.
LEAST_CARIES = 0.15
#: Other marks: the most false ones per film at the two points; review is the best F1 within that.
MARK_FALSE_PER_FILM = (0.15, 0.02)
#: The specificity that bone must reach at the two points, among sites of 2 mm or less.
LEVEL_SPECIFICITY = (0.95, 0.99)
#: Bone is reported from this level on at least: 2 mm plus the network's own error.
LEAST_LEVEL_MM = 2.5
#: A measured level this close to the true one counts as right when sites are calibrated, mm.
RIGHT_MM = 1.0
#: Fewer true cases than this on the tuning films validate nothing: the kind is never said.
LEAST_CASES = 8
POINT = 0.15
#: Without operating points things are said from this score.
REVIEW = 0.3

_K = FindingKind
_NEVER = OperatingPoint(1.0, 1.0)
_RIDGE = 1e-2

Scored = Sequence[tuple[float, bool]]


def choose_thresholds(net: DenseNet, films: Sequence[SyntheticFilm]) -> dict[str, float]:
    """Choose the thresholds that are frozen in the weights, on the tuning films."""
    start = {"tooth": 0.1, "point": POINT, "level_mm": 0.0, "review": REVIEW}
    model = IntraoralModel(_ready(net), start, ModelVersion("intraoral", "0.0.0", "0" * 64))
    tallies = [tally(film, see(model, film)) for film in films]
    scores = [pair for one in tallies for pair in one.tooth_scores]
    there = sum(one.teeth for one in tallies)
    healthy = sorted(
        site.found_mm
        for one in tallies
        for site in one.sites
        if site.truth_mm <= NORMAL_MM and np.isfinite(site.found_mm)
    )
    level = float(np.quantile(healthy, LEVEL_SPECIFICITY[0])) if healthy else LEAST_LEVEL_MM
    return {
        "tooth": max(best_f1(scores, there), 0.1),
        "point": POINT,
        "level_mm": max(LEAST_LEVEL_MM, round(level, 1)),
        "review": REVIEW,
    }


def _ready(net: DenseNet) -> DenseNet:
    """Copy `net` into the form the product runs."""
    copy = DenseNet({name: head.out_channels for name, head in net.heads.items()})  # type: ignore[misc]
    copy.load_state_dict(net.state_dict())
    fused(copy).to(runtime.device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy


def see(model: IntraoralModel, film: SyntheticFilm) -> Sight:
    """Run `model` on `film` as the product does, with its true view and its spacing."""
    return model.see(film.read() / np.float32(255), film.view, film.spacing)


def best_f1(scored: Scored, positives: int) -> float:
    """Choose the score with the highest F1; 0.5 when there is nothing to choose by."""
    ranked = sorted(scored, key=lambda pair: -pair[0])
    if not ranked or not positives:
        return 0.5
    hits = np.cumsum([hit for _, hit in ranked])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positives)
    return float(ranked[int(np.argmax(f1))][0])


def fit_temperature(scored: Scored) -> Temperature | None:
    """Fit temperature and offset by penalised maximum likelihood; None with too few cases.

    Source: Platt 1999, with a ridge towards no change.
    """
    scores, true = np.array([s for s, _ in scored], float), np.array([t for _, t in scored], float)
    if true.sum() < LEAST_CASES or (1 - true).sum() < LEAST_CASES:
        return None
    p = np.clip(scores, 1e-6, 1 - 1e-6)
    design = np.stack([np.log(p / (1 - p)), np.ones_like(p)], axis=1)
    start = np.array([1.0, 0.0])
    value = start.copy()
    for _ in range(50):
        said = 1 / (1 + np.exp(-np.clip(design @ value, -30, 30)))
        slope = design.T @ (said - true) + _RIDGE * len(p) * 1e-2 * (value - start)
        bend = (design * (said * (1 - said))[:, None]).T @ design
        step = np.linalg.solve(bend + _RIDGE * len(p) * 1e-2 * np.eye(2) + 1e-6 * np.eye(2), slope)
        value = value - np.clip(step, -2.0, 2.0)
        value[0] = max(value[0], 0.05)
        if np.abs(step).max() < 1e-6:
            break
    return Temperature(round(1 / float(value[0]), 4), round(float(value[1]), 4))


def freeze(model: IntraoralModel, films: Sequence[SyntheticFilm]) -> Settings:
    """Calibrate every head and set the operating points on the tuning films."""
    tallies = [tally(film, see(model, film)) for film in films]
    units = calibration_units(tallies)
    curves = {name: curve for name, own in units.items() if (curve := fit_temperature(own))}
    settings = Settings(calibration=curves)
    points = {
        _K.CARIES: _caries_point(tallies, settings),
        _K.BONE_LEVEL: _bone_point(tallies, settings),
    }
    for name, kind, _ in MARKS:
        if kind is not _K.CARIES:
            points[kind] = _mark_point(tallies, settings, name)
    digest = manifest.data_digest([film.path for film in films])
    return replace(settings, operating_points=points, reference_digest=digest)


def calibration_units(tallies: Sequence[Tally]) -> dict[str, list[tuple[float, bool]]]:
    """Gather (score, whether true) of every head, by the name of its calibration."""
    units: dict[str, list[tuple[float, bool]]] = {
        _K.CARIES.value: [(s.score, s.depth is not None) for t in tallies for s in t.surfaces],
        SITE: [
            (s.score, abs(s.found_mm - s.truth_mm) <= RIGHT_MM)
            for t in tallies
            for s in t.sites
            if np.isfinite(s.found_mm)
        ],
        _K.BONE_LEVEL.value: [
            (s.lowered, s.truth_mm > NORMAL_MM)
            for t in tallies
            for s in t.sites
            if np.isfinite(s.found_mm)
        ],
    }
    for name in MARK_NAMES:
        units[name] = [pair for t in tallies if "marks" in t.told for pair in fates(t, name)]
    return units


def _caries_point(tallies: Sequence[Tally], settings: Settings) -> OperatingPoint:
    told = [t for t in tallies if "caries" in t.told]
    marks = [(settings.calibrate("caries", s), hit) for t in told for s, hit in t.caries]
    for name in ("occlusal_caries", "root_caries"):
        marks += [(settings.calibrate(name, s), hit) for t in told for s, hit in fates(t, name)]
    low, high = (_at_false(marks, rate * len(told)) for rate in FALSE_PER_FILM)
    review = max(LEAST_CARIES, low)
    return OperatingPoint(round(review, 4), round(max(review, high), 4))


def _mark_point(tallies: Sequence[Tally], settings: Settings, name: str) -> OperatingPoint:
    told = [t for t in tallies if "marks" in t.told]
    marks = [(settings.calibrate(name, s), hit) for t in told for s, hit in fates(t, name)]
    there = sum(len(t.marks[name][0]) for t in told)
    if there < LEAST_CASES or not any(hit for _, hit in marks):
        return _NEVER
    low, high = (_at_false(marks, rate * len(told)) for rate in MARK_FALSE_PER_FILM)
    review = max(best_f1(marks, there), low)
    high = max(review, high)
    return OperatingPoint(round(review, 4), round(high, 4))


def _bone_point(tallies: Sequence[Tally], settings: Settings) -> OperatingPoint:
    sound = [
        settings.calibrate(_K.BONE_LEVEL.value, s.lowered)
        for t in tallies
        for s in t.sites
        if s.truth_mm <= NORMAL_MM and np.isfinite(s.found_mm)
    ]
    if len(sound) < LEAST_CASES:
        return _NEVER
    low, high = (float(np.quantile(sound, share)) for share in LEVEL_SPECIFICITY)
    return OperatingPoint(round(low, 4), round(max(low, high), 4))


def _at_false(marks: Scored, allowed: float) -> float:
    """Give the lowest probability at which no more than `allowed` marks are false."""
    false = sorted((p for p, hit in marks if not hit), reverse=True)
    place = int(allowed)
    return min(1.0, false[place] + 1e-4) if len(false) > place else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and freeze; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.intraoral_freeze", description=__doc__
    )
    parser.add_argument("weights", type=Path, help="weights that training.train wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set(s)")
    parser.add_argument("--out", type=Path, required=True, help="settings file to write")
    options = parser.parse_args(arguments)
    try:
        settings = freeze(load(options.weights), layouts.read_part(options.data, "tune"))
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    options.out.write_text(json.dumps(settings_to_json(settings), indent=1) + "\n", "utf-8")
    return 0


def load(path: Path) -> IntraoralModel:
    """Build the model of a weight file that is not installed; raises ConfigError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"the weights {path} cannot be read") from error
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    return IntraoralModel.from_state(floats, ModelVersion("intraoral", "0.0.0", "0" * 64))


if __name__ == "__main__":
    sys.exit(main())
