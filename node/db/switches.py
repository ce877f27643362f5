"""What a person has paused: one case, a kind of workflow, or everything that leaves the house."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from node.db.session import Tx, upsert
from node.db.tables import workflow_switch

OUTBOUND = "outbound"


def of_workflow(name: str) -> str:
    """Name the switch of a kind of workflow."""
    return f"workflow:{name}"


def of_case(case_id: str) -> str:
    """Name the switch of one case."""
    return f"case:{case_id}"


def turn(tx: Tx, scope: str, is_paused: bool, reason: str = "") -> None:
    """Pause or go on; who and when is kept."""
    values: dict[str, object] = {
        "location_id": tx.location_id,
        "scope": scope,
        "is_paused": is_paused,
        "reason": reason[:255],
        "changed_by": tx.actor.name,
        "changed_at": tx.now,
    }
    upsert(tx.conn, workflow_switch, ("location_id", "scope"), values)
    tx.record(scope, is_paused=is_paused)


def is_paused(conn: sa.Connection, location_id: str, scopes: Iterable[str]) -> bool:
    """Tell whether any of the scopes is paused."""
    query = sa.select(workflow_switch.c.scope).where(
        workflow_switch.c.location_id == location_id,
        workflow_switch.c.scope.in_(list(scopes)),
        workflow_switch.c.is_paused,
    )
    return conn.execute(query.limit(1)).first() is not None


def paused(location_id: str) -> sa.Select[tuple[str]]:
    """Select the scopes that are paused."""
    return sa.select(workflow_switch.c.scope).where(
        workflow_switch.c.location_id == location_id, workflow_switch.c.is_paused
    )
