"""Letting everything in at once: for the demo and for rehearsals, never for a practice.

It asks for no least number of compared studies, but for the same record: a named person, the text
of the cards, a report and the rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from node.db.session import Actor, begin
from node.domain.rollout import Area, RollMode, Subject
from node.rollout import acknowledgements, reports, rules
from node.rollout.acknowledgements import Card
from node.rollout.reports import Report


def let_everything_in(
    db: sa.Engine, person: Actor, cards: Sequence[Card], report: Report, reason: str
) -> None:
    """Acknowledge as `person`, whose name is a user's id, and set findings and tags to assist."""
    with begin(db, person, "rollout.reported") as tx:
        report_id = reports.keep(tx, report)
    with begin(db, person, "rollout.acknowledged") as tx:
        text = acknowledgements.compose_text(cards, report)
        acknowledgements.give(tx, person.name, report_id, cards, text)
    for area in (Area.FINDING, Area.TAG):
        with begin(db, person, "rollout.set") as tx:
            rules.set_mode(tx, Subject(area), RollMode.ASSIST, reason=reason)
