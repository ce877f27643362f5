"""Commands about visits: booking, moving, confirming, cancelling, a line in their note.

The API books twice into one room without a word, so the day is read before and after: a room that
is taken is refused, and a visit that came to overlap is taken back onto the unscheduled list.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from node.errors import Conflict, NotFound, Rejected
from pms_writeback.commands import (
    AnnotateAppointment,
    BookAppointment,
    CancelAppointment,
    ConfirmAppointment,
    MoveAppointment,
    carries,
    with_ref,
)
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.reading import MINUTES_A_CHARACTER
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.wire import number, once_sent, receipt
from pms_writeback.pms import OfficeTime, Receipt

Booking = (
    BookAppointment | MoveAppointment | ConfirmAppointment | CancelAppointment | AnnotateAppointment
)
_CONFIRMATIONS = 2  # the category of confirmation definitions
_TAKES_ROOM = ("Scheduled", "Complete", "ASAP")


class BookingWriter:
    """Sends these commands to one office and finds what they left there."""

    def __init__(self, connection: Connection, office: OfficeTime) -> None:
        self._connection = connection
        self._office = office

    def execute(self, command: Booking) -> Receipt:
        """Send one command once."""
        match command:
            case BookAppointment():
                return self._book(command)
            case MoveAppointment():
                return self._move(command)
            case ConfirmAppointment():
                return self._confirm(command)
            case CancelAppointment():
                return self._cancel(command)
            case AnnotateAppointment():
                return self._annotate(command)
            case _:
                assert_never(command)

    def find(self, command: Booking) -> Receipt | None:
        """Search for the command's effect on the patient's visits."""
        match command:
            case BookAppointment():
                booked = self._booked(command)
                return None if booked is None else self._found(booked)
            case MoveAppointment():
                row = self._visit(command.patient_key, command.appointment_key)
                return self._found(row) if self._is_moved(row, command) else None
            case ConfirmAppointment():
                row = self._visit(command.patient_key, command.appointment_key)
                is_set = row.text("confirmed") == command.confirmation
                return _receipt_if(is_set and self._is_where_expected(row, command), row)
            case CancelAppointment():
                row = self._visit(command.patient_key, command.appointment_key)
                return _receipt_if(row.text("AptStatus") in ("UnschedList", "Broken"), row)
            case AnnotateAppointment():
                row = self._visit(command.patient_key, command.appointment_key)
                return _receipt_if(carries(row.text("Note"), command.ref), row)
            case _:
                assert_never(command)

    def _book(self, command: BookAppointment) -> Receipt:
        """Book, then look for an overlap; an attempt that was cut between goes on there."""
        row = self._booked(command)
        key = self._write_booking(command) if row is None else row.own_key("AptNum")
        with once_sent("the visit was booked, its room not looked at again"):
            row = self._visit(command.patient_key, key)
            if row.text("AptStatus") == "UnschedList":
                raise Rejected("our visit was taken back onto the unscheduled list")
            if not self._found(row).is_complete:
                self._to_unscheduled_list(key)
                raise Rejected("the room was taken at the same moment; our visit was taken back")
        return Receipt("appointments", key)

    def _write_booking(self, command: BookAppointment) -> str:
        begin = self._wall(command.starts_at)
        length = timedelta(minutes=command.minutes)
        self._refuse_taken(begin, length, command.operatory_key, "")
        row = self._connection.write(
            "POST",
            "/appointments",
            {
                "PatNum": number(command.patient_key),
                "AptDateTime": _text(begin),
                "Op": number(command.operatory_key),
                "ProvNum": number(command.provider_key),
                "Pattern": "X" * (command.minutes // MINUTES_A_CHARACTER),
                "Note": with_ref(command.text, command.ref),
            },
        )
        return receipt("appointments", "AptNum", row, command.patient_key).key

    def _move(self, command: MoveAppointment) -> Receipt:
        row = self._visit(command.patient_key, command.appointment_key)
        if row.text("AptStatus") != "Scheduled":
            raise Conflict("the visit is no longer scheduled")
        if self._is_moved(row, command):  # by an attempt whose answer was lost
            return self._checked_move(row)
        old = row.moment("AptDateTime")
        room = command.expected_operatory_key or row.key("Op")
        if old != self._wall(command.expected_start) or row.key("Op") != room:
            raise Conflict("the visit was moved in the practice system meanwhile")
        begin, length = self._wall(command.starts_at), _length(row)
        self._refuse_taken(begin, length, command.operatory_key, command.appointment_key)
        path = f"/appointments/{number(command.appointment_key)}"
        new: dict[str, str | int] = {
            "AptDateTime": _text(begin),
            "Op": number(command.operatory_key),
        }
        self._connection.write("PUT", path, new)
        with once_sent("the visit was moved, its room not looked at again"):
            if self._taken(begin, length, command.operatory_key, command.appointment_key):
                back: dict[str, str | int] = {
                    "AptDateTime": _text(old),
                    "Op": number(row.key("Op")),
                }
                self._connection.write("PUT", path, back)
                raise Rejected("the room was taken at the same moment; the visit is where it was")
        return Receipt("appointments", command.appointment_key)

    def _checked_move(self, row: Fields) -> Receipt:
        """Look for an overlap of a visit that was moved before; where it was is not known now."""
        if not self._found(row).is_complete:
            raise Rejected("the visit was moved, and its room was taken at the same moment")
        return _receipt(row)

    def _is_moved(self, row: Fields, command: MoveAppointment) -> bool:
        is_there = row.moment("AptDateTime") == self._wall(command.starts_at)
        return is_there and row.key("Op") == command.operatory_key

    def _booked(self, command: BookAppointment) -> Fields | None:
        """Find the visit that an earlier attempt booked, by its token."""
        rows = self._connection.rows("/appointments", {"PatNum": command.patient_key})
        found = [
            row
            for row in rows
            if row.key("PatNum") == command.patient_key and carries(row.text("Note"), command.ref)
        ]
        return min(found, key=lambda row: int(row.own_key("AptNum")), default=None)

    def _found(self, row: Fields) -> Receipt:
        """Say whether a visit found again stands alone in its room, or must still be judged."""
        begin = row.moment("AptDateTime")
        status = row.text("AptStatus")
        overlaps = (
            status == "Scheduled"
            and begin is not None
            and self._taken(begin, _length(row), row.key("Op"), row.own_key("AptNum"))
        )
        return replace(_receipt(row), is_complete=not overlaps and status != "UnschedList")

    def _confirm(self, command: ConfirmAppointment) -> Receipt:
        self._check_unchanged(command)
        definition = self._confirmation(command.confirmation)
        path = f"/appointments/{number(command.appointment_key)}/Confirm"
        self._connection.write("PUT", path, {"defNum": number(definition)})
        return Receipt("appointments", command.appointment_key)

    def _cancel(self, command: CancelAppointment) -> Receipt:
        self._check_unchanged(command)
        self._to_unscheduled_list(command.appointment_key)
        return Receipt("appointments", command.appointment_key)

    def _annotate(self, command: AnnotateAppointment) -> Receipt:
        self._visit(command.patient_key, command.appointment_key)
        path = f"/appointments/{number(command.appointment_key)}/Note"  # appends
        self._connection.write("PUT", path, {"Note": with_ref(command.text, command.ref)})
        return Receipt("appointments", command.appointment_key)

    def _check_unchanged(self, command: ConfirmAppointment | CancelAppointment) -> None:
        row = self._visit(command.patient_key, command.appointment_key)
        if row.text("AptStatus") != "Scheduled":
            raise Conflict("the visit is no longer scheduled")
        if not self._is_where_expected(row, command):
            raise Conflict("the visit was moved in the practice system meanwhile")

    def _is_where_expected(
        self, row: Fields, command: ConfirmAppointment | CancelAppointment
    ) -> bool:
        expected = command.expected_start
        return expected is None or row.moment("AptDateTime") == self._wall(expected)

    def _to_unscheduled_list(self, key: str) -> None:
        path = f"/appointments/{number(key)}/Break"
        self._connection.write("PUT", path, {"sendToUnscheduledList": "true"})

    def _refuse_taken(self, begin: datetime, length: timedelta, room: str, own: str) -> None:
        if self._taken(begin, length, room, own):
            raise Conflict("the room is taken at that time; nothing was written")

    def _taken(self, begin: datetime, length: timedelta, room: str, own: str) -> bool:
        """Tell whether another visit of that room overlaps; all in the office's wall clock."""
        query = {
            "dateStart": begin.date().isoformat(),
            "dateEnd": (begin + length).date().isoformat(),
        }
        for row in self._connection.rows("/appointments", query):
            start = row.moment("AptDateTime")
            is_other = row.key("AptNum") != own and row.key("Op") == room
            if start is None or not is_other or row.text("AptStatus") not in _TAKES_ROOM:
                continue
            if start < begin + length and begin < start + _length(row):
                return True
        return False

    def _visit(self, patient_key: str, key: str) -> Fields:
        row = self._connection.row(f"/appointments/{number(key)}")
        if row.key("PatNum") != patient_key:
            raise NotFound("the visit is not this patient's; nothing was written")
        return row

    def _confirmation(self, name: str) -> str:
        if key := self._connection.definition(_CONFIRMATIONS, name):
            return key
        raise Rejected(f"the office has no confirmation status {name[:60]!r}")

    def _wall(self, moment: datetime) -> datetime:
        return self._office.to_wall(moment).replace(second=0, microsecond=0)


def _length(row: Fields) -> timedelta:
    return timedelta(minutes=max(1, len(row.text("Pattern"))) * MINUTES_A_CHARACTER)


def _text(wall: datetime) -> str:
    return wall.strftime("%Y-%m-%d %H:%M:%S")


def _receipt(row: Fields) -> Receipt:
    return Receipt("appointments", row.own_key("AptNum"), already_there=True)


def _receipt_if(is_there: bool, row: Fields) -> Receipt | None:
    return _receipt(row) if is_there else None
