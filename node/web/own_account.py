"""What everybody does with their own account: password, second factor, open sessions."""

from __future__ import annotations

import base64
from typing import Annotated

import segno
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from node.db.session import begin, read
from node.db.tables import user_account, web_session
from node.errors import InvalidInput, NotFound, Rejected
from node.web.accounts import Origin, Session, end_sessions, session_id
from node.web.auth import Web, WebDep, count_sign_in, me_of, opaque_id, origin_of, signed_in
from node.web.hashing import check_password, hashed
from node.web.people_shapes import (
    Code,
    OpenSession,
    OpenSessions,
    OwnPassword,
    PasswordChange,
    RecoveryCodes,
    SecondFactorBegun,
    SecondFactorState,
)
from node.web.second_factor import address_of
from node.web.shapes import Me
from node.web.sign_in import set_cookie

Owner = Annotated[Session, Depends(signed_in)]

router = APIRouter(prefix="/api")


@router.post("/password")
def change_password(
    body: PasswordChange, request: Request, response: Response, web: WebDep, session: Owner
) -> Me:
    """Take a new password; every session of the person ends, and this browser gets a new one."""
    count_sign_in(request)
    old, new = body.password.get_secret_value(), body.new_password.get_secret_value()
    web.accounts.check_password(session, old)
    check_password(new, session.username)
    if new == old:
        raise InvalidInput("The new password is the old one.")
    with begin(web.db, session.actor, "user.password_changed") as tx:
        tx.conn.execute(
            user_account.update()
            .where(user_account.c.id == session.user_id)
            .values(password_hash=hashed(new), must_change_password=False)
        )
        ended = end_sessions(tx, session.user_id)
        tx.record(f"user:{session.user_id}", ended=ended)
    return _anew(request, response, web, session, origin_of(request))


@router.get("/sessions")
def get_sessions(web: WebDep, session: Owner) -> OpenSessions:
    """Say where the person is signed in."""
    return sessions_of(web, session.user_id, session)


@router.post("/sessions/{shown_id}/end", status_code=204)
def end_session(shown_id: str, web: WebDep, session: Owner) -> None:
    """End one of the person's own sessions."""
    with begin(web.db, session.actor, "session.ended") as tx:
        hashes = tx.conn.execute(_open_sessions(web, session.user_id)).all()
        found = next(
            (r.token_hash for r in hashes if session_id(r.token_hash) == opaque_id(shown_id)), None
        )
        if found is None:
            raise NotFound("There is no such session.")
        tx.conn.execute(
            web_session.update().where(web_session.c.token_hash == found).values(ended_at=tx.now)
        )
        tx.record(f"user:{session.user_id}")


@router.post("/sessions/end-others")
def end_other_sessions(web: WebDep, session: Owner) -> OpenSessions:
    """End every session of the person but this one."""
    with begin(web.db, session.actor, "session.others_ended") as tx:
        ended = end_sessions(tx, session.user_id, session.token_hash)
        tx.record(f"user:{session.user_id}", ended=ended)
    return sessions_of(web, session.user_id, session)


@router.get("/second-factor")
def get_second_factor(web: WebDep, session: Owner) -> SecondFactorState:
    """Say whether the person has a second factor."""
    is_on = session.has_second_factor
    return SecondFactorState(is_on=is_on, codes_left=web.codes.left(session.user_id))


@router.post("/second-factor")
def begin_second_factor(
    body: OwnPassword, request: Request, web: WebDep, session: Owner
) -> SecondFactorBegun:
    """Begin to set up an authenticator app; nothing is asked for before it is confirmed."""
    count_sign_in(request)
    web.accounts.check_password(session, body.password.get_secret_value())
    if session.has_second_factor:
        raise Rejected("You have a second factor. Remove it first.")
    secret = web.codes.begin(session.user_id)
    address = address_of(secret, session.username, web.config.node.practice_name)
    picture, side = qr_path(address)
    words = base64.b32encode(secret).decode()
    return SecondFactorBegun(address=address, secret=words, picture=picture, side=side)


@router.post("/second-factor/confirm")
def confirm_second_factor(
    body: Code, request: Request, web: WebDep, session: Owner
) -> RecoveryCodes:
    """Take the app's first code; from now on signing in asks for one."""
    count_sign_in(request)
    return RecoveryCodes(codes=web.codes.confirm(session.user_id, body.code))


@router.post("/second-factor/recovery-codes")
def renew_recovery_codes(
    body: OwnPassword, request: Request, web: WebDep, session: Owner
) -> RecoveryCodes:
    """Make new recovery codes; the old ones count no more."""
    count_sign_in(request)
    web.accounts.check_password(session, body.password.get_secret_value())
    if not session.has_second_factor:
        raise Rejected("You have no second factor.")
    return RecoveryCodes(codes=web.codes.renew(session.user_id))


@router.post("/second-factor/remove", status_code=204)
def remove_second_factor(body: OwnPassword, request: Request, web: WebDep, session: Owner) -> None:
    """Take the second factor away; where the role needs one, a new one is asked for at once."""
    count_sign_in(request)
    web.accounts.check_password(session, body.password.get_secret_value())
    web.codes.remove(session.actor, session.user_id)


def qr_path(text: str) -> tuple[str, int]:
    """Draw a QR code as an SVG path of horizontal strokes, and its side with the quiet zone."""
    code = segno.make(text, error="m", micro=False)
    rows = [bytes(row) for row in code.matrix_iter(border=4)]
    strokes: list[str] = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            length = next((n for n, bit in enumerate(row[x:]) if bit != row[x]), len(row) - x)
            if row[x]:
                strokes.append(f"M{x} {y}.5h{length}")
            x += length
    return "".join(strokes), len(rows)


def sessions_of(web: Web, user_id: str, viewer: Session) -> OpenSessions:
    """Read the open sessions of a person, the last used first."""
    with read(web.db) as conn:
        rows = conn.execute(_open_sessions(web, user_id)).all()
    return OpenSessions(
        sessions=tuple(
            OpenSession(
                id=session_id(row.token_hash),
                is_this=row.token_hash == viewer.token_hash,
                method=row.method,
                address=row.address,
                agent=row.agent,
                created_at=row.created_at,
                last_seen_at=max(row.last_seen_at, row.created_at),
            )
            for row in rows
        )
    )


def _open_sessions(web: Web, user_id: str) -> sa.Select[tuple[object, ...]]:
    return (
        sa.select(web_session)
        .where(
            web_session.c.user_id == user_id,
            web_session.c.location_id == web.location_id,
            web_session.c.ended_at.is_(None),
        )
        .order_by(web_session.c.last_seen_at.desc())
        .limit(100)
    )


def _anew(request: Request, response: Response, web: Web, session: Session, origin: Origin) -> Me:
    """Give this browser a session under a new id."""
    token, opened = web.accounts.open(session.user_id, origin)
    set_cookie(response, request, web, token)
    return me_of(web, opened)
