"""What the models and people say about one study, as plain JSON; no name of a patient in it."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import (
    analysis_run,
    auto_entry,
    finding,
    instance,
    review,
    study,
    study_reading,
    tooth_mark,
)
from node.domain.cdt import CodeTable
from node.domain.conclusions import conclude
from node.domain.findings import DecisionState, FindingKind
from node.domain.plain_json import encode
from node.domain.reading import StudyFacts, StudyFinding, StudyReading
from node.domain.review import SignedReview, finding_from_json
from node.domain.rollout import Tag
from node.errors import NotFound
from node.rollout.auto import EntryState
from node.rollout.showing import Showing, ShownRun, StudyShowing, place_of

#: The frame of every coordinate, said in the export itself.
FRAME = (
    "pixels (x, y) of the image as stored, rows x columns as stated, not turned or mirrored; "
    "the origin is the top-left corner of the top-left pixel"
)
_FINDING_COLUMNS = (
    "id", "origin", "kind", "tooth", "original_tooth", "surfaces", "depth", "value_mm",
    "value_percent", "probability", "geometry", "model", "calibration", "state", "disposition",
    "reason", "rev",
)  # fmt: skip


def export_study(
    db: sa.Engine,
    location_id: str,
    name: str,
    codes: CodeTable | None = None,
    showing: Showing | None = None,
    *,
    includes_silent: bool = False,
) -> dict[str, object]:
    """Export the study with this Study Instance UID, accession number or id.

    The format is ``bitewing-findings/1``: images in the order received, each with its view, its
    tooth boxes ``[x0, y0, x1, y1]`` and outlines, its bone sites and its findings, everything in
    the frame that :data:`FRAME` states. ``reading`` is what is said of the study as a whole
    (:mod:`node.domain.reading`), null until it is finished; ``signed_conclusions`` is what follows
    from the last signed version, with codes of the table `codes`.

    What the roll-out keeps silent is left out, by `showing` (default: nothing is shown). With
    `includes_silent` it is the instrument for measuring the models: everything is told, and each
    finding says ``is_shown``. Raises NotFound.
    """
    is_shown_only = not includes_silent
    with read(db) as conn:
        row = conn.execute(
            sa.select(study)
            .where(
                study.c.location_id == location_id,
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
        images = conn.execute(
            sa.select(instance)
            .where(instance.c.study_id == row.id)
            .order_by(instance.c.instance_number, instance.c.received_at, instance.c.id)
        ).all()
        versions = conn.execute(
            sa.select(review.c.version, review.c.signed_at, review.c.signer_role)
            .where(review.c.study_id == row.id)
            .order_by(review.c.version)
        ).all()
        shows = (showing or Showing()).at(place_of(conn, row.id))
        return {
            "format": "bitewing-findings/1",
            "frame": FRAME,
            "study_id": row.id,
            "study_instance_uid": row.study_instance_uid,
            "accession_number": row.accession_number,
            "state": row.state,
            "match_state": row.match_state,
            "reviews": [
                {
                    "version": version.version,
                    "signed_at": version.signed_at.isoformat(),
                    "signer_role": version.signer_role,
                }
                for version in versions
            ],
            "is_shown_only": is_shown_only,
            "auto_entries": _auto_entries(conn, row.id),
            "images": [_image(conn, image, shows, is_shown_only) for image in images],
            **_readings(conn, row.id, codes or CodeTable(), shows if is_shown_only else None),
        }


def _auto_entries(conn: sa.Connection, study_id: str) -> list[dict[str, object]]:
    """Give what was entered without a person, each with whether one has verified it."""
    rows = conn.execute(
        sa.select(auto_entry)
        .where(
            auto_entry.c.study_id == study_id,
            auto_entry.c.value != "",
            auto_entry.c.state != EntryState.WITHDRAWN.value,
        )
        .order_by(auto_entry.c.tag, auto_entry.c.id)
    )
    return [
        {
            "instance_id": row.instance_id,
            "tag": row.tag,
            "value": row.value,
            "models": row.models,
            "state": row.state,
            "is_verified": row.state != EntryState.ENTERED.value,
        }
        for row in rows
    ]


def _readings(
    conn: sa.Connection, study_id: str, codes: CodeTable, shows: StudyShowing | None
) -> dict[str, object]:
    """Give what the models' marks say of the whole, and what the last signed version says."""
    content = conn.execute(
        sa.select(study_reading.c.content).where(study_reading.c.study_id == study_id)
    ).scalar()
    latest = conn.execute(
        sa.select(review.c.content)
        .where(review.c.study_id == study_id)
        .order_by(review.c.version.desc())
        .limit(1)
    ).scalar()
    if content and shows is not None:
        content = _masked(conn, study_id, StudyReading.from_json(content), codes, shows)
    if latest is None:
        return {"reading": content, "signed_conclusions": None}
    facts = StudyReading.from_json(content).facts if content else StudyFacts()
    findings = [
        StudyFinding(each.id, each.instance_id, each.finding, is_signed=True)
        for each in SignedReview.from_json(latest).findings
    ]
    signed = conclude(findings, facts, codes, is_signed=True)
    return {"reading": content, "signed_conclusions": encode(signed)}


def describe(exported: Mapping[str, object]) -> str:
    """Tell the same in a few lines for a person."""
    lines = [f"study {exported['study_instance_uid']}: {exported['state']}"]
    images = exported["images"]
    assert isinstance(images, list)
    for image in images:
        lines.append(
            f"  {image['sop_instance_uid']}: {image['state']}, view {image['view'] or 'unknown'}, "
            f"{len(image['teeth'])} teeth, {len(image['findings'])} findings"
            + (f" ({image['failure']})" if image["failure"] else "")
        )
        lines.extend(_line(mark) for mark in image["findings"])
    return "\n".join(lines)


def _line(mark: Mapping[str, object]) -> str:
    probability = mark["probability"]
    score = f" {float(str(probability)):.2f}" if probability is not None else ""
    place = f" {mark['tooth'] or '?'}{mark['surfaces']}"
    size = f" {mark['depth']}" if mark["depth"] else ""
    length = f" {float(str(mark['value_mm'])):.1f} mm" if mark["value_mm"] is not None else ""
    return f"    {mark['kind']}{place}{size}{length}{score} – {mark['state']} ({mark['origin']})"


def _masked(
    conn: sa.Connection,
    study_id: str,
    reading: StudyReading,
    codes: CodeTable,
    shows: StudyShowing,
) -> dict[str, object] | None:
    """Compose the reading again from what is shown; None where nothing is."""
    if not shows.is_any:
        return None
    rows = conn.execute(
        sa.select(finding, analysis_run.c.view.label("run_view"))
        .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
        .where(
            finding.c.study_id == study_id,
            finding.c.state != DecisionState.REJECTED.value,
            sa.not_(finding.c.is_removed),
        )
        .order_by(finding.c.created_at, finding.c.id)
    )
    standing = [
        StudyFinding(row.id, row.instance_id, finding_from_json(dict(row._mapping)))
        for row in rows
        if shows.keeps(row, row.run_view)
    ]
    runs = conn.execute(
        sa.select(analysis_run.c.instance_id, analysis_run.c.models)
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id == study_id)
        .order_by(analysis_run.c.finished_at)
    )
    facts = shows.masked(reading, {run.instance_id: run.models for run in runs}).facts
    return StudyReading(facts, conclude(standing, facts, codes, is_signed=False)).to_json()


def _image(
    conn: sa.Connection,
    image: sa.Row,  # type: ignore[type-arg]
    shows: StudyShowing,
    is_shown_only: bool,
) -> dict[str, object]:
    run = conn.execute(
        sa.select(analysis_run)
        .where(analysis_run.c.instance_id == image.id)
        .order_by(analysis_run.c.finished_at.desc())
    ).first()
    marks = conn.execute(
        sa.select(tooth_mark)
        .where(tooth_mark.c.run_id == (run.id if run else ""))
        .order_by(tooth_mark.c.tooth, tooth_mark.c.id)
    ).all()
    findings = conn.execute(
        sa.select(finding)
        .where(finding.c.instance_id == image.id, sa.not_(finding.c.is_removed))
        .order_by(finding.c.created_at, finding.c.id)
    ).all()
    view = run.view if run else None
    listed = [
        {
            **{name: getattr(row, name) for name in _FINDING_COLUMNS},
            "is_shown": shows.keeps(row, view),
        }
        for row in findings
        if not is_shown_only or shows.keeps(row, view)
    ]
    said: sa.Row | ShownRun | None = shows.run(run) if run and is_shown_only else run  # type: ignore[type-arg]
    if is_shown_only and not shows.shows_tag(Tag.TEETH, view):
        marks = []
    has_sites = not is_shown_only or any(
        shows.shows(FindingKind.BONE_LEVEL.value, view, model)
        for model in (run.models if run else ())
    )
    return {
        "instance_id": image.id,
        "sop_instance_uid": image.sop_instance_uid,
        "rows": image.rows,
        "columns": image.columns,
        "spacing_mm": [image.spacing_mm_row, image.spacing_mm_col],
        "spacing_kind": image.spacing_kind,
        "state": image.state,
        "failure": image.failure,
        "view": said.view if said else None,
        "view_probability": said.view_probability if said else None,
        "models": said.models if said else [],
        "absent": list(said.absent) if said else [],
        "notes": list(said.notes) if said else [],
        "side": said.side if said else "",
        "region": said.region if said else "",
        "orientation": said.orientation if said else None,
        "quality": (said.quality or []) if said else [],
        "sites": (run.sites or []) if run and has_sites else [],
        "operating_points": (run.operating_points or {}) if run else {},
        "teeth": [
            {
                "tooth": mark.tooth,
                "original_tooth": mark.original_tooth,
                "box": mark.box,
                "outline": mark.outline,
                "probability": mark.probability,
            }
            for mark in marks
        ],
        "findings": listed,
    }
