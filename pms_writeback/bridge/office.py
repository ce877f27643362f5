"""One office behind a bridge, as the `Pms` contract: what every bridged PMS shares.

The node keeps a mirror of the bridge's tables in memory and brings it up to date with what changed
since; what the columns mean is the vendor's `Shapes`. Commands go to the bridge one by one and are
journalled there, so that each may be sent again without harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar

from node.errors import NotFound, Rejected, Retryable, Unsupported
from pms_writeback.bridge.chart_records import chart_reach, chart_record, check_is_chart
from pms_writeback.bridge.desk import Desk
from pms_writeback.bridge.protocol import (
    Json,
    Method,
    TableRow,
    as_list,
    as_object,
    number,
    rows_from_json,
)
from pms_writeback.bridge.wire import encode_command, receipt_from_json
from pms_writeback.pms import (
    Capabilities,
    Capability,
    Command,
    NotLicensed,
    OfficeTime,
    PmsAppointment,
    PmsOperatory,
    PmsPatient,
    PmsProcedure,
    PmsProvider,
    ProcedureStatus,
    Receipt,
    Support,
)
from pms_writeback.records import PmsRecord, Reach, RecordKind

_T = TypeVar("_T")

PAGE_ROWS = 500
READ_TIMEOUT_S = 30.0
WRITE_VALID_S = 60.0
"""How long the bridge may begin a command after it got it."""
WRITE_TIMEOUT_S = 75.0


@dataclass(frozen=True, slots=True)
class TableNames:
    """Where a vendor keeps what; empty for what no public view shows."""

    patients: str
    appointments: str
    providers: str
    operatories: str
    procedures: str


class Shapes(Protocol):
    """What a vendor's rows mean; one class a vendor."""

    product: str
    tables: TableNames

    def patient(self, row: TableRow) -> PmsPatient:
        """Read a patient."""
        ...

    def appointment(self, row: TableRow) -> PmsAppointment:
        """Read a visit."""
        ...

    def provider(self, row: TableRow) -> PmsProvider:
        """Read a dentist or hygienist."""
        ...

    def operatory(self, row: TableRow) -> PmsOperatory:
        """Read a room."""
        ...

    def procedure(self, row: TableRow, visit: TableRow | None) -> PmsProcedure:
        """Read a line of the chart; `visit` is the row of its appointment, where it names one."""
        ...

    def visit_key(self, row: TableRow) -> str:
        """Give the key of a procedure's appointment; empty for none."""
        ...


@dataclass(slots=True)
class _Mirror:
    epoch: str = ""
    after: int = 0
    as_of: datetime | None = None
    problem: str = ""
    rows: dict[str, TableRow] = field(default_factory=dict)


@dataclass(slots=True)
class BridgedPms:
    """A PMS behind a bridge; safe to use from several threads."""

    shapes: Shapes
    desk: Desk
    office: OfficeTime
    stale_s: float = 900.0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _mirrors: dict[str, _Mirror] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def capabilities(self) -> Capabilities:
        """Say what the connected bridge can do; raises Retryable when it is away."""
        about = self.desk.guest.about
        product = str(about.get("product", self.shapes.product))
        if about.get("is_sandbox") is True:
            product += " (sandbox)"
        operations = tuple(_capability(as_object(each)) for each in _operations(about))
        return Capabilities(product, str(about.get("pms_version", "")), operations)

    def clock_offset(self) -> timedelta:
        """Say how far the clinic machine's clock is ahead, as measured at its last word."""
        return self.desk.guest.clock_offset

    def patients(self, since: datetime | None = None) -> tuple[PmsPatient, ...]:
        """Read all patients, or those changed since; one that is gone counts as deleted."""
        rows = self._rows(self.shapes.tables.patients)
        return tuple(self.shapes.patient(row) for row in self._changed(rows, since))

    def patient(self, key: str) -> PmsPatient:
        """Read one patient, from the practice itself when the mirror has none."""
        name = self.shapes.tables.patients
        row = self._rows(name).get(key) or self._row(name, key)
        if row is None:
            raise NotFound(f"{self.shapes.product} has no such patient")
        return self.shapes.patient(row)

    def appointments(self, date_from: date, date_to: date) -> tuple[PmsAppointment, ...]:
        """Read the appointments of these days."""
        visits = (self.shapes.appointment(row) for row in self._visits() if not row.is_gone)
        return tuple(each for each in visits if self._is_within(each, date_from, date_to))

    def appointments_since(self, since: datetime) -> tuple[PmsAppointment, ...]:
        """Read the appointments changed since."""
        rows = {row.key: row for row in self._visits() if not row.is_gone}
        return tuple(self.shapes.appointment(row) for row in self._changed(rows, since))

    def deleted_appointments(self, date_from: date, date_to: date) -> tuple[str, ...]:
        """Read the keys of appointments that the bridge missed on these days.

        One that was moved out of the bridge's window of days counts as missed until it is back.
        """
        gone = [row for row in self._visits() if row.is_gone]
        return tuple(
            row.key for row in gone if date_from <= self.office.today(self._seen_at(row)) <= date_to
        )

    def operatories(self) -> tuple[PmsOperatory, ...]:
        """Read the rooms; none where no view of the bridge's driver shows them."""
        rows = self._rows_if_any(self.shapes.tables.operatories)
        return tuple(self.shapes.operatory(row) for row in rows.values() if not row.is_gone)

    def providers(self) -> tuple[PmsProvider, ...]:
        """Read the providers."""
        rows = self._rows(self.shapes.tables.providers)
        return tuple(self.shapes.provider(row) for row in rows.values() if not row.is_gone)

    def procedures(
        self, *, appointment_key: str | None = None, patient_key: str | None = None
    ) -> tuple[PmsProcedure, ...]:
        """Read procedures; none where no view of the bridge's driver shows them."""
        if appointment_key is None and patient_key is None:
            raise Unsupported("procedures are read of one appointment or one patient")
        return tuple(
            each
            for each in self._procedures(None)
            if appointment_key in (None, each.appointment_key)
            and patient_key in (None, each.patient_key)
        )

    def procedures_since(self, since: datetime) -> tuple[PmsProcedure, ...]:
        """Read the procedures changed since; none where no view shows them."""
        return self._procedures(since)

    def reach(self) -> Mapping[RecordKind, Reach]:
        """Say which records there are: lines of the chart, if the bridge's driver shows them."""
        return chart_reach(self._shows(self.shapes.tables.procedures))

    def records(
        self, kind: RecordKind, since: datetime | None = None
    ) -> Iterator[Sequence[PmsRecord]]:
        """Read all records of a kind, or those changed since; what is gone is left out."""
        check_is_chart(kind, self.shapes.product)
        yield _records(self._procedures(since))

    def records_of(self, kind: RecordKind, patient_key: str) -> Sequence[PmsRecord]:
        """Read a patient's records of a kind, complete."""
        check_is_chart(kind, self.shapes.product)
        return _records(self.procedures(patient_key=patient_key))

    def execute(self, command: Command) -> Receipt:
        """Send a command to the bridge, which carries it out once."""
        self._check_can(command)
        params = {"command": encode_command(command), "valid_for_s": WRITE_VALID_S}
        answer = self.desk.ask(Method.WRITE, params, WRITE_TIMEOUT_S)
        return receipt_from_json(as_object(answer.get("receipt")))

    def find(self, command: Command) -> Receipt | None:
        """Ask the bridge where an earlier attempt landed."""
        self._check_can(command)
        params = {"command": encode_command(command)}
        answer = self.desk.ask(Method.FIND, params, WRITE_TIMEOUT_S)
        found = answer.get("receipt")
        return None if found is None else receipt_from_json(as_object(found))

    def _check_can(self, command: Command) -> None:
        capability = self.capabilities().of(type(command))
        words = f"{capability.operation}: {capability.reason}"
        if capability.support is Support.NOT_LICENSED:
            raise NotLicensed(words)
        if capability.support is not Support.SUPPORTED:
            raise Unsupported(words)

    def _procedures(self, since: datetime | None) -> tuple[PmsProcedure, ...]:
        rows = self._rows_if_any(self.shapes.tables.procedures)
        visits = self._rows(self.shapes.tables.appointments) if rows else {}
        return tuple(
            self.shapes.procedure(row, visits.get(self.shapes.visit_key(row)))
            for row in self._changed(rows, since)
        )

    def _visits(self) -> tuple[TableRow, ...]:
        """Give the mirrored appointments, if the bridge has read them lately."""
        name = self.shapes.tables.appointments
        rows = tuple(self._rows(name).values())
        with self._lock:
            mirror = self._mirrors[name]
            as_of, problem = mirror.as_of, mirror.problem
        offset = self.desk.guest.clock_offset
        if as_of is None or self.clock() - (as_of - offset) > timedelta(seconds=self.stale_s):
            since = f"since {as_of:%Y-%m-%d %H:%M} UTC" if as_of else "yet"
            reason = f": {problem}" if problem else ""
            raise Retryable(
                f"the bridge has not read {self.shapes.product}'s schedule {since}{reason}", 30.0
            )
        return rows

    def _rows_if_any(self, table: str) -> Mapping[str, TableRow]:
        return self._rows(table) if self._shows(table) else {}

    def _shows(self, table: str) -> bool:
        """Tell whether the connected bridge's driver has a table."""
        return bool(table) and table in as_list(self.desk.guest.about.get("tables", []))

    def _rows(self, table: str) -> Mapping[str, TableRow]:
        """Bring the mirror of a table up to date and give its rows, gone ones included."""
        with self._lock:
            mirror = self._mirrors.setdefault(table, _Mirror())
            is_last = False
            while not is_last:
                is_last = self._pull(table, mirror)
            if mirror.as_of is None:
                reason = f": {mirror.problem}" if mirror.problem else ""
                raise Retryable(f"the bridge has not read {table} yet{reason}", 15.0)
            return dict(mirror.rows)

    def _pull(self, table: str, mirror: _Mirror) -> bool:
        params = {
            "table": table,
            "epoch": mirror.epoch,
            "after": mirror.after,
            "limit": PAGE_ROWS,
        }
        page = self.desk.ask(Method.PULL, params, READ_TIMEOUT_S)
        epoch = str(page.get("epoch", ""))
        if epoch != mirror.epoch:  # the bridge began a new copy, from its first row
            mirror.rows.clear()
        rows = rows_from_json(page)
        after = int(number(page, "after", 0))
        is_last = page.get("is_last") is True
        if not is_last and not rows:
            raise Rejected(f"the bridge's pages of {table} do not end")
        mirror.rows.update({row.key: row for row in rows})
        mirror.epoch, mirror.after = epoch, after
        as_of = page.get("as_of")
        mirror.as_of = datetime.fromisoformat(str(as_of)) if as_of else None
        mirror.problem = str(page.get("problem", ""))
        return is_last

    def _row(self, table: str, key: str) -> TableRow | None:
        answer = self.desk.ask(Method.READ, {"table": table, "key": key}, READ_TIMEOUT_S)
        rows = rows_from_json(answer)
        return rows[0] if rows else None

    def _changed(
        self, rows: Mapping[str, TableRow], since: datetime | None
    ) -> tuple[TableRow, ...]:
        return tuple(row for row in rows.values() if since is None or self._seen_at(row) >= since)

    def _seen_at(self, row: TableRow) -> datetime:
        """When the bridge first saw a row like this, by our clock."""
        return row.changed_at - self.desk.guest.clock_offset

    def _is_within(self, visit: PmsAppointment, date_from: date, date_to: date) -> bool:
        if visit.starts_at is None:
            return False
        return date_from <= self.office.to_wall(visit.starts_at).date() <= date_to


def _records(lines: Iterable[PmsProcedure]) -> list[PmsRecord]:
    return [chart_record(each) for each in lines if each.status is not ProcedureStatus.DELETED]


def _operations(about: Json) -> tuple[object, ...]:
    return tuple(as_list(about.get("operations", [])))


def _capability(fields: Json) -> Capability:
    words = str(fields.get("support", ""))
    known = {each.value: each for each in Support}
    support = known.get(words, Support.UNSUPPORTED)
    reason = str(fields.get("reason", ""))[:300]
    return Capability(str(fields.get("operation", "")), support, reason)
