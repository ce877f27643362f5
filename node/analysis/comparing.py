"""Two films of one patient compared in the inference process: what is asked, what is answered.

Only there are pixels decoded and OpenCV loaded; the node sends paths, teeth and areas, and gets
transforms and numbers back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from models.bone_change import Affine, Alignment, ToothOnFilm
from node.dicom.object_file import ObjectFile, file_from_json, file_to_json
from node.domain.findings import Box, Point
from node.domain.plain_json import tooth_of
from node.domain.review import Json
from node.domain.teeth import Surface, Tooth


@dataclass(frozen=True, slots=True)
class FilmTeeth:
    """A stored film and where its teeth lie, in its pixels."""

    path: ObjectFile
    teeth: tuple[ToothOnFilm, ...]


@dataclass(frozen=True, slots=True)
class Area:
    """A place on the current film whose grey is compared: the outline of a mark on a tooth."""

    tooth: Tooth
    outline: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every tooth laid over itself; and how much darker each area got, in the order asked."""

    alignments: tuple[Alignment, ...]
    darkening: tuple[float | None, ...]


def request_to_json(now: FilmTeeth, before: FilmTeeth, areas: Sequence[Area]) -> Json:
    """Encode a request for the pipe."""
    return {
        "now": _film_to_json(now),
        "before": _film_to_json(before),
        "areas": [[str(area.tooth), [list(p) for p in area.outline]] for area in areas],
    }


def compare(request: Json) -> dict[str, object]:
    """Serve a request, in the inference process. Raises InvalidInput for unreadable pixels."""
    from models import change
    from node.dicom.pixels import model_input

    films = []
    for name in ("now", "before"):
        data = cast("Json", request[name])
        pixels, spacing = model_input(file_from_json(cast("Mapping[str, str]", data["file"])))
        teeth = {tooth.tooth: tooth for tooth in _teeth_from_json(data["teeth"])}
        films.append(change.Film(pixels, spacing, teeth))
    now, before = films
    alignments = change.register(now, before)
    by_tooth = {each.tooth: each for each in alignments if each.is_usable}
    darkening: list[float | None] = []
    for tooth, outline in cast("Sequence[tuple[str, Sequence[Point]]]", request["areas"]):
        found = by_tooth.get(tooth_of(tooth))
        darkening.append(
            None
            if found is None
            else round(change.darkening(now.pixels, before.pixels, found, outline), 3)
        )
    return {
        "alignments": [
            {
                "tooth": str(each.tooth),
                "transform": list(each.transform),
                "correlation": each.correlation,
                "residual_mm": each.residual_mm,
                "is_usable": each.is_usable,
                "reason": each.reason,
            }
            for each in alignments
        ],
        "darkening": darkening,
    }


def answer_from_json(data: Json) -> Comparison:
    """Decode what :func:`compare` answered."""
    alignments = tuple(
        Alignment(
            tooth_of(str(row["tooth"])),
            cast("Affine", tuple(float(str(v)) for v in cast("Sequence[float]", row["transform"]))),
            float(str(row["correlation"])),
            None if row["residual_mm"] is None else float(str(row["residual_mm"])),
            bool(row["is_usable"]),
            str(row["reason"]),
        )
        for row in cast("Sequence[Json]", data["alignments"])
    )
    return Comparison(alignments, tuple(cast("Sequence[float | None]", data["darkening"])))


def _film_to_json(film: FilmTeeth) -> dict[str, object]:
    return {
        "file": file_to_json(film.path),
        "teeth": [
            {
                "tooth": str(each.tooth),
                "box": [each.box.x0, each.box.y0, each.box.x1, each.box.y1],
                "cej": {side.value: list(point) for side, point in each.cej.items()},
                "apex": {side.value: list(point) for side, point in each.apex.items()},
            }
            for each in film.teeth
        ],
    }


def _teeth_from_json(data: object) -> list[ToothOnFilm]:
    return [
        ToothOnFilm(
            tooth_of(str(row["tooth"])),
            Box(*[float(v) for v in cast("Sequence[float]", row["box"])]),
            _points(cast("Mapping[str, Sequence[float]]", row["cej"])),
            _points(cast("Mapping[str, Sequence[float]]", row["apex"])),
        )
        for row in cast("Sequence[Json]", data)
    ]


def _points(data: Mapping[str, Sequence[float]]) -> dict[Surface, Point]:
    return {Surface(side): (float(point[0]), float(point[1])) for side, point in data.items()}
