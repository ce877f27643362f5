"""Rows that nothing asks for any more: partners' messages, exchanges with a model, ended sessions.

What was decided, written, signed or audited is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, begin, read
from node.db.tables import (
    bridge_token,
    case_signal,
    legal_hold,
    link_use,
    model_exchange,
    web_session,
    webhook_delivery,
    workflow_case,
)

_CLOSED = ("done", "cancelled", "silent")
Old = tuple[str, sa.Table, sa.ColumnElement[bool]]


def count_old(db: sa.Engine, config: Config, now: datetime) -> Mapping[str, int]:
    """Count what :func:`shed` would remove, by kind."""
    with read(db) as conn:
        found: dict[str, int] = {}
        for name, table, is_old in _old(config, now):
            query = sa.select(sa.func.count()).select_from(table).where(is_old)
            found[name] = found.get(name, 0) + int(conn.execute(query).scalar_one())
    return found


def shed(db: sa.Engine, config: Config, now: datetime) -> Mapping[str, int]:
    """Remove what is older than the configuration keeps it; gives how many rows of each kind.

    Running it again removes nothing more. What belongs to a patient on legal hold stays.
    """
    if not any(count_old(db, config, now).values()):
        return {}
    removed: dict[str, int] = {}
    with begin(db, Actor("retention", config.node.location_id), "rows.shed") as tx:
        for name, table, is_old in _old(config, now):
            count = tx.conn.execute(table.delete().where(is_old)).rowcount
            removed[name] = removed.get(name, 0) + count
        tx.record("retention", **removed)
    return removed


def _old(config: Config, now: datetime) -> Iterator[Old]:
    """Name each kind, its table, and which rows of this location are too old."""
    kept, mine = config.retention, config.node.location_id
    webhooks = now - timedelta(days=kept.webhook_days)
    prompts = now - timedelta(days=kept.prompt_days)
    sessions = now - timedelta(days=kept.session_days)
    # a partner's signature holds for minutes: an older delivery is refused without this row
    yield (
        "webhooks",
        webhook_delivery,
        sa.and_(webhook_delivery.c.location_id == mine, webhook_delivery.c.at < webhooks),
    )
    yield (
        "webhooks",
        case_signal,
        sa.and_(
            case_signal.c.location_id == mine,
            case_signal.c.at < webhooks,
            case_signal.c.delivery_id.not_like(
                "reply:%"
            ),  # by these the recall knows what it has told
            case_signal.c.case_id.in_(_closed_cases(mine)),
        ),
    )
    yield (
        "prompts",
        model_exchange,
        sa.and_(model_exchange.c.location_id == mine, model_exchange.c.at < prompts),
    )
    yield (
        "sessions",
        web_session,
        sa.and_(web_session.c.location_id == mine, web_session.c.last_seen_at < sessions),
    )
    yield (
        "sessions",
        link_use,
        sa.and_(link_use.c.location_id == mine, link_use.c.used_at < sessions),
    )
    yield (
        "sessions",
        bridge_token,
        sa.and_(bridge_token.c.location_id == mine, bridge_token.c.expires_at < sessions),
    )


def _closed_cases(location_id: str) -> sa.Select[tuple[str]]:
    held = sa.select(legal_hold.c.patient_id).where(
        legal_hold.c.location_id == location_id,
        legal_hold.c.released_at.is_(None),
        legal_hold.c.patient_id.is_not(None),
    )
    return sa.select(workflow_case.c.id).where(
        workflow_case.c.location_id == location_id,
        workflow_case.c.state.in_(_CLOSED),
        sa.or_(workflow_case.c.patient_id.is_(None), workflow_case.c.patient_id.not_in(held)),
    )
