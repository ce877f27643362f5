"""Working days of a laboratory: Monday to Friday without its holidays."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import date, timedelta

from node.errors import InvalidInput

_SATURDAY = 5
#: Longer than any turnaround; a longer wait is a mistake in the numbers.
_MOST_DAYS = 400


def is_workday(day: date, holidays: AbstractSet[date] = frozenset()) -> bool:
    """Tell whether the laboratory works on `day`."""
    return day.weekday() < _SATURDAY and day not in holidays


def add_workdays(day: date, count: int, holidays: AbstractSet[date] = frozenset()) -> date:
    """Give the working day `count` after `day` (before it if negative); `day` itself is day 0.

    Raises InvalidInput for more than 400 days.
    """
    if abs(count) > _MOST_DAYS:
        raise InvalidInput(f"a turnaround has at most {_MOST_DAYS} working days")
    step = timedelta(days=1 if count >= 0 else -1)
    left = abs(count)
    while left:
        day += step
        left -= is_workday(day, holidays)
    return day


def workdays_between(start: date, end: date, holidays: AbstractSet[date] = frozenset()) -> int:
    """Count the working days after `start` up to and including `end`; negative when before."""
    if end < start:
        return -workdays_between(end, start, holidays)
    days = (start + timedelta(days=number) for number in range(1, (end - start).days + 1))
    return sum(is_workday(day, holidays) for day in days)
