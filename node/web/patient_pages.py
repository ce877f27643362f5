"""The patient page: what was signed, in plain words, with the place on the picture; and its PDF.

Nothing unsigned, no score, no model name and no price ever stands on it. What was taken back stands
on it no longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from fastapi.responses import Response

from node.db.session import read
from node.db.tables import instance, retraction, review
from node.domain.reading import Change, Verdict
from node.domain.review import SignedFinding, SignedReview
from node.domain.rights import Right
from node.errors import NotFound
from node.rollout.showing import study_showing
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, opaque_id, require
from node.web.facts import Row, find_study, patient_header
from node.web.images import Pictures, pictures_of
from node.web.patient_pdf import compose_pdf
from node.web.plain_words import (
    plan_words,
    questions,
    reading_grade,
    tooth_words,
    usual_ai_words,
    words_for,
)
from node.web.readings import stored_reading
from node.web.shapes import GeometryShape, PatientItem, PatientPage, PatientPicture
from node.web.studies import today
from pms_writeback import notes

_CHANGES = {
    Verdict.NEW: "This is new since {date}.",
    Verdict.DEEPER: "It goes deeper than on {date}.",
    Verdict.MORE_LOSS: "There is less bone than on {date}: about {mm:.1f} mm, give or take "
    "{error:.1f} mm.",
    Verdict.LESS_LOSS: "There is more bone than on {date}: about {mm:.1f} mm, give or take "
    "{error:.1f} mm.",
    Verdict.NO_MEASURABLE_CHANGE: "We could measure no change since {date}.",
}

router = APIRouter(prefix="/api")

Shower = Annotated[Session, Depends(require(Right.PATIENT_PAGE_SHOW))]


@router.get("/studies/{study_id}/patient-page")
def get_patient_page(study_id: str, web: WebDep, session: Shower) -> PatientPage:
    """Give the page of the last signed version; NotFound when nothing signed stands."""
    page = compose_patient_page(web, session, opaque_id(study_id))
    audit_read(web, session, "patient_page.shown", f"study:{study_id}")
    return page


@router.get("/studies/{study_id}/patient-page.pdf", response_class=Response)
def get_patient_pdf(
    study_id: str,
    web: WebDep,
    session: Shower,
    pictures: Annotated[Pictures, Depends(pictures_of)],
) -> Response:
    """Give the page as a PDF to hand over."""
    page = compose_patient_page(web, session, opaque_id(study_id))
    shown = [picture.image_id for picture in page.pictures]
    with read(web.db) as conn:
        rows = {
            row.id: row for row in conn.execute(sa.select(instance).where(instance.c.id.in_(shown)))
        }
    drawn = {image_id: pictures.preview(rows[image_id], 900) for image_id in shown}
    audit_read(web, session, "patient_page.printed", f"study:{study_id}")
    headers = {"Content-Disposition": 'inline; filename="what-your-dentist-found.pdf"'}
    return Response(compose_pdf(page, drawn), media_type="application/pdf", headers=headers)


def compose_patient_page(web: Web, session: Session, study_id: str) -> PatientPage:
    """Compose the page of the last signed version. Raises NotFound."""
    with read(web.db) as conn:
        row = find_study(conn, web.location_id, study_id)
        signed = standing_review(conn, row)
        if signed is None:
            raise NotFound("Nothing signed stands for this study, so there is nothing to show.")
        header = patient_header(conn, session, row, today(web))
        reading = stored_reading(conn, row, study_showing(conn, web.config, row.id))
        images = {
            each.id: each
            for each in conn.execute(sa.select(instance).where(instance.c.study_id == study_id))
        }
    changes = reading.facts.changes if reading is not None else ()
    items = _items(signed, changes)
    shown = dict.fromkeys(item.image_id for item in items)
    ai_words = web.config.web.patient_ai_words.strip() or usual_ai_words()
    texts = [ai_words, *(f"{i.title}. {i.meaning} {i.waiting} {i.plan}" for i in items)]
    return PatientPage(
        practice_name=web.config.node.practice_name,
        patient=header,
        study_date=row.study_date,
        signed_by=signed.signer_name,
        signed_at=signed.signed_at,
        version=signed.version,
        items=items,
        pictures=tuple(
            PatientPicture(image_id=i, rows=images[i].rows, columns=images[i].columns)
            for i in shown
            if images[i].rows
        ),
        ai_words=ai_words,
        questions=questions(),
        reading_grade=reading_grade(" ".join(texts)),
    )


def standing_review(conn: sa.Connection, row: Row) -> SignedReview | None:
    """Read the last signed version of a study, unless it was taken back."""
    content = conn.execute(
        sa.select(review.c.content).where(
            review.c.study_id == row.id, review.c.version == row.review_version
        )
    ).scalar()
    if content is None:
        return None
    taken_back = conn.execute(
        sa.select(retraction.c.id).where(
            retraction.c.study_id == row.id, retraction.c.version == row.review_version
        )
    ).first()
    return None if taken_back is not None else SignedReview.from_json(content)


def _items(signed: SignedReview, changes: Sequence[Change]) -> tuple[PatientItem, ...]:
    items: list[PatientItem] = []
    for same in notes.lines(signed):
        first = same[0]
        words = words_for(first.finding.kind, first.finding.depth)
        if words is None:
            continue
        tooth = first.finding.tooth
        items.append(
            PatientItem(
                number=len(items) + 1,
                title=words.title,
                where=tooth_words(tooth) if tooth else "",
                tooth=tooth.code if tooth else None,
                meaning=words.meaning,
                waiting=words.waiting,
                plan=plan_words(first.disposition),
                change=_change(first, changes),
                image_id=first.instance_id,
                geometry=GeometryShape.model_validate(
                    {
                        "type": type(first.finding.geometry).__name__.lower(),
                        "points": _corners(first),
                    }
                ),
            )
        )
    return tuple(items)


def _corners(item: SignedFinding) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in item.finding.geometry.points]


def _change(item: SignedFinding, changes: Sequence[Change]) -> str:
    """Say what changed against an earlier film whose findings a dentist signed, else nothing."""
    found = item.finding
    for change in changes:
        is_same = change.kind is found.kind and change.tooth == found.tooth
        if not is_same or change.surface not in found.surfaces or change.prior_source != "signed":
            continue
        text = _CHANGES.get(change.verdict, "")
        return text.format(
            date=change.prior_date,
            mm=abs(change.delta_mm or 0.0),
            error=change.uncertainty_mm or 0.0,
        )
    return ""
