"""Curve as the `Pms` contract, as far as its partner reaches.

Patients, visits, rooms and providers can be read; PDF documents filed under "Forms & Letters";
visits booked, moved, confirmed and cancelled. Procedures, notes, tasks, recalls, perio, claims and
lab cases cannot: those commands are refused as unsupported and the capability matrix says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar

from node.errors import Conflict, InvalidInput, NotFound, Rejected, Unsupported
from pms_writeback.commands import (
    BookAppointment,
    CancelAppointment,
    Command,
    ConfirmAppointment,
    MoveAppointment,
    UploadDocument,
    carries,
    with_ref,
)
from pms_writeback.curve import reading
from pms_writeback.curve.connection import Connection, NexHealthSettings, Row
from pms_writeback.pms import (
    CannotSearch,
    Capabilities,
    Capability,
    OfficeTime,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    Receipt,
    Support,
)

_T = TypeVar("_T")

PRODUCT = "Curve (through NexHealth)"
CONFIRMED = "confirmed"
"""The one confirmation that this route knows."""
_LANDING = "taken by NexHealth; it reaches Curve a little later and is not confirmed to us"


class Curve:
    """One office on Curve; safe to use from several threads. Close it when done."""

    def __init__(self, settings: NexHealthSettings) -> None:
        self._settings = settings
        self._office = OfficeTime(settings.time_zone)
        self._connection = Connection(settings)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def capabilities(self) -> Capabilities:
        """Say what this route can do; nothing is asked."""
        return CAPABILITIES

    def clock_offset(self) -> timedelta:
        """Give no offset: every time of this service carries its own."""
        return timedelta()

    def patients(self, since: datetime | None = None) -> tuple[PmsPatient, ...]:
        """Read all patients, or those changed since."""
        query = {} if since is None else {"updated_since": _text(since)}
        return _readable(self._connection.rows("/patients", query), reading.patient)

    def patient(self, key: str) -> PmsPatient:
        """Read one patient; raises NotFound."""
        return reading.patient(self._connection.row(f"/patients/{_number(key)}"))

    def appointments(self, date_from: date, date_to: date) -> tuple[PmsAppointment, ...]:
        """Read the visits of the office's days."""
        zone = self._office.zone
        start = datetime.combine(date_from, time(), zone)
        end = datetime.combine(date_to + timedelta(days=1), time(), zone)
        return _readable(self._visits(start, end), reading.appointment)

    def appointments_since(self, since: datetime) -> tuple[PmsAppointment, ...]:
        """Read the visits changed since, a year back and ahead."""
        now = datetime.now(UTC)
        year = timedelta(days=365)
        rows = self._visits(now - year, now + year, {"updated_since": _text(since)})
        return _readable(rows, reading.appointment)

    def deleted_appointments(self, date_from: date, date_to: date) -> tuple[str, ...]:
        """Refuse: what is gone shows only by reading the whole window."""
        raise Rejected("NexHealth does not list deleted visits")

    def operatories(self) -> tuple[PmsOperatory, ...]:
        """Read all operatories."""
        return _readable(self._connection.rows("/operatories"), reading.operatory)

    def providers(self) -> tuple[PmsProvider, ...]:
        """Read all providers."""
        return _readable(self._connection.rows("/providers"), reading.provider)

    def procedures(
        self, *, appointment_key: str | None = None, patient_key: str | None = None
    ) -> tuple[PmsProcedure, ...]:
        """Give none: this route has no procedures of Curve."""
        return ()

    def procedures_since(self, since: datetime) -> tuple[PmsProcedure, ...]:
        """Give none: this route has no procedures of Curve."""
        return ()

    def execute(self, command: Command) -> Receipt:
        """Send one command once; a receipt means taken by NexHealth."""
        match command:
            case UploadDocument():
                return self._upload(command)
            case BookAppointment():
                return self._book(command)
            case MoveAppointment():
                return self._move(command)
            case ConfirmAppointment():
                if command.confirmation != CONFIRMED:
                    raise Unsupported(f"Curve knows only the confirmation {CONFIRMED!r} this way")
                return self._patch(command, {"confirmed": True})
            case CancelAppointment():
                return self._patch(command, {"cancelled": True})
            case _:
                raise _unsupported(type(command))

    def find(self, command: Command) -> Receipt | None:
        """Search for a command's effect; raises CannotSearch for documents."""
        match command:
            case UploadDocument():
                raise CannotSearch("NexHealth does not list documents")
            case BookAppointment():
                row = self._booked(command)
                if row is None:
                    return None
                return replace(_receipt(row), is_complete=self._fits(row, command))
            case MoveAppointment():
                row = self._visit(command)
                visit = reading.appointment(row)
                is_there = visit.starts_at == command.starts_at.astimezone(UTC).replace(
                    microsecond=0
                )
                return _receipt(row) if is_there else None
            case ConfirmAppointment():
                row = self._visit(command)
                return _receipt(row) if row.get("confirmed") else None
            case CancelAppointment():
                row = self._visit(command)
                return _receipt(row) if row.get("cancelled") else None
            case _:
                raise _unsupported(type(command))

    def _upload(self, command: UploadDocument) -> Receipt:
        if command.extension != ".pdf":
            raise Unsupported("Curve takes only PDF documents this way")
        name = f"{command.filename.removesuffix('.pdf')[:80]} {command.ref[4:]}.pdf"
        row = self._connection.write(
            "POST",
            f"/patients/{_number(command.patient_key)}/documents",
            query={"document_type_id": self._document_type()},
            file=(name, command.content, "application/pdf"),
        )
        return Receipt("documents", reading.key(row, "id"))

    def _document_type(self) -> str:
        wanted = self._settings.document_type
        for row in self._connection.rows("/document_types"):
            if reading.text(row, "name").lower() == wanted.lower():
                return reading.key(row, "id")
        raise Rejected(f"the office has no document type {wanted!r} at NexHealth")

    def _book(self, command: BookAppointment) -> Receipt:
        """Book, then look for an overlap; an attempt that was cut between goes on there."""
        row = self._booked(command)
        made = self._write_booking(command) if row is None else reading.key(row, "id")
        row = self._connection.row(f"/appointments/{made}")
        if row.get("cancelled"):
            raise Rejected("our visit was taken back")
        if not self._fits(row, command):
            self._connection.write("PATCH", f"/appointments/{made}", {"appt": {"cancelled": True}})
            raise Rejected("the room was taken at the same moment; our visit was taken back")
        return Receipt("appointments", made)

    def _write_booking(self, command: BookAppointment) -> str:
        if command.starts_at <= datetime.now(UTC):
            raise InvalidInput("NexHealth books visits in the future only")
        end = command.starts_at + timedelta(minutes=command.minutes)
        self._refuse_taken(command.starts_at, end, command.operatory_key, "")
        body: Row = {
            "appt": {
                "patient_id": _number(command.patient_key),
                "provider_id": _number(command.provider_key),
                "operatory_id": _number(command.operatory_key),
                "start_time": _text(command.starts_at),
                "end_time": _text(end),
                "note": with_ref(command.text, command.ref),
            }
        }
        # The patient is told by the practice, not by the partner.
        row = self._connection.write(
            "POST", "/appointments", body, query={"notify_patient": "false"}
        )
        return reading.key(row, "id")

    def _fits(self, row: Row, command: BookAppointment) -> bool:
        """Tell whether a booked visit stands and has its room to itself."""
        begins = reading.moment(row, "start_time") or command.starts_at
        ends = reading.moment(row, "end_time") or begins + timedelta(minutes=command.minutes)
        room = reading.text(row, "operatory_id") or command.operatory_key
        is_off = bool(row.get("cancelled"))
        return not is_off and not self._taken(begins, ends, room, reading.key(row, "id"))

    def _booked(self, command: BookAppointment) -> Row | None:
        day = timedelta(days=1)
        for row in self._visits(command.starts_at - day, command.starts_at + day):
            is_mine = reading.text(row, "patient_id") == command.patient_key
            if is_mine and carries(reading.text(row, "note"), command.ref):
                return row
        return None

    def _move(self, command: MoveAppointment) -> Receipt:
        visit = reading.appointment(self._visit(command))
        room = command.expected_operatory_key or visit.operatory_key
        expected = command.expected_start.astimezone(UTC)
        if visit.starts_at != expected or visit.operatory_key != room:
            raise Conflict("the visit was moved in the practice system meanwhile")
        end = command.starts_at + timedelta(minutes=visit.minutes)
        self._refuse_taken(command.starts_at, end, command.operatory_key, visit.key)
        return self._patch(
            command,
            {
                "start_time": _text(command.starts_at),
                "end_time": _text(end),
                "operatory_id": _number(command.operatory_key),
            },
        )

    def _patch(
        self, command: MoveAppointment | ConfirmAppointment | CancelAppointment, values: Row
    ) -> Receipt:
        row = self._visit(command)
        expected = None if isinstance(command, MoveAppointment) else command.expected_start
        starts_at = reading.appointment(row).starts_at
        if expected is not None and starts_at != expected.astimezone(UTC):
            raise Conflict("the visit was moved in the practice system meanwhile")
        path = f"/appointments/{reading.key(row, 'id')}"
        self._connection.write("PATCH", path, {"appt": values})
        return Receipt("appointments", reading.key(row, "id"))

    def _visit(self, command: MoveAppointment | ConfirmAppointment | CancelAppointment) -> Row:
        row = self._connection.row(f"/appointments/{_number(command.appointment_key)}")
        if reading.text(row, "patient_id") != command.patient_key:
            raise NotFound("the visit is not this patient's; nothing was written")
        return row

    def _refuse_taken(self, start: datetime, end: datetime, room: str, own: str) -> None:
        if self._taken(start, end, room, own):
            raise Conflict("the room is taken at that time; nothing was written")

    def _taken(self, start: datetime, end: datetime, room: str, own: str) -> bool:
        """Tell whether a visit or a blocked time of that room overlaps."""
        day = timedelta(days=1)
        for row in self._rows_between(start - day, end + day):
            begins, ends = reading.moment(row, "start_time"), reading.moment(row, "end_time")
            is_other = reading.text(row, "id") != own and reading.text(row, "operatory_id") == room
            is_off = bool(row.get("cancelled") or row.get("deleted"))
            if begins and ends and is_other and not is_off and begins < end and start < ends:
                return True
        return False

    def _visits(
        self, start: datetime, end: datetime, query: dict[str, str] | None = None
    ) -> list[Row]:
        return [row for row in self._rows_between(start, end, query) if reading.is_visit(row)]

    def _rows_between(
        self, start: datetime, end: datetime, query: dict[str, str] | None = None
    ) -> list[Row]:
        window = {"start": _text(start), "end": _text(end)}
        return self._connection.rows("/appointments", {**window, **(query or {})})


def _capability(command: type[Command], reason: str) -> Capability:
    return Capability(command.__name__, Support.SUPPORTED, reason)


CAPABILITIES = Capabilities(
    product=PRODUCT,
    version="",
    operations=(
        _capability(UploadDocument, f"PDF only; {_LANDING}"),
        _capability(BookAppointment, _LANDING),
        _capability(MoveAppointment, _LANDING),
        _capability(ConfirmAppointment, f"{CONFIRMED!r} only; {_LANDING}"),
        _capability(CancelAppointment, _LANDING),
    ),
)


def _unsupported(command: type[Command]) -> Unsupported:
    return Unsupported(f"{command.__name__}: {PRODUCT} has no such")


def _readable(rows: Iterable[Row], read: Callable[[Row], _T]) -> tuple[_T, ...]:
    """Read what can be read; a row without its keys is left out."""
    found: list[_T] = []
    for row in rows:
        try:
            found.append(read(row))
        except Rejected:
            continue
    return tuple(found)


def _receipt(row: Row) -> Receipt:
    return Receipt("appointments", reading.key(row, "id"), already_there=True)


def _number(key: str) -> int:
    if not key.isascii() or not key.isdigit():
        raise InvalidInput("a NexHealth key is a number")
    return int(key)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
