"""What a node said of films, read back to be measured: ``training.evaluate --predictions FILE``.

``FILE`` is a JSON object: the file name of each film, and what ``bitewing export-findings --json``
says of its image (one of ``images``). Only suggestions that the node made are in there, so curves
end at its review points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from models.intraoral_reading import IntraoralReading
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    Geometry,
    Line,
    ModelVersion,
    Point,
    Polygon,
    ToothMark,
    View,
)
from node.domain.image_json import outline_from_json, points_from_json, site_from_json
from node.domain.review import Json, finding_from_json
from node.domain.teeth import Tooth
from node.errors import BitewingError, InvalidInput

_NODE = ModelVersion("node", "0.0.0", "0" * 64)


@dataclass(frozen=True, slots=True)
class Said:
    """What a node said of one film; ``size`` is its image's (columns, rows)."""

    view: View | None
    view_probability: float
    reading: IntraoralReading
    points: Mapping[FindingKind, Mapping[str, float]]
    size: tuple[int, int]

    def teeth(self, width: int, height: int) -> tuple[ToothMark, ...]:
        """Give the teeth in the pixels of a film of this width and height."""
        fx, fy = width / self.size[0], height / self.size[1]
        return tuple(
            replace(
                mark,
                box=Box(mark.box.x0 * fx, mark.box.y0 * fy, mark.box.x1 * fx, mark.box.y1 * fy),
                outline=_scaled(mark.outline, fx, fy),
            )
            for mark in self.reading.teeth
        )

    def findings(self, width: int, height: int) -> tuple[Finding, ...]:
        """Give the findings in the pixels of a film of this width and height."""
        fx, fy = width / self.size[0], height / self.size[1]
        return tuple(
            replace(mark, geometry=_moved(mark.geometry, fx, fy)) for mark in self.reading.findings
        )


def _scaled(points: Sequence[Point], fx: float, fy: float) -> tuple[Point, ...]:
    return tuple((x * fx, y * fy) for x, y in points)


def _moved(geometry: Geometry, fx: float, fy: float) -> Geometry:
    points = _scaled(geometry.points, fx, fy)
    match geometry:
        case Box():
            return Box(*points[0], *points[1])
        case Polygon():
            return Polygon(points)
        case Line():
            return Line(points)


def read(path: Path) -> dict[str, Said]:
    """Read what was said of each film, by file name; raises InvalidInput when `path` is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _said(image) for name, image in content.items()}
    except BitewingError as error:
        raise InvalidInput(f"{path} holds what no node says: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is not a file of predictions: {error!r}") from error


def _said(image: Json) -> Said:
    points = points_from_json(cast("Json | None", image.get("operating_points")))
    findings = [
        finding_from_json(item)
        for item in cast("Sequence[Json]", image["findings"])
        if item.get("origin", "ai") == "ai"
    ]
    reading = IntraoralReading(
        teeth=tuple(_tooth(item) for item in cast("Sequence[Json]", image["teeth"])),
        findings=tuple(findings),
        sites=tuple(
            site_from_json(item) for item in cast("Sequence[Json]", image.get("sites") or ())
        ),
    )
    view, probability = image["view"], image.get("view_probability")
    return Said(
        view=View(view) if view else None,
        view_probability=float(str(probability)) if probability is not None else 0.0,
        reading=reading,
        points={
            kind: {"review": point.review, "high_specificity": point.high_specificity}
            for kind, point in points.items()
        },
        size=(int(str(image["columns"])), int(str(image["rows"]))),
    )


def _tooth(item: Json) -> ToothMark:
    x0, y0, x1, y1 = (float(v) for v in cast("Sequence[float]", item["box"]))
    outline = outline_from_json(item.get("outline"))
    probability = float(str(item["probability"]))
    return ToothMark(Tooth(str(item["tooth"])), Box(x0, y0, x1, y1), probability, _NODE, outline)


def said_of(said: Mapping[str, Said], path: Path) -> Said:
    """Look up what was said of a film; raises InvalidInput when nothing was."""
    try:
        return said[path.name]
    except KeyError:
        raise InvalidInput(f"the predictions say nothing of {path.name}") from None


def frozen_points(said: Mapping[str, Said]) -> dict[FindingKind, Mapping[str, float]]:
    """Give the operating points the node had; where it states none, all it suggested counts."""
    points: dict[FindingKind, Mapping[str, float]] = {}
    for one in said.values():
        points |= one.points
        for finding in one.reading.findings:
            points.setdefault(finding.kind, {"review": 0.0})
    return points
