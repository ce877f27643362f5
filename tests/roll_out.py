"""Letting suggestions in for a test: one helper which acknowledges, for every fixture.

A node starts with every finding silent. ``acknowledge(db)`` does what a clinical lead does: it
names the models that the tests invent, with a made-up card, and lets findings and tags in.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id, read
from node.db.tables import user_account
from node.rollout import acknowledgements
from node.rollout.acknowledgements import Card
from node.rollout.opening import let_everything_in
from node.rollout.reports import Report

#: Networks that tests invent, as (name, version).
INVENTED = (
    ("intraoral", "1"),
    ("intraoral", "1.0"),
    ("intraoral", "1.0.0"),
    ("intraoral", "9"),
    ("triage", "2.0.0"),
    ("panoramic_caries", "2.1.0"),
    ("test", "1"),
)
_WORDS = "A test: nothing was compared."


def lead(db: sa.Engine, location_id: str = "main") -> Actor:
    """Give the clinical lead of a location, who cannot sign in."""
    with read(db) as conn:
        known = conn.execute(
            sa.select(user_account.c.id).where(
                user_account.c.location_id == location_id,
                user_account.c.username == "clinical-lead",
            )
        ).scalar()
    if known is not None:
        return Actor(known, location_id)
    actor = Actor(new_id(), location_id)
    with begin(db, actor, "user.created") as tx:
        tx.conn.execute(
            user_account.insert().values(
                id=actor.name,
                location_id=location_id,
                username="clinical-lead",
                display_name="Dr Clinical Lead",
                role="dentist",
                password_hash="",
                is_active=False,
            )
        )
        tx.record(f"user:{actor.name}")
    return actor


def acknowledge(
    db: sa.Engine,
    location_id: str = "main",
    models: Iterable[tuple[str, str]] = INVENTED,
) -> None:
    """Let findings and tags of these models in, and of those installed, if any are."""
    with read(db) as conn:
        cards = acknowledgements.installed(conn, location_id)
    named = [Card(name, version, "0" * 64, "An invented network.") for name, version in models]
    report = Report("silent", 0, 0, 0, notes=(_WORDS,))
    let_everything_in(db, lead(db, location_id), (*cards, *named), report, _WORDS)
