"""Pixels that were given up here and that an archive holds: who has them, and wanting them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, new_id, read, upsert
from node.db.tables import instance, pixel_fetch, pixel_purge
from node.dicom.held import Held
from node.errors import Retryable

_COME_AGAIN_S = 10.0


class PurgeState(StrEnum):
    """Where one image's purge stands."""

    PURGING = "purging"  # the tombstone stands, the file may still lie there
    PURGED = "purged"
    RESTORED = "restored"  # fetched again


class FetchState(StrEnum):
    """Where fetching a study again stands."""

    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


#: In these states the pixels are not here.
GONE = (PurgeState.PURGING.value, PurgeState.PURGED.value)


@dataclass(frozen=True, slots=True)
class Purged:
    """One image whose pixels are not here; ``holder`` is the archive's name."""

    instance_id: str
    study_id: str
    holder: str

    @property
    def words(self) -> str:
        """Say it to a person or a peer."""
        return f"The pixels were purged here and are held by {self.holder}."


def find_purged(conn: sa.Connection, study_ids: Iterable[str]) -> dict[str, Purged]:
    """Find which images of these studies are not here, by their ids."""
    rows = conn.execute(
        sa.select(pixel_purge.c.instance_id, instance.c.study_id, pixel_purge.c.holder)
        .join(instance, instance.c.id == pixel_purge.c.instance_id)
        .where(instance.c.study_id.in_(set(study_ids)), pixel_purge.c.state.in_(GONE))
    )
    return {row.instance_id: Purged(*row) for row in rows}


def demand_present(db: sa.Engine, actor: Actor, objects: Sequence[Held]) -> None:
    """Have what was purged fetched again, and refuse until it is here.

    Raises Retryable, naming the archive that holds it.
    """
    absent = {each.study_id for each in objects if not each.path.is_file()}
    if absent:
        refuse_purged(db, actor, absent)


def refuse_purged(db: sa.Engine, actor: Actor, study_ids: Iterable[str]) -> None:
    """Want back what was purged of these studies, and raise Retryable; nothing purged: return."""
    with read(db) as conn:
        gone = list(find_purged(conn, study_ids).values())
    if not gone:
        return
    for study_id in sorted({each.study_id for each in gone}):
        want_back(db, actor, study_id)
    raise Retryable(f"{gone[0].words} They are being fetched; ask again soon.", _COME_AGAIN_S)


def want_back(db: sa.Engine, actor: Actor, study_id: str) -> bool:
    """Queue a study's purged pixels to be fetched again; False when nothing is to be queued."""
    with read(db) as conn:
        if not find_purged(conn, [study_id]) or _is_queued(conn, study_id):
            return False
    with begin(db, actor, "pixels.wanted") as tx:
        queue_fetch(tx, study_id)
        tx.record(f"study:{study_id}")
    return True


def queue_fetch(tx: Tx, study_id: str) -> None:
    """Queue a study's purged pixels inside a transaction; the same again begins anew."""
    values = {
        "id": new_id(),
        "location_id": tx.location_id,
        "study_id": study_id,
        "state": FetchState.QUEUED.value,
        "attempts": 0,
        "error": "",
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    upsert(tx.conn, pixel_fetch, ("study_id",), values)


def mark_restored(tx: Tx, instance_id: str) -> None:
    """Write down that an image's pixels lie here again."""
    tx.conn.execute(
        pixel_purge.update()
        .where(pixel_purge.c.instance_id == instance_id)
        .values(state=PurgeState.RESTORED.value, restored_at=tx.now)
    )


def _is_queued(conn: sa.Connection, study_id: str) -> bool:
    state = conn.execute(
        sa.select(pixel_fetch.c.state).where(pixel_fetch.c.study_id == study_id)
    ).scalar()
    return state == FetchState.QUEUED.value
