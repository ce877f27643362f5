"""Signed links: good for one thing, once, until their end."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from node.db.session import Actor, begin, read
from node.errors import Conflict, Forbidden, InvalidInput
from orchestration.messengers.links import Link, LinkKey, Purpose, was_used

KEY = LinkKey(b"k" * 32, "main")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINK = Link(Purpose.APPROVE, "a" * 32, "b" * 32, datetime.now(UTC) + timedelta(hours=2))


def test_a_link_is_used_once_and_looking_uses_nothing_up(database: sa.Engine, actor: Actor) -> None:
    token = KEY.make(LINK)
    assert KEY.look(token, Purpose.APPROVE, NOW) == KEY.look(token, Purpose.APPROVE, NOW)
    with begin(database, actor, "test") as tx:
        assert KEY.redeem(tx, token, Purpose.APPROVE).subject == LINK.subject
    with pytest.raises(Conflict), begin(database, actor, "test") as tx:
        KEY.redeem(tx, token, Purpose.APPROVE)
    with read(database) as conn:
        assert was_used(conn, token)
        assert not was_used(conn, KEY.make(Link(Purpose.APPROVE, "c" * 32, "", LINK.expires_at)))


def test_a_use_that_was_not_committed_did_not_happen(database: sa.Engine, actor: Actor) -> None:
    token = KEY.make(LINK)
    with suppress(RuntimeError), begin(database, actor, "test") as tx:
        KEY.redeem(tx, token, Purpose.APPROVE)
        raise RuntimeError
    with begin(database, actor, "test") as tx:
        KEY.redeem(tx, token, Purpose.APPROVE)


def test_a_link_ends_is_for_one_thing_and_for_one_location() -> None:
    token = KEY.make(LINK)
    KEY.look(token, Purpose.APPROVE, LINK.expires_at - timedelta(seconds=2))
    for key, purpose, at in (
        (KEY, Purpose.APPROVE, LINK.expires_at),
        (KEY, Purpose.STOP, NOW),
        (LinkKey(b"k" * 32, "other"), Purpose.APPROVE, NOW),
        (LinkKey(b"j" * 32, "main"), Purpose.APPROVE, NOW),
    ):
        with pytest.raises(Forbidden):
            key.look(token, purpose, at)


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_no_changed_token_is_good(place: int, char: str) -> None:
    token = KEY.make(LINK)
    place %= len(token)
    changed = token[:place] + char + token[place + 1 :]
    if changed != token:
        with pytest.raises(Forbidden):
            KEY.look(changed, Purpose.APPROVE, NOW)


def test_the_token_of_an_approval_says_nothing_but_opaque_ids() -> None:
    with pytest.raises(InvalidInput):
        Link(Purpose.APPROVE, "patient Doe", "", NOW)
