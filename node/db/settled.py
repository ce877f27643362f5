"""What went out and came back, long after it was settled: the words go, digest and receipt stay.

The row itself, its state, times, key and receipt stay, and so do the audit, findings and reviews.
Nothing of a patient or a study on legal hold is touched, and nothing that a person may still need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, read
from node.db.tables import legal_hold, message_reply, payer_mail, pms_command, study, workflow_case
from node.domain.audit_chain import canonical

_BATCH = 200
#: States in which nothing reads a write's words any more: it landed, or never left.
_SETTLED = ("done", "withdrawn")
_CLOSED = ("done", "cancelled", "silent")
#: What a later amendment or merge needs to find its place: numbers of the practice's system.
_PLACE = ("patient_key", "procedure_key")


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    table: sa.Table
    words: str  # the column that is reduced
    is_due: sa.ColumnElement[bool]

    @property
    def column(self) -> sa.Column[object]:
        return self.table.c[self.words]


def count_settled(db: sa.Engine, config: Config, now: datetime) -> Mapping[str, int]:
    """Count what :func:`reduce_settled` would reduce, by kind; kinds without any are left out."""
    found: dict[str, int] = {}
    with read(db) as conn:
        for kind in _kinds(config, now):
            query = sa.select(sa.func.count()).select_from(kind.table).where(kind.is_due)
            if count := int(conn.execute(query).scalar_one()):
                found[kind.name] = count
    return found


def reduce_settled(db: sa.Engine, config: Config, now: datetime) -> Mapping[str, int]:
    """Reduce to their digest the words that were settled `settled_days` ago; gives how many.

    Done batch by batch, each with its row of the audit; running it again reduces nothing more.
    """
    reduced: dict[str, int] = {}
    for kind in _kinds(config, now):
        while count := _reduce_some(db, config, kind):
            reduced[kind.name] = reduced.get(kind.name, 0) + count
    return reduced


def digest_of(value: object) -> str:
    """Digest words that go (SHA-256, 64 hex digits); a command's as the audit gave it."""
    content = value if isinstance(value, bytes) else canonical([value])
    return hashlib.sha256(content).hexdigest()


def _reduce_some(db: sa.Engine, config: Config, kind: _Kind) -> int:
    query = sa.select(kind.table.c.id, kind.column).where(kind.is_due).limit(_BATCH)
    with read(db) as conn:
        rows = conn.execute(query).all()
    if not rows:
        return 0
    with begin(db, Actor("retention", config.node.location_id), "settled.reduced") as tx:
        count = sum(_reduce(tx, kind, row_id, words) for row_id, words in rows)
        tx.record("retention", **{kind.name: count})
    return count


def _reduce(tx: Tx, kind: _Kind, row_id: str, words: object) -> int:
    # asked once more: a hold may have been placed since
    mine = (kind.table.c.id == row_id, kind.is_due)
    values = {kind.words: _reduced(words), "reduced_at": tx.now}
    return tx.conn.execute(kind.table.update().where(*mine).values(values)).rowcount


def _reduced(words: object) -> object:
    """Make what stays of words, in their column's type."""
    if isinstance(words, bytes):
        return f"sha256:{digest_of(words)}".encode()
    if isinstance(words, str):
        return f"sha256:{digest_of(words.encode())}"
    if not isinstance(words, Mapping):
        return {"digest": digest_of(words)}
    command = words.get("command")
    place = {key: command[key] for key in _PLACE if key in command} if command else {}
    return {**words, "command": place, "digest": digest_of(command)}


def _kinds(config: Config, now: datetime) -> Iterator[_Kind]:
    """Name each kind, where its words stand, and which rows of this location are due."""
    mine, before = config.node.location_id, now - timedelta(days=config.retention.settled_days)
    held_studies = _held(legal_hold.c.study_id, mine)
    held = sa.union(
        _held(legal_hold.c.patient_id, mine),
        sa.select(study.c.patient_id).where(
            study.c.id.in_(held_studies), study.c.patient_id.is_not(None)
        ),
    )
    cases = sa.select(workflow_case.c.id).where(
        workflow_case.c.location_id == mine,
        workflow_case.c.state.in_(_CLOSED),
        workflow_case.c.updated_at < before,
        _is_free(workflow_case.c.patient_id, held),
    )
    with_open_case = sa.select(workflow_case.c.patient_id).where(
        workflow_case.c.location_id == mine,
        workflow_case.c.state.not_in(_CLOSED),
        workflow_case.c.patient_id.is_not(None),
    )
    command, mail, reply = pms_command.c, payer_mail.c, message_reply.c
    yield _Kind(
        "writes",
        pms_command,
        "payload",
        sa.and_(
            command.location_id == mine,
            command.reduced_at.is_(None),
            command.state.in_(_SETTLED),
            command.updated_at < before,
            command.patient_id.not_in(held),
            sa.or_(command.study_id.is_(None), command.study_id.not_in(held_studies)),
        ),
    )
    yield _Kind(
        "payer_mail",
        payer_mail,
        "content",
        sa.and_(
            mail.location_id == mine,
            mail.reduced_at.is_(None),
            mail.at < before,
            mail.case_id.in_(cases),
        ),
    )
    yield _Kind(
        "replies",
        message_reply,
        "text",
        sa.and_(
            reply.location_id == mine,
            reply.reduced_at.is_(None),
            reply.at < before,
            _is_free(reply.patient_id, held),
            _is_free(reply.patient_id, with_open_case),
        ),
    )


def _held(column: sa.ColumnElement[str], location_id: str) -> sa.Select[Any]:
    return sa.select(column).where(
        legal_hold.c.location_id == location_id,
        legal_hold.c.released_at.is_(None),
        column.is_not(None),
    )


def _is_free(patient_id: sa.ColumnElement[str], others: sa.SelectBase) -> sa.ColumnElement[bool]:
    return sa.or_(patient_id.is_(None), patient_id.not_in(others))
