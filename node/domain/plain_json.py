"""Frozen dataclasses as plain JSON and back, by their annotations.

For values that are stored and sent whole. Teeth are ISO 3950 codes with an S for supernumerary,
enums their values, tuples lists, days and moments ISO texts; a field that is missing takes its
default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from typing import TypeVar, Union, cast

from node.domain.teeth import Tooth
from node.errors import InvalidInput

T = TypeVar("T")


def encode(value: object) -> object:
    """Turn a value into what ``json`` can write."""
    if isinstance(value, Tooth):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {
            field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(encode(key)): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, date):
        return value.isoformat()
    return value


def decode(kind: type[T], data: object) -> T:
    """Read what :func:`encode` wrote; raises InvalidInput when it is something else."""
    try:
        return cast("T", _decode(kind, data))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"not a {kind.__name__}: {type(error).__name__}") from None


def tooth_of(text: str) -> Tooth:
    """Read ``46`` or, supernumerary, ``46S``."""
    return Tooth(text.removesuffix("S"), text.endswith("S"))


def _decode(kind: object, data: object) -> object:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, data)
    if origin is tuple:
        return _tuple(typing.get_args(kind), cast("Sequence[object]", data))
    if kind is Tooth:
        return tooth_of(str(data))
    if dataclasses.is_dataclass(kind):
        return _dataclass(cast("type", kind), cast("Mapping[str, object]", data))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float:
        return float(str(data))
    if kind in (date, datetime):
        return kind.fromisoformat(str(data))
    if kind in (str, int, bool) and not isinstance(data, cast("type", kind)):
        raise TypeError
    return data


def _optional(kind: object, data: object) -> object:
    inner = [each for each in typing.get_args(kind) if each is not type(None)]
    return None if data is None else _decode(inner[0], data)


def _tuple(inner: tuple[object, ...], data: Sequence[object]) -> tuple[object, ...]:
    if isinstance(data, str):
        raise TypeError
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_decode(inner[0], item) for item in data)
    return tuple(_decode(each, item) for each, item in zip(inner, data, strict=True))


def _dataclass(kind: type, data: Mapping[str, object]) -> object:
    hints = _hints(kind)
    return kind(**{n: _decode(hint, data[n]) for n, hint in hints.items() if n in data})


@lru_cache(maxsize=256)
def _hints(kind: type) -> Mapping[str, object]:
    """The fields of a dataclass with their types, which are slow to find."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
