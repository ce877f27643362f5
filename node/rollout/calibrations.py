"""Versions of calibration: proposed, decided by the clinical lead, rolled back; never by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from node.db.session import Tx, new_id
from node.db.tables import calibration_version
from node.domain.plain_json import decode, encode
from node.domain.recalibration import ApprovedCalibration, CalibrationContent
from node.errors import NotFound, Rejected


class CalibrationState(StrEnum):
    """Where a version stands; an ended one may be approved again, which is a roll-back."""

    PROPOSED = "proposed"
    REFUSED = "refused"
    APPROVED = "approved"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class CalibrationVersion:
    """One version as it is kept; people are user ids or parts of the program."""

    version: int
    state: CalibrationState
    content: CalibrationContent
    made_by: str
    made_at: datetime
    decided_by: str
    decided_at: datetime | None
    reason: str


def propose(tx: Tx, content: CalibrationContent) -> int:
    """Keep a proposal; return its version. Nothing is applied."""
    last = tx.conn.execute(
        sa.select(sa.func.max(calibration_version.c.version)).where(_here(tx))
    ).scalar()
    version = int(last or 0) + 1
    tx.conn.execute(
        calibration_version.insert().values(
            id=new_id(),
            location_id=tx.location_id,
            version=version,
            state=CalibrationState.PROPOSED.value,
            content=encode(content),
            made_by=tx.actor.name,
            made_at=tx.now,
        )
    )
    tx.record(f"calibration:{version}", kinds=len(content.kinds))
    return version


def approve(tx: Tx, version: int, reason: str) -> None:
    """Let a version hold from the next image on; the one that held ends.

    Raises
    ------
    Rejected
        It was refused, holds already, or says nothing.
    NotFound
        There is no such version here.
    """
    row = _row(tx, version)
    if row.state not in (CalibrationState.PROPOSED.value, CalibrationState.ENDED.value):
        raise Rejected(f"calibration {version} is {row.state} and cannot be approved")
    if not decode(CalibrationContent, row.content).kinds:
        raise Rejected(f"calibration {version} changes nothing")
    _decide(tx, CalibrationState.APPROVED, CalibrationState.ENDED, f"version {version} followed")
    _set(tx, version, CalibrationState.APPROVED, reason)


def refuse(tx: Tx, version: int, reason: str) -> None:
    """Put a proposal aside for good. Raises Rejected, NotFound."""
    if _row(tx, version).state != CalibrationState.PROPOSED.value:
        raise Rejected(f"calibration {version} is no open proposal")
    _set(tx, version, CalibrationState.REFUSED, reason)


def end(tx: Tx, reason: str) -> int:
    """Go back to the networks' own probabilities; return how many versions ended (0 or 1)."""
    done = _decide(tx, CalibrationState.APPROVED, CalibrationState.ENDED, reason)
    tx.record("calibration", ended=done)
    return done


def approved(conn: sa.Connection, location_id: str) -> ApprovedCalibration | None:
    """Read the version that holds now; None when the networks' own probabilities do."""
    row = conn.execute(
        sa.select(calibration_version.c.version, calibration_version.c.content).where(
            calibration_version.c.location_id == location_id,
            calibration_version.c.state == CalibrationState.APPROVED.value,
        )
    ).first()
    return (
        ApprovedCalibration(row.version, decode(CalibrationContent, row.content)) if row else None
    )


def versions(conn: sa.Connection, location_id: str) -> Sequence[CalibrationVersion]:
    """Read every version, the latest first."""
    rows = conn.execute(
        sa.select(calibration_version)
        .where(calibration_version.c.location_id == location_id)
        .order_by(calibration_version.c.version.desc())
    )
    return [
        CalibrationVersion(
            row.version, CalibrationState(row.state), decode(CalibrationContent, row.content),
            row.made_by, row.made_at, row.decided_by, row.decided_at, row.reason,
        )
        for row in rows
    ]  # fmt: skip


def _here(tx: Tx) -> sa.ColumnElement[bool]:
    return calibration_version.c.location_id == tx.location_id


def _row(tx: Tx, version: int) -> sa.Row:  # type: ignore[type-arg]
    # SQLAlchemy's Row is generic over its columns.
    row = tx.conn.execute(
        sa.select(calibration_version).where(_here(tx), calibration_version.c.version == version)
    ).first()
    if row is None:
        raise NotFound(f"there is no calibration {version} here")
    return row


def _set(tx: Tx, version: int, state: CalibrationState, reason: str) -> None:
    tx.conn.execute(
        calibration_version.update()
        .where(_here(tx), calibration_version.c.version == version)
        .values(state=state.value, decided_by=tx.actor.name, decided_at=tx.now, reason=reason[:255])
    )
    tx.record(f"calibration:{version}", state=state.value, reason=reason[:255])


def _decide(tx: Tx, old: CalibrationState, new: CalibrationState, reason: str) -> int:
    return tx.conn.execute(
        calibration_version.update()
        .where(_here(tx), calibration_version.c.state == old.value)
        .values(state=new.value, decided_by=tx.actor.name, decided_at=tx.now, reason=reason[:255])
    ).rowcount
