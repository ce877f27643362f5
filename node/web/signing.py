"""The sign-off gate: what must be true before a signature, and what a signature writes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from node import __version__
from node.db.session import Tx, begin, new_id, read
from node.db.tables import operation, review, study
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.findings import DecisionState, Disposition, ModelVersion
from node.domain.review import (
    DecisionCounts,
    Json,
    SignedFinding,
    SignedReview,
    content_hash,
    finding_from_json,
    model_from_json,
)
from node.domain.rights import Right
from node.domain.study import MatchState, StudyState
from node.engine import RESULTS, WORKFLOWS
from node.errors import Conflict, Rejected
from node.rollout import silent
from node.web.accounts import Session, WrongCredentials
from node.web.auth import Web
from node.web.facts import Facts, Row, latest_runs, read_facts
from node.web.pins import WrongPin
from node.web.problems import NotSignable
from node.web.sensitivity import stop_of
from node.web.shapes import AmendAnswer, Blocker, SignAnswer, SignRequest, SignState

STATEMENT = "I have reviewed these images and the findings above are my own."

_KEPT = (DecisionState.ACCEPTED.value, DecisionState.EDITED.value)
#: What of a review the screen shows before it is signed; the rest is added by the signature.
_ON_SCREEN = ("study_id", "study_instance_uid", "version", "instances", "findings", "models")


def sign_state(facts: Facts, session: Session) -> SignState:
    """Say what stands between this person and a signature."""
    return SignState(
        next_version=facts.study.review_version + 1,
        needs_reason=facts.study.review_version > 0,
        statement=STATEMENT,
        blockers=tuple(blockers(facts, session, ())),
    )


def blockers(facts: Facts, session: Session, left_unreviewed: Sequence[str]) -> list[Blocker]:
    """List every reason why this person cannot sign this study now."""
    found: list[Blocker] = []
    if not session.may(Right.FINDINGS_SIGN):
        found.append(Blocker(kind="right", words="You need the right: sign findings."))
    if facts.study.state == StudyState.SIGNED.value:
        found.append(Blocker(kind="not_ready", words="This study is signed. Amend it first."))
    elif facts.study.state != StudyState.READY.value or facts.waiting:
        words = "Images are still arriving or being analysed. Wait until the study is ready."
        found.append(Blocker(kind="not_ready", words=words))
    if not facts.readable:
        found.append(Blocker(kind="not_ready", words="This study has no readable image."))
    if not MatchState(facts.study.match_state).is_certain:
        words = "It is not certain whose images these are. Link the patient first."
        found.append(Blocker(kind="unlinked", words=words))
    unseen = tuple(image.id for image in facts.readable if image.id not in facts.seen)
    if unseen:
        words = f"You have not seen {len(unseen)} of {len(facts.readable)} images."
        found.append(Blocker(kind="unseen", words=words, ids=unseen))
    undecided = tuple(
        row.id for row in facts.undecided if not (row.id in left_unreviewed and is_weak(row))
    )
    if undecided:
        words = f"{len(undecided)} suggestions are not decided."
        found.append(Blocker(kind="undecided", words=words, ids=undecided))
    return found


def is_weak(row: Row) -> bool:
    """Whether a suggestion may be left unreviewed: the strict stop does not show it."""
    return stop_of(row.kind, row.probability, row.operating_points) != "strict"


def screen_hash(facts: Facts) -> str:
    """Digest what the screen shows and a signature would cover.

    It can be computed again from the content of the review: see :func:`signed_hash`.
    """
    shown = _compose(facts, None, datetime.min.replace(tzinfo=UTC), "", 0).to_json()
    return signed_hash({**shown, "patient_id": facts.study.patient_id})


def signed_hash(content: Json) -> str:
    """Digest the part of ``review.content`` that was on the screen when it was signed."""
    counts = content["counts"]
    assert isinstance(counts, dict)
    shown = {name: content[name] for name in (*_ON_SCREEN, "patient_id")}
    shown["counts"] = {name: n for name, n in counts.items() if name != "left_unreviewed"}
    return content_hash(shown)


def sign(web: Web, session: Session, study_id: str, request: SignRequest) -> SignAnswer:
    """Sign one version; the same request again gives the same answer.

    Raises
    ------
    NotSignable
        Something is undecided, unseen, unlinked, changed or unproved; nothing was written.
    NotFound
        There is no such study here.
    """
    _prove(web, session, request)
    with begin(web.db, session.actor, "review.signed") as tx:
        facts = read_facts(tx.conn, web, session, study_id, lock=True)
        already = _signed_before(tx.conn, session, study_id, request)
        if already is not None:
            tx.record(f"study:{study_id}", version=request.version, repeated=True)
            return already
        reason = request.reason.strip() or _amend_reason(tx.conn, facts)
        _check(facts, session, request, reason)
        signed = _compose(facts, session, tx.now, reason, len(facts.undecided))
        _write(tx, web, signed, facts, request.content_hash)
    return SignAnswer(
        version=signed.version,
        signed_at=signed.signed_at,
        signer_name=signed.signer_name,
        content_hash=request.content_hash,
        next_study_id=_next_study(web, study_id),
    )


def amend(web: Web, session: Session, study_id: str, reason: str) -> AmendAnswer:
    """Open a signed study for a further version; the signed one stays as it is.

    Raises Rejected when it is not signed.
    """
    with begin(web.db, session.actor, "review.amending") as tx:
        row = read_facts(tx.conn, web, session, study_id, lock=True).study
        if row.state != StudyState.SIGNED.value:
            raise Rejected("This study is not signed; there is nothing to amend.")
        op_id = str(uuid.uuid4())
        tx.conn.execute(
            operation.insert().values(
                op_id=op_id,
                location_id=tx.location_id,
                study_id=study_id,
                user_id=session.user_id,
                kind="amend",
                data={"reason": reason.strip()},
                outcome={"status": "applied"},
                at=tx.now,
            )
        )
        tx.conn.execute(
            study.update().where(study.c.id == study_id).values(state=StudyState.READY.value)
        )
        data = {"study_id": study_id, "version": row.review_version + 1}
        tx.append_event(EventKind.REVIEW_CHANGED, study_id, f"review:{op_id}", data)
        tx.record(f"study:{study_id}", version=row.review_version + 1)
    return AmendAnswer(next_version=row.review_version + 1)


def _prove(web: Web, session: Session, request: SignRequest) -> None:
    password = request.password.get_secret_value() if request.password else ""
    pin = request.pin.get_secret_value() if request.pin else ""
    if password or pin:
        try:
            web.accounts.prove(session, password=password, pin=pin)
        except WrongCredentials:
            words = "That password does not fit, or your account rests after wrong tries."
            raise NotSignable((Blocker(kind="proof", words=words),)) from None
        except WrongPin as wrong:
            raise NotSignable((Blocker(kind="proof", words=str(wrong)),)) from None
        return
    if not session.is_proved(datetime.now(UTC)):
        raise NotSignable(
            (Blocker(kind="proof", words="Please give your PIN or password to sign."),)
        )


def _signed_before(
    conn: sa.Connection, session: Session, study_id: str, request: SignRequest
) -> SignAnswer | None:
    """Return the answer to the same request when it was signed before and only the answer lost."""
    row = conn.execute(
        sa.select(review).where(
            review.c.study_id == study_id,
            review.c.version == request.version,
            review.c.signed_by == session.user_id,
            review.c.content_hash == request.content_hash,
        )
    ).first()
    if row is None:
        return None
    return SignAnswer(
        version=row.version,
        signed_at=row.signed_at,
        signer_name=row.signer_name,
        content_hash=row.content_hash,
        next_study_id=None,
    )


def _check(facts: Facts, session: Session, request: SignRequest, reason: str) -> None:
    if request.version <= facts.study.review_version:
        raise Conflict("This version was signed by somebody else. Reload to see it.")
    found = blockers(facts, session, request.left_unreviewed)
    next_version = facts.study.review_version + 1
    if request.version != next_version or request.content_hash != screen_hash(facts):
        words = "The study changed since your screen was drawn. Look at it again, then sign."
        found.append(Blocker(kind="changed", words=words))
    if next_version > 1 and len(reason) < 3:
        found.append(Blocker(kind="reason", words="Say why the signed findings are amended."))
    if found:
        raise NotSignable(tuple(found))


def _compose(
    facts: Facts, session: Session | None, signed_at: datetime, reason: str, left: int
) -> SignedReview:
    """Make the review; without a session it is what the screen shows before the signature."""
    uids = {image.id: image.sop_instance_uid for image in facts.images}
    return SignedReview(
        study_id=facts.study.id,
        study_instance_uid=facts.study.study_instance_uid,
        version=facts.study.review_version + 1,
        signer_id=session.user_id if session else "",
        signer_name=session.display_name if session else "",
        signer_role=session.role.value if session else "",
        signed_at=signed_at,
        statement=STATEMENT,
        reason=reason,
        software_version=__version__,
        instances=tuple((image.id, image.sop_instance_uid) for image in facts.readable),
        findings=tuple(
            _signed_finding(row, uids[row.instance_id])
            for row in facts.findings
            if row.state in _KEPT
        ),
        models=_models(facts),
        counts=_counts(facts, left),
    )


def _signed_finding(row: Row, sop_instance_uid: str) -> SignedFinding:
    return SignedFinding(
        id=row.id,
        instance_id=row.instance_id,
        sop_instance_uid=sop_instance_uid,
        origin=row.origin,
        state=DecisionState(row.state),
        finding=finding_from_json(dict(row._mapping)),
        disposition=Disposition(row.disposition) if row.disposition else None,
        comment=row.comment,
    )


def _models(facts: Facts) -> tuple[ModelVersion, ...]:
    """Every model that ran on an image, or whose mark is among the findings."""
    found = {model_from_json(model) for run in facts.runs.values() for model in run.models}
    found |= {model_from_json(row.model) for row in facts.findings if row.model}
    return tuple(sorted(found, key=str))


def _counts(facts: Facts, left: int) -> DecisionCounts:
    by_ai = [row.state for row in facts.findings if row.origin == "ai"]
    return DecisionCounts(
        suggested=len(by_ai),
        accepted=by_ai.count(DecisionState.ACCEPTED.value),
        edited=by_ai.count(DecisionState.EDITED.value),
        rejected=by_ai.count(DecisionState.REJECTED.value),
        added=sum(row.origin == "human" and row.state in _KEPT for row in facts.findings),
        left_unreviewed=left,
    )


def _amend_reason(conn: sa.Connection, facts: Facts) -> str:
    """Find the reason given since the last signature; an earlier one was for another version."""
    last_signed_at = (
        sa.select(review.c.signed_at)
        .where(
            review.c.study_id == facts.study.id,
            review.c.version == facts.study.review_version,
        )
        .scalar_subquery()
    )
    data = conn.execute(
        sa.select(operation.c.data)
        .where(
            operation.c.study_id == facts.study.id,
            operation.c.kind == "amend",
            operation.c.at > last_signed_at,
        )
        .order_by(operation.c.at.desc())
        .limit(1)
    ).scalar()
    return str(data["reason"]) if data else ""


def _write(tx: Tx, web: Web, signed: SignedReview, facts: Facts, digest: str) -> None:
    study_id, version = signed.study_id, signed.version
    tx.conn.execute(
        review.insert().values(
            id=new_id(),
            location_id=tx.location_id,
            study_id=study_id,
            version=version,
            signed_by=signed.signer_id,
            signer_name=signed.signer_name,
            signer_role=signed.signer_role,
            statement=signed.statement,
            reason=signed.reason,
            content_hash=digest,
            content={**signed.to_json(), "patient_id": facts.study.patient_id},
            software_version=signed.software_version,
            signed_at=signed.signed_at,
        )
    )
    tx.conn.execute(
        study.update()
        .where(study.c.id == study_id)
        .values(state=StudyState.SIGNED.value, review_version=version)
    )
    data = {"study_id": study_id, "version": version}
    tx.append_event(EventKind.REVIEW_SIGNED, study_id, f"signed:{study_id}:{version}", data)
    web.engine.enqueue(
        tx.conn,
        WORKFLOWS,
        jobs.CHART_FINDINGS,
        jobs.chart_key(study_id, version),
        study_id,
        version,
    )
    web.engine.enqueue(
        tx.conn,
        RESULTS,
        jobs.PUBLISH_RESULTS,
        jobs.publish_key(study_id, version, 0),
        study_id,
        version,
        0,
    )
    silent.keep(tx, study_id, version, facts.showing, facts.hidden, latest_runs(tx.conn, study_id))
    counts = signed.to_json()["counts"]
    tx.record(f"study:{study_id}", version=version, content_hash=digest, counts=counts)


def _next_study(web: Web, study_id: str) -> str | None:
    with read(web.db) as conn:
        found = conn.execute(
            sa.select(study.c.id)
            .where(
                study.c.location_id == web.location_id,
                study.c.state == StudyState.READY.value,
                study.c.id != study_id,
            )
            .order_by(study.c.received_at)
            .limit(1)
        ).scalar()
    return str(found) if found else None
