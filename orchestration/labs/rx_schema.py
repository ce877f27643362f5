"""The JSON schema of prescriptions, derived from the value itself; ``python -m`` prints it.

The shipped ``lab_rx.v1.schema.json`` must equal it: a test compares them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from datetime import date, datetime
from enum import Enum
from pathlib import Path

from node.domain.teeth import Tooth
from orchestration.labs.prescription import SCHEMA_VERSION, LabRx

SHIPPED = Path(__file__).with_name(f"lab_rx.v{SCHEMA_VERSION}.schema.json")
_TOOTH = r"^([1-4][1-8]|[5-8][1-5])S?$"
_PLAIN: dict[object, dict[str, object]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
    Tooth: {"type": "string", "pattern": _TOOTH, "description": "ISO 3950, S = supernumerary"},
}


def schema() -> dict[str, object]:
    """Give the schema, JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:bitewing:lab-rx:{SCHEMA_VERSION}",
        "title": "Prescription to a dental laboratory",
        **_of(LabRx),
    }


def _of(kind: object) -> dict[str, object]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(each) for each in inner if each is not type(None)] + [_NULL]}
    if origin is tuple:
        return {"type": "array", "items": _of(inner[0])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(kind)
    raise TypeError(f"no schema for {kind!r}")


_NULL: dict[str, object] = {"type": "null"}


def _object(kind: type) -> dict[str, object]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {
        "type": "object",
        "properties": {each.name: _of(hints[each.name]) for each in fields},
        "required": [each.name for each in fields if each.default is dataclasses.MISSING],
        "additionalProperties": False,
    }


def schema_text() -> str:
    """Give the schema as the file holds it."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
