"""Patients who were merged or renumbered in the practice's system: our links move with them.

Only what the PMS itself says, or a person, moves anything; nobody is taken for somebody else
because they look alike. The row of the old key stays, points to the one that remains, and is never
alive again unless the PMS merges back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin
from node.db.tables import metadata, patient, pms_command
from node.errors import Conflict, NotFound
from pms_writeback.changes import chunks
from pms_writeback.command_rows import CommandState
from pms_writeback.pms import PatientStatus, Pms
from pms_writeback.record_rows import move_records


@dataclass(frozen=True, slots=True)
class PatientMove:
    """What the PMS kept under `from_key` it keeps under `to_key` now."""

    from_key: str
    to_key: str


@runtime_checkable
class MergeSource(Protocol):
    """A PMS that tells which of its patients were merged."""

    def merged_patients(self) -> tuple[PatientMove, ...]:
        """Read every merge, the oldest first; raises Unsupported where it cannot be known."""
        ...


#: One row a patient, which the remaining one has too.
_STAYS = frozenset({"patient", "patient_identity", "patient_contact"})


def remaining(moves: Iterable[PatientMove]) -> dict[str, str]:
    """Say for each key that is no more which one remains, chains and merges back followed.

    `moves` come oldest first.
    """
    into: dict[str, str] = {}
    for move in moves:
        if move.from_key != move.to_key:
            into[move.from_key] = move.to_key
            into.pop(move.to_key, None)
    return {key: _end(into, key) for key in into}


def _end(into: Mapping[str, str], key: str) -> str:
    while key in into:
        key = into[key]
    return key


def waiting_moves(
    conn: sa.Connection, location_id: str, moves: Mapping[str, str]
) -> list[PatientMove]:
    """Give those of `moves` that our rows do not show yet; ours are the patients we know."""
    rows = {row.pms_key: row for row in _people(conn, location_id, {*moves, *moves.values()})}
    found: list[PatientMove] = []
    for from_key, to_key in moves.items():
        row, target = rows.get(from_key), rows.get(to_key)
        if row is None:
            continue
        is_done = target is not None and row.merged_into == target.id and not target.merged_into
        if not is_done or _has_stale_commands(conn, row.id, from_key, target):
            found.append(PatientMove(from_key, to_key))
    return found


def move_patient(db: sa.Engine, actor: Actor, move: PatientMove, reason: str) -> dict[str, int]:
    """Move every link of one patient to the other, in one audited transaction.

    Both must be known here; doing it again has no effect. Returns how many rows moved, by table.

    Raises
    ------
    NotFound
        This location knows one of them not.
    """
    with begin(db, actor, "pms.patient_merged") as tx:
        people = {
            row.pms_key: row.id
            for row in _people(tx.conn, tx.location_id, (move.from_key, move.to_key))
        }
        if len(people) != 2:
            raise NotFound("both patients must be known here before their links can move")
        source, target = people[move.from_key], people[move.to_key]
        moved = _move_rows(tx, source, target)
        moved["commands readdressed"] = _readdress(tx, target, move.to_key)
        moved["records"] = move_records(tx.conn, tx.location_id, move.from_key, move.to_key)
        tx.conn.execute(
            patient.update()
            .where(sa.or_(patient.c.id == source, patient.c.merged_into == source))
            .values(merged_into=target, tombstoned_at=tx.now)
        )
        tx.conn.execute(  # a merge back makes the older number alive again
            patient.update()
            .where(patient.c.id == target, patient.c.merged_into.is_not(None))
            .values(merged_into=None, tombstoned_at=None)
        )
        counts = {name: number for name, number in moved.items() if number}
        tx.record(source, into=target, reason=reason, moved=counts)
    return counts


def merge_by_hand(
    db: sa.Engine, pms: Pms, actor: Actor, move: PatientMove, reason: str
) -> dict[str, int]:
    """Move links because a person says that the practice's system merged or renumbered somebody.

    Raises
    ------
    Conflict
        The old number is still an active patient there, or the new one is none.
    NotFound
        This location does not know them; the schedule is read first.
    """
    if _status(pms, move.from_key) is PatientStatus.ACTIVE:
        raise Conflict(
            f"patient {move.from_key} is still active in the practice's system; merge them there"
        )
    if _status(pms, move.to_key) is not PatientStatus.ACTIVE:
        raise Conflict(f"patient {move.to_key} is no active patient of the practice's system")
    return move_patient(db, actor, move, reason)


def current_patient(conn: sa.Connection, location_id: str, patient_id: str) -> str:
    """Follow a merge from a patient's id to the one that remains; one step always suffices."""
    into = conn.execute(
        sa.select(patient.c.merged_into).where(
            patient.c.id == patient_id, patient.c.location_id == location_id
        )
    ).scalar()
    return into or patient_id


def _status(pms: Pms, key: str) -> PatientStatus | None:
    try:
        return pms.patient(key).status
    except NotFound:
        return None


def _people(
    conn: sa.Connection, location_id: str, keys: Iterable[str]
) -> list[sa.Row[tuple[object, ...]]]:
    found: list[sa.Row[tuple[object, ...]]] = []
    for part in chunks(keys):
        found += conn.execute(
            sa.select(patient.c.id, patient.c.pms_key, patient.c.merged_into).where(
                patient.c.location_id == location_id, patient.c.pms_key.in_(part)
            )
        )
    return found


def _move_rows(tx: Tx, source: str, target: str) -> dict[str, int]:
    """Point every table's reference to a patient to the other one."""
    moved: dict[str, int] = {}
    for table in metadata.sorted_tables:
        if table.name in _STAYS:
            continue
        for column in table.columns:
            if any(key.column is patient.c.id for key in column.foreign_keys):
                done = tx.conn.execute(
                    table.update()
                    .where(column == source, table.c.location_id == tx.location_id)
                    .values({column: target})
                )
                moved[table.name] = moved.get(table.name, 0) + done.rowcount
    return moved


def _unsent(patient_id: str) -> sa.Select[tuple[str, object]]:
    return sa.select(pms_command.c.id, pms_command.c.payload).where(
        pms_command.c.patient_id == patient_id, pms_command.c.state != CommandState.DONE.value
    )


def _readdress(tx: Tx, patient_id: str, to_key: str) -> int:
    """Write the new key into the commands that have not landed; what landed stays as it was."""
    count = 0
    for row in tx.conn.execute(_unsent(patient_id)).all():
        payload = cast("dict[str, dict[str, object]]", row.payload)
        if payload["command"]["patient_key"] == to_key:
            continue
        changed = {**payload, "command": {**payload["command"], "patient_key": to_key}}
        tx.conn.execute(
            pms_command.update().where(pms_command.c.id == row.id).values(payload=changed)
        )
        count += 1
    return count


def _has_stale_commands(
    conn: sa.Connection, source: str, from_key: str, target: sa.Row[tuple[object, ...]] | None
) -> bool:
    """Tell whether a command was left behind: one in flight while its patient was moved."""
    ids = [source] if target is None else [source, target.id]
    return any(
        row.payload["command"]["patient_key"] == from_key
        for patient_id in ids
        for row in conn.execute(_unsent(patient_id))
    )
