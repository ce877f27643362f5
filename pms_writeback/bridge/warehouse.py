"""The bridge's copy of the tables it may read: snapshots compared row by row, by hash.

The vendors promise no change stamps, so what changed is what hashes differently, and what was
deleted is what a whole snapshot lacks. Rows are sealed and hashed under the bridge's key; only the
PMS's own keys and the days of visits lie open.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import cast

from pms_writeback.bridge.driver import Table, Values
from pms_writeback.bridge.protocol import Scalar, TableRow
from pms_writeback.bridge.sqlite_file import SqliteFile
from pms_writeback.bridge.vault import Vault

_SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
    tbl TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL,
    changed_at TEXT NOT NULL, is_gone INTEGER NOT NULL, day TEXT NOT NULL, sealed BLOB NOT NULL,
    PRIMARY KEY (tbl, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS held_seq ON held (seq);
CREATE INDEX IF NOT EXISTS held_table_seq ON held (tbl, seq);
CREATE TABLE IF NOT EXISTS look (
    tbl TEXT PRIMARY KEY, at TEXT NOT NULL, doubts INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS meta (epoch TEXT NOT NULL, seq INTEGER NOT NULL);
"""

_DOUBT_ROWS = 20
"""A table that loses more than half of at least this many rows is looked at twice."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one snapshot found; `is_doubtful` says that its deletions wait for a second look."""

    added: int
    changed: int
    gone: int
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Changes of one table after a cursor, in the order they were seen.

    ``as_of`` is when the table was last read whole, None when it never was.
    """

    epoch: str
    rows: tuple[TableRow, ...]
    seq: int
    is_last: bool
    as_of: datetime | None


class Warehouse:
    """Sealed rows of the practice's tables; safe to use from several threads."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._vault = vault
        self._file = SqliteFile(path, _SCHEMA, "warehouse", "NORMAL")  # can be read again
        with self._file.transaction() as db:
            if db.execute("SELECT 1 FROM meta").fetchone() is None:
                db.execute("INSERT INTO meta VALUES (?, 0)", (secrets.token_hex(8),))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def take(
        self, table: Table, rows: Iterable[Values], window: tuple[date, date], now: datetime
    ) -> Taken:
        """Compare a whole reading of a table with what is held; all of it or nothing is kept.

        Rows whose day left the window are dropped without a word; other missing ones are gone.
        """
        found = {table.key_of(values): values for values in rows}
        with self._file.transaction() as db:
            held = {
                row["key"]: row
                for row in db.execute(
                    "SELECT key, hash, is_gone, day FROM held WHERE tbl = ?", (table.name,)
                )
            }
            added = changed = 0
            for key, values in found.items():
                known = held.get(key)
                digest = self._hash(values)
                if known is not None and known["hash"] == digest and not known["is_gone"]:
                    continue
                added += known is None or bool(known["is_gone"])
                changed += known is not None and not known["is_gone"]
                self._keep(db, table, key, values, digest, now)
            first = window[0].isoformat() if table.day_column else ""
            absent = {key: row for key, row in held.items() if key not in found}
            past = {key for key, row in absent.items() if row["day"] and row["day"] < first}
            db.executemany(
                "DELETE FROM held WHERE tbl = ? AND key = ?", [(table.name, key) for key in past]
            )
            missing = [key for key, row in absent.items() if key not in past and not row["is_gone"]]
            alive = sum(not row["is_gone"] for row in held.values())
            is_doubtful = self._is_doubtful(db, table, alive, len(missing))
            if not is_doubtful:
                self._bury(db, table, missing, now)
            db.execute(
                "INSERT INTO look (tbl, at, doubts) VALUES (?, ?, ?) ON CONFLICT (tbl) DO UPDATE"
                " SET at = excluded.at, doubts = excluded.doubts",
                (table.name, now.isoformat(), int(is_doubtful)),
            )
        return Taken(added, changed, 0 if is_doubtful else len(missing), is_doubtful)

    def take_row(self, table: Table, key: str, values: Values | None, now: datetime) -> None:
        """Keep one row that was read alone; None marks it gone when it was held."""
        with self._file.transaction() as db:
            known = db.execute(
                "SELECT hash, is_gone FROM held WHERE tbl = ? AND key = ?", (table.name, key)
            ).fetchone()
            if values is None:
                if known is not None and not known["is_gone"]:
                    self._bury(db, table, [key], now)
                return
            digest = self._hash(values)
            if known is None or known["is_gone"] or known["hash"] != digest:
                self._keep(db, table, key, values, digest, now)

    def page(self, table: str, epoch: str, after: int, limit: int) -> Page:
        """Give the changes after a cursor; a cursor of another epoch starts from the beginning."""
        with self._file.transaction() as db:
            mine = str(db.execute("SELECT epoch FROM meta").fetchone()["epoch"])
            start = after if epoch == mine else 0
            rows = db.execute(
                "SELECT * FROM held WHERE tbl = ? AND seq > ? ORDER BY seq LIMIT ?",
                (table, start, limit + 1),
            ).fetchall()
            look = db.execute("SELECT at FROM look WHERE tbl = ?", (table,)).fetchone()
        is_last = len(rows) <= limit
        shown = rows[:limit]
        return Page(
            mine,
            tuple(self._open(row) for row in shown),
            shown[-1]["seq"] if shown else start,
            is_last,
            datetime.fromisoformat(look["at"]) if look else None,
        )

    def row(self, table: str, key: str) -> TableRow | None:
        """Give one held row, gone ones included."""
        with self._file.transaction() as db:
            row = db.execute(
                "SELECT * FROM held WHERE tbl = ? AND key = ?", (table, key)
            ).fetchone()
        return None if row is None else self._open(row)

    def last_look(self, table: str) -> datetime | None:
        """Say when a table was last read whole."""
        with self._file.transaction() as db:
            row = db.execute("SELECT at FROM look WHERE tbl = ?", (table,)).fetchone()
        return datetime.fromisoformat(row["at"]) if row else None

    def counts(self) -> dict[str, int]:
        """Count the rows held of each table, without the gone ones."""
        with self._file.transaction() as db:
            rows = db.execute(
                "SELECT tbl, COUNT(*) AS n FROM held WHERE NOT is_gone GROUP BY tbl"
            ).fetchall()
        return {row["tbl"]: row["n"] for row in rows}

    def _hash(self, values: Values) -> bytes:
        canonical = json.dumps(dict(values), sort_keys=True, separators=(",", ":"))
        return self._vault.digest(canonical.encode())

    def _is_doubtful(self, db: sqlite3.Cursor, table: Table, alive: int, missing: int) -> bool:
        """Doubt a reading once that lacks most of a table: a view that failed looks like that."""
        if alive < _DOUBT_ROWS or missing * 2 <= alive:
            return False
        row = db.execute("SELECT doubts FROM look WHERE tbl = ?", (table.name,)).fetchone()
        return row is None or not row["doubts"]

    def _keep(
        self,
        db: sqlite3.Cursor,
        table: Table,
        key: str,
        values: Values,
        digest: bytes,
        now: datetime,
    ) -> None:
        day = str(values.get(table.day_column) or "")[:10] if table.day_column else ""
        sealed = self._vault.seal(dict(values), f"{table.name}|{key}")
        db.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
            (table.name, key, digest, _next(db), now.isoformat(), day, sealed),
        )

    def _bury(self, db: sqlite3.Cursor, table: Table, keys: Iterable[str], now: datetime) -> None:
        for key in keys:
            db.execute(
                "UPDATE held SET is_gone = 1, seq = ?, changed_at = ? WHERE tbl = ? AND key = ?",
                (_next(db), now.isoformat(), table.name, key),
            )

    def _open(self, row: Mapping[str, object]) -> TableRow:
        about = f"{row['tbl']}|{row['key']}"
        values = self._vault.open(cast(bytes, row["sealed"]), about)
        return TableRow(
            str(row["key"]),
            datetime.fromisoformat(str(row["changed_at"])),
            bool(row["is_gone"]),
            cast(Mapping[str, Scalar], values),
        )


def _next(db: sqlite3.Cursor) -> int:
    return int(db.execute("UPDATE meta SET seq = seq + 1 RETURNING seq").fetchone()["seq"])
