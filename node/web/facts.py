"""One study as one person may see it, read from the tables; what every study answer starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from node.db.tables import (
    analysis_run,
    finding,
    image_view,
    instance,
    operation,
    patient_identity,
    study,
    study_identity,
    user_account,
)
from node.domain.findings import DecisionState
from node.domain.rights import Right
from node.domain.study import NOT_SHOWN, InstanceState, MatchState, StudyState
from node.errors import NotFound
from node.rollout.showing import ShownRun, StudyShowing, study_showing
from node.web.accounts import Session
from node.web.auth import Web
from node.web.shapes import PatientHeader, ShownState

# SQLAlchemy's Row is generic over its columns, which differ from query to query.
Row = sa.Row

SUGGESTED = DecisionState.SUGGESTED.value
#: Operations that decide nothing.
VIEW_KINDS = ("seen_image", "bare_view", "place", "calibrate", "template")
_UNREADABLE = (InstanceState.UNREADABLE.value, *NOT_SHOWN)


@dataclass(frozen=True, slots=True)
class Facts:
    """The rows of one study. `findings` are those this person may see, oldest first."""

    study: Row
    images: Sequence[Row]
    findings: Sequence[Row]
    runs: Mapping[str, ShownRun]  # instance id -> what is shown of its latest analysis
    seen: frozenset[str]
    seen_bare: frozenset[str]
    is_touched: bool  # somebody decided something
    sees_ai: bool  # something of the models is shown to this person
    showing: StudyShowing
    hidden: Sequence[Row] = ()  # suggestions that the roll-out keeps from everybody

    @property
    def readable(self) -> tuple[Row, ...]:
        """The images with pixels."""
        return tuple(image for image in self.images if image.state not in _UNREADABLE)

    @property
    def waiting(self) -> tuple[Row, ...]:
        """The images that are still to be analysed."""
        return tuple(i for i in self.images if i.state == InstanceState.RECEIVED.value)

    @property
    def undecided(self) -> tuple[Row, ...]:
        """The suggestions that nobody has decided."""
        return tuple(row for row in self.findings if row.state == SUGGESTED)

    @property
    def is_editable(self) -> bool:
        """Whether findings may be changed: any time before the signature."""
        return bool(self.study.state != StudyState.SIGNED.value)

    @property
    def shown_state(self) -> ShownState:
        """The state a person reads."""
        match StudyState(self.study.state):
            case StudyState.SIGNED:
                return ShownState.SIGNED
            case StudyState.RECEIVING:
                return ShownState.RECEIVING
            case StudyState.COMPLETE:
                return ShownState.ANALYSING
            case StudyState.READY:
                return self._ready_state()

    def _ready_state(self) -> ShownState:
        if self.waiting:
            return ShownState.ANALYSING
        if self.study.review_version > 0:
            return ShownState.AMENDING
        if self.is_touched:
            return ShownState.IN_REVIEW
        if any(image.state == InstanceState.FAILED.value for image in self.images):
            return ShownState.AI_FAILED
        if self.runs and not any(run.models for run in self.runs.values()):
            return ShownState.AI_OFF
        return ShownState.READY


def sees_ai(session: Session, showing: StudyShowing) -> bool:
    """Whether anything of the models is shown to this person: right and roll-out both say so."""
    return session.may(Right.FINDINGS_SEE_UNSIGNED) and showing.is_any


def find_study(conn: sa.Connection, location_id: str, study_id: str, lock: bool = False) -> Row:
    """Read one study of this location, locked against other writers if asked.

    Raises NotFound.
    """
    query = sa.select(study).where(study.c.id == study_id, study.c.location_id == location_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound("There is no such study.")
    return row


def find_image(conn: sa.Connection, location_id: str, image_id: str) -> Row:
    """Read one image of this location. Raises NotFound."""
    row = conn.execute(
        sa.select(instance).where(
            instance.c.id == image_id,
            instance.c.location_id == location_id,
            instance.c.state.not_in(NOT_SHOWN),
        )
    ).first()
    if row is None:
        raise NotFound("There is no such image.")
    return row


def read_facts(
    conn: sa.Connection, web: Web, session: Session, study_id: str, lock: bool = False
) -> Facts:
    """Read what this person may see of one study. Raises NotFound."""
    row = find_study(conn, web.location_id, study_id, lock)
    images = conn.execute(
        sa.select(instance)
        .where(instance.c.study_id == study_id, instance.c.state.not_in(NOT_SHOWN))
        .order_by(instance.c.instance_number, instance.c.received_at, instance.c.id)
    ).all()
    showing = study_showing(conn, web.config, study_id)
    shows_ai = sees_ai(session, showing)
    shown, hidden = _findings(conn, session, study_id, showing)
    views = conn.execute(
        sa.select(image_view.c.instance_id, image_view.c.bare_at)
        .join(instance, instance.c.id == image_view.c.instance_id)
        .where(instance.c.study_id == study_id, image_view.c.user_id == session.user_id)
    ).all()
    return Facts(
        study=row,
        images=images,
        findings=shown,
        runs={
            image_id: showing.run(run)
            for image_id, run in (latest_runs(conn, study_id) if shows_ai else {}).items()
        },
        seen=frozenset(view.instance_id for view in views),
        seen_bare=frozenset(view.instance_id for view in views if view.bare_at is not None),
        is_touched=_is_touched(conn, study_id),
        sees_ai=shows_ai,
        showing=showing,
        hidden=hidden,
    )


def latest_runs(conn: sa.Connection, study_id: str) -> dict[str, Row]:
    """Read the last analysis of each image of a study."""
    rows = conn.execute(
        sa.select(analysis_run)
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id == study_id)
        .order_by(analysis_run.c.finished_at)
    )
    return {row.instance_id: row for row in rows}


def finding_rows() -> sa.Select[tuple[object, ...]]:
    """Select findings with the operating points and view of the analysis that made them."""
    return sa.select(
        finding, analysis_run.c.operating_points, analysis_run.c.view.label("run_view")
    ).outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)


def _findings(
    conn: sa.Connection, session: Session, study_id: str, showing: StudyShowing
) -> tuple[list[Row], list[Row]]:
    """Read the findings that are shown, and the suggestions that the roll-out keeps silent."""
    if not session.may(Right.FINDINGS_SEE_UNSIGNED):
        return [], []
    rows = conn.execute(
        finding_rows()
        .add_columns(user_account.c.display_name)
        .outerjoin(user_account, user_account.c.id == finding.c.decided_by)
        .where(finding.c.study_id == study_id, sa.not_(finding.c.is_removed))
        .order_by(finding.c.created_at, finding.c.id)
    ).all()
    shown = [row for row in rows if showing.keeps(row, row.run_view)]
    return shown, [row for row in rows if not showing.keeps(row, row.run_view)]


def is_decision() -> sa.ColumnElement[bool]:
    """Which operations are somebody's work on findings: neither looking nor refused."""
    status = operation.c.outcome["status"].as_string()
    return sa.and_(operation.c.kind.not_in(VIEW_KINDS), status.in_(("applied", "proposed")))


def _is_touched(conn: sa.Connection, study_id: str) -> bool:
    query = sa.select(operation.c.op_id).where(operation.c.study_id == study_id, is_decision())
    return conn.execute(query.limit(1)).first() is not None


def patient_header(
    conn: sa.Connection, session: Session, row: Row, today: date
) -> PatientHeader | None:
    """Say who the patient is: by the PMS once the match is certain, else as the sender wrote."""
    if not session.may(Right.PATIENTS_SEE):
        return None
    if row.patient_id and MatchState(row.match_state).is_certain:
        known = conn.execute(
            sa.select(patient_identity).where(patient_identity.c.patient_id == row.patient_id)
        ).first()
        return pms_header(known, today) if known else None
    sent = conn.execute(
        sa.select(study_identity).where(study_identity.c.study_id == row.id)
    ).first()
    return sender_header(sent, today) if sent else None


def pms_header(known: Row, today: date) -> PatientHeader:
    """Describe a patient of the PMS."""
    return PatientHeader(
        family_name=known.family_name,
        given_name=known.given_name,
        birth_date=known.birth_date,
        age=age_on(known.birth_date, today),
        sex=known.sex,
        source="pms",
    )


def sender_header(sent: Row, today: date) -> PatientHeader | None:
    """Describe the patient as the first image did, verbatim; None when it said nothing."""
    if not (sent.patient_name or sent.birth_date):
        return None
    family, _, rest = sent.patient_name.split("=")[0].partition("^")
    birth_date = _dicom_date(sent.birth_date)
    return PatientHeader(
        family_name=family.strip(),
        given_name=rest.split("^")[0].strip(),
        birth_date=birth_date,
        age=age_on(birth_date, today),
        sex=sent.sex,
        source="sender",
    )


def age_on(birth_date: date | None, today: date) -> int | None:
    """Whole years; None without a birth date."""
    if birth_date is None:
        return None
    had_birthday = (today.month, today.day) >= (birth_date.month, birth_date.day)
    return max(0, today.year - birth_date.year - (not had_birthday))


def _dicom_date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        return None
