"""Rows of the audit as they are kept, and what their hashes are taken over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from node.db.tables import audit
from node.domain import audit_chain
from node.domain.audit_chain import chained

_TEXTS = ("location_id", "actor", "action", "subject", "previous_hash", "hash")
_SQLITE_TYPES = "integer" + "text" * 8
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What one transaction did: ids and states, never names or findings' text."""

    location_id: str
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]


_UNREADABLE = AuditEntry("", datetime(1, 1, 1, tzinfo=UTC), "", "", "", {})


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the chain as it is kept."""

    seq: int
    entry: AuditEntry
    previous_hash: str
    hash: str

    @property
    def is_sound(self) -> bool:
        """Whether the hash fits the content and the hash before it."""
        return self.is_chained or self.hash == _first_digest(
            self.seq, self.entry, self.previous_hash
        )

    @property
    def is_chained(self) -> bool:
        """Whether it does by the digest alone; rows of the first release need their content."""
        return self.hash == chained(self.previous_hash, content_digest(self.seq, self.entry))


def stored_rows(
    conn: sa.Connection, *, since: int | None = None, until: int | None = None
) -> Iterator[tuple[AuditRow, str]]:
    """Read the rows as they are kept, each with a problem in words, empty when it is readable.

    What is stored must be written exactly as this program writes it: a change that reads back as
    the same value (``e`` for ``E`` in a number) is a change.
    """
    is_sqlite = conn.dialect.name == "sqlite"
    columns = _sqlite_columns() if is_sqlite else _postgres_columns()
    query = sa.select(*columns).order_by(audit.c.seq)
    if since is not None:
        query = query.where(audit.c.seq >= since)
    if until is not None:
        query = query.where(audit.c.seq <= until)
    for raw in conn.execute(query, execution_options={"yield_per": _PAGE}).mappings():
        try:
            yield (_from_sqlite(raw) if is_sqlite else _from_postgres(raw)), ""
        except (ValueError, TypeError):
            yield AuditRow(raw["seq"], _UNREADABLE, "", ""), "its content was changed"


def _sqlite_columns() -> list[sa.ColumnElement[Any]]:
    others = [column for column in audit.c if column.name != "seq"]
    types: sa.ColumnElement[str] = sa.func.typeof(audit.c.seq)
    for column in others:
        types = types.concat(sa.func.typeof(column))
    written = [sa.cast(column, sa.LargeBinary).label(column.name) for column in others]
    return [audit.c.seq, types.label("types"), *written]


def _postgres_columns() -> list[sa.ColumnElement[Any]]:
    return [
        sa.cast(column, sa.Text).label("detail") if column.name == "detail" else column
        for column in audit.c
    ]


def _from_sqlite(raw: sa.RowMapping) -> AuditRow:
    if raw["types"] != _SQLITE_TYPES:
        raise ValueError("a value of another type")
    texts = {name: bytes(raw[name]).decode() for name in _TEXTS}
    written = bytes(raw["at"]).decode()
    at = datetime.fromisoformat(written)
    if at.tzinfo is not None or at.isoformat(sep=" ", timespec="microseconds") != written:
        raise ValueError("not as it was written")
    return _row(raw["seq"], at.replace(tzinfo=UTC), texts, bytes(raw["detail"]).decode())


def _from_postgres(raw: sa.RowMapping) -> AuditRow:
    return _row(raw["seq"], raw["at"], {name: raw[name] for name in _TEXTS}, raw["detail"])


def _row(seq: int, at: datetime, texts: Mapping[str, str], written: str) -> AuditRow:
    detail = json.loads(written)
    if not isinstance(detail, dict) or json.dumps(detail) != written:
        raise ValueError("not as it was written")
    entry = AuditEntry(
        texts["location_id"], at, texts["actor"], texts["action"], texts["subject"], detail
    )
    return AuditRow(seq, entry, texts["previous_hash"], texts["hash"])


def content_digest(seq: int, entry: AuditEntry) -> str:
    """Digest what a row says (SHA-256, 64 hex digits); the chain goes over these digests."""
    return hashlib.sha256(audit_chain.canonical(_content(seq, entry))).hexdigest()


def _first_digest(seq: int, entry: AuditEntry, previous: str) -> str:
    """Hash a row as the first release did: content and the hash before it in one."""
    content = [*_content(seq, entry), previous]
    return hashlib.sha256(audit_chain.canonical(content)).hexdigest()


def _content(seq: int, entry: AuditEntry) -> list[object]:
    at = entry.at.isoformat(timespec="microseconds")
    who_and_what = [entry.actor, entry.action, entry.subject, entry.detail]
    return [seq, entry.location_id, at, *who_and_what]
