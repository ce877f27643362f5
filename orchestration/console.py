"""The console's routes: what waits for a person, what runs, what failed, what is paused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol, cast

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from node.db import switches
from node.db.session import Actor, begin, look, note_reads, read
from node.db.tables import (
    approval,
    case_entry,
    patient_identity,
    pms_command,
    user_account,
    workflow_case,
    workflow_switch,
)
from node.domain.rights import Right
from node.errors import Conflict, Forbidden, InvalidInput, NotFound
from node.rollout.workflow_modes import workflow_mode
from orchestration import approvals, cases
from orchestration.cases import OPEN, CaseState, Row
from orchestration.figures import figures
from orchestration.labs.history import closed_cases
from orchestration.labs.statistics import by_lab
from orchestration.orchestra import Orchestra
from orchestration.workflow import Draft
from orchestration.workflows import send_results
from pms_writeback.waking import wake

_PAGE = 100
_SPAN = timedelta(days=30)


class Person(Protocol):
    """Who asks: a signed-in session of the web."""

    @property
    def user_id(self) -> str: ...  # noqa: D102
    @property
    def rights(self) -> frozenset[Right]: ...  # noqa: D102
    @property
    def actor(self) -> Actor: ...  # noqa: D102


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Verdict(_Shape):
    """What a person decides; an edit brings its draft, an edit or a refusal its reason."""

    verdict: Literal["approved", "edited", "refused"]
    draft: dict[str, JsonValue] | None = None
    reason: str = Field("", max_length=2000)


class Verdicts(_Shape):
    """The same approval for several drafts that were looked at."""

    ids: list[str] = Field(min_length=1, max_length=200)


class Reason(_Shape):
    """Why a case is ended by hand."""

    reason: str = Field(min_length=1, max_length=500)


class Turn(_Shape):
    """Pause or go on: ``outbound``, ``workflow:NAME`` or ``case:ID``."""

    scope: str = Field(pattern=r"^(outbound|workflow:[a-z_]{1,64}|case:[0-9a-f]{32})$")
    is_paused: bool
    reason: str = Field("", max_length=255)


def make_router(
    orchestra: Orchestra, require: Callable[[Right], Callable[[Request], Person]]
) -> APIRouter:
    """Make the routes; `require` makes the dependency that lets only people with a right pass."""
    router = APIRouter(prefix="/api")
    console = _Console(orchestra)
    see = Depends(require(Right.WORKFLOWS_SEE))
    retry = Depends(require(Right.WORKFLOWS_RETRY))
    pause = Depends(require(Right.WORKFLOWS_PAUSE))

    @router.get("/workflows")
    def get_workflows(person: Person = see) -> dict[str, JsonValue]:
        return console.overview()

    @router.get("/laboratories")
    def get_laboratories(person: Person = see) -> dict[str, JsonValue]:
        return console.laboratories()

    @router.get("/cases")
    def get_cases(
        workflow: Annotated[str, Query(max_length=64)] = "",
        state: Annotated[str, Query(max_length=32)] = "open",
        before: datetime | None = None,
        person: Person = see,
    ) -> dict[str, JsonValue]:
        return console.cases(person, workflow, state, before)

    @router.get("/cases/{case_id}")
    def get_case(case_id: str, person: Person = see) -> dict[str, JsonValue]:
        return console.case(person, case_id)

    @router.post("/cases/{case_id}/retry")
    def retry_case(case_id: str, person: Person = retry) -> dict[str, JsonValue]:
        return console.retry(person, case_id)

    @router.post("/cases/{case_id}/cancel")
    def cancel_case(
        case_id: str,
        body: Reason,
        person: Person = retry,
    ) -> dict[str, JsonValue]:
        return console.cancel(person, case_id, body.reason)

    @router.get("/approvals")
    def get_approvals(person: Person = see) -> dict[str, JsonValue]:
        return console.approvals(person)

    @router.get("/approvals/{approval_id}")
    def get_approval(approval_id: str, person: Person = see) -> dict[str, JsonValue]:
        return console.approval(person, approval_id)

    @router.post("/approvals/{approval_id}")
    def decide(
        approval_id: str,
        body: Verdict,
        person: Person = see,
    ) -> dict[str, JsonValue]:
        return console.decide(person, [approval_id], body)

    @router.post("/approvals")
    def approve_several(body: Verdicts, person: Person = see) -> dict[str, JsonValue]:
        return console.decide(person, body.ids, Verdict(verdict="approved"))

    @router.post("/switches")
    def turn(body: Turn, person: Person = pause) -> dict[str, JsonValue]:
        return console.turn(person, body)

    return router


class _Console:
    """Answers of the console; names only to those who may see patients."""

    def __init__(self, orchestra: Orchestra) -> None:
        self._orchestra = orchestra
        self._runner = orchestra.runner
        self._db = orchestra.runner.db
        self._location = orchestra.runner.actor.location_id

    def overview(self) -> dict[str, JsonValue]:
        """Every workflow with its mode, states and figures of thirty days, and what is paused."""
        since = self._runner.clock() - _SPAN
        config = self._runner.config
        with read(self._db) as conn:
            rows = [
                {
                    "name": each.name,
                    "title": each.title,
                    "mode": found.value
                    if (found := workflow_mode(conn, config, each.name))
                    else "off",
                    "figures": asdict(figures(conn, self._location, each.name, since)),
                }
                for each in self._runner.workflows.values()
            ]
            paused = conn.execute(
                sa.select(workflow_switch).where(
                    workflow_switch.c.location_id == self._location, workflow_switch.c.is_paused
                )
            ).all()
            switched = [
                {"scope": row.scope, "reason": row.reason, "since": row.changed_at.isoformat()}
                for row in paused
            ]
        return {"workflows": rows, "paused": switched}  # type: ignore[dict-item]

    def laboratories(self) -> dict[str, JsonValue]:
        """Turnaround, remakes and cost by laboratory, over the latest cases that came back."""
        config = self._runner.config
        names = {partner.key: partner.name for partner in config.labs.partners}
        with read(self._db) as conn:
            found = by_lab(closed_cases(conn, self._location, config.zone))
        return {
            "laboratories": [
                {
                    **asdict(each),
                    "name": names.get(each.name, each.name),
                    "cost": None if each.cost is None else f"{each.cost:.2f}",
                }
                for each in found
            ]
        }

    def cases(
        self, person: Person, workflow: str, state: str, before: datetime | None
    ) -> dict[str, JsonValue]:
        """A page of cases, the latest change first."""
        columns = workflow_case.c
        query = _with_patient(
            sa.select(workflow_case, patient_identity.c.family_name, patient_identity.c.given_name)
        ).where(
            columns.location_id == self._location,
            # rows of the engine alone, such as a study's analysis, have no timeline
            sa.exists().where(case_entry.c.case_id == columns.id),
        )
        if workflow:
            query = query.where(columns.workflow == workflow)
        if state == "open":
            query = query.where(columns.state.in_([each.value for each in OPEN]))
        elif state != "all":
            query = query.where(columns.state == _state(state).value)
        if before is not None:
            query = query.where(columns.updated_at < before)
        with read(self._db) as conn:
            rows = conn.execute(query.order_by(columns.updated_at.desc()).limit(_PAGE)).all()
        self._note(person, "cases.listed", f"cases:{workflow or 'all'}", shown=len(rows))
        return {"cases": [self._case_line(person, row) for row in rows]}

    def case(self, person: Person, case_id: str) -> dict[str, JsonValue]:
        """One case with its timeline, approvals and writes."""
        with read(self._db) as conn:
            row = conn.execute(
                _with_patient(
                    sa.select(
                        workflow_case,
                        patient_identity.c.family_name,
                        patient_identity.c.given_name,
                    )
                ).where(
                    workflow_case.c.id == case_id, workflow_case.c.location_id == self._location
                )
            ).first()
            if row is None:
                raise NotFound("There is no such case.")
            entries = conn.execute(
                sa.select(case_entry).where(case_entry.c.case_id == case_id)
                .order_by(case_entry.c.at, case_entry.c.id)
            ).all()  # fmt: skip
            asked = conn.execute(
                sa.select(approval).where(approval.c.case_id == case_id)
                .order_by(approval.c.created_at)
            ).all()  # fmt: skip
            writes = conn.execute(
                sa.select(pms_command.c.kind, pms_command.c.state, pms_command.c.updated_at)
                .where(pms_command.c.key.startswith(f"case:{case_id}:"))
                .order_by(pms_command.c.created_at)
            ).all()
        self._note(person, "case.opened", f"case:{case_id}")
        timeline: list[JsonValue] = [
            {"at": e.at.isoformat(), "kind": e.kind, "stage": e.stage, "detail": e.detail}
            for e in entries
        ]
        return {
            **self._case_line(person, row),
            "timeline": timeline,
            "approvals": [_approval_line(each, person) for each in asked],
            "writes": [
                {"kind": w.kind, "state": w.state, "at": w.updated_at.isoformat()} for w in writes
            ],
        }

    def retry(self, person: Person, case_id: str) -> dict[str, JsonValue]:
        """Run a parked case's stage again, or take one up again that was refused, say."""
        with begin(self._db, person.actor, "case.retried") as tx:
            row = cases.lock(tx, case_id)
            workflow = self._runner.workflows.get(row.workflow)
            cases.retry(tx, self._runner.engine, case_id, workflow.again if workflow else None)
        return self.case(person, case_id)

    def cancel(self, person: Person, case_id: str, reason: str) -> dict[str, JsonValue]:
        """End a case; what can be taken back is."""
        with begin(self._db, person.actor, "case.cancelled") as tx:
            cases.cancel(tx, self._runner.engine, case_id, reason)
        return self.case(person, case_id)

    def approvals(self, person: Person) -> dict[str, JsonValue]:
        """What waits for a decision: those that this person may decide, then the others."""
        with read(self._db) as conn:
            rows = conn.execute(
                self._asking().where(approval.c.state == "waiting")
                .order_by(approval.c.created_at).limit(500)
            ).all()  # fmt: skip
            held = {row.id for row in rows if self._is_held(conn, row)}
        lines = [self._asked(person, row, row.id in held) for row in rows]
        self._note(person, "approvals.listed", "approvals", shown=len(rows))
        lines.sort(key=lambda line: not line["may_decide"])
        return {"approvals": lines}  # type: ignore[dict-item]

    def approval(self, person: Person, approval_id: str) -> dict[str, JsonValue]:
        """One draft, whole, for a person who may decide it; reading it is audited."""
        with read(self._db) as conn:
            row = conn.execute(self._asking().where(approval.c.id == approval_id)).first()
            is_held = row is not None and self._is_held(conn, row)
        if row is None:
            raise NotFound("There is no such approval.")
        if Right(row.right) not in person.rights:
            raise Forbidden("You may not decide this, so its draft is not shown to you.")
        self._note(person, "approval.opened", f"approval:{approval_id}")
        draft = row.decided_draft or row.draft
        return {**self._asked(person, row, is_held), "draft": draft, "reason": row.reason}

    def decide(self, person: Person, ids: Sequence[str], body: Verdict) -> dict[str, JsonValue]:
        """Decide drafts, each in its own transaction; what could not be is said by id."""
        refused: dict[str, JsonValue] = {}
        for approval_id in ids:
            try:
                with begin(self._db, person.actor, "approval.decided") as tx:
                    approvals.decide(
                        tx, self._runner.engine, self._runner.workflows, approval_id,
                        by=person.user_id, rights=person.rights, verdict=body.verdict,
                        draft=cast("Draft | None", body.draft), reason=body.reason,
                    )  # fmt: skip
                    approvals.demand_let_in(tx.conn, self._runner.config, approval_id, body.verdict)
            except (Conflict, Forbidden, NotFound) as error:
                if len(ids) == 1:
                    raise
                refused[approval_id] = str(error)
        return {"decided": len(ids) - len(refused), "refused": refused}

    def turn(self, person: Person, body: Turn) -> dict[str, JsonValue]:
        """Pause or go on."""
        name = body.scope.removeprefix("workflow:")
        if name != body.scope and name not in self._runner.workflows:
            raise InvalidInput("There is no such workflow.")
        with begin(self._db, person.actor, "workflows.switched") as tx:
            switches.turn(tx, body.scope, body.is_paused, body.reason)
        if body.scope == switches.OUTBOUND and not body.is_paused:
            wake(self._db, self._runner.engine, person.actor)
            send_results.resume(self._db, self._runner.engine, person.actor)
        return self.overview()

    def _note(self, person: Person, action: str, subject: str, **detail: object) -> None:
        """Write down what a person reads, before it is shown."""
        note_reads(self._db, [look(person.actor, action, subject, **detail)])

    def _asking(self) -> sa.Select:  # type: ignore[type-arg]
        # SQLAlchemy's Select is generic over its columns.
        return (
            sa.select(
                approval,
                workflow_case.c.workflow,
                workflow_case.c.data,
                patient_identity.c.family_name,
                patient_identity.c.given_name,
                user_account.c.display_name,
            )
            .join(workflow_case, workflow_case.c.id == approval.c.case_id)
            .outerjoin(
                patient_identity, patient_identity.c.patient_id == workflow_case.c.patient_id
            )
            .outerjoin(user_account, user_account.c.id == approval.c.decided_by)
            .where(approval.c.location_id == self._location)
        )

    def _is_held(self, conn: sa.Connection, row: Row) -> bool:
        is_open = row.state == "waiting"
        return is_open and approvals.is_silent(
            conn, self._runner.config, row.workflow, row.data or {}
        )

    def _asked(self, person: Person, row: Row, is_held: bool) -> dict[str, JsonValue]:
        workflow = self._runner.workflows.get(row.workflow)
        return {
            **_approval_line(row, person),
            "workflow": row.workflow,
            "workflow_title": workflow.title if workflow else row.workflow,
            "patient": self._name(person, row, Right(row.right)),
            "decided_by": row.display_name or "",
            "held": approvals.HELD if is_held else "",
        }

    def _case_line(self, person: Person, row: Row) -> dict[str, JsonValue]:
        workflow = self._runner.workflows.get(row.workflow)
        return {
            "id": row.id,
            "workflow": row.workflow,
            "title": workflow.title if workflow else row.workflow,
            "state": row.state,
            "stage": row.stage,
            "error": row.error,
            "attempts": row.attempts,
            "wake_at": row.wake_at.isoformat() if row.wake_at else None,
            "created_at": row.created_at.isoformat(),
            "updated_at": row.updated_at.isoformat(),
            "patient": self._name(person, row),
            "can_reopen": row.state == cases.CaseState.DONE.value
            and workflow is not None
            and row.stage in workflow.again,
        }

    def _name(self, person: Person, row: Row, decides: Right | None = None) -> str:
        """Name the patient to whoever may see patients, or decides what concerns this one."""
        may = Right.PATIENTS_SEE in person.rights or decides in person.rights
        return f"{row.family_name}, {row.given_name}" if may and row.family_name else ""


def _approval_line(row: Row, person: Person) -> dict[str, JsonValue]:
    return {
        "id": row.id,
        "case_id": row.case_id,
        "kind": row.kind,
        "title": row.title,
        "state": row.state,
        "due_at": row.due_at.isoformat() if row.due_at else None,
        "created_at": row.created_at.isoformat(),
        "decided_at": row.decided_at.isoformat() if row.decided_at else None,
        "is_escalated": row.escalated_at is not None,
        "may_decide": row.state == "waiting" and Right(row.right) in person.rights,
    }


def _with_patient(query: sa.Select) -> sa.Select:  # type: ignore[type-arg]
    return query.outerjoin(
        patient_identity, patient_identity.c.patient_id == workflow_case.c.patient_id
    )


def _state(word: str) -> CaseState:
    try:
        return CaseState(word)
    except ValueError:
        raise InvalidInput("There is no such state.") from None
