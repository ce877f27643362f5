"""Who is asking, and whether they may: one dependency for every route; signing in and out."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from node import __version__
from node.config import Config
from node.db.session import begin
from node.dicom.instances import InstanceStore
from node.domain import cdt
from node.domain.cdt import CodeTable
from node.domain.rights import WORDS, Right
from node.engine import DurableEngine
from node.errors import Forbidden, NotFound
from node.web.accounts import PROOF, Accounts, Locked, Session, Unauthenticated
from node.web.preferences import keep_preferences, preferences_of
from node.web.shapes import (
    LoginRequest,
    Me,
    PinRequest,
    Preferences,
    ProveRequest,
    Settings,
    SwitchRequest,
)

COOKIE = "bitewing_session"
#: The page locks itself exactly; the server is the backstop and waits a little longer.
_IDLE_GRACE = timedelta(minutes=1)
_ID = re.compile(r"[0-9a-f]{32}")


class BadToken(Forbidden):
    """A change came without the page's token: perhaps another site sent it."""


class Opened:
    """What was opened in which session, as far as this process remembers; forgets the oldest."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._guard = threading.Lock()

    def is_new(self, key: tuple[str, str, str]) -> bool:
        """Whether this is the first time; from now on it is not."""
        with self._guard:
            if key in self._known:
                return False
            self._known[key] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)
            return True


@dataclass(frozen=True, slots=True)
class Web:
    """What every route needs."""

    config: Config
    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    accounts: Accounts
    opened: Opened
    code_table: CodeTable

    @property
    def location_id(self) -> str:
        """The one location this node serves."""
        return self.config.node.location_id

    @property
    def settings(self) -> Settings:
        """What the page must know about the practice."""
        return Settings(
            practice_name=self.config.node.practice_name,
            mode=self.config.node.mode.value,
            time_zone=self.config.node.time_zone,
            idle_lock_s=self.config.web.idle_lock_min * 60,
            proof_s=int(PROOF.total_seconds()),
            software_version=__version__,
        )


def open_web(config: Config, db: sa.Engine, store: InstanceStore, engine: DurableEngine) -> Web:
    """Gather what the routes need. Raises ConfigError when the code table is wrong."""
    idle = timedelta(minutes=config.web.idle_lock_min) + _IDLE_GRACE
    absolute = timedelta(hours=config.web.session_hours)
    accounts = Accounts(db, config.node.location_id, idle, absolute)
    table = config.analysis.cdt_table
    codes = cdt.load(Path(table) if table else None)
    return Web(config, db, store, engine, accounts, Opened(), codes)


def web_of(request: Request) -> Web:
    """Give a route what it needs."""
    web = request.app.state.web
    assert isinstance(web, Web)
    return web


def session_of(request: Request) -> Session:
    """Return the session, locked or not; for any change the page's token must come with it.

    Raises Unauthenticated without a session, BadToken for a forged change.
    """
    session = web_of(request).accounts.find(request.cookies.get(COOKIE, ""))
    if request.method not in ("GET", "HEAD"):
        _refuse_other_sites(request)
        sent = request.headers.get("x-csrf-token", "")
        if not secrets.compare_digest(sent.encode(), session.csrf_token.encode()):
            raise BadToken("This request did not come from the page. Reload and try again.")
    return session


def unlocked(request: Request) -> Session:
    """Return a session whose screen is not locked, and note that it is in use."""
    session = session_of(request)
    if session.is_locked:
        raise Locked("The screen is locked. Please give your password.")
    if "x-background" not in request.headers and not request.url.path.endswith("/events"):
        web_of(request).accounts.touch(session)
    return session


def require(right: Right) -> Callable[[Request], Session]:
    """Make the dependency that lets only people with `right` pass."""

    def check(request: Request) -> Session:
        session = unlocked(request)
        demand(session, right)
        return session

    return check


def demand(session: Session, right: Right) -> None:
    """Raise Forbidden unless the person has `right`."""
    if not session.may(right):
        raise Forbidden(f"You need the right: {WORDS[right]}. Ask an administrator.")


def opaque_id(value: str) -> str:
    """Accept one of our ids; anything else is simply not there."""
    if not _ID.fullmatch(value):
        raise NotFound("There is no such object.")
    return value


def audit_read(web: Web, session: Session, action: str, subject: str) -> None:
    """Write down that a person opened a study or an image."""
    with begin(web.db, session.actor, action) as tx:
        tx.record(subject, role=session.role.value)


def audit_first_read(web: Web, session: Session, action: str, subject: str) -> None:
    """Write down that a person opened this, once in a session."""
    if web.opened.is_new((session.token_hash, action, subject)):
        audit_read(web, session, action, subject)


def me_of(web: Web, session: Session) -> Me:
    """Describe the signed-in person to the page."""
    return Me(
        user_id=session.user_id,
        username=session.username,
        display_name=session.display_name,
        role=session.role.value,
        rights=tuple(sorted(right.value for right in session.rights)),
        csrf_token=session.csrf_token,
        is_locked=session.is_locked,
        proved_until=session.proved_at + PROOF,
        has_pin=session.has_pin,
        preferences=preferences_of(web.db, session.user_id),
        settings=web.settings,
    )


WebDep = Annotated[Web, Depends(web_of)]
router = APIRouter(prefix="/api")


@router.post("/login")
def login(body: LoginRequest, request: Request, response: Response, web: WebDep) -> Me:
    """Sign in; a session of this browser that is still open ends."""
    _refuse_other_sites(request)
    token, session = web.accounts.sign_in(body.username, body.password.get_secret_value())
    _end_old_session(request, web)
    _set_cookie(response, web, token)
    return me_of(web, session)


@router.post("/switch")
def switch(
    body: SwitchRequest,
    response: Response,
    web: WebDep,
    session: Annotated[Session, Depends(session_of)],
) -> Me:
    """Let another person take over this workstation as themselves; the session before ends."""
    token, opened = web.accounts.switch(session, body.username, **_proof(body))
    _set_cookie(response, web, token)
    return me_of(web, opened)


@router.post("/logout", status_code=204)
def logout(
    response: Response, web: WebDep, session: Annotated[Session, Depends(session_of)]
) -> None:
    """End the session."""
    web.accounts.sign_out(session)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.post("/lock", status_code=204)
def lock(web: WebDep, session: Annotated[Session, Depends(session_of)]) -> None:
    """Lock the screen now."""
    web.accounts.lock(session)


@router.post("/prove")
def prove(
    body: ProveRequest,
    request: Request,
    web: WebDep,
    session: Annotated[Session, Depends(session_of)],
) -> Me:
    """Take the password or PIN again: unlocks, and is fresh proof for signing."""
    web.accounts.prove(session, **_proof(body))
    return me_of(web, session_of(request))


@router.post("/pin")
def change_pin(
    body: PinRequest,
    request: Request,
    web: WebDep,
    session: Annotated[Session, Depends(unlocked)],
) -> Me:
    """Choose a PIN, or none."""
    web.accounts.change_pin(session, body.password.get_secret_value(), body.pin.get_secret_value())
    return me_of(web, session_of(request))


@router.post("/preferences")
def change_preferences(
    body: Preferences, web: WebDep, session: Annotated[Session, Depends(unlocked)]
) -> Me:
    """Keep what the person chose for their screen."""
    keep_preferences(web.db, session, body)
    return me_of(web, session)


@router.get("/me")
def me(request: Request, web: WebDep) -> Me:
    """Say who is signed in, locked or not."""
    session = session_of(request)
    if not session.is_locked and "x-background" not in request.headers:
        web.accounts.touch(session)
    return me_of(web, session)


def _proof(body: ProveRequest) -> dict[str, str]:
    return {
        "password": body.password.get_secret_value() if body.password else "",
        "pin": body.pin.get_secret_value() if body.pin else "",
    }


def _set_cookie(response: Response, web: Web, token: str) -> None:
    response.set_cookie(
        COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=web.config.web.secure_cookies,
        max_age=web.config.web.session_hours * 3600,
    )


def _refuse_other_sites(request: Request) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise BadToken("This request came from another site.")


def _end_old_session(request: Request, web: Web) -> None:
    try:
        web.accounts.sign_out(web.accounts.find(request.cookies.get(COOKIE, "")))
    except Unauthenticated:
        return
