"""What an emergency has opened: one study, for one person, until a time."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import emergency_access, instance
from node.web.accounts import Session


def waiting(db: sa.Engine, location_id: str) -> int:
    """Count the emergency accesses that nobody has looked at."""
    query = sa.select(sa.func.count()).where(
        emergency_access.c.location_id == location_id, emergency_access.c.reviewed_at.is_(None)
    )
    with read(db) as conn:
        return int(conn.execute(query).scalar_one())


def is_open(db: sa.Engine, session: Session, study_id: str, image_id: str = "") -> bool:
    """Whether this person has opened this study, or the study of this image, and may still look."""
    if not study_id and not image_id:
        return False
    query = sa.select(emergency_access.c.id).where(
        emergency_access.c.user_id == session.user_id,
        emergency_access.c.location_id == session.location_id,
        emergency_access.c.expires_at > datetime.now(UTC),
    )
    if study_id:
        query = query.where(emergency_access.c.study_id == study_id)
    if image_id:
        query = query.join(instance, instance.c.study_id == emergency_access.c.study_id).where(
            instance.c.id == image_id
        )
    with read(db) as conn:
        return conn.execute(query.limit(1)).first() is not None
