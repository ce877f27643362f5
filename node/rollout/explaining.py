"""Why each kind of finding is shown or hidden on each view of one study."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.config import Config
from node.db.tables import analysis_run, finding, instance, study
from node.domain.rollout import Area, Subject, Tag
from node.errors import NotFound
from node.rollout.showing import StudyShowing, place_of, read_showing


@dataclass(frozen=True, slots=True)
class Explained:
    """One subject on one view of the study: shown or not, and why in words."""

    subject: str
    view: str
    is_shown: bool
    count: int  # suggestions that stand, seen or not; told to whoever leads the roll-out only
    words: str


def explain_study(conn: sa.Connection, config: Config, name: str) -> tuple[Explained, ...]:
    """Explain a study by its Study Instance UID, accession number or id. Raises NotFound."""
    row = conn.execute(
        sa.select(study.c.id)
        .where(
            study.c.location_id == config.node.location_id,
            sa.or_(
                study.c.study_instance_uid == name,
                study.c.accession_number == name,
                study.c.id == name,
            ),
        )
        .order_by(study.c.received_at.desc())
    ).first()
    if row is None:
        raise NotFound("no study with this UID, accession number or id at this location")
    showing = read_showing(conn, config).at(place_of(conn, row.id))
    views = sorted(set(_views(conn, row.id)))
    return (*_findings(conn, row.id, showing), *_tags(showing, views))


def _findings(conn: sa.Connection, study_id: str, showing: StudyShowing) -> tuple[Explained, ...]:
    rows = conn.execute(
        sa.select(finding, analysis_run.c.view.label("run_view"))
        .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
        .where(
            finding.c.study_id == study_id,
            finding.c.origin == "ai",
            sa.not_(finding.c.is_removed),
        )
        .order_by(finding.c.kind)
    ).all()
    groups: dict[tuple[str, str], list[sa.Row]] = {}  # type: ignore[type-arg]
    # SQLAlchemy's Row is generic over its columns.
    for row in rows:
        groups.setdefault((row.kind, row.run_view or ""), []).append(row)
    return tuple(
        Explained(
            f"finding:{kind}",
            view,
            showing.shows(kind, view, marks[0].model),
            len(marks),
            showing.why(kind, view, marks[0].model),
        )
        for (kind, view), marks in sorted(groups.items())
    )


def _tags(showing: StudyShowing, views: list[str]) -> tuple[Explained, ...]:
    return tuple(
        Explained(
            f"tag:{tag.value}",
            view,
            showing.shows_tag(tag, view),
            1,
            showing.showing.decision(
                Subject(Area.TAG, tag.value), replace(showing.place, view=view)
            ).words,
        )
        for tag in Tag
        for view in (views or [""])
    )


def _views(conn: sa.Connection, study_id: str) -> list[str]:
    rows = conn.execute(
        sa.select(analysis_run.c.view)
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id == study_id)
    )
    return [row.view or "" for row in rows]
