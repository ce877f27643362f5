"""Automatic entries: low-risk tags written down without a person, each marked to be verified.

A tag in ``auto`` is entered once for each image or series, with the networks that said it. People
verify on the page; a part drawn by chance is asked for, and its errors estimate those of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, read
from node.db.tables import (
    analysis_run,
    auto_entry,
    instance,
    rollout_rule,
    study,
    study_reading,
)
from node.domain.findings import Orientation
from node.domain.image_json import orientation_from_json
from node.domain.intervals import wilson
from node.domain.reading import StudyReading
from node.domain.rollout import Area, RollMode, Subject, Tag
from node.errors import NotFound, Rejected
from node.rollout.showing import StudyShowing, places_of, read_showing

_BATCH = 50
# SQLAlchemy's Row is generic over its columns, which differ from query to query.
Row = sa.Row


class EntryState(StrEnum):
    """What became of an automatic entry."""

    ENTERED = "entered"
    RIGHT = "right"
    WRONG = "wrong"
    WITHDRAWN = "withdrawn"  # the models said something else later, before anybody looked


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """How many of the drawn entries of a tag were wrong, with the 95 % interval."""

    tag: str
    entered: int
    drawn: int
    decided: int
    wrong: int
    low: float | None
    high: float | None


def enter_due(db: sa.Engine, config: Config) -> int:
    """Enter what the rules let be automatic for studies read since; returns how many entries."""
    with read(db) as conn:
        showing = read_showing(conn, config)
        since = _automatic_since(conn, config.node.location_id)
        if since is None or showing.is_held:
            return 0
        due = _due(conn, config.node.location_id, since)
        places = places_of(conn, [row.id for row in due])
    entered = 0
    for row in due:
        actor = Actor("auto", config.node.location_id)
        with begin(db, actor, "auto.entered") as tx:
            made = _enter(tx, row, showing.at(places[row.id]), config.rollout.auto_sample)
            tx.record(f"study:{row.id}", entries=made)
        entered += made
    return entered


def waiting(conn: sa.Connection, location_id: str, most: int = 200) -> Sequence[Row]:
    """Read what nobody has verified, the drawn ones first."""
    return conn.execute(
        sa.select(auto_entry)
        .where(
            auto_entry.c.location_id == location_id,
            auto_entry.c.state == EntryState.ENTERED.value,
            auto_entry.c.value != "",
        )
        .order_by(auto_entry.c.is_sampled.desc(), auto_entry.c.entered_at, auto_entry.c.id)
        .limit(most)
    ).all()


def verify(tx: Tx, entry_id: str, is_right: bool) -> None:
    """Say that an entry is right or wrong; the same again has no effect.

    Raises NotFound, Rejected when somebody said the opposite or it was withdrawn.
    """
    state = EntryState.RIGHT if is_right else EntryState.WRONG
    row = tx.conn.execute(
        sa.select(auto_entry).where(
            auto_entry.c.id == entry_id, auto_entry.c.location_id == tx.location_id
        )
    ).first()
    if row is None:
        raise NotFound("There is no such automatic entry.")
    tx.record(f"auto:{entry_id}", state=state.value, tag=row.tag)
    if row.state == state.value:
        return
    if row.state != EntryState.ENTERED.value:
        raise Rejected(f"This entry is {row.state} already.")
    tx.conn.execute(
        auto_entry.update()
        .where(auto_entry.c.id == entry_id)
        .values(state=state.value, decided_by=tx.actor.name, decided_at=tx.now)
    )


def error_rates(conn: sa.Connection, location_id: str) -> tuple[ErrorRate, ...]:
    """Estimate for each tag how often automatic entries are wrong, from the drawn ones."""
    counts: dict[str, dict[tuple[bool, str], int]] = {}
    for row in conn.execute(
        sa.select(auto_entry.c.tag, auto_entry.c.is_sampled, auto_entry.c.state, sa.func.count())
        .where(auto_entry.c.location_id == location_id, auto_entry.c.value != "")
        .group_by(auto_entry.c.tag, auto_entry.c.is_sampled, auto_entry.c.state)
    ):
        counts.setdefault(row[0], {})[(bool(row[1]), row[2])] = row[3]
    return tuple(_rate(tag, by) for tag, by in sorted(counts.items()))


def _rate(tag: str, by: Mapping[tuple[bool, str], int]) -> ErrorRate:
    wrong = by.get((True, EntryState.WRONG.value), 0)
    decided = wrong + by.get((True, EntryState.RIGHT.value), 0)
    low, high = wilson(wrong, decided) if decided else (None, None)
    drawn = sum(count for (is_sampled, _), count in by.items() if is_sampled)
    return ErrorRate(tag, sum(by.values()), drawn, decided, wrong, low, high)


def _automatic_since(conn: sa.Connection, location_id: str) -> datetime | None:
    """When the oldest standing rule that makes something automatic was set."""
    return conn.execute(
        sa.select(sa.func.min(rollout_rule.c.set_at)).where(
            rollout_rule.c.location_id == location_id,
            rollout_rule.c.ended_at.is_(None),
            sa.not_(rollout_rule.c.is_ceiling),
            rollout_rule.c.mode == RollMode.AUTO.value,
        )
    ).scalar()


def _due(conn: sa.Connection, location_id: str, since: datetime) -> Sequence[Row]:
    """Find studies whose reading is newer than what was entered of them."""
    newest = (
        sa.select(sa.func.max(auto_entry.c.entered_at))
        .where(auto_entry.c.study_id == study.c.id)
        .scalar_subquery()
    )
    return conn.execute(
        sa.select(study.c.id, study.c.generation, study_reading.c.content)
        .join(study_reading, study_reading.c.study_id == study.c.id)
        .where(
            study.c.location_id == location_id,
            study_reading.c.computed_at >= since,
            sa.or_(newest.is_(None), newest < study_reading.c.computed_at),
        )
        .order_by(study_reading.c.computed_at)
        .limit(_BATCH)
    ).all()


def _enter(tx: Tx, row: Row, showing: StudyShowing, share: float) -> int:
    """Enter what a study's reading says; what was said otherwise before is withdrawn."""
    runs = tx.conn.execute(
        sa.select(analysis_run)
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id == row.id)
        .order_by(analysis_run.c.finished_at)
    ).all()
    latest = {run.instance_id: run for run in runs}
    models = sorted({f"{m['name']} {m['version']}" for run in latest.values() for m in run.models})
    said = list(_said(StudyReading.from_json(row.content), latest, showing))
    ids = {_id(row.id, *each) for each in said}
    tx.conn.execute(
        auto_entry.update()
        .where(
            auto_entry.c.study_id == row.id,
            auto_entry.c.state == EntryState.ENTERED.value,
            auto_entry.c.id.not_in(ids),
        )
        .values(state=EntryState.WITHDRAWN.value, decided_by="auto", decided_at=tx.now)
    )
    made = sum(_insert(tx, row.id, each, models, share) for each in said)
    # A mark of the look itself, without a value: the next look waits for the next reading.
    looked = (None, "looked", f"{row.generation}:{tx.now.isoformat()}")
    _insert(tx, row.id, looked, models, 0.0, value="")
    return made


def _insert(
    tx: Tx,
    study_id: str,
    said: tuple[str | None, str, str],
    models: Sequence[str],
    share: float,
    value: str | None = None,
) -> bool:
    image_id, tag, words = said
    entry_id = _id(study_id, *said)
    tx.conn.execute(  # said again after it was withdrawn
        auto_entry.update()
        .where(auto_entry.c.id == entry_id, auto_entry.c.state == EntryState.WITHDRAWN.value)
        .values(state=EntryState.ENTERED.value, decided_by="", decided_at=None)
    )
    return insert_once(
        tx.conn,
        auto_entry,
        {
            "id": entry_id,
            "location_id": tx.location_id,
            "study_id": study_id,
            "instance_id": image_id,
            "tag": tag,
            "value": (words if value is None else value)[:255],
            "models": list(models),
            "is_sampled": int(entry_id[:8], 16) < share * 2**32,
            "state": EntryState.ENTERED.value,
            "entered_at": tx.now,
        },
    )


def _said(
    reading: StudyReading, runs: Mapping[str, Row], showing: StudyShowing
) -> Iterator[tuple[str | None, str, str]]:
    """Give (image, tag, value) of every tag that is automatic where the study belongs."""
    facts = reading.facts
    for image_id, run in runs.items():
        if _is_auto(showing, Tag.VIEW, run.view):
            yield image_id, Tag.VIEW.value, run.view or "unknown"
        if _is_auto(showing, Tag.ORIENTATION, run.view):
            yield image_id, Tag.ORIENTATION.value, _lie(orientation_from_json(run.orientation))
        if _is_auto(showing, Tag.QUALITY, run.view):
            flags = sorted({str(flag["kind"]) for flag in run.quality or ()})
            yield image_id, Tag.QUALITY.value, ", ".join(flags) or "no flaw"
    if facts.series is not None and _is_auto(showing, Tag.SERIES, None):
        for place in facts.series.places:
            yield place.instance_id, Tag.SERIES.value, f"{facts.series.template} {place.slot}"
    if _is_auto(showing, Tag.COMPLETENESS, None):
        for check in facts.procedures:
            words = f"{', '.join(check.cdt_codes)}: {check.arrived} of {check.wanted}"
            yield None, Tag.COMPLETENESS.value, words


def _is_auto(showing: StudyShowing, tag: Tag, view: str | None) -> bool:
    return showing.mode(Subject(Area.TAG, tag.value), view) is RollMode.AUTO


def _lie(orientation: Orientation) -> str:
    if orientation.is_usual:
        return "as usual"
    parts = []
    if orientation.quarter_turns:
        parts.append(f"turned by {orientation.quarter_turns * 90}°")
    if orientation.is_mirrored:
        parts.append("mirrored")
    if orientation.is_inverted:
        parts.append("inverted")
    return ", ".join(parts)


def _id(study_id: str, image_id: str | None, tag: str, value: str) -> str:
    text = "/".join((study_id, image_id or "", tag, value))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
