"""When a study is complete and when it is ready to be read; driven by rows, safe to repeat."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, read
from node.db.tables import instance, study
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import InstanceState, StudyState
from node.engine import ANALYSIS, STUDIES, DurableEngine


def complete_quiet_studies(
    db: sa.Engine, engine: DurableEngine, actor: Actor, quiet_s: float, now: datetime
) -> int:
    """Mark studies complete that have received nothing for `quiet_s` seconds; return how many."""
    with read(db) as conn:
        quiet = conn.execute(
            sa.select(study.c.id, study.c.generation).where(
                study.c.location_id == actor.location_id,
                study.c.state == StudyState.RECEIVING.value,
                study.c.last_image_at <= now - timedelta(seconds=quiet_s),
            )
        ).all()
    for row in quiet:
        _complete(db, engine, actor, row.id, row.generation, quiet_s)
    return len(quiet)


def _complete(
    db: sa.Engine,
    engine: DurableEngine,
    actor: Actor,
    study_id: str,
    generation: int,
    quiet_s: float,
) -> None:
    with begin(db, actor, "study.completed") as tx:
        changed = tx.conn.execute(
            study.update()
            .where(
                study.c.id == study_id,
                study.c.state == StudyState.RECEIVING.value,
                study.c.generation == generation,
                study.c.last_image_at <= tx.now - timedelta(seconds=quiet_s),
            )
            .values(state=StudyState.COMPLETE.value, completed_at=tx.now)
        ).rowcount
        tx.record(f"study:{study_id}", generation=generation, changed=changed)
        if not changed:
            return
        tx.append_event(EventKind.STUDY_COMPLETED, study_id, f"completed:{study_id}:{generation}")
        engine.enqueue(
            tx.conn,
            STUDIES,
            jobs.FINISH_STUDY,
            jobs.finish_key(study_id, generation),
            study_id,
            generation,
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


def requeue_forgotten_images(
    db: sa.Engine, engine: DurableEngine, actor: Actor, older_than: datetime
) -> int:
    """Queue the analysis of images that wait without one; the key makes a repeat harmless.

    Store and queue commit together, so this finds something only after a restore from a backup.
    """
    with read(db) as conn:
        waiting = list(
            conn.execute(
                sa.select(instance.c.id).where(
                    instance.c.location_id == actor.location_id,
                    instance.c.state == InstanceState.RECEIVED.value,
                    instance.c.received_at < older_than,
                )
            ).scalars()
        )
    lost = [image for image in waiting if engine.status(jobs.analyse_key(image)) is None]
    if lost:
        with begin(db, actor, "analysis.requeued") as tx:
            for image in lost:
                engine.enqueue(
                    tx.conn, ANALYSIS, jobs.ANALYSE_IMAGE, jobs.analyse_key(image), image
                )
            tx.record("instances", count=len(lost))
    return len(lost)
