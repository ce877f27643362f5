"""Rows of what is, or is to be, in the bucket: one for each file's bytes, never two for one.

A file that is replaced under its storage key (sealed anew, composed again) is another copy: the
bucket's names end in the digest, so that no object in it ever changes and a fetch can be judged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from node.db.session import Tx
from node.db.tables import object_copy

_MOST_KEYS = 400


class CopyState(StrEnum):
    """Where one copy stands."""

    WAITING = "waiting"  # its file is on one node's disk only
    CONFIRMED = "confirmed"  # the bucket has it
    DAMAGED = "damaged"  # it ought to be somewhere and is not, or not as it was
    REMOVING = "removing"  # replaced or given up; the bucket may still have it
    REMOVED = "removed"


#: Of these one may be what a storage key means now.
KEPT = (CopyState.WAITING.value, CopyState.CONFIRMED.value, CopyState.DAMAGED.value)
#: These may be in the bucket and are to be read.
READABLE = (CopyState.CONFIRMED.value, CopyState.DAMAGED.value)


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy; `sha256` is of the bytes as they lie on the disk, sealed."""

    storage_key: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    key_id: str
    state: CopyState
    folder_id: str
    created_at: datetime

    @property
    def name(self) -> str:
        """How the bucket calls it, behind the prefix."""
        return f"{self.storage_key}.{self.sha256}"

    def is_of(self, path: Path) -> bool:
        """Whether a local file, by its time and size, is what this was made from."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_mtime_ns, status.st_size) == (self.mtime_ns, self.size_bytes)


def find_copies(conn: sa.Connection, storage_keys: Collection[str]) -> list[Copy]:
    """Read all copies of some objects, the oldest first."""
    keys = sorted(storage_keys)
    found: list[Copy] = []
    for start in range(0, len(keys), _MOST_KEYS):
        part = keys[start : start + _MOST_KEYS]
        found += _read(conn, object_copy.c.storage_key.in_(part), None)
    return found


def copies_in(
    conn: sa.Connection,
    location_id: str,
    states: Sequence[str],
    *conditions: sa.ColumnElement[bool],
    limit: int | None = None,
) -> list[Copy]:
    """Read the copies of a location in some states, the oldest first."""
    where = sa.and_(
        object_copy.c.location_id == location_id, object_copy.c.state.in_(states), *conditions
    )
    return _read(conn, where, limit)


def add_waiting(tx: Tx, copy: Copy) -> None:
    """Write down that a file waits for the bucket."""
    values = {name: getattr(copy, name) for name in Copy.__slots__}
    values |= {"location_id": tx.location_id, "state": copy.state.value, "changed_at": tx.now}
    tx.conn.execute(object_copy.insert().values(values))


def confirm(tx: Tx, copy: Copy) -> None:
    """Write down that the bucket has a copy; what it replaces is to be removed.

    One that was given up meanwhile is removed from the bucket, now that it came there.
    """
    columns = object_copy.c
    done = tx.conn.execute(
        object_copy.update()
        .where(_is(copy), columns.state.in_(KEPT))
        .values(state=CopyState.CONFIRMED.value, changed_at=tx.now)
    )
    if not done.rowcount:
        replaced = _is(copy)
    else:
        replaced = sa.and_(
            columns.storage_key == copy.storage_key,
            columns.sha256 != copy.sha256,
            columns.state.in_(READABLE),
        )
    removing = {"state": CopyState.REMOVING.value, "changed_at": tx.now}
    tx.conn.execute(object_copy.update().where(replaced).values(removing))


def mark(tx: Tx, copy: Copy, state: CopyState, folder_id: str = "") -> None:
    """Change where a copy stands; with `folder_id` also which data folder has its file."""
    values = {"state": state.value, "changed_at": tx.now}
    if folder_id:
        values["folder_id"] = folder_id
    tx.conn.execute(
        object_copy.update()
        .where(_is(copy), object_copy.c.state == copy.state.value)
        .values(values)
    )


def give_up(tx: Tx, storage_key: str) -> None:
    """Have all copies of an object removed."""
    tx.conn.execute(
        object_copy.update()
        .where(object_copy.c.storage_key == storage_key, object_copy.c.state.in_(KEPT))
        .values(state=CopyState.REMOVING.value, changed_at=tx.now)
    )


def _is(copy: Copy) -> sa.ColumnElement[bool]:
    return sa.and_(
        object_copy.c.storage_key == copy.storage_key, object_copy.c.sha256 == copy.sha256
    )


def _read(conn: sa.Connection, where: sa.ColumnElement[bool], limit: int | None) -> list[Copy]:
    columns = [object_copy.c[name] for name in Copy.__slots__]
    query = sa.select(*columns).where(where).order_by(object_copy.c.created_at).limit(limit)
    return [
        Copy(
            row.storage_key,
            row.sha256,
            row.size_bytes,
            row.mtime_ns,
            row.key_id,
            CopyState(row.state),
            row.folder_id,
            row.created_at,
        )
        for row in conn.execute(query)
    ]
