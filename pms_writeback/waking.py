"""Sending at once what waited, when whatever held it up is over."""

from __future__ import annotations

import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import pms_command
from node.domain import jobs
from node.engine import DurableEngine
from pms_writeback.command_rows import OPEN, schedule_run
from pms_writeback.pauses import end_pause


def wake(db: sa.Engine, engine: DurableEngine, actor: Actor) -> int:
    """Bring the next try of each patient's first waiting command forward; returns how many."""
    with read(db) as conn:
        rows = conn.execute(
            sa.select(pms_command.c.id, pms_command.c.patient_id, pms_command.c.attempts)
            .where(
                pms_command.c.location_id == actor.location_id,
                pms_command.c.state.in_([state.value for state in OPEN]),
            )
            .order_by(pms_command.c.created_at, pms_command.c.id)
        ).all()
    heads = {row.patient_id: row for row in reversed(rows)}.values()
    delayed = [
        row.id
        for row in heads
        if engine.status(jobs.deliver_key(row.id, row.attempts)) == "DELAYED"
    ]
    if not delayed:
        return 0
    with begin(db, actor, "pms.commands_woken") as tx:
        end_pause(tx)
        for command_id in delayed:
            schedule_run(tx, engine, command_id, None)
        tx.record("", commands=delayed)
    return len(delayed)
