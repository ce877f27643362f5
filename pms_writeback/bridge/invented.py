"""The people and visits of an invented practice, before a vendor's sandbox writes them down."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from pms_writeback.sandbox.practice_data import (
    FAMILY_NAMES,
    GIVEN_NAMES,
    PROCEDURE_CODES,
    VISITS,
)
from pms_writeback.sandbox.seed import CastMember, read_cast

ROOMS = ((1, "Operatory 1"), (2, "Operatory 2"), (3, "Hygiene"))
PROVIDERS = (
    ("DDS1", "Avery", "Sandbox"),
    ("DDS2", "Blake", "Sandbox"),
    ("HYG1", "Cory", "Sandbox"),
)
DESCRIPTIONS = {code.code: code.description for code in PROCEDURE_CODES}
_HOURS = (8, 9, 10, 11, 13, 14, 15, 16)


@dataclass(frozen=True, slots=True)
class Person:
    """An invented patient."""

    key: int
    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    birth_date: date = field(repr=False)
    sex: str


@dataclass(frozen=True, slots=True)
class Visit:
    """An invented visit, at the office's wall clock."""

    key: int
    patient_key: int
    starts_at: datetime
    minutes: int
    room: int
    provider: str
    codes: tuple[str, ...]
    is_done: bool


def people(count: int) -> Iterator[Person]:
    """Give the cast of the sample studies, then invented people up to `count`."""
    cast = {member.key: member for member in read_cast()}
    for key in range(1, max(count, *cast, 1) + 1):
        member = cast.get(key)
        if member is not None:
            yield _of_cast(member)
            continue
        chance = random.Random(f"patient:{key}")
        sex = chance.choice(("Female", "Male"))
        born = date(1935, 1, 1) + timedelta(days=chance.randrange(80 * 365))
        family, given = chance.choice(FAMILY_NAMES), chance.choice(GIVEN_NAMES[sex])
        yield Person(key, family, given, born, sex[0])


def visits(count: int, today: date, days_around: int) -> Iterator[Visit]:
    """Give today's visits of the cast, and others' around today; done ones lie before it."""
    cast = [member for member in read_cast() if member.cdt_codes]
    key = 0
    for place, member in enumerate(cast):
        key += 1
        start = datetime.combine(today, time(8 + place // 3 % 10))
        yield _visit(key, member.key, start, place, member.cdt_codes, is_done=False)
    first_other = max((member.key for member in read_cast()), default=0) + 1
    if first_other > count:
        return
    for offset in range(-days_around, days_around + 1):
        day = today + timedelta(days=offset)
        chance = random.Random(f"day:{day.isoformat()}")
        for place in range(min(6, count - first_other + 1)):
            key += 1
            person = chance.randint(first_other, count)
            start = datetime.combine(day, time(_HOURS[place % len(_HOURS)], 30))
            codes = chance.choice(VISITS)
            yield _visit(key, person, start, place, codes, is_done=offset < 0)


def _visit(
    key: int, person: int, start: datetime, place: int, codes: tuple[str, ...], *, is_done: bool
) -> Visit:
    room = 1 + place % 3
    provider = PROVIDERS[place % 3][0]
    return Visit(key, person, start, 60, room, provider, codes, is_done)


def _of_cast(member: CastMember) -> Person:
    born = date.fromisoformat(member.birth_date)
    return Person(member.key, member.family, member.given, born, member.sex)
