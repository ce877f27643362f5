"""Legal hold: while one stands on a patient or a study, nothing of theirs is given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id
from node.db.tables import legal_hold, patient, study
from node.errors import InvalidInput, NotFound, Rejected


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold, on a patient or on a study."""

    id: str
    patient_id: str | None
    study_id: str | None
    reason: str
    placed_by: str
    placed_at: datetime
    released_at: datetime | None


def place_hold(
    db: sa.Engine, actor: Actor, reason: str, *, patient_key: str = "", study_uid: str = ""
) -> str:
    """Place a hold on one patient (by the key of the practice's system) or one study (by its UID).

    What is being purged at this moment and still lies here stays. Returns the hold's id. Raises
    NotFound for an unknown patient or study, InvalidInput without a reason or with both or neither.
    """
    if bool(patient_key) == bool(study_uid):
        raise InvalidInput("a hold is on a patient or on a study")
    if not reason.strip():
        raise InvalidInput("a hold needs a reason")
    with begin(db, actor, "hold.placed") as tx:
        table, column, key = (
            (patient, patient.c.pms_key, patient_key)
            if patient_key
            else (study, study.c.study_instance_uid, study_uid)
        )
        query = sa.select(table.c.id).where(table.c.location_id == tx.location_id, column == key)
        subject = tx.conn.execute(query.with_for_update()).scalar()
        if subject is None:
            raise NotFound(f"there is no such {table.name} at this location")
        hold_id = new_id()
        tx.conn.execute(
            legal_hold.insert().values(
                id=hold_id,
                location_id=tx.location_id,
                patient_id=subject if patient_key else None,
                study_id=None if patient_key else subject,
                reason=reason.strip()[:255],
                placed_by=actor.name,
                placed_at=tx.now,
            )
        )
        tx.record(f"{table.name}:{subject}", hold=hold_id)
    return hold_id


def release_hold(db: sa.Engine, actor: Actor, hold_id: str, reason: str) -> None:
    """End a hold. Raises NotFound, Rejected when it ended already, InvalidInput without reason."""
    if not reason.strip():
        raise InvalidInput("a hold ends for a reason")
    with begin(db, actor, "hold.released") as tx:
        mine = legal_hold.c.id == hold_id, legal_hold.c.location_id == tx.location_id
        row = tx.conn.execute(sa.select(legal_hold.c.released_at).where(*mine)).first()
        if row is None:
            raise NotFound("there is no such hold at this location")
        if row.released_at is not None:
            raise Rejected("this hold has ended already")
        tx.conn.execute(
            legal_hold.update()
            .where(*mine)
            .values(released_at=tx.now, released_by=actor.name, release_reason=reason.strip()[:255])
        )
        tx.record(f"hold:{hold_id}")


def holds(conn: sa.Connection, location_id: str) -> Sequence[Hold]:
    """List a location's holds, the newest first, ended ones included."""
    rows = conn.execute(
        sa.select(
            *(legal_hold.c[name] for name in ("id", "patient_id", "study_id", "reason")),
            *(legal_hold.c[name] for name in ("placed_by", "placed_at", "released_at")),
        )
        .where(legal_hold.c.location_id == location_id)
        .order_by(legal_hold.c.placed_at.desc(), legal_hold.c.id)
    )
    return [Hold(**row._mapping) for row in rows]


def is_held(conn: sa.Connection, study_id: str, *, locks: bool = False) -> bool:
    """Tell whether a hold stands on a study or on whose it is.

    With ``locks`` both rows stay locked, so that no hold comes between the look and what follows
    in the same transaction.
    """
    query = sa.select(study.c.patient_id).where(study.c.id == study_id)
    patient_id = conn.execute(query.with_for_update() if locks else query).scalar()
    if locks and patient_id is not None:
        row = sa.select(patient.c.id).where(patient.c.id == patient_id)
        conn.execute(row.with_for_update())
    subjects = [legal_hold.c.study_id == study_id]
    if patient_id is not None:
        subjects.append(legal_hold.c.patient_id == patient_id)
    standing = sa.select(legal_hold.c.id).where(
        legal_hold.c.released_at.is_(None), sa.or_(*subjects)
    )
    return conn.execute(standing.limit(1)).first() is not None
