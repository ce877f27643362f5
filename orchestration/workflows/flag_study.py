"""A task in the PMS says that a study waits for its reader.

Started by: the sweep, for every study that is ready, certainly matched and unsigned, and of which
the roll-out shows something. Writes: one task per generation of the study and patient, ids and
state only, no finding and no name; it is closed when the study is signed (`chart_findings`) or
linked to somebody else. Approved by: nobody, as nothing of the models is in it.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import patient, study, workflow_case
from node.domain import jobs
from node.domain.study import MatchState, StudyState
from node.engine import RESULTS, DurableEngine
from node.rollout.showing import places_of, read_showing
from orchestration.flags import closing_commands, flag_key
from pms_writeback import notes, outbox
from pms_writeback.command_rows import Lane
from pms_writeback.payload import DocumentStore
from pms_writeback.pms import CreateTask

_WORKFLOW = "flag_study"


def sweep(
    db: sa.Engine, engine: DurableEngine, store: DocumentStore, actor: Actor, config: Config
) -> int:
    """Flag every ready study that has no task yet; returns how many. Safe to repeat."""
    with read(db) as conn:
        showing = read_showing(conn, config)
        if not showing.is_anywhere:
            return 0
        waiting = conn.execute(_unflagged(actor.location_id)).all()
        places = places_of(conn, [row.id for row in waiting])
    waiting = [row for row in waiting if showing.at(places[row.id]).is_any]
    for row in waiting:
        with begin(db, actor, "study.flagged") as tx:
            _flag(tx, engine, store, row, config)
    return len(waiting)


def _still_waits(tx: Tx, row: sa.Row) -> bool:  # type: ignore[type-arg]
    """Look again under a lock: the study may have been signed or linked elsewhere meanwhile."""
    now = tx.conn.execute(
        sa.select(study.c.state, study.c.patient_id, study.c.match_state, study.c.generation)
        .where(study.c.id == row.id)
        .with_for_update()
    ).one()
    return bool(
        now.state == StudyState.READY.value
        and now.patient_id == row.patient_id
        and now.generation == row.generation
        and MatchState(now.match_state).is_certain
    )


def _unflagged(location_id: str) -> sa.Select:  # type: ignore[type-arg]
    # SQLAlchemy's Select is generic over its columns.
    flagged = (
        sa.select(workflow_case.c.id)
        .where(
            workflow_case.c.location_id == location_id,
            workflow_case.c.workflow == _WORKFLOW,
            workflow_case.c.key
            == study.c.id
            + sa.literal(":")
            + sa.cast(study.c.generation, sa.String)
            + sa.literal(":")
            + study.c.patient_id,
        )
        .exists()
    )
    certain = [state.value for state in MatchState if state.is_certain]
    return (
        sa.select(
            study.c.id,
            study.c.generation,
            study.c.accession_number,
            study.c.patient_id,
            patient.c.pms_key,
        )
        .join(patient, patient.c.id == study.c.patient_id)
        .where(
            study.c.location_id == location_id,
            study.c.state == StudyState.READY.value,
            sa.not_(study.c.is_prior),
            study.c.match_state.in_(certain),
            sa.not_(flagged),
        )
    )


def _flag(
    tx: Tx,
    engine: DurableEngine,
    store: DocumentStore,
    row: sa.Row,  # type: ignore[type-arg]
    config: Config,
) -> None:
    if not _still_waits(tx, row):
        return
    case = {
        "id": new_id(),
        "location_id": tx.location_id,
        "workflow": _WORKFLOW,
        "key": f"{row.id}:{row.generation}:{row.patient_id}",
        "state": "flagged",
        "data": {"study_id": row.id, "generation": row.generation},
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    if not insert_once(tx.conn, workflow_case, case):
        return
    tx.record(f"study:{row.id}", generation=row.generation)
    if config.pms.kind != "none":
        _queue_task(tx, engine, store, row)
    engine.enqueue(
        tx.conn,
        RESULTS,
        jobs.PUBLISH_RESULTS,
        jobs.publish_key(row.id, 0, row.generation),
        row.id,
        0,
        row.generation,
    )


def _queue_task(
    tx: Tx,
    engine: DurableEngine,
    store: DocumentStore,
    row: sa.Row,  # type: ignore[type-arg]
) -> None:
    for patient_id, key, command in closing_commands(tx.conn, row.id, but_of=row.patient_id):
        outbox.queue(
            tx, engine, store, key=key, command=command, patient_id=patient_id, study_id=row.id
        )
    key = flag_key(row.id, row.generation, row.patient_id)
    ref = outbox.ref_for(tx.location_id, key)
    text = notes.review_task(row.accession_number, ref)
    outbox.queue(
        tx,
        engine,
        store,
        key=key,
        command=CreateTask(patient_key=row.pms_key, text=text, ref=ref),
        patient_id=row.patient_id,
        study_id=row.id,
        lane=Lane.WORKFLOW,
    )
