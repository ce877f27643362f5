"""One office on Open Dental, as the `Pms` contract: the only class the program above sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from node.errors import NotFound, Rejected, Unsupported
from pms_writeback.merging import PatientMove
from pms_writeback.opendental import events, reading
from pms_writeback.opendental.connection import Connection, OpenDentalSettings
from pms_writeback.opendental.documents import ChartDocument
from pms_writeback.opendental.merges import read_merges
from pms_writeback.opendental.record_reading import RecordReader
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.versions import Version, capabilities, check_fields, read_version
from pms_writeback.opendental.writing import Writer
from pms_writeback.pms import (
    Capabilities,
    Command,
    OfficeAway,
    OfficeTime,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    Receipt,
    Support,
)
from pms_writeback.records import PmsRecord, Reach, RecordKind

if TYPE_CHECKING:
    from pms_writeback.sftp import SftpFolder

_T = TypeVar("_T")

DAY_S = 86_400.0
_NEWEST: Version = (99,)
CLOCK_AGE_S = 3_600.0
"""How long a measured clock offset is used before it is measured again."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class OpenDental:
    """Open Dental at one office; safe to use from several threads. Close it when done."""

    def __init__(
        self,
        settings: OpenDentalSettings,
        clock: Callable[[], datetime] = _utc_now,
        folder: SftpFolder | None = None,
    ) -> None:
        self._office = OfficeTime(settings.time_zone)
        self._settings = settings
        self._clock = clock
        self._connection = Connection(settings)
        self._writer = Writer(self._connection, settings, self._office, folder)
        self._records = RecordReader(
            self._connection, self._office, self._stamp, self._since, self._today
        )
        self._lock = threading.Lock()
        self._known: tuple[float, Capabilities] | None = None
        self._offset: tuple[float, timedelta] | None = None
        self._update_checked = float("-inf")

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def oddities(self) -> dict[str, int]:
        """Give the unexpected values met so far, with their counts."""
        return self._connection.oddities.counts()

    def capabilities(self) -> Capabilities:
        """Ask for the office's version and say what can be done with it."""
        rows = self._connection.rows("/preferences", {"PrefName": "ProgramVersion"})
        version = next(
            (row.text("ValueString") for row in rows if row.text("PrefName") == "ProgramVersion"),
            "",
        )
        has_tasks = bool(self._settings.task_list and self._settings.task_user)
        found = capabilities(version, has_tasks=has_tasks)
        with self._lock:
            self._known = (time.monotonic(), found)
        return found

    def clock_offset(self) -> timedelta:
        """Measure how far the office's database server is ahead of our clock, to the second."""
        self._check_update()
        began = self._clock()
        rows: list[Fields] = []
        for path in ("/providers", "/patients/Simple"):
            rows = rows or self._connection.page(path, {"Limit": "1"})
        now = began + (self._clock() - began) / 2
        wall = rows[0].moment("serverDateTime") if rows else None
        if wall is None:
            raise Rejected("Open Dental does not tell its server's time (serverDateTime)")
        # The server's clock shows whole seconds: its time is half a second later on average.
        offset = self._office.to_utc(wall, near=now) - now + timedelta(seconds=0.5)
        with self._lock:
            self._offset = (time.monotonic(), offset)
        return offset

    def patients(self, since: datetime | None = None) -> tuple[PmsPatient, ...]:
        """Read all patients, or those changed since."""
        self._check_update()
        query = {} if since is None else {"DateTStamp": self._since(since)}
        return self._all("/patients/Simple", query, lambda row: reading.patient(row, self._stamp))

    def patient(self, key: str) -> PmsPatient:
        """Read one patient, deleted ones included."""
        self._check_update()
        if not key.isascii() or not key.isdigit():
            raise NotFound("an Open Dental patient key is a number")
        return reading.patient(self._connection.row(f"/patients/{key}"), self._stamp)

    def merged_patients(self) -> tuple[PatientMove, ...]:
        """Read every merge of patients, the oldest first; needs the permission Queries."""
        self._check_update()
        return read_merges(self._connection)

    def appointments(self, date_from: date, date_to: date) -> tuple[PmsAppointment, ...]:
        """Read the appointments of the office's days."""
        self._check_update()
        query = {"dateStart": date_from.isoformat(), "dateEnd": date_to.isoformat()}
        found = self._all("/appointments", query, self._appointment)
        return tuple(each for each in found if self._is_within(each, date_from, date_to))

    def appointments_since(self, since: datetime) -> tuple[PmsAppointment, ...]:
        """Read the appointments changed since."""
        self._check_update()
        return self._all("/appointments", {"DateTStamp": self._since(since)}, self._appointment)

    def deleted_appointments(self, date_from: date, date_to: date) -> tuple[str, ...]:
        """Read the keys of appointments deleted on these days (needs version 23.1.30)."""
        self._check_update()
        query = {
            "HistApptAction": "Deleted",
            "dateStart": date_from.isoformat(),
            "dateEnd": date_to.isoformat(),
        }
        rows = self._connection.rows("/histappointments", query)
        deleted = (row for row in rows if row.text("HistApptAction") == "Deleted")
        return tuple(dict.fromkeys(row.own_key("AptNum") for row in deleted))

    def operatories(self) -> tuple[PmsOperatory, ...]:
        """Read all operatories."""
        self._check_update()
        return self._all("/operatories", {}, reading.operatory)

    def providers(self) -> tuple[PmsProvider, ...]:
        """Read all providers."""
        self._check_update()
        return self._all("/providers", {}, lambda row: reading.provider(row, self._stamp))

    def procedures(
        self, *, appointment_key: str | None = None, patient_key: str | None = None
    ) -> tuple[PmsProcedure, ...]:
        """Read the procedures of an appointment or a patient."""
        self._check_update()
        if appointment_key is None and patient_key is None:
            raise Unsupported("procedures are read of one appointment or one patient")
        query = {"AptNum": appointment_key, "PatNum": patient_key}
        given = {name: key for name, key in query.items() if key is not None}
        found = self._all("/procedurelogs", given, self._procedure)
        # Old offices ignore the AptNum filter (before 22.3.32).
        return tuple(
            each
            for each in found
            if appointment_key in (None, each.appointment_key)
            and patient_key in (None, each.patient_key)
        )

    def procedures_since(self, since: datetime) -> tuple[PmsProcedure, ...]:
        """Read the procedures changed since, deleted ones included."""
        self._check_update()
        return self._all("/procedurelogs", {"DateTStamp": self._since(since)}, self._procedure)

    def execute(self, command: Command) -> Receipt:
        """Send one command once, if this office's version can take it."""
        self._check_update()
        return self._writer.execute(command, self._planned_for(command))

    def find(self, command: Command) -> Receipt | None:
        """Search the office for what an earlier attempt wrote."""
        self._check_update()
        self._planned_for(command)
        return self._writer.find(command)

    def documents(self, patient_key: str) -> tuple[ChartDocument, ...]:
        """List a patient's documents and images, mounts left out."""
        self._check_update()
        return self._writer.documents.of_patient(patient_key)

    def document(self, document: ChartDocument) -> bytes:
        """Fetch a document's bytes by SFTP; raises NotFound while nobody has opened it there."""
        self._check_update()
        return self._writer.documents.fetch(document)

    def reach(self) -> Mapping[RecordKind, Reach]:
        """Ask how each kind of record can be read at this office's version."""
        return self._records.reach(self._reading_version())

    def records(
        self, kind: RecordKind, since: datetime | None = None
    ) -> Iterator[Sequence[PmsRecord]]:
        """Read all records of a kind page by page, or those changed at or after `since`."""
        self._check_update()
        self._current_offset()
        return self._records.all(kind, since, self._reading_version())

    def records_of(self, kind: RecordKind, patient_key: str) -> Sequence[PmsRecord]:
        """Read a patient's records of a kind, complete."""
        self._check_update()
        self._current_offset()
        return self._records.of_patient(kind, patient_key)

    def subscribe(self, url: str, workstation: str, polling_s: int) -> int:
        """Subscribe to the events that touch the worklist; returns how many were changed."""
        self._check_update()
        return events.subscribe(self._connection, url, workstation, polling_s)

    def _planned_for(self, command: Command) -> Version:
        """Give the office's version; raises Unsupported when it cannot take this command."""
        known = self._planned()
        capability = known.of(type(command))
        if capability.support is not Support.SUPPORTED:
            raise Unsupported(f"{capability.operation}: {capability.reason}")
        version = read_version(known.version)
        check_fields(command, version)
        return version

    def _reading_version(self) -> Version:
        """Give the version that reading counts on: one that cannot be read is taken for the newest.

        What such an office does not have fails for itself; nothing is written there.
        """
        version = read_version(self._planned().version)
        if version != (0,):
            return version
        self._connection.oddities.note("preferences.ProgramVersion is not a version")
        return _NEWEST

    def _planned(self) -> Capabilities:
        with self._lock:
            known = self._known
        if known is None or time.monotonic() - known[0] > DAY_S:
            return self.capabilities()
        return known[1]

    def _check_update(self) -> None:
        """Stay away while the office updates its program, as the vendor asks."""
        now = time.monotonic()
        with self._lock:
            if now - self._update_checked < self._settings.update_check_s:
                return
        name = "UpdateInProgressOnComputerName"
        for row in self._connection.rows("/preferences", {"PrefName": name}):
            if row.text("PrefName") == name and row.text("ValueString").strip():
                raise OfficeAway("Open Dental is being updated at this office", retry_after_s=120.0)
        with self._lock:
            self._update_checked = now

    def _all(
        self, path: str, query: dict[str, str], read: Callable[[Fields], _T]
    ) -> tuple[_T, ...]:
        self._current_offset()
        return tuple(self._readable(self._connection.rows(path, query), read))

    def _readable(self, rows: Iterable[Fields], read: Callable[[Fields], _T]) -> Iterable[_T]:
        for row in rows:
            try:
                yield read(row)
            except Rejected as error:
                self._connection.oddities.note(str(error))

    def _appointment(self, row: Fields) -> PmsAppointment:
        return reading.appointment(row, self._stamp, self._office)

    def _procedure(self, row: Fields) -> PmsProcedure:
        return reading.procedure(row, self._stamp)

    def _is_within(self, appointment: PmsAppointment, date_from: date, date_to: date) -> bool:
        if appointment.starts_at is None:
            return False
        return date_from <= self._office.to_wall(appointment.starts_at).date() <= date_to

    def _current_offset(self) -> timedelta:
        with self._lock:
            measured = self._offset
        if measured is None or time.monotonic() - measured[0] > CLOCK_AGE_S:
            return self.clock_offset()
        return measured[1]

    def _since(self, since: datetime) -> str:
        """Write a "changed after" filter in the server's own clock, one second early."""
        wall = self._office.earliest_wall(since + self._current_offset())
        return (wall - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S")

    def _today(self) -> date:
        return self._office.today(self._clock() + self._current_offset())

    def _stamp(self, row: Fields, name: str) -> datetime | None:
        wall = row.moment(name)
        if wall is None:
            return None
        offset = self._current_offset()
        return self._office.to_utc(wall, near=self._clock() + offset) - offset
