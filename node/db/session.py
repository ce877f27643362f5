"""Opening the database, and ``begin``: the only door for writing."""

from __future__ import annotations

import functools
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from node.db import audit
from node.db.audit_rows import AuditEntry
from node.db.sqlite_release import check_sqlite
from node.db.tables import event
from node.db.write_turn import WriteTurn
from node.domain.events import EventKind
from node.errors import Retryable

_WRITER = {"bitewing_write": True}
#: PostgreSQL's deadlock_detected and serialization_failure.
_ENTANGLED = ("40P01", "40001")
R = TypeVar("R")


class Entangled(Retryable):
    """Two writers waited for each other and this one was undone: it may run again at once."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes: a user's id, or a part of the program such as ``dicom`` or ``pms-sync``."""

    name: str
    location_id: str


@dataclass(slots=True)
class Tx:
    """One write transaction, its actor, and what its audit row will say."""

    conn: sa.Connection
    actor: Actor
    action: str
    now: datetime
    subject: str = ""
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def location_id(self) -> str:
        """The location every row of this transaction belongs to."""
        return self.actor.location_id

    def record(self, subject: str, **detail: object) -> None:
        """Say in the audit row what this transaction did: ids and states only."""
        self.subject = subject
        self.detail.update(detail)

    def append_event(
        self, kind: EventKind, subject: str, key: str, data: Mapping[str, object] | None = None
    ) -> bool:
        """Leave an event under `key`; return False when it was there already (nothing is done)."""
        return insert_once(
            self.conn,
            event,
            {
                "location_id": self.location_id,
                "kind": kind.value,
                "key": key,
                "subject": subject,
                "data": dict(data or {}),
                "at": self.now,
            },
        )


def new_id() -> str:
    """Make an opaque 32-digit hex id that means nothing outside."""
    return secrets.token_hex(16)


def open_database(url: str) -> sa.Engine:
    """Open the database; SQLite in WAL mode with full durability, foreign keys on.

    Reads use plain connections; writes go through :func:`begin`, which takes SQLite's write lock
    at once (BEGIN IMMEDIATE) so that a reader never has to be upgraded, in turn
    (:mod:`node.db.write_turn`) so that no writer starves.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10)
    check_sqlite()
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        parsed, connect_args={"timeout": 30, "check_same_thread": False}, pool_size=16
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", functools.partial(_begin_sqlite, WriteTurn()))
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(turn: WriteTurn, conn: sa.Connection) -> None:
    if conn.get_execution_options().get("bitewing_write", False):
        turn.begin(conn)
    else:
        conn.exec_driver_sql("BEGIN")


@contextmanager
def begin(engine: sa.Engine, actor: Actor, action: str) -> Iterator[Tx]:
    """Open the one write transaction: everything inside commits together with its audit row.

    Raises
    ------
    Retryable
        The database is locked, away or full; nothing was written.
    """
    with begin_group(engine) as conn, _audited(conn, actor, action) as tx:
        yield tx


@contextmanager
def begin_group(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open one write transaction for several independent writes, each in :func:`begin_member`.

    Nothing of any of them is kept before the group is left. Raises Retryable as :func:`begin`.
    """
    try:
        with engine.connect().execution_options(**_WRITER) as conn, conn.begin():
            yield conn
    except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:  # the latter: no connection
        name = _name_of(error)
        family = Entangled if name in _ENTANGLED else Retryable
        raise family(f"the database did not take the write ({name})") from error


def _name_of(error: sa.exc.SQLAlchemyError) -> str:
    """Name what the database said, without its words: SQLITE_BUSY, an SQLSTATE, or a class."""
    said = getattr(error, "orig", error)
    name = getattr(said, "sqlite_errorname", None) or getattr(said, "sqlstate", None)
    return str(name or type(said).__name__)


def run_group(
    engine: sa.Engine, actor: Actor, action: str, works: Sequence[Callable[[Tx], R]]
) -> list[R]:
    """Run independent writes in one transaction, each with its audit row; all of them or none.

    Raises what a write raised, or Retryable as :func:`begin`.
    """
    with begin_group(engine) as conn:
        members = [Tx(conn, actor, action, datetime.now(UTC)) for _ in works]
        results = [work(tx) for work, tx in zip(works, members, strict=True)]
        audit.append(conn, *map(_entry, members))
    return results


@contextmanager
def begin_member(conn: sa.Connection, actor: Actor, action: str) -> Iterator[Tx]:
    """Open one write of a group: what fails inside undoes this write alone, audit row included."""
    with conn.begin_nested(), _audited(conn, actor, action) as tx:
        yield tx


def look(actor: Actor, action: str, subject: str, **detail: object) -> AuditEntry:
    """Make the audit's entry of somebody who reads something now; see :func:`note_reads`."""
    now = datetime.now(UTC)
    return AuditEntry(actor.location_id, now, actor.name, action, subject, detail)


def note_reads(engine: sa.Engine, entries: Sequence[AuditEntry]) -> None:
    """Append entries about reads to the audit, in one transaction. Raises Retryable as `begin`."""
    with begin_group(engine) as conn:
        audit.append(conn, *entries)


@contextmanager
def _audited(conn: sa.Connection, actor: Actor, action: str) -> Iterator[Tx]:
    tx = Tx(conn, actor, action, datetime.now(UTC))
    yield tx
    audit.append(conn, _entry(tx))


def _entry(tx: Tx) -> AuditEntry:
    return AuditEntry(tx.location_id, tx.now, tx.actor.name, tx.action, tx.subject, tx.detail)


@contextmanager
def read(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection for reading."""
    with engine.connect() as conn:
        yield conn


def insert_once(conn: sa.Connection, table: sa.Table, values: Mapping[str, object]) -> bool:
    """Insert a row unless one of its unique keys is taken; return whether it was inserted."""
    statement = _insert_once(table, conn.dialect.name)
    return conn.execute(statement, dict(values)).first() is not None


@functools.cache
def _insert_once(table: sa.Table, dialect_name: str) -> sa.Executable:
    """Build the statement once: on the way of every image, building cost more than running."""
    dialect = postgresql if dialect_name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing()
    built: sa.Executable = statement.returning(*table.primary_key)
    return built


def upsert(
    conn: sa.Connection, table: sa.Table, key: tuple[str, ...], values: Mapping[str, object]
) -> None:
    """Insert a row or update the one with the same `key` columns (the id is never changed)."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values)
    changed = {name: value for name, value in values.items() if name not in (*key, "id")}
    conn.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed))
