"""Commands to the PMS: rows of ours, delivered one at a time per office, each exactly once.

``queue`` writes the row and its first delivery run in the caller's transaction. Commands of one
patient keep their order; `pms_writeback.delivery` says how each one lands.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import cast

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import patient, pms_command, study
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import MatchState
from node.engine import DurableEngine
from node.errors import Conflict, InvalidInput, NotFound
from pms_writeback.command_rows import (
    OPEN,
    CommandState,
    Lane,
    enqueue_run,
    hurry,
    load_command,
    schedule_run,
    store_state,
)
from pms_writeback.delivery import CANNOT_SEARCH, Delivery, Patience
from pms_writeback.payload import DocumentStore, Json, command_to_json
from pms_writeback.pms import CloseTask, Command, Pms
from pms_writeback.provider_map import refusal_of


def ref_for(location_id: str, key: str) -> str:
    """Derive the token that the PMS record carries: ``ref:BW-`` and ten hex digits."""
    digest = hashlib.sha256(f"{location_id} {key}".encode()).hexdigest()
    return f"ref:BW-{digest[:10]}"


def queue(
    tx: Tx,
    engine: DurableEngine,
    store: DocumentStore,
    *,
    key: str,
    command: Command,
    patient_id: str,
    study_id: str | None = None,
    review_version: int | None = None,
    lane: Lane = Lane.INTERACTIVE,
) -> str:
    """Queue a command under `key` in the caller's transaction; the same key again has no effect.

    `lane` says whose turn is first; a patient's commands keep their order, so those before a more
    urgent one overtake with it. The command's token must be ``ref_for(tx.location_id, key)`` (a
    CloseTask carries its task's). One for a provider or room that is hidden or not mapped is kept
    as declined, with the reason. Returns the command's id.

    Raises
    ------
    InvalidInput
        The token is another one, or the command names another patient than `patient_id`.
    Retryable
        There is no room for the document.
    """
    _check_target(tx, key, command, patient_id)
    known = _id_of(tx.conn, tx.location_id, key)
    if known is not None:
        return known
    command_id = new_id()
    fields = command_to_json(command, store, tx.location_id, key)
    refusal = refusal_of(tx.conn, tx.location_id, fields, tx.now)
    state = CommandState.DECLINED if refusal else CommandState.QUEUED
    inserted = insert_once(
        tx.conn,
        pms_command,
        {
            "id": command_id,
            "location_id": tx.location_id,
            "key": key,
            "ref": command.ref,
            "study_id": study_id,
            "patient_id": patient_id,
            "review_version": review_version,
            "kind": type(command).__name__,
            "payload": {"command": fields},
            "state": state.value,
            "error": refusal,
            "lane": lane.value,
            "created_at": _place_in_line(tx, patient_id),
            "updated_at": tx.now,
        },
    )
    if not inserted:  # queued by another process meanwhile
        return _id_of(tx.conn, tx.location_id, key) or command_id
    tx.append_event(
        EventKind.WRITE_QUEUED,
        command_id,
        f"write-queued:{command_id}",
        {"study_id": study_id, "kind": type(command).__name__},
    )
    if refusal:
        tx.append_event(
            EventKind.WRITE_FAILED,
            command_id,
            f"write-failed:{command_id}:0",
            {"study_id": study_id, "kind": type(command).__name__, "state": state.value},
        )
        return command_id
    enqueue_run(tx, engine, command_id, 0, None, lane)
    hurry(tx, engine, patient_id, lane)
    return command_id


def register(
    engine: DurableEngine,
    db: sa.Engine,
    store: DocumentStore,
    pms: Pms | None,
    config: Config,
    patience: Patience | None = None,
) -> None:
    """Register the delivery workflow for the commands of this node's location."""
    delivery = Delivery(
        db, engine, store, pms, config.node.location_id, patience or Patience(), _utc_now
    )

    @engine.workflow(jobs.DELIVER_COMMAND)
    def deliver_command(command_id: str, attempt: int) -> str:
        return engine.step_until_done("deliver", delivery.run, command_id, attempt)


def retry(db: sa.Engine, engine: DurableEngine, actor: Actor, command_id: str) -> None:
    """Try a failed, held or declined command again because a person asks for it.

    What may have landed is searched for first.

    Raises
    ------
    NotFound
        There is no such command at the actor's location.
    Conflict
        The command is open or done, or it names a provider or room that it may not.
    """
    with begin(db, actor, "pms.command_retried") as tx:
        row = load_command(tx.conn, command_id)
        if row is None or row.location_id != actor.location_id:
            raise NotFound("no such command")
        if row.state in (*OPEN, CommandState.DONE, CommandState.WITHDRAWN):
            raise Conflict(f"this command is {row.state.value}; there is nothing to retry")
        refusal = refusal_of(tx.conn, tx.location_id, cast(Json, row.payload["command"]), tx.now)
        if refusal:
            raise Conflict(refusal)
        # Where the PMS cannot be searched, the person has looked in the chart and says: not there.
        sent_at = None if _error(tx.conn, command_id) == CANNOT_SEARCH else row.sent_at
        state = CommandState.QUEUED if sent_at is None else CommandState.UNKNOWN
        store_state(tx, row, state, sent_at=sent_at, unknown_answers=0)
        schedule_run(tx, engine, command_id, None)
        tx.record(command_id, kind=row.kind, state=state.value)


def _error(conn: sa.Connection, command_id: str) -> str:
    query = sa.select(pms_command.c.error).where(pms_command.c.id == command_id)
    return str(conn.execute(query).scalar_one())


def resume(db: sa.Engine, engine: DurableEngine, actor: Actor) -> int:
    """Give a run again to what has none: a restored database, a study that was linked again.

    Held commands go on once their study is certainly their patient's; returns how many commands
    were given a run.
    """
    with read(db) as conn:
        released = _released(conn, actor.location_id)
        lost = _without_run(conn, engine, actor.location_id)
    if not released and not lost:
        return 0
    with begin(db, actor, "pms.commands_resumed") as tx:
        for command_id in released:
            row = load_command(tx.conn, command_id)
            if row is not None and row.state is CommandState.HELD:
                store_state(tx, row, row.waiting_state, sent_at=row.sent_at, unknown_answers=0)
                schedule_run(tx, engine, command_id, None)
        for command_id in lost:
            schedule_run(tx, engine, command_id, None)
        tx.record("", commands=[*released, *lost])
    return len(released) + len(lost)


def _released(conn: sa.Connection, location_id: str) -> list[str]:
    """Held commands whose study is certainly their patient's again, in their order."""
    certain = [state.value for state in MatchState if state.is_certain]
    return list(
        conn.execute(
            sa.select(pms_command.c.id)
            .join(study, study.c.id == pms_command.c.study_id)
            .where(
                pms_command.c.location_id == location_id,
                pms_command.c.state == CommandState.HELD.value,
                study.c.match_state.in_(certain),
                study.c.patient_id == pms_command.c.patient_id,
            )
            .order_by(pms_command.c.created_at, pms_command.c.id)
        ).scalars()
    )


def _without_run(conn: sa.Connection, engine: DurableEngine, location_id: str) -> list[str]:
    """Each patient's first open command that no run of the engine will deliver."""
    rows = conn.execute(
        sa.select(pms_command.c.id, pms_command.c.patient_id, pms_command.c.attempts)
        .where(
            pms_command.c.location_id == location_id,
            pms_command.c.state.in_([state.value for state in OPEN]),
        )
        .order_by(pms_command.c.created_at, pms_command.c.id)
    ).all()
    heads = {row.patient_id: row for row in reversed(rows)}.values()
    alive = ("ENQUEUED", "DELAYED", "PENDING")
    return [
        row.id
        for row in heads
        if engine.status(jobs.deliver_key(row.id, row.attempts)) not in alive
    ]


def _check_target(tx: Tx, key: str, command: Command, patient_id: str) -> None:
    if not isinstance(command, CloseTask) and command.ref != ref_for(tx.location_id, key):
        raise InvalidInput("the command carries another token than its key asks for")
    pms_key = tx.conn.execute(
        sa.select(patient.c.pms_key).where(
            patient.c.id == patient_id, patient.c.location_id == tx.location_id
        )
    ).scalar()
    if pms_key != command.patient_key:
        raise InvalidInput("the command names another patient than it is queued for")


def _id_of(conn: sa.Connection, location_id: str, key: str) -> str | None:
    return conn.execute(
        sa.select(pms_command.c.id).where(
            pms_command.c.location_id == location_id, pms_command.c.key == key
        )
    ).scalar()


def _place_in_line(tx: Tx, patient_id: str) -> datetime:
    """Stamp a command later than every one of this patient, even within one transaction."""
    last = tx.conn.execute(
        sa.select(sa.func.max(pms_command.c.created_at)).where(
            pms_command.c.location_id == tx.location_id, pms_command.c.patient_id == patient_id
        )
    ).scalar()
    return tx.now if last is None else max(tx.now, last + timedelta(microseconds=1))


def _utc_now() -> datetime:
    return datetime.now(UTC)
