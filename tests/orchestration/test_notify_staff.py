"""Drafts that wait are told to the team once in a while, and decided by a link that works once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from node.db.session import begin
from node.db.tables import user_account
from node.domain.rights import Right, Role
from node.engine import DurableEngine
from node.web.accounts import create_user
from orchestration.approval_page import make_router
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.messengers.links import LinkKey
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.workflow import Outcome, Workflow, ask, done
from orchestration.workflows import notify_staff
from tests.orchestration.clockwork import ACTOR, Clockwork

KEY = LinkKey(b"k" * 32, "main")


def narratives() -> Workflow:
    flow = Workflow(name="narratives", title="Pre-authorisation")

    @flow.stage
    def draft(case: Case) -> Outcome:
        return ask(
            "narrative", title="Send a pre-authorisation",
            draft={"patient": "Invented, Ada", "text": "<b>Crown</b>", "lines": [{"tooth": "30"}]},
            right=Right.PREAUTHS_APPROVE, then=end, timeout=timedelta(days=9),
            escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def end(case: Case) -> Outcome:
        assert case.decision is not None
        return done(case.decision.verdict)

    return flow


@dataclass
class Team:
    work: Clockwork
    inbox: InboxHandle
    door: TestClient

    def links(self) -> list[str]:
        text = "\n".join(mail.text for mail in self.inbox.messages("smtp"))
        return re.findall(r"http://office\.example(/approve/\S+)", text)


@pytest.fixture
def team(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[Team]:
    with running_inbox(tmp_path) as inbox:
        messengers = {
            **inbox.settings("http://office.example"),
            "staff_mail": {"pat": "pat@office.example", "jo": "jo@office.example"},
        }
        work = Clockwork(
            sqlite_database, engine, tmp_path, narratives(), now=datetime.now(UTC),
            messengers=messengers,
        )  # fmt: skip
        told = notify_staff.make(work.config, KEY)
        work.runner.workflows[told.name] = told
        for name, role in (("pat", Role.OFFICE_MANAGER), ("jo", Role.ASSISTANT)):
            create_user(
                work.db, ACTOR, username=name, display_name=name, role=role.value,
                password="correct horse battery",
            )  # fmt: skip
        work.hooks.run_once()
        app = FastAPI()
        app.include_router(make_router(work.runner, KEY))
        with TestClient(app) as door:
            yield Team(work, inbox, door)


def _ask(team: Team, *keys: str) -> list[str]:
    ids = [team.work.start(team.work.runner.workflows["narratives"], key) for key in keys]
    team.work.settle()
    team.work.hooks.run_once()
    team.work.pass_time(minutes=31)
    return ids


def test_the_room_hears_a_count_and_whoever_may_decide_gets_links_without_names(team: Team) -> None:
    _ask(team, "a", "b")
    (said,) = team.inbox.messages("chat")
    assert said.text == "Waiting for a decision: 2\n2 × Send a pre-authorisation"
    assert [mail.to for mail in team.inbox.messages("smtp")] == ["pat@office.example"]
    assert len(set(team.links())) == 2
    everything = str(team.inbox.messages())
    assert "Invented" not in everything
    assert "Crown" not in everything


def test_a_link_shows_the_draft_and_decides_once(team: Team) -> None:
    (case_id,) = _ask(team, "a")
    (link,) = team.links()
    for _ in range(2):  # a mail program looks at it first
        shown = team.door.get(link)
        assert shown.status_code == 200
        assert "Invented, Ada" in shown.text
        assert "<b>Crown</b>" not in shown.text
    assert team.door.post(link, data={"verdict": "refused", "reason": ""}).status_code == 422
    assert team.door.post(link, content=b"a=1&" * 20).status_code == 422
    assert team.door.post(link, content=b"a" * 20_000).status_code == 422
    assert team.door.post(link, data={"verdict": "approved"}).status_code == 200
    team.work.settle()
    assert team.work.state(case_id) is CaseState.DONE
    assert team.work.case(case_id).stage == "approved"
    assert team.door.post(link, data={"verdict": "refused", "reason": "no"}).status_code == 409
    assert "Invented" not in team.door.get(link).text


def test_a_forged_or_expired_link_or_one_of_somebody_who_left_decides_nothing(team: Team) -> None:
    (case_id,) = _ask(team, "a")
    (link,) = team.links()
    assert team.door.get(link[:-2] + "xx").status_code == 403
    with begin(team.work.db, ACTOR, "test") as tx:
        tx.conn.execute(user_account.update().values(is_active=False))
    assert team.door.get(link).status_code == 403
    assert team.door.post(link, data={"verdict": "approved"}).status_code == 403
    with begin(team.work.db, ACTOR, "test") as tx:
        tx.conn.execute(user_account.update().values(is_active=True))
    team.work.now += timedelta(days=5)
    assert team.door.post(link, data={"verdict": "approved"}).status_code == 403
    assert team.work.state(case_id) is CaseState.ASKING


def test_a_mail_whose_answer_was_lost_is_not_sent_again(team: Team) -> None:
    team.inbox.fault("commit_then_drop", "smtp")
    _ask(team, "a")
    team.work.pass_time(hours=1)
    assert len(team.inbox.messages("smtp")) == 1
