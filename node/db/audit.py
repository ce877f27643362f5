"""The append-only, hash-chained audit: one row per write or read, each bound to the one before.

A row's hash is taken over the digest of its content and the hash before it, so that an export can
prove its place in the chain by digests of the rows that it leaves out (`node.db.audit_proof`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.audit_rows import AuditEntry, AuditRow, content_digest, stored_rows
from node.db.tables import audit, audit_checkpoint
from node.domain.audit_chain import chained

GENESIS = "0" * 64
#: What the row is called that closes an archived part; its detail repeats the checkpoint.
ARCHIVED = "audit.archived"
#: What reading a damaged database raises; see :func:`is_away`.
UNREADABLE = (sa.exc.DatabaseError, ValueError, TypeError, OverflowError)
DAMAGED = "cannot be read: the database's file is damaged"
#: Serialises appends on PostgreSQL; SQLite has one writer anyway.
_POSTGRES_LOCK = 4_242_001
_LAST = sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)
_CHECKPOINT = sa.select(audit_checkpoint).order_by(audit_checkpoint.c.last_seq.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class AuditBreak:
    """The first place where the chain does not hold, in words."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of the chain at one moment; what is anchored outside."""

    seq: int
    hash: str


def append(conn: sa.Connection, *entries: AuditEntry) -> None:
    """Append entries to the chain, in their order, inside the caller's transaction."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
    last = read_head(conn)
    seq, previous = last.seq, last.hash
    rows = []
    for entry in entries:
        seq += 1
        made = chained(previous, content_digest(seq, entry))
        rows.append(
            {
                "seq": seq,
                "location_id": entry.location_id,
                "at": entry.at,
                "actor": entry.actor,
                "action": entry.action,
                "subject": entry.subject,
                "detail": dict(entry.detail),
                "previous_hash": previous,
                "hash": made,
            }
        )
        previous = made
    conn.execute(audit.insert(), rows if len(rows) > 1 else rows[0])


def read_head(conn: sa.Connection) -> Head:
    """Read the end of the chain; row 0 with the hash of nothing before the first row."""
    last = conn.execute(_LAST).first()
    if last is not None:
        return Head(last.seq, last.hash)
    closed = conn.execute(_CHECKPOINT).first()
    return Head(closed.last_seq, closed.last_hash) if closed else Head(0, GENESIS)


def verify(
    conn: sa.Connection, heads: Mapping[int, str] | None = None
) -> tuple[int, AuditBreak | None]:
    """Walk the chain; return how many rows hold and the first break, if any.

    `heads` are hashes that were anchored outside, by row: the chain must pass through each of
    them, so that rows cut off its end, or a chain computed anew, are found too. It begins at the
    first row, or behind the newest checkpoint, which the chain itself must name.
    """
    anchored = heads or {}
    closed = conn.execute(_CHECKPOINT).first()
    previous, expected = (closed.last_hash, closed.last_seq + 1) if closed else (GENESIS, 1)
    first, is_named = expected, closed is None
    if closed is not None and anchored.get(closed.last_seq, closed.last_hash) != closed.last_hash:
        return 0, AuditBreak(closed.last_seq, "the checkpoint is not what was anchored")
    try:
        for row, problem in stored_rows(conn):
            reason = problem or _problem(row, expected, previous, anchored)
            if reason:
                return expected - first, AuditBreak(min(row.seq, expected), reason)
            if closed is not None and _names(row, closed):
                is_named = True
            previous, expected = row.hash, expected + 1
    except UNREADABLE as error:
        if is_away(error):
            raise
        seq = _first_unreadable(conn, expected)
        return seq - first, AuditBreak(seq, DAMAGED)
    if not is_named:
        return expected - first, AuditBreak(
            first - 1, f"the rows before row {first} are missing, and no row of the chain says why"
        )
    newest = max(anchored, default=0)
    if newest >= expected:
        cut = f"row {expected} is missing: the audit was anchored up to row {newest}"
        return expected - first, AuditBreak(expected, cut)
    return expected - first, None


def is_away(error: BaseException) -> bool:
    """Tell a database that is away or busy from one whose file is damaged."""
    if not isinstance(error, sa.exc.OperationalError):
        return False
    is_sqlite = isinstance(error.orig, sqlite3.Error)
    return not is_sqlite or "locked" in str(error.orig)


def _first_unreadable(conn: sa.Connection, expected: int) -> int:
    """Find the row at which reading fails; a page of rows is read at once before that."""
    seq = expected
    try:
        while any(True for _ in stored_rows(conn, since=seq, until=seq)):
            seq += 1
    except UNREADABLE as error:
        if is_away(error):
            raise
    return seq


def _problem(row: AuditRow, expected: int, previous: str, heads: Mapping[int, str]) -> str:
    if row.seq > expected:
        return f"row {expected} is missing"
    if row.seq < expected:
        return "is out of its place"
    if row.previous_hash != previous:
        return "does not follow the row before it"
    if not row.is_sound:
        return "its content was changed"
    if heads.get(row.seq, row.hash) != row.hash:
        return "is not the row that was anchored; the chain was written anew"
    return ""


def _names(row: AuditRow, closed: sa.Row[tuple[object, ...]]) -> bool:
    said = row.entry.detail
    return row.entry.action == ARCHIVED and (
        (said.get("last_seq"), said.get("last_hash"), said.get("sha256"))
        == (closed.last_seq, closed.last_hash, closed.sha256)
    )
