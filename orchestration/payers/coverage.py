"""Asking a payer about a patient's plan, and what is kept and written of the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from node.errors import InvalidInput, Retryable
from orchestration.payers.eligibility import (
    SERVICES,
    Coverage,
    Eligibility,
    Question,
    compose_270,
    read_271,
)
from orchestration.payers.office import PayerOffice
from orchestration.payers.policy import Policy
from orchestration.workflow import Draft, Json

#: Most characters of the note on a patient's insurance.
_NOTE = 240


def ask_payer(
    office: PayerOffice, policy: Policy, key: str, now: datetime, service_types: Sequence[str]
) -> Json:
    """Ask once and give what is kept of the answer: see :func:`summary`.

    Raises
    ------
    Retryable
        The clearinghouse or the payer cannot answer now, or its answer is damaged.
    """
    trace = hashlib.sha256(key.encode()).hexdigest()[:20].upper()
    day = now.astimezone(office.config.zone).date()
    question = Question(trace, office.practice(), policy.insurance, policy.patient, day)
    x12 = office.house.ask(compose_270(question, office.envelope(key, now)))
    try:
        answers = [each for each in read_271(x12) if each.trace in ("", trace)]
    except InvalidInput:
        raise Retryable("the payer's answer about the plan cannot be read", 300.0) from None
    if len(answers) != 1:
        raise Retryable("the payer's answer about the plan is about something else", 300.0)
    if any(rejection.is_for_later for rejection in answers[0].rejections):
        raise Retryable("the payer cannot say now whether the plan is active", 900.0)
    return summary(answers[0], service_types)


def summary(answer: Eligibility, service_types: Sequence[str]) -> Draft:
    """Keep what is said, as JSON: amounts as texts, null for what the payer did not say.

    Shares are the patient's, in percent, by service type.
    """
    shares: dict[str, Json] = {}
    authorize: dict[str, Json] = {}
    for service_type in dict.fromkeys(service_types):
        share = answer.patient_share(service_type)
        shares[service_type] = None if share is None else f"{(share * 100).normalize():f}"
        authorize[service_type] = answer.needs_authorization("", service_type)
    said: list[Json] = [*answer.messages]
    said += [text for each in answer.benefits for text in (*each.frequencies, *each.messages)]
    return {
        "coverage": answer.coverage.value,
        "plan": answer.plan_name,
        "begin": _iso(answer.plan_begin),
        "end": _iso(answer.plan_end),
        "maximum": _amount(answer.maximum(remaining=False)),
        "maximum_left": _amount(answer.maximum(remaining=True)),
        "deductible": _amount(answer.deductible(remaining=False)),
        "deductible_left": _amount(answer.deductible(remaining=True)),
        "patient_share_percent": shares,
        "authorization": authorize,
        "said": list(dict.fromkeys(said)),
        "rejections": [f"{each.code}: {each.reason}" for each in answer.rejections],
        "is_intact": answer.is_intact,
    }


def is_active(kept: Draft) -> bool:
    """Whether the payer said that the plan is in force, and said nothing against it."""
    return kept["coverage"] == Coverage.ACTIVE.value and not kept["rejections"]


def exceptions(kept: Draft, least_left: Decimal = Decimal(0)) -> tuple[str, ...]:
    """Say what a person should look at before the visit; empty when all is well."""
    found = []
    rejections = kept["rejections"]
    if isinstance(rejections, list) and rejections:
        found.append("the payer refused the question: " + ", ".join(str(r) for r in rejections))
    elif kept["coverage"] == Coverage.INACTIVE.value:
        found.append("the plan is not active")
    elif kept["coverage"] != Coverage.ACTIVE.value:
        found.append("the payer does not say whether the plan is active")
    left = kept["maximum_left"]
    if left is not None and Decimal(str(left)) <= least_left:
        found.append("nothing is left of the yearly maximum")
    return tuple(found)


def verification_words(kept: Draft) -> str:
    """Say the answer in one line for the patient's insurance; unknown stays "not said"."""
    shares = kept["patient_share_percent"]
    parts = [f"Eligibility by 271: {kept['coverage']}"]
    amounts = {
        "maximum left": kept["maximum_left"],
        "of": kept["maximum"],
        "deductible left": kept["deductible_left"],
    }
    parts += [f"{name} {'not said' if v is None else v}" for name, v in amounts.items()]
    if isinstance(shares, dict):
        for service_type, share in shares.items():
            if share is not None:
                name = SERVICES.get(service_type, service_type)
                parts.append(f"{name} patient {share} %")
    said = kept["said"]
    if isinstance(said, list) and said:
        parts.append("payer's text: " + " / ".join(str(text) for text in said))
    return "; ".join(parts)[:_NOTE]


def _amount(value: Decimal | None) -> Json:
    return None if value is None else f"{value:.2f}"


def _iso(day: date | None) -> Json:
    return day.isoformat() if day else None
