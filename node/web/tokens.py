"""Tokens of programs: ``Authorization: Bearer bwt_…``, some rights of an account, until a day.

Only the SHA-256 of a token is kept: it has 256 random bits, so a slow hash would add nothing. What
a token may do is what both it and its account's role allow at the moment it is used.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id, read
from node.db.tables import api_token, user_account
from node.domain.rights import RIGHTS, Right, Role
from node.errors import InvalidInput, NotFound, Retryable
from node.web.accounts import Session, Unauthenticated

PREFIX = "bwt_"
MOST_DAYS = 366
_NOTE_EVERY = timedelta(minutes=10)
#: What a program never gets: these need a person at a screen.
PERSONAL = frozenset(
    {Right.FINDINGS_SIGN, Right.FINDINGS_DECIDE, Right.FINDINGS_RETRACT, Right.USERS_CHANGE}
    | {Right.LAB_CASES_PRESCRIBE, Right.PREAUTHS_APPROVE, Right.MESSAGES_APPROVE}
    | {Right.RECALLS_ADJUST, Right.GLASS_BREAK}
)


class Tokens:
    """The tokens of one location; safe to call from many threads."""

    def __init__(self, db: sa.Engine, location_id: str) -> None:
        self._db = db
        self._location_id = location_id
        self._noted: dict[str, datetime] = {}
        self._guard = threading.Lock()

    def issue(
        self, actor: Actor, user_id: str, name: str, rights: Sequence[Right], days: int
    ) -> tuple[str, str]:
        """Make a token of an account; return its id and the token, which is shown only now.

        Raises NotFound without such an account here, InvalidInput for rights that the account
        does not have or a program may not have.
        """
        if not 1 <= days <= MOST_DAYS:
            raise InvalidInput(f"A token lasts from 1 to {MOST_DAYS} days.")
        if not name.strip() or not rights:
            raise InvalidInput("A token has a name and at least one right.")
        token, token_id = PREFIX + secrets.token_urlsafe(32), new_id()
        with begin(self._db, actor, "token.issued") as tx:
            role = tx.conn.execute(
                sa.select(user_account.c.role).where(
                    user_account.c.id == user_id,
                    user_account.c.location_id == self._location_id,
                    user_account.c.is_active,
                )
            ).scalar()
            if role is None:
                raise NotFound("There is no such account.")
            wrong = sorted(set(rights) - (RIGHTS[Role(role)] - PERSONAL))
            if wrong:
                raise InvalidInput(f"This account's tokens cannot have: {', '.join(wrong)}.")
            tx.conn.execute(
                api_token.insert().values(
                    id=token_id,
                    location_id=self._location_id,
                    user_id=user_id,
                    name=name.strip()[:64],
                    digest=_digest(token),
                    rights=sorted({right.value for right in rights}),
                    created_by=actor.name,
                    created_at=tx.now,
                    expires_at=tx.now + timedelta(days=days),
                )
            )
            tx.record(f"token:{token_id}", user=user_id, rights=sorted(rights), days=days)
        return token_id, token

    def revoke(self, actor: Actor, token_id: str) -> None:
        """End a token at once. Raises NotFound."""
        with begin(self._db, actor, "token.revoked") as tx:
            done = tx.conn.execute(
                api_token.update()
                .where(
                    api_token.c.id == token_id,
                    api_token.c.location_id == self._location_id,
                    api_token.c.revoked_at.is_(None),
                )
                .values(revoked_at=tx.now)
            )
            if done.rowcount != 1:
                raise NotFound("There is no such token.")
            tx.record(f"token:{token_id}")

    def listed(self) -> Sequence[sa.Row[tuple[object, ...]]]:
        """Read every token with the name of its account, the latest first; no secret is kept."""
        with read(self._db) as conn:
            return conn.execute(
                sa.select(api_token, user_account.c.username, user_account.c.role)
                .join(user_account, user_account.c.id == api_token.c.user_id)
                .where(api_token.c.location_id == self._location_id)
                .order_by(api_token.c.created_at.desc())
            ).all()

    def session_of(self, token: str) -> Session:
        """Return what a token opens now. Raises Unauthenticated."""
        now = datetime.now(UTC)
        with read(self._db) as conn:
            row = conn.execute(
                sa.select(
                    api_token,
                    user_account.c.username,
                    user_account.c.display_name,
                    user_account.c.role,
                )
                .join(user_account, user_account.c.id == api_token.c.user_id)
                .where(
                    api_token.c.digest == _digest(token),
                    api_token.c.location_id == self._location_id,
                    api_token.c.revoked_at.is_(None),
                    api_token.c.expires_at > now,
                    user_account.c.is_active,
                )
            ).first()
        if row is None:
            raise Unauthenticated("This token is unknown, revoked or expired.")
        self._note(row.id, row.user_id, now)
        return Session(
            token_hash=f"token:{row.id}",
            user_id=row.user_id,
            username=row.username,
            display_name=row.display_name,
            role=Role(row.role),
            location_id=self._location_id,
            csrf_token="",
            proved_at=datetime(1970, 1, 1, tzinfo=UTC),
            is_locked=False,
            has_password=False,
            scope=frozenset(Right(name) for name in row.rights) - PERSONAL,
        )

    def _note(self, token_id: str, user_id: str, now: datetime) -> None:
        """Write down now and then that a token is in use; a busy database keeps nobody waiting."""
        with self._guard:
            last = self._noted.get(token_id)
            if last is not None and now - last < _NOTE_EVERY:
                return
            self._noted[token_id] = now
        try:
            with begin(self._db, Actor(user_id, self._location_id), "token.used") as tx:
                tx.conn.execute(
                    api_token.update().where(api_token.c.id == token_id).values(last_used_at=now)
                )
                tx.record(f"token:{token_id}")
        except Retryable:
            return


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
