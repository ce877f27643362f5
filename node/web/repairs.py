"""Repairs that a person makes: whose images these are; analysing or writing once more."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from node.db.session import begin, new_id, read
from node.db.tables import event, instance, patient, patient_identity, study_identity
from node.dicom import burned_in, identity
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.rights import Right
from node.domain.study import START_CHARS, InstanceState, StudyState, name_key, name_start
from node.engine import ANALYSIS, STUDIES
from node.errors import Rejected
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, opaque_id, require
from node.web.facts import Row, age_on, find_image, find_study, pms_header, sender_header
from node.web.shapes import (
    Candidate,
    Candidates,
    LinkAnswer,
    LinkRequest,
    PatientHeader,
    PatientSearch,
    Release,
    RetryAnswer,
)
from node.web.studies import match_shape, today
from pms_writeback import outbox

_MOST_FOUND = 20

router = APIRouter(prefix="/api")

Linker = Annotated[Session, Depends(require(Right.PATIENTS_LINK))]


@router.get("/studies/{study_id}/candidates")
def get_candidates(study_id: str, web: WebDep, session: Linker) -> Candidates:
    """Say who it may be, best first, beside what the sender wrote."""
    day = today(web)
    with read(web.db) as conn:
        found = identity.candidates(conn, opaque_id(study_id), web.config)
        sent = conn.execute(
            sa.select(study_identity).where(study_identity.c.study_id == study_id)
        ).first()
    audit_read(web, session, "candidates.opened", f"study:{study_id}")
    return Candidates(
        sender=sender_header(sent, day) if sent else None,
        candidates=tuple(
            Candidate(
                patient_id=one.patient_id,
                patient=PatientHeader(
                    family_name=one.family_name,
                    given_name=one.given_name,
                    birth_date=one.birth_date,
                    age=age_on(one.birth_date, day),
                    sex=one.sex,
                    source="pms",
                ),
                pms_key=one.pms_key,
                reason=one.reason,
                appointment_at=one.appointment_at,
            )
            for one in found
        ),
    )


@router.post("/studies/{study_id}/link")
def post_link(study_id: str, body: LinkRequest, web: WebDep, session: Linker) -> LinkAnswer:
    """Link a study to a patient because a person says so."""
    identity.link_study(web.db, session.actor, opaque_id(study_id), body.patient_id, web.config)
    with read(web.db) as conn:
        row = find_study(conn, web.location_id, study_id)
    if row.state == StudyState.READY.value:
        _read_again(web, session, row)
    return LinkAnswer(match=match_shape(row))


def _read_again(web: Web, session: Session, row: Row) -> None:
    """Compare a study with its patient's earlier ones, now that the patient is known."""
    with begin(web.db, session.actor, "study.reread") as tx:
        key = jobs.reread_key(row.id, row.generation, new_id())  # each link is an act of its own
        web.engine.enqueue(tx.conn, STUDIES, jobs.FINISH_STUDY, key, row.id, row.generation)
        tx.record(f"study:{row.id}", generation=row.generation)


@router.post("/patients/search")
def post_search(body: PatientSearch, web: WebDep, session: Linker) -> Candidates:
    """Find patients by the beginning of a name or by their number in the PMS."""
    day = today(web)
    with read(web.db) as conn:
        rows = _search(web, conn, body.text)
    audit_read(web, session, "patients.searched", f"found:{len(rows)}")
    return Candidates(
        sender=None, candidates=tuple(_found(row, pms_header(row, day)) for row in rows)
    )


@router.post("/images/{image_id}/retry")
def post_retry(
    image_id: str,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.ANALYSIS_RETRY))],
) -> RetryAnswer:
    """Analyse an image again whose analysis failed. Raises Rejected when it did not fail."""
    with begin(web.db, session.actor, "analysis.retried") as tx:
        image = find_image(tx.conn, web.location_id, opaque_id(image_id))
        is_failed = tx.conn.execute(
            instance.update()
            .where(instance.c.id == image.id, instance.c.state == InstanceState.FAILED.value)
            .values(state=InstanceState.RECEIVED.value, failure="")
        ).rowcount
        if not is_failed:
            raise Rejected("The analysis of this image did not fail; there is nothing to retry.")
        # Each failure leaves one event, so the number of failures counts the attempts.
        attempt = tx.conn.execute(
            sa.select(sa.func.count()).where(
                event.c.location_id == web.location_id,
                event.c.kind == EventKind.IMAGE_ANALYSED.value,
                event.c.subject == image.id,
            )
        ).scalar_one()
        web.engine.enqueue(
            tx.conn, ANALYSIS, jobs.ANALYSE_IMAGE, jobs.analyse_key(image.id, attempt), image.id
        )
        tx.record(f"instance:{image.id}", attempt=attempt)
    return RetryAnswer(attempt=attempt)


@router.post("/images/{image_id}/release", status_code=204)
def post_release(
    image_id: str,
    body: Release,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_RELEASE))],
) -> None:
    """Let an image leave the practice whose pixels may name the patient; a person looked at it."""
    with begin(web.db, session.actor, "image.released") as tx:
        burned_in.release(tx, opaque_id(image_id), body.reason)


@router.post("/receipts/{receipt_id}/retry", status_code=204)
def post_receipt_retry(
    receipt_id: str,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.WRITES_RETRY))],
) -> None:
    """Try a write to the PMS again that failed or is held; what landed is searched for first."""
    outbox.retry(web.db, web.engine, session.actor, opaque_id(receipt_id))


def _search(web: Web, conn: sa.Connection, text: str) -> list[Row]:
    """Look for a PMS number, or for names that begin so; the family name stands first.

    Names are sealed: who starts with the same letters is looked up, and compared here.
    """
    words = text.replace(",", " ").split()
    wanted = []
    for count in range(1, len(words) + 1):
        family = name_key("".join(words[:count]), "").partition("^")[0]
        given = name_key("", "".join(words[count:])).partition("^")[2]
        if family:
            wanted.append((family, given))
    known = (
        sa.select(patient.c.id, patient.c.pms_key, patient_identity.c.name_key)
        .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
        .where(patient.c.location_id == web.location_id, patient.c.tombstoned_at.is_(None))
    )
    number = text.strip()
    fits = [patient.c.pms_key == number]
    if all(len(family) >= START_CHARS for family, _ in wanted):
        fits += [patient_identity.c.name_start == name_start(family) for family, _ in wanted]
        known = known.where(sa.or_(*fits))
    found = sorted(
        (row.name_key, row.pms_key, row.id)
        for row in conn.execute(known)
        if row.pms_key == number or any(_begins(row.name_key, *each) for each in wanted)
    )[:_MOST_FOUND]
    rows = {
        row.patient_id: row
        for row in conn.execute(
            sa.select(patient.c.pms_key, patient_identity)
            .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
            .where(patient.c.id.in_([patient_id for *_, patient_id in found]))
        )
    }
    return [rows[patient_id] for *_, patient_id in found]


def _begins(key: str, family: str, given: str) -> bool:
    own_family, _, own_given = key.partition("^")
    return own_family.startswith(family) and own_given.startswith(given)


def _found(row: Row, header: PatientHeader) -> Candidate:
    return Candidate(
        patient_id=row.patient_id, patient=header, pms_key=row.pms_key, reason="found by search"
    )
