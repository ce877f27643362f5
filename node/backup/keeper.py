"""The node's own nightly backup."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.backup.runs import ACTOR, create, note_run, prune
from node.config import Config
from node.db.session import Actor, begin, read
from node.db.tables import sync_state
from node.status import BACKUP

_LONGEST = timedelta(hours=6)
_REST = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class BackupKeeper:
    """Makes the backup of the day at ``[backup] at``, and prunes; several processes share one."""

    db: sa.Engine
    config: Config

    def run_once(self, now: datetime | None = None) -> bool:
        """Make the day's backup when it is due; after a failure it rests an hour.

        Raises what :func:`node.backup.runs.create` raises.
        """
        now = now or datetime.now(UTC)
        if not self._claim(now):
            return False
        root = Path(self.config.backup.folder)
        try:
            create(self.db, self.config, root, now)
        except Exception as error:
            with begin(self.db, self._actor, "backup.failed") as tx:
                # other processes may try again after a rest
                note_run(tx, last_try_at=now - _LONGEST + _REST, error=type(error).__name__)
            raise
        prune(root, self.config.backup.keep)
        return True

    def _claim(self, now: datetime) -> bool:
        """Take the day's backup when it is due and no other process makes it."""
        columns = sync_state.c
        query = sa.select(columns.last_ok_at, columns.last_try_at).where(
            columns.location_id == self._actor.location_id, columns.resource == BACKUP
        )
        with read(self.db) as conn:  # most looks find nothing to do and write nothing
            if not self._is_wanted(conn.execute(query).first(), now):
                return False
        with begin(self.db, self._actor, "backup.claimed") as tx:
            is_wanted = self._is_wanted(tx.conn.execute(query.with_for_update()).first(), now)
            if is_wanted:
                note_run(tx, last_try_at=now)
            tx.record(BACKUP)
        return is_wanted

    def _is_wanted(self, row: sa.Row[Any, Any] | None, now: datetime) -> bool:
        if row is None:
            return True
        is_made = row.last_ok_at is not None and row.last_ok_at >= self._due(now)
        is_tried = row.last_try_at is not None and row.last_try_at > now - _LONGEST
        return not is_made and not is_tried

    def _due(self, now: datetime) -> datetime:
        """Give the last moment at which a backup should have been made."""
        zone = self.config.zone
        local = now.astimezone(zone)
        due = datetime.combine(local.date(), self.config.backup.at, zone)
        return due if due <= local else due - timedelta(days=1)

    @property
    def _actor(self) -> Actor:
        return Actor(ACTOR, self.config.node.location_id)
