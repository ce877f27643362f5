"""A person's standing approval: one version of a template may go to one segment without asking.

It holds for the very words that were read, until its end or until it is taken back; every message
that goes out under it names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from node.db.session import Tx, new_id
from node.db.tables import recall_policy
from node.errors import InvalidInput, NotFound
from orchestration.recall.segments import Segment
from orchestration.recall.templates import Template

#: A standing approval is looked at again at least once a year.
_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Policy:
    """One standing approval."""

    id: str
    segment: Segment
    template: str
    approved_by: str
    approved_at: datetime
    ends_at: datetime


def approve(
    tx: Tx, segment: Segment, template: Template, *, by: str, reason: str, ends_at: datetime
) -> str:
    """Let a template go to a segment until `ends_at`; returns the policy's id.

    Raises
    ------
    InvalidInput
        There is no reason, or the end is past or more than a year away.
    """
    if not reason.strip():
        raise InvalidInput("Say why: a standing approval keeps its reason.")
    if not tx.now < ends_at <= tx.now + _LONGEST:
        raise InvalidInput("a standing approval ends within a year")
    policy_id = new_id()
    tx.conn.execute(
        recall_policy.insert().values(
            id=policy_id,
            location_id=tx.location_id,
            segment=segment.value,
            template=template.id,
            digest=template.digest,
            approved_by=by,
            reason=reason.strip()[:255],
            approved_at=tx.now,
            ends_at=ends_at,
        )
    )
    tx.record(f"policy:{policy_id}", segment=segment.value, template=template.id)
    return policy_id


def revoke(tx: Tx, policy_id: str) -> None:
    """Take a standing approval back; what waits to go out is asked for again. Raises NotFound."""
    done = tx.conn.execute(
        recall_policy.update()
        .where(
            recall_policy.c.id == policy_id,
            recall_policy.c.location_id == tx.location_id,
            recall_policy.c.revoked_at.is_(None),
        )
        .values(revoked_at=tx.now, revoked_by=tx.actor.name)
    )
    if done.rowcount == 0:
        raise NotFound("there is no such standing approval")
    tx.record(f"policy:{policy_id}")


def covers(
    conn: sa.Connection, location_id: str, segment: Segment, template: Template, now: datetime
) -> str:
    """Give the id of the policy under which a template may go to a segment now; empty for none."""
    columns = recall_policy.c
    found = conn.execute(
        _living(location_id, now)
        .with_only_columns(columns.id)
        .where(columns.segment == segment.value, columns.digest == template.digest)
        .limit(1)
    ).scalar()
    return str(found or "")


def policies(conn: sa.Connection, location_id: str, now: datetime) -> list[Policy]:
    """Read the standing approvals that hold now, the newest first."""
    rows = conn.execute(_living(location_id, now).order_by(recall_policy.c.approved_at.desc()))
    return [
        Policy(
            row.id, Segment(row.segment), row.template, row.approved_by, row.approved_at,
            row.ends_at,
        )
        for row in rows
    ]  # fmt: skip


def _living(location_id: str, now: datetime) -> sa.Select:  # type: ignore[type-arg]
    # SQLAlchemy's Select is generic over its columns.
    columns = recall_policy.c
    return sa.select(recall_policy).where(
        columns.location_id == location_id,
        columns.revoked_at.is_(None),
        columns.ends_at > now,
    )
