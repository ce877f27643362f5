"""Keeping our copy of the practice's schedule: patients, rooms, appointments, their procedures.

A full read of the window of days runs at the start, every hour and when the local day changes; in
between only changes are read, since a watermark that overlaps and moves only after success. Rows
that did not change are not written, and a run without a change opens no transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, begin, new_id, read, upsert
from node.db.tables import (
    appointment,
    operatory,
    patient,
    procedure,
    provider,
    sync_state,
    worklist_item,
)
from node.domain.events import EventKind
from node.errors import BitewingError, NotFound, Rejected, Unsupported
from pms_writeback.changes import Changes
from pms_writeback.clinics import Clinics
from pms_writeback.merging import MergeSource, move_patient, remaining, waiting_moves
from pms_writeback.pms import (
    OfficeTime,
    PatientStatus,
    Pms,
    PmsAppointment,
    PmsPatient,
    PmsProcedure,
)
from pms_writeback.record_state import SCHEDULE
from pms_writeback.schedule_rows import PracticeReading, ScheduleRows
from pms_writeback.worklist_items import WorklistItems

log = logging.getLogger(__name__)

#: Changes are read again this long: stamps are whole seconds and transactions take time.
_OVERLAP = timedelta(minutes=5)
_FULL_EVERY = timedelta(hours=1)
#: How often "still fine" is written down when nothing changed.
_HEARTBEAT = timedelta(minutes=5)
_PATIENTS_PER_TRANSACTION = 500


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one run did: rows changed of each kind; ``error`` is empty when it succeeded."""

    is_ok: bool
    is_full: bool = False
    patients: int = 0
    providers: int = 0
    operatories: int = 0
    appointments: int = 0
    procedures: int = 0
    worklist_items: int = 0
    error: str = ""

    @property
    def changed(self) -> int:
        """How many rows changed altogether."""
        return (
            self.patients
            + self.providers
            + self.operatories
            + self.appointments
            + self.procedures
            + self.worklist_items
        )


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Whether the schedule can be trusted; `reason` says in words why not."""

    is_fresh: bool
    reason: str
    last_ok_at: datetime | None
    clock_offset_s: float | None


@dataclass(frozen=True, slots=True)
class _State:
    """The stored state of the sync, all None before the first run."""

    watermark: datetime | None
    last_ok_at: datetime | None
    clock_offset_s: float | None
    error: str


class ScheduleSync:
    """Pulls one location's practice; one run at a time."""

    def __init__(self, db: sa.Engine, pms: Pms, config: Config) -> None:
        self._db = db
        self._pms = pms
        self._config = config
        self._actor = Actor("pms-sync", config.node.location_id)
        self._office = OfficeTime(config.node.time_zone)
        self._rows = ScheduleRows(config)
        self._items = WorklistItems(config)
        self._last_full: datetime | None = None
        self._is_blind = False
        self._clinics = Clinics.of(config)

    def run_once(self, now: datetime) -> SyncReport:
        """Bring our copy up to date; a failure is reported and kept, and nothing is skipped.

        Raises Retryable when our own database does not take the write.
        """
        state = _read_state(self._db, self._actor.location_id)
        is_full = self._wants_full(state, now)
        try:
            report = self._pull(state, now, is_full)
        except BitewingError as error:
            self._keep_failure(state, now, str(error))
            return SyncReport(False, is_full, error=str(error))
        if is_full:
            self._last_full = now
        return report

    def status(self, conn: sa.Connection) -> SyncStatus:
        """Say whether the schedule is fresh, as any process sees it in the database."""
        return read_status(conn, self._config, datetime.now(UTC))

    def _wants_full(self, state: _State, now: datetime) -> bool:
        last = self._last_full
        if last is None or state.watermark is None or now - last >= _FULL_EVERY or now < last:
            return True
        return self._office.today(now) != self._office.today(last)

    def _pull(self, state: _State, now: datetime, is_full: bool) -> SyncReport:
        offset_s = self._pms.clock_offset().total_seconds()
        since = _since(state, now, offset_s)
        report = SyncReport(True, is_full)
        patients = self._pms.patients(since)
        with read(self._db) as conn:
            patients = self._clinics.patients(conn, patients)
        if is_full or any(each.status is not PatientStatus.ACTIVE for each in patients):
            self._follow_merges(now)
        for start in range(0, len(patients), _PATIENTS_PER_TRANSACTION):
            part = patients[start : start + _PATIENTS_PER_TRANSACTION]
            report = self._write(PracticeReading(patients=part), now, report)
        reading = self._read_schedule(since, now, is_full)
        return self._write(reading, now, report, (state, offset_s))

    def _follow_merges(self, now: datetime) -> None:
        """Move the links of merged patients before their old rows count as deleted."""
        if not isinstance(self._pms, MergeSource):
            return
        try:
            moves = remaining(self._pms.merged_patients())
        except Unsupported as error:
            if not self._is_blind:  # said once: a person can move them by `bitewing practice merge`
                log.warning("merges are not followed: %s", error)
            self._is_blind = True
            return
        with read(self._db) as conn:
            waiting = waiting_moves(conn, self._actor.location_id, moves)
        for move in waiting:
            try:
                gone, person = (self._pms.patient(key) for key in (move.from_key, move.to_key))
            except NotFound:  # a link from or into nowhere moves nothing
                continue
            if gone.status is PatientStatus.ACTIVE or person.status is PatientStatus.DELETED:
                continue  # somebody uses the old number again, or the new one is gone too
            self._write(PracticeReading(patients=(person,)), now, SyncReport(True))
            move_patient(self._db, self._actor, move, "merged in the practice's system")

    def _read_schedule(
        self, since: datetime | None, now: datetime, is_full: bool
    ) -> PracticeReading:
        """Read what a full or a delta run needs, the patients of new appointments included."""
        today = self._office.today(now)
        first = today - timedelta(days=self._config.pms.days_before)
        last = today + timedelta(days=self._config.pms.days_after)
        deleted_from = self._office.today(since) if since else first
        deleted: tuple[str, ...] = ()
        is_whole_window = is_full
        try:
            deleted = self._pms.deleted_appointments(deleted_from, today)
        except Rejected:  # this PMS cannot tell: what is gone is seen by reading the whole window
            is_whole_window = True
        appointments = {} if since is None else _by_key(self._pms.appointments_since(since))
        if is_whole_window:
            appointments |= _by_key(self._pms.appointments(first, last))
        for key in deleted:
            appointments.pop(key, None)
        visits, elsewhere = self._clinics.appointments(appointments.values())
        procedures = () if since is None else self._pms.procedures_since(since)
        rooms = self._pms.operatories() if is_full else ()
        with read(self._db) as conn:
            rooms = self._clinics.operatories(conn, rooms)
        reading = PracticeReading(
            providers=self._pms.providers() if is_full else (),
            operatories=rooms,
            appointments=visits,
            deleted_appointment_keys=(*deleted, *elsewhere),
            procedures=self._clinics.procedures(procedures),
            window=(first, last),
            is_whole_window=is_whole_window,
        )
        return self._complete(reading)

    def _complete(self, reading: PracticeReading) -> PracticeReading:
        """Add the patients and procedures that appointments new to us refer to."""
        with read(self._db) as conn:
            wanted = self._rows.wanted(conn, reading)
        patients: list[PmsPatient] = []
        for key in wanted.patient_keys:
            try:
                patients.append(self._pms.patient(key))
            except NotFound:  # the appointment is left out until its patient can be read
                continue
        procedures: dict[str, PmsProcedure] = {}
        for key in wanted.appointment_keys:
            procedures |= {each.key: each for each in self._pms.procedures(appointment_key=key)}
        procedures |= {each.key: each for each in reading.procedures}
        return replace(reading, patients=tuple(patients), procedures=tuple(procedures.values()))

    def _write(
        self,
        reading: PracticeReading,
        now: datetime,
        report: SyncReport,
        finish: tuple[_State, float] | None = None,
    ) -> SyncReport:
        """Write what differs, if anything does; `finish` moves the watermark with it."""
        is_due = finish is not None and _heartbeat_is_due(finish[0], now, finish[1])
        with read(self._db) as conn:
            changes = self._rows.compare(conn, reading, now)
            must_write = is_due or changes.count > 0
            if not must_write and not self._items.compare(conn, reading, changes).count:
                return report
        with begin(self._db, self._actor, "pms.sync") as tx:
            changes = self._rows.compare(tx.conn, reading, now)
            changes.apply(tx.conn)
            items = self._items.compare(tx.conn, reading, changes)
            items.apply(tx.conn)
            if finish is not None:
                self._keep_success(tx.conn, now, finish[1])
            counts = _counts(changes, items)
            tx.record(SCHEDULE, full=report.is_full, **counts)
            if any(counts.values()):
                key = f"schedule-synced:{new_id()}"
                tx.append_event(EventKind.SCHEDULE_SYNCED, self._actor.location_id, key, counts)
        return _add(report, counts)

    def _keep_success(self, conn: sa.Connection, now: datetime, offset_s: float) -> None:
        upsert(
            conn,
            sync_state,
            ("location_id", "resource"),
            {
                "location_id": self._actor.location_id,
                "resource": SCHEDULE,
                "watermark": now,
                "last_ok_at": now,
                "last_try_at": now,
                "error": "",
                "clock_offset_s": offset_s,
            },
        )

    def _keep_failure(self, state: _State, now: datetime, error: str) -> None:
        """Write a failure down when it is news; the watermark stays."""
        text = (error or "failed")[:255]
        if state.error == text:
            return
        with begin(self._db, self._actor, "pms.sync_failed") as tx:
            upsert(
                tx.conn,
                sync_state,
                ("location_id", "resource"),
                {
                    "location_id": self._actor.location_id,
                    "resource": SCHEDULE,
                    "last_try_at": now,
                    "error": text,
                },
            )
            tx.record(SCHEDULE)


def read_status(conn: sa.Connection, config: Config, now: datetime) -> SyncStatus:
    """Say whether a location's schedule is fresh, from the database alone."""
    state = _state_of(conn, config.node.location_id)
    if state.error:
        reason = f"the practice system is away: {state.error}"
    elif state.last_ok_at is None:
        reason = "the schedule was never read"
    elif now - state.last_ok_at > 2 * _HEARTBEAT + 2 * timedelta(seconds=config.pms.poll_s):
        reason = f"the schedule was last read {state.last_ok_at:%Y-%m-%d %H:%M} UTC"
    else:
        reason = ""
    return SyncStatus(not reason, reason, state.last_ok_at, state.clock_offset_s)


def _since(state: _State, now: datetime, offset_s: float) -> datetime | None:
    """Begin of a delta read, None to read everything.

    A PMS clock that was set anew since the last run stamps its changes elsewhere: the jump is
    read again too.
    """
    if state.watermark is None:
        return None
    jump_s = abs(offset_s - (state.clock_offset_s or 0.0))
    return min(state.watermark, now) - _OVERLAP - timedelta(seconds=jump_s)


def _heartbeat_is_due(state: _State, now: datetime, offset_s: float) -> bool:
    if state.last_ok_at is None or state.clock_offset_s is None or state.error:
        return True
    age = now - state.last_ok_at
    return abs(offset_s - state.clock_offset_s) > 2.0 or not timedelta() <= age < _HEARTBEAT


def _by_key(appointments: Sequence[PmsAppointment]) -> dict[str, PmsAppointment]:
    return {each.key: each for each in appointments}


def _counts(changes: Changes, items: Changes) -> dict[str, int]:
    return {
        "patients": len(changes.keys(patient)),
        "providers": len(changes.keys(provider)),
        "operatories": len(changes.keys(operatory)),
        "appointments": len(changes.keys(appointment)),
        "procedures": len(changes.keys(procedure)),
        "worklist_items": len(items.keys(worklist_item)),
    }


def _add(report: SyncReport, counts: dict[str, int]) -> SyncReport:
    return replace(
        report,
        patients=report.patients + counts["patients"],
        providers=report.providers + counts["providers"],
        operatories=report.operatories + counts["operatories"],
        appointments=report.appointments + counts["appointments"],
        procedures=report.procedures + counts["procedures"],
        worklist_items=report.worklist_items + counts["worklist_items"],
    )


def _read_state(db: sa.Engine, location_id: str) -> _State:
    with read(db) as conn:
        return _state_of(conn, location_id)


def _state_of(conn: sa.Connection, location_id: str) -> _State:
    row = conn.execute(
        sa.select(sync_state).where(
            sync_state.c.location_id == location_id, sync_state.c.resource == SCHEDULE
        )
    ).first()
    if row is None:
        return _State(None, None, None, "")
    return _State(row.watermark, row.last_ok_at, row.clock_offset_s, row.error)
