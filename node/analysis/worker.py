"""The inference process: reads one request a line from standard input, answers one JSON line.

A request names stored files to analyse, or two to compare (:mod:`node.analysis.comparing`).

It runs apart from the node, so that a crashing decoder, a network out of memory or a GPU fault
costs no association and no other image. It ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from node import logs
from node.dicom.object_file import ObjectFile, file_from_json
from node.domain.findings import (
    Box,
    ImageAnalysis,
    QualityFlag,
    QualityKind,
    ToothMark,
    View,
)
from node.domain.image_json import (
    flag_from_json,
    flag_to_json,
    orientation_from_json,
    orientation_to_json,
    outline_from_json,
    outline_to_json,
    points_from_json,
    points_to_json,
    site_from_json,
    site_to_json,
)
from node.domain.review import (
    Json,
    finding_from_json,
    finding_to_json,
    model_from_json,
    model_to_json,
)
from node.domain.teeth import Tooth
from node.errors import BitewingError, InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from models.pipeline import Pipeline
    from models.registry import Choice

#: How many images a GPU reads at once.
_BATCH = 8


def analysis_to_json(analysis: ImageAnalysis) -> dict[str, object]:
    """Encode an analysis for the pipe."""
    return {
        "view": analysis.view.value if analysis.view else None,
        "view_probability": analysis.view_probability,
        "teeth": [
            {
                "tooth": mark.tooth.code,
                "box": [mark.box.x0, mark.box.y0, mark.box.x1, mark.box.y1],
                "outline": outline_to_json(mark.outline),
                "probability": mark.probability,
                "model": model_to_json(mark.model),
            }
            for mark in analysis.teeth
        ],
        "findings": [finding_to_json(finding) for finding in analysis.findings],
        "models": [model_to_json(model) for model in analysis.models],
        "absent": list(analysis.absent),
        "notes": list(analysis.notes),
        "side": analysis.side,
        "region": analysis.region,
        "orientation": orientation_to_json(analysis.orientation),
        "quality": [flag_to_json(flag) for flag in analysis.quality],
        "sites": [site_to_json(site) for site in analysis.sites],
        "operating_points": points_to_json(analysis.operating_points),
    }


def analysis_from_json(data: Json) -> ImageAnalysis:
    """Decode what :func:`analysis_to_json` wrote."""
    view = data["view"]
    return ImageAnalysis(
        view=View(view) if view else None,
        view_probability=_optional_float(data["view_probability"]),
        teeth=tuple(
            ToothMark(
                Tooth(str(item["tooth"])),
                Box(*[float(v) for v in item["box"]]),
                float(item["probability"]),
                model_from_json(item["model"]),
                outline_from_json(item["outline"]),
            )
            for item in _items(data["teeth"])
        ),
        findings=tuple(finding_from_json(item) for item in _items(data["findings"])),
        models=tuple(model_from_json(item) for item in _items(data["models"])),
        absent=tuple(str(task) for task in _items(data["absent"])),
        notes=tuple(str(note) for note in _items(data["notes"])),
        side=str(data["side"]),
        region=str(data["region"]),
        orientation=orientation_from_json(cast("Json", data["orientation"])),
        quality=tuple(flag_from_json(item) for item in _items(data["quality"])),
        sites=tuple(site_from_json(item) for item in _items(data["sites"])),
        operating_points=points_from_json(cast("Json", data["operating_points"])),
    )


def main(arguments: list[str]) -> int:
    """Serve requests until standard input closes; `arguments` are JSON options from the parent."""
    options = json.loads(arguments[0])
    logs.configure(options["log_level"])
    # Anything a codec prints must not reach the pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        served = _load(options)
    except BitewingError as error:
        _answer(answers, {"fatal": str(error)})
        return 2
    live = served.pipelines[0]
    _answer(
        answers,
        {
            "ready": True,
            "models": [model_to_json(model) for model in live.versions],
            "absent": list(live.absent),
            "at_once": served.at_once,
        },
    )
    for line in sys.stdin:
        request = json.loads(line)
        if "compare" in request:
            found = [_compare(request["compare"])]
        else:
            pipeline = served.pipelines[request["pipeline"]]
            found = _serve(pipeline, [file_from_json(data) for data in request["files"]])
        _answer(answers, {"answers": found})
    return 0


@dataclass(frozen=True, slots=True)
class _Served:
    """What this process runs: the live pipeline, then one with each shadow network in place."""

    pipelines: Sequence[Pipeline]
    at_once: int


def _load(options: Json) -> _Served:
    """Load what the parent asks for; a process of shadows makes way for everything else."""
    from models.pipeline import Pipeline
    from models.registry import Role, choices

    root = Path(str(options["weights_dir"])) if options["weights_dir"] else None
    disabled = [str(task) for task in _items(options["disabled"])]
    chosen = [_choice(item) for item in _items(options["models"])]
    shadows = [_choice(item) for item in _items(options["shadows"])]
    if shadows and hasattr(os, "nice"):
        os.nice(19)
    is_live = any(choice.role is Role.LIVE for choice in choices(chosen, root, disabled))
    if not is_live and not shadows:  # PyTorch is not needed for nothing
        return _Served([Pipeline()], 1)
    from models import runtime

    threads = int(str(options["threads"]))
    how = runtime.Options(
        cast("runtime.RuntimeName", options["runtime"]),
        cast("runtime.DeviceName", options["device"]),
        threads,
        Path(str(options["cache"])) if options["cache"] else None,
    )
    live = Pipeline.load(root, disabled, threads, chosen, how)
    live.warm_up()
    is_gpu = runtime.device(how.device).type == "cuda"
    pipelines = [live, *(live.with_network(shadow, how) for shadow in shadows)]
    return _Served(pipelines, _BATCH if is_gpu else 1)


def _choice(item: Mapping[str, str]) -> Choice:
    from models.registry import Choice, Role

    return Choice(item["task"], Path(item["dir"]), item["version"], Role(item["role"]))


def _serve(pipeline: Pipeline, files: Sequence[ObjectFile]) -> list[dict[str, object]]:
    """Read files and analyse together those that can be read."""
    from models.pipeline import Film
    from node.dicom.pixels import model_input
    from node.dicom.subject import read_subject

    answers: list[dict[str, object]] = [{} for _ in files]
    images = {}
    declared: set[int] = set()
    for number, file in enumerate(files):
        try:
            pixels, spacing = model_input(file)
            subject = read_subject(file)
            if subject.is_lettered:
                declared.add(number)
            images[number] = Film(pixels, spacing, subject.age_years, subject.side)
        except InvalidInput as error:
            answers[number] = {"unreadable": str(error)}
    outcomes = pipeline.analyse_all(list(images.values()))
    for number, outcome in zip(images, outcomes, strict=True):
        if isinstance(outcome, ImageAnalysis):
            flag = _lettering(images[number].pixels, number in declared)
            outcome = replace(outcome, quality=(*outcome.quality, *flag))
        answers[number] = _outcome_to_json(outcome)
    return answers


def _lettering(pixels: np.ndarray, is_declared: bool) -> tuple[QualityFlag, ...]:
    """Flag lettering in the picture, declared by its sender or seen."""
    from models.lettering import find_lettering

    lines = len(find_lettering(pixels))
    if not lines and not is_declared:
        return ()
    words = "The sender says that lettering is burned into the picture."
    if lines:
        count = "a line" if lines == 1 else f"{lines} lines"
        words = f"There seems to be {count} of lettering in the picture; it may name the patient."
    return (QualityFlag(QualityKind.LETTERING, words),)


def _outcome_to_json(outcome: ImageAnalysis | Exception) -> dict[str, object]:
    match outcome:
        case InvalidInput():
            return {"unreadable": str(outcome)}
        case Exception():
            return {"failed": f"the models failed ({type(outcome).__name__})"}
        case _:
            return {"analysis": analysis_to_json(outcome)}


def _compare(request: Json) -> dict[str, object]:
    from node.analysis.comparing import compare

    try:
        return {"comparison": compare(request)}
    except InvalidInput as error:
        return {"unreadable": str(error)}
    except Exception as error:  # noqa: BLE001 - an edge: the parent decides what to do
        return {"failed": f"the comparison failed ({type(error).__name__})"}


def _answer(stream: TextIO, data: Mapping[str, object]) -> None:
    stream.write(json.dumps(data) + "\n")
    stream.flush()


def _items(value: object) -> list:  # type: ignore[type-arg]
    assert isinstance(value, list)
    return value


def _optional_float(value: object) -> float | None:
    return None if value is None else float(str(value))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
