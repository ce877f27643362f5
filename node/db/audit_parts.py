"""Archived parts of the audit, read back: each verified row by row, in the order of the chain."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.db.audit import ARCHIVED, GENESIS, AuditBreak, Head
from node.db.audit_rows import AuditEntry, AuditRow
from node.db.tables import audit as audit_table
from node.db.tables import audit_checkpoint
from node.domain.audit_chain import problem_of
from node.errors import ConfigError, Rejected

FORMAT = "bitewing-audit-archive-1"
_NAME = re.compile(r"audit-\d+-\d+\.jsonl\.gz")
#: Unpacked in small bites: what stands before a damaged place is still read.
_BITE = 64

Link = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Part:
    """One file, and between which rows of the chain it belongs."""

    path: Path
    start: Head
    end: Head


class PartBroken(Exception):
    """The first row of a part that does not hold, in words."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(reason)
        self.broken = AuditBreak(seq, reason)


def verify_archives(
    conn: sa.Connection, folder: Path, heads: Mapping[int, str]
) -> tuple[int, AuditBreak | None]:
    """Verify every archived part; return how many rows hold and the first break, if any.

    `heads` are hashes that were anchored outside, by row. A row of the chain must say of each part
    what its checkpoint says.
    """
    start, count = Head(0, GENESIS), 0
    told = _told(conn)
    for row in conn.execute(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.last_seq)):
        if row.first_seq != start.seq + 1:
            return count, AuditBreak(start.seq + 1, "is neither kept nor archived")
        if not _NAME.fullmatch(row.file):
            return count, AuditBreak(row.first_seq, "its checkpoint names no archive")
        part = Part(folder / row.file, start, Head(row.last_seq, row.last_hash))
        if not part.path.is_file():
            return count, AuditBreak(row.first_seq, f"the archive {row.file} is missing")
        try:
            for link in links_of(part):
                seq, hash_ = int(str(link["seq"])), str(link["hash"])
                if heads.get(seq, hash_) != hash_:
                    return count, AuditBreak(seq, "is not the row that was anchored")
                if link["action"] == ARCHIVED:
                    told.append(_of_link(link))
                count += 1
        except PartBroken as error:
            reason = f"the archive {row.file} was changed: {error}"
            return count, AuditBreak(error.broken.seq, reason)
        if _sha256(part.path) != row.sha256:
            reason = f"the archive {row.file} was changed; its rows read as they were"
            return count, AuditBreak(row.first_seq, reason)
        start = part.end
    return count, _untold(conn, told)


def archived_links(conn: sa.Connection, folder: Path, heads: Mapping[int, str]) -> Iterator[Link]:
    """Verify every archived part, then give their rows, the oldest first.

    Raises Rejected, with the row, when one does not hold: nothing is given then.
    """
    _, broken = verify_archives(conn, folder, heads)
    if broken is not None:
        raise Rejected(f"the audit does not hold at row {broken.seq}: {broken.reason}")
    start = Head(0, GENESIS)
    for row in conn.execute(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.last_seq)):
        end = Head(row.last_seq, row.last_hash)
        yield from links_of(Part(folder / row.file, start, end))
        start = end


def links_of(part: Part) -> Iterator[Link]:
    """Read a part's rows in order. Raises PartBroken at the first that does not hold."""
    previous, expected = part.start.hash, part.start.seq + 1
    lines = _lines(part.path)
    try:
        if json.loads(next(lines, b"{}")) != {"format": FORMAT, "first_seq": expected}:
            raise PartBroken(expected, "it is another one")
        for line in lines:
            link = json.loads(line)
            problem = _problem(link, previous, expected)
            if problem:
                raise PartBroken(expected, problem)
            yield link
            previous, expected = str(link["hash"]), expected + 1
    except (OSError, zlib.error, ValueError, KeyError, TypeError):
        raise PartBroken(min(expected, part.end.seq), "it cannot be read there") from None
    if expected <= part.end.seq:
        raise PartBroken(expected, f"row {expected} is missing")
    if Head(expected - 1, previous) != part.end:
        raise PartBroken(part.end.seq, "its end is not what the checkpoint names")


def row_of(link: Link) -> AuditRow:
    """Make a row of what an archive holds of it."""
    texts = {name: str(link[name]) for name in ("location_id", "actor", "action", "subject")}
    detail = link["detail"]
    entry = AuditEntry(
        at=datetime.fromisoformat(str(link["at"])),
        detail=detail if isinstance(detail, Mapping) else {},
        **texts,
    )
    return AuditRow(int(str(link["seq"])), entry, str(link["previous_hash"]), str(link["hash"]))


def _problem(link: Link, previous: str, expected: int) -> str:
    seq = int(str(link["seq"]))
    if seq != expected:
        return f"row {expected} is missing"
    return problem_of(link, previous)


def _lines(path: Path) -> Iterator[bytes]:
    """Unpack a file line by line, as far as it goes. Raises zlib.error, ValueError or OSError."""
    unpack, rest = zlib.decompressobj(wbits=31), b""  # 31: with gzip's head and checksum
    with path.open("rb") as file:
        while bite := file.read(_BITE):
            if unpack.eof:
                raise ValueError("something follows the end")
            *lines, rest = (rest + unpack.decompress(bite)).split(b"\n")
            yield from lines
    if rest or not unpack.eof or unpack.unused_data:
        raise ValueError("the end is missing")


_Told = tuple[object, ...]


def _told(conn: sa.Connection) -> list[_Told]:
    """Read what the rows at hand say of archived parts."""
    rows = conn.execute(sa.select(audit_table).where(audit_table.c.action == ARCHIVED))
    return [_of_row(row.location_id, row.at, row.detail) for row in rows]


def _of_link(link: Link) -> _Told:
    row = row_of(link)
    return _of_row(row.entry.location_id, row.entry.at, row.entry.detail)


def _of_row(location_id: str, at: datetime, said: Mapping[str, Any]) -> _Told:
    names = ("first_seq", "last_seq", "last_hash", "file", "sha256")
    return (location_id, at.astimezone(UTC), *(said.get(name) for name in names))


def _untold(conn: sa.Connection, told: list[_Told]) -> AuditBreak | None:
    """Find the first checkpoint of which no row of the chain says the same."""
    for row in conn.execute(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.last_seq)):
        if _of_row(row.location_id, row.at, dict(row._mapping)) not in told:
            return AuditBreak(row.first_seq, "its checkpoint is not what the chain says of it")
    return None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"an archive of the audit cannot be read ({error.strerror})") from None
