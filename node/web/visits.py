"""Today's appointment of a study's patient: who is in the chair, and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from node.db.tables import appointment, operatory
from node.domain.study import MatchState
from node.web.facts import Row

#: Appointments of these states hold nobody in a chair.
_NOT_COMING = ("broken", "planned", "unscheduled")


@dataclass(frozen=True, slots=True)
class Visit:
    """Today's appointment of a study's patient."""

    start_at: datetime
    end_at: datetime
    operatory: str

    def holds(self, now: datetime) -> bool:
        """Whether the patient is in the chair, by the schedule."""
        return self.start_at <= now < self.end_at


def visits_of(
    conn: sa.Connection, studies: Sequence[Row], midnight: datetime, now: datetime
) -> dict[str, Visit]:
    """Today's appointment of each study: its own, else one of its patient's, the current first."""
    certain = [row for row in studies if MatchState(row.match_state).is_certain]
    people = {row.patient_id for row in certain if row.patient_id}
    own = {row.appointment_id for row in studies if row.appointment_id}
    rows = conn.execute(
        sa.select(appointment, operatory.c.name.label("room"))
        .outerjoin(
            operatory,
            sa.and_(
                operatory.c.location_id == appointment.c.location_id,
                operatory.c.pms_key == appointment.c.operatory_key,
            ),
        )
        .where(
            sa.or_(appointment.c.patient_id.in_(sorted(people)), appointment.c.id.in_(sorted(own))),
            appointment.c.start_at >= midnight,
            appointment.c.start_at < midnight + timedelta(days=1),
            appointment.c.tombstoned_at.is_(None),
            appointment.c.status.not_in(_NOT_COMING),
        )
        .order_by(appointment.c.start_at)
    ).all()
    made = {
        row.id: Visit(
            row.start_at, row.start_at + timedelta(minutes=row.duration_min), row.room or ""
        )
        for row in rows
    }
    by_patient: dict[str, list[Visit]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient_id].append(made[row.id])
    found: dict[str, Visit] = {}
    sure = {row.id for row in certain}
    for row in studies:
        theirs = by_patient.get(row.patient_id, []) if row.id in sure else []
        visits = [made[row.appointment_id]] if row.appointment_id in made else theirs
        if visits:
            found[row.id] = next((visit for visit in theirs if visit.holds(now)), visits[0])
    return found
