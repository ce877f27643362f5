"""What starts cases: events that parts of the node leave, and the practice's days."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

import sqlalchemy as sa

from node.db.session import Tx, begin, read, upsert
from node.db.tables import event, hook_cursor, sync_state
from node.domain.events import EventKind
from node.errors import BitewingError, Retryable, bug_of
from orchestration import cases
from orchestration.cases import Row
from orchestration.runner import Runner
from orchestration.workflow import Happened, Hook, Signal, Start, Sweep, Workflow

log = logging.getLogger("bitewing")

_BATCH = 500
#: A sequence number may commit after a later one (PostgreSQL): what is young is looked at again.
_SETTLED = timedelta(seconds=30)


#: How long a sweep that failed is left alone.
_REST = timedelta(minutes=10)


@dataclass(slots=True)
class Hooks:
    """Follows the event table and the calendar of one location, and starts what they ask for.

    Everything is started under keys, so an event that is seen twice starts nothing.
    """

    runner: Runner
    _seen: set[int] = field(default_factory=set)
    _rests: dict[str, datetime] = field(default_factory=dict)

    def run_once(self) -> int:
        """Handle events that have not been handled; returns how many cases were started or woken.

        What happened before the first call is left alone. An event that a hook refuses is logged
        and left behind: one bad event must not stop all others; one that must wait is seen again.
        """
        cursor, most = self._cursor(), _BATCH + len(self._seen)  # what is young is read again
        kinds = [kind.value for kind in self._kinds()]
        with read(self.runner.db) as conn:
            rows = conn.execute(
                sa.select(event)
                .where(
                    event.c.location_id == self._location,
                    event.c.seq > cursor,
                    event.c.kind.in_(kinds),
                )
                .order_by(event.c.seq)
                .limit(most)
            ).all()
            settled = self._settled(conn, cursor)
        handled = {row.seq: self._seen_or_told(row) for row in rows}
        undone = [seq for seq, effects in handled.items() if effects is None]
        far = rows[-1].seq if len(rows) == most else settled
        self._advance(cursor, min([far, settled, *(seq - 1 for seq in undone)]))
        return sum(effects or 0 for effects in handled.values())

    def run_daily(self) -> int:
        """Run every sweep whose time has come today and that has not run; returns its effects.

        One that fails is logged, holds up no other and is tried again after a rest.
        """
        return sum(
            self._run_sweep(workflow, f"sweep:{workflow.name}:{name}", at, sweep)
            for workflow in self._active()
            for name, (at, sweep) in workflow.sweeps.items()
        )

    def _run_sweep(self, workflow: Workflow, resource: str, at: time, sweep: Sweep) -> int:
        chart = self.runner.chart(workflow)
        begins = datetime.combine(chart.today, at, chart.zone)
        is_resting = chart.now < self._rests.get(resource, begins)
        if chart.now < begins or is_resting or self._last_run(resource) >= begins:
            return 0
        try:
            effects = self._apply(workflow, sweep(chart, chart.today))
        except Exception as error:  # noqa: BLE001 - an edge: other sweeps must go on
            words = error if isinstance(error, BitewingError) else f"({bug_of(error)})"
            log.error("%s failed: %s", resource, words)
            self._rests[resource] = chart.now + _REST
            return 0
        self._keep_run(resource, chart.now)
        return effects

    @property
    def _location(self) -> str:
        return self.runner.actor.location_id

    def _active(self) -> list[Workflow]:
        mode = self.runner.config.workflows.mode
        return [each for each in self.runner.workflows.values() if mode(each.name) is not None]

    def _kinds(self) -> set[EventKind]:
        return {kind for workflow in self._active() for kind in workflow.hooks}

    def _seen_or_told(self, row: Row) -> int | None:
        """Tell the hooks of an event once; None when it must be told again."""
        if row.seq in self._seen:
            return 0
        happened = Happened(row.seq, EventKind(row.kind), row.subject, row.data, row.at)
        try:
            effects = sum(
                self._tell(workflow, hook, happened)
                for workflow in self._active()
                for hook in workflow.hooks.get(happened.kind, [])
            )
        except Retryable:
            return None
        self._seen.add(row.seq)
        return effects

    def _tell(self, workflow: Workflow, hook: Hook, happened: Happened) -> int:
        try:
            return self._apply(workflow, hook(self.runner.chart(workflow), happened))
        except Retryable:
            raise
        except BitewingError as error:
            log.warning("%s on %s: %s", workflow.name, happened.kind.value, error)
        except Exception as error:  # noqa: BLE001 - an edge: other events must go on
            log.error("%s on %s failed (%s)", workflow.name, happened.kind.value, bug_of(error))
        return 0

    def _apply(self, workflow: Workflow, effects: Iterable[Start | Signal]) -> int:
        """Commit starts and signals, a hundred in a transaction; returns how many had an effect."""
        count, part = 0, []
        for effect in effects:
            part.append(effect)
            if len(part) == 100:
                count += self._commit(workflow, part)
                part = []
        return count + (self._commit(workflow, part) if part else 0)

    def _commit(self, workflow: Workflow, effects: list[Start | Signal]) -> int:
        with begin(self.runner.db, self.runner.actor, "cases.started") as tx:
            count = sum(self._do(tx, workflow, effect) for effect in effects)
            tx.record(f"workflow:{workflow.name}", effects=count)
        return count

    def _do(self, tx: Tx, workflow: Workflow, effect: Start | Signal) -> bool:
        if isinstance(effect, Start):
            return cases.start(tx, self.runner.engine, workflow, effect) is not None
        return cases.send(tx, self.runner.engine, workflow, effect)

    # --- where it stands ---

    def _cursor(self) -> int:
        mine = hook_cursor.c.location_id == self._location
        with read(self.runner.db) as conn:
            known = conn.execute(sa.select(hook_cursor.c.seq).where(mine)).scalar()
            latest = conn.execute(
                sa.select(sa.func.max(event.c.seq)).where(event.c.location_id == self._location)
            ).scalar()
        if known is not None:
            return int(known)
        self._advance(-1, latest or 0)
        return latest or 0

    def _settled(self, conn: sa.Connection, cursor: int) -> int:
        """Find the last event that nothing can commit before any more."""
        found = conn.execute(
            sa.select(sa.func.max(event.c.seq)).where(
                event.c.location_id == self._location,
                event.c.seq > cursor,
                event.c.at < datetime.now(UTC) - _SETTLED,
            )
        ).scalar()
        return int(found or cursor)

    def _advance(self, cursor: int, seq: int) -> None:
        if seq <= cursor:
            return
        self._seen = {each for each in self._seen if each > seq}
        with begin(self.runner.db, self.runner.actor, "hooks.advanced") as tx:
            values: dict[str, object] = {"location_id": self._location, "seq": seq}
            upsert(tx.conn, hook_cursor, ("location_id",), values)
            tx.record("hooks", seq=seq)

    def _last_run(self, resource: str) -> datetime:
        with read(self.runner.db) as conn:
            at = conn.execute(
                sa.select(sync_state.c.last_ok_at).where(
                    sync_state.c.location_id == self._location, sync_state.c.resource == resource
                )
            ).scalar()
        return at or datetime.min.replace(tzinfo=UTC)

    def _keep_run(self, resource: str, at: datetime) -> None:
        with begin(self.runner.db, self.runner.actor, "sweep.done") as tx:
            values: dict[str, object] = {
                "location_id": self._location, "resource": resource, "last_ok_at": at,
            }  # fmt: skip
            upsert(tx.conn, sync_state, ("location_id", "resource"), values)
            tx.record(resource)
