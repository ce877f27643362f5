"""Which images go where: small expressions over an image's attributes, its sender and findings.

``Modality in ("PX", "CT") and sender == "PAN1"``, ``finding == "caries" and not (findings < 2)``,
``StudyDescription like "*ortho*"``. Names are DICOM keywords, ``sender`` (AE title), ``findings``
(how many) and ``finding`` (their kinds: any of them may fit). Nothing is evaluated as code: an
expression is read into a tree of comparisons, or refused when the node starts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from node.errors import ConfigError

Facts = Mapping[str, Sequence[str]]
Test = Callable[[Facts], bool]

OWN_NAMES = ("sender", "findings", "finding")
_MAX_LENGTH = 1024
_MAX_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"[^\"]*\"|'[^']*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z]\w*)"
    r"|(?P<sign>==|!=|<=|>=|<|>|\(|\)|,))"
)
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "==": lambda a, b: a.casefold() == b.casefold(),
    "like": lambda a, b: fnmatch.fnmatchcase(a.casefold(), b.casefold()),
    "<": lambda a, b: _numbers(a, b, lambda x, y: x < y),
    "<=": lambda a, b: _numbers(a, b, lambda x, y: x <= y),
    ">": lambda a, b: _numbers(a, b, lambda x, y: x > y),
    ">=": lambda a, b: _numbers(a, b, lambda x, y: x >= y),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression that was understood, and the names it asks about."""

    text: str
    names: frozenset[str]
    test: Test

    def holds(self, facts: Facts) -> bool:
        """Whether it is true; a name without a value fits nothing but ``!=``."""
        return self.test(facts)


def read_rule(text: str) -> Rule:
    """Read an expression. Raises ConfigError that says what is wrong with it."""
    if len(text) > _MAX_LENGTH:
        raise ConfigError("a routing rule is longer than 1024 characters")
    reader = _Reader(list(_tokens(text)))
    test = reader.either(0)
    if reader.rest:
        raise ConfigError(f"a routing rule has {reader.rest[0][1]!r} where it should end")
    return Rule(text, frozenset(reader.names), test)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConfigError(f"a routing rule cannot be read at {text[at:].strip()[:20]!r}")
        kind = str(match.lastgroup)
        value = match[kind]
        yield kind, value[1:-1] if kind == "text" else value
        at = match.end()


class _Reader:
    """Reads tokens from the left, by the usual order: not, and, or."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.rest = tokens
        self.names: set[str] = set()

    def either(self, depth: int) -> Test:
        tests = [self.both(depth)]
        while self._take("or"):
            tests.append(self.both(depth))
        return lambda facts: any(test(facts) for test in tests)

    def both(self, depth: int) -> Test:
        tests = [self.one(depth)]
        while self._take("and"):
            tests.append(self.one(depth))
        return lambda facts: all(test(facts) for test in tests)

    def one(self, depth: int) -> Test:
        if depth > _MAX_DEPTH:
            raise ConfigError("a routing rule is nested too deeply")
        if self._take("not"):
            test = self.one(depth + 1)
            return lambda facts: not test(facts)
        if self._take("("):
            inside = self.either(depth + 1)
            if not self._take(")"):
                raise ConfigError("a routing rule lacks a closing bracket")
            return inside
        return self.comparison()

    def comparison(self) -> Test:
        name = self._name()
        sign = self.rest.pop(0)[1] if self.rest else ""
        if sign == "in":
            return self._any_of(name, "==", self._list())
        if sign == "!=":
            found = self._any_of(name, "==", [self._value()])
            return lambda facts: not found(facts)
        if sign not in _COMPARE:
            raise ConfigError(f"a routing rule compares {name} by {sign or 'nothing'!r}")
        return self._any_of(name, sign, [self._value()])

    @staticmethod
    def _any_of(name: str, sign: str, wanted: Sequence[str]) -> Test:
        fits = _COMPARE[sign]
        return lambda facts: any(
            fits(value, each) for value in facts.get(name, ()) for each in wanted
        )

    def _name(self) -> str:
        kind, name = self.rest.pop(0) if self.rest else ("", "")
        if kind != "name" or (name not in OWN_NAMES and tag_for_keyword(name) is None):
            known = ", ".join(OWN_NAMES)
            raise ConfigError(f"a routing rule asks for {name!r}: no DICOM keyword, nor {known}")
        self.names.add(name)
        return name

    def _list(self) -> list[str]:
        if not self._take("("):
            raise ConfigError("a routing rule's `in` takes a list in brackets")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        if not self._take(")"):
            raise ConfigError("a routing rule's list lacks its closing bracket")
        return values

    def _value(self) -> str:
        kind, value = self.rest.pop(0) if self.rest else ("", "")
        if kind not in ("text", "number"):
            raise ConfigError("a routing rule compares with a text in quotes or a number")
        return value

    def _take(self, word: str) -> bool:
        if self.rest and self.rest[0][0] in ("name", "sign") and self.rest[0][1] == word:
            self.rest.pop(0)
            return True
        return False


def _numbers(a: str, b: str, compare: Callable[[float, float], bool]) -> bool:
    try:
        return compare(float(a), float(b))
    except ValueError:
        return False
