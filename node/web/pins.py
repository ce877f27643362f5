"""A PIN beside the password: short, for a browser at which somebody is signed in already.

A PIN unlocks, signs and switches to another person at the same workstation; it never opens a
session at a new one. After :data:`MAX_TRIES` wrong tries it rests until its owner gives the
password.
"""

from __future__ import annotations

import re

import sqlalchemy as sa

from node.db.session import Actor, begin, look, note_reads, read
from node.db.tables import user_account
from node.errors import BitewingError, InvalidInput
from node.web.hashing import fits, hashed

#: Wrong PINs in a row before only the password helps.
MAX_TRIES = 5
_PIN = re.compile(r"[0-9]{6,12}")


class WrongPin(BitewingError):
    """The PIN does not fit, or rests after wrong tries: the password helps."""

    def __init__(self) -> None:
        super().__init__(
            f"That PIN does not fit. After {MAX_TRIES} wrong tries only the password helps."
        )


def keep_pin(db: sa.Engine, actor: Actor, pin: str) -> None:
    """Give the actor a PIN; an empty one takes it away. Raises InvalidInput for a weak one."""
    if pin and not _PIN.fullmatch(pin):
        raise InvalidInput("A PIN has 6 to 12 digits.")
    if pin and (len(set(pin)) == 1 or pin in "01234567890123" or pin in "98765432109876"):
        raise InvalidInput("That PIN is too easy to guess. Take other digits.")
    with begin(db, actor, "user.pin_changed") as tx:
        tx.conn.execute(
            user_account.update()
            .where(user_account.c.id == actor.name)
            .values(pin_hash=hashed(pin) if pin else "", pin_failures=0)
        )
        tx.record(f"user:{actor.name}", has_pin=bool(pin))


def note_refusal(db: sa.Engine, location_id: str, user_id: str) -> None:
    """Write down that somebody was refused who has no account, or whose account rests.

    What was typed as a name is not kept: people type passwords there.
    """
    note_reads(db, [look(Actor("web", location_id), "user.refused", f"user:{user_id}")])


def check_pin(db: sa.Engine, location_id: str, who: sa.ColumnElement[bool], pin: str) -> str:
    """Return the id of the person whose PIN this is.

    Raises WrongPin, in about the same time whether the person exists or not.
    """
    with read(db) as conn:
        row = conn.execute(
            sa.select(user_account).where(
                user_account.c.location_id == location_id, who, user_account.c.is_active
            )
        ).first()
    is_right = fits(row.pin_hash if row else "", pin)
    if row is None or not row.pin_hash or row.pin_failures >= MAX_TRIES:
        note_refusal(db, location_id, row.id if row else "unknown")
        raise WrongPin
    if not is_right:
        _count(db, Actor("web", location_id), row.id, row.pin_failures + 1)
        raise WrongPin
    if row.pin_failures:
        _count(db, Actor(row.id, location_id), row.id, 0)
    return str(row.id)


def _count(db: sa.Engine, actor: Actor, user_id: str, tries: int) -> None:
    is_reset = tries == 0
    with begin(db, actor, "user.pin_tries_cleared" if is_reset else "user.wrong_pin") as tx:
        failures = sa.literal(0) if is_reset else user_account.c.pin_failures + 1
        tx.conn.execute(
            user_account.update().where(user_account.c.id == user_id).values(pin_failures=failures)
        )
        tx.record(f"user:{user_id}", tries=tries)
