"""Signing in and out, handing over, locking and unlocking; every sign-in makes a new session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from node.domain.rights import Open
from node.web.accounts import Session, Unauthenticated
from node.web.auth import (
    COOKIE,
    Web,
    WebDep,
    any_session,
    count_sign_in,
    me_of,
    origin_of,
    refuse_other_sites,
    session_of,
    signed_in,
)
from node.web.preferences import keep_preferences
from node.web.shapes import (
    LoginRequest,
    Me,
    PinRequest,
    Preferences,
    ProveRequest,
    SwitchRequest,
)

AnySession = Annotated[Session, Depends(any_session)]
SignedIn = Annotated[Session, Depends(signed_in)]

router = APIRouter(prefix="/api")


@router.post("/login", dependencies=[Depends(Open("a name and a password"))])
def login(body: LoginRequest, request: Request, response: Response, web: WebDep) -> Me:
    """Sign in; a session of this browser that is still open ends."""
    refuse_other_sites(request)
    count_sign_in(request)
    token, session = web.accounts.sign_in(
        body.username, body.password.get_secret_value(), body.code, origin_of(request)
    )
    end_old_session(request, web)
    set_cookie(response, request, web, token)
    return me_of(web, session)


@router.post("/switch")
def switch(
    body: SwitchRequest, request: Request, response: Response, web: WebDep, session: AnySession
) -> Me:
    """Let another person take over this workstation as themselves; the session before ends."""
    count_sign_in(request)
    token, opened = web.accounts.switch(
        session, body.username, **_proof(body), code=body.code, origin=origin_of(request)
    )
    set_cookie(response, request, web, token)
    return me_of(web, opened)


@router.post("/logout", status_code=204)
def logout(response: Response, web: WebDep, session: AnySession) -> None:
    """End the session."""
    web.accounts.sign_out(session)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.post("/lock", status_code=204)
def lock(web: WebDep, session: AnySession) -> None:
    """Lock the screen now."""
    web.accounts.lock(session)


@router.post("/prove")
def prove(body: ProveRequest, request: Request, web: WebDep, session: AnySession) -> Me:
    """Take the password or PIN again: unlocks, and is fresh proof for signing."""
    count_sign_in(request)
    web.accounts.prove(session, **_proof(body))
    return me_of(web, session_of(request))


@router.post("/pin")
def change_pin(body: PinRequest, request: Request, web: WebDep, session: SignedIn) -> Me:
    """Choose a PIN, or none."""
    web.accounts.change_pin(session, body.password.get_secret_value(), body.pin.get_secret_value())
    return me_of(web, session_of(request))


@router.post("/preferences")
def change_preferences(body: Preferences, web: WebDep, session: SignedIn) -> Me:
    """Keep what the person chose for their screen."""
    keep_preferences(web.db, session, body)
    return me_of(web, session)


@router.get("/me")
def me(request: Request, web: WebDep, session: AnySession) -> Me:
    """Say who is signed in, locked or not."""
    if not session.is_locked and "x-background" not in request.headers:
        web.accounts.touch(session)
    return me_of(web, session)


def _proof(body: ProveRequest) -> dict[str, str]:
    return {
        "password": body.password.get_secret_value() if body.password else "",
        "pin": body.pin.get_secret_value() if body.pin else "",
    }


def set_cookie(response: Response, request: Request, web: Web, token: str) -> None:
    """Give the browser its session: out of reach of scripts and of other sites."""
    response.set_cookie(
        COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=web.config.web.cookies_are_secure or request.url.scheme == "https",
        max_age=web.config.web.session_hours * 3600,
    )


def end_old_session(request: Request, web: Web) -> None:
    """End the session that this browser had before, so that nobody's outlives a sign-in."""
    try:
        web.accounts.sign_out(web.accounts.find(request.cookies.get(COOKIE, "")))
    except Unauthenticated:
        return
