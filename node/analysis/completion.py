"""When a study is complete and when it is ready to be read; driven by rows, safe to repeat."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from node.analysis.arrivals import CompleteBy, Patience, complete_by
from node.analysis.findings import store_failure
from node.db.session import Actor, Tx, begin, read
from node.db.tables import event, instance, study, study_reading
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import InstanceState, MatchState, StudyState
from node.engine import ANALYSIS, STUDIES, DurableEngine

#: The engine's words for runs that it will not go on with.
_BROKEN = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def complete_studies(
    db: sa.Engine, engine: DurableEngine, actor: Actor, patience: Patience, now: datetime
) -> int:
    """Mark the studies complete whose images are all here; return how many."""
    with read(db) as conn:
        open_ones = conn.execute(
            sa.select(study).where(
                study.c.location_id == actor.location_id,
                study.c.state == StudyState.RECEIVING.value,
            )
        ).all()
        due = [(row, complete_by(conn, row, patience, now)) for row in open_ones]
    found = [(row, by) for row, by in due if by is not None]
    for row, by in found:
        _complete(db, engine, actor, row, by)
    return len(found)


def _complete(
    db: sa.Engine,
    engine: DurableEngine,
    actor: Actor,
    row: sa.Row[tuple[object, ...]],
    by: CompleteBy,
) -> None:
    with begin(db, actor, "study.completed") as tx:
        changed = tx.conn.execute(
            study.update()
            .where(
                study.c.id == row.id,
                study.c.state == StudyState.RECEIVING.value,
                study.c.generation == row.generation,
                study.c.last_image_at == row.last_image_at,  # nothing came since it was looked at
            )
            .values(state=StudyState.COMPLETE.value, completed_at=tx.now)
        ).rowcount
        tx.record(f"study:{row.id}", generation=row.generation, changed=changed, by=by.value)
        if not changed:
            return
        key = f"completed:{row.id}:{row.generation}"
        tx.append_event(EventKind.STUDY_COMPLETED, row.id, key, {"by": by.value})
        engine.enqueue(
            tx.conn,
            STUDIES,
            jobs.FINISH_STUDY,
            jobs.finish_key(row.id, row.generation),
            row.id,
            row.generation,
        )


def make_ready(tx: Tx, study_id: str) -> bool:
    """Turn a complete study READY when none of its images is waiting any more."""
    waiting = (
        sa.select(instance.c.id)
        .where(instance.c.study_id == study_id, instance.c.state == InstanceState.RECEIVED.value)
        .exists()
    )
    generation = tx.conn.execute(
        study.update()
        .where(study.c.id == study_id, study.c.state == StudyState.COMPLETE.value, sa.not_(waiting))
        .values(state=StudyState.READY.value)
        .returning(study.c.generation)
    ).scalar()
    if generation is None:
        return False
    tx.append_event(EventKind.STUDY_READY, study_id, f"ready:{study_id}:{generation}")
    return True


def reread_stale_studies(db: sa.Engine, engine: DurableEngine, actor: Actor) -> int:
    """Queue the reading of unsigned finished studies whose patient or images it does not fit.

    Once for each patient and generation: what fails is not tried for ever. Returns how many.
    """
    is_stale = sa.or_(
        study_reading.c.study_id.is_(None),
        study_reading.c.generation != study.c.generation,
        study_reading.c.patient_id.is_distinct_from(_certain_patient()),
    )
    with read(db) as conn:
        stale = conn.execute(
            sa.select(study.c.id, study.c.generation, study.c.patient_id)
            .outerjoin(study_reading, study_reading.c.study_id == study.c.id)
            .where(
                study.c.location_id == actor.location_id,
                study.c.state == StudyState.READY.value,
                is_stale,
            )
        ).all()
    keys = [(jobs.reread_key(row.id, row.generation, row.patient_id), row) for row in stale]
    due = [(key, row) for key, row in keys if engine.status(key) is None]
    if due:
        with begin(db, actor, "study.reread") as tx:
            for key, row in due:
                engine.enqueue(tx.conn, STUDIES, jobs.FINISH_STUDY, key, row.id, row.generation)
            tx.record("studies", count=len(due))
    return len(due)


def _certain_patient() -> sa.ColumnElement[str | None]:
    certain = [state.value for state in MatchState if state.is_certain]
    return sa.case((study.c.match_state.in_(certain), study.c.patient_id), else_=sa.null())


def requeue_forgotten_images(
    db: sa.Engine, engine: DurableEngine, actor: Actor, older_than: datetime
) -> int:
    """Queue the analysis of images that wait without one; the key makes a repeat harmless.

    Store and queue commit together, so this finds something only after a restore from a backup.
    An image whose run broke off by an error of ours is marked failed, so that its study goes on
    and a person can try again. Returns how many images were queued.
    """
    lost: list[tuple[str, int]] = []
    for image_id, study_id, attempt in _long_waiting(db, actor, older_than):
        status = engine.status(jobs.analyse_key(image_id, attempt))
        if status is None:
            lost.append((image_id, attempt))
        elif status in _BROKEN:
            _mark_broken(db, actor, image_id, study_id)
    if lost:
        with begin(db, actor, "analysis.requeued") as tx:
            for image_id, attempt in lost:
                key = jobs.analyse_key(image_id, attempt)
                engine.enqueue(tx.conn, ANALYSIS, jobs.ANALYSE_IMAGE, key, image_id)
            tx.record("instances", count=len(lost))
    return len(lost)


def _long_waiting(db: sa.Engine, actor: Actor, older_than: datetime) -> list[tuple[str, str, int]]:
    """Read image, study and number of the run of what waits; one event ends each try."""
    tries = (
        sa.select(sa.func.count())
        .where(
            event.c.location_id == actor.location_id,
            event.c.kind == EventKind.IMAGE_ANALYSED.value,
            event.c.subject == instance.c.id,
        )
        .scalar_subquery()
    )
    with read(db) as conn:
        rows = conn.execute(
            sa.select(instance.c.id, instance.c.study_id, tries.label("attempt")).where(
                instance.c.location_id == actor.location_id,
                instance.c.state == InstanceState.RECEIVED.value,
                instance.c.received_at < older_than,
            )
        ).all()
    return [(row.id, row.study_id, row.attempt) for row in rows]


def _mark_broken(db: sa.Engine, actor: Actor, image_id: str, study_id: str) -> None:
    reason = "the analysis broke off by an error of the node; try it again"
    store_failure(db, actor, image_id, InstanceState.FAILED, reason)
    with begin(db, actor, "study.finished") as tx:
        tx.record(f"study:{study_id}", ready=make_ready(tx, study_id))
