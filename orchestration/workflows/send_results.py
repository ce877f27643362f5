"""Sending kept results to the peers they were queued for, one try a run.

Started by: `queue`, for each object and peer. A peer that is away holds up nobody else: a run tries
once and leaves a later one behind. While everything outbound is paused objects are held, and sent
as soon as a person lets it go on. Writes: the peer's copy. Approved by: whoever queued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from node.config import Config, Mode, PeerSection
from node.db import switches
from node.db.session import Actor, Tx, begin, insert_once, read
from node.db.tables import dicom_delivery, dicom_result, study
from node.dicom import burned_in
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import MatchState, StudyState
from node.engine import RESULTS, DurableEngine
from node.errors import InvalidInput, Rejected, Retryable
from node.rollout.held import holds_back

#: Sends one stored file to one peer; raises Retryable or Rejected.
Send = Callable[[ObjectFile, PeerSection], None]

_LONGEST_S = 300.0
_HELD = "everything outbound is paused"
Row = sa.Row[Any]


class DeliveryState(StrEnum):
    """Where one object for one peer stands."""

    QUEUED = "queued"
    HELD = "held"  # a person paused everything outbound
    DOUBTED = "doubted"  # the picture may name its patient
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


#: Not at the peer yet, and meant to get there.
WAITING = (DeliveryState.QUEUED.value, DeliveryState.HELD.value, DeliveryState.DOUBTED.value)


@dataclass(frozen=True, slots=True)
class ResultSender:
    """What the workflow needs."""

    db: sa.Engine
    engine: DurableEngine
    store: InstanceStore
    config: Config
    send: Send

    def deliver(self, delivery_id: str, attempt: int = 0) -> str:
        """Try once to send one object to one peer; returns the state it is in then.

        A run whose `attempt` is not the row's latest does nothing: a later one took its place.
        """
        row = self._row(delivery_id)
        if row.attempts != attempt or row.state not in WAITING:
            return str(row.state)
        peer = next((p for p in self.config.dicom.peers if p.name == row.peer), None)
        try:
            if peer is None:
                raise Rejected("this peer is no longer configured")
            if reason := self._withdrawal(row, peer):
                return self._close(row, DeliveryState.WITHDRAWN, reason)
            if self._is_held():
                return self._hold(row, DeliveryState.HELD, _HELD)
            if peer.is_outside and self._is_doubted(row):
                return self._hold(row, DeliveryState.DOUBTED, burned_in.DOUBT)
            self.send(self.store.file(row.storage_key), peer)
        except Retryable as error:
            return self._try_later(row, error)
        except (Rejected, InvalidInput) as error:
            return self._close(row, DeliveryState.FAILED, str(error))
        return self._close(row, DeliveryState.DONE, "")

    def _row(self, delivery_id: str) -> Row:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(
                    dicom_delivery,
                    dicom_result.c.storage_key,
                    dicom_result.c.study_id,
                    dicom_result.c.review_version,
                    dicom_result.c.kind,
                    dicom_result.c.instance_id,
                    dicom_result.c.created_at.label("composed_at"),
                    study.c.state.label("study_state"),
                    study.c.match_state,
                )
                .join(dicom_result, dicom_result.c.id == dicom_delivery.c.result_id)
                .join(study, study.c.id == dicom_result.c.study_id)
                .where(dicom_delivery.c.id == delivery_id)
            ).one()

    def _is_held(self) -> bool:
        with read(self.db) as conn:
            return switches.is_paused(conn, self.config.node.location_id, [switches.OUTBOUND])

    def _is_doubted(self, row: Row) -> bool:
        """Whether this is a copy of a picture that may name its patient."""
        if row.kind != "SC" or row.instance_id is None:
            return False
        with read(self.db) as conn:
            return bool(burned_in.doubted(conn, [row.instance_id]))

    def _withdrawal(self, row: Row, peer: PeerSection) -> str:
        """Say why a preliminary report may not leave any more; empty when it still may."""
        if row.review_version:
            return ""
        if not may_be_early(self.config, peer):
            return "this peer takes no preliminary reports any more"
        if not MatchState(row.match_state).is_certain:
            return "it is no longer certain whose study this is"
        if row.study_state == StudyState.SIGNED.value:
            return "the study was signed first; the signed report takes its place"
        with read(self.db) as conn:
            if holds_back(conn, self.config, row.study_id, row.composed_at):
                return "the roll-out holds suggestions of this study back by now"
        return ""

    @property
    def _actor(self) -> Actor:
        return Actor("results", self.config.node.location_id)

    def _hold(self, row: Row, state: DeliveryState, words: str) -> str:
        with begin(self.db, self._actor, "result.held") as tx:
            _note(tx, row.id, state, words)
        return state.value

    def _try_later(self, row: Row, error: Retryable) -> str:
        wait_s = min(error.retry_after_s * 2.0 ** min(row.attempts, 8), _LONGEST_S)
        with begin(self.db, self._actor, "result.delayed") as tx:
            _note(tx, row.id, DeliveryState.QUEUED, str(error), attempts=row.attempts + 1)
            _enqueue(tx, self.engine, row.id, row.attempts + 1, wait_s)
        return DeliveryState.QUEUED.value

    def _close(self, row: Row, state: DeliveryState, error: str) -> str:
        with begin(self.db, self._actor, f"result.{state.value}") as tx:
            _note(tx, row.id, state, error, attempts=row.attempts + 1)
            tx.append_event(
                EventKind.RESULT_SENT,
                row.id,
                f"result:{row.id}:{state.value}",
                {"study_id": row.study_id, "state": state.value},
            )
        return state.value


def may_be_early(config: Config, peer: PeerSection) -> bool:
    """Whether a peer may have what nobody signed: it asked, and the mode shows suggestions."""
    return peer.preliminary and config.node.mode is Mode.ASSIST


def queue(tx: Tx, engine: DurableEngine, result_id: str, peer: str) -> None:
    """Queue one kept object for one peer; again has no effect."""
    delivery_id = hashlib.sha256(f"{result_id}/{peer}".encode()).hexdigest()[:32]
    is_new = insert_once(
        tx.conn,
        dicom_delivery,
        {
            "id": delivery_id,
            "location_id": tx.location_id,
            "result_id": result_id,
            "peer": peer,
            "state": DeliveryState.QUEUED.value,
            "updated_at": tx.now,
        },
    )
    if is_new:
        _enqueue(tx, engine, delivery_id, 0)


def resume(db: sa.Engine, engine: DurableEngine, actor: Actor) -> int:
    """Send what was held and may leave now; returns how many."""
    with read(db) as conn:
        if switches.is_paused(conn, actor.location_id, [switches.OUTBOUND]) or not _free(
            conn, actor.location_id
        ):
            return 0
    with begin(db, actor, "results.resumed") as tx:
        rows = _free(tx.conn, tx.location_id)
        for delivery_id, attempts in rows:
            _note(tx, delivery_id, DeliveryState.QUEUED, "", attempts=attempts + 1)
            _enqueue(tx, engine, delivery_id, attempts + 1)
        tx.record("results", resumed=len(rows))
    return len(rows)


def _free(conn: sa.Connection, location_id: str) -> list[tuple[str, int]]:
    """List what was held and is doubted no more: id and attempts of each."""
    rows = conn.execute(
        sa.select(
            dicom_delivery.c.id,
            dicom_delivery.c.attempts,
            dicom_delivery.c.state,
            dicom_result.c.instance_id,
        )
        .join(dicom_result, dicom_result.c.id == dicom_delivery.c.result_id)
        .where(
            dicom_delivery.c.location_id == location_id,
            dicom_delivery.c.state.in_([DeliveryState.HELD.value, DeliveryState.DOUBTED.value]),
        )
        .order_by(dicom_delivery.c.updated_at, dicom_delivery.c.id)
    ).all()
    asked = [row.instance_id for row in rows if row.state == DeliveryState.DOUBTED.value]
    doubted = burned_in.doubted(conn, asked) if asked else frozenset()
    return [
        (row.id, row.attempts)
        for row in rows
        if row.state == DeliveryState.HELD.value or row.instance_id not in doubted
    ]


def register(
    engine: DurableEngine, db: sa.Engine, store: InstanceStore, config: Config, send: Send
) -> ResultSender:
    """Register the workflow; returns what it runs."""
    sender = ResultSender(db, engine, store, config, send)

    @engine.workflow(jobs.SEND_RESULT)
    def send_result(delivery_id: str, attempt: int = 0) -> str:
        return engine.step_until_done("send", sender.deliver, delivery_id, attempt)

    return sender


def _enqueue(
    tx: Tx, engine: DurableEngine, delivery_id: str, attempt: int, wait_s: float | None = None
) -> None:
    key = jobs.send_key(delivery_id, attempt)
    engine.enqueue(tx.conn, RESULTS, jobs.SEND_RESULT, key, delivery_id, attempt, delay_s=wait_s)


def _note(
    tx: Tx, delivery_id: str, state: DeliveryState, error: str, attempts: int | None = None
) -> None:
    values: dict[str, object] = {"state": state.value, "error": error[:255], "updated_at": tx.now}
    if attempts is not None:
        values["attempts"] = attempts
    tx.conn.execute(
        dicom_delivery.update().where(dicom_delivery.c.id == delivery_id).values(**values)
    )
    tx.record(f"delivery:{delivery_id}", state=state.value)
