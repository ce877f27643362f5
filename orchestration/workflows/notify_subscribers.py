"""Whoever subscribed is told, signed and until it is taken, by webhooks with versioned schemas.

Started by: a study that is ready or signed (``imaging_study_analyzed``), a case of any other
workflow that changes state (``workflow_state``), a lab order that was sent (``lab_order``); once
per subscriber and event. Calls: the addresses that the configuration names. Approved by: the
subscription itself; before the signature a study's ids and state go out and no finding, of a case
its state and never its data, of a lab order what the dentist has signed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

import httpx2
import sqlalchemy as sa

from node.config import Config, WebhookSection
from node.db.session import read
from node.db.tables import case_entry, workflow_case
from node.domain.destinations import Reach
from node.domain.events import EventKind
from node.domain.findings import FindingKind
from node.domain.review import SignedFinding, SignedReview
from node.errors import Rejected, Retryable
from node.outgoing import open_client
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.labs.source import LAB_CASE
from orchestration.signatures import sign
from orchestration.webhook_messages import (
    CaseStanding,
    Findings,
    HistoryEntry,
    ImagingStudyAnalyzed,
    WorkflowState,
)
from orchestration.workflow import Draft, Happened, Json, Module, Outcome, Start, Workflow, done

NAME = "notify_subscribers"
_TIMEOUT_S = 20.0
#: What is sound or was put there by a dentist: told, and no anomaly.
_SOUND = frozenset(
    {FindingKind.RESTORATION, FindingKind.CROWN, FindingKind.ROOT_FILLING, FindingKind.POST}
    | {FindingKind.IMPLANT}
)


def make(config: Config) -> Workflow:
    """Make the workflow for the configured subscribers."""
    subscribers = {each.name: each for each in config.workflows.webhooks}
    reach = config.outgoing.reach("webhooks")
    partners = frozenset(f"webhook:{name}" for name in subscribers)
    flow = Workflow(
        name=NAME,
        title="Webhooks",
        reads=frozenset({Module.REVIEWS}),
        partners=partners,
        silent_partners=partners,  # who is named in the configuration has been decided on
    )

    @flow.on(EventKind.STUDY_READY)
    @flow.on(EventKind.REVIEW_SIGNED)
    def study(chart: Chart, event: Happened) -> list[Start]:
        return _starts(subscribers, "imaging_study_analyzed", event)

    @flow.on(EventKind.CASE_CHANGED)
    def case(chart: Chart, event: Happened) -> list[Start]:
        if _workflow_of(chart, event.subject) == NAME:
            return []
        return [
            *_starts(subscribers, "workflow_state", event),
            *_orders(chart, subscribers, event),
        ]

    @flow.stage
    def tell(case: Case) -> Outcome:
        subscriber = subscribers.get(str(case.data["subscriber"]))
        if subscriber is None:
            return done("unsubscribed")
        compose = _COMPOSERS[str(case.data["event"])]
        message = case.once("message", compose, case.chart, subscriber, case.data)
        partner = f"webhook:{subscriber.name}"
        case.outside(partner, "post", lambda: _post(subscriber, case, message, reach))
        return done("told")

    return flow


def _starts(subscribers: Mapping[str, WebhookSection], name: str, event: Happened) -> list[Start]:
    return [
        Start(
            f"{each.name}:{event.seq}",
            data={
                "subscriber": each.name, "event": name, "subject": event.subject,
                "state": "signed" if event.kind is EventKind.REVIEW_SIGNED else "ready",
                "at": event.at.isoformat(),
            },
        )
        for each in subscribers.values()
        if name in each.events
    ]  # fmt: skip


def _study_message(chart: Chart, subscriber: WebhookSection, data: Draft) -> Json:
    study_id = str(data["subject"])
    signed = chart.review(study_id) if data["state"] == "signed" else None
    message = ImagingStudyAnalyzed(
        state="signed" if signed else "ready",
        patient_id=_patient(chart, subscriber, chart.patient_of_study(study_id)),
        study_id=study_id,
        findings=_findings(signed) if signed else None,
        timestamp=datetime.fromisoformat(str(data["at"])),
    )
    return cast("Json", message.model_dump(mode="json"))


def _findings(signed: SignedReview) -> Findings:
    """Sum up what was signed."""
    anomalies = [each for each in signed.findings if each.finding.kind not in _SOUND]
    scores = [p for each in anomalies if (p := each.finding.probability) is not None]
    actions = {each.disposition.value for each in anomalies if each.disposition is not None}
    return Findings(
        tags=sorted({_tag(each) for each in signed.findings}),
        anomaly_detected=bool(anomalies),
        anomaly_location=sorted({t.code for each in anomalies if (t := each.finding.tooth)}),
        confidence_score=round(max(scores), 3) if scores else None,
        recommended_actions=sorted(actions - {"none"}),
    )


def _tag(item: SignedFinding) -> str:
    tooth = item.finding.tooth
    return f"{item.finding.kind.value}:{tooth.code}" if tooth else item.finding.kind.value


def _case_message(chart: Chart, subscriber: WebhookSection, data: Draft) -> Json:
    case_id = str(data["subject"])
    with read(chart.db) as conn:
        row = conn.execute(sa.select(workflow_case).where(workflow_case.c.id == case_id)).one()
        entries = conn.execute(
            sa.select(case_entry.c.at, case_entry.c.kind, case_entry.c.stage)
            .where(case_entry.c.case_id == case_id)
            .order_by(case_entry.c.at, case_entry.c.id)
        ).all()
    message = WorkflowState(
        workflow_id=case_id,
        workflow=row.workflow,
        patient_id=_patient(chart, subscriber, row.patient_id),
        current_step=row.stage,
        data=CaseStanding(state=row.state),
        history=[HistoryEntry(at=each.at, what=each.kind, step=each.stage) for each in entries],
        timestamp=datetime.fromisoformat(str(data["at"])),
    )
    return cast("Json", message.model_dump(mode="json"))


def _orders(
    chart: Chart, subscribers: Mapping[str, WebhookSection], event: Happened
) -> list[Start]:
    """Tell of a lab order once it is signed and sent, once for each round of its case."""
    wanting = [each for each in subscribers.values() if "lab_order" in each.events]
    order = _order(chart, event.subject) if wanting else None
    if order is None:
        return []
    number = str(order["case_number"])
    return [
        Start(
            f"{each.name}:lab_order:{number}",
            data={"subscriber": each.name, "event": "lab_order", "subject": event.subject,
                  "at": event.at.isoformat()},
        )
        for each in wanting
    ]  # fmt: skip


def _order(chart: Chart, case_id: str) -> dict[str, Json] | None:
    """Read the order that a lab case sent last; None where it has sent none."""
    with read(chart.db) as conn:
        data = conn.execute(
            sa.select(workflow_case.c.data).where(
                workflow_case.c.id == case_id, workflow_case.c.workflow == LAB_CASE
            )
        ).scalar()
    order = (data or {}).get("order")
    return order if isinstance(order, dict) else None


def _order_message(chart: Chart, subscriber: WebhookSection, data: Draft) -> Json:
    order = _order(chart, str(data["subject"]))
    if order is None:
        raise Rejected("the lab case holds no order any more")
    patient_id = _patient(chart, subscriber, str(order["patient_id"]) or None)
    return {**order, "patient_id": patient_id}


def _patient(chart: Chart, subscriber: WebhookSection, patient_id: str | None) -> str | None:
    if patient_id is None or subscriber.identifiers == "opaque":
        return patient_id
    return chart.pms_key(patient_id)


def _workflow_of(chart: Chart, case_id: str) -> str | None:
    with read(chart.db) as conn:
        query = sa.select(workflow_case.c.workflow).where(workflow_case.c.id == case_id)
        return conn.execute(query).scalar()


def _post(subscriber: WebhookSection, case: Case, message: Json, reach: Reach) -> Json:
    """Post once; the delivery id is the same however often, so the receiver can drop repeats."""
    body = json.dumps(message, separators=(",", ":")).encode()
    headers = {
        "content-type": "application/json",
        "x-delivery": case.id,
        "x-signature": sign(subscriber.secret.get_secret_value(), body, datetime.now(UTC)),
    }
    try:
        with open_client(reach, timeout=httpx2.Timeout(_TIMEOUT_S)) as client:
            answer = client.post(subscriber.url, content=body, headers=headers)
    except httpx2.RequestError as error:
        raise Retryable(f"the subscriber does not answer ({type(error).__name__})") from None
    if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
        raise Retryable(f"the subscriber asks to wait ({answer.status_code})")
    if not answer.is_success:
        raise Rejected(f"the subscriber refuses the message ({answer.status_code})")
    return answer.status_code


_COMPOSERS = {
    "imaging_study_analyzed": _study_message,
    "workflow_state": _case_message,
    "lab_order": _order_message,
}
