"""Accounts, codes, tokens and emergencies on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from node.db.session import Actor, begin, new_id
from node.db.tables import emergency_access
from node.domain.rights import Right
from node.errors import Conflict, Rejected
from node.web import grants
from node.web.accounts import (
    Accounts,
    CodeMissing,
    Origin,
    Unauthenticated,
    WrongCredentials,
    create_user,
    end_sessions,
)
from node.web.people import change_person, reset_password
from node.web.people_shapes import PersonChange
from node.web.second_factor import STEP_S, Codes, totp
from node.web.tokens import Tokens

PASSWORD = "correct horse battery"
KEY = b"a test's engine key, 32 bytes..!"


class Clock:
    now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_people_on_both_databases(database):
    actor, clock = Actor("test", "main"), Clock()

    def hire(username: str, role: str, password: str = PASSWORD) -> str:
        return create_user(
            database,
            actor,
            username=username,
            display_name=username,
            role=role,
            password=password,
        )

    dentist, robot = hire("osei", "dentist"), hire("robot", "service", "")
    hire("ada", "admin")
    with pytest.raises(Rejected):
        hire("osei", "dentist")

    codes = Codes(database, "main", KEY, clock)
    accounts = Accounts(database, "main", timedelta(minutes=5), timedelta(hours=8), codes)
    secret = codes.begin(dentist)
    step = int(clock.now.timestamp()) // STEP_S
    recovery = codes.confirm(dentist, totp(secret, step))
    with pytest.raises(CodeMissing):
        accounts.sign_in("osei", PASSWORD)
    with pytest.raises(WrongCredentials):
        accounts.sign_in("osei", PASSWORD, totp(secret, step))  # taken by the confirmation
    clock.now += timedelta(seconds=STEP_S)
    _, session = accounts.sign_in("osei", PASSWORD, totp(secret, step + 1), Origin("192.0.2.1"))
    assert session.has_second_factor
    token, _ = accounts.sign_in("osei", PASSWORD, recovery[0])
    assert codes.left(dentist) == 9

    tokens = Tokens(database, "main")
    token_id, word = tokens.issue(actor, robot, "viewer", [Right.IMAGES_SEE], 1)
    assert tokens.session_of(word).rights == {Right.IMAGES_SEE}
    assert tokens.listed()[0].last_used_at is not None
    tokens.revoke(actor, token_id)
    with pytest.raises(Unauthenticated):
        tokens.session_of(word)

    with begin(database, actor, "test.emergency") as tx:
        tx.conn.execute(
            emergency_access.insert().values(
                id=new_id(),
                location_id="main",
                user_id=dentist,
                study_id="a" * 32,
                reason="a test",
                at=tx.now,
                expires_at=tx.now + timedelta(minutes=30),
            )
        )
    assert grants.is_open(database, session, "a" * 32)
    assert not grants.is_open(database, session, "b" * 32)
    assert not grants.is_open(database, session, "", "c" * 32)
    assert grants.waiting(database, "main") == 1

    change_person(database, actor, dentist, PersonChange(role="hygienist"))
    assert Right.FINDINGS_SIGN not in accounts.find(token).rights
    codes.remove(actor, dentist)
    first = reset_password(database, actor, dentist)
    with pytest.raises(Unauthenticated):
        accounts.find(token)
    token, session = accounts.sign_in("osei", first)
    assert (session.owes, session.rights) == ("password", frozenset())
    with begin(database, actor, "test.end") as tx:
        assert end_sessions(tx, dentist) == 1
    ada = accounts.sign_in("ada", PASSWORD)[1].user_id
    with pytest.raises(Conflict):
        change_person(database, actor, ada, PersonChange(is_active=False))
