"""What one operation makes of one finding: pure, checked, nothing written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from node.domain.findings import (
    Box,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Geometry,
    Line,
    Polygon,
)
from node.domain.review import (
    Json,
    finding_from_json,
    finding_to_json,
    geometry_from_json,
    geometry_to_json,
)
from node.errors import InvalidInput, Rejected
from node.web.facts import Row
from node.web.shapes import AddData, OpKind, RejectReason

#: What an operation may change, and what undo puts back.
CHANGEABLE = (
    "kind",
    "tooth",
    "surfaces",
    "depth",
    "value_mm",
    "value_percent",
    "geometry",
    "original",
    "state",
    "disposition",
    "reason",
    "comment",
    "decided_by",
    "decided_at",
    "is_removed",
)
_WITH_DEPTH = {kind.value for kind in FindingKind if kind.is_caries}
_CONTENT = ("kind", "tooth", "surfaces", "depth", "value_mm", "value_percent", "geometry")
_SURFACE_ORDER = "MODIBL"
_MIN_SIDE_PX = 3.0
_MAX_COMMENT = 500
_SLACK_PX = 0.01

_S = DecisionState
_DECIDED = (_S.ACCEPTED.value, _S.EDITED.value)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The image a mark lies on: its size in pixels and its spacing in millimetres."""

    rows: int
    columns: int
    mm_row: float | None
    mm_col: float | None
    spacing_kind: str


def canvas_of(image: Row) -> Canvas:
    """Take the size and spacing of an image row. Raises Rejected when it has no pixels."""
    if not image.rows or not image.columns:
        raise Rejected("This image has no pixels to mark.")
    return Canvas(
        image.rows,
        image.columns,
        image.spacing_mm_row,
        image.spacing_mm_col,
        image.spacing_kind,
    )


def snapshot(row: Row) -> dict[str, object]:
    """Keep what undo puts back, as JSON."""
    kept = {name: getattr(row, name) for name in CHANGEABLE}
    kept["decided_at"] = row.decided_at.isoformat() if row.decided_at else None
    return kept


def restored(before: Json) -> dict[str, object]:
    """Turn a snapshot back into column values."""
    values = {name: before[name] for name in CHANGEABLE}
    text = before["decided_at"]
    values["decided_at"] = datetime.fromisoformat(str(text)) if text else None
    return values


def edit(
    row: Row, kind: OpKind, data: Json, canvas: Canvas, user_id: str, now: datetime
) -> dict[str, object]:
    """Return the column values that an operation on an existing finding changes.

    Raises InvalidInput when the data are not acceptable, Rejected when the finding's state does
    not allow it.
    """
    decided: dict[str, object] = {"decided_by": user_id, "decided_at": now}
    match kind:
        case OpKind.ACCEPT:
            is_edited = row.original is not None
            state = _S.EDITED if is_edited else _S.ACCEPTED
            return {**decided, "state": state.value, "reason": ""}
        case OpKind.REJECT:
            reason = _reject_reason(data)
            return {**decided, "state": _S.REJECTED.value, "reason": reason, "disposition": None}
        case OpKind.SET_DISPOSITION:
            return {"disposition": _disposition(row, data)}
        case OpKind.COMMENT:
            return {"comment": _comment(data)}
        case _:
            return {**decided, **_changed_content(row, kind, data, canvas)}


def added(data: Json, canvas: Canvas, user_id: str, now: datetime) -> dict[str, object]:
    """Return the column values of a mark that a person adds; born accepted."""
    mark = AddData.model_validate(data)
    values = mark.model_dump(exclude={"image_id", "comment"})
    values["geometry"] = _checked(geometry_from_json(values["geometry"]), canvas)
    values["surfaces"] = _surfaces(values["surfaces"])
    content = _valid(values)
    if content["kind"] == FindingKind.BONE_LEVEL.value and content["value_mm"] is None:
        content["value_mm"] = _length_mm(content["geometry"], canvas)
    return {
        **content,
        "origin": "human",
        "state": _S.ACCEPTED.value,
        "comment": mark.comment,
        "reason": "",
        "disposition": None,
        "original": None,
        "probability": None,
        "model": None,
        "decided_by": user_id,
        "decided_at": now,
        "is_removed": False,
    }


def _changed_content(row: Row, kind: OpKind, data: Json, canvas: Canvas) -> dict[str, object]:
    if row.state == _S.REJECTED.value:
        raise Rejected("This finding is rejected. Accept it before you change it.")
    content: dict[str, object] = {name: getattr(row, name) for name in _CONTENT}
    before = dict(content)
    match kind:
        case OpKind.SET_GEOMETRY:
            geometry = geometry_from_json(_mapping(data.get("geometry")))
            content["geometry"] = _checked(geometry, canvas)
            if row.kind == FindingKind.BONE_LEVEL.value:
                content["value_mm"] = _length_mm(content["geometry"], canvas)
                content["value_percent"] = None
        case OpKind.SET_CLASS:
            content["kind"] = data.get("kind")
            if content["kind"] not in _WITH_DEPTH:
                content["depth"] = None
            if content["kind"] != FindingKind.BONE_LEVEL.value:
                content["value_mm"] = content["value_percent"] = None
        case OpKind.SET_TOOTH:
            content["tooth"] = data.get("tooth")
            content["surfaces"] = _surfaces(data.get("surfaces"))
        case OpKind.SET_DEPTH:
            content["depth"] = data.get("depth")
        case OpKind.SET_VALUE:
            content["value_mm"] = data.get("value_mm")
            content["value_percent"] = data.get("value_percent")
        case _:
            raise InvalidInput("That is not a change of a finding.")
    content = _valid(content)
    if row.origin == "human":
        return {**content, "state": _S.ACCEPTED.value}
    return {**content, "original": row.original or before, "state": _S.EDITED.value}


def _valid(content: Mapping[str, object]) -> dict[str, object]:
    """Check content by the domain's own rules and give it back in stored form."""
    value = finding_from_json(content)
    _fits_kind(value)
    if value.value_percent is not None and not 0.0 <= value.value_percent <= 100.0:
        raise InvalidInput("bone loss lies between 0 and 100 percent")
    encoded = finding_to_json(value)
    return {name: encoded[name] for name in _CONTENT}


def _fits_kind(value: Finding) -> None:
    if (value.kind is FindingKind.BONE_LEVEL) != isinstance(value.geometry, Line):
        raise InvalidInput("a bone level is a line, and only a bone level is; add the mark anew")
    if value.kind is not FindingKind.BONE_LEVEL and value.value_mm is not None:
        raise InvalidInput("only a bone level has millimetres")


def _checked(geometry: Geometry, canvas: Canvas) -> dict[str, object]:
    """Check that a shape lies inside the image and is at least 3 pixels; give it as JSON."""
    xs = [x for x, _ in geometry.points]
    ys = [y for _, y in geometry.points]
    inside = (
        min(xs) >= -_SLACK_PX
        and min(ys) >= -_SLACK_PX
        and max(xs) <= canvas.columns + _SLACK_PX
        and max(ys) <= canvas.rows + _SLACK_PX
    )
    if not inside:
        raise InvalidInput("the mark must lie inside the image")
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    match geometry:
        case Line():
            is_large = (width**2 + height**2) ** 0.5 >= _MIN_SIDE_PX
        case Box() | Polygon():
            is_large = min(width, height) >= _MIN_SIDE_PX
    if not is_large:
        raise InvalidInput("the mark must be at least 3 pixels large")
    return geometry_to_json(geometry)


def _length_mm(geometry: object, canvas: Canvas) -> float | None:
    """Length of a line on the plane of its spacing; None when millimetres are unknown."""
    if canvas.spacing_kind == "unknown" or not canvas.mm_row or not canvas.mm_col:
        return None
    (x0, y0), (x1, y1) = geometry_from_json(_mapping(geometry)).points
    across, down = (x1 - x0) * canvas.mm_col, (y1 - y0) * canvas.mm_row
    return round(float((across**2 + down**2) ** 0.5), 2)


def _reject_reason(data: Json) -> str:
    reason = data.get("reason") or ""
    if reason and reason not in {known.value for known in RejectReason}:
        raise InvalidInput("that is not one of the reasons for rejecting")
    return str(reason)


def _disposition(row: Row, data: Json) -> str | None:
    if row.state not in _DECIDED:
        raise Rejected("Accept the finding before you say what is to be done.")
    wanted = data.get("disposition")
    if wanted is not None and wanted not in {known.value for known in Disposition}:
        raise InvalidInput("that is not a disposition")
    return str(wanted) if wanted is not None else None


def _comment(data: Json) -> str:
    text = data.get("text")
    if not isinstance(text, str) or len(text) > _MAX_COMMENT:
        raise InvalidInput(f"a comment is a text of at most {_MAX_COMMENT} characters")
    return text.strip()


def _surfaces(value: object) -> str:
    letters = str(value or "")
    if len(set(letters)) != len(letters) or not set(letters) <= set(_SURFACE_ORDER):
        raise InvalidInput("surfaces are letters of MODIBL, each once")
    return "".join(letter for letter in _SURFACE_ORDER if letter in letters)


def _mapping(value: object) -> Json:
    if not isinstance(value, dict):
        raise InvalidInput("a geometry has a type and a list of [x, y] points")
    return cast("Json", value)
