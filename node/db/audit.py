"""The append-only, hash-chained audit: one row per write, each bound to the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.tables import audit

GENESIS = "0" * 64
#: Serialises appends on PostgreSQL; SQLite has one writer anyway.
_POSTGRES_LOCK = 4_242_001
_LAST = sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What one transaction did: ids and states, never names or findings' text."""

    location_id: str
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AuditBreak:
    """The first place where the chain does not hold, in words."""

    seq: int
    reason: str


def append(conn: sa.Connection, entry: AuditEntry) -> None:
    """Append `entry` to the chain inside the caller's transaction."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
    last = conn.execute(_LAST).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    conn.execute(
        audit.insert(),
        {
            "seq": seq,
            "location_id": entry.location_id,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": dict(entry.detail),
            "previous_hash": previous,
            "hash": _digest(seq, entry, previous),
        },
    )


def verify(conn: sa.Connection) -> tuple[int, AuditBreak | None]:
    """Walk the chain; return how many rows hold and the first break, if any."""
    previous, expected = GENESIS, 1
    for row in conn.execute(
        sa.select(audit).order_by(audit.c.seq), execution_options={"yield_per": 1000}
    ):
        if row.seq != expected:
            return expected - 1, AuditBreak(row.seq, f"row {expected} is missing")
        entry = AuditEntry(row.location_id, row.at, row.actor, row.action, row.subject, row.detail)
        if row.previous_hash != previous:
            return expected - 1, AuditBreak(row.seq, "does not follow the row before it")
        if row.hash != _digest(row.seq, entry, previous):
            return expected - 1, AuditBreak(row.seq, "its content was changed")
        previous, expected = row.hash, expected + 1
    return expected - 1, None


def _digest(seq: int, entry: AuditEntry, previous: str) -> str:
    content = [
        seq,
        entry.location_id,
        entry.at.isoformat(timespec="microseconds"),
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail,
        previous,
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
