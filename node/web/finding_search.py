"""Signed findings across patients and time, and their export; suggestions and rejected ones never.

A study stands here as it was signed last; while it is being amended, or after it was taken back,
it is left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from fastapi.responses import Response

from node.db.session import read
from node.db.tables import finding, patient, patient_identity, review, study, study_reading
from node.domain.findings import DecisionState, FindingKind
from node.domain.reading import Change, StudyReading
from node.domain.rights import Right
from node.domain.study import StudyState
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from node.rollout.showing import study_showing
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, require
from node.web.facts import Row, latest_runs, pms_header
from node.web.shapes import FindingSearch, FindingsFound, FoundFinding
from node.web.studies import today

_SHOWN = 200
_EXPORTED = 20_000
_KEPT = (DecisionState.ACCEPTED.value, DecisionState.EDITED.value)
_COLUMNS = (
    "study_date", "patient_number", "kind", "tooth_fdi", "tooth_universal", "surfaces", "depth",
    "value_mm", "value_percent", "plan", "origin", "change", "signed_by", "signed_at", "version",
)  # fmt: skip

router = APIRouter(prefix="/api")


@router.post("/findings/search")
def post_search(
    body: FindingSearch,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_SEARCH))],
) -> FindingsFound:
    """Find signed findings, the latest first."""
    rows = list(_found(web, body, _SHOWN + 1))
    day = today(web)
    shows_names = session.may(Right.PATIENTS_SEE)
    audit_read(web, session, "findings.searched", f"found:{min(len(rows), _SHOWN)}")
    return FindingsFound(
        rows=tuple(_shape(row, change, shows_names, day) for row, change in rows[:_SHOWN]),
        is_cut=len(rows) > _SHOWN,
        amending=_amending(web),
    )


@router.post("/findings/export", response_class=Response)
def post_export(
    body: FindingSearch,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_EXPORT))],
) -> Response:
    """Give what was found as CSV, with patient numbers and without names."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    count = 0
    for row, change in _found(web, body, _EXPORTED):
        tooth = Tooth(row.tooth[:2], row.tooth.endswith("S")) if row.tooth else None
        writer.writerow(
            [
                row.study_date,
                _plain(row.pms_key or ""),
                row.kind,
                row.tooth or "",
                tooth.universal if tooth else "",
                row.surfaces,
                row.depth or "",
                row.value_mm if row.value_mm is not None else "",
                row.value_percent if row.value_percent is not None else "",
                row.disposition or "",
                row.origin,
                change,
                _plain(row.signer_name),
                row.signed_at.isoformat(),
                row.version,
            ]
        )
        count += 1
    audit_read(web, session, "findings.exported", f"exported:{count}")
    headers = {"Content-Disposition": 'attachment; filename="findings.csv"'}
    return Response(file.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _found(web: Web, wanted: FindingSearch, most: int) -> Iterator[tuple[Row, str]]:
    """Read findings that fit, with the words of their change; at most `most`."""
    count = 0
    readings: dict[str, tuple[Change, ...]] = {}
    with read(web.db) as conn:
        for row in conn.execute(_query(web, wanted)):
            if row.study_id not in readings:
                readings[row.study_id] = _changes(conn, web, row.study_id)
            change = _change_of(row, readings[row.study_id])
            if wanted.change and (change is None or change.verdict.value != wanted.change):
                continue
            yield row, change.words if change else ""
            count += 1
            if count >= most:
                return


def _query(web: Web, wanted: FindingSearch) -> sa.Select[tuple[object, ...]]:
    query = (
        sa.select(
            finding,
            study.c.study_date,
            review.c.signer_name,
            review.c.signed_at,
            review.c.version,
            patient.c.pms_key,
            patient_identity.c.family_name,
            patient_identity.c.given_name,
            patient_identity.c.birth_date,
            patient_identity.c.sex,
        )
        .join(study, study.c.id == finding.c.study_id)
        .join(
            review,
            sa.and_(review.c.study_id == study.c.id, review.c.version == study.c.review_version),
        )
        .outerjoin(patient, patient.c.id == study.c.patient_id)
        .outerjoin(patient_identity, patient_identity.c.patient_id == study.c.patient_id)
        .where(
            study.c.location_id == web.location_id,
            study.c.state == StudyState.SIGNED.value,
            finding.c.state.in_(_KEPT),
            sa.not_(finding.c.is_removed),
            *_conditions(web, wanted),
        )
    )
    return query.order_by(review.c.signed_at.desc(), finding.c.study_id, finding.c.id)


def _conditions(web: Web, wanted: FindingSearch) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.tooth:
        yield finding.c.tooth == Tooth(wanted.tooth).code
    if wanted.kind:
        if wanted.kind not in {kind.value for kind in FindingKind}:
            raise InvalidInput("There is no such kind of finding.")
        yield finding.c.kind == wanted.kind
    if wanted.depth:
        yield finding.c.depth == wanted.depth
    if wanted.disposition:
        yield finding.c.disposition == wanted.disposition
    if wanted.signed_by.strip():
        part = wanted.signed_by.strip().lower()
        for sign in ("\\", "%", "_"):
            part = part.replace(sign, f"\\{sign}")
        yield sa.func.lower(review.c.signer_name).like(f"%{part}%", escape="\\")
    if wanted.signed_from:
        yield review.c.signed_at >= _midnight(web, wanted.signed_from)
    if wanted.signed_to:
        yield review.c.signed_at < _midnight(web, wanted.signed_to + timedelta(days=1))


def _midnight(web: Web, day: date) -> datetime:
    return datetime.combine(day, time(), web.config.zone).astimezone(UTC)


def _changes(conn: sa.Connection, web: Web, study_id: str) -> tuple[Change, ...]:
    """Read the changes of a study that are shown: they are the models' word, also when signed."""
    content = conn.execute(
        sa.select(study_reading.c.content).where(study_reading.c.study_id == study_id)
    ).scalar()
    if not content:
        return ()
    runs = {image_id: run.models for image_id, run in latest_runs(conn, study_id).items()}
    showing = study_showing(conn, web.config, study_id)
    return showing.masked(StudyReading.from_json(content), runs).facts.changes


def _change_of(row: Row, changes: Sequence[Change]) -> Change | None:
    for change in changes:
        is_surface = change.surface is None or change.surface.value in row.surfaces
        is_place = change.tooth.code == row.tooth and is_surface
        if is_place and change.kind.value == row.kind and change.instance_id == row.instance_id:
            return change
    return None


def _shape(row: Row, change: str, shows_names: bool, day: date) -> FoundFinding:
    return FoundFinding(
        study_id=row.study_id,
        patient=pms_header(row, day) if shows_names and row.family_name is not None else None,
        study_date=row.study_date,
        kind=row.kind,
        letter=FindingKind(row.kind).letter,
        tooth=row.tooth,
        surfaces=row.surfaces,
        depth=row.depth,
        value_mm=row.value_mm,
        value_percent=row.value_percent,
        disposition=row.disposition,
        origin=row.origin,
        change=change,
        signer_name=row.signer_name,
        signed_at=row.signed_at,
        version=row.version,
    )


def _amending(web: Web) -> int:
    with read(web.db) as conn:
        return int(
            conn.execute(
                sa.select(sa.func.count())
                .select_from(study)
                .where(
                    study.c.location_id == web.location_id,
                    study.c.review_version > 0,
                    study.c.state != StudyState.SIGNED.value,
                )
            ).scalar_one()
        )


def _plain(text: str) -> str:
    """Keep a spreadsheet from reading a text as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
