"""Our copy of the PMS's records: what differs is written, nothing is ever removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

import sqlalchemy as sa

from node.db.session import new_id
from node.db.tables import pms_record
from pms_writeback.changes import chunks, fit, storable
from pms_writeback.records import PmsRecord, RecordKind, Scalar


@dataclass(frozen=True, slots=True)
class Written:
    """Keys of the records that one write changed."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.added, *self.changed, *self.gone)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reading says that our rows do not say yet, each under its key."""

    added: Mapping[str, dict[str, object]]
    changed: Mapping[str, tuple[str, dict[str, object]]]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed)


def compare_records(
    conn: sa.Connection, location_id: str, records: Sequence[PmsRecord]
) -> Difference:
    """Find what is new and what differs; a record that came back differs by its tombstone.

    `records` are of one kind; of several with one key the last counts.
    """
    latest = {record.key: record for record in records}
    if not latest:
        return Difference({}, {})
    kind = records[0].kind
    known = _known(conn, location_id, kind, latest)
    added: dict[str, dict[str, object]] = {}
    changed: dict[str, tuple[str, dict[str, object]]] = {}
    for key, record in latest.items():
        values = {**_values(record), "tombstoned_at": None}
        row = known.get(key)
        if row is None:
            own = {"location_id": location_id, "kind": kind.value, "pms_key": key}
            added[key] = {**own, **values}
        elif row["digest"] != values["digest"] or row["tombstoned_at"] is not None:
            changed[key] = (row["id"], values)
    return Difference(added, changed)


def write_records(conn: sa.Connection, difference: Difference, now: datetime) -> Written:
    """Insert what is new and update what differs."""
    if difference.added:
        rows = [{"id": new_id(), **v, "synced_at": now} for v in difference.added.values()]
        conn.execute(pms_record.insert(), rows)
    for row_id, values in difference.changed.values():
        conn.execute(
            pms_record.update().where(pms_record.c.id == row_id).values(**values, synced_at=now)
        )
    return Written(tuple(difference.added), tuple(difference.changed))


def bury(
    conn: sa.Connection, location_id: str, kind: RecordKind, keys: Iterable[str], now: datetime
) -> Written:
    """Put a tombstone on records that a complete reading no longer has."""
    gone: list[str] = []
    for part in chunks(keys):
        done = conn.execute(
            pms_record.update()
            .where(
                pms_record.c.location_id == location_id,
                pms_record.c.kind == kind.value,
                pms_record.c.pms_key.in_(part),
                pms_record.c.tombstoned_at.is_(None),
            )
            .values(tombstoned_at=now)
            .returning(pms_record.c.pms_key)
        )
        gone += done.scalars()
    return Written(gone=tuple(gone))


def move_records(conn: sa.Connection, location_id: str, from_key: str, to_key: str) -> int:
    """Give one patient's records to another, tombstones included; returns how many."""
    rows = conn.execute(
        sa.select(pms_record).where(
            pms_record.c.location_id == location_id, pms_record.c.patient_key == from_key
        )
    ).all()
    for row in rows:
        values = _values(replace(_record(row), patient_key=to_key))
        conn.execute(pms_record.update().where(pms_record.c.id == row.id).values(**values))
    return len(rows)


def living_keys(
    conn: sa.Connection, location_id: str, kind: RecordKind, patient_key: str | None = None
) -> set[str]:
    """Read the keys of a kind that have no tombstone, of one patient or of all."""
    query = sa.select(pms_record.c.pms_key).where(
        pms_record.c.location_id == location_id,
        pms_record.c.kind == kind.value,
        pms_record.c.tombstoned_at.is_(None),
    )
    if patient_key is not None:
        query = query.where(pms_record.c.patient_key == patient_key)
    return set(conn.execute(query).scalars())


def read_records(
    conn: sa.Connection,
    location_id: str,
    kind: RecordKind,
    patient_key: str | None = None,
    key: str | None = None,
) -> list[PmsRecord]:
    """Read living records of a kind in the order of their keys, of one patient or one key."""
    query = sa.select(pms_record).where(
        pms_record.c.location_id == location_id,
        pms_record.c.kind == kind.value,
        pms_record.c.tombstoned_at.is_(None),
    )
    if patient_key is not None:
        query = query.where(pms_record.c.patient_key == patient_key)
    if key is not None:
        query = query.where(pms_record.c.pms_key == key)
    found = [_record(row) for row in conn.execute(query)]
    return sorted(found, key=lambda each: (len(each.key), each.key))


def _record(row: sa.Row[tuple[object, ...]]) -> PmsRecord:
    return PmsRecord(
        kind=RecordKind(row.kind),
        key=row.pms_key,
        patient_key=row.patient_key,
        clinic_key=row.clinic_key,
        changed_at=row.changed_at,
        values=cast("Mapping[str, Scalar]", row.record),
        raw=row.raw,
    )


def _known(
    conn: sa.Connection, location_id: str, kind: RecordKind, keys: Iterable[str]
) -> dict[str, sa.RowMapping]:
    found: dict[str, sa.RowMapping] = {}
    for part in chunks(keys):
        rows = conn.execute(
            sa.select(
                pms_record.c.id,
                pms_record.c.pms_key,
                pms_record.c.digest,
                pms_record.c.tombstoned_at,
            ).where(
                pms_record.c.location_id == location_id,
                pms_record.c.kind == kind.value,
                pms_record.c.pms_key.in_(part),
            )
        )
        found.update({row["pms_key"]: row for row in rows.mappings()})
    return found


def _values(record: PmsRecord) -> dict[str, object]:
    """Columns of a record; the change stamp is no part of the digest: it is measured by a clock."""
    content = {
        "patient_key": fit(record.patient_key, 64),
        "clinic_key": fit(record.clinic_key, 64),
        "record": storable(record.values),
        "raw": storable(record.raw),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return {**content, "digest": digest, "changed_at": record.changed_at}
