"""An office that is away as a whole: all its commands wait, one at a time tries whether it is back.

The pause is a row, so a restarted node keeps to it. What only one record suffers from, such as a
lock, is no pause: the other patients' commands go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Tx
from node.db.tables import pms_pause


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent to the office before `until`; the command that met it waits still longer.

    ``failures`` counts the tries that found the office away since a write last landed.
    """

    until: datetime
    failures: int
    command_id: str
    reason: str

    def holds(self, command_id: str, waited_for: str, now: datetime) -> bool:
        """Tell whether a command must wait that waited already for the one `waited_for`.

        Each command is held once for another's trouble: one that alone is refused by the office,
        over and over, holds nobody else up.
        """
        return self.command_id not in (command_id, waited_for) and now < self.until


def read_pause(conn: sa.Connection, location_id: str) -> Pause | None:
    """Read the office's pause, over or not; None since a write last landed."""
    row = conn.execute(sa.select(pms_pause).where(pms_pause.c.location_id == location_id)).first()
    return None if row is None else Pause(row.until, row.failures, row.command_id, row.reason)


def store_pause(tx: Tx, pause: Pause) -> None:
    """Keep the office's pause in place of the last one."""
    values = {
        "until": pause.until,
        "failures": pause.failures,
        "command_id": pause.command_id,
        "reason": pause.reason[:255],
    }
    changed = tx.conn.execute(
        pms_pause.update().where(pms_pause.c.location_id == tx.location_id).values(values)
    )
    if not changed.rowcount:
        tx.conn.execute(pms_pause.insert().values(location_id=tx.location_id, **values))


def end_pause(tx: Tx) -> None:
    """Forget the office's pause: it answered."""
    tx.conn.execute(pms_pause.delete().where(pms_pause.c.location_id == tx.location_id))
