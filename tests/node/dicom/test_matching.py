"""C-FIND matching against naive oracles, and the examples that the standard gives."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dicom.matching import (
    DateRange,
    TimeRange,
    in_combined_interval,
    matches,
    matches_name,
    name_prefix,
)
from node.domain.study import name_key


def naive_wildcard(key: str, value: str) -> bool:
    """Match recursively, one character at a time."""
    if not key:
        return not value
    if key[0] == "*":
        return any(naive_wildcard(key[1:], value[cut:]) for cut in range(len(value) + 1))
    return bool(value) and key[0] in ("?", value[0]) and naive_wildcard(key[1:], value[1:])


WORD = st.text("AB.[^$+", max_size=6)


@given(st.text("AB.[*?", min_size=1, max_size=6), WORD)
def test_wildcards_equal_the_oracle(key, value):
    if not value.replace("^", ""):
        return
    plain = value.replace("^", "")
    expected = naive_wildcard(key, plain) if ("*" in key or "?" in key) else key == plain
    assert matches("LO", key, plain) == expected


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_date_ranges_equal_the_oracle(first, last, day):
    def text(number: int) -> str:
        return f"2026{1 + number // 31 % 12:02}{1 + number % 31:02}"

    a, b, value = text(first), text(last), text(day)
    assert DateRange.parse(f"{a}-{b}").holds(value) == (a <= value <= b)
    assert DateRange.parse(f"{a}-").holds(value) == (value >= a)
    assert DateRange.parse(f"-{b}").holds(value) == (value <= b)
    assert DateRange.parse(a).holds(value) == (value == a)


@given(st.times(), st.times(), st.times())
def test_time_ranges_equal_the_oracle(first, last, moment):
    a, b, value = (f"{time:%H%M%S}" for time in (first, last, moment))
    assert TimeRange.parse(f"{a}-{b}").holds(value) == (a <= value <= b)
    assert TimeRange.parse(f"{a}.5-").holds(value) == (value >= a)
    assert TimeRange.parse(value).holds(value)


@given(st.datetimes(), st.datetimes(), st.datetimes())
def test_date_and_time_together_are_one_interval(first, last, moment):
    first, last, moment = (m.replace(year=2026, microsecond=0) for m in (first, last, moment) if m)
    dates = DateRange.parse(f"{first:%Y%m%d}-{last:%Y%m%d}")
    times = TimeRange.parse(f"{first:%H%M%S}-{last:%H%M%S}")
    inside = in_combined_interval(dates, times, f"{moment:%Y%m%d}", f"{moment:%H%M%S}")
    assert inside == (first <= moment <= last)


def naive_fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


NAME = st.text(string.ascii_letters + "äöüéñß", min_size=1, max_size=6)


@given(NAME, NAME, st.sampled_from([str.upper, str.lower, str.title]))
def test_names_match_blind_to_case_and_accents(family, given_name, change):
    value = f"{family}^{given_name}"
    assert matches_name(change(value), value)
    assert matches_name(naive_fold(value), value)
    assert matches_name(change(family), value)
    assert matches_name(f"{change(family)}, {given_name}", value)
    assert matches_name(f"{family[0]}*", value)
    assert not matches_name(f"{family}x^{given_name}", value)


@given(NAME, NAME, st.text("abAB*?", min_size=1, max_size=5))
def test_name_wildcards_equal_the_oracle(family, given_name, key):
    if "*" not in key and "?" not in key:
        return
    value = f"{family}^{given_name}"
    assert matches_name(key, value) == naive_wildcard(naive_fold(key), naive_fold(value))


@given(NAME, NAME, st.integers(0, 6), st.sampled_from(["*", "?*", "", "^*", ",", "^?x"]))
def test_the_name_prefix_never_loses_a_match(family, given_name, cut, tail):
    key = family[:cut] + tail
    if key and matches_name(key, f"{family}^{given_name}"):
        assert name_key(family, given_name).startswith(name_prefix(key))


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [
        ("LO", "", "anything", True),  # universal
        ("LO", "*", "", True),
        ("LO", "17", "17 ", True),
        ("LO", "17", "0017", False),
        ("LO", "ab", "AB", False),  # only names are blind to case
        ("UI", "1.2\\1.3", "1.3", True),
        ("UI", "1.2\\1.3", "1.4", False),
        ("UI", "1.2*", "1.22", False),  # no wildcards in UIDs
        ("CS", "IO\\PX", "PX", True),  # an illegal list that sensors send
        ("CS", "I?", "IO", True),
        ("DA", "2026.11.21", "20261121", True),
        ("DA", "20261120-20261122", "20261122", True),
        ("DA", "20261123-", "20261122", False),
        ("DA", "today", "20261122", False),
        ("DA", "-", "20261122", True),
        ("DA", "20261122", "", False),
        ("TM", "10:00:00", "100000", True),
        ("TM", "1000", "100000", True),
        ("TM", "10", "101500", False),
        ("TM", "-10", "105959", True),
        ("TM", "0800-1000", "100059", True),
        ("TM", "0800-1000", "100100", False),
        ("TM", "noon", "120000", False),
        ("PN", "SMI*", "Smith^Anna", True),
        ("PN", "smith", "Smith^Anna", True),
        ("PN", "smith^anna^", "Smith^Anna", True),
        ("PN", "smith^anna", "Smith^Anna^Maria", False),
        ("PN", "smith^a*", "Smith^Anna^Maria", True),
        ("PN", "Mouse, Mickey", "Mouse^Mickey", True),
        ("PN", "muller", "Müller^Uwe", True),
        ("PN", "MÜLLER^UWE", "Muller^Uwe", True),
        ("PN", "smi", "Smith^Anna", False),
        ("PN", "Yamada^Tarou=山田^太郎", "山田^太郎", True),
        ("PN", "?mith^anna", "Smith^Anna", True),
    ],
)
def test_examples(vr, key, value, expected):
    assert matches(vr, key, value) is expected
