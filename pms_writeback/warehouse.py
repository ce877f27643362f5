"""Keeping our copy of everything a practice's system knows, so that reading never waits for it.

Kinds with a change filter are read every run since an overlapping watermark; the others whole, the
office's own every hour and the patients' every six; those that only come by patient for the
patients of the coming days. Once a night everything is read whole: what the changes had missed is
mended and reported as drift, and what a complete reading no longer has gets a tombstone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, new_id, read
from node.db.tables import appointment, patient
from node.domain.events import EventKind
from node.errors import BitewingError, Rejected, Unsupported
from pms_writeback.clinics import Clinics
from pms_writeback.kind_report import KindReport
from pms_writeback.pms import OfficeAway, OfficeTime
from pms_writeback.record_rows import (
    Written,
    bury,
    compare_records,
    living_keys,
    read_records,
    write_records,
)
from pms_writeback.record_state import SCHEDULE, RecordState, keep_state, read_state, resource
from pms_writeback.records import PmsRecord, Reach, RecordKind, RecordSource, dated_span

#: Changes are read again this long: stamps are whole seconds and transactions take time.
_OVERLAP = timedelta(minutes=5)
#: More than the hour that a clock is set back: nothing stamped in it is missed.
_OVERLAP_AT_CLOCK_CHANGE = timedelta(minutes=65)
_OFFICE_EVERY = timedelta(hours=1)
_PATIENTS_EVERY = timedelta(hours=6)
#: How often "still fine" is written down when nothing changed.
_HEARTBEAT = timedelta(minutes=5)
_ROWS_PER_TRANSACTION = 1000
#: An empty answer where we hold more than this is taken for a fault, not for a practice emptied.
_SUSPICIOUS = 20
#: Patients are read singly this many days ahead.
_DAYS_AHEAD = 3
_RECONCILED = "records-reconciled"

#: Kinds that belong to the office and are small.
OFFICE_KINDS = frozenset(
    {
        RecordKind.SCHEDULE,
        RecordKind.APPOINTMENT_TYPE,
        RecordKind.RECALL_TYPE,
        RecordKind.REFERRAL_CONTACT,
        RecordKind.LABORATORY,
        RecordKind.LAB_TURNAROUND,
        RecordKind.CARRIER,
        RecordKind.COVERAGE_CATEGORY,
        RecordKind.INSURANCE_PLAN,
        RecordKind.BENEFIT,
        RecordKind.PROCEDURE_CODE,
        RecordKind.DEFINITION,
        RecordKind.CLINIC,
        RecordKind.USER,
    }
)


class Warehouse:
    """Pulls one location's records; one run at a time."""

    def __init__(self, db: sa.Engine, source: RecordSource, config: Config) -> None:
        self._db = db
        self._source = source
        self._config = config
        self._actor = Actor("pms-sync", config.node.location_id)
        self._office = OfficeTime(config.node.time_zone)
        self._clinics = Clinics.of(config)
        self._patients_read: datetime | None = None

    def run_once(self, now: datetime) -> tuple[KindReport, ...]:
        """Read what is due; the failure of one kind is kept and the others go on.

        An office that is away as a whole ends the run: the watermarks stay and the next run catches
        up. Where only some clinics are ours nothing is read before the schedule says who our
        patients are.
        """
        if not self._clinics.is_all and not self._knows_patients():
            return ()
        reports: list[KindReport] = []
        reaches = self._source.reach()
        for kind, reach in reaches.items():
            state = self._state(kind)
            since = self._since(state, now)
            if reach is Reach.CHANGES and since is not None:
                report = self._guarded(kind, now, partial(self._pull, kind, now, since))
            elif reach in (Reach.CHANGES, Reach.WHOLE) and self._is_due(kind, state, now):
                report = self._guarded(kind, now, partial(self._pull, kind, now, None))
            else:
                continue
            reports.append(report)
            if report.is_away:
                return tuple(reports)
        return (*reports, *self._coming_patients(reaches.items(), now))

    def run_due(self, now: datetime) -> tuple[KindReport, ...]:
        """Reconcile once a night, at the first run after the configured hour; else `run_once`."""
        wall = self._office.to_wall(now)
        with read(self._db) as conn:
            last = read_state(conn, self._actor.location_id, _RECONCILED).last_ok_at
        if last is None:
            reports = self.run_once(now)  # a first load is whole already
            self._keep_reconciled(now, reports)
            return reports
        is_done = self._office.to_wall(last).date() >= wall.date()
        if is_done or wall.hour < self._config.pms.reconcile_hour:
            return self.run_once(now)
        return self.reconcile(now)

    def reconcile(self, now: datetime) -> tuple[KindReport, ...]:
        """Read everything whole, mend what differs and report it; kept in the audit."""
        reports = []
        for kind, reach in self._source.reach().items():
            if reach in (Reach.CHANGES, Reach.WHOLE):
                reports.append(self._guarded(kind, now, partial(self._pull, kind, now, None)))
                if reports[-1].is_away:
                    break
        drift = {each.kind.value: each.drift for each in reports if each.drift}
        failed = sorted(each.kind.value for each in reports if each.error)
        with begin(self._db, self._actor, "pms.reconciled") as tx:
            tx.record("records", drift=drift, failed=failed)
        self._keep_reconciled(now, reports)
        return tuple(reports)

    def refresh_patient(self, patient_key: str, now: datetime) -> tuple[KindReport, ...]:
        """Read all of one patient's records now, complete; raises what the PMS raises."""
        reports = []
        for kind, reach in self._source.reach().items():
            if reach is Reach.NONE or kind in OFFICE_KINDS:
                continue
            try:
                records = self._source.records_of(kind, patient_key)
            except Unsupported:  # no such list by patient: it is read whole with the others
                continue
            reports.append(self._keep_patient(kind, patient_key, records, now))
        return tuple(reports)

    def _guarded(
        self, kind: RecordKind, now: datetime, pull: Callable[[], KindReport]
    ) -> KindReport:
        try:
            return pull()
        except OfficeAway as error:  # no fault of this kind; the schedule's own reading tells it
            return KindReport(kind, error=str(error), is_away=True)
        except BitewingError as error:
            self._keep_failure(kind, now, error)
            return KindReport(kind, error=str(error) or "failed")

    def _pull(self, kind: RecordKind, now: datetime, since: datetime | None) -> KindReport:
        """Read changes, or everything with tombstones for what is gone; moves the watermark."""
        is_first = self._state(kind).watermark is None
        report = KindReport(kind, is_whole=since is None)
        seen: set[str] = set()
        for page in _parts(self._source.records(kind, since)):
            with read(self._db) as conn:
                ours, elsewhere = self._clinics.records(conn, page)
            seen.update(record.key for record in ours)
            report = self._keep(ours, now, report, is_silent=is_first)
            report = self._let_go(kind, elsewhere, now, report)
        if since is None:
            report = self._keep_absent(kind, seen, now, report)
        self._keep_success(kind, now, is_news=since is None or report.drift > 0)
        return report

    def _keep(
        self, page: Sequence[PmsRecord], now: datetime, report: KindReport, *, is_silent: bool
    ) -> KindReport:
        """Write a page in one transaction, unless it holds nothing new.

        A first load leaves no events: nothing happened, we only learnt of it.
        """
        counted = report.plus(KindReport(report.kind, read=len(page)))
        with read(self._db) as conn:
            if not compare_records(conn, self._actor.location_id, page):
                return counted
        with begin(self._db, self._actor, "pms.records") as tx:
            difference = compare_records(tx.conn, tx.location_id, page)
            written = write_records(tx.conn, difference, now)
            _note(tx, report.kind, written, is_silent=is_silent)
        return counted.counting(written)

    def _keep_absent(
        self, kind: RecordKind, seen: set[str], now: datetime, report: KindReport
    ) -> KindReport:
        with read(self._db) as conn:
            ours = self._expected(conn, kind, now)
        missing = ours - seen
        if not seen and len(ours) > _SUSPICIOUS:
            raise Rejected(f"the practice system lists no {kind.value} at all; kept as it was")
        return self._bury(kind, missing, now, report)

    def _let_go(
        self, kind: RecordKind, elsewhere: Sequence[PmsRecord], now: datetime, report: KindReport
    ) -> KindReport:
        """Bury what was ours and went to another clinic of the office."""
        keys = {record.key for record in elsewhere}
        if not keys:
            return report
        with read(self._db) as conn:
            return self._bury(
                kind, keys & living_keys(conn, self._actor.location_id, kind), now, report
            )

    def _bury(
        self, kind: RecordKind, keys: set[str], now: datetime, report: KindReport
    ) -> KindReport:
        if not keys:
            return report
        with begin(self._db, self._actor, "pms.records") as tx:
            written = bury(tx.conn, tx.location_id, kind, keys, now)
            _note(tx, kind, written)
        return report.counting(written)

    def _expected(self, conn: sa.Connection, kind: RecordKind, now: datetime) -> set[str]:
        """Give the keys of ours that a whole reading covers."""
        span = dated_span(kind, self._office.to_wall(now).date())
        if span is None:
            return living_keys(conn, self._actor.location_id, kind)
        first, last = span[0].isoformat(), span[1].isoformat()
        return {
            record.key
            for record in read_records(conn, self._actor.location_id, kind)
            if first <= str(record.values["day"]) <= last
        }

    def _keep_patient(
        self, kind: RecordKind, patient_key: str, records: Sequence[PmsRecord], now: datetime
    ) -> KindReport:
        location = self._actor.location_id
        report = KindReport(kind, is_whole=True, read=len(records))
        with read(self._db) as conn:
            records, _ = self._clinics.records(conn, records)
            keys = {record.key for record in records}
            missing = living_keys(conn, location, kind, patient_key) - keys
            if not missing and not compare_records(conn, location, records):
                return report
        with begin(self._db, self._actor, "pms.records") as tx:
            difference = compare_records(tx.conn, location, records)
            written = write_records(tx.conn, difference, now)
            gone = bury(tx.conn, location, kind, missing, now)
            both = Written(written.added, written.changed, gone.gone)
            _note(tx, kind, both)
        return report.counting(both)

    def _knows_patients(self) -> bool:
        with read(self._db) as conn:
            state = read_state(conn, self._actor.location_id, SCHEDULE)
        return state.last_ok_at is not None

    def _coming_patients(
        self, reaches: Iterable[tuple[RecordKind, Reach]], now: datetime
    ) -> list[KindReport]:
        """Read the kinds that only come by patient, for those with a visit in the coming days."""
        if self._patients_read is not None and now - self._patients_read < _OFFICE_EVERY:
            return []
        reports: list[KindReport] = []
        for kind in [kind for kind, reach in reaches if reach is Reach.PATIENT]:
            total = KindReport(kind)
            for key in self._visitors(now):
                report = self._guarded(kind, now, partial(self._one, kind, key, now))
                total = total.plus(report)
                if report.is_away:
                    return [*reports, total]
            if not total.error:
                self._keep_success(kind, now)
            reports.append(total)
        self._patients_read = now
        return reports

    def _one(self, kind: RecordKind, patient_key: str, now: datetime) -> KindReport:
        return self._keep_patient(
            kind, patient_key, self._source.records_of(kind, patient_key), now
        )

    def _visitors(self, now: datetime) -> list[str]:
        with read(self._db) as conn:
            rows = conn.execute(
                sa.select(patient.c.pms_key)
                .join(appointment, appointment.c.patient_id == patient.c.id)
                .where(
                    appointment.c.location_id == self._actor.location_id,
                    appointment.c.tombstoned_at.is_(None),
                    appointment.c.start_at >= now - timedelta(days=1),
                    appointment.c.start_at < now + timedelta(days=_DAYS_AHEAD),
                )
                .distinct()
            )
            return sorted(rows.scalars())

    def _is_due(self, kind: RecordKind, state: RecordState, now: datetime) -> bool:
        if state.last_ok_at is None or state.error:
            return True
        every = _OFFICE_EVERY if kind in OFFICE_KINDS else _PATIENTS_EVERY
        return not timedelta() <= now - state.last_ok_at < every

    def _since(self, state: RecordState, now: datetime) -> datetime | None:
        """Begin of a reading of changes; None when there was no whole one yet."""
        if state.watermark is None:
            return None
        wall = self._office.to_wall(now) - self._office.to_wall(now - timedelta(hours=12))
        is_clock_change = wall != timedelta(hours=12)
        overlap = _OVERLAP_AT_CLOCK_CHANGE if is_clock_change else _OVERLAP
        return min(state.watermark, now) - overlap

    def _state(self, kind: RecordKind) -> RecordState:
        with read(self._db) as conn:
            return read_state(conn, self._actor.location_id, resource(kind))

    def _keep_reconciled(self, now: datetime, reports: Sequence[KindReport]) -> None:
        """Write the night's work down as done, unless it broke off: then it is tried again."""
        if not reports or any(each.is_away for each in reports):
            return
        with begin(self._db, self._actor, "pms.records_read") as tx:
            keep_state(tx, _RECONCILED, last_ok_at=now, last_try_at=now, error="")

    def _keep_success(self, kind: RecordKind, now: datetime, *, is_news: bool = True) -> None:
        """Move the watermark; where nothing changed, every few minutes only."""
        state = self._state(kind)
        age = None if state.last_ok_at is None else now - state.last_ok_at
        if not is_news and not state.error and age is not None and age < _HEARTBEAT:
            return
        with begin(self._db, self._actor, "pms.records_read") as tx:
            keep_state(tx, resource(kind), watermark=now, last_ok_at=now, last_try_at=now, error="")

    def _keep_failure(self, kind: RecordKind, now: datetime, error: BitewingError) -> None:
        text = (str(error) or "failed")[:255]
        if self._state(kind).error == text:
            return
        with begin(self._db, self._actor, "pms.records_failed") as tx:
            keep_state(tx, resource(kind), last_try_at=now, error=text)


def _note(tx: Tx, kind: RecordKind, written: Written, *, is_silent: bool = False) -> None:
    tx.record(
        resource(kind),
        added=len(written.added),
        changed=len(written.changed),
        gone=len(written.gone),
    )
    if written.keys and not is_silent:
        data = {"kind": kind.value, "keys": list(written.keys)}
        tx.append_event(EventKind.RECORDS_CHANGED, kind.value, f"records:{new_id()}", data)


def _parts(pages: Iterator[Sequence[PmsRecord]]) -> Iterator[list[PmsRecord]]:
    """Gather pages until they are worth a transaction."""
    waiting: list[PmsRecord] = []
    for page in pages:
        waiting += page
        if len(waiting) >= _ROWS_PER_TRANSACTION:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
