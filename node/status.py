"""What ``/healthz`` and ``/metrics`` say about a running node: cheap looks, no patient data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from node.audit_telling import read_progress
from node.config import Config
from node.db import switches
from node.db.session import read
from node.db.tables import (
    dicom_delivery,
    event,
    image_delivery,
    instance,
    pms_command,
    study,
    sync_state,
    workflow_case,
)
from node.disk import Room, disk_of
from node.domain import jobs
from node.domain.events import EventKind
from node.expiry import find_expiries
from node.objects.standing import standing_of
from pms_writeback.record_state import record_errors
from pms_writeback.sync import read_status
from pms_writeback.task_users import read_mapping

#: How the backup's state is called among what is kept up to date.
BACKUP = "backup"
#: A last backup older than this is said to be missing.
OVERDUE = timedelta(hours=36)


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at a part of this node (`is_ours`) or at a neighbour."""

    is_ok: bool
    words: str
    is_ours: bool = True


@dataclass(slots=True)
class Status:
    """Collects the looks of one process; parts report what cannot be read from tables."""

    db: sa.Engine
    config: Config
    threads: dict[str, Thread] = field(default_factory=dict)
    models: Probe | None = None
    listener: Callable[[], Probe] | None = None

    def probes(self) -> Mapping[str, Probe]:
        """Look at everything; a look that fails is itself the answer."""
        found = {"database": self._guarded(self._database), "disk": self._guarded(self._disk)}
        found["certificates"] = self._guarded(self._certificates)
        if self.listener is not None:
            found["dicom"] = self.listener()
        if self.models is not None:
            found["models"] = self.models
        for name, thread in self.threads.items():
            alive = thread.is_alive()
            found[name] = Probe(alive, "runs" if alive else "has stopped; restart the node")
        if self.config.backup.folder:
            found["backup"] = self._guarded(self._backup)
        if self.config.objects.endpoint:
            found["objects"] = self._guarded(self._objects, is_ours=False)
        if self.config.pms.kind != "none":
            found["pms"] = self._guarded(self._pms, is_ours=False)
            found["pms users"] = self._guarded(self._pms_users, is_ours=False)
            found["records"] = self._guarded(self._records, is_ours=False)
        if self.config.audit.syslog_host and self.config.audit.syslog_dicom:
            found["audit messages"] = self._guarded(self._told, is_ours=False)
        if self.config.dicom.peers:
            found["peers"] = self._guarded(self._peers, is_ours=False)
        return found

    def _guarded(self, look: Callable[[], Probe], is_ours: bool = True) -> Probe:
        try:
            return look()
        except Exception as error:  # noqa: BLE001 - an edge: a failing look is an answer
            return Probe(False, f"cannot be looked at ({type(error).__name__})", is_ours)

    def _database(self) -> Probe:
        with read(self.db) as conn:
            conn.execute(sa.select(sa.func.count()).select_from(study))
        return Probe(True, conn.dialect.name)

    def _disk(self) -> Probe:
        seen = disk_of(self.config).look()
        is_plenty = seen.room is Room.PLENTY
        return Probe(is_plenty, seen.words, is_ours=seen.room is not Room.LOW)

    def _certificates(self) -> Probe:
        """Fail when one of our own is no good any more; one that ends soon only degrades."""
        now = datetime.now(UTC)
        found = find_expiries(self.config, self.db)
        words = "; ".join(each.words(now) for each in found) or "none in use"
        own = [each for each in found if each.name in ("web", "dicom")]
        is_over = any(each.expires_at is None or each.expires_at <= now for each in own)
        return Probe(all(each.is_fine(now) for each in found), words, is_ours=is_over)

    def _backup(self) -> Probe:
        """Fail nothing of ours: images are taken without a backup, but somebody must look."""
        with read(self.db) as conn:
            made_at = backup_at(conn, self.config.node.location_id)
        if made_at is None:
            return Probe(False, "none was made yet", is_ours=False)
        age = datetime.now(UTC) - made_at
        words = f"the last was made {age.total_seconds() / 3600:.0f} h ago"
        return Probe(age < OVERDUE, words, is_ours=False)

    def _objects(self) -> Probe:
        """Fail nothing of ours: what waits for the bucket lies on a disk meanwhile."""
        now = datetime.now(UTC)
        with read(self.db) as conn:
            seen = standing_of(conn, self.config.node.location_id)
        return Probe(seen.is_fine(now), seen.words(now), is_ours=False)

    def _pms(self) -> Probe:
        now = datetime.now(UTC)
        with read(self.db) as conn:
            seen = read_status(conn, self.config, now)
        if seen.last_ok_at is None:
            words = "not synced yet"
        else:
            words = f"synced {max(0.0, (now - seen.last_ok_at).total_seconds()):.0f} s ago"
        # The PMS's own sentence stays in the table: anybody may read these words.
        help_ = "" if seen.is_fresh else ", late or failing: `bitewing check` says why"
        return Probe(seen.is_fresh, words + help_, is_ours=False)

    def _pms_users(self) -> Probe:
        """Say who is no user there; what they decide is written all the same."""
        with read(self.db) as conn:
            return Probe(True, read_mapping(conn, self.config).words, is_ours=False)

    def _records(self) -> Probe:
        with read(self.db) as conn:
            failing = record_errors(conn, self.config.node.location_id)
        if not failing:
            return Probe(True, "no kind of record failed", is_ours=False)
        words = f"not read the last time: {', '.join(failing)}: `bitewing check` says why"
        return Probe(False, words, is_ours=False)

    def _told(self) -> Probe:
        with read(self.db) as conn:
            seen = read_progress(conn, self.config.node.location_id)
        words = f"told up to entry {seen.last_seq}"
        if seen.error:
            words += f"; {seen.waiting} entries of the audit wait: {seen.error}"
        return Probe(not seen.error, words, is_ours=False)

    def _peers(self) -> Probe:
        with read(self.db) as conn:
            late = conn.execute(
                sa.select(dicom_delivery.c.peer)
                .where(
                    dicom_delivery.c.location_id == self.config.node.location_id,
                    dicom_delivery.c.state == "failed",
                )
                .distinct()
            ).scalars()
            names = sorted(late)
            failed = conn.execute(
                sa.select(sa.func.count()).where(
                    workflow_case.c.location_id == self.config.node.location_id,
                    workflow_case.c.workflow == jobs.PUBLISH_RESULTS,
                    workflow_case.c.state == "failed",
                )
            ).scalar_one()
            waiting = self._held_back(conn)
        words = [f"deliveries refused by {', '.join(names)}"] if names else []
        words += [f"results of {failed} studies could not be composed"] if failed else []
        is_ok = not words
        return Probe(is_ok, "; ".join([*words, *waiting]) or "nothing refused", is_ours=False)

    def _held_back(self, conn: sa.Connection) -> list[str]:
        """Say how much waits because a person paused everything outbound."""
        location_id = self.config.node.location_id
        if not switches.is_paused(conn, location_id, [switches.OUTBOUND]):
            return []
        count = 0
        for table, states in ((dicom_delivery, ("held", "queued")), (image_delivery, ("queued",))):
            query = sa.select(sa.func.count()).where(
                table.c.location_id == location_id, table.c.state.in_(states)
            )
            count += conn.execute(query).scalar_one()
        return [f"everything outbound is paused: {count} objects for peers wait"]


def backup_at(conn: sa.Connection, location_id: str) -> datetime | None:
    """Tell when the last whole backup was made."""
    return conn.execute(
        sa.select(sync_state.c.last_ok_at).where(
            sync_state.c.location_id == location_id, sync_state.c.resource == BACKUP
        )
    ).scalar()


class TableCollector(Collector):
    """Gauges counted from the tables at each scrape."""

    def __init__(self, db: sa.Engine, location_id: str) -> None:
        self._db = db
        self._location_id = location_id

    def collect(self) -> Iterable[Metric]:
        """Count what waits, what is done and what failed."""
        with read(self._db) as conn:
            yield self._by_state(conn, "bitewing_studies", "Studies by state", study)
            yield self._by_state(conn, "bitewing_images", "Images by state", instance)
            yield self._by_state(conn, "bitewing_pms_commands", "PMS writes by state", pms_command)
            yield self._by_state(
                conn, "bitewing_dicom_deliveries", "Result deliveries by state", dicom_delivery
            )
            made_at = backup_at(conn, self._location_id)
            if made_at is not None:
                yield GaugeMetricFamily(
                    "bitewing_backup_age_seconds",
                    "Since the last whole backup",
                    value=(datetime.now(UTC) - made_at).total_seconds(),
                )
            duplicates = sa.select(sa.func.count()).where(
                event.c.location_id == self._location_id,
                event.c.kind == EventKind.DUPLICATE_KEPT.value,
            )
            yield GaugeMetricFamily(
                "bitewing_duplicates_kept",
                "Images kept beside another under the same SOP Instance UID",
                value=conn.execute(duplicates).scalar_one(),
            )

    def _by_state(
        self, conn: sa.Connection, name: str, words: str, table: sa.Table
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, words, labels=["state"])
        rows = conn.execute(
            sa.select(table.c.state, sa.func.count())
            .where(table.c.location_id == self._location_id)
            .group_by(table.c.state)
        )
        for state, number in rows:
            family.add_metric([state], number)
        return family


class PartCollector(Collector):
    """What ``/healthz`` says, as numbers."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """Look at every part once."""
        parts = GaugeMetricFamily("bitewing_part_ok", "1 while a part works", labels=["part"])
        for name, probe in self._status.probes().items():
            parts.add_metric([name], float(probe.is_ok))
        yield parts


def metrics(status: Status) -> CollectorRegistry:
    """Make the registry that ``/metrics`` prints."""
    registry = CollectorRegistry()
    registry.register(TableCollector(status.db, status.config.node.location_id))
    registry.register(PartCollector(status))
    return registry
