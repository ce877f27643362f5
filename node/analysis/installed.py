"""Which networks suggest here, with their model cards: noted for whoever must read the cards."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

import models
from models.registry import Choice, Role
from node.analysis.shadow import all_choices
from node.config import AnalysisSection
from node.db.session import Actor, begin
from node.errors import ConfigError
from node.rollout.acknowledgements import Card, record_installed

_CARDS = Path(models.__file__).parent / "cards"


def record(db: sa.Engine, actor: Actor, config: AnalysisSection) -> tuple[Card, ...]:
    """Note the live networks and their cards in the database; again has no further effect."""
    cards = installed_cards(config)
    with begin(db, actor, "models.installed") as tx:
        record_installed(tx, cards)
    return cards


def installed_cards(config: AnalysisSection) -> tuple[Card, ...]:
    """Read the live networks with their cards; one that cannot be read is left out.

    It cannot run either: its images are marked failed with the reason.
    """
    cards = []
    for choice in all_choices(config):
        if choice.role is not Role.LIVE:
            continue
        try:
            entry = choice.entry()
        except ConfigError:
            continue
        text = _card(choice, entry.card) or f"No model card. Trained on: {entry.data}"
        cards.append(Card(entry.task, entry.version, entry.sha256, text))
    return tuple(cards)


def _card(choice: Choice, name: str) -> str:
    """Read a card beside its weights or among ours; empty when there is none."""
    for folder in (choice.folder, _CARDS):
        path = folder / Path(name).name
        if name and path.is_file():
            return path.read_text(encoding="utf-8")
    return ""
