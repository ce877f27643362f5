"""The chart beside the image: alerts, what is in the mouth, what today is for, earlier films.

Read from the node's own copy of the practice's records, and only once it is certain whose images
these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request

from node.db.session import read
from node.db.tables import appointment, patient, review, study
from node.domain.review import SignedReview
from node.domain.rights import Right
from node.domain.study import MatchState, StudyState
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_look, opaque_id, require
from node.web.facts import Row, find_study
from node.web.shapes import ChartContext, ChartLine, EarlierStudy
from node.web.studies import today
from pms_writeback import notes
from pms_writeback.record_rows import read_records
from pms_writeback.records import PmsRecord, RecordKind

_MOST = 40
_MOST_EARLIER = 12
#: How systems of practices write the states of a charted procedure.
_STATES = {
    "tp": "planned", "treatment_planned": "planned", "treatplan": "planned",
    "c": "done", "complete": "done", "ec": "existing", "eo": "existing, made elsewhere",
    "existing": "existing", "existcurprov": "existing", "existother": "existing, made elsewhere",
    "cn": "condition", "condition": "condition", "r": "referred", "referred": "referred",
}  # fmt: skip

router = APIRouter(prefix="/api")


@router.get("/studies/{study_id}/chart")
def get_chart(
    study_id: str,
    request: Request,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_SEE, Right.PATIENTS_SEE))],
) -> ChartContext:
    """Give what the chart says; nothing while the patient is in doubt."""
    with read(web.db) as conn:
        row = find_study(conn, web.location_id, opaque_id(study_id))
        if row.patient_id is None or not MatchState(row.match_state).is_certain:
            return ChartContext(is_known=False)
        context = _compose(conn, web, row)
    audit_look(request, web, session, "chart.opened", f"study:{study_id}")
    return context


def _compose(conn: sa.Connection, web: Web, row: Row) -> ChartContext:
    key = conn.execute(sa.select(patient.c.pms_key).where(patient.c.id == row.patient_id)).scalar()
    visit = conn.execute(
        sa.select(appointment.c.pms_key, appointment.c.description).where(
            appointment.c.id == row.appointment_id
        )
    ).first()

    def records(kind: RecordKind) -> list[PmsRecord]:
        return read_records(conn, web.location_id, kind, patient_key=str(key))

    procedures = records(RecordKind.PROCEDURE)
    day = today(web).isoformat()
    is_now = [
        each
        for each in procedures
        if (visit and each.values.get("appointment_key") == visit.pms_key)
        or (each.values.get("day") == day and _state(each) != "existing")
    ]
    now_keys = {each.key for each in is_now}
    charted = [each for each in procedures if each.key not in now_keys and _state(each)]
    allergies = [each for each in records(RecordKind.ALLERGY) if each.values.get("is_active")]
    return ChartContext(
        is_known=True,
        alerts=_texts(allergies, "name", "reaction"),
        problems=_texts(_open(records(RecordKind.PROBLEM)), "name", "note"),
        medications=_texts(_open(records(RecordKind.MEDICATION)), "name"),
        missing=tuple(
            _text(each.values.get("tooth"))
            for each in records(RecordKind.TOOTH_STATE)
            if "missing" in _text(each.values.get("state")).lower()
        ),
        today=tuple(_line(each) for each in is_now[:_MOST]),
        visit=visit.description if visit else "",
        charted=tuple(_line(each) for each in charted[-_MOST:][::-1]),
        earlier=_earlier(conn, row),
    )


def _open(records: Iterable[PmsRecord]) -> list[PmsRecord]:
    """Those that have not ended."""
    return [each for each in records if not _text(each.values.get("end"))]


def _texts(records: Iterable[PmsRecord], *names: str) -> tuple[str, ...]:
    joined = (
        ": ".join(text for name in names if (text := _text(each.values.get(name))))
        for each in records
    )
    return tuple(text for text in dict.fromkeys(joined) if text)[:_MOST]


def _state(record: PmsRecord) -> str:
    status = _text(record.values.get("status"))
    return "" if status.lower() in ("d", "deleted") else _STATES.get(status.lower(), status)


def _line(record: PmsRecord) -> ChartLine:
    values: Mapping[str, object] = record.values
    return ChartLine(
        cdt_code=_text(values.get("cdt_code")),
        words=_text(values.get("description")),
        tooth=_text(values.get("tooth")),
        surfaces=_text(values.get("surfaces")),
        state=_state(record),
        day=_text(values.get("day")),
    )


def _earlier(conn: sa.Connection, row: Row) -> tuple[EarlierStudy, ...]:
    """What was signed on the patient's other films, the latest first."""
    rows = conn.execute(
        sa.select(study.c.id, study.c.study_date, review.c.content)
        .join(
            review,
            sa.and_(review.c.study_id == study.c.id, review.c.version == study.c.review_version),
        )
        .where(
            study.c.location_id == row.location_id,
            study.c.patient_id == row.patient_id,
            study.c.id != row.id,
            study.c.state == StudyState.SIGNED.value,
            study.c.match_state.in_([each.value for each in MatchState if each.is_certain]),
        )
        .order_by(study.c.study_date.desc())
        .limit(_MOST_EARLIER)
    )
    return tuple(
        EarlierStudy(
            study_id=each.id,
            study_date=each.study_date,
            findings=tuple(notes.numbered(SignedReview.from_json(each.content))),
        )
        for each in rows
    )


def _text(value: object) -> str:
    return str(value).strip() if value not in (None, False) else ""
