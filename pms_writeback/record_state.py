"""How far each kind of record has been read, in the table ``sync_state``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Tx, upsert
from node.db.tables import sync_state
from pms_writeback.records import RecordKind

SCHEDULE = "schedule"
"""The row of the schedule's own reading (`pms_writeback.sync`)."""

_PREFIX = "records:"


@dataclass(frozen=True, slots=True)
class RecordState:
    """Where the reading of one resource stands; nothing yet before the first."""

    watermark: datetime | None = None
    last_ok_at: datetime | None = None
    error: str = ""


def resource(kind: RecordKind) -> str:
    """Name the row of a kind."""
    return f"{_PREFIX}{kind.value}"


def read_state(conn: sa.Connection, location_id: str, name: str) -> RecordState:
    """Read the state of one resource."""
    row = conn.execute(
        sa.select(sync_state).where(
            sync_state.c.location_id == location_id, sync_state.c.resource == name
        )
    ).first()
    return RecordState() if row is None else RecordState(row.watermark, row.last_ok_at, row.error)


def keep_state(tx: Tx, name: str, **values: object) -> None:
    """Write columns of one resource's row; the others stay."""
    key = {"location_id": tx.location_id, "resource": name}
    upsert(tx.conn, sync_state, ("location_id", "resource"), {**key, **values})
    tx.record(name)


def record_errors(conn: sa.Connection, location_id: str) -> dict[str, str]:
    """Give the kinds whose last reading failed, with the reason, for the practice's IT person."""
    rows = conn.execute(
        sa.select(sync_state.c.resource, sync_state.c.error)
        .where(
            sync_state.c.location_id == location_id,
            sync_state.c.resource.startswith(_PREFIX),
            sync_state.c.error != "",
        )
        .order_by(sync_state.c.resource)
    )
    return {row.resource.removeprefix(_PREFIX): row.error for row in rows}
