"""In which mode a workflow runs: the configuration's word, then the rules, then the ceilings."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from node.config import Config, Mode
from node.domain.rollout import Area, Decision, Place, RollMode, Rule, Subject, decide
from node.rollout.rules import read_rules


def workflow_mode(
    conn: sa.Connection, config: Config, name: str, data: Mapping[str, object] | None = None
) -> Mode | None:
    """Give the mode of a workflow, for one case if its `data` is given; None when it is off.

    What is off in the configuration stays off. Where no rule speaks, ``[workflows] modes`` does; a
    ceiling holds either back. ``auto`` runs as ``assist``: policy lets only workflows be automatic
    that ask nobody anyway.
    """
    if config.workflows.mode(name) is None:
        return None
    rules = read_rules(conn, config.node.location_id)
    decision = workflow_decision(rules, config, name, place_of_case(data or {}))
    return Mode.SILENT if decision.mode is RollMode.SILENT else Mode.ASSIST


def workflow_decision(rules: tuple[Rule, ...], config: Config, name: str, place: Place) -> Decision:
    """Decide the mode of a workflow that is not off, with the reason."""
    subject = Subject(Area.WORKFLOW, name)
    base = config.workflows.mode(name) or Mode.SILENT
    configured = Rule(
        "", Subject(Area.WORKFLOW), Place(), RollMode(base.value), set_by="configuration",
        reason="[workflows] modes",
    )  # fmt: skip
    return (
        decide((*rules, configured), subject, place)
        if not _speaks(rules, subject, place)
        else (decide(rules, subject, place))
    )


def place_of_case(data: Mapping[str, object]) -> Place:
    """Find where a case belongs by its data: its laboratory, provider and operatory, if any."""

    def text(name: str) -> str:
        value = data.get(name)
        return value if isinstance(value, str) else ""

    return Place(operatory=text("operatory"), provider=text("provider"), lab=text("lab"))


def _speaks(rules: tuple[Rule, ...], subject: Subject, place: Place) -> bool:
    return any(
        rule.subject.covers(subject) and rule.place.holds(place) and not rule.is_ceiling
        for rule in rules
    )
