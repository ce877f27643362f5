"""Measure a network on annotated films: ``python -m training.evaluate --task NAME --data DIR``.

Films run through the same classes as in the product, with the thresholds frozen in the weights.
``--out FILE.json`` gets every figure with a 95 % bootstrap interval over patients, and notes which
weights touched which films: test films are for one look. Real and synthetic films are reported in
separate tables. Films to learn from are left out; ``--part tune`` looks at those put aside to
choose by, ``--part all`` at everything.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import panoramic, panoramic_findings, weights
from models.backbone import DenseNet
from node.domain.findings import Finding, FindingKind, ModelVersion, View
from node.errors import BitewingError, ConfigError, InvalidInput, outcome
from training import card, layouts, manifest, metrics, report
from training.datasets import VIEWS, Film, read_views, split
from training.detection import BoxPx, Found, Marks, best_threshold, is_hit, match
from training.metrics import Array, Figure
from training.panoramic_report import findings_report, marks_by_kind, teeth_report
from training.report import Case, Report, table
from training.synthetic import SyntheticFilm

if TYPE_CHECKING:
    from training import predictions, readings

__all__ = [
    "BoxPx",
    "Evaluation",
    "Figure",
    "Found",
    "Report",
    "as_json",
    "best_threshold",
    "bootstrap",
    "finding_peaks",
    "is_hit",
    "main",
    "match",
    "measure",
    "measure_file",
    "table",
    "teeth_found",
    "triage_report",
    "truth_boxes",
]

PARTS = ("test", "tune", "all")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Reports of one task, real films before synthetic ones, and what touched what."""

    task: str
    part: str
    reports: tuple[Report, ...]
    weights_sha256: str
    data_sha256: str


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
        Found(panoramic_findings.LABELS[p.channel], _scaled(p.box, pixels.shape), p.score)
        for p in panoramic.peaks(maps, floor, 0.45)
    ]


def _scaled(box: BoxPx, shape: tuple[int, ...]) -> BoxPx:
    fx, fy = shape[1] / panoramic.INPUT[1], shape[0] / panoramic.INPUT[0]
    return box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy


def bootstrap(
    groups: Sequence[str],
    figures: Callable[[np.ndarray], dict[str, float]],
    resamples: int = metrics.RESAMPLES,
) -> dict[str, Figure]:
    """Compute `figures` that take one weighting (films,) at a time, with intervals.

    For those that take many at once see :func:`training.metrics.bootstrap`.
    """

    def many(weight: Array) -> dict[str, Array]:
        rows = [figures(row) for row in weight]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return metrics.bootstrap(groups, many, resamples)


def triage_report(
    view_of: Callable[[Film], tuple[View | None, float]], films: Sequence[Film]
) -> Report:
    """Measure the view: accuracy over all and per view; an abstention counts as wrong."""
    truth = np.array([film.marks[0].label for film in films])
    answers = [view_of(film) for film in films]
    said = np.array([view.value if view else "abstained" for view, _ in answers])
    sure = np.array([probability for _, probability in answers], float)
    right, abstained = said == truth, said == "abstained"
    right_group = np.array([_group(a) == _group(b) for a, b in zip(said, truth, strict=True)])

    def figures(weight: Array) -> dict[str, Array]:
        result = {
            "accuracy": metrics.share(right, weight),
            "abstained": metrics.share(abstained, weight),
            "accuracy_of_answered": metrics.share(right, weight * ~abstained),
            "accuracy_panoramic_intraoral_other": metrics.share(right_group, weight),
        }
        for view in sorted(set(truth)):
            result[f"accuracy_{view}"] = metrics.share(right, weight * (truth == view))
        result["ece"] = metrics.calibration_error(sure, right, weight)
        result["brier"] = metrics.brier(sure, right, weight)
        return result

    found = report.compose(
        "triage",
        "view named exactly; an abstention is wrong; where all are right, the lower limit is that "
        "of the rule of three",
        [Case(film.group, {"source": film.source}) for film in films],
        figures,
        films[0].origin,
        {"view": metrics.reliability(sure, right)},
    )
    counts = {f"accuracy_{view}": int((truth == view).sum()) for view in set(truth)}
    bounded = {
        name: _bounded(figure, counts.get(name, len(films)))
        for name, figure in found.figures.items()
        if name.startswith("accuracy")
    }
    return replace(found, figures=found.figures | bounded)


def _bounded(figure: Figure, films: int) -> Figure:
    """Widen the interval of an all-right share: resampling cannot find what did not happen.

    Source: Hanley and Lippman-Hand 1983, the rule of three.
    """
    if figure.low < 1.0:
        return figure
    return replace(figure, low=max(0.0, 1.0 - 3.0 / films))


def _group(view: str) -> str:
    """Tell panoramics, intraoral films and everything else apart."""
    return "intraoral" if view in ("bitewing", "periapical", "occlusal") else view


def measure(task: str, data: Path, folder: Path, part: str = "test") -> Evaluation:
    """Measure the installed weights of `task` in `folder` on the films under `data`.

    Raises ConfigError when the task has no weights, InvalidInput when there are no films.
    """
    loaded = weights.load(task, folder)
    if loaded is None:
        raise ConfigError(f"no weights for {task} are installed in {folder}")
    return _measure(task, data, loaded, part, folder)


def measure_file(task: str, data: Path, file: Path, part: str = "tune") -> Evaluation:
    """Measure weights that a training run just wrote, before they are installed anywhere.

    Raises InvalidInput when there are no films, ConfigError when the file is no state dict.
    """
    return _measure(task, data, _load_file(task, file), part, weights.DEFAULT_DIR)


def _load_file(task: str, file: Path) -> weights.Loaded:
    """Load weights that no manifest names yet; raises ConfigError when they are none."""
    import torch

    version = ModelVersion(task, "0.0.0", weights.digest(file))
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(f"{file} is not a plain state dict") from error
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    return weights.Loaded(floats, version, weights.NO_SETTINGS)


def measure_said(task: str, data: Path, file: Path, part: str = "test") -> Evaluation:
    """Measure what a node said of the films under `data` (see :mod:`training.predictions`).

    Raises InvalidInput when a film is missing from `file` or there are none.
    """
    from training import predictions

    said = predictions.read(file)
    runner = _said_runner(task, said)
    return _evaluate(task, data, part, runner, weights.digest(file))


def _measure(task: str, data: Path, loaded: weights.Loaded, part: str, folder: Path) -> Evaluation:
    return _evaluate(task, data, part, _runner(task, loaded, folder), loaded.version.digest)


def _evaluate(
    task: str, data: Path, part: str, run: Callable[[Sequence[Any]], Report], digest: str
) -> Evaluation:
    if part not in PARTS:
        raise InvalidInput(f"no part {part!r}; known: {', '.join(PARTS)}")
    films: Sequence[Film | SyntheticFilm]
    films = _intraoral_films(data, part) if task == "intraoral" else _films(task, data, part)
    reports = tuple(run(own) for own in _by_origin(films))
    return Evaluation(task, part, reports, digest, manifest.data_digest(f.path for f in films))


def _by_origin(films: Sequence[Film | SyntheticFilm]) -> list[list[Film | SyntheticFilm]]:
    """Keep real and synthetic films apart, real ones first."""
    parts = [[f for f in films if f.origin == origin] for origin in ("real", "synthetic")]
    return [part for part in parts if part]


def _runner(task: str, loaded: weights.Loaded, folder: Path) -> Callable[[Sequence[Any]], Report]:
    """Prepare the measuring of films by the network of `task`."""
    if task == "intraoral":
        return _intraoral_runner(loaded)
    if task == "panoramic_teeth":
        model = panoramic.PanoramicTeeth.from_state(*loaded)
        loose = replace(model, threshold=0.0)
        return lambda films: teeth_report(
            lambda film: model.find(_image(film)), films, lambda film: loose.find(_image(film))
        )
    if task == "panoramic_caries":
        return _findings_runner(loaded, folder)
    from models.triage import Triage

    triage = Triage.from_state(*loaded)
    return lambda films: triage_report(lambda film: triage.view(_image(film)), films)


def _said_runner(
    task: str, said: Mapping[str, predictions.Said]
) -> Callable[[Sequence[Any]], Report]:
    """Prepare the measuring of films by what a node said of them."""
    from training import predictions, readings, readings_report

    def of(film: Film | SyntheticFilm) -> predictions.Said:
        return predictions.said_of(said, film.path)

    def size(film: Film) -> tuple[int, int]:
        rows, cols = film.read().shape
        return cols, rows

    def intraoral(films: Sequence[SyntheticFilm]) -> Report:
        scored = [readings.score(f, of(f).reading, f.read().shape) for f in films]
        return readings_report.compose(scored, predictions.frozen_points(said), _SAID_LEVEL_MM)

    match task:
        case "intraoral":
            return intraoral
        case "panoramic_teeth":
            return lambda films: teeth_report(lambda film: of(film).teeth(*size(film)), films)
        case "panoramic_caries":
            points = predictions.frozen_points(said)
            return lambda films: findings_report(
                lambda film: of(film).findings(*size(film)), films, points
            )
        case _:
            return lambda films: triage_report(
                lambda film: (of(film).view, of(film).view_probability), films
            )


def _image(film: Film) -> np.ndarray:
    image: np.ndarray = film.read() / np.float32(255)
    return image


def _findings_runner(loaded: weights.Loaded, folder: Path) -> Callable[[Sequence[Film]], Report]:
    thresholds = panoramic_findings.PanoramicFindings.from_state(*loaded).thresholds
    points = _points(loaded.settings)
    for kind, threshold in zip(panoramic_findings.KINDS, thresholds, strict=True):
        points.setdefault(kind, {"review": threshold})
    find = _loose_findings(loaded, folder)
    return lambda films: findings_report(find, films, points)


def _loose_findings(loaded: weights.Loaded, folder: Path) -> Callable[[Film], Sequence[Finding]]:
    """Find with the calibration of `loaded` and without its thresholds."""
    model = panoramic_findings.PanoramicFindings.from_state(*loaded)
    loose = replace(
        model,
        thresholds=(0.0,) * len(model.thresholds),
        settings=weights.Settings(calibration=loaded.settings.calibration),
    )
    teeth_loaded = weights.load("panoramic_teeth", folder)
    teeth = panoramic.PanoramicTeeth.from_state(*teeth_loaded) if teeth_loaded else None

    def find(film: Film) -> Sequence[Finding]:
        image = _image(film)
        return loose.find(image, teeth.find(image) if teeth else ())

    return find


def _points(settings: weights.Settings) -> dict[FindingKind, Mapping[str, float]]:
    """Name the frozen operating points of each kind."""
    return {
        kind: {"review": point.review, "high_specificity": point.high_specificity}
        for kind, point in settings.operating_points.items()
    }


def _films(task: str, data: Path, part: str) -> tuple[Film, ...]:
    """List the films of one part; a set that is not divided is measured whole when asked for."""
    films = _viewed(data) if task == "triage" else layouts.read_panoramics(data, task)
    parts = split(films)
    if part == "test" and all(film.split == "train" for film in films):
        sys.stderr.write(
            f"{data} has films to learn from only: reporting the {len(parts.test)} of "
            f"{len(films)} that training puts aside (--part all takes every one)\n"
        )
    chosen = {"test": parts.test, "tune": parts.tune, "all": films}[part]
    if not chosen:
        raise InvalidInput(f"{data} has no films to {'report' if part == 'test' else part}")
    return chosen


def _viewed(data: Path) -> tuple[Film, ...]:
    """Read films whose view is known; raises InvalidInput when there are none."""
    if not data.is_dir():
        raise InvalidInput(f"there is no folder {data}")
    films = read_views(data)
    if not films:
        raise InvalidInput(
            f"{data} has no films of a known view: it needs COCO folders (panoramics) or "
            f"sub-folders named {', '.join(VIEWS)}"
        )
    return films


#: Thresholds that belong to the reading itself; the others decide what is suggested.
_OF_READING = ("tooth", "point", "level_mm")
#: The bone level from which what a node said counts as reported, mm.
_SAID_LEVEL_MM = 3.0


def _intraoral_films(data: Path, part: str) -> tuple[SyntheticFilm, ...]:
    parts = ("train", "tune", "test") if part == "all" else (part,)
    return tuple(film for name in parts for film in layouts.read_part(data, name))


def _intraoral_runner(loaded: weights.Loaded) -> Callable[[Sequence[SyntheticFilm]], Report]:
    """Read every film as the product does, thresholds off, and score it by the frozen ones."""
    from models.intraoral import IntraoralModel
    from training import readings_report

    thresholds = IntraoralModel.from_state(*loaded).thresholds
    points = _points(loaded.settings)
    points.setdefault(FindingKind.CARIES, {"review": thresholds["review"]})
    score = _loose_scorer(loaded)
    return lambda films: readings_report.compose(
        [score(film) for film in films], points, thresholds["level_mm"]
    )


def _loose_scorer(loaded: weights.Loaded) -> Callable[[SyntheticFilm], readings.Scored]:
    """Read with the calibration of `loaded` and without the thresholds of what is suggested."""
    from models.intraoral import IntraoralModel
    from training import readings

    model = IntraoralModel.from_state(*loaded)
    loose = replace(
        model,
        thresholds={
            name: value if name in _OF_READING else 0.0 for name, value in model.thresholds.items()
        },
        settings=weights.Settings(calibration=loaded.settings.calibration),
    )

    def score(film: SyntheticFilm) -> readings.Scored:
        pixels = film.read()
        reading = loose.analyse(pixels / np.float32(255), film.view, film.spacing)
        return readings.score(film, reading, pixels.shape)

    return score


def raw_marks(task: str, data: Path, file: Path) -> tuple[dict[FindingKind, Marks], str]:
    """Give the uncalibrated marks of new weights on the tuning films, and the films' digest.

    Raises InvalidInput when there are no tuning films.
    """
    loaded = _load_file(task, file)
    if task == "intraoral":
        from training import readings_report

        films = _intraoral_films(data, "tune")
        scorer = _loose_scorer(loaded)
        marks = readings_report.marks_by_kind([scorer(film) for film in films])
        return marks, manifest.data_digest(film.path for film in films)
    panoramics = _films(task, data, "tune")
    find = _loose_findings(loaded, weights.DEFAULT_DIR)
    digest = manifest.data_digest(film.path for film in panoramics)
    return marks_by_kind(find, panoramics, panoramic_findings.KINDS), digest


def raw_teeth(data: Path, file: Path) -> tuple[Array, Array, str]:
    """Give the uncalibrated scores of teeth on the tuning films, which are right, and a digest.

    A tooth is right when it lies on an annotated one and bears its number. Raises InvalidInput
    when there are no tuning films.
    """
    model = panoramic.PanoramicTeeth.from_state(*_load_file("panoramic_teeth", file))
    films = _films("panoramic_teeth", data, "tune")
    scores, right = [], []
    for film in films:
        found = teeth_found(model.net, film)
        pairs = match(found, truth_boxes(film), iou=0.5)
        scores += [one.probability for one in found]
        right += [
            pair is not None and film.marks[pair].label == one.label
            for one, pair in zip(found, pairs, strict=True)
        ]
    return np.array(scores), np.array(right, bool), manifest.data_digest(f.path for f in films)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--task", required=True, choices=weights.TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the films")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--weights", type=Path, default=weights.DEFAULT_DIR)
    parser.add_argument("--part", choices=PARTS, default="test", help="which films to measure")
    parser.add_argument(
        "--predictions", type=Path, help="measure what a node said, instead of weights"
    )
    parser.add_argument("--card", type=Path, help="model card whose figures to replace")
    options = parser.parse_args(arguments)
    try:
        if options.out and not options.out.parent.is_dir():
            raise ConfigError(f"there is no folder {options.out.parent} to write to")
        if options.task in ("intraoral", "panoramic_teeth", "panoramic_caries"):
            sys.stderr.write(f"{options.data}: {layouts.describe(options.data)}\n")
        if options.predictions:
            found = measure_said(options.task, options.data, options.predictions, options.part)
        else:
            found = measure(options.task, options.data, options.weights, options.part)
        kept = [
            path for path in (options.out, options.card and card.figures_of(options.card)) if path
        ]
        text = as_json(found, [row for path in kept for row in _history(path)])
        if options.out:
            options.out.write_text(text, encoding="utf-8")
        if options.card:
            card.keep(options.card, text)
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    sys.stdout.write("\n".join(table(one) for one in found.reports))
    return 0


def _history(path: Path) -> list[Mapping[str, object]]:
    """Read which weights touched films before, from the figures that `path` held until now."""
    if not path.exists():
        return []
    try:
        touched = json.loads(path.read_text(encoding="utf-8"))["touched"]
        return [row for row in touched if isinstance(row, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def as_json(found: Evaluation, history: Sequence[Mapping[str, object]] = ()) -> str:
    """Write an evaluation: the first report's figures at the top, others under ``others``.

    ``touched`` lists which weights saw which films, `history` first, each pair once.
    """
    note = {
        "task": found.task,
        "part": found.part,
        "weights_sha256": found.weights_sha256,
        "data_sha256": found.data_sha256,
    }
    touched: list[Mapping[str, object]] = []
    for row in (*history, note):
        touched = [*(one for one in touched if one != row), row]
    before = {
        row["weights_sha256"]
        for row in touched[:-1]
        if row.get("data_sha256") == found.data_sha256
        and row.get("part") == "test"
        and row.get("task", found.task) == found.task
    }
    if found.part == "test" and before - {found.weights_sha256}:
        sys.stderr.write(
            f"note: these test films were reported with {len(before)} other weights before; "
            "choose nothing by them\n"
        )
    first, *others = [report.to_json(one) for one in found.reports]
    body: dict[str, object] = {"format": "bitewing-evaluation/1", **first}
    return report.dumps(body | {"others": others, "touched": touched})


if __name__ == "__main__":
    sys.exit(main())
