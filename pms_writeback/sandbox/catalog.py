"""The operations of the Open Dental API that the sandbox knows, read from ``catalog.json``.

The file holds facts of the public API manual: method, path, first version, permission, inputs and
row fields with their JSON types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypedDict

Version = tuple[int, ...]


def parse_version(text: str) -> Version:
    """Read "24.2.29" as numbers that compare; trailing zeros do not count."""
    parts = [int(part) for part in text.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One input; ``need`` is required, one_of or optional, ``values`` the allowed texts."""

    name: str
    need: str
    since: Version
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method and path; ``row`` maps the answer's fields to JSON types, in wire order."""

    method: str
    path: str
    since: Version
    permission: str
    parameters: tuple[Parameter, ...]
    row: Mapping[str, str]

    @property
    def resource(self) -> str:
        """First part of the path: "patients"."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """Method and path template, as the manual writes it."""
        return f"{self.method} {self.path}"


class _RawParameter(TypedDict, total=False):
    name: str
    need: str
    since: str
    values: list[str]


class _RawOperation(TypedDict):
    method: str
    path: str
    since: str
    permission: str
    params: list[_RawParameter]
    row: dict[str, str]


@cache
def operations() -> tuple[Operation, ...]:
    """Read the catalogue."""
    text = (files("pms_writeback.sandbox") / "catalog.json").read_text("utf-8")
    raw: list[_RawOperation] = json.loads(text)["operations"]
    return tuple(
        Operation(
            method=item["method"],
            path=item["path"],
            since=parse_version(item["since"]),
            permission=item["permission"],
            parameters=tuple(_parameter(each) for each in item["params"]),
            row=item["row"],
        )
        for item in raw
    )


def _parameter(raw: _RawParameter) -> Parameter:
    return Parameter(
        name=raw["name"],
        need=raw["need"],
        since=parse_version(raw.get("since", "0")),
        values=tuple(raw.get("values", ())),
    )


@dataclass(frozen=True, slots=True)
class Match:
    """An operation found for a request, with the primary key of the path, if it has one."""

    operation: Operation
    key: int | None


def match(method: str, path: str) -> Match | None:
    """Find the operation for ``/patients/12``; words win over ``{id}``."""
    parts = path.strip("/").split("/")
    found: Match | None = None
    for operation in operations():
        if operation.method != method:
            continue
        template = operation.path.strip("/").split("/")
        if template == parts:
            return Match(operation, None)
        key = _key(template, parts)
        if key is not None:
            found = Match(operation, key)
    return found


def _key(template: list[str], parts: list[str]) -> int | None:
    if len(template) != len(parts):
        return None
    key: int | None = None
    for wanted, given in zip(template, parts, strict=True):
        if wanted == "{id}" and given.isascii() and given.isdigit() and len(given) < 19:
            key = int(given)
        elif wanted != given:
            return None
    return key
