"""What was hidden from a signer, kept as it stood when they signed.

A later analysis or a later rule changes nothing of it: the comparison with the dentist stands on
what the models said then, and on which kinds the dentist truly did not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.session import Tx, insert_once
from node.db.tables import silent_reading
from node.domain.findings import FindingKind
from node.domain.plain_json import decode, encode
from node.domain.review import Json
from node.rollout.showing import StudyShowing

# SQLAlchemy's Row is generic over its columns, which differ from query to query.
Row = sa.Row


@dataclass(frozen=True, slots=True)
class Said:
    """One suggestion that nobody saw."""

    kind: str
    tooth: str
    surfaces: str


@dataclass(frozen=True, slots=True)
class SilentImage:
    """One image: which kinds were silent on it, and what was said of them."""

    id: str
    view: str
    silent: tuple[str, ...]
    said: tuple[Said, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SilentReading:
    """The images of one signed version."""

    study_id: str
    version: int
    images: tuple[SilentImage, ...]


def keep(
    tx: Tx,
    study_id: str,
    version: int,
    showing: StudyShowing,
    hidden: Iterable[Row],
    runs: Mapping[str, Row],
) -> None:
    """Keep what a signer did not see; `runs` are the images' analyses as rows."""
    rows = list(hidden)
    images = tuple(
        SilentImage(
            image_id,
            run.view or "",
            tuple(kind.value for kind in FindingKind if not _is_seen(showing, kind, run)),
            tuple(
                Said(row.kind, row.tooth or "", row.surfaces or "")
                for row in rows
                if row.instance_id == image_id
            ),
            tuple(f"{model['name']} {model['version']}" for model in run.models),
        )
        for image_id, run in runs.items()
    )
    if not any(image.silent for image in images):
        return
    values = {
        "study_id": study_id,
        "version": version,
        "location_id": tx.location_id,
        "content": encode(images),
        "at": tx.now,
    }
    insert_once(tx.conn, silent_reading, values)


def first_readings(conn: sa.Connection, location_id: str) -> list[SilentReading]:
    """Read what was hidden at the first signature of each study."""
    rows = conn.execute(
        sa.select(silent_reading)
        .where(silent_reading.c.location_id == location_id, silent_reading.c.version == 1)
        .order_by(silent_reading.c.at, silent_reading.c.study_id)
    )
    return [SilentReading(row.study_id, row.version, _images(row.content)) for row in rows]


def _images(content: Iterable[Json]) -> tuple[SilentImage, ...]:
    return tuple(decode(SilentImage, each) for each in content)


def _is_seen(showing: StudyShowing, kind: FindingKind, run: Row) -> bool:
    return any(showing.shows(kind.value, run.view, model) for model in run.models)
