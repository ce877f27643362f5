"""A planned treatment is put before its payer, with its evidence, before it is done.

Started by: planned procedures that a payer's rules ask about and that cost a configured amount, or
that follow from a signed finding to be restored; seen when records change, a review is signed, and
every morning. Approved by: a dentist answers what only a clinician knows; whoever may approve
pre-authorisations approves, edits or refuses what goes out, and decides what follows a denial.
Writes: the pre-authorisation, estimates and tracking of its claim, what the payer said about the
plan, entries in the communication log, the request as PDF, tasks. Calls: the clearinghouse.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from node.domain.events import EventKind
from node.domain.rights import Right, Role
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.payers import verdicts
from orchestration.payers.acknowledgements import Verdict, read_277ca, read_999
from orchestration.payers.coverage import exceptions
from orchestration.payers.desk import PARTNER, PreauthDesk
from orchestration.payers.eob import read_eob
from orchestration.payers.mail import TOPIC, KeptMail, late_answers
from orchestration.payers.office import PayerOffice
from orchestration.payers.page import page_path
from orchestration.payers.policy import NoPolicy
from orchestration.payers.remittance import read_835
from orchestration.payers.request import (
    READS,
    patients_of_records,
    planning_patients,
    start_of,
    waiting_cases,
)
from orchestration.workflow import (
    Draft,
    Happened,
    Json,
    Outcome,
    Signal,
    Start,
    Workflow,
    ask,
    done,
    go,
    park,
    wait,
)
from pms_writeback.commands import (
    AppendCommlog,
    CreatePreauthorization,
    CreateTask,
    EstimateBenefit,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
)
from pms_writeback.records import RecordKind

NAME = "preauthorisation"
#: Results that a person may see otherwise: refused by mistake, evidence found, planned after all.
_MAY_BE_TAKEN_UP = (
    "refused", "turned away", "evidence missing", "not eligible", "no longer planned",
)  # fmt: skip
_A_DAY, _A_WEEK = timedelta(days=1), timedelta(days=7)
#: So long missing evidence is looked for again, and so many weeks an inactive plan.
_MOST_DAYS, _MOST_WEEKS = timedelta(days=60), 4
#: So often a person is told that a payer does not answer, before the case stops.
_MOST_REMINDERS = 4
#: Records whose change may be what a case waits for.
_EVIDENCE = frozenset(
    {RecordKind.PERIO_EXAM, RecordKind.PERIO_MEASURE, RecordKind.DOCUMENT, RecordKind.COVERAGE}
    | {RecordKind.SUBSCRIPTION, RecordKind.TOOTH_STATE, RecordKind.ADDRESS}
)


def make(office: PayerOffice) -> Workflow:
    """Make the workflow for one practice."""
    section = office.section
    desk = PreauthDesk(office)
    flow = Workflow(
        name=NAME,
        title="Pre-authorisation",
        reads=READS,
        writes=frozenset(
            {AppendCommlog, CreatePreauthorization, CreateTask, EstimateBenefit, TrackClaim}
            | {UploadDocument, VerifyInsurance}
        ),
        partners=frozenset({PARTNER}),
        again=dict.fromkeys(_MAY_BE_TAKEN_UP, "gather"),
    )

    # --- what is planned, and whether the plan pays ---

    @flow.stage
    def gather(case: Case) -> Outcome:
        if "mail" in case.data:
            return go(answered_late)
        if case.is_reopened:
            desk.begin_again(case)
        request = desk.look(case)
        case.data.setdefault("attempt", 1)
        if isinstance(request.policy, NoPolicy):
            if request.policy.is_uninsured:
                return done("no insurance")
            return _hold(desk, case, [request.policy.reason])
        if not request.wishes:
            return done("no longer planned")
        return go(evidence if case.is_silent else eligibility)

    @flow.stage
    def eligibility(case: Case) -> Outcome:
        answer = desk.ask_eligibility(case, desk.look(case))
        asked = case.data["asked"] = int(str(case.data.get("asked", 0))) + 1
        wrong = [w for w in exceptions(answer) if "maximum" not in w]
        if not wrong:
            return go(evidence)
        if asked - int(str(case.data.get("asked_before", 0))) > _MOST_WEEKS:
            return done("not eligible")
        desk.task(case, f"eligibility-{asked}", "; ".join(wrong))
        return wait(gather, until=case.clock() + _A_WEEK, on={"again": gather})

    @flow.stage
    def evidence(case: Case) -> Outcome:
        request = desk.look(case)
        if not request.wishes:
            return done("no longer planned")
        lacking = [item.words for wish in request.wishes for item in wish.assessment.lacking]
        return _hold(desk, case, lacking) if lacking else go(words)

    # --- words ---

    @flow.stage
    def words(case: Case) -> Outcome:
        request = desk.look(case)
        case.data.pop("missing_since", None)
        narrative = request.narrative(office, desk.answers(case))
        if narrative.is_complete:
            return go(propose)
        return ask(
            "preauth_answers",
            title="Pre-authorisation: what only the dentist knows",
            draft=desk.questions(case, request, narrative),
            right=Right.FINDINGS_SIGN,
            then=answered,
            timeout=timedelta(days=3),
            escalate_to=Role.DENTIST,
        )

    @flow.stage
    def answered(case: Case) -> Outcome:
        if case.decision is None or not case.decision.is_approved:
            return done("refused")
        desk.keep_answers(case, case.decision.draft)
        return go(words)

    @flow.stage
    def propose(case: Case) -> Outcome:
        return ask(
            "preauth",
            title="Send a pre-authorisation",
            draft=desk.proposal(case, desk.look(case)),
            right=Right.PREAUTHS_APPROVE,
            then=decided,
            timeout=timedelta(days=3),
            escalate_to=Role.OFFICE_MANAGER,
        )

    @flow.stage
    def decided(case: Case) -> Outcome:
        decision = case.decision
        if decision is None or not decision.is_approved:
            return done("refused")
        case.data["narrative"] = decision.draft["narrative"]
        case.data["approved_by"], case.data["approved_at"] = decision.by, decision.at.isoformat()
        case.data["edit_reason"] = decision.reason
        return go(file_in_pms)

    # --- out ---

    @flow.stage
    def file_in_pms(case: Case) -> Outcome:
        request = desk.look(case)
        if not request.wishes:
            return done("no longer planned")
        if desk.has_changed(case, request):
            return _decide_again(case)
        desk.file_in_pms(case, request)
        return go(attach)

    @flow.stage
    def attach(case: Case) -> Outcome:
        request = desk.look(case)
        if not request.wishes:
            return done("no longer planned")
        if desk.has_changed(case, request):  # the payer was away meanwhile, or all was paused
            return _decide_again(case)
        desk.attach(case, request)
        desk.compose(case, request)
        return go(submit)

    @flow.stage
    def submit(case: Case) -> Outcome:
        desk.submit(case)
        span = timedelta(hours=section.acknowledge_hours)
        until = desk.set_deadline(case, "acknowledgement", span)
        return wait(late, until=until, on=listening)

    @flow.undo("submit")
    def withdraw(case: Case, result: Json) -> None:
        sent = "after" if result is not None else "while"
        desk.task(case, "withdraw", f"the case was cancelled {sent} it was sent; tell the payer")

    # --- back ---

    @flow.stage
    def payer_said(case: Case) -> Outcome:
        mail = desk.mail(case)
        if not desk.is_current(case, mail):
            case.note(ignored="an answer to an earlier submission")
            return _listen(case)
        try:
            return _read(case, mail)
        except InvalidInput:
            desk.task(case, f"unreadable-{mail.id[:12]}", "a payer's answer cannot be read")
            return _listen(case)

    def _read(case: Case, mail: KeptMail) -> Outcome:
        match mail.kind:
            case "999":
                return _syntax(case, mail)
            case "277CA":
                return _front_end(case, mail)
            case "835":
                return _remittance(case, mail)
            case "EOB":
                return _page(case, mail)
            case _:
                desk.task(case, f"unknown-{mail.id[:12]}", "a payer's answer of an unknown kind")
                return _listen(case)

    def _syntax(case: Case, mail: KeptMail) -> Outcome:
        if all(each.verdict is Verdict.ACCEPTED for each in read_999(mail.content)):
            case.note(acknowledged="999")
            return _listen(case)
        case.data["refusal"] = "the clearinghouse cannot read the claim (999)"
        return go(turned_away)

    def _front_end(case: Case, mail: KeptMail) -> Outcome:
        mine = [a for a in read_277ca(mail.content) if a.claim_id == desk.claim_id(case)]
        if not mine or mine[0].verdict is Verdict.UNDECIDED:
            return _listen(case)
        case.note(acknowledged="277CA", status=mine[0].words)
        if mine[0].verdict is Verdict.REJECTED:
            case.data["refusal"] = f"the payer's front end refused it: {mine[0].words}"
            return go(turned_away)
        case.data["payer_claim_number"] = mine[0].payer_claim_number
        desk.track(case, f"sent:{desk.attempt(case)}", verdicts.TRACK_SENT, "accepted")
        if case.data["waits_for"] == "acknowledgement":
            desk.set_deadline(case, "answer", timedelta(days=section.answer_days))
        return _listen(case)

    def _remittance(case: Case, mail: KeptMail) -> Outcome:
        for remittance in read_835(mail.content):
            claim = remittance.claim(desk.claim_id(case))
            if claim is None:
                continue
            lines = desk.lines(case)
            matched = {each.line_id: each for each in claim.lines if each.line_id in lines}
            answer = verdicts.answer_draft(claim, matched, lines, office.routes)
            case.data["answer"] = {**answer, "mail": mail.id}
            case.data["doubts"] = list(verdicts.doubts_of(remittance, claim, lines))
            return go(unsure if case.data["doubts"] else apply_answer)
        case.note(ignored="an 835 about other claims")
        return _listen(case)

    def _page(case: Case, mail: KeptMail) -> Outcome:
        reading = read_eob(mail.content)
        lines = desk.lines(case)
        matched, doubts = verdicts.with_line_ids(reading, lines)
        if reading.claim.claim_id not in ("", desk.claim_id(case)):
            doubts.append("the page names another claim")
        answer = verdicts.answer_draft(reading.claim, matched, lines, office.routes)
        case.data["answer"] = {**answer, "mail": mail.id}
        case.data["doubts"] = list(dict.fromkeys(doubts))
        return go(unsure if doubts else apply_answer)

    @flow.stage
    def unsure(case: Case) -> Outcome:
        answer = case.data["answer"]
        assert isinstance(answer, dict)
        return ask(
            "preauth_answer",
            title="Read a payer's answer: the program is not sure",
            draft={
                **_with_every_line(desk, case, answer),
                "doubts": case.data["doubts"],
                "page": page_path(str(answer["mail"])),
            },
            right=Right.PREAUTHS_APPROVE,
            then=read_by_person,
            timeout=timedelta(days=3),
            escalate_to=Role.OFFICE_MANAGER,
        )

    @flow.stage
    def read_by_person(case: Case) -> Outcome:
        if case.decision is None or not case.decision.is_approved:
            return _listen(case)
        case.data["answer"] = case.decision.draft
        return go(apply_answer)

    @flow.stage
    def apply_answer(case: Case) -> Outcome:
        answer = case.data["answer"]
        assert isinstance(answer, dict)
        desk.apply(case, answer)
        result = str(answer["result"])
        return done("approved") if result == "approved" else go(denied)

    @flow.stage
    def denied(case: Case) -> Outcome:
        """Ask what follows; what the payer says meanwhile comes first, and may end the question."""
        answer = case.data["answer"]
        assert isinstance(answer, dict)
        case.data["waits_for"] = "decision"
        return ask(
            "preauth_denial",
            title=f"Pre-authorisation {verdicts.result_words(answer)}: send again?",
            draft=answer,
            right=Right.PREAUTHS_APPROVE,
            then=after_denial,
            timeout=timedelta(days=5),
            escalate_to=Role.OFFICE_MANAGER,
            on=listening,
        )

    @flow.stage
    def after_denial(case: Case) -> Outcome:
        if case.decision is None or not case.decision.is_approved:
            answer = case.data["answer"]
            assert isinstance(answer, dict)
            return done(str(answer["result"]).replace("_", " "))
        return _again(case)

    @flow.stage
    def turned_away(case: Case) -> Outcome:
        desk.log(
            case, f"refused:{desk.attempt(case)}", f"Pre-authorisation: {case.data['refusal']}."
        )
        return ask(
            "preauth_refusal",
            title="A pre-authorisation was turned away: mend it and send again?",
            draft={"reason": case.data["refusal"], "claim": desk.claim_id(case)},
            right=Right.PREAUTHS_APPROVE,
            then=after_refusal,
            timeout=timedelta(days=3),
            escalate_to=Role.OFFICE_MANAGER,
        )

    @flow.stage
    def after_refusal(case: Case) -> Outcome:
        if case.decision is None or not case.decision.is_approved:
            return done("turned away")
        return _again(case)

    @flow.stage
    def late(case: Case) -> Outcome:
        told = case.data["reminders"] = int(str(case.data.get("reminders", 0))) + 1
        what = str(case.data["waits_for"])
        if told > _MOST_REMINDERS and not case.data.get("is_parked"):
            case.data["is_parked"] = True  # a person's retry listens again
            return park(f"the payer gives no {what}; ask the clearinghouse")
        case.data["is_parked"] = False
        desk.task(case, f"late-{told}", f"no {what} of the payer yet; office manager, please ask")
        until = desk.set_deadline(case, what, _A_WEEK)
        return wait(late, until=until, on=listening)

    def _decide_again(case: Case) -> Outcome:
        """What was approved is no longer what would go out: ask anew, under a new claim id."""
        case.data["changed"] = True
        case.note(changed="after it was approved")
        return _again(case)

    def _again(case: Case) -> Outcome:
        case.data["attempt"] = desk.attempt(case) + 1
        case.data["reminders"] = 0
        return go(gather)

    @flow.stage
    def answered_late(case: Case) -> Outcome:
        """The payer spoke, or spoke again, after a case had ended."""
        return ask(
            "preauth_late_answer",
            title="A payer answered after the case had ended: please read",
            draft={"ended_as": case.data["ended_as"], "page": page_path(str(case.data["mail"]))},
            right=Right.PREAUTHS_APPROVE,
            then=read_late,
            timeout=timedelta(days=3),
            escalate_to=Role.OFFICE_MANAGER,
        )

    @flow.stage
    def read_late(case: Case) -> Outcome:
        return done("answered late")

    def _listen(case: Case) -> Outcome:
        if case.data["waits_for"] == "decision":
            return go(denied)
        return wait(late, until=desk.deadline(case), on=listening)

    def _hold(desk: PreauthDesk, case: Case, lacking: list[str]) -> Outcome:
        """Tell the office what is missing, and look again every day and when something changes."""
        desk.lack(case, lacking)
        since = str(case.data.setdefault("missing_since", case.clock().isoformat()))
        is_given_up = case.clock() - datetime.fromisoformat(since) > _MOST_DAYS
        if case.is_silent or is_given_up:
            return done("evidence missing")
        return wait(gather, until=case.clock() + _A_DAY, on={"again": gather})

    listening = {TOPIC: payer_said}

    # --- drafts that a person edited ---

    @flow.check_draft("preauth_answers")
    def check_answers(draft: Draft) -> None:
        desk.check_answers(draft)

    @flow.check_draft("preauth")
    def check_proposal(draft: Draft) -> None:
        desk.check_proposal(draft)

    @flow.check_draft("preauth_answer")
    def check_answer(draft: Draft) -> None:
        verdicts.check_answer_draft(draft)

    # --- what starts it ---

    @flow.daily("06:30")
    def sweep(chart: Chart, day: date) -> Iterable[Start]:
        yield from late_answers(chart)
        yield from _starts(chart, planning_patients(chart))

    @flow.on(EventKind.RECORDS_CHANGED)
    def records(chart: Chart, event: Happened) -> Iterable[Start | Signal]:
        told = event.data.get("keys")
        keys = [str(key) for key in told] if isinstance(told, list) else []
        if event.subject == RecordKind.PROCEDURE.value:
            yield from _starts(chart, planning_patients(chart, keys))
        if event.subject in _EVIDENCE:
            patients = patients_of_records(chart, RecordKind(event.subject), keys)
            yield from _again_for(chart, patients, event)

    @flow.on(EventKind.REVIEW_SIGNED)
    def signed(chart: Chart, event: Happened) -> Iterable[Start | Signal]:
        patient_id = chart.patient_of_study(event.subject)
        if patient_id is not None:
            yield from _starts(chart, [patient_id])
            yield from _again_for(chart, [patient_id], event)

    def _again_for(chart: Chart, patients: list[str], event: Happened) -> Iterable[Signal]:
        """Have the cases that miss something look again at once."""
        for key in waiting_cases(chart, patients, gather.__name__):
            yield Signal(key, "again", f"again:{event.seq}")

    def _starts(chart: Chart, patients: Iterable[str]) -> Iterable[Start]:
        if not office.is_on:
            return
        for patient_id in patients:
            found = start_of(office, chart, patient_id)
            if found is not None:
                yield found

    return flow


def _with_every_line(desk: PreauthDesk, case: Case, answer: Draft) -> Draft:
    """Give a person a line for each procedure that was sent, also where the page named none."""
    rows = answer.get("lines")
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    named = {str(row["procedure"]) for row in known}
    lines: list[Json] = [*known]
    lines += [
        {"procedure": key, "code": code, "answered_code": "", "expected": "0.00", "codes": []}
        for key, code in desk.lines(case).items()
        if key not in named
    ]
    return {**answer, "lines": lines}
