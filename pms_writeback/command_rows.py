"""The rows of commands: their state, what earlier tries left, their line and their next run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

import sqlalchemy as sa

from node.db.session import Tx
from node.db.tables import pms_command
from node.domain import jobs
from node.engine import PMS, DurableEngine
from pms_writeback.payload import Json
from pms_writeback.pms import Receipt


class Lane(IntEnum):
    """How urgent a command is; a lower lane goes first, each patient's commands in their order."""

    INTERACTIVE = 0  # somebody waits for it: a signature, a booking
    WORKFLOW = 1
    BACKFILL = 2


class CommandState(StrEnum):
    """Where a command stands; the first three are open, a person may retry the three after DONE.

    DECLINED is no fault: this practice's system, its version or its licence cannot take it.
    """

    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    DONE = "done"
    FAILED = "failed"
    HELD = "held"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"  # taken back before it left; never sent again


OPEN = (CommandState.QUEUED, CommandState.SENDING, CommandState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command as stored, with what earlier tries left.

    ``sent_at`` is when it was last given to the wire and may have landed since, None when it
    certainly did not. ``unknown_answers`` counts the sends whose answer was lost, ``tries`` the
    tries that ended in waiting; ``waited_for`` is the command whose pause of the office it sat out.
    """

    id: str
    location_id: str
    study_id: str | None
    patient_id: str
    kind: str
    payload: Json
    state: CommandState
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    unknown_answers: int
    tries: int
    waited_for: str

    @property
    def waiting_state(self) -> CommandState:
        """The state in which it waits for its next try."""
        return CommandState.QUEUED if self.sent_at is None else CommandState.UNKNOWN


def load_command(conn: sa.Connection, command_id: str) -> CommandRow | None:
    """Read one command; None when there is none."""
    row = conn.execute(sa.select(pms_command).where(pms_command.c.id == command_id)).first()
    if row is None:
        return None
    delivery = row.payload.get("delivery", {})
    sent_at = delivery.get("sent_at")
    return CommandRow(
        id=row.id,
        location_id=row.location_id,
        study_id=row.study_id,
        patient_id=row.patient_id,
        kind=row.kind,
        payload=row.payload,
        state=CommandState(row.state),
        attempts=row.attempts,
        created_at=row.created_at,
        sent_at=datetime.fromisoformat(sent_at) if sent_at else None,
        unknown_answers=int(delivery.get("unknown_answers", 0)),
        tries=int(delivery.get("tries", 0)),
        waited_for=str(delivery.get("waited_for", "")),
    )


def next_open(conn: sa.Connection, row: CommandRow) -> str | None:
    """Give the id of the first open command of the same patient."""
    return conn.execute(
        sa.select(pms_command.c.id)
        .where(
            pms_command.c.location_id == row.location_id,
            pms_command.c.patient_id == row.patient_id,
            pms_command.c.state.in_([state.value for state in OPEN]),
        )
        .order_by(pms_command.c.created_at, pms_command.c.id)
        .limit(1)
    ).scalar()


def hurry(tx: Tx, engine: DurableEngine, patient_id: str, lane: Lane) -> None:
    """Let a patient's open commands overtake too when a more urgent one stands behind them."""
    slower = (
        pms_command.c.location_id == tx.location_id,
        pms_command.c.patient_id == patient_id,
        pms_command.c.state.in_([state.value for state in OPEN]),
        pms_command.c.lane > lane.value,
    )
    first = tx.conn.execute(
        sa.select(pms_command.c.id)
        .where(*slower)
        .order_by(pms_command.c.created_at, pms_command.c.id)
        .limit(1)
    ).scalar()
    if first is None:
        return
    tx.conn.execute(pms_command.update().where(*slower).values(lane=lane.value))
    schedule_run(tx, engine, first, None)


def store_state(
    tx: Tx,
    row: CommandRow,
    state: CommandState,
    *,
    sent_at: datetime | None,
    unknown_answers: int,
    tries: int = 0,
    waited_for: str = "",
    error: str = "",
    receipt: Receipt | None = None,
) -> bool:
    """Write a state and what later tries must know.

    The command itself stays as the table has it now: its patient may have been merged meanwhile.
    What was withdrawn since it was read stays so, unless it landed: False, and nothing is written.
    """
    mine = pms_command.c.id == row.id
    now = tx.conn.execute(
        sa.select(pms_command.c.state, pms_command.c.payload).where(mine).with_for_update()
    ).one()
    if now.state == CommandState.WITHDRAWN and state is not CommandState.DONE:
        return False
    delivery = {
        "sent_at": sent_at.isoformat() if sent_at else None,
        "unknown_answers": unknown_answers,
        "tries": tries,
        "waited_for": waited_for,
    }
    values: dict[str, object] = {
        "state": state.value,
        "updated_at": tx.now,
        "error": error[:512],
        "payload": {**now.payload, "delivery": delivery},
    }
    if receipt is not None:
        values["receipt"] = {
            "resource": receipt.resource,
            "key": receipt.key,
            "already_there": receipt.already_there,
        }
    tx.conn.execute(pms_command.update().where(mine).values(values))
    return True


def schedule_run(tx: Tx, engine: DurableEngine, command_id: str, wait_s: float | None) -> None:
    """Leave one more run of a command behind, in the same transaction."""
    row = tx.conn.execute(
        pms_command.update()
        .where(pms_command.c.id == command_id)
        .values(attempts=pms_command.c.attempts + 1)
        .returning(pms_command.c.attempts, pms_command.c.lane)
    ).one()
    enqueue_run(tx, engine, command_id, row.attempts, wait_s, Lane(row.lane))


def enqueue_run(
    tx: Tx,
    engine: DurableEngine,
    command_id: str,
    attempts: int,
    wait_s: float | None,
    lane: Lane,
) -> None:
    """Queue one numbered run; the same number again has no effect."""
    engine.enqueue(
        tx.conn,
        PMS,
        jobs.DELIVER_COMMAND,
        jobs.deliver_key(command_id, attempts),
        command_id,
        attempts,
        partition=tx.location_id,
        delay_s=wait_s,
        priority=lane.value,
    )
