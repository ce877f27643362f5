"""A patient who is due is reminded, step by step, until a booking, an answer or a wish to stop.

Started by: the daily sweep, one case per patient, recall and due day; as many a day as the coming
days have room for. Approved by: whoever may approve messages (office manager, front desk), each
draft or several at once; a standing approval of one template's words for one segment goes unasked
and is named with every message. Writes: an entry in the communication log for every message, the
recall's status, a task where somebody should call. Calls: the mail server and the text message
provider.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from node.config import Config
from node.domain.events import EventKind
from node.domain.rights import Right, Role
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.messengers.links import LinkKey
from orchestration.messengers.message import Channel
from orchestration.recall.desk import (
    Desk,
    check_draft,
    keep_touch,
    quoted,
    sent_words,
    take_back_touch,
    touches,
    try_otherwise,
)
from orchestration.recall.due import Why
from orchestration.recall.facts import READS, Facts
from orchestration.recall.lift import Arm
from orchestration.recall.replies import Meaning
from orchestration.recall.segments import may_be_delayed, segment_of
from orchestration.recall.sequence import Finish
from orchestration.recall.sweep import RECALL, bookings, late_replies, starts
from orchestration.workflow import (
    Draft,
    Happened,
    Outcome,
    Signal,
    Start,
    Workflow,
    ask,
    done,
    go,
    wait,
)
from pms_writeback.commands import AppendCommlog, CreateTask, SetRecallStatus
from pms_writeback.records import RecordKind

#: How long a last message, and an answer that a person took up, are given before the case ends.
_REST = timedelta(days=14)


def make(config: Config, key: LinkKey) -> Workflow:
    """Make the workflow; `key` signs the links that end messages."""
    section = config.recall
    desk = Desk(config, key)
    flow = Workflow(
        name=RECALL,
        title="Recall",
        reads=READS,
        writes=frozenset({AppendCommlog, CreateTask, SetRecallStatus}),
        partners=frozenset({Channel.EMAIL.value, Channel.SMS.value}),
        again={"refused": "open_case"},
    )

    @flow.stage
    def open_case(case: Case) -> Outcome:
        if "reply" in case.data:
            return go(answered_late)
        facts = desk.facts(case)
        if facts.due is None:
            return _not_due(facts)
        segment = segment_of(facts.due, facts.risk, facts.age, section.given_up_days)
        case.data["segment"], case.data["risk"] = segment.value, facts.risk.value
        is_measured = section.lift_share > 0 and not case.is_silent
        may_wait = is_measured and may_be_delayed(segment, facts.risk)
        if may_wait and desk.draw_arm(case) is Arm.DELAYED:
            until = case.clock() + timedelta(days=section.lift_delay_days)
            return wait(plan, until=until, on=listening)
        return go(plan)

    @flow.stage
    def plan(case: Case) -> Outcome:
        facts = desk.facts(case)
        if facts.due is None or facts.reached is None:
            return _not_due(facts)
        if desk.has_stopped(case, facts.reached):
            return go(opt_out)
        step = desk.next_step(case, facts.reached)
        if isinstance(step, Finish):
            done_steps = touches(case)
            if done_steps and done_steps[-1].at + _REST > case.clock():
                return wait(plan, until=done_steps[-1].at + _REST, on=listening)
            case.data["why"] = step.reason
            return go(hand_over) if step.needs_person else done(step.reason)
        moment = desk.moment(case, step.not_before)
        if moment > case.clock():
            return wait(plan, until=moment, on=listening)
        case.data["step"] = step.step
        case.data["draft"] = draft = desk.draft(case, step, facts.reached)
        standing = desk.standing_approval(case)
        if standing and not case.is_silent:
            case.data["approved_by"] = f"standing approval {standing[:8]}"
            return go(send)
        return ask(
            "send_message",
            title=f"Recall message: {str(case.data['segment']).replace('_', ' ')}",
            draft=draft,
            right=Right.MESSAGES_APPROVE,
            then=decided,
            timeout=timedelta(days=2),
            escalate_to=Role.OFFICE_MANAGER,
            on=listening,
        )

    @flow.stage
    def decided(case: Case) -> Outcome:
        decision = case.decision
        if decision is None or not decision.is_approved:
            return done("refused")
        words = {name: decision.draft[name] for name in ("subject", "text")}
        case.data["draft"] = {**_draft_of(case), **words}
        case.data["approved_by"] = desk.name_of(case, decision.by)
        return go(send)

    @flow.stage
    def send(case: Case) -> Outcome:
        channel = Channel(str(_draft_of(case)["channel"]))
        outcome = desk.settle(case)  # whatever has changed since: what went out is written down
        if not outcome:
            facts = desk.facts(case)
            if facts.due is None or facts.reached is None:
                return _not_due(facts)
            ways = [way for way in desk.ways(case, facts.reached) if way.channel is channel]
            if not ways:  # a wish or the address changed since the draft
                return go(plan)
            moment = desk.moment_of_draft(case)
            if moment > case.clock():
                return wait(send, until=moment, on=listening)
            outcome = desk.send(case, ways[0], facts.reached)
        case.note(channel=channel.value, outcome=outcome)
        if outcome in ("refused", "undelivered"):
            try_otherwise(case, channel)
        elif outcome == "held":  # a wish or another message came in this very moment
            case.data["tries"] = int(str(case.data.get("tries", 0))) + 1
        else:
            keep_touch(case, channel)
            number = f"{case.data['step']}:{case.data.get('tries', 0)}"
            desk.log(case, f"note:{number}", sent_words(case, outcome))
            desk.mark(case, f"status:{number}", channel)
        return go(plan)

    @flow.stage
    def answered(case: Case) -> Outcome:
        meaning = Meaning(str(case.signal.get("meaning", Meaning.UNCLEAR.value)))
        event_id = str(case.signal.get("event_id", ""))
        if meaning is Meaning.NO:
            desk.log(case, "declined", "Answered a recall message: no.")
            return done("declined")
        wants = meaning in (Meaning.YES, Meaning.BOOK)
        case.data["why"] = "wants to book" if wants else "answered"
        said = "wants to book a recall visit" if wants else "answered a recall message"
        words = "" if meaning is Meaning.YES else quoted(case, event_id)
        if "quiet" not in case.signal:  # another case of this person asks already
            asked = f"Patient {said}; please call. {words}".strip()
            desk.task(case, f"answer:{event_id}"[:48], asked)
        on = {"booked": booked, "opt_out": opt_out, "reply": answered}
        return wait(taken_over, until=case.clock() + _REST, on=on)

    @flow.stage
    def answered_late(case: Case) -> Outcome:
        words = quoted(case, str(case.data["reply"]))
        desk.task(case, "answer", f"Patient answered a recall message; please call. {words}")
        return done("answered late")

    @flow.stage
    def undelivered(case: Case) -> Outcome:
        take_back_touch(case, str(case.signal.get("key", "")))
        try_otherwise(case, Channel.SMS)
        return go(plan)

    @flow.stage
    def hand_over(case: Case) -> Outcome:
        words = f"Recall: {case.data['why']}. Please call about a recall visit."
        desk.task(case, "hand-over", words)
        return wait(taken_over, until=case.clock() + _REST, on=listening)

    @flow.stage
    def taken_over(case: Case) -> Outcome:
        return done(str(case.data["why"]))

    @flow.stage
    def opt_out(case: Case) -> Outcome:
        desk.log(case, "opt-out", "Asked for no more messages; recall messages have ended.")
        return done("opted out")

    @flow.stage
    def booked(case: Case) -> Outcome:
        desk.keep_booking(case)
        return done("booked")

    listening = {
        "booked": booked, "opt_out": opt_out, "reply": answered, "undelivered": undelivered,
    }  # fmt: skip

    @flow.check_draft("send_message")
    def check(draft: Draft) -> None:
        check_draft(draft)

    @flow.daily("07:00")
    def sweep(chart: Chart, day: date) -> Iterable[Start | Signal]:
        yield from bookings(chart)
        yield from late_replies(chart)
        yield from starts(chart, config)

    @flow.on(EventKind.RECORDS_CHANGED)
    def records(chart: Chart, event: Happened) -> Iterable[Start | Signal]:
        return bookings(chart) if event.subject == RecordKind.RECALL.value else ()

    @flow.on(EventKind.SCHEDULE_SYNCED)
    def schedule(chart: Chart, event: Happened) -> Iterable[Start | Signal]:
        return bookings(chart) if event.data.get("appointments") else ()

    return flow


def _not_due(facts: Facts) -> Outcome:
    return done("booked" if facts.why is Why.SCHEDULED else "not due")


def _draft_of(case: Case) -> Draft:
    draft = case.data["draft"]
    assert isinstance(draft, dict)
    return draft
