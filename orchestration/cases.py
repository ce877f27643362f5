"""Cases as rows: started once per key, woken by signals, ended or retried by people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from node.db import switches
from node.db.session import Tx, insert_once, new_id
from node.db.tables import approval, case_entry, case_signal, workflow_case
from node.domain.events import EventKind
from node.engine import WORKFLOWS, DurableEngine
from node.errors import Conflict, NotFound
from orchestration.workflow import Draft, Signal, Start, Workflow

#: ``(case_id, leg)`` — run a case until it waits; the durable job of every workflow.
RUN_CASE = "run_case"
#: The stage of a case that is being cancelled: its done steps are taken back.
UNDO = "@undo"

# SQLAlchemy's Row is generic over its columns, which differ from query to query.
Row = sa.Row


class CaseState(StrEnum):
    """Where a case stands."""

    RUNNING = "running"  # a leg is queued or at work
    WAITING = "waiting"  # for a moment or a signal
    ASKING = "asking"  # for a person's decision
    RETRYING = "retrying"  # something was away; the stage runs again
    PARKED = "parked"  # a person must look
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SILENT = "silent"  # ended where a person would have been asked
    DONE = "done"


OPEN = frozenset(
    {CaseState.RUNNING, CaseState.WAITING, CaseState.ASKING, CaseState.RETRYING}
    | {CaseState.PARKED, CaseState.CANCELLING}
)
IDLE = frozenset({CaseState.WAITING, CaseState.ASKING, CaseState.RETRYING})


def run_key(case_id: str, leg: int) -> str:
    """Key of one leg of a case."""
    return f"case:{case_id}:{leg}"


def start(tx: Tx, engine: DurableEngine, workflow: Workflow, what: Start) -> str | None:
    """Start a case; returns its id, or None when its key has been started before."""
    case_id = new_id()
    values: dict[str, object] = {
        "id": case_id,
        "location_id": tx.location_id,
        "workflow": workflow.name,
        "key": what.key,
        "patient_id": what.patient_id,
        "state": CaseState.RUNNING.value,
        "stage": workflow.first,
        "data": what.data,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    if not insert_once(tx.conn, workflow_case, values):
        return None
    add_entry(tx, case_id, "started", workflow.first)
    _enqueue(tx, engine, case_id, 0)
    return case_id


def send(tx: Tx, engine: DurableEngine, workflow: Workflow, what: Signal) -> bool:
    """Give a signal to the case of a key; returns False when there is no such open case."""
    row = tx.conn.execute(
        sa.select(workflow_case.c.id).where(
            workflow_case.c.location_id == tx.location_id,
            workflow_case.c.workflow == workflow.name,
            workflow_case.c.key == what.key,
        )
    ).first()
    if row is None:
        return False
    return signal(tx, engine, row.id, what.topic, what.delivery_id, what.payload)


def signal(
    tx: Tx,
    engine: DurableEngine,
    case_id: str,
    topic: str,
    delivery_id: str,
    payload: Mapping[str, object],
) -> bool:
    """Keep a signal until the case listens for its topic, and wake the case if it does now.

    Returns False when the case has ended; the same `delivery_id` again has no effect.
    """
    row = lock(tx, case_id)
    if CaseState(row.state) not in OPEN:
        return False
    values: dict[str, object] = {
        "id": new_id(),
        "location_id": tx.location_id,
        "case_id": case_id,
        "topic": topic,
        "delivery_id": delivery_id[:128],
        "payload": dict(payload),
        "at": tx.now,
    }
    if insert_once(tx.conn, case_signal, values) and topic in (row.waits or {}):
        wake_by_signal(tx, engine, row)
    return True


def wake_by_signal(tx: Tx, engine: DurableEngine, row: Row) -> bool:
    """Start a leg for the oldest kept signal that a case listens for, if there is one."""
    waits = row.waits or {}
    kept = tx.conn.execute(
        sa.select(case_signal)
        .where(
            case_signal.c.case_id == row.id,
            case_signal.c.taken_at.is_(None),
            case_signal.c.topic.in_(list(waits)),
        )
        .order_by(case_signal.c.at, case_signal.c.id)
        .limit(1)
    ).first()
    if kept is None:
        return False
    tx.conn.execute(case_signal.update().where(case_signal.c.id == kept.id).values(taken_at=tx.now))
    if not kept.topic.startswith("approval:"):
        withdraw_approvals(tx, row.id)
    add_entry(tx, row.id, "signal", waits[kept.topic], topic=kept.topic.partition(":")[0])
    woken = {"topic": kept.topic, "payload": kept.payload}
    wake(tx, engine, row, stage=waits[kept.topic], woken_by=woken)
    return True


def wake(
    tx: Tx,
    engine: DurableEngine,
    row: Row,
    *,
    stage: str,
    woken_by: Draft | None = None,
    state: CaseState = CaseState.RUNNING,
) -> None:
    """Start the next leg of a case at a stage; an older leg that still runs counts no more."""
    leg = row.leg + 1
    update(
        tx, row.id, state=state.value, stage=stage, leg=leg, waits=None, wake_at=None,
        woken_by=woken_by, executor="",
    )  # fmt: skip
    _enqueue(tx, engine, row.id, leg)


#: The topic that a case which was taken up again is woken by.
REOPENED = "reopened"


def retry(
    tx: Tx, engine: DurableEngine, case_id: str, again: Mapping[str, str] | None = None
) -> None:
    """Run the stage where a case is parked once more, because a person asks for it.

    With `again` (`Workflow.again`) one that ended so is taken up at the stage named there.

    Raises
    ------
    NotFound, Conflict
        There is no such case at this location, or it is not parked.
    """
    row = lock(tx, case_id)
    if row.state == CaseState.DONE.value and row.stage in (again or {}):
        stage = (again or {})[row.stage]
        add_entry(tx, case_id, "taken_up_again", stage, by=tx.actor.name)
        tx.record(f"case:{case_id}", stage=stage)
        update(tx, case_id, attempts=0, error="")
        wake(tx, engine, row, stage=stage, woken_by={"topic": REOPENED})
        return
    if row.state not in (CaseState.PARKED.value, CaseState.RETRYING.value):
        raise Conflict("this case is not parked; there is nothing to retry")
    add_entry(tx, case_id, "retried", row.stage, by=tx.actor.name)
    tx.record(f"case:{case_id}", stage=row.stage)
    update(tx, case_id, attempts=0, error="")
    wake(tx, engine, row, stage=row.stage, woken_by=row.woken_by)


def cancel(tx: Tx, engine: DurableEngine, case_id: str, reason: str) -> None:
    """End a case because a person says so; what can be taken back is taken back.

    Raises
    ------
    NotFound, Conflict
        There is no such case at this location, or it has ended.
    """
    row = lock(tx, case_id)
    if CaseState(row.state) not in OPEN - {CaseState.CANCELLING}:
        raise Conflict("this case has ended")
    withdraw_approvals(tx, case_id)
    add_entry(tx, case_id, "cancelled", row.stage, by=tx.actor.name, reason=reason)
    tx.record(f"case:{case_id}")
    was: Draft = {"was": row.state}
    wake(tx, engine, row, stage=UNDO, state=CaseState.CANCELLING, woken_by=was)


def withdraw_approvals(tx: Tx, case_id: str) -> None:
    """Ask no longer: the case went on without the decision."""
    tx.conn.execute(
        approval.update()
        .where(approval.c.case_id == case_id, approval.c.state == "waiting")
        .values(state="withdrawn", decided_at=tx.now)
    )


def lock(tx: Tx, case_id: str) -> Row:
    """Read a case of this location and hold it until the transaction ends."""
    row = tx.conn.execute(
        sa.select(workflow_case)
        .where(workflow_case.c.id == case_id, workflow_case.c.location_id == tx.location_id)
        .with_for_update()
    ).first()
    if row is None:
        raise NotFound("no such case at this location")
    return row


def update(tx: Tx, case_id: str, **values: object) -> None:
    """Change columns of a case and tell whoever looks at it."""
    tx.conn.execute(
        workflow_case.update()
        .where(workflow_case.c.id == case_id)
        .values(updated_at=tx.now, **values)
    )
    if values.get("state", CaseState.RUNNING.value) != CaseState.RUNNING.value:
        key = f"case:{case_id}:{values['state']}:{new_id()}"
        tx.append_event(EventKind.CASE_CHANGED, case_id, key, {"state": values["state"]})


def add_entry(tx: Tx, case_id: str, kind: str, stage: str = "", **detail: object) -> None:
    """Add a line to a case's timeline."""
    tx.conn.execute(
        case_entry.insert().values(
            id=new_id(), location_id=tx.location_id, case_id=case_id, at=tx.now, kind=kind,
            stage=stage, detail=detail,
        )
    )  # fmt: skip


def due(conn: sa.Connection, location_id: str, now: datetime, limit: int = 200) -> list[str]:
    """Read the ids of idle cases whose moment has come and that nobody has paused."""
    columns = workflow_case.c
    paused = switches.paused(location_id)
    return list(
        conn.execute(
            sa.select(columns.id)
            .where(
                columns.location_id == location_id,
                columns.wake_at <= now,
                (sa.literal("workflow:") + columns.workflow).not_in(paused),
                (sa.literal("case:") + columns.id).not_in(paused),
            )
            .order_by(columns.wake_at)
            .limit(limit)
        ).scalars()
    )


def _enqueue(tx: Tx, engine: DurableEngine, case_id: str, leg: int) -> None:
    engine.enqueue(tx.conn, WORKFLOWS, RUN_CASE, run_key(case_id, leg), case_id, leg)
