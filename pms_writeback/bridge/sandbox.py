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
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from node.errors import ConfigError, NotFound, Rejected, Retryable, Unsupported
from pms_writeback.bridge.driver import About, Table, Values, Window
from pms_writeback.bridge.sandbox_visits import Booking, VisitTable, apply_booking
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

_SCHEMA = """
CREATE TABLE x_sandbox_entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, patient_id TEXT NOT NULL,
    procedure_id TEXT NOT NULL, text TEXT NOT NULL, is_done INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL, content BLOB, at TEXT NOT NULL
);
CREATE TABLE x_sandbox_posting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, due_at REAL NOT NULL, entry TEXT NOT NULL, content BLOB
);
CREATE TABLE x_sandbox_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_LOCK_WAIT_S = 0.2
_VERIFY_S = 1.0

EntryKind = Literal["note", "contact", "document", "task", "booking"]


@dataclass(frozen=True, slots=True)
class SandboxLayout:
    """One vendor's sandbox: its views, where its patients and procedures are, its own words.

    ``alias`` is the schema before the names, as the vendor writes them; ``patients`` and
    ``procedures`` name a table and the columns of its key (and the procedure's patient).
    """

    product: str
    alias: str
    tables: tuple[Table, ...]
    patients: tuple[str, str]
    procedures: tuple[str, str, str]
    visits: VisitTable


@dataclass(frozen=True, slots=True)
class Entry:
    """Something written to the sandbox, in the order it landed."""

    id: int
    kind: str
    patient_id: str
    procedure_id: str
    text: str
    is_done: bool
    detail: Mapping[str, object]
    content: bytes | None


class SandboxOffice:
    """An invented practice in one SQLite file, and what a person may do to it."""

    def __init__(self, path: Path, layout: SandboxLayout) -> None:
        self.path = path
        self.layout = layout

    def create(self, statements: str, time_zone: str) -> None:
        """Make the file with the vendor's views as `statements` say; refuses one that is there."""
        if self.path.exists():
            raise ConfigError(f"{self.path} is there already; remove it to start afresh")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(statements + _SCHEMA)
        self.set("version", "sandbox")
        self.set("time_zone", OfficeTime(time_zone).zone_name)

    def connect(self, wait_s: float = _LOCK_WAIT_S) -> sqlite3.Connection:
        """Open the file as the vendor's client would see it; raises ConfigError when it is gone."""
        if not self.path.exists():
            raise ConfigError(f"no sandbox practice at {self.path}: run `bitewing bridge sandbox`")
        if not self.layout.alias:
            return sqlite3.connect(self.path, timeout=wait_s, isolation_level=None)
        db = sqlite3.connect(":memory:", timeout=wait_s, isolation_level=None)
        db.execute(f"ATTACH DATABASE ? AS {self.layout.alias}", (str(self.path),))
        return db

    @contextmanager
    def writing(self, wait_s: float = 30.0) -> Iterator[sqlite3.Connection]:
        """Open a write transaction that commits unless the block raises."""
        with closing(self.connect(wait_s)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the whole practice against everybody while the block runs."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                db.execute("ROLLBACK")

    def set(self, name: str, value: str) -> None:
        """Change a setting: ``version``, ``posting_s``, or a fault.

        The faults: ``pause_after_commit_s``, ``lose_answers`` (how many), ``refuse`` (a sentence).
        """
        with self.writing() as db:
            db.execute("INSERT OR REPLACE INTO x_sandbox_setting VALUES (?, ?)", (name, value))

    def entries(self) -> list[Entry]:
        """Give everything that was written, in the order it landed; due postings included."""
        self.post_due()
        with closing(self.connect(30.0)) as db:
            rows = db.execute(
                "SELECT id, kind, patient_id, procedure_id, text, is_done, detail, content"
                " FROM x_sandbox_entry ORDER BY id"
            ).fetchall()
        return [
            Entry(row[0], row[1], row[2], row[3], row[4], bool(row[5]), json.loads(row[6]), row[7])
            for row in rows
        ]

    def post_due(self, wait_s: float = 30.0) -> None:
        """Let what was accepted and is due land, as the vendor's server would in its own time."""
        with closing(self.connect(wait_s)) as db:
            due = db.execute(
                "SELECT COUNT(*) FROM x_sandbox_posting WHERE due_at <= ?", (time.time(),)
            ).fetchone()[0]
        if not due:
            return
        with self.writing(wait_s) as db:
            rows = db.execute(
                "SELECT id, entry, content FROM x_sandbox_posting WHERE due_at <= ? ORDER BY id",
                (time.time(),),
            ).fetchall()
            for key, entry, content in rows:
                _insert(db, json.loads(entry), content)
                db.execute("DELETE FROM x_sandbox_posting WHERE id = ?", (key,))


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
            with self._office.writing(_LOCK_WAIT_S) as db:
                self._check_patient(db, command)
                if isinstance(command, Booking):
                    zone = OfficeTime(self._setting("time_zone") or "UTC")
                    key = apply_booking(db, self._layout.visits, command, zone)
                    _insert(db, {**fields, "procedure_id": key}, None)
                elif posting_s:
                    due = time.time() + posting_s
                    db.execute(
                        "INSERT INTO x_sandbox_posting (due_at, entry, content) VALUES (?, ?, ?)",
                        (due, json.dumps(fields), content),
                    )
                    key = ""
                else:
                    key = str(_insert(db, fields, content))
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
            self._office.post_due(_LOCK_WAIT_S)
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
            with self._office.writing(_LOCK_WAIT_S) as db:
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


def _insert(db: sqlite3.Connection, fields: Mapping[str, object], content: bytes | None) -> int:
    cursor = db.execute(
        "INSERT INTO x_sandbox_entry (kind, patient_id, procedure_id, text, detail, content, at)"
        " VALUES (:kind, :patient_id, :procedure_id, :text, :detail, :content, :at)",
        {**fields, "content": content},
    )
    return int(cursor.lastrowid or 0)


def _is_lock(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
