"""What a case has done outside: a row is written before and after, so nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import sqlalchemy as sa

from node.config import Config
from node.db import agreements, switches
from node.db.session import Actor, Tx, begin, insert_once, read
from node.db.tables import case_step, partner_pace
from node.errors import Retryable
from orchestration.cases import Row
from orchestration.workflow import Json

_PAUSED_S = 60.0


class Paused(Retryable):
    """Everything outbound is paused by a person; the case waits without counting attempts."""


class Paced(Retryable):
    """The partner's calls of this moment are used up; the case waits without counting attempts."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The ledger of one location's cases; `clock` tells the workflows' time."""

    db: sa.Engine
    actor: Actor
    config: Config
    clock: Callable[[], datetime]

    def once(self, case_id: str, name: str, act: Callable[[], Json]) -> Json:
        """Return the result kept under `name`, or act and keep it; `act` may run twice."""
        known = self._known(case_id, name)
        if known is not None and known.state == "done":
            return cast("Json", known.result)
        result = act()
        with begin(self.db, self.actor, "case.step_done") as tx:
            return self._keep(tx, case_id, name, result)

    def outside(
        self,
        case_id: str,
        partner: str,
        name: str,
        act: Callable[[], Json],
        find: Callable[[], Json | None] | None,
    ) -> Json:
        """Call an outside party once; what may have landed is looked for before it is repeated.

        Raises Paused, Paced or NoAgreement while it may not be called; nothing has happened then.
        """
        known = self._known(case_id, name)
        if known is not None and known.state == "done":
            return cast("Json", known.result)
        with begin(self.db, self.actor, "case.step_started") as tx:
            self._demand_outbound(tx)
            agreements.demand(tx.conn, self.config, partner, self.clock())
            self._take_turn(tx, partner)
            self._mark_started(tx, case_id, name)
            tx.record(f"case:{case_id}", step=name, partner=partner)
        found = find() if known is not None and find is not None else None
        result = act() if found is None else found
        with begin(self.db, self.actor, "case.step_done") as tx:
            return self._keep(tx, case_id, name, result)

    def begun_of(self, case_id: str) -> list[tuple[str, datetime]]:
        """Read the steps of a case that began and may have landed, and when they did, latest first.

        The moments are the database's, not the workflows'.
        """
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(case_step.c.name, case_step.c.started_at)
                .where(case_step.c.case_id == case_id, case_step.c.state == "started")
                .order_by(case_step.c.started_at.desc())
            )
            return [(row.name, row.started_at) for row in rows]

    def undone(self, case_id: str, name: str) -> None:
        """Mark a step as taken back."""
        with begin(self.db, self.actor, "case.step_undone") as tx:
            tx.conn.execute(
                case_step.update()
                .where(case_step.c.case_id == case_id, case_step.c.name == name)
                .values(state="undone")
            )
            tx.record(f"case:{case_id}", step=name)

    def done_of(self, case_id: str) -> list[tuple[str, Json]]:
        """Read the done steps of a case, the latest first."""
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(case_step.c.name, case_step.c.result)
                .where(case_step.c.case_id == case_id, case_step.c.state == "done")
                .order_by(case_step.c.done_at.desc())
            )
            return [(row.name, row.result) for row in rows]

    def _known(self, case_id: str, name: str) -> Row | None:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(case_step.c.state, case_step.c.result).where(
                    case_step.c.case_id == case_id, case_step.c.name == name
                )
            ).first()

    def _keep(self, tx: Tx, case_id: str, name: str, result: Json) -> Json:
        """Keep a result unless another run was first: then its result counts."""
        self._mark_started(tx, case_id, name)
        mine = case_step.c.case_id == case_id, case_step.c.name == name
        tx.conn.execute(
            case_step.update()
            .where(*mine, case_step.c.state != "done")
            .values(state="done", result=result, done_at=tx.now)
        )
        tx.record(f"case:{case_id}", step=name)
        kept: Json = tx.conn.execute(sa.select(case_step.c.result).where(*mine)).scalar_one()
        return kept

    def _mark_started(self, tx: Tx, case_id: str, name: str) -> None:
        values: dict[str, object] = {
            "case_id": case_id,
            "name": name,
            "location_id": tx.location_id,
            "state": "started",
            "started_at": tx.now,
        }
        insert_once(tx.conn, case_step, values)

    def _demand_outbound(self, tx: Tx) -> None:
        if switches.is_paused(tx.conn, tx.location_id, [switches.OUTBOUND]):
            raise Paused("everything outbound is paused", _PAUSED_S)

    def _take_turn(self, tx: Tx, partner: str) -> None:
        """Take the partner's next turn, or say how long it is until then."""
        pace = self.config.workflows.per_minute  # of one laboratory, or of each of them
        rate = pace.get(partner, pace.get(partner.partition(":")[0]))
        if rate is None:
            return
        now = self.clock()
        start: dict[str, object] = {
            "location_id": tx.location_id,
            "partner": partner,
            "next_at": now,
        }
        insert_once(tx.conn, partner_pace, start)
        mine = partner_pace.c.location_id == tx.location_id, partner_pace.c.partner == partner
        free_at = tx.conn.execute(
            sa.select(partner_pace.c.next_at).where(*mine).with_for_update()
        ).scalar_one()
        if free_at > now:
            raise Paced(f"{partner} is called later", (free_at - now).total_seconds())
        tx.conn.execute(
            partner_pace.update().where(*mine).values(next_at=now + timedelta(minutes=1 / rate))
        )
