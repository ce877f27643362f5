"""Taking back what was signed: the images are another patient's, or a finding is wrong.

Here the study is opened again and, if known, linked to the right patient, in one transaction with
the retraction's row and the job that carries it out (`orchestration.workflows.retract_study`).
Signed versions stay readable; the next signature makes the version that replaces them.
"""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from node.db.session import Tx, begin, new_id, read
from node.db.tables import finding, patient, retraction, study
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.findings import DecisionState
from node.domain.rights import Right
from node.domain.study import MatchState, StudyState
from node.engine import WORKFLOWS
from node.errors import InvalidInput, NotFound, Rejected
from node.web.accounts import Session
from node.web.auth import Web, WebDep, opaque_id, require
from node.web.facts import Row, find_study
from node.web.shapes import RetractAnswer, RetractRequest
from node.web.studies import match_shape

_KEPT = (DecisionState.ACCEPTED.value, DecisionState.EDITED.value)

router = APIRouter(prefix="/api")


@router.post("/studies/{study_id}/retract")
def post_retraction(
    study_id: str,
    body: RetractRequest,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.FINDINGS_RETRACT))],
) -> RetractAnswer:
    """Take back the last signed version.

    Raises NotFound, InvalidInput, WrongCredentials or WrongPin; Rejected when nothing signed
    stands, or the patient is the one whose chart holds it.
    """
    password = body.password.get_secret_value() if body.password else ""
    pin = body.pin.get_secret_value() if body.pin else ""
    web.accounts.prove(session, password, pin=pin)
    with begin(web.db, session.actor, "review.retracted") as tx:
        row = find_study(tx.conn, web.location_id, opaque_id(study_id), lock=True)
        _demand_standing(tx, row)
        if body.kind == "patient":
            _move(tx, row, body)
        else:
            _reject(tx, row, body, session)
        retraction_id = _write(tx, web, row, body, session)
    with read(web.db) as conn:
        return RetractAnswer(
            retraction_id=retraction_id,
            match=match_shape(find_study(conn, web.location_id, study_id)),
        )


def _demand_standing(tx: Tx, row: Row) -> None:
    if row.review_version == 0:
        raise Rejected("Nothing of this study is signed; there is nothing to take back.")
    query = sa.select(retraction.c.id).where(
        retraction.c.study_id == row.id,
        retraction.c.version == row.review_version,
        retraction.c.kind == "patient",
    )
    if tx.conn.execute(query).first() is not None:
        raise Rejected("The last signed version was taken back already.")


def _move(tx: Tx, row: Row, body: RetractRequest) -> None:
    """Link the study to the right patient, or to nobody until the worklist says to whom."""
    values: dict[str, object] = {
        "match_state": MatchState.UNMATCHED.value,
        "match_reason": "a person took it back from another patient",
        "patient_id": None,
        "appointment_id": None,
    }
    if body.patient_id is not None:
        if body.patient_id == row.patient_id:
            raise Rejected("That is the patient whose chart holds it. Choose another.")
        known = tx.conn.execute(
            sa.select(patient.c.id).where(
                patient.c.id == body.patient_id,
                patient.c.location_id == tx.location_id,
                patient.c.tombstoned_at.is_(None),
            )
        ).first()
        if known is None:
            raise NotFound("There is no such patient.")
        values |= {
            "match_state": MatchState.LINKED.value,
            "match_reason": "a person linked it after taking it back from another patient",
            "patient_id": body.patient_id,
        }
        key = f"matched:{row.id}:{tx.now.isoformat()}"
        tx.append_event(EventKind.STUDY_MATCHED, row.id, key, {"study_id": row.id})
    _reopen(tx, row, values)


def _reject(tx: Tx, row: Row, body: RetractRequest, session: Session) -> None:
    """Reject the wrong findings; what remains is signed again as an amendment."""
    wrong = finding.c.id.in_(body.finding_ids)
    changed = tx.conn.execute(
        finding.update()
        .where(wrong, finding.c.study_id == row.id, finding.c.state.in_(_KEPT))
        .values(
            state=DecisionState.REJECTED.value,
            disposition=None,
            decided_by=session.user_id,
            decided_at=tx.now,
            rev=finding.c.rev + 1,
        )
    ).rowcount
    if not body.finding_ids or changed != len(set(body.finding_ids)):
        raise InvalidInput("Name the signed findings that are wrong.")
    _reopen(tx, row, {})


def _reopen(tx: Tx, row: Row, values: dict[str, object]) -> None:
    tx.conn.execute(
        study.update().where(study.c.id == row.id).values(state=StudyState.READY.value, **values)
    )


def _write(tx: Tx, web: Web, row: Row, body: RetractRequest, session: Session) -> str:
    retraction_id = new_id()
    tx.conn.execute(
        retraction.insert().values(
            id=retraction_id,
            location_id=tx.location_id,
            study_id=row.id,
            kind=body.kind,
            version=row.review_version,
            reason=body.reason.strip(),
            finding_ids=list(body.finding_ids),
            patient_id=row.patient_id,
            new_patient_id=body.patient_id,
            steps=[],
            retracted_by=session.user_id,
            at=tx.now,
        )
    )
    key = jobs.retract_key(retraction_id)
    web.engine.enqueue(tx.conn, WORKFLOWS, jobs.RETRACT_STUDY, key, retraction_id)
    data = {"study_id": row.id, "version": row.review_version}
    tx.append_event(EventKind.REVIEW_CHANGED, row.id, f"review:{retraction_id}", data)
    tx.record(f"study:{row.id}", version=row.review_version, kind=body.kind, id=retraction_id)
    return retraction_id
