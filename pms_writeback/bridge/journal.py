"""The bridge's journal: each command under its key, what became of it, and notices for the node.

One SQLite file in WAL mode with full durability. A command's state is on disk before the practice's
system is touched, and its receipt before the node hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from node.errors import ConfigError, Conflict
from pms_writeback.bridge.sqlite_file import SqliteFile
from pms_writeback.bridge.vault import Vault
from pms_writeback.bridge.wire import (
    command_key,
    decode_command,
    encode_command,
    fingerprint,
)
from pms_writeback.pms import Command, Receipt

_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    payload BLOB,
    valid_until TEXT NOT NULL,
    begun_at TEXT,
    asked TEXT NOT NULL DEFAULT '',
    resource TEXT NOT NULL DEFAULT '',
    receipt TEXT NOT NULL DEFAULT '',
    already_there INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS notice (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    words TEXT NOT NULL,
    count INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
MAX_NOTICES = 500
_MARK = "vault"


class EntryState(StrEnum):
    """Where a command stands.

    WAITING was not begun; BEGUN may have reached the practice's system; DONE has its receipt;
    RELEASED certainly did not land, and may be sent again.
    """

    WAITING = "waiting"
    BEGUN = "begun"
    DONE = "done"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the journal; `valid_until` is the last moment at which it may be begun.

    ``asked`` is the id of the node's request that it was last taken with.
    """

    key: str
    state: EntryState
    valid_until: datetime
    begun_at: datetime | None
    receipt: Receipt | None
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the node should know: an error's kind and sentence, which names nobody."""

    seq: int
    at: datetime
    kind: str
    words: str
    count: int

    def to_json(self) -> dict[str, object]:
        """Encode it for the wire."""
        return {
            "seq": self.seq,
            "at": self.at.isoformat(),
            "kind": self.kind,
            "words": self.words,
            "count": self.count,
        }


class Journal:
    """The commands this bridge ever took; safe to use from several threads."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._vault = vault
        self._file = SqliteFile(path, _SCHEMA, "journal", "FULL")
        mark = vault.digest(b"journal").hex()
        if self.setting(_MARK) not in ("", mark):
            self._file.close()
            raise ConfigError(
                f"the vault.key beside {path} is not the key of this journal; restore it, or move"
                " the journal away and look in the chart for what was under way"
            )
        self.remember(_MARK, mark)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def entry(self, command: Command) -> Entry | None:
        """Look a command up; raises Conflict when another one was sent under its key."""
        with self._file.transaction() as db:
            row = db.execute(
                "SELECT * FROM command WHERE key = ?", (command_key(command),)
            ).fetchone()
        if row is None:
            return None
        if row["fingerprint"] != self._fingerprint(command):
            raise Conflict("another command was sent under the same key before; nothing is written")
        return _entry(row)

    def accept(self, command: Command, valid_until: datetime, asked: str = "") -> Entry:
        """Take a command that may be begun until then, durably; one that is done stays done.

        Raises Conflict when another command was sent under its key.
        """
        known = self.entry(command)
        if known is not None and known.state is EntryState.DONE:
            return known
        key = command_key(command)
        sealed = self._vault.seal(encode_command(command), key)
        with self._file.transaction() as db:
            db.execute(
                "INSERT INTO command (key, fingerprint, state, payload, valid_until, asked)"
                " VALUES (?, ?, 'waiting', ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " state = 'waiting', payload = excluded.payload, asked = excluded.asked,"
                " valid_until = excluded.valid_until, begun_at = NULL",
                (key, self._fingerprint(command), sealed, valid_until.isoformat(), asked),
            )
        return Entry(key, EntryState.WAITING, valid_until, None, None, asked)

    def begin(self, key: str, now: datetime) -> None:
        """Say that the practice's system is about to be touched."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE command SET state = 'begun', begun_at = ? WHERE key = ?",
                (now.isoformat(), key),
            )

    def begin_again(self, now: datetime) -> None:
        """Count the time of everything begun from `now`: when it was written is not known."""
        with self._file.transaction() as db:
            db.execute("UPDATE command SET begun_at = ? WHERE state = 'begun'", (now.isoformat(),))

    def release(self, key: str) -> None:
        """Say that it certainly did not land; its content will come again if it is sent again."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE command SET state = 'released', payload = NULL, begun_at = NULL"
                " WHERE key = ?",
                (key,),
            )

    def finish(self, key: str, receipt: Receipt) -> None:
        """Keep the receipt for ever; the command's content is no longer needed."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE command SET state = 'done', payload = NULL, resource = ?, receipt = ?,"
                " already_there = ? WHERE key = ?",
                (receipt.resource, receipt.key, int(receipt.already_there), key),
            )

    def open_entries(self) -> list[tuple[Entry, Command]]:
        """Give what was taken and neither done nor released, in the order it came."""
        with self._file.transaction() as db:
            rows = db.execute(
                "SELECT * FROM command WHERE state IN ('waiting', 'begun') ORDER BY seq"
            ).fetchall()
        return [
            (_entry(row), decode_command(self._vault.open(row["payload"], row["key"])))
            for row in rows
        ]

    def counts(self) -> dict[str, int]:
        """Count the commands by state."""
        with self._file.transaction() as db:
            rows = db.execute("SELECT state, COUNT(*) AS n FROM command GROUP BY state").fetchall()
        return {row["state"]: row["n"] for row in rows}

    def note(self, at: datetime, kind: str, words: str) -> None:
        """Keep a notice for the node; the same one again only counts up."""
        with self._file.transaction() as db:
            last = db.execute("SELECT * FROM notice ORDER BY seq DESC LIMIT 1").fetchone()
            if last is not None and (last["kind"], last["words"]) == (kind, words):
                db.execute("UPDATE notice SET count = count + 1 WHERE seq = ?", (last["seq"],))
                return
            db.execute(
                "INSERT INTO notice (at, kind, words) VALUES (?, ?, ?)",
                (at.isoformat(), kind, words[:300]),
            )
            db.execute(
                "DELETE FROM notice WHERE seq <= (SELECT MAX(seq) FROM notice) - ?", (MAX_NOTICES,)
            )

    def notices(self) -> list[Notice]:
        """Give the notices the node has not confirmed, oldest first, at most 50."""
        with self._file.transaction() as db:
            rows = db.execute("SELECT * FROM notice ORDER BY seq LIMIT 50").fetchall()
        return [
            Notice(
                row["seq"],
                datetime.fromisoformat(row["at"]),
                row["kind"],
                row["words"],
                row["count"],
            )
            for row in rows
        ]

    def forget_notices(self, up_to: int) -> None:
        """Drop what the node has confirmed."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM notice WHERE seq <= ?", (up_to,))

    def setting(self, name: str) -> str:
        """Read a remembered value; empty when there is none."""
        with self._file.transaction() as db:
            row = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row["value"])

    def remember(self, name: str, value: str) -> None:
        """Remember a value over restarts."""
        if self.setting(name) == value:
            return
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def _fingerprint(self, command: Command) -> str:
        return self._vault.digest(fingerprint(command).encode()).hex()


def _entry(row: Mapping[str, object]) -> Entry:
    state = EntryState(str(row["state"]))
    begun = row["begun_at"]
    receipt = None
    if state is EntryState.DONE:
        receipt = Receipt(str(row["resource"]), str(row["receipt"]), bool(row["already_there"]))
    return Entry(
        str(row["key"]),
        state,
        datetime.fromisoformat(str(row["valid_until"])),
        datetime.fromisoformat(str(begun)) if begun else None,
        receipt,
        str(row["asked"]),
    )
