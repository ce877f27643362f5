"""Why each kind of finding is shown or hidden on each view of one study.

Every kind is told for every view that the study has, whether or not anything was suggested: what is
silent must not be told by the explanation either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.config import Config
from node.db.tables import analysis_run, instance, study
from node.domain.findings import FindingKind
from node.domain.review import Json
from node.domain.rollout import Area, Subject, Tag
from node.errors import NotFound
from node.rollout.showing import StudyShowing, place_of, read_showing


@dataclass(frozen=True, slots=True)
class Explained:
    """One subject on one view of the study: shown or not, and why in words."""

    subject: str
    view: str
    is_shown: bool
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
    found: list[Explained] = []
    for view, models in sorted(_views(conn, row.id).items()):
        found += [_finding(showing, kind.value, view, models) for kind in FindingKind]
        found += [_tag(showing, tag, view) for tag in Tag]
    return tuple(found)


def _finding(showing: StudyShowing, kind: str, view: str, models: Sequence[Json]) -> Explained:
    """Explain by the network that is shown, if any is; else by the first that ran."""
    shown = next((model for model in models if showing.shows(kind, view, model)), None)
    speaks = shown or (models[0] if models else None)
    words = showing.why(kind, view, speaks)
    return Explained(f"finding:{kind}", view, shown is not None, words)


def _tag(showing: StudyShowing, tag: Tag, view: str) -> Explained:
    subject = Subject(Area.TAG, tag.value)
    decision = showing.showing.decision(subject, replace(showing.place, view=view))
    return Explained(str(subject), view, showing.shows_tag(tag, view), decision.words)


def _views(conn: sa.Connection, study_id: str) -> dict[str, list[Json]]:
    """Read the views of a study with the networks that ran on each."""
    rows = conn.execute(
        sa.select(analysis_run.c.view, analysis_run.c.models)
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id == study_id)
        .order_by(analysis_run.c.finished_at)
    )
    found: dict[str, list[Json]] = {}
    for row in rows:
        found.setdefault(row.view or "", []).extend(row.models)
    return found
