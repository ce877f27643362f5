"""What the page /rollout asks for: what is let in and why, and every change of it.

The node gives what other parts compute: the comparison with the dentists and the calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr

from node.config import Mode
from node.db.session import begin, read
from node.db.tables import instance, operatory, provider, user_account
from node.domain.plain_json import encode
from node.domain.recalibration import CalibrationContent
from node.domain.rights import WORDS, Right
from node.domain.rollout import (
    ANYWHERE,
    AUTO_ALLOWED,
    Area,
    Place,
    RollMode,
    Rule,
    Subject,
    decide,
    known_subjects,
)
from node.errors import Forbidden
from node.rollout import acknowledgements, auto, calibrations, reports, rules
from node.rollout.acknowledgements import Acknowledgement, Card
from node.rollout.authority import right_for
from node.rollout.explaining import explain_study
from node.rollout.reports import Report
from node.rollout.workflow_modes import workflow_decision
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, opaque_id, require

Json = dict[str, JsonValue]
_See = Annotated[Session, Depends(require(Right.ROLLOUT_SEE))]
_Lead = Annotated[Session, Depends(require(Right.ROLLOUT_LEAD))]
_Switch = Annotated[Session, Depends(require(Right.ROLLOUT_SWITCH))]
_Verify = Annotated[Session, Depends(require(Right.IMAGES_MOUNT))]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleBody(_Body):
    """A mode for a subject at a place."""

    subject: str = Field(max_length=96)
    mode: Literal["silent", "assist", "auto"]
    operatory: str = Field("", max_length=64)
    provider: str = Field("", max_length=64)
    view: str = Field("", max_length=16)
    lab: str = Field("", max_length=64)
    reason: str = Field("", max_length=255)


class BackBody(_Body):
    """The one switch back."""

    subject: str = Field("*", max_length=96)
    to: Literal["silent", "assist"] = "silent"
    reason: str = Field("", max_length=255)


class LiftBody(_Body):
    """Which switch back to take away."""

    subject: str = Field(max_length=96)


class AcknowledgeBody(_Body):
    """What the clinical lead read, word for word, with their password."""

    report_id: str = Field(max_length=32)
    text: str = Field(max_length=400_000)
    password: SecretStr


class VerifyBody(_Body):
    """Whether an automatic entry is right."""

    is_right: bool


class DecideBody(_Body):
    """What is decided about a calibration, and why."""

    decision: Literal["approve", "refuse"]
    reason: str = Field(min_length=3, max_length=255)


class EndBody(_Body):
    """Why the practice's calibration ends."""

    reason: str = Field(min_length=3, max_length=255)


@dataclass(frozen=True, slots=True)
class Sources:
    """What other parts of the node compute for the page."""

    workflows: Mapping[str, str]  # name -> title
    compare: Callable[[], Report]
    propose: Callable[[], CalibrationContent]


def make_router(sources: Sources) -> APIRouter:
    """Make the routes of the page."""
    router = APIRouter(prefix="/api/rollout")

    @router.get("")
    def get_overview(web: WebDep, session: _See) -> Json:
        """Everything that stands, with its reason."""
        audit_read(web, session, "rollout.seen", "rollout")
        return _overview(web, session, sources)

    @router.get("/explain/{study_id}")
    def get_explained(study_id: str, web: WebDep, session: _See) -> Json:
        """Why each kind is shown or hidden on each view of a study."""
        with read(web.db) as conn:
            lines = explain_study(conn, web.config, opaque_id(study_id))
        return {"lines": _plain(lines)}

    @router.post("/rules")
    def post_rule(body: RuleBody, web: WebDep, session: _See) -> Json:
        """Give a subject a mode."""
        subject, mode = Subject.parse(body.subject), RollMode(body.mode)
        _demand(session, right_for(subject, mode))
        place = Place(body.operatory, body.provider, body.view, body.lab)
        with begin(web.db, session.actor, "rollout.set") as tx:
            rules.set_mode(
                tx,
                subject,
                mode,
                place=place,
                reason=body.reason,
                min_studies=web.config.rollout.min_studies,
            )
        return _overview(web, session, sources)

    @router.post("/rules/{rule_id}/end")
    def post_end_rule(rule_id: str, web: WebDep, session: _Lead) -> Json:
        """End one rule."""
        with begin(web.db, session.actor, "rollout.rule_ended") as tx:
            rules.end_rule(tx, opaque_id(rule_id))
        return _overview(web, session, sources)

    @router.post("/back")
    def post_back(body: BackBody, web: WebDep, session: _Switch) -> Json:
        """Hold a kind, a workflow or everything at a mode, at once."""
        with begin(web.db, session.actor, "rollout.back") as tx:
            rules.switch_back(tx, Subject.parse(body.subject), RollMode(body.to), body.reason)
        return _overview(web, session, sources)

    @router.post("/lift")
    def post_lift(body: LiftBody, web: WebDep, session: _See) -> Json:
        """Let the rules hold again."""
        subject = Subject.parse(body.subject)
        _demand(session, right_for(subject, RollMode.ASSIST))
        with begin(web.db, session.actor, "rollout.lifted") as tx:
            rules.lift(tx, subject)
        return _overview(web, session, sources)

    @router.post("/reports")
    def post_report(web: WebDep, session: _Lead) -> Json:
        """Compare what was silent with what dentists marked, and keep it."""
        found = sources.compare()
        with begin(web.db, session.actor, "rollout.reported") as tx:
            reports.keep(tx, found)
        return _overview(web, session, sources)

    @router.post("/acknowledge")
    def post_acknowledge(body: AcknowledgeBody, web: WebDep, session: _Lead) -> Json:
        """Record that the clinical lead read what the models are."""
        web.accounts.prove(session, password=body.password.get_secret_value())
        with begin(web.db, session.actor, "rollout.acknowledged") as tx:
            cards = acknowledgements.installed(tx.conn, web.location_id)
            acknowledgements.give(tx, session.user_id, body.report_id, cards, body.text)
        return _overview(web, session, sources)

    @router.post("/withdraw")
    def post_withdraw(web: WebDep, session: _Lead) -> Json:
        """Take the acknowledgements back."""
        with begin(web.db, session.actor, "rollout.withdrawn") as tx:
            acknowledgements.withdraw(tx)
        return _overview(web, session, sources)

    _add_auto_and_calibration(router, sources)
    return router


def _add_auto_and_calibration(router: APIRouter, sources: Sources) -> None:
    @router.get("/auto")
    def get_auto(web: WebDep, session: _Verify) -> Json:
        """What was entered automatically and waits for a person."""
        return _automatic(web)

    @router.post("/auto/{entry_id}")
    def post_verified(entry_id: str, body: VerifyBody, web: WebDep, session: _Verify) -> Json:
        """Say that an automatic entry is right or wrong."""
        with begin(web.db, session.actor, "auto.verified") as tx:
            auto.verify(tx, opaque_id(entry_id), body.is_right)
        return _automatic(web)

    @router.post("/calibrations")
    def post_proposal(web: WebDep, session: _Lead) -> Json:
        """Fit a calibration to the signed decisions: a proposal, nothing more."""
        content = sources.propose()
        with begin(web.db, session.actor, "calibration.proposed") as tx:
            calibrations.propose(tx, content)
        return _overview(web, session, sources)

    @router.post("/calibrations/end")
    def post_end(body: EndBody, web: WebDep, session: _Lead) -> Json:
        """Go back to the networks' own probabilities."""
        with begin(web.db, session.actor, "calibration.ended") as tx:
            calibrations.end(tx, body.reason)
        return _overview(web, session, sources)

    @router.post("/calibrations/{version}")
    def post_decision(version: int, body: DecideBody, web: WebDep, session: _Lead) -> Json:
        """Approve or refuse a version."""
        decide_it = calibrations.approve if body.decision == "approve" else calibrations.refuse
        with begin(web.db, session.actor, f"calibration.{body.decision}d") as tx:
            decide_it(tx, version, body.reason)
        return _overview(web, session, sources)


def _demand(session: Session, right: Right) -> None:
    if not session.may(right):
        raise Forbidden(f"You need the right: {WORDS[right]}. Ask an administrator.")


def _overview(web: Web, session: Session, sources: Sources) -> Json:
    with read(web.db) as conn:
        standing = rules.read_rules(conn, web.location_id)
        given = acknowledgements.standing(conn, web.location_id)
        cards = acknowledgements.installed(conn, web.location_id)
        kept = reports.read_reports(conn, web.location_id)
        names = _names(conn, web.location_id)
        versions = calibrations.versions(conn, web.location_id)
        places = _places(conn, web)
    text = ""
    if kept and cards and session.may(Right.ROLLOUT_LEAD):
        text = acknowledgements.compose_text(cards, kept[0].report)
    return {
        "limit": web.config.node.mode.value,
        "min_studies": web.config.rollout.min_studies,
        "may": {
            "lead": session.may(Right.ROLLOUT_LEAD),
            "switch": session.may(Right.ROLLOUT_SWITCH),
            "verify": session.may(Right.IMAGES_MOUNT),
        },
        "subjects": [*_subjects(web, standing, sources, _block(web, given, cards))],
        "rules": [
            {
                "id": rule.id,
                "subject": str(rule.subject),
                "words": rule.words,
                "is_ceiling": rule.is_ceiling,
                "by": names.get(rule.set_by, rule.set_by),
                "reason": rule.reason,
            }
            for rule in standing
        ],
        "acknowledgement": {
            "name": given.name,
            "given_at": given.given_at.isoformat(),
            "models": list[JsonValue](sorted(given.models)),
        }
        if given and cards
        else None,
        "models": [{"name": c.name, "version": c.version, "digest": c.digest} for c in cards],
        "text": text,
        "reports": [
            {
                "id": each.id,
                "made_at": each.made_at.isoformat(),
                "made_by": names.get(each.made_by, each.made_by),
                **_plain_object(each.report),
            }
            for each in kept
        ],
        "auto": _automatic(web) if session.may(Right.IMAGES_MOUNT) else None,
        "calibrations": [
            {
                **_plain_object(each),
                "made_by": names.get(each.made_by, each.made_by),
                "decided_by": names.get(each.decided_by, each.decided_by),
            }
            for each in versions
        ],
        "places": places,
    }


def _block(web: Web, given: Acknowledgement | None, cards: Sequence[Card]) -> str:
    """Say what keeps everything silent whatever the rules say; empty when nothing does."""
    if web.config.node.mode is Mode.SILENT:
        return "the configuration keeps everything silent ([node] mode)"
    if given is None or not cards:
        return "nobody has acknowledged the installed models"
    return ""


def _subjects(
    web: Web, standing: tuple[Rule, ...], sources: Sources, block: str
) -> Sequence[JsonValue]:
    found: list[JsonValue] = []
    for subject in known_subjects(list(sources.workflows)):
        if subject.area is Area.WORKFLOW:
            if web.config.workflows.mode(subject.name) is None:
                continue
            decision = workflow_decision(standing, web.config, subject.name, ANYWHERE)
        else:
            decision = decide(standing, subject, ANYWHERE)
        mode, why = decision.mode, decision.words
        is_blocked = subject.area is Area.FINDING or (
            subject.area is Area.TAG and web.config.node.mode is Mode.SILENT
        )
        if block and is_blocked and mode is not RollMode.SILENT:
            mode, why = RollMode.SILENT, f"silent: {block}; the rules say {why}"
        found.append(
            {
                "subject": str(subject),
                "area": str(subject.area),
                "title": sources.workflows.get(subject.name, subject.name.replace("_", " ")),
                "mode": mode.value,
                "why": why,
                "auto": AUTO_ALLOWED.get(subject),
            }
        )
    return found


def _automatic(web: Web) -> Json:
    with read(web.db) as conn:
        rows = auto.waiting(conn, web.location_id)
        rates = auto.error_rates(conn, web.location_id)
        numbers = {
            row.id: row.instance_number
            for row in conn.execute(
                sa.select(instance.c.id, instance.c.instance_number).where(
                    instance.c.id.in_([row.instance_id for row in rows if row.instance_id])
                )
            )
        }
    return {
        "rates": _plain(rates),
        "entries": [
            {
                "id": row.id,
                "study_id": row.study_id,
                "image": numbers.get(row.instance_id),
                "tag": row.tag,
                "value": row.value,
                "is_sampled": row.is_sampled,
                "entered_at": row.entered_at.isoformat(),
            }
            for row in rows
        ],
    }


def _names(conn: sa.Connection, location_id: str) -> dict[str, str]:
    rows = conn.execute(
        sa.select(user_account.c.id, user_account.c.display_name).where(
            user_account.c.location_id == location_id
        )
    )
    return {row.id: row.display_name for row in rows}


def _places(conn: sa.Connection, web: Web) -> Json:
    """The operatories, providers and laboratories that a rule can name."""
    found: Json = {"lab": [{"key": lab.key, "name": lab.key} for lab in web.config.labs.partners]}
    for name, table in (("operatory", operatory), ("provider", provider)):
        rows = conn.execute(
            sa.select(table.c.pms_key, table.c.abbreviation, table.c.name)
            .where(table.c.location_id == web.location_id, sa.not_(table.c.is_hidden))
            .order_by(table.c.name, table.c.pms_key)
        )
        found[name] = [
            {"key": row.pms_key, "name": row.name or row.abbreviation or row.pms_key}
            for row in rows
        ]
    return found


def _plain(value: object) -> JsonValue:
    encoded = encode(value)
    assert isinstance(encoded, list)
    return encoded


def _plain_object(value: object) -> Json:
    encoded = encode(value)
    assert isinstance(encoded, dict)
    return encoded
