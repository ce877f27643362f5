"""The standing rules of a location: reading them, setting one, and the one switch back."""

from __future__ import annotations

import sqlalchemy as sa

from node.db.session import Tx, new_id
from node.db.tables import rollout_rule
from node.domain.rollout import (
    ANYWHERE,
    Area,
    Place,
    RollMode,
    Rule,
    Subject,
    check_auto,
)
from node.errors import InvalidInput, Rejected
from node.rollout import acknowledgements, reports


def read_rules(conn: sa.Connection, location_id: str) -> tuple[Rule, ...]:
    """Read the rules that stand, the latest first."""
    rows = conn.execute(
        sa.select(rollout_rule)
        .where(rollout_rule.c.location_id == location_id, rollout_rule.c.ended_at.is_(None))
        .order_by(rollout_rule.c.set_at.desc(), rollout_rule.c.id)
    )
    return tuple(
        Rule(
            row.id,
            Subject.parse(row.subject),
            Place(row.operatory, row.provider, row.view, row.lab),
            RollMode(row.mode),
            row.is_ceiling,
            row.set_by,
            row.reason,
        )
        for row in rows
    )


def set_mode(
    tx: Tx,
    subject: Subject,
    mode: RollMode,
    *,
    place: Place = ANYWHERE,
    reason: str = "",
    min_studies: int = 0,
) -> Rule:
    """Give a subject a mode at a place; an earlier rule for just the same ends.

    `min_studies` is how many studies the comparison must have seen before a finding is shown.

    Raises
    ------
    Rejected
        Policy never allows it, the clinical lead has not acknowledged, or too little was compared.
    InvalidInput
        The subject or the place makes no rule.
    """
    if subject.area is None:
        raise InvalidInput("a mode is given to findings, tags or workflows, one area at a time")
    rule = Rule(new_id(), subject, place, mode, set_by=tx.actor.name, reason=reason)
    if mode is RollMode.AUTO:
        check_auto(subject)
    if mode is not RollMode.SILENT and subject.area is not Area.WORKFLOW:
        _demand_ground(tx, subject, place, min_studies)
    return _put(tx, rule)


def switch_back(
    tx: Tx, subject: Subject, mode: RollMode = RollMode.SILENT, reason: str = ""
) -> Rule:
    """Hold a subject, an area or everything at `mode` at most, at once, whatever rules say.

    Raises InvalidInput for ``auto``, which is no way back.
    """
    if mode is RollMode.AUTO:
        raise InvalidInput("one switches back to assist or silent")
    rule = Rule(new_id(), subject, ANYWHERE, mode, True, tx.actor.name, reason)
    return _put(tx, rule)


def lift(tx: Tx, subject: Subject) -> bool:
    """Take a switch back away, so that the rules hold again; return whether there was one."""
    ended = _end(tx, Rule("", subject, ANYWHERE, RollMode.SILENT, is_ceiling=True))
    tx.record(f"rollout:{subject}", lifted=ended)
    return ended > 0


def end_rule(tx: Tx, rule_id: str) -> bool:
    """End one rule; return whether it stood."""
    done = tx.conn.execute(
        rollout_rule.update()
        .where(
            rollout_rule.c.id == rule_id,
            rollout_rule.c.location_id == tx.location_id,
            rollout_rule.c.ended_at.is_(None),
        )
        .values(ended_at=tx.now, ended_by=tx.actor.name)
    ).rowcount
    tx.record(f"rollout:{rule_id}", ended=done)
    return bool(done)


def _demand_ground(tx: Tx, subject: Subject, place: Place, min_studies: int) -> None:
    given = acknowledgements.standing(tx.conn, tx.location_id)
    if given is None:
        raise Rejected(
            f"{subject} is shown to nobody before the clinical lead has acknowledged what the "
            "models are; a new version with a changed card asks again"
        )
    if subject.area is not Area.FINDING:
        return
    seen = reports.studies_compared(tx.conn, tx.location_id, subject.name, place.view, given.models)
    if seen < min_studies:
        where = f" on {place.view} images" if place.view else ""
        raise Rejected(
            f"{subject} was compared with the dentist on {seen} studies{where}; "
            f"{min_studies} are asked for before it is shown"
        )


def _put(tx: Tx, rule: Rule) -> Rule:
    _end(tx, rule)
    tx.conn.execute(
        rollout_rule.insert().values(
            id=rule.id,
            location_id=tx.location_id,
            subject=str(rule.subject),
            operatory=rule.place.operatory,
            provider=rule.place.provider,
            view=rule.place.view,
            lab=rule.place.lab,
            mode=rule.mode.value,
            is_ceiling=rule.is_ceiling,
            reason=rule.reason[:255],
            set_by=rule.set_by,
            set_at=tx.now,
        )
    )
    tx.record(f"rollout:{rule.subject}", rule=rule.words)
    return rule


def _end(tx: Tx, like: Rule) -> int:
    """End the rule about just the same subject and place, if one stands."""
    columns = rollout_rule.c
    return tx.conn.execute(
        rollout_rule.update()
        .where(
            columns.location_id == tx.location_id,
            columns.ended_at.is_(None),
            columns.subject == str(like.subject),
            columns.operatory == like.place.operatory,
            columns.provider == like.place.provider,
            columns.view == like.place.view,
            columns.lab == like.place.lab,
            columns.is_ceiling == like.is_ceiling,
        )
        .values(ended_at=tx.now, ended_by=tx.actor.name)
    ).rowcount
