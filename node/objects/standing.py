"""How a location's objects stand with the bucket: for the status, the fleet and the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.db.session import read
from node.db.tables import object_copy, sync_state
from node.objects.copies import CopyState

#: So are movers called among what is kept up to date, with their data folder's id behind.
RESOURCE = "objects:"
#: What has waited longer is told.
LATE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits for the bucket, since when, what is damaged, and what movers last failed at."""

    waiting: int
    oldest_at: datetime | None
    damaged: int
    errors: tuple[str, ...]

    def age(self, now: datetime) -> timedelta:
        """Since when the oldest waits."""
        return now - self.oldest_at if self.oldest_at else timedelta()

    def is_fine(self, now: datetime) -> bool:
        """Whether nobody need look."""
        return not self.errors and not self.damaged and self.age(now) < LATE

    def words(self, now: datetime) -> str:
        """Say it in plain words."""
        words = []
        if self.damaged:
            words.append(f"lost or damaged: {self.damaged}, a person must look")
        if self.waiting:
            minutes = int(self.age(now).total_seconds() // 60)
            words.append(f"waiting for the bucket: {self.waiting}, the oldest for {minutes} min")
        return "; ".join([*words, *self.errors]) or "all are in the bucket"


def standing_of(conn: sa.Connection, location_id: str) -> Standing:
    """Look at a location's rows."""
    columns = object_copy.c
    waiting, oldest_at = conn.execute(
        sa.select(sa.func.count(), sa.func.min(columns.created_at)).where(
            columns.location_id == location_id, columns.state == CopyState.WAITING.value
        )
    ).one()
    damaged = conn.execute(
        sa.select(sa.func.count()).where(
            columns.location_id == location_id, columns.state == CopyState.DAMAGED.value
        )
    ).scalar_one()
    errors = conn.execute(
        sa.select(sync_state.c.error)
        .where(
            sync_state.c.location_id == location_id,
            sync_state.c.resource.startswith(RESOURCE),
            sync_state.c.error != "",
        )
        .distinct()
    ).scalars()
    return Standing(waiting, oldest_at, damaged, tuple(sorted(errors)))


class ObjectsCollector(Collector):
    """Gauges: what waits for the bucket, since when, and what is damaged."""

    def __init__(self, db: sa.Engine, location_id: str) -> None:
        self._db = db
        self._location_id = location_id

    def collect(self) -> Iterable[Metric]:
        """Count at each scrape."""
        with read(self._db) as conn:
            seen = standing_of(conn, self._location_id)
        for name, words, value in (
            ("waiting", "Objects that wait for the bucket", float(seen.waiting)),
            ("oldest_seconds", "Since when", seen.age(datetime.now(UTC)).total_seconds()),
            ("damaged", "Objects that are lost or damaged", float(seen.damaged)),
        ):
            yield GaugeMetricFamily(f"bitewing_objects_{name}", words, value=value)
