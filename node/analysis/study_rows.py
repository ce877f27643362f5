"""One study as its rows tell it: images with their latest analysis, teeth and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import sqlalchemy as sa

from node.db.tables import analysis_run, finding, instance, review, study, tooth_mark
from node.domain.findings import (
    NO_SPACING,
    BoneSite,
    Box,
    DecisionState,
    Finding,
    FindingKind,
    Line,
    OperatingPoint,
    Orientation,
    QualityFlag,
    Spacing,
    View,
)
from node.domain.image_json import (
    flag_from_json,
    orientation_from_json,
    points_from_json,
    site_from_json,
)
from node.domain.reading import StudyFinding
from node.domain.review import SignedReview, finding_from_json
from node.domain.study import InstanceState, MatchState, StudyState
from node.domain.teeth import Tooth


@dataclass(frozen=True, slots=True)
class ToothRow:
    """A tooth found on an image; ``original`` is the number that its model gave."""

    id: str
    tooth: Tooth
    original: Tooth
    box: Box
    probability: float


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding that stands (not removed, not rejected), as decided or suggested."""

    id: str
    finding: Finding
    original_tooth: Tooth | None
    is_suggested: bool


@dataclass(frozen=True, slots=True)
class ImageRead:
    """One readable image with what its latest analysis says."""

    id: str
    storage_key: str
    run_id: str
    rows: int
    cols: int
    spacing: Spacing
    view: View | None
    side: str
    region: str
    orientation: Orientation
    flags: tuple[QualityFlag, ...]
    sites: tuple[BoneSite, ...]
    teeth: tuple[ToothRow, ...]
    findings: tuple[FindingRow, ...]
    is_decided: bool  # a person decided something on it
    points: Mapping[FindingKind, OperatingPoint] = field(default_factory=dict)

    @property
    def study_findings(self) -> tuple[StudyFinding, ...]:
        """The findings as the study's conclusions take them."""
        return tuple(StudyFinding(each.id, self.id, each.finding) for each in self.findings)

    def renumbered(self, moved: Mapping[Tooth, Tooth]) -> ImageRead:
        """Give the image under other numbers; what a person decided keeps its own."""
        return replace(
            self,
            teeth=tuple(replace(t, tooth=moved.get(t.original, t.original)) for t in self.teeth),
            sites=tuple(replace(s, tooth=moved.get(s.tooth, s.tooth)) for s in self.sites),
            findings=tuple(
                replace(
                    each,
                    finding=replace(
                        each.finding,
                        tooth=moved.get(each.original_tooth, each.original_tooth)
                        if each.original_tooth
                        else None,
                    ),
                )
                if each.is_suggested
                else each
                for each in self.findings
            ),
        )


@dataclass(frozen=True, slots=True)
class StudyRows:
    """One study. ``images`` under the numbers that their models gave."""

    id: str
    state: StudyState
    generation: int
    patient_id: str | None  # only when it is certain
    appointment_id: str | None
    study_date: str
    received_at: datetime
    review_version: int
    images: tuple[ImageRead, ...]
    signed: SignedReview | None

    @property
    def day(self) -> date:
        """The study's day as sent, else the day it came."""
        try:
            return datetime.strptime(self.study_date, "%Y%m%d").date()  # noqa: DTZ007 - a day
        except ValueError:
            return self.received_at.date()


def read_study(conn: sa.Connection, location_id: str, study_id: str) -> StudyRows | None:
    """Read a study of this location; None when there is none."""
    row = conn.execute(
        sa.select(study).where(study.c.id == study_id, study.c.location_id == location_id)
    ).first()
    if row is None:
        return None
    images = conn.execute(
        sa.select(instance)
        .where(
            instance.c.study_id == study_id,
            instance.c.state.in_([InstanceState.ANALYSED.value, InstanceState.FAILED.value]),
        )
        .order_by(instance.c.instance_number, instance.c.received_at, instance.c.id)
    ).all()
    runs = {
        run.instance_id: run
        for run in conn.execute(
            sa.select(analysis_run)
            .where(analysis_run.c.instance_id.in_([image.id for image in images]))
            .order_by(analysis_run.c.finished_at)
        )
    }
    marks = _by_image(conn, tooth_mark, [image.id for image in images])
    found = _by_image(conn, finding, [image.id for image in images])
    content = conn.execute(
        sa.select(review.c.content)
        .where(review.c.study_id == study_id)
        .order_by(review.c.version.desc())
        .limit(1)
    ).scalar()
    is_certain = MatchState(row.match_state).is_certain
    return StudyRows(
        id=row.id,
        state=StudyState(row.state),
        generation=row.generation,
        patient_id=row.patient_id if is_certain else None,
        appointment_id=row.appointment_id if is_certain else None,
        study_date=row.study_date,
        received_at=row.received_at,
        review_version=row.review_version,
        images=tuple(
            _image(image, runs[image.id], marks.get(image.id, ()), found.get(image.id, ()))
            for image in images
            if image.id in runs and image.rows is not None
        ),
        signed=SignedReview.from_json(content) if content is not None else None,
    )


def _by_image(
    conn: sa.Connection, table: sa.Table, ids: Sequence[str]
) -> dict[str, tuple[sa.Row, ...]]:  # type: ignore[type-arg]
    # SQLAlchemy's Row is generic over its columns, which differ here from table to table.
    found: dict[str, tuple[sa.Row, ...]] = {}  # type: ignore[type-arg]
    for row in conn.execute(
        sa.select(table).where(table.c.instance_id.in_(ids)).order_by(table.c.id)
    ):
        found[row.instance_id] = (*found.get(row.instance_id, ()), row)
    return found


def _image(
    image: sa.Row,  # type: ignore[type-arg]
    run: sa.Row,  # type: ignore[type-arg]
    marks: Sequence[sa.Row],  # type: ignore[type-arg]
    found: Sequence[sa.Row],  # type: ignore[type-arg]
) -> ImageRead:
    kept = [row for row in found if not row.is_removed]
    standing = [row for row in kept if row.state != DecisionState.REJECTED.value]
    # Once a person decided something, the numbers that stand are the image's own.
    is_decided = any(row.state != DecisionState.SUGGESTED.value for row in kept)
    held = {Tooth(row.original_tooth): Tooth(row.tooth) for row in marks if row.original_tooth}
    findings = tuple(
        FindingRow(
            row.id,
            finding_from_json(dict(row._mapping)),
            _tooth(row.tooth if is_decided else row.original_tooth or row.tooth),
            row.origin == "ai" and row.state == DecisionState.SUGGESTED.value,
        )
        for row in standing
    )
    sites = tuple(site_from_json(data) for data in run.sites or ())
    if is_decided:
        sites = tuple(replace(site, tooth=held.get(site.tooth, site.tooth)) for site in sites)
    return ImageRead(
        id=image.id,
        storage_key=image.storage_key,
        run_id=run.id,
        rows=image.rows,
        cols=image.columns,
        spacing=Spacing(image.spacing_mm_row, image.spacing_mm_col, image.spacing_kind)
        if image.spacing_mm_row and image.spacing_mm_col
        else NO_SPACING,
        view=View(run.view) if run.view else None,
        side=run.side or "",
        region=run.region or "",
        orientation=orientation_from_json(run.orientation),
        flags=tuple(flag_from_json(data) for data in run.quality or ()),
        sites=sites or _sites_of(findings),
        teeth=tuple(
            ToothRow(
                row.id,
                Tooth(row.tooth),
                Tooth(row.tooth if is_decided else row.original_tooth or row.tooth),
                Box(*row.box),
                row.probability,
            )
            for row in marks
        ),
        findings=findings,
        is_decided=is_decided,
        points=points_from_json(run.operating_points),
    )


def _sites_of(findings: Sequence[FindingRow]) -> tuple[BoneSite, ...]:
    """Take the measured sites from bone level findings, for runs that kept no sites."""
    sites = []
    for each in findings:
        mark = each.finding
        if mark.kind is not FindingKind.BONE_LEVEL or not isinstance(mark.geometry, Line):
            continue
        if each.original_tooth is None or len(mark.surfaces) != 1 or mark.probability is None:
            continue
        cej, crest = mark.geometry.points
        sites.append(
            BoneSite(
                each.original_tooth,
                mark.surfaces[0],
                cej,
                crest,
                None,
                mark.value_mm,
                mark.value_percent,
                mark.probability,
            )
        )
    return tuple(sites)


def _tooth(code: str | None) -> Tooth | None:
    return Tooth(code) if code else None
