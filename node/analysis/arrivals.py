"""Has everything of a study arrived? By the device's word, by the schedule's count, by quiet time.

In that order: a performed step that is still going on holds the study open; once every step has
ended and all the images that it lists are here, the study is complete. Else it is when as many
images came as the visit's procedures ask for. Else when nothing has come for a while. A study that
a late image opened again has had its word and its count: it waits for quiet only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from node.db.tables import instance, performed_step, study, worklist_item
from node.domain.performed import PerformedState
from node.domain.study import NOT_SHOWN, InstanceState, MatchState


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait without a new image: in general, and while a device says it is at work."""

    quiet_s: float
    step_s: float = 900.0


class CompleteBy(StrEnum):
    """Why a study counts as complete."""

    STEPS = "steps"  # every performed step ended, and what it lists is here
    COUNT = "count"  # as many images as the visit's procedures ask for
    QUIET = "quiet"


def complete_by(
    conn: sa.Connection, row: sa.Row[tuple[object, ...]], patience: Patience, now: datetime
) -> CompleteBy | None:
    """Say why the study `row` (of the table ``study``) is complete now; None while it is not."""
    waited = now - row.last_image_at
    if -waited >= timedelta(seconds=patience.step_s):  # the clock was set back since then
        waited = -waited
    is_quiet = waited >= timedelta(seconds=patience.quiet_s)
    quiet = CompleteBy.QUIET if is_quiet else None
    if row.generation > 0:
        return quiet
    steps = conn.execute(
        sa.select(performed_step.c.state, performed_step.c.image_uids).where(
            performed_step.c.location_id == row.location_id, _belongs(row)
        )
    ).all()
    if any(not PerformedState(step.state).is_final for step in steps):
        return quiet if waited >= timedelta(seconds=patience.step_s) else None
    listed = {uid for step in steps for uid in step.image_uids}
    planned = _planned(conn, row)
    is_all_done = all(PerformedState.is_told(item.performed) for item in planned)
    if listed and is_all_done and _arrived(conn, row.location_id, listed) == len(listed):
        return CompleteBy.STEPS
    asked = [item.expected_images for item in planned]
    if asked and None not in asked and _arrived_for_visit(conn, row) >= sum(asked):
        return CompleteBy.COUNT
    return quiet


def _belongs(row: sa.Row[tuple[object, ...]]) -> sa.ColumnElement[bool]:
    """Match steps of this study or, where that is certain, of its visit (one study per image)."""
    same_study: sa.ColumnElement[bool] = (
        performed_step.c.study_instance_uid == row.study_instance_uid
    )
    if row.appointment_id is None or not MatchState(row.match_state).is_certain:
        return same_study
    return sa.or_(same_study, performed_step.c.appointment_id == row.appointment_id)


def _arrived(conn: sa.Connection, location_id: str, uids: set[str]) -> int:
    count = sa.select(sa.func.count()).where(
        instance.c.location_id == location_id, instance.c.sop_instance_uid.in_(uids)
    )
    return int(conn.execute(count).scalar_one())


def _planned(
    conn: sa.Connection, row: sa.Row[tuple[object, ...]]
) -> list[sa.Row[tuple[int | None, str]]]:
    """Read the open steps of the study's visit; none where the visit is not certain."""
    if row.appointment_id is None or not MatchState(row.match_state).is_certain:
        return []
    return list(
        conn.execute(
            sa.select(worklist_item.c.expected_images, worklist_item.c.performed).where(
                worklist_item.c.location_id == row.location_id,
                worklist_item.c.appointment_id == row.appointment_id,
                worklist_item.c.is_open,
            )
        )
    )


def _arrived_for_visit(conn: sa.Connection, row: sa.Row[tuple[object, ...]]) -> int:
    """Count the images of the visit: some sensors send one study an image."""
    arrived = sa.select(sa.func.count()).where(
        instance.c.study_id == study.c.id,
        study.c.location_id == row.location_id,
        study.c.appointment_id == row.appointment_id,
        sa.not_(study.c.is_prior),
        instance.c.rows.is_not(None),
        instance.c.state.not_in([*NOT_SHOWN, InstanceState.UNREADABLE.value]),
    )
    return int(conn.execute(arrived).scalar_one())
