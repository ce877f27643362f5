"""Frozen dataclasses as plain JSON and back, by their annotations.

For values that are stored and sent whole. Teeth are ISO 3950 codes with an S for supernumerary,
enums their values, tuples lists, days and moments ISO texts; a field that is missing takes its
default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from typing import TypeVar, Union, cast

from node.domain.teeth import Tooth
from node.errors import InvalidInput

T = TypeVar("T")
Reader = Callable[[object], object]
_AS_THEY_ARE = (str, int, bool)


def encode(value: object) -> object:
    """Turn a value into what ``json`` can write."""
    kind = type(value)
    if value is None or kind in _AS_THEY_ARE:
        return value
    if kind is float:
        return round(cast("float", value), 4)
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Tooth):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {name: encode(getattr(value, name)) for name in _names(cast("Hashable", kind))}
    if isinstance(value, Mapping):
        return {str(encode(key)): encode(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, date):
        return value.isoformat()
    return value


def decode(kind: type[T], data: object) -> T:
    """Read what :func:`encode` wrote; raises InvalidInput when it is something else."""
    try:
        return cast("T", _reader(cast("Hashable", kind))(data))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"not a {kind.__name__}: {type(error).__name__}") from None


def tooth_of(text: str) -> Tooth:
    """Read ``46`` or, supernumerary, ``46S``."""
    return Tooth(text.removesuffix("S"), text.endswith("S"))


@lru_cache(maxsize=1024)
def _reader(kind: Hashable) -> Reader:
    """Make what reads values of a type; which types there are is found out once."""
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind)
    if origin is tuple:
        return _tuple(typing.get_args(kind))
    if kind is Tooth:
        return lambda data: tooth_of(str(data))
    if dataclasses.is_dataclass(kind):
        return _dataclass(cast("type", kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind is float:
        return lambda data: float(str(data))
    if kind in (date, datetime):
        return lambda data: kind.fromisoformat(str(data))
    return _plain(cast("type", kind)) if kind in _AS_THEY_ARE else lambda data: data


def _plain(kind: type) -> Reader:
    def read(data: object) -> object:
        if not isinstance(data, kind):
            raise TypeError
        return data

    return read


def _optional(kind: object) -> Reader:
    inner = _reader(next(each for each in typing.get_args(kind) if each is not type(None)))
    return lambda data: None if data is None else inner(data)


def _tuple(inner: tuple[object, ...]) -> Reader:
    is_long = len(inner) == 2 and inner[1] is Ellipsis
    readers = [_reader(each) for each in inner[: 1 if is_long else None]]

    def read(data: object) -> object:
        if isinstance(data, str):
            raise TypeError
        items = cast("Sequence[object]", data)
        if is_long:
            first = readers[0]
            return tuple([first(item) for item in items])
        return tuple([each(item) for each, item in zip(readers, items, strict=True)])

    return read


def _dataclass(kind: type) -> Reader:
    readers: dict[str, Reader] = {}  # filled at the first use: a type may hold itself

    def read(data: object) -> object:
        if not readers:
            hints = typing.get_type_hints(kind)
            readers.update({name: _reader(hints[name]) for name in _names(kind)})
        given = cast("Mapping[str, object]", data)
        return kind(**{name: each(given[name]) for name, each in readers.items() if name in given})

    return read


@lru_cache(maxsize=256)
def _names(kind: Hashable) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in dataclasses.fields(cast("type", kind)))
