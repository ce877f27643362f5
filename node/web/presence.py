"""Who else has a study open: a sign of life every 20 seconds, forgotten after a minute and a half.

It warns and never locks: two people may read one study, and conflicts are settled finding by
finding.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from node.db.session import begin, read, upsert
from node.db.tables import instance, study_presence, user_account
from node.domain.rights import Right
from node.errors import NotFound
from node.web.accounts import Session
from node.web.auth import WebDep, opaque_id, require
from node.web.facts import Row, find_study
from node.web.shapes import Colleague, PresenceAnswer, PresenceRequest

LIFE = timedelta(seconds=90)
#: A sign of life that says nothing new is written down no more often than this.
_WRITE_EVERY = timedelta(seconds=35)

router = APIRouter(prefix="/api")


@router.post("/studies/{study_id}/presence")
def post_presence(
    study_id: str,
    body: PresenceRequest,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_SEE))],
) -> PresenceAnswer:
    """Say that this person is here, at which image; answer who else is."""
    now = datetime.now(UTC)
    with read(web.db) as conn:
        find_study(conn, web.location_id, opaque_id(study_id))
        rows = conn.execute(_present(study_id, now)).all()
        if body.image_id is not None:
            _demand_image(conn, study_id, body.image_id)
    mine = next((row for row in rows if row.user_id == session.user_id), None)
    if body.is_leaving:
        if mine is not None:
            with begin(web.db, session.actor, "study.left") as tx:
                tx.conn.execute(sa.delete(study_presence).where(_is_mine(study_id, session)))
                tx.record(f"study:{study_id}")
    elif _is_news(mine, body, now):
        with begin(web.db, session.actor, "study.present") as tx:
            upsert(
                tx.conn,
                study_presence,
                ("study_id", "user_id"),
                {
                    "study_id": study_id,
                    "user_id": session.user_id,
                    "location_id": tx.location_id,
                    "instance_id": body.image_id,
                    "seen_at": tx.now,
                },
            )
            tx.record(f"study:{study_id}")
    others = [row for row in rows if row.user_id != session.user_id]
    return PresenceAnswer(
        others=tuple(
            Colleague(name=row.display_name, role=row.role, image_id=row.instance_id)
            for row in others
        )
    )


def _present(study_id: str, now: datetime) -> sa.Select[tuple[object, ...]]:
    return (
        sa.select(study_presence, user_account.c.display_name, user_account.c.role)
        .join(user_account, user_account.c.id == study_presence.c.user_id)
        .where(study_presence.c.study_id == study_id, study_presence.c.seen_at > now - LIFE)
        .order_by(user_account.c.display_name)
    )


def _is_mine(study_id: str, session: Session) -> sa.ColumnElement[bool]:
    return sa.and_(
        study_presence.c.study_id == study_id, study_presence.c.user_id == session.user_id
    )


def _is_news(mine: Row | None, body: PresenceRequest, now: datetime) -> bool:
    return mine is None or mine.instance_id != body.image_id or now - mine.seen_at > _WRITE_EVERY


def _demand_image(conn: sa.Connection, study_id: str, image_id: str) -> None:
    query = sa.select(instance.c.id).where(
        instance.c.id == image_id, instance.c.study_id == study_id
    )
    if conn.execute(query).first() is None:
        raise NotFound("There is no such image in this study.")
