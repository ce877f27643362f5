"""Pictures that may name their patient: lettering in the pixels keeps them in the house.

What is seen or declared is one row an image; it goes to no peer marked ``external`` and into no
export of training data until a person who looked at it lets it go. An image that nobody could look
at (its analysis failed) is doubted as well.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from node.db.session import Tx, insert_once
from node.db.tables import burned_in, instance
from node.domain.study import InstanceState
from node.errors import NotFound

DOUBT = "lettering may be burned into the picture: a person must let it leave"

#: Nobody could look at the pixels of an image in one of these.
_UNSEEN = (
    InstanceState.RECEIVED.value,
    InstanceState.FAILED.value,
    InstanceState.UNREADABLE.value,
)


def note(tx: Tx, instance_id: str, words: str) -> None:
    """Write down that an image has lettering; what a person decided before stays."""
    insert_once(
        tx.conn,
        burned_in,
        {
            "instance_id": instance_id,
            "location_id": tx.location_id,
            "words": words[:255],
            "found_at": tx.now,
        },
    )


def release(tx: Tx, instance_id: str, reason: str) -> None:
    """Let an image leave, because a person looked at it. Raises NotFound when there is none."""
    is_here = tx.conn.execute(
        sa.select(instance.c.id).where(
            instance.c.id == instance_id, instance.c.location_id == tx.location_id
        )
    ).first()
    if is_here is None:
        raise NotFound("there is no such image")
    note(tx, instance_id, "let go by a person who looked at it")
    tx.conn.execute(
        burned_in.update()
        .where(burned_in.c.instance_id == instance_id)
        .values(released_by=tx.actor.name, released_reason=reason[:255], released_at=tx.now)
    )
    tx.record(f"instance:{instance_id}", released=True)


def doubted(conn: sa.Connection, instance_ids: Collection[str]) -> frozenset[str]:
    """Tell which of these images may not leave the house."""
    found = conn.execute(
        sa.select(instance.c.id)
        .outerjoin(burned_in, burned_in.c.instance_id == instance.c.id)
        .where(
            instance.c.id.in_(instance_ids),
            burned_in.c.released_at.is_(None),
            sa.or_(burned_in.c.instance_id.is_not(None), instance.c.state.in_(_UNSEEN)),
        )
    )
    return frozenset(found.scalars())


def unreleased(conn: sa.Connection, instance_ids: Collection[str]) -> dict[str, str]:
    """Give why each of these images is held that a person has not let go yet."""
    found = conn.execute(
        sa.select(burned_in.c.instance_id, burned_in.c.words).where(
            burned_in.c.instance_id.in_(instance_ids), burned_in.c.released_at.is_(None)
        )
    )
    return {row.instance_id: row.words for row in found}


def is_released(conn: sa.Connection, instance_id: str) -> bool:
    """Whether a person looked at an image and let it go."""
    query = sa.select(burned_in.c.released_at).where(burned_in.c.instance_id == instance_id)
    return conn.execute(query).scalar() is not None
