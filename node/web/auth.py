"""Who is asking, and whether they may: one gate for every route, of pages, API and workflows."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import fastapi.routing
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant

from node import __version__
from node.config import Config
from node.db.session import read
from node.dicom.instances import InstanceStore
from node.domain import cdt
from node.domain.cdt import CodeTable
from node.domain.rights import EMERGENCY, WORDS, Open, Right
from node.engine import DurableEngine
from node.engine_key import engine_key_of
from node.errors import BitewingError, Forbidden, NotFound
from node.rollout.showing import read_showing
from node.web import grants
from node.web.accounts import PROOF, Accounts, Locked, Origin, Session, Unauthenticated
from node.web.callers import Callers
from node.web.limits import Pace, sender_of
from node.web.preferences import preferences_of
from node.web.read_log import ReadLog
from node.web.second_factor import Codes
from node.web.shapes import Me, Settings
from node.web.sign_in_service import SignInService
from node.web.tokens import Tokens

COOKIE = "bitewing_session"
#: Set on requests of a viewer whose origin is configured (node.web.cross_origin).
FROM_KNOWN_ORIGIN = "is_from_known_origin"
#: The page locks itself exactly; the server is the backstop and waits a little longer.
_IDLE_GRACE = timedelta(minutes=1)
_ID = re.compile(r"[0-9a-f]{32}")


class BadToken(Forbidden):
    """A change came without the page's token: perhaps another site sent it."""


class Owing(Forbidden):
    """The person must do something first: choose a password, set up a second factor."""


class GoTo(BitewingError):
    """The answer is another page."""

    def __init__(self, path: str) -> None:
        super().__init__("Go to another page.")
        self.path = path


class Opened:
    """What was opened in which session, as far as this process remembers; forgets the oldest."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._guard = threading.Lock()

    def is_new(self, key: tuple[str, str, str]) -> bool:
        """Whether this is the first time, as far as was noted."""
        with self._guard:
            return key not in self._known

    def note(self, key: tuple[str, str, str]) -> None:
        """Note that it was opened and written down."""
        with self._guard:
            self._known[key] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Web:
    """What every route needs."""

    config: Config
    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    accounts: Accounts
    opened: Opened
    reads: ReadLog
    code_table: CodeTable
    codes: Codes
    tokens: Tokens
    callers: Callers
    sign_ins: Pace  # by address
    requests: Pace  # by account
    service: SignInService | None

    @property
    def location_id(self) -> str:
        """The one location this node serves."""
        return self.config.node.location_id

    @property
    def shows_suggestions(self) -> bool:
        """Whether the roll-out shows anything of the models to anybody here."""
        with read(self.db) as conn:
            return read_showing(conn, self.config).is_anywhere

    @property
    def settings(self) -> Settings:
        """What the page must know about the practice."""
        return Settings(
            practice_name=self.config.node.practice_name,
            mode="assist" if self.shows_suggestions else "silent",
            time_zone=self.config.node.time_zone,
            idle_lock_s=self.config.web.idle_lock_min * 60,
            proof_s=int(PROOF.total_seconds()),
            software_version=__version__,
        )


def open_web(config: Config, db: sa.Engine, store: InstanceStore, engine: DurableEngine) -> Web:
    """Gather what the routes need. Raises ConfigError when the code table is wrong."""
    section, location_id = config.web, config.node.location_id
    oidc, reach = config.oidc, config.outgoing.reach("oidc", takes_near=True)
    config.node.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    codes = Codes(db, location_id, engine_key_of(config))
    accounts = Accounts(
        db,
        location_id,
        timedelta(minutes=section.idle_lock_min) + _IDLE_GRACE,
        timedelta(hours=section.session_hours),
        codes,
        frozenset(section.second_factor_roles),
    )
    table = config.analysis.cdt_table
    return Web(
        config,
        db,
        store,
        engine,
        accounts,
        Opened(),
        ReadLog(db),
        cdt.load(Path(table) if table else None),
        codes,
        Tokens(db, location_id),
        Callers(accounts),
        Pace(section.sign_ins_per_min, "Too many tries to sign in from here. Wait a little."),
        Pace(section.requests_per_min, "Too many requests in a short time. Wait a little."),
        SignInService(oidc, reach) if oidc.issuer else None,
    )


def web_of(request: Request) -> Web:
    """Give a route what it needs."""
    web = request.app.state.web
    assert isinstance(web, Web)
    return web


def session_of(request: Request) -> Session:
    """Return the session, locked or not; for any change the page's token must come with it.

    Raises Unauthenticated without a session, BadToken for a forged change.
    """
    web = web_of(request)
    session = web.accounts.find(request.cookies.get(COOKIE, ""))
    if request.method not in ("GET", "HEAD"):
        refuse_other_sites(request)
        sent = request.headers.get("x-csrf-token", "")
        if not secrets.compare_digest(sent.encode(), session.csrf_token.encode()):
            raise BadToken("This request did not come from the page. Reload and try again.")
    web.requests.take(session.user_id)
    return session


def unlocked(request: Request) -> Session:
    """Return a session whose screen is not locked, and note that it is in use."""
    session = session_of(request)
    if session.is_locked:
        raise Locked("The screen is locked. Please give your password.")
    if "x-background" not in request.headers and not request.url.path.endswith("/events"):
        web_of(request).accounts.touch(session)
    return session


@dataclass(frozen=True, slots=True)
class Gate:
    """The one place where a route's rights are asked for: whoever lacks one of them is refused.

    A signed-in page and a program with a token pass alike; with `takes_passwords` also a viewer
    that sends a name and password with each request. Without `rights` anybody signed in passes.
    """

    rights: tuple[Right, ...] = ()
    takes_passwords: bool = False
    may_be_locked: bool = False  # signing out, unlocking: the page's own session, no program

    def __call__(self, request: Request) -> Session:
        """Let the session pass."""
        session = self._session(request)
        if self.rights:
            session = _with_emergency(request, session, self.rights)
            for right in self.rights:
                demand(session, right)
        return session

    def _session(self, request: Request) -> Session:
        if self.may_be_locked:
            return session_of(request)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        is_program = scheme == "Bearer" or (scheme == "Basic" and self.takes_passwords)
        if not is_program or not self.rights:
            return unlocked(request)
        if not getattr(request.state, FROM_KNOWN_ORIGIN, False):
            refuse_other_sites(request)
        web = web_of(request)
        if scheme == "Bearer":
            session = web.tokens.session_of(secret)
        else:
            session = web.callers.session_of(secret, lambda: count_sign_in(request))
        web.requests.take(session.user_id)
        return session


@dataclass(frozen=True, slots=True)
class PageGate(Gate):
    """The gate of a page: who is not signed in goes to sign in and comes back.

    A locked screen gets the page without anything in it; who owes something goes to the account.
    """

    def __call__(self, request: Request) -> Session:
        """Let the session pass."""
        try:
            session = session_of(request)
        except Unauthenticated:
            raise GoTo(f"/login?next={quote(request.url.path, safe='/')}") from None
        if session.is_locked:
            return session
        if session.owes and request.url.path != "/account":
            raise GoTo("/account")
        session = _with_emergency(request, session, self.rights)
        study_id = request.path_params.get("study_id", "")
        if session.may(Right.GLASS_BREAK) and set(self.rights) - session.rights & EMERGENCY:
            raise GoTo(f"/emergency/{opaque_id(study_id)}")
        for right in self.rights:
            demand(session, right)
        return session


def page(*rights: Right) -> PageGate:
    """Make the dependency of a page that lets only people with all `rights` pass."""
    return PageGate(rights)


def require(*rights: Right) -> Gate:
    """Make the dependency that lets only people and programs with all `rights` pass."""
    return Gate(rights)


def allow(*rights: Right) -> Gate:
    """Make the same for routes that viewers ask with a name and password (RFC 7617)."""
    return Gate(rights, takes_passwords=True)


#: Anybody signed in whose screen is not locked, for what is their own.
signed_in = Gate()
#: The page's session, locked or not.
any_session = Gate(may_be_locked=True)


def demand(session: Session, right: Right) -> None:
    """Raise Forbidden unless the person has `right`."""
    if session.owes == "password":
        raise Owing("Choose a password of your own first, under Account.")
    if session.owes == "second_factor":
        raise Owing("Your role needs an authenticator app. Set it up first, under Account.")
    if not session.may(right):
        raise Forbidden(f"You need the right: {WORDS[right]}. Ask an administrator.")


def _with_emergency(request: Request, session: Session, rights: tuple[Right, ...]) -> Session:
    """Add what an emergency has opened: this one study, seen and not changed."""
    if session.owes or not set(rights) - session.rights <= EMERGENCY:
        return session
    if session.rights.issuperset(rights) or not session.may(Right.GLASS_BREAK):
        return session
    place = request.path_params
    is_open = grants.is_open(
        web_of(request).db, session, place.get("study_id", ""), place.get("image_id", "")
    )
    return replace(session, granted=EMERGENCY) if is_open else session


def declarations(app: FastAPI) -> Iterator[tuple[str, str, Gate | Open | None]]:
    """Give (method, path, what it asks for) of every route; None when it does not say."""
    contexts = getattr(fastapi.routing, "iter_route_contexts", iter)  # older ones have them flat
    for route in contexts(app.routes):
        found = _declared(getattr(route, "dependant", None))
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, getattr(route, "path", ""), found


def demand_declarations(app: FastAPI) -> None:
    """Refuse to serve a route that says nothing of who may use it.

    Raises TypeError: a bug of whoever wrote the route.
    """
    open_to_all = [f"{way} {path}" for way, path, said in declarations(app) if said is None]
    if open_to_all:
        raise TypeError(f"no right and no reason is declared for {', '.join(open_to_all)}")


def _declared(dependant: Dependant | None) -> Gate | Open | None:
    if dependant is None:
        return None
    found = [each.call for each in dependant.dependencies]
    gates = [call for call in found if isinstance(call, Gate)]
    if gates:
        rights = tuple(dict.fromkeys(right for gate in gates for right in gate.rights))
        return replace(gates[0], rights=rights)
    opened = [call for call in found if isinstance(call, Open)]
    return opened[0] if opened else None


def opaque_id(value: str) -> str:
    """Accept one of our ids; anything else is simply not there."""
    if not _ID.fullmatch(value):
        raise NotFound("There is no such object.")
    return value


def audit_read(web: Web, session: Session, action: str, subject: str, **detail: object) -> None:
    """Write down that a person opened a study or an image; done before it is shown."""
    if session.granted:
        detail["emergency"] = True
    web.reads.note(session.actor, action, subject, role=session.role.value, **detail)


def audit_first_read(web: Web, session: Session, action: str, subject: str) -> None:
    """Write down that a person looks at this, once in a session: for what a page asks again."""
    key = (session.token_hash, action, subject)
    if web.opened.is_new(key):
        audit_read(web, session, action, subject)
        web.opened.note(key)


def audit_look(request: Request, web: Web, session: Session, action: str, subject: str) -> None:
    """Write down a look; one that an open page repeats by itself counts once in a session."""
    note = audit_first_read if "x-background" in request.headers else audit_read
    note(web, session, action, subject)


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
        has_password=session.has_password,
        has_second_factor=session.has_second_factor,
        owes=session.owes,
        emergencies=(
            grants.waiting(web.db, web.location_id) if session.may(Right.GLASS_REVIEW) else 0
        ),
        preferences=preferences_of(web.db, session.user_id),
        settings=web.settings,
    )


def origin_of(request: Request, method: str = "password") -> Origin:
    """Describe where a session is opened from."""
    return Origin(_address(request), request.headers.get("user-agent", ""), method)


def count_sign_in(request: Request) -> None:
    """Count a try to sign in against its sender. Raises TooMany."""
    web_of(request).sign_ins.take(sender_of(_address(request)))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def refuse_other_sites(request: Request) -> None:
    """Refuse what another site made the browser send. Raises BadToken."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise BadToken("This request came from another site.")


WebDep = Annotated[Web, Depends(web_of)]
