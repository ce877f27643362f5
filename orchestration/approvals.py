"""Drafts that wait for a person, and the decision: approve, edit or refuse, with the reason."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from node.config import Config, Mode
from node.db.session import Tx, new_id
from node.db.tables import approval, workflow_case
from node.domain.events import EventKind
from node.domain.rights import Right
from node.engine import DurableEngine
from node.errors import Conflict, Forbidden, InvalidInput, NotFound
from node.rollout.workflow_modes import workflow_mode
from orchestration import cases
from orchestration.case import Decision
from orchestration.workflow import Ask, Draft, Workflow

#: What a person is told of a draft whose workflow was switched back after it asked.
HELD = (
    "this workflow was switched back to silent after it asked: it can be refused now, and approved"
    " once it is let in again"
)
_VERDICTS = ("approved", "edited", "refused")


def topic(approval_id: str) -> str:
    """Name the signal by which a decision reaches its case."""
    return f"approval:{approval_id}"


def hold(tx: Tx, case_id: str, question: Ask) -> str:
    """Keep a draft for a person; returns the approval's id."""
    approval_id = new_id()
    tx.conn.execute(
        approval.insert().values(
            id=approval_id,
            location_id=tx.location_id,
            case_id=case_id,
            kind=question.kind,
            title=question.title[:128],
            right=question.right.value,
            draft=question.draft,
            state="waiting",
            escalate_to=question.escalate_to.value,
            created_at=tx.now,
        )
    )
    tx.append_event(
        EventKind.APPROVAL_ASKED, approval_id, f"asked:{approval_id}", {"kind": question.kind}
    )
    return approval_id


def decide(
    tx: Tx,
    engine: DurableEngine,
    workflows: dict[str, Workflow],
    approval_id: str,
    *,
    by: str,
    rights: frozenset[Right],
    verdict: str,
    draft: Draft | None = None,
    reason: str = "",
) -> None:
    """Record what a person decided, and wake the case in the same transaction.

    Raises
    ------
    NotFound
        There is no such approval at this location.
    Conflict
        It has been decided or withdrawn.
    Forbidden
        The person lacks the right that it asks for.
    InvalidInput
        The verdict is unknown, a refusal or an edit has no reason, or the edited draft is not one
        that the workflow takes.
    """
    row = tx.conn.execute(
        sa.select(approval, workflow_case.c.workflow)
        .join(workflow_case, workflow_case.c.id == approval.c.case_id)
        .where(approval.c.id == approval_id, approval.c.location_id == tx.location_id)
        .with_for_update()
    ).first()
    if row is None:
        raise NotFound("there is no such approval")
    if row.state != "waiting":
        raise Conflict(f"this has been {row.state} already")
    if Right(row.right) not in rights:
        raise Forbidden("You may not decide this.")
    _check(workflows.get(row.workflow), row.kind, verdict, draft, reason)
    tx.conn.execute(
        approval.update()
        .where(approval.c.id == approval_id)
        .values(
            state=verdict,
            decided_draft=draft if verdict == "edited" else None,
            decided_by=by,
            decided_at=tx.now,
            reason=reason,
        )
    )
    tx.append_event(
        EventKind.APPROVAL_DECIDED, approval_id, f"decided:{approval_id}", {"verdict": verdict}
    )
    tx.record(f"approval:{approval_id}", verdict=verdict, by=by, case=row.case_id)
    payload = {"approval_id": approval_id}
    cases.signal(tx, engine, row.case_id, topic(approval_id), approval_id, payload)


def holds_silent(conn: sa.Connection, config: Config, approval_id: str) -> bool:
    """Whether the workflow that asks was switched back to silent meanwhile."""
    row = conn.execute(
        sa.select(workflow_case.c.workflow, workflow_case.c.data)
        .join(approval, approval.c.case_id == workflow_case.c.id)
        .where(approval.c.id == approval_id, approval.c.location_id == config.node.location_id)
    ).first()
    return row is not None and is_silent(conn, config, row.workflow, row.data)


def is_silent(
    conn: sa.Connection, config: Config, workflow: str, data: Mapping[str, object]
) -> bool:
    """Whether a case's workflow may only draft now."""
    return workflow_mode(conn, config, workflow, data) is Mode.SILENT


def demand_let_in(conn: sa.Connection, config: Config, approval_id: str, verdict: str) -> None:
    """Refuse (Conflict) to approve for a workflow that is silent now; it may still be refused.

    Asked after :func:`decide`, in its transaction: who may not decide hears that first.
    """
    if verdict != "refused" and holds_silent(conn, config, approval_id):
        raise Conflict(HELD)


def decision(conn: sa.Connection, approval_id: str) -> Decision:
    """Read what a person decided."""
    row = conn.execute(sa.select(approval).where(approval.c.id == approval_id)).one()
    draft = row.decided_draft if row.state == "edited" else row.draft
    return Decision(row.kind, row.state, draft, row.decided_by, row.decided_at, row.reason)


def _check(
    workflow: Workflow | None, kind: str, verdict: str, draft: Draft | None, reason: str
) -> None:
    if verdict not in _VERDICTS:
        raise InvalidInput(f"a decision is one of {', '.join(_VERDICTS)}")
    if verdict != "approved" and not reason.strip():
        raise InvalidInput("Say why: a refusal or an edit keeps its reason.")
    if (verdict == "edited") != (draft is not None):
        raise InvalidInput("an edited decision brings its draft, and only that one")
    if draft is not None and workflow is not None and kind in workflow.checks:
        workflow.checks[kind](draft)
