"""Whom and what the PMS's keys of providers and rooms stand for here, and from when to when.

A practice without any entry of a kind has no map of it: every provider or room that is not hidden
there may be written for. With the first entry the map is the whole truth of its kind. Entries are
ended, never removed: what was written in their time can still be understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id
from node.db.tables import operatory, pms_map, provider
from node.errors import Conflict, InvalidInput, NotFound
from pms_writeback.records import MapKind

_TABLES = {MapKind.PROVIDER: provider, MapKind.OPERATORY: operatory}
_FIELDS = {MapKind.PROVIDER: "provider_key", MapKind.OPERATORY: "operatory_key"}


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One key's meaning, such as a user's name or a station, on the office's days of its time.

    ``valid_to`` is the last day, None while it has no end.
    """

    kind: MapKind
    key: str
    meaning: str
    valid_from: date
    valid_to: date | None = None

    def __post_init__(self) -> None:
        if not self.key.strip() or len(self.key) > 64 or len(self.meaning) > 128:
            raise InvalidInput("a map entry needs a key of at most 64 characters and a short name")
        if self.valid_to is not None and self.valid_to < self.valid_from:
            raise InvalidInput("a map entry cannot end before it begins")

    def holds(self, day: date) -> bool:
        """Tell whether the key has this meaning on `day`."""
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)

    def overlaps(self, other: MapEntry) -> bool:
        """Tell whether both say something of one key on one day."""
        begins = max(self.valid_from, other.valid_from)
        return self.key == other.key and self.holds(begins) and other.holds(begins)


def read_map(conn: sa.Connection, location_id: str, kind: MapKind) -> list[MapEntry]:
    """Read a location's entries of a kind, ended ones included."""
    rows = conn.execute(
        sa.select(pms_map)
        .where(pms_map.c.location_id == location_id, pms_map.c.kind == kind.value)
        .order_by(pms_map.c.pms_key, pms_map.c.valid_from)
    )
    return [MapEntry(kind, row.pms_key, row.meaning, row.valid_from, row.valid_to) for row in rows]


def add_entry(db: sa.Engine, actor: Actor, entry: MapEntry) -> None:
    """Add an entry; adding the same again has no effect.

    Raises
    ------
    NotFound
        The practice's system has no such provider or room, as far as we have read it.
    Conflict
        The key has another meaning on some of these days; end that entry first.
    """
    with begin(db, actor, "pms.map_added") as tx:
        known = read_map(tx.conn, tx.location_id, entry.kind)
        if entry in known:
            return
        if entry.key not in read_office_map(tx.conn, tx.location_id).hidden[entry.kind]:
            raise NotFound(f"the practice's system has no {entry.kind.value} {entry.key}")
        if any(entry.overlaps(each) for each in known):
            raise Conflict(f"{entry.kind.value} {entry.key} is mapped for some of these days")
        row_id = new_id()
        tx.conn.execute(
            pms_map.insert().values(
                id=row_id,
                location_id=tx.location_id,
                kind=entry.kind.value,
                pms_key=entry.key,
                meaning=entry.meaning,
                valid_from=entry.valid_from,
                valid_to=entry.valid_to,
            )
        )
        tx.record(row_id, kind=entry.kind.value, key=entry.key)


def end_entry(db: sa.Engine, actor: Actor, kind: MapKind, key: str, last: date) -> None:
    """End the entry of `key` that holds on `last`, which is its last day.

    Raises NotFound when none holds.
    """
    with begin(db, actor, "pms.map_ended") as tx:
        current = [
            each
            for each in read_map(tx.conn, tx.location_id, kind)
            if each.key == key and each.holds(last)
        ]
        if not current:
            raise NotFound(f"{kind.value} {key} is not mapped on {last}")
        tx.conn.execute(
            pms_map.update()
            .where(
                pms_map.c.location_id == tx.location_id,
                pms_map.c.kind == kind.value,
                pms_map.c.pms_key == key,
                pms_map.c.valid_from == current[0].valid_from,
            )
            .values(valid_to=last)
        )
        tx.record(kind.value, key=key, last=last.isoformat())


@dataclass(frozen=True, slots=True)
class OfficeMap:
    """Who and what may be written for: the PMS's lists as read, with the entries of the map.

    ``hidden`` says of each known key whether it is hidden there.
    """

    hidden: Mapping[MapKind, Mapping[str, bool]]
    entries: Mapping[MapKind, Sequence[MapEntry]]

    def refusal(self, kind: MapKind, key: str, day: date) -> str:
        """Say why nothing may be written for this provider or room on `day`; empty when it may.

        Before the PMS's list was read for the first time, nobody is unknown.
        """
        known = self.hidden[kind]
        if known and key not in known:
            return f"the practice's system has no {kind.value} {key}"
        if known.get(key, False):
            return f"{kind.value} {key} is hidden in the practice's system"
        entries = self.entries[kind]
        if entries and not any(each.key == key and each.holds(day) for each in entries):
            return f"{kind.value} {key} is not mapped on {day}; see `bitewing practice map`"
        return ""


def read_office_map(conn: sa.Connection, location_id: str) -> OfficeMap:
    """Read all that decides for whom may be written at a location."""
    hidden: dict[MapKind, dict[str, bool]] = {}
    for kind, table in _TABLES.items():
        rows = conn.execute(
            sa.select(table.c.pms_key, table.c.is_hidden).where(table.c.location_id == location_id)
        )
        hidden[kind] = {row.pms_key: row.is_hidden for row in rows}
    return OfficeMap(hidden, {kind: read_map(conn, location_id, kind) for kind in MapKind})


def refusal_of(
    conn: sa.Connection, location_id: str, fields: Mapping[str, object], now: datetime
) -> str:
    """Say why a command may not be written, empty when it may.

    `fields` are the command's own as `payload.command_to_json` encodes them. It names a provider or
    room that is unknown, hidden or not mapped on the command's day; one without a day of its own
    is of today.
    """
    named = {kind: str(fields[name]) for kind, name in _FIELDS.items() if fields.get(name)}
    if not named:
        return ""
    day = datetime.fromisoformat(str(fields.get("starts_at") or fields.get("day") or now)).date()
    known = read_office_map(conn, location_id)
    reasons = (known.refusal(kind, key, day) for kind, key in named.items())
    return next((reason for reason in reasons if reason), "")
