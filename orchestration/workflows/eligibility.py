"""Every evening the payers are asked about the next working day's patients; exceptions are shown.

Started by: the daily sweep, one case per visit day and patient with an insurance. Writes: what the
payer said to the patient's insurance record (`VerifyInsurance`), one task where something is wrong.
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
from orchestration.payers.policy import NoPolicy, read_policy
from orchestration.workflow import Draft, Module, Outcome, Start, Workflow, done
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
        _write(case, known.coverage_key, kept)
        wrong = exceptions(kept)
        if wrong:
            _tell(case, wrong)
        return done("exception" if wrong else "active")

    @flow.daily("18:00")
    def sweep(chart: Chart, day: date) -> Iterable[Start]:
        if not office.is_on:
            return
        for ahead in range(1, _DAYS_AHEAD + 1):
            visit_day = day + timedelta(days=ahead)
            patients = _patients(chart, visit_day)
            if patients:
                for patient_id in patients:
                    key = f"{visit_day}:{patient_id}"
                    yield Start(key, patient_id, {"day": visit_day.isoformat()})
                return

    return flow


def _patients(chart: Chart, day: date) -> list[str]:
    begin = datetime.combine(day, time(), chart.zone)
    visits = chart.visits(begin, begin + timedelta(days=1))
    return list(dict.fromkeys(v.patient_id for v in visits if v.status.lower() == "scheduled"))


def _write(case: Case, coverage_key: str, kept: Draft) -> None:
    day = case.clock().astimezone(case.chart.zone).date()
    ref = case.ref("verified")
    words = verification_words(kept)
    pms_key = case.chart.pms_key()
    case.queue("verified", VerifyInsurance(pms_key, coverage_key, day, words, ref))


def _tell(case: Case, wrong: Iterable[str]) -> None:
    words = "; ".join(wrong)
    case.note(exception=words)
    ref = case.ref("exception")
    text = f"Eligibility for the visit on {case.data['day']}: {words}. {ref}"
    case.queue("exception", CreateTask(case.chart.pms_key(), text, ref))
