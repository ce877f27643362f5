"""From a patient's chart to the review page in one click: a link for one use within two minutes.

The chart's side (a program link of the PMS, `bitewing open-study`) proves itself with the key of
the configuration and names the patient or the accession number in the body. The link itself says
nothing, opens nothing without signing in, and rights are asked as always.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse

from node.db.session import Actor, begin, read
from node.db.tables import patient, study, study_link
from node.domain.rights import Open
from node.domain.study import MatchState
from node.errors import Forbidden, InvalidInput, NotFound
from node.web.accounts import Unauthenticated
from node.web.auth import Web, WebDep, session_of
from node.web.shapes import LinkMade, LinkWanted

LIFE = timedelta(minutes=2)
_LEAST_KEY = 32
_CERTAIN = tuple(state.value for state in MatchState if state.is_certain)

router = APIRouter()


@router.post("/api/chart-links", dependencies=[Depends(Open("the link key"))])
def post_link(body: LinkWanted, request: Request, web: WebDep) -> LinkMade:
    """Make a link to the latest study of a patient, or to the study of an accession number."""
    _demand_key(web, request)
    if bool(body.accession_number.strip()) == bool(body.patient_key.strip()):
        raise InvalidInput("Give either an accession number or a patient number.")
    with read(web.db) as conn:
        study_id = conn.execute(_latest(web, body)).scalar()
    if study_id is None:
        raise NotFound("No study is linked to this patient or visit yet.")
    token = secrets.token_urlsafe(32)
    with begin(web.db, Actor("chart-link", web.location_id), "study.link_made") as tx:
        tx.conn.execute(sa.delete(study_link).where(study_link.c.expires_at < tx.now - LIFE))
        tx.conn.execute(
            study_link.insert().values(
                token_hash=_hash(token),
                location_id=tx.location_id,
                study_id=study_id,
                created_at=tx.now,
                expires_at=tx.now + LIFE,
            )
        )
        tx.record(f"study:{study_id}")
        expires_at = tx.now + LIFE
    return LinkMade(path=f"/open/{token}", expires_at=expires_at)


@router.get(
    "/open/{token}",
    include_in_schema=False,
    dependencies=[Depends(Open("a link for one use; it opens nothing by itself"))],
)
def open_link(token: str, request: Request, web: WebDep) -> RedirectResponse:
    """Go to the study; a used or old link goes to the worklist. Signing in may come first.

    Nothing is written down about a link that never was: anybody may make up thousands.
    """
    with read(web.db) as conn:
        known = sa.select(study_link.c.token_hash).where(
            study_link.c.token_hash == _hash(token), study_link.c.location_id == web.location_id
        )
        if conn.execute(known).first() is None:
            return RedirectResponse("/", status_code=303)
    try:
        actor = session_of(request).actor
    except Unauthenticated:
        actor = Actor("chart-link", web.location_id)
    with begin(web.db, actor, "study.link_opened") as tx:
        study_id = tx.conn.execute(
            study_link.update()
            .where(
                study_link.c.token_hash == _hash(token),
                study_link.c.location_id == web.location_id,
                study_link.c.used_at.is_(None),
                study_link.c.expires_at > tx.now,
            )
            .values(used_at=tx.now)
            .returning(study_link.c.study_id)
        ).scalar()
        tx.record(f"study:{study_id}" if study_id else "", is_good=bool(study_id))
    # The review page asks for a session itself, and comes back to the study after signing in.
    return RedirectResponse(f"/review/{study_id}" if study_id else "/", status_code=303)


def _demand_key(web: Web, request: Request) -> None:
    key = web.config.web.link_key.get_secret_value()
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if len(key) < _LEAST_KEY:
        raise Forbidden("Links from the chart are switched off: no link key is configured.")
    if not secrets.compare_digest(key.encode(), given.encode()):
        raise Forbidden("That is not this node's link key.")


def _latest(web: Web, body: LinkWanted) -> sa.Select[tuple[str]]:
    here = sa.select(study.c.id).where(
        study.c.location_id == web.location_id, study.c.match_state.in_(_CERTAIN)
    )
    if body.accession_number.strip():
        here = here.where(study.c.accession_number == body.accession_number.strip())
    else:
        here = here.join(patient, patient.c.id == study.c.patient_id).where(
            patient.c.pms_key == body.patient_key.strip()
        )
    return here.order_by(study.c.study_date.desc(), study.c.received_at.desc()).limit(1)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
