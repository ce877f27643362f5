"""Which signed pictures of a patient there are: view, side, day and teeth, with their findings.

Only studies that a dentist signed come in. View, side and teeth are what the models and people
said of the image; the findings are the signed ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import analysis_run, study, tooth_mark
from node.domain.findings import View
from node.domain.review import SignedFinding, SignedReview
from node.domain.teeth import Tooth
from orchestration.access import Chart
from orchestration.payers.chart import ImageFact, Mark
from orchestration.workflow import Module

READS: frozenset[Module] = frozenset({Module.REVIEWS, Module.IMAGES})


@dataclass(frozen=True, slots=True)
class SignedPicture:
    """One image of a signed study; ``side`` is R, L or empty."""

    fact: ImageFact
    side: str
    review: SignedReview
    findings: tuple[SignedFinding, ...]


def read_pictures(chart: Chart, patient_id: str | None = None) -> tuple[SignedPicture, ...]:
    """Read every image of the patient's signed studies, oldest first."""
    chart.demand(*READS)
    reviews = chart.reviews(chart.whose(patient_id))
    image_ids = [image_id for review in reviews for image_id, _ in review.instances]
    studies = [review.study_id for review in reviews]
    with read(chart.db) as conn:
        days = {
            row.id: _day(row.study_date)
            for row in conn.execute(
                sa.select(study.c.id, study.c.study_date).where(study.c.id.in_(studies))
            )
        }
        seen = _seen(conn, image_ids)
        teeth = _teeth(conn, image_ids)
    found = []
    for review in reviews:
        for image_id, _ in review.instances:
            view, side = seen.get(image_id, (None, ""))
            mine = tuple(f for f in review.findings if f.instance_id == image_id)
            marked = {f.finding.tooth for f in mine if f.finding.tooth is not None}
            shown = tuple(sorted(marked | teeth.get(image_id, set())))
            fact = ImageFact(image_id, view, days.get(review.study_id), shown)
            found.append(SignedPicture(fact, side, review, mine))
    return tuple(found)


def marks_of(pictures: Sequence[SignedPicture], zone: tzinfo) -> tuple[Mark, ...]:
    """Give every signed finding with its picture and signature, dated as the practice's `zone`."""
    return tuple(
        Mark(each, _signer(p.review), signed_day(p, zone), p.fact.taken_on, p.fact.view)
        for p in pictures
        for each in p.findings
    )


def signed_day(picture: SignedPicture, zone: tzinfo) -> date:
    """Give the day on which a picture's findings were signed, of the practice's own clock."""
    return picture.review.signed_at.astimezone(zone).date()


def _signer(review: SignedReview) -> str:
    return review.signer_name or "the dentist"


def _seen(conn: sa.Connection, image_ids: Sequence[str]) -> dict[str, tuple[View | None, str]]:
    rows = conn.execute(
        sa.select(analysis_run.c.instance_id, analysis_run.c.view, analysis_run.c.side)
        .where(analysis_run.c.instance_id.in_(list(image_ids)))
        .order_by(analysis_run.c.finished_at)
    )
    return {r.instance_id: (View(r.view) if r.view else None, r.side) for r in rows}


def _teeth(conn: sa.Connection, image_ids: Sequence[str]) -> dict[str, set[Tooth]]:
    rows = conn.execute(
        sa.select(tooth_mark.c.instance_id, tooth_mark.c.tooth).where(
            tooth_mark.c.instance_id.in_(list(image_ids))
        )
    )
    found: dict[str, set[Tooth]] = {}
    for row in rows:
        found.setdefault(row.instance_id, set()).add(Tooth(row.tooth[:2], row.tooth.endswith("S")))
    return found


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None
