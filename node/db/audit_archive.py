"""Old parts of the audit leave for files; a checkpoint and a row of the chain say so.

A file (gzip, a JSON line a row) is read back and verified before its rows are removed. The chain
goes on behind the checkpoint, and each file follows the one before it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from node.db import audit
from node.db.audit import GENESIS, Head
from node.db.audit_parts import FORMAT, Part, PartBroken, links_of
from node.db.audit_rows import AuditRow, stored_rows
from node.db.session import Actor, begin, read
from node.db.tables import audit as audit_table
from node.db.tables import audit_checkpoint
from node.errors import Rejected, Retryable

#: Rows of one file; a longer part becomes several.
PART = 100_000


@dataclass(frozen=True, slots=True)
class Closed:
    """One part that was closed."""

    first_seq: int
    last_seq: int
    path: Path


def close_part(
    engine: sa.Engine, actor: Actor, folder: Path, before: datetime, most: int = PART
) -> Closed | None:
    """Archive the oldest rows that are older than `before`, at most `most`; None without any.

    Raises
    ------
    Rejected
        The chain does not hold there: nothing is moved.
    Retryable
        The disk does not take the file.
    """
    with read(engine) as conn:
        start = _last_closed(conn)
        last_seq = _last_before(conn, start.seq, before, most)
        if last_seq is None:
            return None
        path = folder / f"audit-{start.seq + 1}-{last_seq}.jsonl.gz"
        head = _write(conn, path, start, last_seq)
    sha256 = _read_back(Part(path, start, head))
    with begin(engine, actor, audit.ARCHIVED) as tx:
        values = {
            "last_seq": head.seq,
            "location_id": tx.location_id,
            "first_seq": start.seq + 1,
            "last_hash": head.hash,
            "file": path.name,
            "sha256": sha256,
            "at": tx.now,
        }
        tx.conn.execute(audit_checkpoint.insert().values(**values))
        tx.conn.execute(audit_table.delete().where(audit_table.c.seq <= head.seq))
        tx.record(
            f"audit:{start.seq + 1}-{head.seq}",
            first_seq=start.seq + 1,
            last_seq=head.seq,
            last_hash=head.hash,
            file=path.name,
            sha256=sha256,
        )
    return Closed(start.seq + 1, head.seq, path)


def _last_closed(conn: sa.Connection) -> Head:
    last = conn.execute(
        sa.select(audit_checkpoint).order_by(audit_checkpoint.c.last_seq.desc()).limit(1)
    ).first()
    return Head(last.last_seq, last.last_hash) if last else Head(0, GENESIS)


def _last_before(conn: sa.Connection, closed: int, before: datetime, most: int) -> int | None:
    """Find the last row of the oldest ones; times may go back a little, numbers never do."""
    kept = sa.select(sa.func.min(audit_table.c.seq)).where(audit_table.c.at >= before)
    first_kept = conn.execute(kept).scalar()
    newest = conn.execute(sa.select(sa.func.max(audit_table.c.seq))).scalar()
    if newest is None:
        return None
    last = int(first_kept) - 1 if first_kept is not None else int(newest)
    last = min(last, closed + most)
    return last if last > closed else None


def _write(conn: sa.Connection, path: Path, start: Head, last_seq: int) -> Head:
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                _write_line(packed, {"format": FORMAT, "first_seq": start.seq + 1})
                for row in _sound_rows(conn, start, last_seq):
                    _write_line(packed, as_link(row))
                    start = Head(row.seq, row.hash)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o600)
        part.replace(path)
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise Retryable(f"the archive of the audit cannot be written ({words})") from None
    return start


def _sound_rows(conn: sa.Connection, start: Head, last_seq: int) -> Iterator[AuditRow]:
    previous, expected = start.hash, start.seq + 1
    for row, problem in stored_rows(conn, until=last_seq):
        follows = (row.seq, row.previous_hash) == (expected, previous)
        if problem or not follows or not row.is_sound:
            raise Rejected(f"the audit does not hold at row {row.seq}; run bitewing verify-audit")
        yield row
        previous, expected = row.hash, expected + 1


def as_link(row: AuditRow) -> dict[str, object]:
    """Write a row as archives and exports hold it."""
    entry = row.entry
    return {
        "seq": row.seq,
        "location_id": entry.location_id,
        "at": entry.at.isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": dict(entry.detail),
        "previous_hash": row.previous_hash,
        "hash": row.hash,
    }


def _write_line(file: gzip.GzipFile, value: Mapping[str, object]) -> None:
    file.write(json.dumps(value).encode() + b"\n")


def _read_back(part: Part) -> str:
    """Read a file back, row by row; return its SHA-256. Raises Retryable when it is not whole."""
    try:
        for _ in links_of(part):
            continue
        with part.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (PartBroken, OSError) as error:
        raise Retryable(
            f"the archived part does not read back ({error}); nothing was removed"
        ) from None
