"""The sandbox driver: a vendor's public views over SQLite, and our own tables to write to.

What the vendors keep under licence is not imitated: writes go to tables named ``x_sandbox_…``, so
that nobody takes them for a vendor's. Locks are real ones of SQLite; posting can be made to take a
while, and a write can be made to pause between its commit and its answer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import cast

from node.errors import NotFound, Rejected, Retryable, Unsupported
from pms_writeback.bridge.driver import About, Table, Values, Window
from pms_writeback.bridge.sandbox_office import (
    LOCK_WAIT_S,
    EntryKind,
    SandboxOffice,
    insert_entry,
)
from pms_writeback.bridge.sandbox_visits import Booking, apply_booking
from pms_writeback.bridge.sql import DbConnection, SqlReader
from pms_writeback.bridge.wire import COMMANDS
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    Capability,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreateTask,
    MoveAppointment,
    OfficeTime,
    OutcomeUnknown,
    Receipt,
    Support,
    UploadDocument,
    carries,
    with_ref,
)

_VERIFY_S = 1.0


class SandboxDriver:
    """Reads the sandbox's views, and writes to its own tables."""

    def __init__(self, office: SandboxOffice) -> None:
        self._office = office
        self._layout = office.layout
        self._reader = SqlReader(
            lambda: cast(DbConnection, office.connect()), _is_lock, office.layout.product
        )
        office.connect().close()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The vendor's public views, and ours."""
        return self._layout.tables

    @property
    def posting_s(self) -> float:
        """How long posting may take here; twice what the simulator was told."""
        return 2.0 * self._number("posting_s")

    def about(self) -> About:
        """Say that this is a sandbox."""
        return About(self._layout.product, self._setting("version"), "sandbox", is_sandbox=True)

    def operations(self) -> tuple[Capability, ...]:
        """Take every command that the sandbox has a table for."""
        return tuple(_capability(command) for command in COMMANDS)

    def rows(self, table: Table, window: Window) -> Iterator[Values]:
        """Read a view."""
        return self._reader.rows(table, window)

    def row(self, table: Table, key: str) -> Values | None:
        """Read one row of a view."""
        return self._reader.row(table, key)

    def execute(self, command: Command) -> Receipt:
        """Write one command, and see it land before saying so."""
        if sentence := self._setting("refuse"):
            raise Rejected(sentence)
        if isinstance(command, CloseTask):
            return self._close_task(command)
        kind, fields, content = self._entry(command)
        posting_s = 0.0 if isinstance(command, Booking) else self._number("posting_s")
        try:
            with self._office.writing(LOCK_WAIT_S) as db:
                self._check_patient(db, command)
                if isinstance(command, Booking):
                    zone = OfficeTime(self._setting("time_zone") or "UTC")
                    key = apply_booking(db, self._layout.visits, command, zone)
                    insert_entry(db, {**fields, "procedure_id": key}, None)
                elif posting_s:
                    due = time.time() + posting_s
                    db.execute(
                        "INSERT INTO x_sandbox_posting (due_at, entry, content) VALUES (?, ?, ?)",
                        (due, json.dumps(fields), content),
                    )
                    key = ""
                else:
                    key = str(insert_entry(db, fields, content))
        except sqlite3.Error as error:
            raise self._reader.explain(error) from None
        self._trouble_after_commit()
        if posting_s:
            return self._wait_for(command)
        return Receipt(f"sandbox_{kind}", key)

    def find(self, command: Command) -> Receipt | None:
        """Search this patient's entries for the command's token."""
        kind = KINDS.get(type(command))
        if kind is None:
            raise Unsupported(f"the sandbox has no table for {type(command).__name__}")
        try:
            self._office.post_due(LOCK_WAIT_S)
            with closing(self._office.connect()) as db:
                rows = db.execute(
                    "SELECT id, text, is_done, procedure_id FROM x_sandbox_entry"
                    " WHERE kind = ? AND patient_id = ? ORDER BY id",
                    (kind, command.patient_key),
                ).fetchall()
        except sqlite3.Error as error:
            raise self._reader.explain(error) from None
        for key, text, is_done, visit in rows:
            if carries(text, command.ref) and (is_done or not isinstance(command, CloseTask)):
                landed = visit if kind == "booking" else str(key)
                return Receipt(f"sandbox_{kind}", landed, already_there=True)
        return None

    def close(self) -> None:
        """Nothing is held open."""

    def _entry(self, command: Command) -> tuple[EntryKind, dict[str, object], bytes | None]:
        at = datetime.now(UTC).isoformat()
        fields: dict[str, object] = {
            "patient_id": command.patient_key,
            "procedure_id": "",
            "detail": "{}",
            "at": at,
        }
        content: bytes | None = None
        match command:
            case AppendProcedureNote():
                kind: EntryKind = "note"
                fields |= {"procedure_id": command.procedure_key, "text": command.text}
            case AppendCommlog():
                kind = "contact"
                fields |= {"text": command.text, "at": command.when.isoformat()}
            case CreateTask():
                kind = "task"
                fields |= {"text": command.text}
            case UploadDocument():
                kind, content = "document", command.content
                detail = {
                    "filename": command.filename,
                    "category": command.category,
                    "teeth": list(command.tooth_numbers),
                    "sha256": hashlib.sha256(command.content).hexdigest(),
                }
                fields |= {"text": command.description, "detail": json.dumps(detail)}
            case BookAppointment():
                kind = "booking"
                fields |= {"text": command.text}
            case MoveAppointment() | ConfirmAppointment() | CancelAppointment():
                kind = "booking"
                fields |= {"text": type(command).__name__}
            case _:
                raise Unsupported(f"the sandbox has no table for {type(command).__name__}")
        fields |= {"kind": kind, "text": with_ref(str(fields["text"]), command.ref)}
        return kind, fields, content

    def _close_task(self, command: CloseTask) -> Receipt:
        try:
            with self._office.writing(LOCK_WAIT_S) as db:
                rows = db.execute(
                    "SELECT id, text, is_done FROM x_sandbox_entry"
                    " WHERE kind = 'task' AND patient_id = ? ORDER BY id",
                    (command.patient_key,),
                ).fetchall()
                mine = [row for row in rows if carries(row[1], command.task_ref)]
                if not mine:
                    raise NotFound("the task to close is not there; it may have been deleted")
                db.executemany(
                    "UPDATE x_sandbox_entry SET is_done = 1 WHERE id = ?", [(mine[0][0],)]
                )
        except sqlite3.Error as error:
            raise self._reader.explain(error) from None
        self._trouble_after_commit()
        return Receipt("sandbox_task", str(mine[0][0]), already_there=bool(mine[0][2]))

    def _check_patient(self, db: sqlite3.Connection, command: Command) -> None:
        table, column = self._layout.patients
        found = db.execute(
            f"SELECT 1 FROM {table} WHERE {column} = ?",  # noqa: S608 - names are ours
            (command.patient_key,),
        ).fetchone()
        if found is None:
            raise NotFound(f"{self._layout.product} has no such patient; nothing was written")
        if not isinstance(command, AppendProcedureNote):
            return
        table, column, owner = self._layout.procedures
        first = command.procedure_key.split("|")[0]
        found = db.execute(
            f"SELECT {owner} FROM {table} WHERE {column} = ?",  # noqa: S608 - names are ours
            (first,),
        ).fetchone()
        if found is None or str(found[0]) != command.patient_key:
            raise Rejected("the procedure belongs to another patient; nothing was written")

    def _wait_for(self, command: Command) -> Receipt:
        """Look for a delayed posting a moment, as somebody who reads back would."""
        limit = time.monotonic() + _VERIFY_S
        while time.monotonic() < limit:
            try:
                found = self.find(command)
            except Retryable:
                found = None
            if found is not None:
                return Receipt(found.resource, found.key)
            time.sleep(0.05)
        raise OutcomeUnknown(f"{self._layout.product} took the write and does not show it yet")

    def _trouble_after_commit(self) -> None:
        """Stand still, or lose the answer, as this practice was told to."""
        time.sleep(self._number("pause_after_commit_s"))
        left = int(self._number("lose_answers"))
        if left:
            self._office.set("lose_answers", str(left - 1))
            raise OutcomeUnknown("the answer to a write was lost (told to)")

    def _setting(self, name: str) -> str:
        statement = f"SELECT value FROM x_sandbox_setting WHERE name = '{name}'"  # noqa: S608
        return str(self._reader.value(statement) or "")

    def _number(self, name: str) -> float:
        try:
            return float(self._setting(name) or 0)
        except ValueError:
            return 0.0


KINDS: Mapping[type[Command], EntryKind] = {
    AppendProcedureNote: "note",
    AppendCommlog: "contact",
    UploadDocument: "document",
    CreateTask: "task",
    CloseTask: "task",
    BookAppointment: "booking",
    MoveAppointment: "booking",
    ConfirmAppointment: "booking",
    CancelAppointment: "booking",
}
"""The commands that the sandbox takes, and the kind of entry that each leaves."""


def _capability(command: type[Command]) -> Capability:
    if command in KINDS:
        return Capability(command.__name__, Support.SUPPORTED, "in the sandbox only")
    return Capability(command.__name__, Support.UNSUPPORTED, "the sandbox has no table for it")


def _is_lock(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
