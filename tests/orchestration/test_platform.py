"""Cases go on from their row whatever happens: waits, decisions, signals, partners, people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db import switches
from node.db.session import begin, new_id, read
from node.db.tables import approval, pms_command
from node.domain.events import EventKind
from node.domain.rights import Right, Role
from node.engine import DurableEngine
from node.errors import Conflict, Forbidden, InvalidInput, Rejected, Retryable
from orchestration import approvals, cases
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.workflow import (
    Draft,
    Happened,
    Json,
    Module,
    Outcome,
    Start,
    Workflow,
    ask,
    done,
    go,
    park,
    wait,
)
from pms_writeback.pms import CreateTask
from pms_writeback.records import RecordKind
from tests.orchestration.clockwork import ACTOR, Clockwork, until


@dataclass
class Post:
    """A partner that letters are sent to; what is queued up in `answers` comes first."""

    sent: list[str] = field(default_factory=list)
    answers: list[Exception] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)

    def send(self, text: str) -> Json:
        if self.answers:
            error = self.answers.pop(0)
            if isinstance(error, LostAnswer):
                self.sent.append(text)
            raise error
        self.sent.append(text)
        return {"receipt": len(self.sent)}

    def find(self, text: str) -> Json | None:
        self.looked_for.append(text)
        return {"receipt": self.sent.index(text) + 1} if text in self.sent else None


class LostAnswer(Retryable):
    pass


def letters(post: Post) -> Workflow:
    """Make a workflow that drafts a letter, asks, sends it and waits for an answer."""
    flow = Workflow(
        name="letters", title="Letters", reads=frozenset({Module.IDENTITY}),
        partners=frozenset({"post"}),
    )  # fmt: skip

    @flow.stage
    def write(case: Case) -> Outcome:
        case.data["text"] = "Dear partner"
        return ask(
            "letter", title="Send a letter", draft={"text": "Dear partner"},
            right=Right.PREAUTHS_APPROVE, then=post_it, timeout=timedelta(days=2),
            escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def post_it(case: Case) -> Outcome:
        assert case.decision is not None
        if not case.decision.is_approved:
            case.data["why"] = case.decision.reason
            return done("refused")
        text = str(case.decision.draft["text"])
        receipt = case.outside("post", "send", lambda: post.send(text), lambda: post.find(text))
        case.data["receipt"] = receipt
        return wait(remind, until=case.clock() + timedelta(days=14), on={"answer": read_answer})

    @flow.stage
    def remind(case: Case) -> Outcome:
        case.outside("post", "remind", lambda: post.send("a reminder"))
        return wait(on={"answer": read_answer})

    @flow.stage
    def read_answer(case: Case) -> Outcome:
        case.data["answer"] = case.signal["words"]
        return done("answered")

    @flow.undo("send")
    def recall(case: Case, receipt: Json) -> None:
        case.outside("post", "recall", lambda: post.send(f"recall {receipt}"))

    @flow.check_draft("letter")
    def check(draft: Draft) -> None:
        if not draft.get("text"):
            raise InvalidInput("a letter has words")

    return flow


@dataclass
class Office:
    post: Post
    flow: Workflow
    work: Clockwork


@pytest.fixture
def office(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Office:
    post = Post()
    flow = letters(post)
    return Office(post, flow, Clockwork(sqlite_database, engine, tmp_path, flow))


def test_a_letter_is_drafted_approved_sent_and_answered_after_weeks(
    database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    post = Post()
    flow = letters(post)
    office = Office(post, flow, Clockwork(database, engine, tmp_path, flow))
    case_id = office.work.start(office.flow, "a")
    assert office.post.sent == []
    assert office.work.question(case_id).draft == {"text": "Dear partner"}
    office.work.decide(case_id)
    assert office.post.sent == ["Dear partner"]
    office.work.pass_time(days=20)
    assert office.post.sent == ["Dear partner", "a reminder"]
    office.work.send(office.flow, "a", "answer", words="thank you")
    office.work.settle()
    assert office.work.state(case_id) is CaseState.DONE
    assert office.work.case(case_id).data["answer"] == "thank you"
    assert "asks" in office.work.timeline(case_id)


def test_the_same_key_again_starts_nothing(office: Office) -> None:
    office.work.start(office.flow, "a")
    with begin(office.work.db, ACTOR, "test") as tx:
        assert cases.start(tx, office.work.engine, office.flow, Start("a")) is None


def test_an_edited_draft_is_what_is_sent_and_a_refusal_keeps_its_reason(office: Office) -> None:
    first, second = (office.work.start(office.flow, key) for key in "ab")
    office.work.decide(first, "edited", draft={"text": "Dear friend"}, reason="too stiff")
    assert office.post.sent == ["Dear friend"]
    office.work.decide(second, "refused", reason="not now")
    assert office.work.case(second).data["why"] == "not now"
    assert office.post.sent == ["Dear friend"]


@pytest.mark.parametrize(
    ("verdict", "draft", "reason", "error"),
    [
        ("refused", None, " ", InvalidInput),
        ("edited", {"text": ""}, "why not", InvalidInput),
        ("approved", {"text": "other words"}, "", InvalidInput),
        ("maybe", None, "", InvalidInput),
    ],
)
def test_a_decision_that_cannot_stand_is_refused(
    office: Office, verdict: str, draft: Draft | None, reason: str, error: type[Exception]
) -> None:
    case_id = office.work.start(office.flow, "a")
    with pytest.raises(error):
        office.work.decide(case_id, verdict, draft=draft, reason=reason)
    assert office.work.state(case_id) is CaseState.ASKING


def test_only_a_person_with_the_right_decides_and_only_once(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    with pytest.raises(Forbidden):
        office.work.decide(case_id, rights=frozenset({Right.WORKFLOWS_SEE}))
    question = office.work.question(case_id)
    office.work.decide(case_id)
    with begin(office.work.db, ACTOR, "test") as tx, pytest.raises(Conflict):
        approvals.decide(
            tx, office.work.engine, office.work.runner.workflows, question.id, by="other",
            rights=frozenset(Right), verdict="refused", reason="late",
        )  # fmt: skip
    assert office.post.sent == ["Dear partner"]


def test_a_partner_that_is_away_is_called_again_and_its_lost_answer_looked_for(
    office: Office,
) -> None:
    case_id = office.work.start(office.flow, "a")
    office.post.answers = [Retryable("closed"), LostAnswer("cut"), Retryable("not reached")]
    office.work.decide(case_id)
    assert office.work.state(case_id) is CaseState.RETRYING
    office.work.pass_time(hours=1)
    assert office.work.state(case_id) is CaseState.WAITING
    assert office.post.sent == ["Dear partner"]
    assert office.post.looked_for
    assert office.work.case(case_id).data["receipt"] == {"receipt": 1}


def test_a_refusal_by_a_partner_parks_the_case_until_a_person_retries(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    office.post.answers = [Rejected("the address is wrong")]
    office.work.decide(case_id)
    assert office.work.state(case_id) is CaseState.PARKED
    assert office.work.case(case_id).error == "the address is wrong"
    with begin(office.work.db, ACTOR, "test") as tx:
        cases.retry(tx, office.work.engine, case_id)
    office.work.settle()
    assert office.post.sent == ["Dear partner"]


def test_a_signal_before_its_wait_is_kept_and_twice_delivered_counts_once(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    office.work.question(case_id)
    for _ in range(2):
        office.work.send(office.flow, "a", "answer", "delivery-1", words="early")
    assert office.work.state(case_id) is CaseState.ASKING
    office.work.decide(case_id)
    assert office.work.state(case_id) is CaseState.DONE
    assert not office.work.send(office.flow, "a", "answer", words="late")


def test_nobody_deciding_is_escalated_once_and_the_question_stays(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    office.work.pass_time(days=9)
    assert office.work.timeline(case_id).count("escalated") == 1
    assert office.work.question(case_id).escalated_at is not None
    office.work.decide(case_id)
    assert office.post.sent == ["Dear partner"]


def test_cancelling_takes_back_what_is_done(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    office.work.decide(case_id)
    with begin(office.work.db, ACTOR, "test") as tx:
        cases.cancel(tx, office.work.engine, case_id, "the patient moved away")
    office.work.settle()
    assert office.work.state(case_id) is CaseState.CANCELLED
    assert office.post.sent == ["Dear partner", "recall {'receipt': 1}"]


def test_a_call_under_way_as_the_case_is_cancelled_is_taken_back_too(office: Office) -> None:
    send = office.post.send

    def cancelled_meanwhile(text: str) -> Json:
        if text == "Dear partner":
            with begin(office.work.db, ACTOR, "test.cancelled") as tx:
                cases.cancel(tx, office.work.engine, case_id, "moved away")
            until(lambda: "put_off" in office.work.timeline(case_id))  # it waits for our answer
        return send(text)

    office.post.send = cancelled_meanwhile  # type: ignore[method-assign]
    case_id = office.work.start(office.flow, "a")
    office.work.settle()
    office.work.decide(case_id)
    office.work.pass_time(minutes=5)
    assert office.work.state(case_id) is CaseState.CANCELLED
    assert office.post.sent == ["Dear partner", "recall {'receipt': 1}"]


@pytest.mark.parametrize("scope", ["outbound", "workflow:letters", "case"])
def test_what_is_paused_waits_and_goes_on(office: Office, scope: str) -> None:
    case_id = office.work.start(office.flow, "a")
    office.work.question(case_id)
    scope = switches.of_case(case_id) if scope == "case" else scope
    _turn(office.work, scope, True)
    _decide_without_settling(office.work, case_id)
    office.work.pass_time(hours=2)
    assert office.post.sent == []
    _turn(office.work, scope, False)
    office.work.pass_time(minutes=2)
    assert office.post.sent == ["Dear partner"]


def test_silent_asks_nobody_sends_nothing_and_keeps_the_draft(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    post = Post()
    flow = letters(post)
    work = Clockwork(
        sqlite_database, engine, tmp_path, flow, workflows={"modes": {"letters": "silent"}}
    )
    case_id = work.start(flow, "a")
    work.settle()
    assert work.state(case_id) is CaseState.SILENT
    assert work.case(case_id).data["silent_letter"] == {"text": "Dear partner"}
    assert post.sent == []


def test_a_workflow_gets_no_more_than_it_declares(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    seen: list[Exception] = []
    flow = Workflow(
        name="nosy", title="Nosy", reads=frozenset({RecordKind.RECALL, Module.IDENTITY})
    )

    @flow.stage
    def look(case: Case) -> Outcome:
        looks: list[Callable[[], object]] = [
            lambda: case.records(RecordKind.CLAIM),
            lambda: case.outside("post", "x", lambda: None),
            lambda: case.chart.person(other),
            lambda: case.chart.reviews(),
        ]
        for each in looks:
            with pytest.raises(Forbidden) as caught:
                each()
            seen.append(caught.value)
        return done("ok" if case.chart.person().family_name == "Invented" else "wrong")

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    other = work.add_patient("2", "Other")
    case_id = work.start(flow, "a", work.add_patient("1"))
    work.settle()
    assert (work.state(case_id), len(seen)) == (CaseState.DONE, 4)


def test_our_own_mistake_parks_one_case_and_stops_no_other(
    sqlite_database: sa.Engine,
    engine: DurableEngine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow = Workflow(name="clumsy", title="Clumsy")

    @flow.stage
    def stumble(case: Case) -> Outcome:
        if case.key == "bad":
            raise KeyError("Invented^Ada")
        return done("ok")

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    bad, good = work.start(flow, "bad"), work.start(flow, "good")
    work.settle()
    assert (work.state(bad), work.state(good)) == (CaseState.PARKED, CaseState.DONE)
    assert "Invented" not in caplog.text + work.case(bad).error


def test_a_partner_is_called_at_its_pace(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    moments: list[datetime] = []
    flow = Workflow(name="paced", title="Paced", partners=frozenset({"post"}))

    @flow.stage
    def call(case: Case) -> Outcome:
        case.outside("post", "call", lambda: moments.append(case.clock()))
        return done("ok")

    work = Clockwork(
        sqlite_database, engine, tmp_path, flow,
        workflows={"modes": {"paced": "assist"}, "per_minute": {"post": 2}},
    )  # fmt: skip
    ids = [work.start(flow, key) for key in "abc"]
    work.pass_time(minutes=5)
    assert {work.state(each) for each in ids} == {CaseState.DONE}
    gaps = [later - earlier for earlier, later in pairwise(sorted(moments))]
    assert len(gaps) == 2
    assert min(gaps) >= timedelta(seconds=30)


def test_an_event_starts_a_case_once_and_what_was_before_starts_none(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="signed", title="Signed")

    @flow.stage
    def end(case: Case) -> Outcome:
        return done("ok")

    @flow.on(EventKind.REVIEW_SIGNED)
    def start(chart: Chart, event: Happened) -> list[Start]:
        return [Start(f"study:{event.subject}")]

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    _sign(work, "before")
    assert work.hooks.run_once() == 0
    _sign(work, "after")
    assert work.hooks.run_once() == 1
    assert work.hooks.run_once() == 0
    work.settle()
    assert work.state(work.find(flow, "study:after")) is CaseState.DONE


def test_a_burst_of_events_waits_for_nothing(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    told: list[str] = []
    flow = Workflow(name="bursts", title="Bursts")

    @flow.on(EventKind.STUDY_READY)
    def ready(chart: Chart, event: Happened) -> list[Start]:
        told.append(event.subject)
        return []

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    work.hooks.run_once()
    with begin(work.db, ACTOR, "test.burst") as tx:
        for number in range(1_100):
            tx.append_event(EventKind.STUDY_READY, f"s{number}", f"ready:{number}", {})
    for _ in range(3):
        work.hooks.run_once()
    assert told == [f"s{number}" for number in range(1_100)]


def test_a_daily_sweep_runs_once_a_day_in_practice_time_and_late_if_the_node_was_off(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    days: list[str] = []
    flow = Workflow(name="daily", title="Daily")

    @flow.stage
    def end(case: Case) -> Outcome:
        return done("ok")

    @flow.daily("06:30")
    def sweep(chart: Chart, day: date) -> list[Start]:
        days.append(day.isoformat())
        return [Start(day.isoformat())]

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    for hours in (0, 1, 22):  # Monday 9:00, 10:00, Tuesday 8:00
        work.pass_time(hours=hours)
    work.pass_time(hours=6 * 24 - 2.6)  # Monday 6:24, after the change to daylight saving time
    assert days == ["2026-03-02", "2026-03-03"]
    work.pass_time(hours=0.2)
    assert days == ["2026-03-02", "2026-03-03", "2026-03-09"]


def test_a_stage_of_an_earlier_release_goes_on_under_its_new_name(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="changed", title="Changed", renamed={"old_name": "new_name"})

    @flow.stage
    def first(case: Case) -> Outcome:
        return go(new_name)

    @flow.stage
    def new_name(case: Case) -> Outcome:
        return done("ok")

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    known, unknown = work.start(flow, "known"), work.start(flow, "unknown")
    work.settle()
    with begin(work.db, ACTOR, "test") as tx:
        for case_id, stage in ((known, "old_name"), (unknown, "gone")):
            cases.update(tx, case_id, state="waiting", stage=stage, wake_at=work.now)
    work.settle()
    assert work.state(known) is CaseState.DONE
    assert work.state(unknown) is CaseState.PARKED


def test_a_case_whose_run_is_gone_gets_one_again(office: Office) -> None:
    case_id = office.work.start(office.flow, "a")
    office.work.question(case_id)
    with begin(office.work.db, ACTOR, "test") as tx:  # as after a move to another database
        cases.update(tx, case_id, state="running", stage="write", leg=41, wake_at=None, waits=None)
    assert office.work.runner.heal() == 1
    assert office.work.runner.heal() == 0 or office.work.state(case_id) is CaseState.ASKING
    office.work.settle()
    assert office.work.state(case_id) is CaseState.ASKING


def test_parking_keeps_the_reason(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="stuck", title="Stuck")

    @flow.stage
    def stop(case: Case) -> Outcome:
        return park("the shade is missing")

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    case_id = work.start(flow, "a")
    work.settle()
    assert work.case(case_id).error == "the shade is missing"


def _with_patient(
    database: sa.Engine, engine: DurableEngine, folder: Path, flow: Workflow
) -> tuple[Clockwork, str]:
    """Open a practice without a PMS, with one patient."""
    work = Clockwork(database, engine, folder, flow)
    return work, work.add_patient("1")


def test_a_write_that_the_outbox_refuses_parks_the_case_and_writes_nothing(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="writing", title="Writing", writes=frozenset({CreateTask}))

    @flow.stage
    def write(case: Case) -> Outcome:
        case.queue("task", CreateTask("of another patient", "Look.", case.ref("task")))
        return done("written")

    work, patient_id = _with_patient(sqlite_database, engine, tmp_path, flow)
    case_id = work.start(flow, "a", patient_id)
    work.settle()
    assert work.state(case_id) is CaseState.PARKED
    assert "another patient" in work.case(case_id).error
    assert _commands(work) == 0


def test_a_stage_that_fails_after_it_queued_a_write_writes_nothing(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="writing", title="Writing", writes=frozenset({CreateTask}))

    @flow.stage
    def write(case: Case) -> Outcome:
        case.queue("task", CreateTask("1", f"Look. {case.ref('task')}", case.ref("task")))
        raise Rejected("the shade is missing")

    work, patient_id = _with_patient(sqlite_database, engine, tmp_path, flow)
    case_id = work.start(flow, "a", patient_id)
    work.settle()
    assert work.case(case_id).error == "the shade is missing"
    assert _commands(work) == 0


def test_a_case_that_goes_round_in_circles_is_parked(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="circle", title="Circle")

    @flow.stage
    def again(case: Case) -> Outcome:
        return go(again)

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    case_id = work.start(flow, "a")
    work.settle()
    assert work.state(case_id) is CaseState.PARKED


def test_a_case_that_cannot_be_woken_is_parked_and_holds_up_no_other(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = Workflow(name="clocked", title="Clocked")

    @flow.stage
    def begin_waiting(case: Case) -> Outcome:
        return wait(end, until=case.clock() + timedelta(hours=1))

    @flow.stage
    def end(case: Case) -> Outcome:
        return done("ok")

    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    bad, good = work.start(flow, "bad"), work.start(flow, "good")
    work.settle()
    with begin(work.db, ACTOR, "test") as tx:  # as no release leaves it: a state nobody knows
        cases.update(tx, bad, state=CaseState.ASKING.value, stage="", waits={})
        tx.conn.execute(
            approval.insert().values(
                id=new_id(), location_id="main", case_id=bad, kind="x", title="x",
                right=Right.PREAUTHS_APPROVE.value, draft={}, state="waiting",
                escalate_to="nobody", created_at=tx.now,
            )
        )  # fmt: skip
    work.pass_time(hours=2)
    assert (work.state(bad), work.state(good)) == (CaseState.PARKED, CaseState.DONE)


def test_a_sweep_that_fails_holds_up_no_other(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    broken, whole = Workflow(name="broken", title="Broken"), Workflow(name="whole", title="Whole")
    tries: list[date] = []

    @broken.daily("06:00")
    def fail(chart: Chart, day: date) -> list[Start]:
        tries.append(day)
        raise KeyError("Invented^Ada")

    @whole.daily("06:00")
    def sweep(chart: Chart, day: date) -> list[Start]:
        return [Start(day.isoformat())]

    @whole.stage
    def end(case: Case) -> Outcome:
        return done("ok")

    work = Clockwork(sqlite_database, engine, tmp_path, broken, whole)
    for _ in range(3):
        work.pass_time(minutes=1)
    assert work.state(work.find(whole, "2026-03-02")) is CaseState.DONE
    assert len(tries) == 1  # and again only after a rest
    work.pass_time(minutes=30)
    assert len(tries) == 2


def _commands(work: Clockwork) -> int:
    with read(work.db) as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar_one())


def _sign(work: Clockwork, study_id: str) -> None:
    with begin(work.db, ACTOR, "test") as tx:
        tx.append_event(EventKind.REVIEW_SIGNED, study_id, f"signed:{study_id}:1", {"version": 1})


def _turn(work: Clockwork, scope: str, is_paused: bool) -> None:
    with begin(work.db, ACTOR, "test.switched") as tx:
        switches.turn(tx, scope, is_paused, "lunch")


def _decide_without_settling(work: Clockwork, case_id: str) -> None:
    question = work.question(case_id)
    with begin(work.db, ACTOR, "test.decided") as tx:
        approvals.decide(
            tx, work.engine, work.runner.workflows, question.id, by="user-1",
            rights=frozenset(Right), verdict="approved",
        )  # fmt: skip
