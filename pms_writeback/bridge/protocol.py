"""What the bridge and the node say to each other: one versioned, lenient vocabulary in JSON.

Version 2 sends rows as columns once and values after (about half the bytes); version 1 sends every
row as an object. Both sides speak both, so that a node and a bridge one version apart work.
Unknown fields are ignored; an unknown method is answered ``unsupported``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import cast

from node.errors import (
    BitewingError,
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    Rejected,
    Retryable,
    Unsupported,
)
from pms_writeback.pms import CannotSearch, NotLicensed, OutcomeUnknown

Json = Mapping[str, object]
Scalar = str | int | float | bool | None

VERSIONS = (1, 2)
"""The protocol versions this release speaks, oldest first."""

MAX_BODY_BYTES = 40_000_000
"""Largest message: a document of 12 MB as base64, and room."""


class Method(StrEnum):
    """What the node may ask of a bridge."""

    PULL = "pull"
    READ = "read"
    WRITE = "write"
    FIND = "find"


@dataclass(frozen=True, slots=True)
class Request:
    """One question of the node; the same `id` may arrive again after a broken line.

    ``age_s`` is how long ago the node asked it, in seconds.
    """

    id: str
    method: str
    params: Json
    age_s: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Encode it."""
        return {
            "id": self.id,
            "method": self.method,
            "params": dict(self.params),
            "age_s": self.age_s,
        }

    @classmethod
    def from_json(cls, data: object) -> Request:
        """Decode it; raises InvalidInput."""
        fields = as_object(data)
        return cls(
            text(fields, "id"),
            text(fields, "method"),
            as_object(fields.get("params", {})),
            max(number(fields, "age_s", 0.0), 0.0),
        )


_STATUSES: tuple[tuple[str, type[BitewingError]], ...] = (
    ("unknown", OutcomeUnknown),
    ("later", Retryable),
    ("not_licensed", NotLicensed),
    ("cannot_search", CannotSearch),
    ("unsupported", Unsupported),
    ("not_found", NotFound),
    ("conflict", Conflict),
    ("refused", Rejected),
    ("invalid", InvalidInput),
    ("config", ConfigError),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request: ``ok`` with a value, or an error's family and sentence."""

    id: str
    status: str
    value: Json
    message: str = ""
    retry_after_s: float = 5.0

    def to_json(self) -> dict[str, object]:
        """Encode it."""
        return {
            "id": self.id,
            "status": self.status,
            "value": dict(self.value),
            "message": self.message,
            "retry_after_s": self.retry_after_s,
        }

    @classmethod
    def from_json(cls, data: object) -> Answer:
        """Decode it; raises InvalidInput."""
        fields = as_object(data)
        return cls(
            text(fields, "id"),
            text(fields, "status"),
            as_object(fields.get("value", {})),
            str(fields.get("message", ""))[:500],
            number(fields, "retry_after_s", 5.0),
        )

    @classmethod
    def of_error(cls, request_id: str, error: BitewingError) -> Answer:
        """Put an error on the wire: its family and its sentence, which names nobody."""
        status = next(name for name, family in _families() if isinstance(error, family))
        wait_s = error.retry_after_s if isinstance(error, Retryable) else 5.0
        return cls(request_id, status, {}, str(error)[:500], wait_s)

    def result(self) -> Json:
        """Give the value, or raise the error that the bridge answered with."""
        if self.status == "ok":
            return self.value
        family = dict(_STATUSES).get(self.status, Rejected)
        message = self.message or f"the bridge answered {self.status[:30]!r}"
        if issubclass(family, Retryable):
            raise family(message, retry_after_s=min(max(self.retry_after_s, 0.5), 600.0))
        raise family(message)


def _families() -> tuple[tuple[str, type[BitewingError]], ...]:
    return (*_STATUSES, ("refused", BitewingError))


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a PMS table as the bridge last saw it.

    ``changed_at`` is when the bridge first saw it like this, by the clinic machine's clock;
    ``is_gone`` says that it stands in the table no more.
    """

    key: str
    changed_at: datetime
    is_gone: bool
    values: Mapping[str, Scalar]


def rows_to_json(rows: Sequence[TableRow], version: int) -> dict[str, object]:
    """Encode rows as the negotiated version wants them."""
    if version < 2:
        return {"rows": [_row_object(row) for row in rows]}
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    return {
        "columns": columns,
        "rows": [
            [row.key, row.changed_at.isoformat(), row.is_gone, *map(row.values.get, columns)]
            for row in rows
        ],
    }


def rows_from_json(data: Json) -> tuple[TableRow, ...]:
    """Decode rows of either version; raises InvalidInput."""
    columns = data.get("columns")
    found = as_list(data.get("rows", []))
    try:
        if columns is None:
            return tuple(_row_from_object(as_object(each)) for each in found)
        names = [str(name) for name in as_list(columns)]
        return tuple(_row_from_list(as_list(each), names) for each in found)
    except (ValueError, IndexError):
        raise InvalidInput("the bridge sent rows that cannot be read") from None


def _row_object(row: TableRow) -> dict[str, object]:
    return {
        "key": row.key,
        "changed_at": row.changed_at.isoformat(),
        "is_gone": row.is_gone,
        "values": dict(row.values),
    }


def _row_from_object(fields: Json) -> TableRow:
    values = as_object(fields.get("values", {}))
    return TableRow(
        text(fields, "key"),
        datetime.fromisoformat(text(fields, "changed_at")),
        fields.get("is_gone") is True,
        {name: _scalar(value) for name, value in values.items()},
    )


def _row_from_list(row: Sequence[object], names: Sequence[str]) -> TableRow:
    values = zip(names, (_scalar(value) for value in row[3:]), strict=True)
    moment = datetime.fromisoformat(str(row[1]))
    return TableRow(str(row[0]), moment, row[2] is True, dict(values))


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def choose_version(ours: Iterable[int], theirs: object) -> int:
    """Pick the newest version that both speak.

    Raises ConfigError when there is none: one of the two must be updated.
    """
    offered = {each for each in as_list(theirs) if isinstance(each, int)}
    common = offered & set(ours)
    if common:
        return max(common)
    newest, mine = max(offered, default=0), max(ours)
    who = "bridge" if newest < mine else "node"
    raise ConfigError(
        f"no common protocol version (bridge {sorted(offered)}, node {sorted(ours)}):"
        f" update the {who}"
    )


def decode(body: bytes) -> Json:
    """Read one message; raises InvalidInput."""
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError):
        raise InvalidInput("not a message of the bridge protocol") from None


def as_object(data: object) -> Json:
    """Read a JSON object; raises InvalidInput."""
    if not isinstance(data, dict):
        raise InvalidInput("a message of the bridge protocol is an object")
    return cast(Json, data)


def as_list(data: object) -> Sequence[object]:
    """Read a JSON list; raises InvalidInput."""
    if not isinstance(data, list):
        raise InvalidInput("a list was expected in a message of the bridge protocol")
    return cast(Sequence[object], data)


def text(fields: Json, name: str) -> str:
    """Read a text that must be there; raises InvalidInput."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"a message of the bridge protocol lacks {name!r}")
    return value


def number(fields: Json, name: str, default: float) -> float:
    """Read a number, or `default` when it is missing or none."""
    value = fields.get(name, default)
    return float(value) if isinstance(value, int | float) else default
