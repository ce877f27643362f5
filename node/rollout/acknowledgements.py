"""What the clinical lead read and took upon themselves before anybody was shown a suggestion.

An acknowledgement speaks of networks by name and version. A later version counts as acknowledged
when its model card is the same, word for word; one with another card asks again, and until then
what it suggests is shown to nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Tx, insert_once, new_id, upsert
from node.db.tables import (
    acknowledged_model,
    installed_model,
    rollout_acknowledgement,
    rollout_report,
    user_account,
)
from node.domain.review import NOT_CLEARED
from node.errors import NotFound, Rejected
from node.rollout.reports import Report

_INTRODUCTION = (
    "I lead this practice clinically. Before suggestions of these models are shown to anybody here "
    "I have read: they are not cleared as a medical device; what they were trained on and how well "
    "they do, as their model cards below say; and how they agreed with our own dentists while "
    "nobody saw them. A clinician decides every suggestion."
)


@dataclass(frozen=True, slots=True)
class Card:
    """One installed network and its model card in full."""

    name: str
    version: str
    digest: str
    text: str
    is_live: bool = True

    @property
    def card_digest(self) -> str:
        """SHA-256 of the card's words."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One that stands; ``models`` are those it covers, as ``name version``."""

    id: str
    report_id: str
    text: str
    name: str
    given_at: datetime
    models: frozenset[str]


def record_installed(tx: Tx, cards: Sequence[Card]) -> None:
    """Note which networks run here now; carry acknowledgements on where the card is the same."""
    tx.conn.execute(
        installed_model.update()
        .where(installed_model.c.location_id == tx.location_id)
        .values(is_live=False)
    )
    for card in cards:
        upsert(
            tx.conn,
            installed_model,
            ("location_id", "name", "version"),
            {
                "location_id": tx.location_id,
                "name": card.name,
                "version": card.version,
                "digest": card.digest,
                "card_digest": card.card_digest,
                "card": card.text,
                "is_live": card.is_live,
                "seen_at": tx.now,
            },
        )
    carried = sum(_carry(tx, card) for card in cards)
    tx.record("models", installed=sorted(map(str, cards)), carried=carried)


def installed(conn: sa.Connection, location_id: str) -> tuple[Card, ...]:
    """Read the networks that suggest here now."""
    rows = conn.execute(
        sa.select(installed_model)
        .where(installed_model.c.location_id == location_id, installed_model.c.is_live)
        .order_by(installed_model.c.name)
    )
    return tuple(Card(row.name, row.version, row.digest, row.card) for row in rows)


def compose_text(cards: Sequence[Card], report: Report) -> str:
    """Compose what the clinical lead must read: the words, the figures, the cards in full."""
    figures = [
        f"- {row.kind}, {row.view or 'any view'}, per {row.level}: {row.said} said, {row.signed} "
        f"by the dentist, {row.both} both; sensitivity {_words(row.sensitivity.value)}, precision "
        f"{_words(row.precision.value)}" + (" (too few to say)" if row.is_few else "")
        for row in report.rows
    ]
    compared = (
        f"Compared in silence ({report.source}): {report.studies} studies, {report.images} images, "
        f"{report.patients} patients."
    )
    parts = [_INTRODUCTION, NOT_CLEARED, compared, "\n".join(figures)]
    parts += [f"=== {card} (SHA-256 {card.digest}) ===\n{card.text}" for card in cards]
    return "\n\n".join(part for part in parts if part)


def give(tx: Tx, user_id: str, report_id: str, cards: Sequence[Card], text: str) -> str:
    """Record that a person acknowledged `text` about the installed networks; return its id.

    Raises
    ------
    Rejected
        No network is installed, or the text is not the one of these networks and this report.
    NotFound
        There is no such report or person here.
    """
    if not cards:
        raise Rejected("no network is known to be installed; start the analysis once")
    content = tx.conn.execute(
        sa.select(rollout_report.c.content).where(
            rollout_report.c.id == report_id, rollout_report.c.location_id == tx.location_id
        )
    ).scalar()
    name = tx.conn.execute(
        sa.select(user_account.c.display_name).where(
            user_account.c.id == user_id, user_account.c.location_id == tx.location_id
        )
    ).scalar()
    if content is None or name is None:
        raise NotFound("There is no such report or person here.")
    if text != compose_text(cards, Report.from_json(content)):
        raise Rejected("The models or the report changed since you read. Read again, please.")
    ack_id = new_id()
    tx.conn.execute(
        rollout_acknowledgement.insert().values(
            id=ack_id,
            location_id=tx.location_id,
            report_id=report_id,
            text=text,
            given_by=user_id,
            name=name,
            given_at=tx.now,
        )
    )
    for card in cards:
        _cover(tx, ack_id, card, is_carried=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    tx.record(f"acknowledgement:{ack_id}", models=sorted(map(str, cards)), text=digest)
    return ack_id


def withdraw(tx: Tx) -> bool:
    """Take the standing acknowledgements back; from now on no suggestion is shown."""
    done = tx.conn.execute(
        rollout_acknowledgement.update()
        .where(
            rollout_acknowledgement.c.location_id == tx.location_id,
            rollout_acknowledgement.c.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=tx.now, withdrawn_by=tx.actor.name)
    ).rowcount
    tx.record("acknowledgements", withdrawn=done)
    return bool(done)


def standing(conn: sa.Connection, location_id: str) -> Acknowledgement | None:
    """Read the last acknowledgement that covers every network that suggests here now."""
    wanted = {str(card) for card in installed(conn, location_id)}
    for given in _given(conn, location_id):
        if wanted <= given.models:
            return given
    return None


def acknowledged(conn: sa.Connection, location_id: str) -> frozenset[str]:
    """Name every network that a standing acknowledgement covers, as ``name version``."""
    rows = conn.execute(
        sa.select(acknowledged_model.c.name, acknowledged_model.c.version)
        .join(
            rollout_acknowledgement,
            rollout_acknowledgement.c.id == acknowledged_model.c.acknowledgement_id,
        )
        .where(
            rollout_acknowledgement.c.location_id == location_id,
            rollout_acknowledgement.c.withdrawn_at.is_(None),
        )
    )
    return frozenset(f"{row.name} {row.version}" for row in rows)


def _given(conn: sa.Connection, location_id: str) -> list[Acknowledgement]:
    rows = conn.execute(
        sa.select(rollout_acknowledgement)
        .where(
            rollout_acknowledgement.c.location_id == location_id,
            rollout_acknowledgement.c.withdrawn_at.is_(None),
        )
        .order_by(rollout_acknowledgement.c.given_at.desc())
    ).all()
    return [
        Acknowledgement(
            row.id, row.report_id, row.text, row.name, row.given_at, _covered(conn, row.id)
        )
        for row in rows
    ]


def _covered(conn: sa.Connection, ack_id: str) -> frozenset[str]:
    rows = conn.execute(
        sa.select(acknowledged_model.c.name, acknowledged_model.c.version).where(
            acknowledged_model.c.acknowledgement_id == ack_id
        )
    )
    return frozenset(f"{row.name} {row.version}" for row in rows)


def _carry(tx: Tx, card: Card) -> int:
    """Let acknowledgements of another version under the same card speak of this one too."""
    rows = tx.conn.execute(
        sa.select(acknowledged_model.c.acknowledgement_id)
        .join(
            rollout_acknowledgement,
            rollout_acknowledgement.c.id == acknowledged_model.c.acknowledgement_id,
        )
        .where(
            acknowledged_model.c.location_id == tx.location_id,
            acknowledged_model.c.name == card.name,
            acknowledged_model.c.card_digest == card.card_digest,
            rollout_acknowledgement.c.withdrawn_at.is_(None),
        )
    ).scalars()
    return sum(_cover(tx, ack_id, card, is_carried=True) for ack_id in set(rows))


def _cover(tx: Tx, ack_id: str, card: Card, *, is_carried: bool) -> bool:
    return insert_once(
        tx.conn,
        acknowledged_model,
        {
            "acknowledgement_id": ack_id,
            "name": card.name,
            "version": card.version,
            "location_id": tx.location_id,
            "card_digest": card.card_digest,
            "is_carried": is_carried,
        },
    )


def _words(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
