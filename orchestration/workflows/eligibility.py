"""Every evening the payers are asked about the next working day's patients; exceptions are shown.

Started by: the daily sweep, one case per visit day and patient with an insurance, and by a look in
the morning for who was booked since. A second insurance is asked too. Writes: what each payer said
to the patient's insurance record (`VerifyInsurance`), a task where something is wrong.
Calls: the clearinghouse. Approved by: nobody; nothing is sent but the question, nothing changes but
the note that it was answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta

from orchestration.access import Chart
from orchestration.case import Case
from orchestration.payers import policy
from orchestration.payers.coverage import ask_payer, exceptions, verification_words
from orchestration.payers.office import PayerOffice
from orchestration.payers.policy import NoPolicy, read_policy, read_secondary
from orchestration.workflow import Draft, Module, Outcome, Start, Workflow, done, go
from pms_writeback.commands import CreateTask, VerifyInsurance

NAME = "eligibility"
PARTNER = "payer"
#: Service types (EB03) whose shares are kept.
_TYPES = ("23", "24", "25", "39")
#: A day without visits, such as a Sunday, is passed over; so many at most.
_DAYS_AHEAD = 4


def make(office: PayerOffice) -> Workflow:
    """Make the workflow for one practice."""
    flow = Workflow(
        name=NAME,
        title="Eligibility",
        reads=policy.READS | {Module.APPOINTMENTS},
        writes=frozenset({CreateTask, VerifyInsurance}),
        partners=frozenset({PARTNER}),
    )

    @flow.stage
    def ask(case: Case) -> Outcome:
        if case.is_silent:  # also a question says who comes tomorrow
            return done("silent")
        if _is_over(case):
            return done("not answered in time")
        known = read_policy(case.chart)
        if isinstance(known, NoPolicy):
            if not known.is_uninsured:
                _tell(case, [known.reason])
            return done("no insurance" if known.is_uninsured else "exception")
        kept = case.outside(
            PARTNER, "ask", lambda: ask_payer(office, known, case.id, case.clock(), _TYPES)
        )
        assert isinstance(kept, dict)
        case.data["answer"] = kept
        _write(case, "verified", known.coverage_key, kept)
        wrong = exceptions(kept)
        if wrong:
            _tell(case, wrong)
        case.data["is_exception"] = bool(wrong)
        return go(ask_second)

    @flow.stage
    def ask_second(case: Case) -> Outcome:
        second = read_secondary(case.chart)
        wrong: tuple[str, ...] = ()
        if isinstance(second, NoPolicy):
            wrong = (second.reason,)
        elif second is not None and not _is_over(case):
            kept = case.outside(
                PARTNER, "ask:2",
                lambda: ask_payer(office, second, f"{case.id}:2", case.clock(), _TYPES),
            )  # fmt: skip
            assert isinstance(kept, dict)
            case.data["answer_secondary"] = kept
            _write(case, "verified:2", second.coverage_key, kept)
            wrong = exceptions(kept)
        if wrong:
            _tell(case, [f"second insurance: {words}" for words in wrong], "exception:2")
        return done("exception" if wrong or case.data["is_exception"] else "active")

    @flow.daily("18:00")
    def sweep(chart: Chart, day: date) -> Iterable[Start]:
        if not office.is_on:
            return
        for ahead in range(1, _DAYS_AHEAD + 1):
            found = list(_starts(chart, day + timedelta(days=ahead)))
            yield from found
            if found:
                return

    @flow.daily("06:00")
    def morning(chart: Chart, day: date) -> Iterable[Start]:
        """Ask about today's patients whom the evening did not know, or that it slept through."""
        if office.is_on:
            yield from _starts(chart, day)

    return flow


def _starts(chart: Chart, day: date) -> Iterable[Start]:
    for patient_id in _patients(chart, day):
        yield Start(f"{day}:{patient_id}", patient_id, {"day": day.isoformat()})


def _is_over(case: Case) -> bool:
    """Tell whether the day of the visit has passed while the payer was away."""
    return case.chart.today > date.fromisoformat(str(case.data["day"]))


def _patients(chart: Chart, day: date) -> list[str]:
    begin = datetime.combine(day, time(), chart.zone)
    end = datetime.combine(day + timedelta(days=1), time(), chart.zone)
    visits = chart.visits(max(begin, chart.now), end)  # who has been here is not asked about
    return list(dict.fromkeys(v.patient_id for v in visits if v.status.lower() == "scheduled"))


def _write(case: Case, name: str, coverage_key: str, kept: Draft) -> None:
    day = case.clock().astimezone(case.chart.zone).date()
    ref = case.ref(name)
    words = verification_words(kept)
    pms_key = case.chart.pms_key()
    case.queue(name, VerifyInsurance(pms_key, coverage_key, day, words, ref))


def _tell(case: Case, wrong: Iterable[str], name: str = "exception") -> None:
    words = "; ".join(wrong)
    case.note(exception=words)
    ref = case.ref(name)
    text = f"Eligibility for the visit on {case.data['day']}: {words}. {ref}"
    case.queue(name, CreateTask(case.chart.pms_key(), text, ref))
