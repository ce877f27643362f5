"""Tolerant reading of Open Dental rows: what is unknown is counted, never a reason to stop.

Quirks met: keys as numbers or strings, "True"/"true", sentinel dates, absent fields.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, datetime
from enum import Enum
from typing import TypeVar

from node.errors import Rejected

log = logging.getLogger(__name__)

_E = TypeVar("_E", bound=Enum)

_SHAPES = {
    "number": re.compile(r"-?\d{1,18}"),
    "money": re.compile(r"-?\d{1,15}(\.\d+)?(E-?\d+)?"),
    "flag": re.compile(r"true|false|0|1", re.IGNORECASE),
    "day": re.compile(r"\d{4}-\d\d-\d\d([T ].*)?"),
    "moment": re.compile(r"\d{4}-\d\d-\d\d([T ].*)?"),
}


class Oddities:
    """What a PMS sent that nobody expected, counted by field and value; logged once each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unread: dict[str, set[str]] = {}

    def note(self, what: str) -> None:
        """Count one oddity; ``what`` names a field and an enumeration value, never free text."""
        with self._lock:
            self._counts[what] += 1
            is_first = self._counts[what] == 1
        if is_first:
            log.warning("unexpected value from Open Dental: %s", what)

    def note_unread(self, resource: str, names: Collection[str]) -> None:
        """Log the fields of a resource that nobody reads, each once; their values are kept raw."""
        known = self._unread.get(resource, set())
        if known.issuperset(names):
            return
        with self._lock:
            known = self._unread.setdefault(resource, set())
            news = sorted(set(names) - known)
            known.update(news)
        if news:
            log.info("kept raw from Open Dental: %s of %s", ", ".join(news), resource)

    def counts(self) -> dict[str, int]:
        """Give each oddity and how often it came."""
        with self._lock:
            return dict(self._counts)


class Fields:
    """One row as received; unknown fields are left alone."""

    def __init__(self, resource: str, raw: Mapping[str, object], oddities: Oddities) -> None:
        self._resource = resource
        self._raw = raw
        self._oddities = oddities
        self._odd: dict[str, object] = {}

    @property
    def odd(self) -> dict[str, object]:
        """What was read so far and not understood, as it came."""
        return dict(self._odd)

    def _note(self, name: str, words: str) -> None:
        self._odd[name] = self._raw.get(name)
        self._oddities.note(f"{self._resource}.{name}{words}")

    def text(self, name: str) -> str:
        """Read text; empty when absent."""
        value = self._raw.get(name)
        return "" if value is None else str(value)

    def key(self, name: str) -> str:
        """Read a key as text; empty for 0 and for an absent one."""
        text = self.text(name).strip()
        return "" if text in ("", "0") else text

    def own_key(self, name: str) -> str:
        """Read the row's primary key; raises Rejected when it has none."""
        key = self.key(name)
        if not re.fullmatch(r"-?\d{1,19}", key):
            raise Rejected(f"a row of {self._resource} has no {name}")
        return key

    def number(self, name: str) -> int:
        """Read a whole number; 0 when it is none."""
        text = self.text(name)
        return int(text) if _SHAPES["number"].fullmatch(text) else 0

    def amount(self, name: str) -> float:
        """Read an amount of money, a number or a text like "130.00"; 0 when it is none."""
        text = self.text(name).strip()
        return float(text) if _SHAPES["money"].fullmatch(text) else 0.0

    def rest(self, used: Collection[str]) -> dict[str, object]:
        """Give what nobody has read, as it came; empty texts, zeros and sentinels are left out."""
        self._oddities.note_unread(self._resource, self._raw.keys() - set(used))
        return {
            name: value
            for name, value in self._raw.items()
            if name not in used and not _is_nothing(value)
        }

    def is_odd(self, type_: str, name: str) -> bool:
        """Tell whether a value is there and is none of its type; counted by the field's name."""
        text = self.text(name).strip()
        pattern = _SHAPES.get(type_)
        if not text or pattern is None or pattern.fullmatch(text):
            return False
        if type_ not in ("day", "moment"):  # `moment` has counted these
            self._note(name, f" is not a {type_}")
        return True

    def flag(self, name: str) -> bool:
        """Read a string boolean in any case."""
        return self.text(name).strip().lower() in ("true", "1")

    def day(self, name: str) -> date | None:
        """Read a date; None for a sentinel or none."""
        moment = self.moment(name)
        return None if moment is None else moment.date()

    def moment(self, name: str) -> datetime | None:
        """Read a wall-clock time, naive; None for a sentinel or none."""
        text = self.text(name).strip()
        if not text or text.startswith("0001-"):
            return None
        try:
            moment = datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError:
            self._note(name, " is not a date")
            return None
        return moment if moment.year >= 1850 else None

    def one_of(self, name: str, values: Mapping[str, _E], other: _E) -> _E:
        """Read an enumeration by its text; an unknown one is `other` and counted by its text."""
        text = self.text(name)
        if text not in values:
            self._note(name, f"={text[:30]}")
        return values.get(text, other)


def _is_nothing(value: object) -> bool:
    return value in (None, "", 0, "0", "false") or str(value).startswith("0001-01-01")
