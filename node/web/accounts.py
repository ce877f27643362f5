"""People who sign in: accounts, passwords, lock-out and server-side sessions."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import user_account, web_session
from node.domain.rights import RIGHTS, Right, Role
from node.errors import BitewingError, InvalidInput, Rejected, Retryable
from node.web.hashing import NOBODY, check_password, fits, hashed
from node.web.pins import check_pin, keep_pin, note_refusal
from node.web.second_factor import CodeMissing, Codes

log = logging.getLogger(__name__)

#: Wrong passwords in a row before an account rests; for how long at first, and at the longest.
#: Each rest is twice the one before, until the right password comes.
MAX_FAILURES = 5
LOCK_OUT = timedelta(minutes=15)
LONGEST_LOCK_OUT = timedelta(hours=4)
#: How long an entered password counts as proof for signing.
PROOF = timedelta(minutes=5)

# SQLAlchemy's Row is generic over its columns, which differ from query to query.
Row = sa.Row

_LOCKED = datetime(1970, 1, 1, tzinfo=UTC)
_TOUCH_EVERY = timedelta(seconds=60)


class Unauthenticated(BitewingError):
    """Nobody is signed in, or the session is over: sign in."""


class Locked(BitewingError):
    """The screen is locked after idle time: give the password again."""


class WrongCredentials(BitewingError):
    """The name and password do not fit, or the account rests after wrong tries."""

    def __init__(self) -> None:
        minutes = int(LOCK_OUT.total_seconds() // 60)
        super().__init__(
            "That name and password do not fit. "
            f"After {MAX_FAILURES} wrong tries an account rests for {minutes} minutes, then longer."
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """From where a session is opened, for its owner to recognise."""

    address: str = ""
    agent: str = ""
    method: str = "password"


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser, or a program with a token.

    `scope` narrows the rights of the role (a token's); `granted` adds to them (an emergency, for
    one request). `owes` says what the person must do first: until then they have no rights.
    """

    token_hash: str
    user_id: str
    username: str
    display_name: str
    role: Role
    location_id: str
    csrf_token: str
    proved_at: datetime
    is_locked: bool
    has_pin: bool = False
    has_password: bool = True
    has_second_factor: bool = False
    owes: Literal["", "password", "second_factor"] = ""
    scope: frozenset[Right] | None = None
    granted: frozenset[Right] = frozenset()

    @property
    def id(self) -> str:
        """An id of this session that can be shown: it opens nothing."""
        return session_id(self.token_hash)

    @property
    def rights(self) -> frozenset[Right]:
        """What this person may do."""
        if self.owes:
            return frozenset()
        own = RIGHTS[self.role] if self.scope is None else RIGHTS[self.role] & self.scope
        return own | self.granted

    @property
    def actor(self) -> Actor:
        """Who writes in this session."""
        return Actor(self.user_id, self.location_id)

    def may(self, right: Right) -> bool:
        """Whether this person has `right`."""
        return right in self.rights

    def is_proved(self, now: datetime) -> bool:
        """Whether the password was entered freshly enough to sign."""
        return now - self.proved_at <= PROOF


def session_id(token_hash: str) -> str:
    """Make the id under which a session is shown."""
    return hashlib.sha256(b"shown" + token_hash.encode()).hexdigest()[:32]


def create_user(
    db: sa.Engine,
    actor: Actor,
    *,
    username: str,
    display_name: str,
    role: str,
    password: str,
    must_change: bool = False,
) -> str:
    """Create an account at the actor's location and return its id.

    A service account has no password; whoever signs in elsewhere (OpenID Connect) has an empty
    one, which opens nothing.

    Raises
    ------
    InvalidInput
        The role is unknown, the password too short or too common, or the name empty.
    Rejected
        The name is taken at this location.
    """
    name = username.strip().lower()
    if not name or len(name) > 64 or not display_name.strip():
        raise InvalidInput("an account needs a name of 1 to 64 characters and a display name")
    known_role = role_named(role)
    if known_role is Role.SERVICE and password:
        raise InvalidInput("a service account has tokens and no password")
    if password:
        check_password(password, name)
    with begin(db, actor, "user.created") as tx:
        return insert_user(
            tx, name, display_name.strip(), known_role, password=password, must_change=must_change
        )


def insert_user(
    tx: Tx, name: str, display_name: str, role: Role, *, password: str = "", must_change: bool
) -> str:
    """Insert an account within the caller's transaction. Raises Rejected for a taken name."""
    user_id = new_id()
    values = {
        "id": user_id,
        "location_id": tx.location_id,
        "username": name,
        "display_name": display_name,
        "role": role.value,
        "password_hash": hashed(password) if password else "",
        "failed_attempts": 0,
        "is_active": True,
        "must_change_password": must_change,
    }
    if not insert_once(tx.conn, user_account, values):
        raise Rejected("that user name is taken")
    tx.record(f"user:{user_id}", role=role.value)
    return user_id


def end_sessions(tx: Tx, user_id: str, except_token_hash: str = "") -> int:
    """End every session of a person, inside the caller's transaction; return how many."""
    ended = tx.conn.execute(
        web_session.update()
        .where(
            web_session.c.user_id == user_id,
            web_session.c.location_id == tx.location_id,
            web_session.c.ended_at.is_(None),
            web_session.c.token_hash != except_token_hash,
        )
        .values(ended_at=tx.now)
    )
    return int(ended.rowcount)


def role_named(role: str) -> Role:
    """Read a role. Raises InvalidInput."""
    try:
        return Role(role)
    except ValueError:
        raise InvalidInput(f"unknown role; one of {', '.join(Role)}") from None


class Accounts:
    """Sign-in, sessions and proofs at one location; safe to call from many threads.

    People of `strict_roles` get no rights before they have a second factor.
    """

    def __init__(
        self,
        db: sa.Engine,
        location_id: str,
        idle: timedelta,
        absolute: timedelta,
        codes: Codes | None = None,
        strict_roles: frozenset[Role] = frozenset(),
    ) -> None:
        self._db = db
        self._location_id = location_id
        self._idle = idle
        self._absolute = absolute
        self._codes = codes
        self._strict_roles = strict_roles
        self._seen: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def sign_in(
        self, username: str, password: str, code: str = "", origin: Origin | None = None
    ) -> tuple[str, Session]:
        """Open a session; return the token for the cookie, and the session.

        Raises WrongCredentials, in about the same time whether the name exists or not;
        CodeMissing when the password is right and a code of the authenticator is asked for.
        """
        who = user_account.c.username == username.strip().lower()
        return self.open(self._check(who, password, code, wants_code=True), origin)

    def switch(
        self,
        session: Session,
        username: str,
        *,
        password: str = "",
        pin: str = "",
        code: str = "",
        origin: Origin | None = None,
    ) -> tuple[str, Session]:
        """Hand a workstation to another person, by PIN or password; the session before ends.

        A PIN counts only where somebody is signed in already: it needs no second factor.

        Raises WrongCredentials, WrongPin or CodeMissing, and the session stays as it was.
        """
        who = user_account.c.username == username.strip().lower()
        if password:
            user_id = self._check(who, password, code, wants_code=True)
        else:
            user_id = self._check_pin(who, pin)
        method = "password" if password else "pin"
        opened = self.open(user_id, replace(origin or Origin(), method=method))
        self.sign_out(session)
        return opened

    def change_pin(self, session: Session, password: str, pin: str) -> None:
        """Give the person a PIN, or take it away when empty.

        Somebody without a password (who signs in elsewhere) must have done so freshly.
        Raises WrongCredentials.
        """
        if session.has_password or not session.is_proved(datetime.now(UTC)):
            self.check_password(session, password)
        keep_pin(self._db, session.actor, pin)

    def check_password(self, session: Session, password: str) -> None:
        """Take the person's password. Raises WrongCredentials."""
        self._check(user_account.c.id == session.user_id, password)

    def _check_pin(self, who: sa.ColumnElement[bool], pin: str) -> str:
        return check_pin(self._db, self._location_id, who, pin)

    def open(self, user_id: str, origin: Origin | None = None) -> tuple[str, Session]:
        """Open a session of somebody who has proved who they are; always under a new token."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        origin = origin or Origin()
        with begin(self._db, Actor(user_id, self._location_id), "session.opened") as tx:
            tx.conn.execute(
                web_session.insert().values(
                    token_hash=_hash(token),
                    location_id=self._location_id,
                    user_id=user_id,
                    csrf_token=secrets.token_urlsafe(32),
                    created_at=now,
                    last_seen_at=now,
                    proved_at=now,
                    method=origin.method,
                    address=origin.address[:64],
                    agent=origin.agent[:128],
                )
            )
            tx.record(f"user:{user_id}", method=origin.method)
        return token, self.find(token)

    def find(self, token: str) -> Session:
        """Return the session of a cookie; it may be locked. Raises Unauthenticated."""
        now = datetime.now(UTC)
        with read(self._db) as conn:
            row = conn.execute(
                sa.select(
                    web_session,
                    user_account.c.username,
                    user_account.c.display_name,
                    user_account.c.role,
                    user_account.c.pin_hash,
                    user_account.c.totp_at,
                    user_account.c.must_change_password,
                    (user_account.c.password_hash != "").label("has_password"),
                )
                .join(user_account, user_account.c.id == web_session.c.user_id)
                .where(
                    web_session.c.token_hash == _hash(token),
                    web_session.c.location_id == self._location_id,
                    web_session.c.ended_at.is_(None),
                    user_account.c.is_active,
                )
            ).first()
        if row is None or now - row.created_at > self._absolute:
            raise Unauthenticated("Please sign in.")
        last_seen = row.last_seen_at
        if last_seen > _LOCKED:
            last_seen = max(last_seen, self._seen.get(row.token_hash, last_seen))
        return Session(
            token_hash=row.token_hash,
            user_id=row.user_id,
            username=row.username,
            display_name=row.display_name,
            role=Role(row.role),
            location_id=row.location_id,
            csrf_token=row.csrf_token,
            proved_at=row.proved_at,
            is_locked=now - last_seen > self._idle,
            has_pin=bool(row.pin_hash),
            has_password=row.has_password,
            has_second_factor=row.totp_at is not None,
            owes=self._owed(row),
        )

    def _owed(self, row: Row) -> Literal["", "password", "second_factor"]:
        if row.must_change_password:
            return "password"
        is_strict = Role(row.role) in self._strict_roles and row.method != "oidc"
        return "second_factor" if is_strict and row.totp_at is None else ""

    def touch(self, session: Session) -> None:
        """Note that the person did something; written down about once a minute."""
        now = datetime.now(UTC)
        with self._guard:
            last = self._seen.get(session.token_hash)
            self._seen[session.token_hash] = now
            if len(self._seen) > 10_000:
                self._seen.pop(next(iter(self._seen)))
        if last is None or now.minute != last.minute or now - last > _TOUCH_EVERY:
            try:
                # a request under way must not open a screen that was locked meanwhile
                is_open = web_session.c.last_seen_at > _LOCKED
                self._update(session, "session.used", is_open, last_seen_at=now)
            except Retryable:  # a busy database must not keep anybody from reading
                log.warning("a session's use could not be written down")

    def lock(self, session: Session) -> None:
        """Lock the screen at once."""
        self._update(session, "session.locked", last_seen_at=_LOCKED)

    def sign_out(self, session: Session) -> None:
        """End the session for good."""
        self._update(session, "session.closed", ended_at=datetime.now(UTC))

    def prove(self, session: Session, password: str = "", *, pin: str = "") -> None:
        """Take the password or the PIN again: unlock, and count as fresh proof.

        Raises WrongCredentials or WrongPin.
        """
        who = user_account.c.id == session.user_id
        if password:
            self._check(who, password)
        else:
            self._check_pin(who, pin)
        now = datetime.now(UTC)
        with self._guard:
            self._seen[session.token_hash] = now
        self._update(session, "session.proved", last_seen_at=now, proved_at=now)

    def _update(
        self,
        session: Session,
        action: str,
        condition: sa.ColumnElement[bool] | None = None,
        **values: datetime,
    ) -> None:
        condition = sa.true() if condition is None else condition
        with begin(self._db, session.actor, action) as tx:
            tx.conn.execute(
                web_session.update()
                .where(web_session.c.token_hash == session.token_hash, condition)
                .values(**values)
            )
            tx.record(f"user:{session.user_id}")

    def _check(
        self, who: sa.ColumnElement[bool], password: str, code: str = "", wants_code: bool = False
    ) -> str:
        """Return the user's id when the password fits and the account does not rest.

        With `wants_code`, whoever has a second factor gives its code too; a wrong one counts as a
        wrong password.
        """
        with read(self._db) as conn:
            row = conn.execute(
                sa.select(user_account).where(
                    user_account.c.location_id == self._location_id,
                    who,
                    user_account.c.is_active,
                )
            ).first()
        is_right = fits(row.password_hash if row else NOBODY, password)
        if row is None:
            note_refusal(self._db, self._location_id, "unknown")
            raise WrongCredentials
        now = datetime.now(UTC)
        if row.locked_until is not None and row.locked_until > now:
            note_refusal(self._db, self._location_id, row.id)
            raise WrongCredentials
        if not is_right:
            self._count_failure(row.id)
            raise WrongCredentials
        if wants_code and row.totp_at is not None:
            self._check_code(row, code)
        if row.failed_attempts or row.pin_failures or row.locked_until is not None:
            with begin(self._db, Actor(row.id, self._location_id), "user.tries_cleared") as tx:
                tx.conn.execute(
                    user_account.update()
                    .where(user_account.c.id == row.id)
                    .values(failed_attempts=0, locked_until=None, pin_failures=0, lockouts=0)
                )
                tx.record(f"user:{row.id}")
        return str(row.id)

    def _check_code(self, row: Row, code: str) -> None:
        if not code.strip():
            raise CodeMissing
        if self._codes is None or not self._codes.take(row.id, code):
            self._count_failure(row.id)
            raise WrongCredentials

    def _count_failure(self, user_id: str) -> None:
        with begin(self._db, Actor("web", self._location_id), "user.wrong_password") as tx:
            counted = tx.conn.execute(
                user_account.update()
                .where(user_account.c.id == user_id)
                .values(failed_attempts=user_account.c.failed_attempts + 1)
                .returning(user_account.c.failed_attempts, user_account.c.lockouts)
            ).one()
            tries, rests = counted
            if tries >= MAX_FAILURES:
                tx.conn.execute(
                    user_account.update()
                    .where(user_account.c.id == user_id)
                    .values(
                        failed_attempts=0,
                        locked_until=tx.now + lock_out_after(rests),
                        lockouts=rests + 1,
                    )
                )
            tx.record(f"user:{user_id}", tries=tries)


def lock_out_after(rests: int) -> timedelta:
    """Say how long an account rests that has rested `rests` times since the right password."""
    return min(LOCK_OUT * (1 << min(rests, 8)), LONGEST_LOCK_OUT)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
