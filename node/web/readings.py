"""What is said of a study as a whole, as one person may see it; and the pictures of its changes.

Facts of the images were computed when the study was finished; what follows from findings is
computed here again from those that stand now, so that a rejected suggestion says nothing any more.
A person who may not see unsigned AI content sees what follows from the signed findings only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, cast

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import JsonValue

from node.db.session import read
from node.db.tables import instance, study, study_reading, tooth_mark
from node.domain.conclusions import conclude
from node.domain.findings import DecisionState
from node.domain.plain_json import encode
from node.domain.reading import Registration, StudyFacts, StudyFinding, StudyReading
from node.domain.review import SignedReview, finding_from_json
from node.domain.rights import Right
from node.domain.study import MatchState, StudyState
from node.errors import InvalidInput, NotFound
from node.rollout.showing import StudyShowing, study_showing
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, opaque_id, require
from node.web.change_pictures import Part, draw
from node.web.facts import Facts, Row, find_image, find_study, latest_runs, sees_ai

Json = dict[str, JsonValue]
_PARTLY = "Made of what is shown: the roll-out keeps part of the suggestions silent."

router = APIRouter(prefix="/api")


def reading_json(
    web: Web, facts: Facts, reviews: Sequence[SignedReview], stored: StudyReading | None
) -> Json | None:
    """Compose the reading of one study; None when there is nothing this person may see.

    `stored` is :func:`stored_reading`, None where AI content is not shown.

    ``facts`` is null where AI content is not shown. The form is
    :meth:`node.domain.reading.StudyReading.to_json`.
    """
    is_signed = facts.study.state == StudyState.SIGNED.value and bool(reviews)
    if is_signed or (reviews and not facts.sees_ai):
        known = stored.facts if stored else StudyFacts()
        conclusions = conclude(_signed(reviews[-1]), known, web.code_table, is_signed=True)
    elif stored is not None:
        known = stored.facts
        conclusions = conclude(_standing(facts.findings), known, web.code_table, is_signed=False)
        if not facts.showing.is_all:
            said = conclusions.priority
            said = replace(said, words=f"{said.words} {_PARTLY}".strip())
            conclusions = replace(conclusions, priority=said)
    else:
        return None
    shown = encode(stored.facts) if stored else None
    return cast("Json", {"facts": shown, "conclusions": encode(conclusions)})


def stored_reading(conn: sa.Connection, row: Row, showing: StudyShowing) -> StudyReading | None:
    """Read what is shown of a study's reading; no priors once the patient is another."""
    found = conn.execute(
        sa.select(study_reading.c.content, study_reading.c.patient_id).where(
            study_reading.c.study_id == row.id
        )
    ).first()
    if found is None:
        return None
    runs = latest_runs(conn, row.id)
    models = {image_id: run.models for image_id, run in runs.items()}
    reading = showing.masked(StudyReading.from_json(found.content), models)
    is_certain = MatchState(row.match_state).is_certain
    if found.patient_id is not None and is_certain and found.patient_id == row.patient_id:
        return reading
    return replace(
        reading, facts=replace(reading.facts, registrations=(), changes=(), procedures=())
    )


def _signed(signed: SignedReview) -> list[StudyFinding]:
    return [
        StudyFinding(each.id, each.instance_id, each.finding, is_signed=True)
        for each in signed.findings
    ]


def _standing(rows: Sequence[Row]) -> list[StudyFinding]:
    return [
        StudyFinding(row.id, row.instance_id, finding_from_json(dict(row._mapping)))
        for row in rows
        if row.state != DecisionState.REJECTED.value
    ]


@router.get("/studies/{study_id}/comparisons/{number}/{part}", response_class=Response)
def get_comparison(
    study_id: str,
    number: int,
    part: Part,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_SEE_UNSIGNED))],
    see: Annotated[Session, Depends(require(Right.IMAGES_SEE))],
) -> Response:
    """Draw one tooth now, before or the difference; both images count as opened."""
    with read(web.db) as conn:
        row = find_study(conn, web.location_id, opaque_id(study_id))
        showing = study_showing(conn, web.config, row.id)
        if not sees_ai(session, showing):
            raise NotFound("There is no such comparison.")
        registration = _registration(conn, row, showing, number)
        now = find_image(conn, web.location_id, registration.instance_id)
        before = _prior(conn, web, row, registration)
        box = conn.execute(
            sa.select(tooth_mark.c.box).where(
                tooth_mark.c.instance_id == now.id,
                tooth_mark.c.tooth == registration.tooth.code,
            )
        ).scalar()
    if box is None:
        raise NotFound("The tooth is no longer marked on this image.")
    spacing = _mm_per_px(now)
    drawn = draw(
        part,
        web.store.file(now.storage_key),
        web.store.file(before.storage_key),
        registration,
        box,
        spacing,
    )
    for image in (now, before):
        audit_read(web, session, "image.opened", f"instance:{image.id}")
    audit_read(web, session, "images.compared", f"study:{row.id}")
    headers = {"Cache-Control": "private, no-store"}
    return Response(drawn, media_type="image/png", headers=headers)


def _registration(
    conn: sa.Connection, row: Row, showing: StudyShowing, number: int
) -> Registration:
    reading = stored_reading(conn, row, showing)
    if reading is None or not 0 <= number < len(reading.facts.registrations):
        raise NotFound("There is no such comparison.")
    found = reading.facts.registrations[number]
    if found.correlation == 0.0:
        raise InvalidInput(f"These films cannot be laid over each other: {found.reason}.")
    return found


def _prior(conn: sa.Connection, web: Web, row: Row, registration: Registration) -> Row:
    """Find the prior image; it must still be the same patient's beyond doubt."""
    image = find_image(conn, web.location_id, registration.prior_instance_id)
    owner = conn.execute(
        sa.select(study.c.patient_id, study.c.match_state)
        .join(instance, instance.c.study_id == study.c.id)
        .where(instance.c.id == image.id)
    ).one()
    if owner.patient_id != row.patient_id or not MatchState(owner.match_state).is_certain:
        raise NotFound("There is no such comparison.")
    return image


def _mm_per_px(image: Row) -> float | None:
    if image.spacing_kind == "unknown" or not image.spacing_mm_row or not image.spacing_mm_col:
        return None
    return math.sqrt(image.spacing_mm_row * image.spacing_mm_col)
