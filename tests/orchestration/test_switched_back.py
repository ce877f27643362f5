"""What waits for an approval while its workflow is switched back to silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from node.db.session import begin, read
from node.db.tables import approval
from node.domain.rights import Right, Role
from node.domain.rollout import Subject
from node.engine import DurableEngine
from node.errors import Conflict
from node.rollout import rules
from node.web.accounts import create_user
from orchestration import approvals
from orchestration.approval_page import make_router
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.messengers.links import Link, LinkKey, Purpose
from orchestration.workflow import Outcome, Workflow, ask, done
from tests.orchestration.clockwork import ACTOR, Clockwork

KEY = LinkKey(b"k" * 32, "main")
LETTERS = Subject.parse("workflow:letters")


def letters(sent: list[str]) -> Workflow:
    flow = Workflow(name="letters", title="Letters", partners=frozenset({"post"}))

    @flow.stage
    def write(case: Case) -> Outcome:
        return ask(
            "letter", title="Send a letter", draft={"text": "Dear partner"},
            right=Right.PREAUTHS_APPROVE, then=post_it, timeout=timedelta(days=2),
            late=write_again, escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def write_again(case: Case) -> Outcome:
        return write(case)

    @flow.stage
    def post_it(case: Case) -> Outcome:
        assert case.decision is not None
        if case.decision.is_approved:
            case.outside("post", "send", lambda: sent.append("sent"))
        return done(case.decision.verdict)

    return flow


class Desk:
    """A clockwork with one letter that waits, and the page behind its one-time link."""

    def __init__(self, db: sa.Engine, engine: DurableEngine, folder: Path) -> None:
        self.sent: list[str] = []
        flow = letters(self.sent)
        self.work = Clockwork(db, engine, folder, flow, now=datetime.now(UTC))
        self.case_id = self.work.start(flow, "a")
        self.asked = str(self.work.question(self.case_id).id)
        holder = create_user(
            db, ACTOR, username="pat", display_name="Pat", role="office_manager",
            password="correct horse battery",
        )  # fmt: skip
        ends = self.work.now + timedelta(days=1)
        self.path = f"/approve/{KEY.make(Link(Purpose.APPROVE, self.asked, holder, ends))}"
        app = FastAPI()
        app.include_router(make_router(self.work.runner, KEY))
        self.door = TestClient(app)

    def switch(self, is_back: bool) -> None:
        with begin(self.work.db, ACTOR, "rollout.changed") as tx:
            rules.switch_back(tx, LETTERS) if is_back else rules.lift(tx, LETTERS)

    def approval(self) -> str:
        with read(self.work.db) as conn:
            return str(
                conn.execute(
                    sa.select(approval.c.state).where(approval.c.id == self.asked)
                ).scalar_one()
            )

    def demand(self, verdict: str) -> None:
        with read(self.work.db) as conn:
            approvals.demand_let_in(conn, self.work.runner.config, self.asked, verdict)


@pytest.fixture
def desk(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Desk:
    return Desk(sqlite_database, engine, tmp_path)


def test_it_stays_marked_and_is_approved_once_the_workflow_is_let_in_again(desk: Desk) -> None:
    desk.switch(is_back=True)
    shown = desk.door.get(desk.path)
    assert "switched back to silent" in shown.text
    assert ">Approve<" not in shown.text
    assert ">Refuse<" in shown.text
    refused = desk.door.post(desk.path, data={"verdict": "approved"})
    assert (refused.status_code, "once it is let in again" in refused.text) == (409, True)
    for verdict in ("approved", "edited"):
        with pytest.raises(Conflict, match="switched back"):
            desk.demand(verdict)
    desk.work.settle()
    assert (desk.approval(), desk.sent) == ("waiting", [])
    desk.switch(is_back=False)
    assert ">Approve<" in desk.door.get(desk.path).text  # the link was not used up
    assert desk.door.post(desk.path, data={"verdict": "approved"}).status_code == 200
    desk.work.settle()
    assert desk.sent == ["sent"]


def test_it_can_be_refused_at_any_time(desk: Desk) -> None:
    desk.switch(is_back=True)
    body = {"verdict": "refused", "reason": "not wanted"}
    assert desk.door.post(desk.path, data=body).status_code == 200
    desk.work.settle()
    assert (desk.work.state(desk.case_id), desk.sent) == (CaseState.DONE, [])


def test_at_its_end_it_is_withdrawn_and_the_case_ends_silent(desk: Desk) -> None:
    desk.switch(is_back=True)
    desk.work.pass_time(days=3)
    assert desk.work.state(desk.case_id) is CaseState.SILENT
    assert (desk.approval(), desk.sent) == ("withdrawn", [])
    assert desk.door.get(desk.path).status_code == 403


def test_what_was_approved_a_moment_before_sends_nothing_either(desk: Desk) -> None:
    with begin(desk.work.db, ACTOR, "approval.decided") as tx:
        approvals.decide(
            tx, desk.work.engine, {}, desk.asked, by="user-1",
            rights=frozenset(Right), verdict="approved",
        )  # fmt: skip
        rules.switch_back(tx, LETTERS)
    desk.work.settle()
    assert (desk.work.state(desk.case_id), desk.sent) == (CaseState.PARKED, [])
