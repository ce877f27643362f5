"""Which reminders were delayed by chance, and who booked when: the rows behind `lift`."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from node.db.session import Tx, insert_once
from node.db.tables import recall_trial
from orchestration.recall.lift import Arm, Lift, Trial, measure


def assign(
    tx: Tx, case_key: str, arm: Arm, *, seed: str, share: float, delay_days: int, at: datetime
) -> None:
    """Write down the arm of a reminder with its seed; a second time has no effect."""
    values: dict[str, object] = {
        "location_id": tx.location_id,
        "case_key": case_key,
        "arm": arm.value,
        "seed": seed[:64],
        "share": share,
        "delay_days": delay_days,
        "assigned_at": at,
    }
    insert_once(tx.conn, recall_trial, values)
    tx.record("recall-trial", arm=arm.value)


def book(tx: Tx, case_key: str, at: datetime) -> None:
    """Write down when a reminder's patient booked, if it is measured; the first time counts."""
    tx.conn.execute(
        recall_trial.update()
        .where(
            recall_trial.c.location_id == tx.location_id,
            recall_trial.c.case_key == case_key,
            recall_trial.c.booked_at.is_(None),
        )
        .values(booked_at=at)
    )
    tx.record("recall-trial", booked=True)


def lift_of(conn: sa.Connection, location_id: str, seed: str, now: datetime) -> Lift | None:
    """Measure the lift of the trial with this seed; None while there is too little."""
    rows = conn.execute(
        sa.select(recall_trial).where(
            recall_trial.c.location_id == location_id, recall_trial.c.seed == seed[:64]
        )
    )
    trials = [Trial(Arm(row.arm), row.assigned_at, row.delay_days, row.booked_at) for row in rows]
    return measure(trials, now)
