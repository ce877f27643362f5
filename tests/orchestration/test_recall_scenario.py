"""Recall over weeks: a real engine and database, the sandbox practice and the sandbox inbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from node.db.session import Actor, begin, read
from node.db.tables import contact_choice, message, message_reply, recall_policy, recall_trial
from node.domain.rights import RIGHTS, Right, Role
from node.engine import DurableEngine
from node.errors import InvalidInput, NotFound
from orchestration import cases
from orchestration.cases import CaseState
from orchestration.recall import policy
from orchestration.recall.routes import make_router
from orchestration.recall.trials import lift_of
from orchestration.signatures import sign
from pms_writeback.merging import PatientMove, move_patient
from tests.orchestration.clockwork import ACTOR, until
from tests.orchestration.recall_world import ADA, BEN, NUMBERS, World, recall_world

DUE = date(2026, 3, 9)  # a week after the clock's Monday


@pytest.fixture
def world(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[World]:
    with recall_world(sqlite_database, engine, tmp_path) as made:
        yield made


def start(world: World, **patient_values: str) -> None:
    """Make Ada due, read the practice, sweep, and approve the first message."""
    world.due(ADA, DUE, **patient_values)
    world.pull()
    world.sweep()
    world.approve_all()


def test_a_reminder_is_asked_sent_logged_and_ended_by_a_booking(world: World) -> None:
    world.due(ADA, DUE)
    world.pull()
    world.sweep()
    question = world.work.question(world.case(ADA).id)
    assert question.right == "messages.approve"
    assert question.draft["text"].startswith("Main Street Dental: it is time to plan")
    assert not world.inbox.messages()
    world.approve_all()
    assert world.texts(ADA) == [question.draft["text"]]
    (entry,) = world.entries(ADA)
    assert entry.startswith("Recall message sent by text message: invite/en/sms@1, approved by")
    assert world.status(ADA) == "Texted"
    world.pass_days(3)
    (recall,) = [
        row for row in world.office.rows("recalls")
        if row["PatNum"] == ADA and row["IsDisabled"] == "false"
    ]  # fmt: skip
    world.office.change("recalls", recall["RecallNum"], DateScheduled="2026-03-20")
    world.pull()
    assert world.result(ADA) == "booked"
    world.pass_days(60)
    assert len(world.texts(ADA)) == 1


def test_the_same_on_either_database(
    database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(database, engine, tmp_path) as world:
        start(world)
        assert len(world.texts(ADA)) == 1
        world.inbox.reply(NUMBERS[ADA], "STOP")
        world.work.settle()
        assert world.result(ADA) == "opted out"
        assert len(world.entries(ADA)) == 2


def test_the_whole_sequence_goes_out_by_both_ways_and_ends(world: World) -> None:
    start(world, Email="ada@example.org")
    for _ in range(70):
        world.pass_days(1)
        world.approve_all()
    sent = [each.door for each in world.inbox.messages()]
    assert sent == ["smtp", "smtp", "sms", "smtp"]
    assert world.result(ADA) == "no answer"
    assert len(world.cases(ADA)) == 1  # the same due day starts nothing again
    moments = sorted(row.created_at for row in world.rows(message))
    assert all(b - a >= timedelta(days=3) for a, b in pairwise(moments))


def test_stop_ends_everything_at_once_and_for_both_ways(world: World) -> None:
    start(world, Email="ada@example.org", PreferRecallMethod="TextMessage")
    world.inbox.reply(NUMBERS[ADA], "Stop texting me please")
    world.work.settle()
    assert world.result(ADA) == "opted out"
    assert "Asked for no more messages" in world.entries(ADA)[-1]
    (row,) = world.rows(message_reply)
    assert row.meaning == "stop"
    # a new due day: a new case, and still no message by any way
    world.due(ADA, DUE + timedelta(days=2), Email="ada@example.org")
    world.pull()
    world.pass_days(2)
    assert world.approve_all() == 0
    assert len(world.inbox.messages()) == 1
    assert world.cases(ADA)[-1].stage == "opted out"


def test_a_wish_that_comes_between_approval_and_sending_is_honoured(world: World) -> None:
    world.due(ADA, DUE, Email="ada@example.org")
    world.pull()
    world.sweep()
    case_id = world.case(ADA).id
    world.work.question(case_id)
    world.work.now += timedelta(hours=10, minutes=30)  # half past seven: too late to send
    world.work.decide(case_id)
    assert world.work.state(case_id) is CaseState.WAITING
    link = _stop_link(world, ADA)
    assert httpx2.get(link, trust_env=False).status_code == 200
    assert not world.rows(contact_choice)  # a mail program's look is no wish
    assert "no more reminders" in httpx2.post(link, trust_env=False).text
    world.pass_days(3)
    assert not world.inbox.messages()
    assert world.result(ADA) == "opted out"


def _stop_link(world: World, key: int) -> str:
    from orchestration.messengers.office import link_key
    from orchestration.messengers.stop_page import stop_link

    config = world.work.config
    return stop_link(config, link_key(config), world.patient_id(key), "ada@example.org", world.now)


def test_a_link_of_a_patient_who_was_merged_since_counts_for_the_one_that_remains(
    world: World,
) -> None:
    world.pull()
    link = _stop_link(world, BEN)
    moved = PatientMove(str(BEN), str(ADA))
    move_patient(world.work.db, ACTOR, moved, "test")
    assert httpx2.post(link, trust_env=False).status_code == 200
    (choice,) = world.rows(contact_choice)
    assert choice.patient_id == world.patient_id(ADA)


def test_a_patient_who_was_merged_since_gets_no_second_sequence(world: World) -> None:
    world.nobody_else_due()
    start(world)
    assert len(world.cases()) == 1
    move_patient(world.work.db, ACTOR, PatientMove(str(ADA), str(BEN)), "test")
    world.pass_days(2)
    assert [row.patient_id for row in world.cases()] == [world.patient_id(BEN)]


def test_a_link_that_is_not_ours_stops_nobody(world: World) -> None:
    link = _stop_link(world, BEN) if world.pull() is None else ""
    assert httpx2.post(link[:-3] + "abc", trust_env=False).status_code == 403
    assert not world.rows(contact_choice)


def test_yes_becomes_a_task_once_however_often_it_is_told(world: World) -> None:
    start(world)
    for _ in range(3):
        world.inbox.reply(NUMBERS[ADA], "Yes please", "EV1")
    world.work.settle()
    (task,) = world.tasks(ADA)
    assert "wants to book a recall visit; please call" in task
    assert len(world.rows(message_reply)) == 1
    world.pass_days(15)
    assert world.result(ADA) == "wants to book"
    assert len(world.texts(ADA)) == 1


def test_an_unclear_answer_goes_to_a_person_with_its_words(world: World) -> None:
    start(world)
    world.inbox.reply(NUMBERS[ADA], "My husband died, who is this?")
    world.work.settle()
    (task,) = world.tasks(ADA)
    assert '"My husband died, who is this?"' in task
    world.pass_days(20)
    assert world.result(ADA) == "answered"
    assert len(world.texts(ADA)) == 1


def test_an_answer_after_the_end_still_reaches_a_person_once(world: World) -> None:
    start(world)
    with begin(world.work.db, ACTOR, "test.cancelled") as tx:
        cases.cancel(tx, world.work.engine, world.case(ADA).id, "moved away")
    world.work.settle()
    world.inbox.reply(NUMBERS[ADA], "Yes please")
    world.pass_days(3)
    (task,) = world.tasks(ADA)
    assert 'please call. "Yes please"' in task


def test_two_recalls_of_one_patient_ask_for_one_call(world: World) -> None:
    world.due(ADA, DUE)
    for row in world.office.rows("recalls"):
        if row["PatNum"] == ADA:
            world.office.change("recalls", row["RecallNum"], IsDisabled="false")
    known = {row["RecallTypeNum"] for row in world.office.rows("recalls") if row["PatNum"] == ADA}
    world.office.add(
        "recalltypes", RecallTypeNum=9, Description="Guard check", DefaultInterval="6m",
        TimePattern="XX", Procedures="",
    )  # fmt: skip
    world.office.add(
        "recalls", PatNum=ADA, RecallTypeNum=9, DateDue=DUE.isoformat(), RecallInterval="6m",
        IsDisabled="false", Priority="Normal",
    )  # fmt: skip
    assert 9 not in known
    world.pull()
    world.sweep()
    for _ in range(5):
        world.approve_all()
        world.pass_days(1)
    assert len(world.cases(ADA)) == 2
    assert len(world.texts(ADA)) == 2
    world.inbox.reply(NUMBERS[ADA], "yes")
    world.work.settle()
    assert len(world.tasks(ADA)) == 1
    world.pass_days(20)
    assert len(world.texts(ADA)) == 2
    assert {case.stage for case in world.cases(ADA)} == {"wants to book"}


def test_call_backs_that_nobody_signed_change_nothing(world: World) -> None:
    start(world)
    body = b'{"type":"message.received","event_id":"E","from":"+12125550121","body":"STOP"}'
    for headers in ({}, {"x-signature": "t=1,v1=" + "0" * 64}):
        answer = httpx2.post(
            f"{world.url}/hooks/sms", content=body, headers=headers, trust_env=False
        )
        assert answer.status_code == 401
    assert not world.rows(contact_choice)


def test_call_backs_of_other_kinds_are_taken_and_passed_over(world: World) -> None:
    body = b'{"type":"account.updated"}'
    headers = {"x-signature": sign(world.inbox.account.secret, body, world.now)}
    for _ in range(2):
        answer = httpx2.post(
            f"{world.url}/hooks/sms", content=body, headers=headers, trust_env=False
        )
        assert answer.status_code == 202


def test_a_provider_that_is_away_for_an_hour_delays_and_doubles_nothing(world: World) -> None:
    world.due(ADA, DUE)
    world.pull()
    world.sweep()
    world.inbox.fault("down")
    world.approve_all()
    world.work.pass_time(hours=1)
    assert not world.texts(ADA)
    world.inbox.fault("clear")
    world.work.pass_time(hours=1)
    assert len(world.texts(ADA)) == 1


def test_a_text_whose_answer_was_lost_is_found_and_not_sent_again(world: World) -> None:
    world.due(ADA, DUE)
    world.pull()
    world.sweep()
    world.inbox.fault("commit_then_drop")
    world.approve_all()
    world.work.pass_time(hours=1)
    assert len(world.texts(ADA)) == 1
    assert world.sent() == ["sent"]
    assert "sent by text message" in world.entries(ADA)[0]


def test_mail_in_doubt_is_not_sent_again_and_says_so(world: World) -> None:
    world.due(ADA, DUE, WirelessPhone="", Email="ada@example.org")
    world.pull()
    world.sweep()
    world.inbox.fault("commit_then_drop", "smtp")
    world.approve_all()
    world.work.pass_time(hours=2)
    assert len(world.inbox.messages("smtp")) == 1
    assert world.sent() == ["in_doubt"]
    assert "may have been sent (its answer was lost)" in world.entries(ADA)[0]


def test_a_number_that_cannot_be_reached_gives_way_to_mail(world: World) -> None:
    world.due(ADA, DUE, Email="ada@example.org", PreferRecallMethod="TextMessage")
    world.pull()
    world.sweep()
    world.inbox.fault("bounce")
    world.approve_all()
    until(lambda: "undelivered" in world.sent())
    world.work.settle()
    world.pass_days(1)
    world.approve_all()
    assert [each.door for each in world.inbox.messages()] == ["sms", "smtp"]


def test_what_is_told_late_or_twice_of_a_message_changes_nothing(world: World) -> None:
    start(world, Email="ada@example.org", PreferRecallMethod="TextMessage")
    until(lambda: world.sent() == ["delivered"])
    (arrived,) = world.inbox.messages("sms")
    event = {
        "type": "message.status", "event_id": "LATE", "id": arrived.id, "status": "undelivered",
    }  # fmt: skip
    for _ in range(2):
        assert world.inbox.web.tell(event) == 202
    assert world.inbox.web.tell({**event, "event_id": "OTHER", "id": "SMunknown"}) == 202
    world.work.settle()
    world.pass_days(1)
    assert world.sent() == ["delivered"]
    assert world.approve_all() == 0
    assert len(world.inbox.messages()) == 1


def test_nobody_to_write_to_means_a_task_for_the_front_desk(world: World) -> None:
    start(world, WirelessPhone="", Email="")
    (task,) = world.tasks(ADA)
    assert "no way to write. Please call" in task
    assert not world.inbox.messages()


def test_the_entry_names_who_approved_as_colleagues_know_them(world: World) -> None:
    desk = world.add_user()
    world.due(ADA, DUE)
    world.pull()
    world.sweep()
    world.work.decide(world.case(ADA).id, by=desk)
    (entry,) = world.entries(ADA)
    assert "approved by Front Desk." in entry


def test_refused_drafts_end_and_edited_ones_go_out_as_edited(world: World) -> None:
    world.due(ADA, DUE)
    world.due(BEN, DUE)
    world.pull()
    world.sweep()
    world.work.decide(world.case(ADA).id, "refused", reason="moved away")
    assert world.result(ADA) == "refused"
    asked = world.work.question(world.case(BEN).id)
    draft = {**asked.draft, "text": "Dear Ben, come and see us. Reply STOP to end messages."}
    world.work.decide(world.case(BEN).id, "edited", draft=draft, reason="he knows us")
    assert world.texts(BEN) == [draft["text"]]
    assert not world.texts(ADA)


def test_a_standing_approval_sends_unasked_until_it_is_taken_back(world: World) -> None:
    world.approve_policy("due_soon", "invite", "reminder")
    world.due(ADA, DUE)
    world.pull()
    world.sweep()
    assert len(world.texts(ADA)) == 1
    assert "approved by standing approval" in world.entries(ADA)[0]
    for row in world.rows(recall_policy):
        with begin(world.work.db, ACTOR, "test.revoked") as tx:
            policy.revoke(tx, row.id)
    world.pass_days(20)
    assert len(world.texts(ADA)) == 1
    assert world.approve_all() == 1


def test_silently_nothing_goes_out_and_nothing_is_written(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(sqlite_database, engine, tmp_path, modes={"recall": "silent"}) as world:
        world.approve_policy("due_soon", "invite")
        start(world)
        world.pass_days(30)
        assert not world.inbox.messages()
        assert not world.entries(ADA)
        assert world.work.state(world.case(ADA).id) is CaseState.SILENT
        assert world.case(ADA).data["silent_send_message"]["template"] == "invite/en/sms@1"


def test_on_the_night_the_clocks_change_nobody_is_woken(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    saturday = datetime(2026, 3, 8, 0, 30, tzinfo=UTC)  # 19:30 in New York, the clocks go forward
    with recall_world(
        sqlite_database, engine, tmp_path, saturday,
        send_weekdays=("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    ) as world:  # fmt: skip
        world.approve_policy("due_soon", "invite")
        world.due(ADA, DUE)
        world.pull()
        world.sweep()
        assert not world.inbox.messages()
        world.work.pass_time(hours=20)
        (sent,) = world.rows(message)
        assert sent.created_at == datetime(2026, 3, 8, 13, 0, tzinfo=UTC)  # 9:00, summer time


def test_a_child_is_written_about_to_whoever_answers_for_it(world: World) -> None:
    born = str(world.now.year - 9) + "-05-05"
    world.due(BEN, DUE + timedelta(days=300))
    world.due(ADA, DUE, Birthdate=born, WirelessPhone="", Guarantor=BEN)
    world.pull()
    world.sweep()
    world.approve_all()
    (text,) = world.texts(BEN)
    assert "for your child" in text
    world.inbox.reply(NUMBERS[BEN], "STOP")
    world.work.settle()
    assert world.result(ADA) == "opted out"


def test_no_more_start_than_there_is_room_for(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(sqlite_database, engine, tmp_path, most_a_day=1) as world:
        world.due(ADA, DUE)
        world.due(BEN, DUE - timedelta(days=30))
        world.pull()
        world.sweep()
        assert [case.patient_id for case in world.cases()] == [world.patient_id(BEN)]
        world.pass_days(1)
        assert len(world.cases()) == 2


def test_low_risk_reminders_are_delayed_by_chance_and_the_effect_is_measured(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(
        sqlite_database, engine, tmp_path, lift_share=0.5, lift_seed="spring", lift_delay_days=14
    ) as world:
        world.approve_policy("due_soon", "invite", "reminder", "overdue", "last")
        keys = list(range(1, 17))
        world.pull()
        for key in keys:
            world.due(key, DUE, mobile=f"+12125551{key:03}", Birthdate="1980-01-01")
            world.low_risk(key)
        world.pull()
        world.sweep()
        drawn = {row.case_key.split(":")[0]: row.arm for row in world.rows(recall_trial)}
        arms = {key: arm for key in keys if (arm := drawn.get(world.patient_id(key)))}
        assert set(arms.values()) == {"prompt", "delayed"}

        def texted() -> set[int]:
            sent = {each.to for each in world.inbox.messages("sms")}
            return {key for key in arms if f"+12125551{key:03}" in sent}

        prompt = {key for key in arms if arms[key] == "prompt"}
        assert texted() == prompt
        booked = sorted(prompt)[::2]
        for key in booked:
            world.book(key, "2026-03-25")
        world.pull()
        world.pass_days(15)
        world.work.now += timedelta(days=1)
        with read(world.work.db) as conn:
            measured = lift_of(conn, "main", "spring", world.now)
        assert measured is not None
        assert (measured.prompt_booked, measured.delayed_booked) == (len(booked), 0)
        assert measured.low < measured.difference < measured.high
        assert texted() == set(arms)  # whoever waited was written to in the end


def test_perio_patients_are_never_part_of_a_trial(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(sqlite_database, engine, tmp_path, lift_share=0.5, lift_seed="s") as world:
        world.approve_policy("perio", "important")
        world.pull()
        perio = {
            int(row["PatNum"]) for row in world.office.rows("recalls") if row["RecallTypeNum"] == 2
        }
        for key in perio:
            world.due(key, DUE, type_key=2, mobile=f"+12125551{key:03}")
            world.low_risk(key)
        world.pull()
        world.sweep()
        assert perio
        assert len(world.inbox.messages("sms")) == len(perio)
        assert not world.rows(recall_trial)


def test_open_hours_of_the_hygienists_decide_how_many_go_out(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with recall_world(
        sqlite_database, engine, tmp_path, hygienists=("3",), booking_rate=0.5, visit_min=60,
        fill_days=1,
    ) as world:  # fmt: skip
        for key in range(1, 31):
            world.due(key, DUE)
        for row in world.office.rows("schedules"):  # tomorrow from nine to noon, and nothing else
            if row["ProvNum"] == 3 and row["SchedType"] == "Provider":
                hours = {"StartTime": "09:00:00", "StopTime": "12:00:00"}
                world.office.change("schedules", row["ScheduleNum"], **hours)
        world.pull()
        world.sweep()
        assert len(world.cases()) == 6  # three visits, half of those written to book one


@dataclass(frozen=True)
class Desk:
    """Somebody at the front desk, signed in."""

    user_id: str
    rights: frozenset[Right] = RIGHTS[Role.FRONT_DESK]

    @property
    def actor(self) -> Actor:
        return Actor(self.user_id, "main")


def test_a_standing_approval_is_given_for_words_that_were_read(world: World) -> None:
    desk = Desk(world.add_user())
    app = FastAPI()
    app.include_router(make_router(world.work.runner, lambda right: lambda: desk))
    with TestClient(app) as door:
        shown = {each["id"]: each for each in door.get("/api/recall").json()["templates"]}
        invite = shown["invite/en/sms@1"]
        assert "Main Street Dental" in invite["text"]
        body = {
            "segment": "due_soon", "template": invite["id"], "digest": invite["digest"],
            "reason": "plain and short",
        }  # fmt: skip
        given = door.post("/api/recall/standing", json=body)
        assert given.status_code == 201
        assert door.get("/api/recall").json()["standing"][0]["template"] == "invite/en/sms@1"
        for wrong in ({"digest": "0" * 64}, {"segment": "perio"}):
            with pytest.raises(InvalidInput):
                door.post("/api/recall/standing", json={**body, **wrong})
        assert door.post("/api/recall/standing", json={**body, "reason": ""}).status_code == 422
        policy_id = given.json()["id"]
        assert door.delete(f"/api/recall/standing/{policy_id}").status_code == 204
        assert door.get("/api/recall").json()["standing"] == []
        with pytest.raises(NotFound):
            door.delete(f"/api/recall/standing/{policy_id}")
