"""What a location says of itself to whoever runs many: states and numbers, no patient data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from node import __version__
from node.db import switches
from node.db.migrate import current_revision
from node.db.session import read
from node.db.tables import (
    instance,
    object_copy,
    pms_command,
    study,
    workflow_case,
)
from node.disk import disk_of
from node.domain.study import InstanceState, MatchState, StudyState
from node.expiry import find_expiries
from node.objects.copies import CopyState
from node.status import Status, backup_at
from node.web.health import health_of
from node.web.shapes import Part
from orchestration.cases import CaseState
from pms_writeback.command_rows import CommandState
from pms_writeback.sync import read_status

_SENSORS_SEEN = timedelta(days=30)
_COUNTED: dict[str, tuple[sa.Column[str], tuple[StrEnum, ...]]] = {
    "to review": (study.c.state, (StudyState.READY,)),
    "patient in doubt": (
        study.c.match_state,
        (MatchState.SUGGESTED, MatchState.AMBIGUOUS, MatchState.UNMATCHED),
    ),
    "images failed": (instance.c.state, (InstanceState.FAILED, InstanceState.UNREADABLE)),
    "writes waiting": (
        pms_command.c.state,
        (CommandState.QUEUED, CommandState.SENDING, CommandState.UNKNOWN),
    ),
    "writes stopped": (pms_command.c.state, (CommandState.FAILED, CommandState.HELD)),
    "waiting for the bucket": (object_copy.c.state, (CopyState.WAITING,)),
    "lost or damaged": (object_copy.c.state, (CopyState.DAMAGED,)),
    "decisions waiting": (workflow_case.c.state, (CaseState.ASKING,)),
    "cases stopped": (workflow_case.c.state, (CaseState.PARKED,)),
}


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer office may say more


class Sensor(_Shape):
    """One sender of images and when it last sent one."""

    ae_title: str = Field(max_length=16)
    last_image_at: datetime
    images: int = Field(ge=0)


class Certificate(_Shape):
    """One certificate in use; no moment when it cannot be read."""

    name: str = Field(max_length=120)
    expires_at: datetime | None


class LocationReport(_Shape):
    """One location at one moment; times are UTC, sizes bytes, sensors' images of thirty days."""

    location_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    practice_name: str = Field(max_length=200)
    version: str = Field(max_length=40)
    revision: str = Field(max_length=40)
    made_at: datetime
    status: str = Field(pattern="^(ok|degraded|failing)$")
    is_paused: bool
    parts: tuple[Part, ...] = Field(max_length=50)
    sensors: tuple[Sensor, ...] = Field(max_length=200)
    certificates: tuple[Certificate, ...] = Field(max_length=200)
    queues: dict[str, int] = Field(max_length=50)
    free_bytes: int = Field(ge=0)
    synced_at: datetime | None
    backup_at: datetime | None


def compose_report(status: Status) -> LocationReport:
    """Say how this location stands now."""
    db, config = status.db, status.config
    now, location_id = datetime.now(UTC), config.node.location_id
    health = health_of(status.probes())
    with read(db) as conn:
        synced_at = read_status(conn, config, now).last_ok_at if config.pms.kind != "none" else None
        return LocationReport(
            location_id=location_id,
            practice_name=config.node.practice_name,
            version=__version__,
            revision=current_revision(db) or "",
            made_at=now,
            status=health.status,
            is_paused=switches.is_paused(conn, location_id, [switches.OUTBOUND]),
            parts=health.parts,
            sensors=tuple(_sensors(conn, location_id, now)),
            certificates=tuple(
                Certificate(name=each.name, expires_at=each.expires_at)
                for each in find_expiries(config, db)
            ),
            queues=_queues(conn, location_id),
            free_bytes=disk_of(config).look().free_bytes,
            synced_at=synced_at,
            backup_at=backup_at(conn, location_id),
        )


def _sensors(conn: sa.Connection, location_id: str, now: datetime) -> list[Sensor]:
    rows = conn.execute(
        sa.select(
            instance.c.sender_ae_title,
            sa.func.max(instance.c.received_at),
            sa.func.count(),
        )
        .where(
            instance.c.location_id == location_id,
            instance.c.received_at > now - _SENSORS_SEEN,
            instance.c.sender_ae_title != "",
        )
        .group_by(instance.c.sender_ae_title)
        .order_by(instance.c.sender_ae_title)
    )
    return [Sensor(ae_title=title, last_image_at=last, images=count) for title, last, count in rows]


def _queues(conn: sa.Connection, location_id: str) -> dict[str, int]:
    """Count what waits for a person or has stopped."""
    return {
        name: conn.execute(
            sa.select(sa.func.count()).where(
                column.table.c.location_id == location_id,
                column.in_([state.value for state in states]),
            )
        ).scalar_one()
        for name, (column, states) in _COUNTED.items()
    }
