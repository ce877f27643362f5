"""What each person chose for their own screen, kept in a row of theirs."""

from __future__ import annotations

import sqlalchemy as sa

from node.db.session import begin, read, upsert
from node.db.tables import user_preference
from node.web.accounts import Session
from node.web.shapes import Preferences


def preferences_of(db: sa.Engine, user_id: str) -> Preferences:
    """Read a person's choices."""
    with read(db) as conn:
        return preferences_in(conn, user_id)


def preferences_in(conn: sa.Connection, user_id: str) -> Preferences:
    """Read a person's choices; what a later release renamed is left at its default."""
    kept = conn.execute(
        sa.select(user_preference.c.content).where(user_preference.c.user_id == user_id)
    ).scalar()
    known = {
        name: value for name, value in (kept or {}).items() if name in Preferences.model_fields
    }
    return Preferences.model_validate(known)


def keep_preferences(db: sa.Engine, session: Session, chosen: Preferences) -> None:
    """Keep a person's choices."""
    with begin(db, session.actor, "user.preferences_changed") as tx:
        upsert(
            tx.conn,
            user_preference,
            ("user_id",),
            {
                "user_id": session.user_id,
                "location_id": session.location_id,
                "content": chosen.model_dump(mode="json"),
                "changed_at": tx.now,
            },
        )
        tx.record(f"user:{session.user_id}")
