"""Booking in the sandbox: a room is checked and taken in one transaction, so nothing overlaps."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from node.errors import Conflict, NotFound, Rejected
from pms_writeback.pms import (
    BookAppointment,
    CancelAppointment,
    ConfirmAppointment,
    MoveAppointment,
    OfficeTime,
)

Booking = BookAppointment | MoveAppointment | ConfirmAppointment | CancelAppointment

CONFIRMATIONS = ("unconfirmed", "confirmed")
"""The sandbox's words for a visit's confirmation."""


@dataclass(frozen=True, slots=True)
class WallVisit:
    """A visit on the office's wall clock; ``starts_at`` None is on no day's list."""

    key: str
    patient_key: str
    starts_at: datetime | None
    minutes: int
    room: str
    provider: str
    is_done: bool = False


class VisitTable(Protocol):
    """How a vendor's sandbox keeps visits."""

    def add(self, db: sqlite3.Connection, visit: WallVisit) -> str:
        """Insert a visit; gives its key."""
        ...

    def visits(
        self, db: sqlite3.Connection, *, key: str | None = None, room: str | None = None
    ) -> list[WallVisit]:
        """Read one visit, or those of a room."""
        ...

    def place(
        self, db: sqlite3.Connection, key: str, starts_at: datetime | None, room: str
    ) -> None:
        """Put a visit at a time and into a room, or on no day's list."""
        ...

    def confirm(self, db: sqlite3.Connection, key: str, words: str) -> None:
        """Set a visit's confirmation."""
        ...


def apply_booking(
    db: sqlite3.Connection, table: VisitTable, command: Booking, office: OfficeTime
) -> str:
    """Carry out a command about a visit in the open transaction; gives the visit's key.

    Raises
    ------
    Conflict
        The room is taken, or the visit is not as the command expects it.
    NotFound
        There is no such visit of this patient.
    Rejected
        The office has no such confirmation.
    """
    if isinstance(command, BookAppointment):
        start = office.to_wall(command.starts_at)
        visit = WallVisit(
            "",
            command.patient_key,
            start,
            command.minutes,
            command.operatory_key,
            command.provider_key,
        )
        _refuse_taken(db, table, visit)
        return table.add(db, visit)
    visit = _visit(db, table, command)
    expected = command.expected_start
    if expected is not None and visit.starts_at != office.to_wall(expected):
        raise Conflict("the visit was moved in the practice system meanwhile")
    match command:
        case MoveAppointment():
            _move(db, table, command, visit, office)
        case ConfirmAppointment():
            if command.confirmation not in CONFIRMATIONS:
                raise Rejected(f"the office has no confirmation {command.confirmation[:60]!r}")
            table.confirm(db, visit.key, command.confirmation)
        case CancelAppointment():
            if visit.starts_at is None or visit.is_done:
                raise Conflict("only a scheduled visit can be cancelled")
            table.place(db, visit.key, None, visit.room)
        case _:
            assert_never(command)
    return visit.key


def _move(
    db: sqlite3.Connection,
    table: VisitTable,
    command: MoveAppointment,
    visit: WallVisit,
    office: OfficeTime,
) -> None:
    room = command.expected_operatory_key or visit.room
    is_moved = visit.starts_at != office.to_wall(command.expected_start) or visit.room != room
    if is_moved or visit.is_done:
        raise Conflict("the visit was moved in the practice system meanwhile")
    start = office.to_wall(command.starts_at)
    moved = WallVisit(
        visit.key, visit.patient_key, start, visit.minutes, command.operatory_key, visit.provider
    )
    _refuse_taken(db, table, moved)
    table.place(db, visit.key, start, command.operatory_key)


def _visit(
    db: sqlite3.Connection,
    table: VisitTable,
    command: MoveAppointment | ConfirmAppointment | CancelAppointment,
) -> WallVisit:
    found = table.visits(db, key=command.appointment_key)
    if not found or found[0].patient_key != command.patient_key:
        raise NotFound("the visit is not this patient's; nothing was written")
    return found[0]


def _refuse_taken(db: sqlite3.Connection, table: VisitTable, wanted: WallVisit) -> None:
    begin = wanted.starts_at
    for other in table.visits(db, room=wanted.room):
        if begin is None or other.starts_at is None or other.key == wanted.key:
            continue
        ends = other.starts_at + timedelta(minutes=other.minutes)
        if begin < ends and other.starts_at < begin + timedelta(minutes=wanted.minutes):
            raise Conflict("the room is taken at that time; nothing was written")
