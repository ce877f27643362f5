"""Hints that something changed in the practice's system: when to look again before it is time.

A hint carries nothing that is believed: it only brings the next look forward. Whoever takes hints
and whoever looks may be different processes; they meet in one row of ``sync_state``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from node.db.session import Actor, begin, read, upsert
from node.db.tables import sync_state

_RESOURCE = "hint"


def leave_hint(db: sa.Engine, location_id: str, source: str) -> None:
    """Note that something changed there; `source` names what told us, for the audit."""
    with begin(db, Actor("pms-events", location_id), "pms.hinted") as tx:
        upsert(
            tx.conn,
            sync_state,
            ("location_id", "resource"),
            {"location_id": location_id, "resource": _RESOURCE, "last_ok_at": tx.now, "error": ""},
        )
        tx.record(source)


class Turns:
    """When to look next: every `every`, or at the next hint."""

    def __init__(self, db: sa.Engine, location_id: str, every: timedelta) -> None:
        self._db = db
        self._location_id = location_id
        self._every = every
        self._last: datetime | None = None

    def take(self, now: datetime) -> bool:
        """Tell whether it is time; if so the turn counts as taken."""
        if self._last is None or not timedelta() <= now - self._last < self._every:
            self._last = now
            return True
        hint = self._latest_hint()
        if hint is None or hint <= self._last:
            return False
        self._last = now
        return True

    def _latest_hint(self) -> datetime | None:
        with read(self._db) as conn:
            return conn.execute(
                sa.select(sync_state.c.last_ok_at).where(
                    sync_state.c.location_id == self._location_id,
                    sync_state.c.resource == _RESOURCE,
                )
            ).scalar()
