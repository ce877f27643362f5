"""Breaking the glass: a study opened in an emergency by somebody who else may not see it.

It takes a reason, opens one study (or those of one patient) for a limited time, never unsigned
findings, and stands in the audit and before the office manager and the auditor.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request

from node.db.session import begin, new_id, read
from node.db.tables import emergency_access, patient, study, user_account
from node.domain.rights import Right
from node.domain.study import MatchState
from node.errors import Conflict, Forbidden, InvalidInput, NotFound
from node.web.accounts import Session
from node.web.auth import Web, WebDep, count_sign_in, opaque_id, require
from node.web.people_shapes import (
    EmergencyAccess,
    EmergencyAccesses,
    EmergencyOpened,
    EmergencyRequest,
)

Breaker = Annotated[Session, Depends(require(Right.GLASS_BREAK))]
Reviewer = Annotated[Session, Depends(require(Right.GLASS_REVIEW))]
_LEAST_WORDS = 10
_SHOWN = timedelta(days=92)
_CERTAIN = tuple(state.value for state in MatchState if state.is_certain)

router = APIRouter(prefix="/api/emergencies")


@router.post("", status_code=201)
def post_emergency(
    body: EmergencyRequest, request: Request, web: WebDep, session: Breaker
) -> EmergencyOpened:
    """Open a study, or the studies of a patient, for a limited time."""
    count_sign_in(request)  # numbers of patients are not to be tried one after another
    minutes = web.config.web.emergency_min
    if not minutes:
        raise Forbidden("Emergency access is switched off here.")
    reason = " ".join(body.reason.split())
    if len(reason) < _LEAST_WORDS:
        raise InvalidInput("Say in a few words why this study must be opened now.")
    with begin(web.db, session.actor, "emergency.opened") as tx:
        studies = tx.conn.execute(_wanted(web, body)).scalars().all()
        if not studies:
            raise NotFound("There is no such study.")
        expires_at = tx.now + timedelta(minutes=minutes)
        for study_id in studies:
            tx.conn.execute(
                emergency_access.insert().values(
                    id=new_id(),
                    location_id=tx.location_id,
                    user_id=session.user_id,
                    study_id=study_id,
                    reason=reason,
                    at=tx.now,
                    expires_at=expires_at,
                )
            )
        tx.record(f"study:{studies[0]}", studies=list(studies), role=session.role.value)
    return EmergencyOpened(studies=tuple(studies), expires_at=expires_at)


@router.get("")
def get_emergencies(web: WebDep, session: Reviewer) -> EmergencyAccesses:
    """Show what was opened in emergencies in the last three months."""
    reviewer = user_account.alias("reviewer")
    with read(web.db) as conn:
        rows = conn.execute(
            sa.select(
                emergency_access,
                user_account.c.display_name,
                user_account.c.role,
                reviewer.c.display_name.label("reviewer_name"),
            )
            .join(user_account, user_account.c.id == emergency_access.c.user_id)
            .outerjoin(reviewer, reviewer.c.id == emergency_access.c.reviewed_by)
            .where(
                emergency_access.c.location_id == web.location_id,
                emergency_access.c.at > datetime.now(UTC) - _SHOWN,
            )
            .order_by(emergency_access.c.at.desc(), emergency_access.c.id)
            .limit(500)
        ).all()
    accesses = tuple(
        EmergencyAccess(
            id=row.id,
            study_id=row.study_id,
            display_name=row.display_name,
            role=row.role,
            reason=row.reason,
            at=row.at,
            expires_at=row.expires_at,
            reviewed_by=row.reviewer_name or "",
            reviewed_at=row.reviewed_at,
            is_own=row.user_id == session.user_id,
        )
        for row in rows
    )
    waiting = sum(each.reviewed_at is None for each in accesses)
    return EmergencyAccesses(accesses=accesses, not_reviewed=waiting)


@router.post("/{access_id}/reviewed", status_code=204)
def post_reviewed(access_id: str, web: WebDep, session: Reviewer) -> None:
    """Say that somebody else's emergency access was looked at."""
    with begin(web.db, session.actor, "emergency.reviewed") as tx:
        row = tx.conn.execute(
            sa.select(emergency_access).where(
                emergency_access.c.id == opaque_id(access_id),
                emergency_access.c.location_id == web.location_id,
            )
        ).first()
        if row is None:
            raise NotFound("There is no such access.")
        if row.user_id == session.user_id:
            raise Conflict("Somebody else must look at your own emergency access.")
        tx.conn.execute(
            emergency_access.update()
            .where(emergency_access.c.id == access_id, emergency_access.c.reviewed_at.is_(None))
            .values(reviewed_by=session.user_id, reviewed_at=tx.now)
        )
        tx.record(f"emergency:{access_id}")


def _wanted(web: Web, body: EmergencyRequest) -> sa.Select[tuple[str]]:
    here = sa.select(study.c.id).where(study.c.location_id == web.location_id)
    if body.study_id:
        return here.where(study.c.id == body.study_id)
    return (
        here.join(patient, patient.c.id == study.c.patient_id)
        .where(patient.c.pms_key == body.patient_number.strip(), study.c.match_state.in_(_CERTAIN))
        .order_by(study.c.received_at.desc())
        .limit(20)
    )
