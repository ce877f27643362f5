"""Work from a dental laboratory: prescribed, signed, sent, followed, received, seated, paid.

Started by: a planned procedure whose priority says that it is ready for the laboratory, or a
procedure for the laboratory completed in the chart (a crown preparation). Approved by: whoever
manages lab cases completes the prescription; a licensed dentist signs it, name and licence on it.
Writes: the PMS's lab case and its stages, entries in the communication log, tasks, a line in
the seat visit's note; moves the visit only as a person decided. Calls: the laboratory, the patient
by the ways agreed to. In silent mode a draft is mirrored to a sandbox laboratory only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import cast

from node.config import Config
from node.domain.events import EventKind
from node.domain.rights import Right, Role
from node.errors import ConfigError, InvalidInput, Rejected, Retryable
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.labs import billing, mirror, seating, starting
from orchestration.labs.chart import READS
from orchestration.labs.desk import LabDesk, round_of, rx_of, standing_of
from orchestration.labs.directory import outside_name
from orchestration.labs.source import LAB_CASE, TOPIC
from orchestration.labs.states import PATIENT_DELAY, PATIENT_WORDS, LabState, Step
from orchestration.labs.telling import PatientDesk
from orchestration.messengers.message import Channel
from orchestration.steps import Paced, Paused
from orchestration.workflow import (
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
from pms_writeback.commands import (
    AdvanceLabCase,
    AnnotateAppointment,
    AppendCommlog,
    CreateLabCase,
    CreateTask,
    MoveAppointment,
)
from pms_writeback.records import RecordKind

_DAY = timedelta(days=1)
_AGAIN = timedelta(minutes=15)
_LONGEST = timedelta(hours=4)
_MOST_TRIES = 12


def make(config: Config) -> Workflow:
    """Make the workflow for the configured laboratories."""
    desk, patients, section = LabDesk(config), PatientDesk(config), config.labs
    names = {outside_name(each): each.is_sandbox for each in section.partners}
    flow = Workflow(
        name=LAB_CASE,
        title="Lab case",
        reads=READS,
        writes=frozenset(
            {CreateLabCase, AdvanceLabCase, AppendCommlog, CreateTask, MoveAppointment}
            | {AnnotateAppointment}
        ),
        partners=frozenset({*names, Channel.EMAIL.value, Channel.SMS.value}),
        again={"refused": "check", "no longer planned": "check"},
        silent_partners=frozenset(name for name, is_sandbox in names.items() if is_sandbox),
    )

    # --- prescribing ---

    @flow.stage
    def draft(case: Case) -> Outcome:
        desk.draft(case)
        return go(check)

    @flow.stage
    def check(case: Case) -> Outcome:
        if not desk.is_wanted(case):
            return done("no longer planned")
        result = desk.check(case)
        if result.failed:
            mirror.ask_for_missing(case, result)
            return ask(
                "complete_prescription",
                title=f"Lab prescription: {len(result.failed)} things to complete",
                draft=desk.offer(case),
                right=Right.LAB_CASES_MANAGE,
                then=completed,
                timeout=timedelta(hours=section.sign_within_hours),
                escalate_to=Role.DENTIST,
                silent=mirror_silently,
            )
        return ask(
            "sign_prescription",
            title="Lab prescription to sign",
            draft=desk.offer(case),
            right=Right.LAB_CASES_PRESCRIBE,
            then=sign,
            timeout=timedelta(hours=section.sign_within_hours),
            escalate_to=Role.DENTIST,
            silent=mirror_silently,
        )

    @flow.stage
    def completed(case: Case) -> Outcome:
        assert case.decision is not None
        if not case.decision.is_approved:
            return done("refused")
        desk.take_edit(case, case.decision)
        return go(check)

    @flow.stage
    def sign(case: Case) -> Outcome:
        assert case.decision is not None
        if not case.decision.is_approved:
            return done("refused")
        desk.take_edit(case, case.decision)
        if not desk.is_wanted(case) or desk.judge(case).failed:  # edited, or days have passed
            return go(check)
        desk.sign(case, case.decision)
        return go(send)

    @flow.stage
    def mirror_silently(case: Case) -> Outcome:
        sandbox = desk.directory.sandbox()
        if sandbox is None or sandbox.section.key != case.data["lab"]:
            return done("silent")
        desk.sign_silently(case)
        desk.dispatch(case, sandbox, desk.pack(case))
        return done("mirrored")

    # --- sending ---

    @flow.stage
    def send(case: Case) -> Outcome:
        desk.dispatch(case, desk.entry(case), desk.pack(case))
        case.data["order"] = desk.order(case)
        mirror.open_case(case, desk)
        _tell_next(case, LabState.SENT.value)
        return go(inform)

    @flow.stage
    def inform(case: Case) -> Outcome:
        """Tell the patient what is to be told, within hours; news of the laboratory go first."""
        word = str(case.data.get("to_tell", ""))
        words = _patient_words(word)
        found = patients.way(case) if words else None
        if found is None:
            case.data["to_tell"] = ""
            return go(follow)
        moment, tries = patients.hour(case), int(str(case.data.get("tell_tries", 0)))
        if moment > case.clock():
            return wait(inform, until=moment, on=listening)
        case.data["to_tell"], case.data["tell_tries"] = "", 0
        try:
            outcome = patients.tell(case, f"tell:{round_of(case)}:{word}", words, *found)
        except (Rejected, InvalidInput, ConfigError) as error:  # the work goes on without it
            case.note(untold=word, reason=str(error))
            return go(follow)
        except Retryable as error:
            if tries >= _MOST_TRIES:
                case.note(untold=word, reason=str(error))
                return go(follow)
            counts = not isinstance(error, Paused | Paced)
            case.data["to_tell"], case.data["tell_tries"] = word, tries + counts
            again = case.clock() + min(_AGAIN * 2**tries, _LONGEST)
            return wait(inform, until=again, on=listening)
        mirror.log(case, f"told:{round_of(case)}:{word}", f"Patient told ({outcome}): {words}")
        return go(follow)

    # --- at the laboratory ---

    @flow.stage
    def follow(case: Case) -> Outcome:
        """Go where the case's state leads."""
        mirror.advance(case)
        match standing_of(case).state:
            case LabState.SHIPPED:
                return go(expect)
            case LabState.RECEIVED:
                return go(quality)
            case LabState.CHECKED:
                return go(seat)
            case LabState.CANCELLED:
                return go(taken_back)
            case _ if seating.is_expected(case, reports=desk.reports(case)):
                return go(expect)
            case _:
                return wait(look, until=seating.next_look(case, config), on=listening)

    @flow.stage
    def look(case: Case) -> Outcome:
        number = int(str(case.data.get("polls", 0)))
        case.data["polls"] = number + 1
        steps = []
        try:
            for update in desk.poll(case, number):
                steps.append(desk.hear(case, starting.fields_of(case, update)))
        except Retryable as error:
            case.note(poll="away", reason=str(error))
        seating.alert_if_late(case, config)
        if not desk.is_wanted(case):
            words = "The procedure of a lab case was removed from the chart. Is the work wanted?"
            mirror.task(case, f"unwanted:{round_of(case)}", f"{words} Else call the laboratory.")
        return _after(case, steps)

    @flow.stage
    def heard(case: Case) -> Outcome:
        try:
            step = desk.hear(case, case.signal)
        except InvalidInput as error:
            case.note(word="unreadable", reason=str(error))
            return _after(case, [])
        return _after(case, [step])

    def _after(case: Case, steps: list[Step]) -> Outcome:
        """Say what follows the laboratory's words."""
        standing = standing_of(case)
        if Step.BACKWARDS in steps:
            words = "The laboratory reports an earlier step again. Please call the laboratory."
            mirror.task(case, f"backwards:{len(_heard(case))}", words)
        if Step.APPLIED in steps:
            mirror.note_state(case, standing)
            _tell_next(case, standing.state.value)
            if standing.state is LabState.SHIPPED:
                mirror.alert_front_desk(case, standing)
        had_told = case.data.get("told_eta")
        if not seating.note_eta(case, standing):
            return go(inform)
        if case.data["told_eta"] != had_told:
            _tell_next(case, "delay")
        return go(propose)

    @flow.stage
    def propose(case: Case) -> Outcome:
        return ask(
            "move_visit",
            title="Lab work will be late for its visit",
            draft=seating.proposal(case, config),
            right=Right.LAB_CASES_MANAGE,
            then=moved,
            timeout=_DAY,
            escalate_to=Role.FRONT_DESK,
            silent=inform,
            on=listening,
        )

    @flow.stage
    def moved(case: Case) -> Outcome:
        assert case.decision is not None
        seating.decided(case)
        if case.decision.is_approved:
            seating.move(case, case.decision.draft)
        else:
            mirror.log(case, f"kept:{round_of(case)}:{len(_heard(case))}",
                       "Seat visit kept although the lab work may come late.")  # fmt: skip
        return go(inform)

    @flow.stage
    def taken_back(case: Case) -> Outcome:
        notes = " ".join(standing_of(case).notes[-2:])
        return ask(
            "lab_cancelled",
            title="The laboratory sent a case back",
            draft={"said": notes, "rx": case.data["rx"]},
            right=Right.LAB_CASES_MANAGE,
            then=after_cancel,
            timeout=_DAY,
            escalate_to=Role.LAB_COORDINATOR,
        )

    @flow.stage
    def after_cancel(case: Case) -> Outcome:
        assert case.decision is not None
        if not case.decision.is_approved:
            return done("cancelled")
        desk.reopen(case)
        return go(check)

    # --- back in the practice ---

    @flow.stage
    def expect(case: Case) -> Outcome:
        standing = standing_of(case)
        return ask(
            "receive_case",
            title="Lab work: has it come?",
            draft={"tracking": standing.tracking, "carrier": standing.carrier,
                   "eta": standing.eta.isoformat() if standing.eta else ""},
            right=Right.LAB_CASES_MANAGE,
            then=arrived,
            timeout=seating.parcel_patience(case),
            escalate_to=Role.LAB_COORDINATOR,
            on=listening,
        )  # fmt: skip

    @flow.stage
    def arrived(case: Case) -> Outcome:
        assert case.decision is not None
        if not case.decision.is_approved:
            words = "Lab work was shipped and has not come. Please call the laboratory."
            mirror.task(case, f"lost:{round_of(case)}", words)
            return wait(expect, until=case.clock() + _DAY, on=listening)
        desk.move(case, LabState.RECEIVED)
        mirror.stage(case, "received")
        return go(quality)

    @flow.stage
    def seen(case: Case) -> Outcome:
        """Somebody set a date in the PMS's lab case: that counts as said here."""
        mirror.follow_pms(case)
        return _after(case, [])

    @flow.stage
    def quality(case: Case) -> Outcome:
        mirror.advance(case)
        return ask(
            "check_case",
            title="Lab work received: check it against the prescription",
            draft=seating.checklist(case),
            right=Right.LAB_CASES_MANAGE,
            then=checked,
            timeout=_DAY,
            escalate_to=Role.LAB_COORDINATOR,
            on=listening,
        )

    @flow.stage
    def checked(case: Case) -> Outcome:
        assert case.decision is not None
        reason = seating.fault_of(case.decision)
        if reason is not None:
            return _make_again(case, reason, case.decision.reason)
        desk.move(case, LabState.CHECKED)
        mirror.stage(case, "checked")
        seating.note_arrival(case)
        _tell_next(case, LabState.CHECKED.value)
        return go(inform)

    @flow.stage
    def seat(case: Case) -> Outcome:
        mirror.advance(case)
        return ask(
            "seat_case",
            title="Lab work: was it seated?",
            draft=seating.checklist(case),
            right=Right.LAB_CASES_PRESCRIBE,
            then=seated,
            timeout=seating.until_seated(case),
            escalate_to=Role.DENTIST,
            on=listening,
        )

    @flow.stage
    def seated(case: Case) -> Outcome:
        assert case.decision is not None
        reason = seating.fault_of(case.decision)
        if reason is not None:
            return _make_again(case, reason, case.decision.reason)
        desk.move(case, LabState.SEATED)
        mirror.log(case, f"seated:{round_of(case)}", "Lab work seated.")
        return go(settle)

    def _make_again(case: Case, reason: str, note: str) -> Outcome:
        desk.move(case, LabState.REMAKE)
        number = rx_of(case).case_number
        mirror.log(case, f"remake:{round_of(case)}",
                   f"Lab case {number} is made again: {reason or 'reason open'}.")  # fmt: skip
        desk.reopen(case, reason, note)
        return go(check)

    # --- paying ---

    @flow.stage
    def settle(case: Case) -> Outcome:
        return billing.settle(case, desk, config, again=settle, decide=bill_decided)

    @flow.stage
    def bill_decided(case: Case) -> Outcome:
        assert case.decision is not None
        billing.keep(case, case.decision)
        return done("seated")

    listening = {TOPIC: heard, "pms": seen}

    # --- what people edit, what starts a case, what is taken back ---

    for kind in ("complete_prescription", "sign_prescription"):
        flow.check_draft(kind)(desk.check_draft)
    for kind in ("check_case", "seat_case"):
        flow.check_draft(kind)(seating.check_fault)
    flow.check_draft("move_visit")(seating.check_choice)

    @flow.on(EventKind.RECORDS_CHANGED)
    def records(chart: Chart, event: Happened) -> Iterable[Start | Signal]:
        keys = cast("list[str]", event.data.get("keys", []))
        if event.subject == RecordKind.LAB_CASE.value:
            return mirror.signals(chart, keys)
        if event.subject == RecordKind.PROCEDURE.value:
            return starting.by_procedures(chart, config, desk.directory, keys)
        if event.subject == RecordKind.TREATMENT_PLAN_PROCEDURE.value:
            return starting.by_plans(chart, config, desk.directory, keys)
        return ()

    @flow.undo("submit")
    def call_the_laboratory(case: Case, receipt: object) -> None:
        sent = "after" if receipt is not None else "while"
        mirror.task(case, "cancelled", f"This lab case was cancelled here {sent} it was sent. "
                    "Please call the laboratory.")  # fmt: skip

    return flow


def _tell_next(case: Case, word: str) -> None:
    """Have the patient told of a state or a delay; what was still to be told is old news."""
    case.data["to_tell"], case.data["tell_tries"] = word, 0


def _patient_words(word: str) -> str:
    """What a patient is told of a state or a delay; empty for what says nothing to them."""
    if word == "delay":
        return PATIENT_DELAY
    return PATIENT_WORDS.get(LabState(word), "") if word else ""


def _heard(case: Case) -> list[str]:
    return cast("list[str]", case.data.get("heard", []))
