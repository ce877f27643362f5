"""What workflows have done: how long cases take, what people changed, what went wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import sqlalchemy as sa

from node.db.tables import approval, case_entry, case_step, pms_command, workflow_case
from orchestration.cases import OPEN, CaseState


@dataclass(frozen=True, slots=True)
class Figures:
    """One workflow over a span of days.

    Hours are wall-clock, medians over the cases or decisions that ended in the span.
    ``touches_saved`` counts what nobody had to do by hand: calls to partners and PMS entries.
    """

    workflow: str
    states: dict[str, int]
    results: dict[str, int]
    started: int
    ended: int
    cycle_hours: float | None
    decisions: int
    edited: int
    refused: int
    decision_hours: float | None
    exceptions: int
    touches_saved: int


def figures(conn: sa.Connection, location_id: str, workflow: str, since: datetime) -> Figures:
    """Compute the figures of a workflow since a moment; states are those of now."""
    cases = conn.execute(
        sa.select(
            workflow_case.c.id,
            workflow_case.c.state,
            workflow_case.c.stage,
            workflow_case.c.created_at,
            workflow_case.c.updated_at,
        ).where(workflow_case.c.location_id == location_id, workflow_case.c.workflow == workflow)
    ).all()
    open_states = {state.value for state in OPEN}
    ended = [row for row in cases if row.state not in open_states and row.updated_at >= since]
    done = [row for row in ended if row.state == CaseState.DONE.value]
    decided = conn.execute(
        sa.select(approval.c.state, approval.c.created_at, approval.c.decided_at)
        .join(workflow_case, workflow_case.c.id == approval.c.case_id)
        .where(
            approval.c.location_id == location_id,
            workflow_case.c.workflow == workflow,
            approval.c.decided_at >= since,
            approval.c.state.in_(["approved", "edited", "refused"]),
        )
    ).all()
    verdicts = Counter(row.state for row in decided)
    return Figures(
        workflow=workflow,
        states=dict(Counter(row.state for row in cases)),
        results=dict(Counter(row.stage for row in done)),
        started=sum(row.created_at >= since for row in cases),
        ended=len(ended),
        cycle_hours=_hours((row.created_at, row.updated_at) for row in done),
        decisions=len(decided),
        edited=verdicts["edited"],
        refused=verdicts["refused"],
        decision_hours=_hours((row.created_at, row.decided_at) for row in decided),
        exceptions=_entries(conn, location_id, workflow, since)["parked"],
        touches_saved=_touches(conn, location_id, workflow, since),
    )


def _entries(
    conn: sa.Connection, location_id: str, workflow: str, since: datetime
) -> defaultdict[str, int]:
    rows = conn.execute(
        sa.select(case_entry.c.kind, sa.func.count())
        .join(workflow_case, workflow_case.c.id == case_entry.c.case_id)
        .where(
            case_entry.c.location_id == location_id,
            workflow_case.c.workflow == workflow,
            case_entry.c.at >= since,
        )
        .group_by(case_entry.c.kind)
    )
    return defaultdict(int, {row[0]: row[1] for row in rows})


def _touches(conn: sa.Connection, location_id: str, workflow: str, since: datetime) -> int:
    steps = (
        sa.select(sa.func.count())
        .select_from(case_step)
        .join(workflow_case, workflow_case.c.id == case_step.c.case_id)
        .where(
            case_step.c.location_id == location_id,
            workflow_case.c.workflow == workflow,
            case_step.c.done_at >= since,
        )
    )
    writes = (
        sa.select(sa.func.count())
        .select_from(pms_command)
        .join(
            workflow_case,
            pms_command.c.key.startswith(sa.literal("case:") + workflow_case.c.id + ":"),
        )
        .where(
            pms_command.c.location_id == location_id,
            workflow_case.c.workflow == workflow,
            pms_command.c.state == "done",
            pms_command.c.updated_at >= since,
        )
    )
    return int(conn.execute(steps).scalar_one()) + int(conn.execute(writes).scalar_one())


def _hours(spans: Iterable[tuple[datetime, datetime]]) -> float | None:
    hours = [(end - start).total_seconds() / 3600 for start, end in spans]
    return round(median(hours), 2) if hours else None
