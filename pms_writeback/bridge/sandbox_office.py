"""An invented practice in one SQLite file, and what a person or a test may do to it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from node.errors import ConfigError
from pms_writeback.bridge.driver import Table
from pms_writeback.bridge.sandbox_visits import VisitTable
from pms_writeback.pms import OfficeTime

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
LOCK_WAIT_S = 0.2

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

    def connect(self, wait_s: float = LOCK_WAIT_S) -> sqlite3.Connection:
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
                insert_entry(db, json.loads(entry), content)
                db.execute("DELETE FROM x_sandbox_posting WHERE id = ?", (key,))


def insert_entry(
    db: sqlite3.Connection, fields: Mapping[str, object], content: bytes | None
) -> int:
    """Add what was written, in the open transaction; gives its number."""
    cursor = db.execute(
        "INSERT INTO x_sandbox_entry (kind, patient_id, procedure_id, text, detail, content, at)"
        " VALUES (:kind, :patient_id, :procedure_id, :text, :detail, :content, :at)",
        {**fields, "content": content},
    )
    return int(cursor.lastrowid or 0)
