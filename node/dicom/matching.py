"""How a C-FIND key matches a value, exactly as PS3.4 C.2.2.2 says; pure functions.

Where the standard leaves room, the reading that shows a patient rather than hides one is taken,
and the line that does so says it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

#: Value representations whose keys may carry ``*`` and ``?`` (PS3.4 C.2.2.2.4).
_WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


def matches(vr: str, key: str, value: str) -> bool:
    r"""Whether one attribute matches: `key` as sent (decoded), `value` as we hold it.

    An empty key is universal matching (C.2.2.2.3). Several values in a key mean any of them: so
    for UIDs (C.2.2.2.2), and let through for other attributes, where modalities send ``IO\PX``.
    """
    if not key.strip():
        return True
    # a value of several, such as Modalities in Study, matches by any of them (C.2.2.3.2)
    values = value.split("\\")
    return any(
        _matches_one(vr, part.strip(), each)
        for part in key.split("\\")
        if part.strip()
        for each in values
    )


def _matches_one(vr: str, key: str, value: str) -> bool:
    if vr == "PN":
        return matches_name(key, value)
    if vr in ("DA", "TM"):
        kind = DateRange if vr == "DA" else TimeRange
        return kind.parse(key).holds(value)
    if vr in _WILD_VRS and ("*" in key or "?" in key):
        return _pattern(key).fullmatch(value.strip()) is not None
    return key == value.strip()


def matches_name(key: str, value: str) -> bool:
    """Match a person's name, blind to case and accents (C.2.2.2.1 allows both).

    Any component group may match. ``Smith, Anna`` is read as ``Smith^Anna`` (a vendor's bridge
    writes it so); a bare word without wildcard or caret is a family name.
    """
    groups = [group for group in (_fold(part) for part in value.split("=")) if group]
    return any(
        _matches_group(_fold(part), group) for part in key.split("=") if part for group in groups
    )


def _matches_group(key: str, group: str) -> bool:
    if "^" not in key and "," in key:
        family, _, given = key.partition(",")
        key = f"{family.strip()}^{given.strip()}"
    if "*" in key or "?" in key:
        return _pattern(key).fullmatch(group) is not None
    if "^" not in key:
        return group.split("^")[0] == key
    return group == key


def _fold(text: str) -> str:
    """Casefold, drop accents, tidy components; trailing empty components are the same as none."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "^".join(" ".join(part.split()) for part in plain.split("^")).rstrip("^")


@functools.lru_cache(maxsize=1024)
def _pattern(key: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in key)
    return re.compile("".join(parts), re.DOTALL)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days ``first`` to ``last``, inclusive, as YYYYMMDD; "" is open. Both "" is every day."""

    first: str
    last: str

    @classmethod
    def parse(cls, key: str) -> DateRange:
        """Read a DA key: one day or a range, dots of ACR-NEMA 2.0 let through (C.2.2.2.5).

        A key that is no date gives a range that holds nothing.
        """
        first, last = _ends(key.replace(".", ""))
        if not all(end == "" or (len(end) == 8 and end.isdigit()) for end in (first, last)):
            return cls("99999999", "00000000")
        return cls(first, last)

    def holds(self, value: str) -> bool:
        """Whether the day `value` (YYYYMMDD) lies in the range; an unknown day never does."""
        day = value.replace(".", "").strip()
        return day != "" and self.first <= day and (not self.last or day <= self.last)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Times of day ``first`` to ``last``, inclusive, as HHMMSS; "" is open."""

    first: str
    last: str

    @classmethod
    def parse(cls, key: str) -> TimeRange:
        """Read a TM key: one time or a range; colons and fractions of a second are dropped.

        A range's end of lower precision reaches to its last second: ``-12`` holds 12:59:59, as
        12 stands for the whole hour (PS3.5 6.2, TM).
        """
        first, last = _ends(key.replace(":", ""))
        is_range = "-" in key
        first, last = first.partition(".")[0], last.partition(".")[0]
        if not all(
            len(end) in (0, 2, 4, 6) and (not end or end.isdigit()) for end in (first, last)
        ):
            return cls("999999", "000000")
        lower = first.ljust(6, "0") if first else ""
        upper = (last + "235959"[len(last) :] if is_range else last.ljust(6, "0")) if last else ""
        return cls(lower, upper)

    def holds(self, value: str) -> bool:
        """Whether the time `value` lies in the range; an unknown time never does."""
        time = value.replace(":", "").partition(".")[0].strip()
        if not time:
            return False
        time = time.ljust(6, "0")
        return self.first <= time and (not self.last or time <= self.last)


def in_combined_interval(dates: DateRange, times: TimeRange, day: str, time: str) -> bool:
    """Match date and time keys of one moment as one interval.

    PS3.4 C.2.2.2.5 with K.6.1.2.2: from the first date at the first time to the last date at the
    last time, not a daily window.
    """
    moment = day + time.ljust(6, "0")
    first = (dates.first or "00000000") + (times.first or "000000")
    last = (dates.last or "99999999") + (times.last or "235959")
    return day != "" and time != "" and first <= moment <= last


def plain_values(key: str) -> list[str]:
    """Return the values that a key asks for exactly; none when it has a wildcard."""
    values = [value.strip() for value in key.split("\\") if value.strip()]
    return [] if any("*" in value or "?" in value for value in values) else values


def name_prefix(key: str) -> str:
    """Return what the folded family name surely starts with; "" when nothing is sure.

    Folded as :func:`node.domain.study.name_key` folds, so that an index on it can narrow a search
    without losing a match.
    """
    if "=" in key or "\\" in key:
        return ""
    literal = re.split(r"[*?^,]", key, maxsplit=1)[0]
    plain = unicodedata.normalize("NFKD", literal.casefold())
    return re.sub(r"[\W_]+", "", "".join(c for c in plain if not unicodedata.combining(c)))


def _ends(key: str) -> tuple[str, str]:
    if "-" not in key:
        return key.strip(), key.strip()
    first, _, last = key.partition("-")
    return first.strip(), last.strip()
