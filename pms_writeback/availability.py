"""Where a visit could be booked: the practice's schedule, less what is taken, within our windows.

Answered from our own copies only. Nothing is held: between a look and a booking somebody else may
take the room, which the booking itself finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import sqlalchemy as sa

from node.config import Config, WindowSection
from node.db.tables import appointment
from node.errors import InvalidInput
from pms_writeback.pms import AppointmentStatus, OfficeTime
from pms_writeback.provider_map import read_office_map
from pms_writeback.record_rows import read_records
from pms_writeback.records import MapKind, RecordKind, Scalar

_TAKEN = (AppointmentStatus.SCHEDULED.value, AppointmentStatus.COMPLETE.value)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOST_DAYS = 62


@dataclass(frozen=True, slots=True)
class Slot:
    """One possible visit: begin (UTC), minutes, provider and room by the PMS's keys."""

    starts_at: datetime
    minutes: int
    provider_key: str
    operatory_key: str


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of one day on the office's wall clock."""

    start: datetime
    stop: datetime

    def overlaps(self, other: _Span) -> bool:
        return self.start < other.stop and other.start < self.stop


@dataclass(frozen=True, slots=True)
class _Taken:
    span: _Span
    room: str
    provider: str


def open_slots(
    conn: sa.Connection,
    config: Config,
    *,
    now: datetime,
    first: date,
    last: date,
    minutes: int,
    provider_key: str,
    appointment_type: str = "",
    step_min: int = 10,
) -> list[Slot]:
    """Find where a visit of `minutes` fits on the office's days `first` to `last`, both included.

    A slot lies in a block of the provider's schedule, outside blockouts and closed days, and meets
    no other visit of the provider or the room; both may be written for that day (`provider_map`).
    Where windows are configured for the appointment type, it lies in one of them and the window's
    `at_most` visits a day are not reached. Begins are multiples of `step_min` minutes from the free
    stretch's begin.

    Raises
    ------
    InvalidInput
        The days are in the wrong order, too many, or beyond those whose visits we read
        (``pms.days_before``, ``pms.days_after``), or the length is not a multiple of 5 minutes.
    """
    if not 0 <= (last - first).days < _MOST_DAYS:
        raise InvalidInput(f"availability is asked for at most {_MOST_DAYS} days, first to last")
    if not 5 <= minutes <= 540 or minutes % 5 or step_min < 5:
        raise InvalidInput("a visit takes a multiple of 5 minutes, at most 9 hours")
    location, office = config.node.location_id, OfficeTime(config.node.time_zone)
    _check_known(config, office.today(now), first, last)
    office_map = read_office_map(conn, location)
    blocks = [record.values for record in read_records(conn, location, RecordKind.SCHEDULE)]
    if config.pms.clinics:  # hours that name no room may be another clinic's
        blocks = [each for each in blocks if each["type"] != "Provider" or _named(each)]
    rooms = sorted(office_map.hidden[MapKind.OPERATORY])
    taken = _taken(conn, location, office, first, last)
    found: list[Slot] = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        today = [block for block in blocks if block["day"] == day.isoformat()]
        is_refused = office_map.refusal(MapKind.PROVIDER, provider_key, day)
        if is_refused or _is_closed(today):
            continue
        open_rooms = [key for key in rooms if not office_map.refusal(MapKind.OPERATORY, key, day)]
        windows = _windows(config.pms.windows, day, provider_key, appointment_type)
        for begin, room in _fits(
            today, open_rooms, taken, windows, provider_key, timedelta(minutes=minutes), step_min
        ):
            found.append(Slot(office.to_utc(begin), minutes, provider_key, room))
    return sorted(found, key=lambda slot: (slot.starts_at, slot.operatory_key))


def _check_known(config: Config, today: date, first: date, last: date) -> None:
    """Refuse days whose visits we do not read: they would all look free."""
    begin = today - timedelta(days=config.pms.days_before)
    end = today + timedelta(days=config.pms.days_after)
    if first < begin or last > end:
        raise InvalidInput(
            f"visits are known from {begin} to {end} only; pms.days_after reads further ahead"
        )


def _fits(
    blocks: Sequence[Mapping[str, Scalar]],
    rooms: Sequence[str],
    taken: Sequence[_Taken],
    windows: Sequence[tuple[_Span, int]] | None,
    provider_key: str,
    length: timedelta,
    step_min: int,
) -> Iterator[tuple[datetime, str]]:
    """Give begins on the wall clock and rooms, one day; `windows` None is no restriction."""
    blockouts = [block for block in blocks if block["type"] == "Blockout"]
    for block in blocks:
        if block["type"] != "Provider" or block["provider_key"] != provider_key:
            continue
        work = _span(block)
        for room in _rooms_of(block, rooms):
            busy = [each.span for each in taken if room == each.room]
            busy += [each.span for each in taken if provider_key == each.provider]
            busy += [_span(each) for each in blockouts if room in _rooms_of(each, rooms)]
            for begin in _begins(work, busy, length, step_min):
                if _is_allowed(_Span(begin, begin + length), windows, taken, provider_key):
                    yield begin, room


def _begins(
    work: _Span, busy: Iterable[_Span], length: timedelta, step_min: int
) -> Iterator[datetime]:
    """Walk the free stretches of a working block."""
    begin = work.start
    for span in sorted(busy, key=lambda each: each.start):
        yield from _steps(begin, min(span.start, work.stop), length, step_min)
        begin = max(begin, span.stop)
    yield from _steps(begin, work.stop, length, step_min)


def _steps(begin: datetime, end: datetime, length: timedelta, step_min: int) -> Iterator[datetime]:
    while begin + length <= end:
        yield begin
        begin += timedelta(minutes=step_min)


def _is_allowed(
    span: _Span,
    windows: Sequence[tuple[_Span, int]] | None,
    taken: Sequence[_Taken],
    provider_key: str,
) -> bool:
    if windows is None:
        return True
    for window, at_most in windows:
        if window.start <= span.start and span.stop <= window.stop:
            used = sum(
                each.provider == provider_key and window.overlaps(each.span) for each in taken
            )
            if used < at_most:
                return True
    return False


def _windows(
    windows: Sequence[WindowSection], day: date, provider_key: str, appointment_type: str
) -> list[tuple[_Span, int]] | None:
    """Give the windows of this type, provider and weekday; None where the type has none at all."""
    of_type = [each for each in windows if each.appointment_type == appointment_type]
    if not of_type:
        return None
    return [
        (_Span(datetime.combine(day, each.start), datetime.combine(day, each.stop)), each.at_most)
        for each in of_type
        if each.provider in ("", provider_key) and _WEEKDAYS[day.weekday()] in each.weekdays
    ]


def _span(block: Mapping[str, Scalar]) -> _Span:
    day = date.fromisoformat(str(block["day"]))
    start, stop = (time.fromisoformat(str(block[name])) for name in ("start", "stop"))
    return _Span(datetime.combine(day, start), datetime.combine(day, stop))


def _is_closed(blocks: Sequence[Mapping[str, Scalar]]) -> bool:
    """A practice-wide entry without hours is a holiday."""
    return any(block["type"] == "Practice" and block["start"] == block["stop"] for block in blocks)


def _rooms_of(block: Mapping[str, Scalar], rooms: Sequence[str]) -> list[str]:
    """Give a block's rooms; one that names none holds for all."""
    named = _named(block)
    return [room for room in rooms if not named or room in named]


def _named(block: Mapping[str, Scalar]) -> set[str]:
    return {key for key in str(block["operatory_keys"] or "").split(",") if key not in ("", "0")}


def _taken(
    conn: sa.Connection, location_id: str, office: OfficeTime, first: date, last: date
) -> list[_Taken]:
    midnight = datetime.combine(first, time())
    rows = conn.execute(
        sa.select(appointment).where(
            appointment.c.location_id == location_id,
            appointment.c.tombstoned_at.is_(None),
            appointment.c.status.in_(_TAKEN),
            appointment.c.start_at >= office.to_utc(midnight) - timedelta(days=1),
            appointment.c.start_at
            < office.to_utc(datetime.combine(last, time())) + timedelta(days=1),
        )
    )
    found = []
    for row in rows:
        start = office.to_wall(row.start_at)
        span = _Span(start, start + timedelta(minutes=row.duration_min))
        found.append(_Taken(span, row.operatory_key, row.provider_key))
    return found
