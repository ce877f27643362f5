"""Signing in at the practice's sign-in service, and who that makes somebody here.

The service's groups say the role at this location, anew with each sign-in. An account is found by
issuer and subject alone, never by a name or an e-mail address, which somebody else could take.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from html import escape
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from node.db.session import Actor, Tx, begin
from node.db.tables import external_login, sign_in_flow, user_account
from node.domain.rights import Open, Role
from node.errors import BitewingError, Forbidden, NotFound, Rejected
from node.web.accounts import end_sessions, insert_user
from node.web.auth import Web, WebDep, count_sign_in, origin_of
from node.web.pages import login_refused
from node.web.sign_in import end_old_session, set_cookie
from node.web.sign_in_service import Identity, SignInRefused

FLOW_COOKIE = "bitewing_sign_in"
_LIFE = timedelta(minutes=10)
_NEXT = re.compile(r"/(?![/\\])[\x21-\x7e]*")
_UNFIT = re.compile(r"[\s:/\\]+")

router = APIRouter(prefix="/oidc", include_in_schema=False)


@router.get("/sign-in", dependencies=[Depends(Open("leads to the sign-in service"))])
def begin_sign_in(request: Request, web: WebDep, next: str = "/") -> Response:
    """Send a person to the sign-in service; the way back is bound to this browser."""
    count_sign_in(request)
    if web.service is None:
        raise NotFound("No sign-in service is configured.")
    state, nonce, browser = (secrets.token_urlsafe(32) for _ in range(3))
    verifier = secrets.token_urlsafe(48)
    try:
        address = web.service.address(state, nonce, verifier)
    except BitewingError as error:
        return login_refused(web, error)
    with begin(web.db, Actor("web", web.location_id), "sign_in.begun") as tx:
        tx.conn.execute(sa.delete(sign_in_flow).where(sign_in_flow.c.created_at < tx.now - _LIFE))
        tx.conn.execute(
            sign_in_flow.insert().values(
                state_digest=_digest(state),
                location_id=tx.location_id,
                browser_digest=_digest(browser),
                nonce=nonce,
                verifier=verifier,
                next_path=next if _NEXT.fullmatch(next) and len(next) < 255 else "/",
                created_at=tx.now,
            )
        )
    answer = RedirectResponse(address, status_code=303)
    # The way back comes from another site: a strict cookie would stay behind.
    answer.set_cookie(
        FLOW_COOKIE,
        browser,
        httponly=True,
        samesite="lax",
        secure=web.config.oidc.public_url.startswith("https://"),
        path="/oidc",
        max_age=int(_LIFE.total_seconds()),
    )
    return answer


@router.get("/callback", dependencies=[Depends(Open("a sign-in that this browser began"))])
def end_sign_in(
    request: Request,
    web: WebDep,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Take a person back from the sign-in service, and open a session of theirs."""
    count_sign_in(request)
    try:
        flow = _take_flow(web, state, request.cookies.get(FLOW_COOKIE, ""))
        if web.service is None or not code or iss not in (None, web.config.oidc.issuer):
            raise SignInRefused("The sign-in service refused.")
        identity = web.service.identify(code, flow.verifier, flow.nonce)
        user_id = person_of(web, identity)
    except BitewingError as error:
        answer = login_refused(web, error)
        answer.delete_cookie(FLOW_COOKIE, path="/oidc")
        return answer
    token, _ = web.accounts.open(user_id, origin_of(request, "oidc"))
    end_old_session(request, web)
    answer = _go_on(flow.next_path)
    set_cookie(answer, request, web, token)
    answer.delete_cookie(FLOW_COOKIE, path="/oidc")
    return answer


def person_of(web: Web, identity: Identity) -> str:
    """Find or make the account of somebody, with the role that their groups mean here.

    Raises Forbidden when no group means a role here or the account is disabled, Rejected when a
    new account's name is taken.
    """
    role = _role_of(web, identity)
    with begin(web.db, Actor("oidc", web.location_id), "user.signed_in_elsewhere") as tx:
        row = tx.conn.execute(
            sa.select(user_account)
            .join(external_login, external_login.c.user_id == user_account.c.id)
            .where(
                external_login.c.location_id == tx.location_id,
                external_login.c.issuer == identity.issuer,
                external_login.c.subject == identity.subject,
            )
            .with_for_update()
        ).first()
        if role is None and row is not None:
            end_sessions(tx, row.id)
        user_id = row.id if row is not None else ""
        if role is not None and row is None:
            user_id = _make(tx, identity, role)
        elif role is not None and row is not None and row.role != role.value:
            tx.conn.execute(
                user_account.update().where(user_account.c.id == row.id).values(role=role.value)
            )
        tx.record(f"user:{user_id}", role=role.value if role else "")
    if role is None:
        raise Forbidden("Your groups give you no role here. Ask an administrator.")
    if row is not None and not row.is_active:
        raise Forbidden("Your account here is disabled. Ask an administrator.")
    return user_id


def _role_of(web: Web, identity: Identity) -> Role | None:
    """Give the role of the first configured group that the person is in and that counts here."""
    for each in web.config.oidc.groups:
        is_here = not each.locations or web.location_id in each.locations
        if is_here and each.group in identity.groups:
            return each.role
    return None


def _make(tx: Tx, identity: Identity, role: Role) -> str:
    name = _UNFIT.sub(".", identity.username.strip().lower())[:64]
    try:
        user_id = insert_user(tx, name, identity.display_name, role, must_change=False)
    except Rejected:
        raise Rejected(
            "There is an account with your name here already. Ask an administrator to link it."
        ) from None
    tx.conn.execute(
        external_login.insert().values(
            location_id=tx.location_id,
            issuer=identity.issuer,
            subject=identity.subject,
            user_id=user_id,
            created_at=tx.now,
        )
    )
    return user_id


def _take_flow(web: Web, state: str, browser: str) -> sa.Row[tuple[object, ...]]:
    """Use up a sign-in that this very browser began. Raises SignInRefused."""
    with begin(web.db, Actor("web", web.location_id), "sign_in.ended") as tx:
        row = tx.conn.execute(
            sign_in_flow.update()
            .where(
                sign_in_flow.c.state_digest == _digest(state),
                sign_in_flow.c.location_id == tx.location_id,
                sign_in_flow.c.browser_digest == _digest(browser),
                sign_in_flow.c.used_at.is_(None),
                sign_in_flow.c.created_at > tx.now - _LIFE,
            )
            .values(used_at=tx.now)
            .returning(sign_in_flow.c.verifier, sign_in_flow.c.nonce, sign_in_flow.c.next_path)
        ).first()
    if row is None:
        raise SignInRefused("This sign-in was not begun here, or took too long. Please try again.")
    return row


def _go_on(path: str) -> HTMLResponse:
    """Lead on from a page of our own: a redirect would still count as the other site's."""
    place = escape(path, quote=True)
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed in</title>'
        f'<meta http-equiv="refresh" content="0;url={place}"></head>'
        f'<body><p><a href="{place}">Go on</a></p></body></html>'
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
