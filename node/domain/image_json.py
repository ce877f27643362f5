"""What an analysis says of an image beyond its findings, as JSON and back.

The inference process, the ``analysis_run`` table, the export and the page speak of sites, quality
and orientation in this one form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from node.domain.findings import (
    UPRIGHT,
    BoneSite,
    FindingKind,
    OperatingPoint,
    Orientation,
    Point,
    QualityFlag,
    QualityKind,
)
from node.domain.review import Json
from node.domain.teeth import Surface, Tooth


def site_to_json(site: BoneSite) -> dict[str, object]:
    """Encode a bone site."""
    return {
        "tooth": site.tooth.code,
        "surface": site.surface.value,
        "cej": _rounded(site.cej),
        "crest": _rounded(site.crest),
        "apex": _rounded(site.apex) if site.apex else None,
        "level_mm": site.level_mm,
        "percent": site.percent,
        "probability": site.probability,
    }


def site_from_json(data: Json) -> BoneSite:
    """Decode what :func:`site_to_json` wrote."""
    return BoneSite(
        tooth=Tooth(str(data["tooth"])),
        surface=Surface(data["surface"]),
        cej=_point(data["cej"]),
        crest=_point(data["crest"]),
        apex=_point(data["apex"]) if data["apex"] else None,
        level_mm=_number(data["level_mm"]),
        percent=_number(data["percent"]),
        probability=float(str(data["probability"])),
    )


def flag_to_json(flag: QualityFlag) -> dict[str, object]:
    """Encode a quality flag."""
    return {
        "kind": flag.kind.value,
        "detail": flag.detail,
        "probability": flag.probability,
        "teeth": [tooth.code for tooth in flag.teeth],
        "is_disqualifying": flag.is_disqualifying,
    }


def flag_from_json(data: Json) -> QualityFlag:
    """Decode what :func:`flag_to_json` wrote."""
    return QualityFlag(
        kind=QualityKind(data["kind"]),
        detail=str(data["detail"]),
        probability=_number(data["probability"]),
        teeth=tuple(Tooth(code) for code in cast("Sequence[str]", data["teeth"])),
        is_disqualifying=bool(data["is_disqualifying"]),
    )


def orientation_to_json(orientation: Orientation) -> dict[str, object]:
    """Encode how an image lies."""
    return {
        "quarter_turns": orientation.quarter_turns,
        "is_mirrored": orientation.is_mirrored,
        "is_inverted": orientation.is_inverted,
    }


def orientation_from_json(data: Json | None) -> Orientation:
    """Decode what :func:`orientation_to_json` wrote; None is an image that lies as it should."""
    if data is None:
        return UPRIGHT
    return Orientation(
        quarter_turns=int(str(data["quarter_turns"])),
        is_mirrored=bool(data["is_mirrored"]),
        is_inverted=bool(data["is_inverted"]),
    )


def points_to_json(points: Mapping[FindingKind, OperatingPoint]) -> dict[str, object]:
    """Encode operating points by kind of finding."""
    return {
        kind.value: {"review": point.review, "high_specificity": point.high_specificity}
        for kind, point in points.items()
    }


def points_from_json(data: Json | None) -> dict[FindingKind, OperatingPoint]:
    """Decode what :func:`points_to_json` wrote."""
    return {
        FindingKind(kind): OperatingPoint(**cast("Mapping[str, float]", point))
        for kind, point in (data or {}).items()
    }


def outline_to_json(outline: Sequence[Point]) -> list[list[float]] | None:
    """Encode a tooth's outline; None when there is none."""
    return [_rounded(point) for point in outline] or None


def outline_from_json(data: object) -> tuple[Point, ...]:
    """Decode what :func:`outline_to_json` wrote."""
    return tuple(_point(point) for point in cast("Sequence[object]", data or ()))


def _rounded(point: Point) -> list[float]:
    return [round(point[0], 2), round(point[1], 2)]


def _point(value: object) -> Point:
    x, y = cast("Sequence[float]", value)
    return float(x), float(y)


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))
