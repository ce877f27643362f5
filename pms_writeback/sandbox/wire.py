"""How rows and requests look on the wire: shaping, reading and refusing, in the manual's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from pms_writeback.sandbox.catalog import Operation, Parameter, Version
from pms_writeback.sandbox.store import Row, Value
from pms_writeback.sandbox.tables import FIELD_TYPES

Shaped = dict[str, str | int | float | list[int]]
"""A row as it is answered."""


class Refusal(Exception):
    """An answer that is not 2xx: its status and the human sentence in its body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed the door, with its inputs checked and typed.

    ``given`` are body fields (or query parameters of a GET); ``lists`` are array fields.
    """

    operation: Operation
    key: int | None
    given: Row
    version: Version
    lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    limit: int = 100
    offset: int = 0

    def text(self, name: str) -> str:
        """Give an input as text, empty when left out."""
        return str(self.given.get(name, ""))

    def number(self, name: str) -> int:
        """Give a key or count, 0 when left out."""
        return int(self.given.get(name, 0) or 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the JSON to send (None for an empty body) and the created row's path."""

    status: int
    body: Shaped | list[Shaped] | str | None = None
    location: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def read_query(operation: Operation, query: Mapping[str, str], version: Version) -> Row:
    """Check and type the filters of a GET.

    Filters newer than the office's version are ignored, as observed in the field; unknown ones
    are refused by name, on the oldest lists ignored silently.
    """
    given: Row = {}
    known = {each.name: each for each in operation.parameters}
    for name, text in query.items():
        if name in _PAGING:
            continue
        parameter = known.get(name)
        if parameter is None:
            if operation.since > (21, 1) or name == "DateTStamp":
                raise Refusal(400, f"'{name}' is not a valid parameter.")
            continue
        if parameter.since <= version and text != "":
            given[name] = _typed(operation, parameter, text)
    _check_required(operation, given, {})
    return given


_PAGING = frozenset({"Limit", "Offset", "DateFormatString", "DateTimeFormatString"})


def read_page(query: Mapping[str, str], cap: int) -> tuple[int, int]:
    """Read Limit and Offset; more than the cap is the cap."""
    numbers = []
    for name, default in (("Limit", cap), ("Offset", 0)):
        text = query.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise Refusal(400, f"{name} is invalid.")
        numbers.append(int(text))
    return min(numbers[0] or cap, cap), numbers[1]


def read_body(
    operation: Operation, body: bytes, version: Version
) -> tuple[Row, dict[str, tuple[int, ...]]]:
    """Check and type a JSON body; fields unknown or newer than the office are ignored."""
    try:
        raw: object = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refusal(400, "Request body is not valid JSON.") from None
    if not isinstance(raw, dict):
        raise Refusal(400, "Request body must be a JSON object.")
    given: Row = {}
    lists: dict[str, tuple[int, ...]] = {}
    for parameter in operation.parameters:
        value: object = raw.get(parameter.name)
        if isinstance(value, str) and not _is_text(value):
            raise Refusal(400, f"{parameter.name} is invalid.")
        if value is None or parameter.since > version:
            continue
        if isinstance(value, list) and _may_list(operation, parameter):
            lists[parameter.name] = _numbers(parameter.name, value)
        elif isinstance(value, bool):
            given[parameter.name] = _typed(operation, parameter, "true" if value else "false")
        elif isinstance(value, str | int | float):
            given[parameter.name] = _typed(operation, parameter, str(value))
        else:
            raise Refusal(400, f"{parameter.name} is invalid.")
    _check_required(operation, given, lists)
    return given, lists


def _may_list(operation: Operation, parameter: Parameter) -> bool:
    """Tell whether an input may be a list of keys: it is no scalar field and no choice of words."""
    kind = FIELD_TYPES.get(operation.resource, {}).get(parameter.name, "array")
    return kind == "array" and not parameter.values


def _is_text(value: str) -> bool:
    """Tell whether a string is whole Unicode characters, no halves of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _numbers(name: str, values: list[object]) -> tuple[int, ...]:
    if not all(isinstance(value, int) for value in values):
        raise Refusal(400, f"{name} must be a list of numbers.")
    return tuple(value for value in values if isinstance(value, int))


def _check_required(operation: Operation, given: Row, lists: Mapping[str, tuple[int, ...]]) -> None:
    for parameter in operation.parameters:
        missing = given.get(parameter.name, "") == "" and parameter.name not in lists
        if parameter.need == "required" and missing:
            raise Refusal(400, f"{parameter.name} is required")
    group = [each.name for each in operation.parameters if each.need == "one_of"]
    needed = operation.method == "POST" or operation.path.endswith("/Confirm")
    if group and needed and not any(name in given or name in lists for name in group):
        raise Refusal(400, f"{' or '.join(group)} is required")


def _typed(operation: Operation, parameter: Parameter, text: str) -> Value:
    name = parameter.name
    if parameter.values:
        for allowed in parameter.values:
            if allowed.lower() == text.lower():
                return allowed
        raise Refusal(400, f"{name} is invalid. Allowed: {', '.join(parameter.values)}.")
    kind = FIELD_TYPES.get(operation.resource, {}).get(name) or _KINDS.get(name, "string")
    if operation.method == "GET" and kind in ("date", "datetime"):
        return _moment_filter(name, text)
    return _READERS.get(kind, _as_text)(name, text)


_KINDS = {
    "date": "date",
    "dateStart": "date",
    "dateEnd": "date",
    "DateTStamp": "datetime",
    "defNum": "int",
}


def _moment_filter(name: str, text: str) -> str:
    for reader in (_as_datetime, _as_date):
        try:
            return str(reader(name, text))
        except Refusal:
            continue
    raise Refusal(400, f"{name} is not a valid date.")


def _as_text(_name: str, text: str) -> str:
    return text


def _as_int(name: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise Refusal(400, f"{name} is invalid.")
    return int(text)


def _as_number(name: str, text: str) -> float:
    if not re.fullmatch(r"-?\d{1,15}(\.\d+)?", text):
        raise Refusal(400, f"{name} is invalid.")
    return float(text)


def _as_decimal(name: str, text: str) -> str:
    return f"{_as_number(name, text):.2f}"


def _as_bool(name: str, text: str) -> str:
    if text.lower() not in ("true", "false"):
        raise Refusal(400, f'{name} is invalid. Use "true" or "false".')
    return text.lower()


def _as_date(name: str, text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            pass
    raise Refusal(400, f"{name} is not a valid date. Use yyyy-MM-dd.")


def _as_datetime(name: str, text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", text):
        try:
            return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
        except ValueError:
            pass
    raise Refusal(400, f"{name} is not a valid datetime. Use yyyy-MM-dd HH:mm:ss.")


def _as_time(name: str, text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d", text):
        raise Refusal(400, f"{name} is not a valid time. Use HH:mm:ss.")
    return text


_READERS: dict[str, Callable[[str, str], Value]] = {
    "int": _as_int,
    "int-string": _as_int,
    "number": _as_number,
    "decimal-string": _as_decimal,
    "bool-string": _as_bool,
    "date": _as_date,
    "datetime": _as_datetime,
    "time": _as_time,
    "string": _as_text,
}


def shape(kinds: Mapping[str, str], values: Mapping[str, str | int | float | list[int]]) -> Shaped:
    """Put a row into the fields and JSON types of one answer."""
    return {name: _wire(kind, values.get(name, _EMPTY[kind])) for name, kind in kinds.items()}


_EMPTY: dict[str, str | int | list[int]] = {
    "int": 0,
    "int-string": 0,
    "number": 0,
    "decimal-string": "0.00",
    "bool-string": "false",
    "date": "0001-01-01",
    "datetime": "0001-01-01 00:00:00",
    "time": "00:00:00",
    "string": "",
    "array": [],
}


def _wire(kind: str, value: str | int | float | list[int]) -> str | int | float | list[int]:
    if kind in ("int-string", "string"):
        return str(value)
    return value


def one_line(row: Shaped) -> Shaped:
    """Turn line breaks into spaces, as lists do."""
    return {
        name: re.sub(r"\r\n|\r|\n", " ", value) if isinstance(value, str) else value
        for name, value in row.items()
    }
