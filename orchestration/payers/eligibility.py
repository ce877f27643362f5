"""Eligibility: the 270 question and a tolerant reading of the 271 answer (005010X279A1).

What a 271 does not say stays unknown (``None``, `Coverage.UNKNOWN`): no frequency in it is not "no
limit". Free text (MSG) is kept word for word for people and decides nothing. EB01 ``A`` with EB08
``.2`` is the patient's share: the payer pays 80 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from orchestration.payers.claim import Insurance, Person, Practice
from orchestration.payers.segments import (
    Elements,
    Envelope,
    Segment,
    amount_of,
    plain,
    read_transactions,
    segment,
    write_interchange,
)

VERSION = "005010X279A1"
DENTAL = "35"
#: Period qualifiers (EB06) in our words; others are given as they come.
PERIODS: dict[str, str] = {
    "21": "years",
    "22": "service year",
    "23": "calendar year",
    "24": "year to date",
    "25": "contract",
    "27": "visit",
    "29": "remaining",
    "32": "lifetime",
    "33": "lifetime remaining",
    "34": "month",
}
#: Service types (EB03) that concern dentistry, in our words.
SERVICES: dict[str, str] = {
    "4": "X-ray",
    "23": "diagnostic",
    "24": "periodontics",
    "25": "restorative",
    "26": "endodontics",
    "27": "maxillofacial prosthetics",
    "28": "adjunctive",
    "35": "dental care",
    "36": "crowns",
    "37": "dental accident",
    "38": "orthodontics",
    "39": "prosthodontics",
    "40": "oral surgery",
    "41": "preventive",
}
_REJECTIONS: dict[str, str] = {
    "15": "data is missing",
    "42": "the payer cannot respond now",
    "43": "the provider is not known",
    "71": "the birth date does not fit",
    "72": "the member id is not known",
    "73": "the name does not fit",
    "75": "the subscriber is not found",
    "79": "a participant id is wrong",
}
#: AAA03 and AAA04 codes after which the same question may be asked again later.
_LATER = {"42", "80"}
_LATER_ACTIONS = {"R", "W", "P", "Y", "S"}


class Coverage(StrEnum):
    """Whether the plan is in force, as far as the answer says."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one patient's dental plan; `trace` comes back in the answer."""

    trace: str
    practice: Practice
    insurance: Insurance
    patient: Person = field(repr=False)
    day: date
    service_types: tuple[str, ...] = (DENTAL,)


@dataclass(frozen=True, slots=True)
class Benefit:
    """One EB with what hangs on it; ``None`` and empty mean that the payer did not say.

    ``code`` is EB01, ``percent`` EB08 as a fraction (of the patient's share for ``A``),
    ``frequencies`` the HSD segments in words, ``messages`` MSG word for word.
    """

    code: str
    level: str = ""
    service_types: tuple[str, ...] = ()
    plan: str = ""
    period: str = ""
    amount: Decimal | None = None
    percent: Decimal | None = None
    quantity_unit: str = ""
    quantity: Decimal | None = None
    needs_authorization: bool | None = None
    is_in_network: bool | None = None
    cdt_code: str = ""
    frequencies: tuple[str, ...] = ()
    dates: tuple[tuple[str, str], ...] = ()
    messages: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the payer could not answer (AAA)."""

    code: str
    reason: str
    is_for_later: bool


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What a 271 says about one patient."""

    trace: str
    coverage: Coverage
    plan_name: str
    plan_begin: date | None
    plan_end: date | None
    benefits: tuple[Benefit, ...]
    rejections: tuple[Rejection, ...]
    messages: tuple[str, ...] = field(default=(), repr=False)
    is_intact: bool = True

    def maximum(self, *, remaining: bool, is_in_network: bool | None = None) -> Decimal | None:
        """Give the individual's yearly maximum, or what is left of it; None where not said."""
        wanted = ("29",) if remaining else ("23", "22", "25")
        return self._amount("F", wanted, is_in_network)

    def deductible(self, *, remaining: bool) -> Decimal | None:
        """Give the individual's deductible, or what is left of it; None where not said."""
        return self._amount("C", ("29",) if remaining else ("23", "22", "25"), None)

    def patient_share(self, service_type: str, cdt_code: str = "") -> Decimal | None:
        """Give the fraction that the patient bears, of the procedure where it is named.

        None where not said, and where the answer contradicts itself.
        """
        shares = [each for each in self.benefits if each.code == "A" and each.percent is not None]
        of_code = {each.percent for each in shares if cdt_code and each.cdt_code == cdt_code}
        of_type = {
            each.percent
            for each in shares
            if not each.cdt_code
            and service_type in each.service_types
            and each.is_in_network is not False
        }
        found = of_code or of_type
        return found.pop() if len(found) == 1 else None

    def said_about(self, cdt_code: str, service_type: str) -> tuple[str, ...]:
        """Give every limit and message that a person should read for this procedure."""
        return tuple(
            dict.fromkeys(
                text
                for each in self.benefits
                if each.cdt_code == cdt_code
                or (not each.cdt_code and service_type in each.service_types)
                for text in (*each.frequencies, *each.messages)
            )
        )

    def needs_authorization(self, cdt_code: str, service_type: str) -> bool | None:
        """Tell whether the payer asks for an authorisation (EB11); None where not said."""
        said = {
            each.needs_authorization
            for each in self.benefits
            if each.cdt_code == cdt_code
            or (not each.cdt_code and service_type in each.service_types)
        } - {None}
        return said.pop() if len(said) == 1 else None

    def _amount(
        self, code: str, periods: Sequence[str], is_in_network: bool | None
    ) -> Decimal | None:
        found = {
            each.amount
            for each in self.benefits
            if each.code == code
            and each.amount is not None
            and each.period in periods
            and each.level in ("", "IND")
            and (not each.service_types or DENTAL in each.service_types)
            and not each.cdt_code
            and is_in_network in (None, each.is_in_network)
        }
        return found.pop() if len(found) == 1 else None


def compose_270(question: Question, envelope: Envelope) -> str:
    """Write the question as one interchange."""
    return write_interchange(envelope, "HS", VERSION, "270", [list(_body(question, envelope.at))])


def read_271(content: str | bytes) -> tuple[Eligibility, ...]:
    """Read every answer of a file, in its order.

    Raises
    ------
    InvalidInput
        It is no X12, cut off, or holds no 271.
    """
    sets, is_intact = read_transactions(content, "271")
    return tuple(
        replace(answer, is_intact=is_intact) for each in sets for answer in _answers(each.segments)
    )


def _body(question: Question, at: datetime) -> Iterator[Elements]:
    insurance, practice = question.insurance, question.practice
    is_self = insurance.relationship == "self"
    yield segment("BHT", "0022", "13", question.trace, f"{at:%Y%m%d}", f"{at:%H%M}")
    yield segment("HL", "1", "", "20", "1")
    payer = plain(insurance.payer_name, 60)
    yield segment("NM1", "PR", "2", payer, "", "", "", "", "PI", insurance.payer_id)
    yield segment("HL", "2", "1", "21", "1")
    name = plain(practice.name, 60)
    yield segment("NM1", "1P", "2", name, "", "", "", "", "XX", practice.npi)
    yield segment("HL", "3", "2", "22", "0" if is_self else "1")
    trace = segment("TRN", "1", question.trace, f"9{practice.tax_id}")
    if is_self:
        yield trace
    yield from _named("IL", insurance.subscriber, insurance.member_id)
    if not is_self:
        yield segment("HL", "4", "3", "23", "0")
        yield trace
        yield from _named("03", question.patient, "")
    yield segment("DTP", "291", "D8", f"{question.day:%Y%m%d}")
    for service_type in question.service_types:
        yield segment("EQ", service_type)


def _named(role: str, person: Person, member_id: str) -> Iterator[Elements]:
    family, given = plain(person.family_name, 60), plain(person.given_name, 35)
    qualifier = "MI" if member_id else ""
    yield segment("NM1", role, "1", family, given, "", "", "", qualifier, member_id)
    gender = person.gender if person.gender != "U" else ""
    yield segment("DMG", "D8", f"{person.birth_date:%Y%m%d}", gender)


# --- the answer -----------------------------------------------------------------------------------

_Level = Literal["payer", "provider", "subscriber", "dependent", ""]
_LEVELS: dict[str, _Level] = {
    "20": "payer",
    "21": "provider",
    "22": "subscriber",
    "23": "dependent",
}


def _answers(rows: Sequence[Segment]) -> Iterator[Eligibility]:
    """Read one answer a person level; a subscriber with a dependent below is no answer itself."""
    general: list[Segment] = []
    people: list[list[Segment]] = []
    level: _Level = ""
    for row in rows:
        if row.id == "HL":
            level = _LEVELS.get(row.value(3), "")
            if level in ("subscriber", "dependent"):
                people.append([])
        if level in ("subscriber", "dependent"):
            people[-1].append(row)
        else:
            general.append(row)
    refused = tuple(_rejection(row) for row in general if row.id == "AAA")
    answers = [_person(each) for each in people]
    told = [a for a in answers if a.benefits or a.rejections] or answers[-1:]
    for answer in told or [_person([])]:
        yield replace(answer, rejections=(*refused, *answer.rejections))


def _person(rows: Sequence[Segment]) -> Eligibility:
    trace, begin, end = "", None, None
    benefits: list[Benefit] = []
    rejections: list[Rejection] = []
    messages: list[str] = []
    is_inside = False  # behind the first EB
    for row in rows:
        match row.id:
            case "TRN" if not trace:
                trace = row.value(2)
            case "AAA":
                rejections.append(_rejection(row))
            case "EB":
                is_inside = True
                benefits.append(_benefit(row))
            case "HSD" if is_inside:
                benefits[-1] = _with(benefits[-1], frequencies=_frequency(row))
            case "MSG" if is_inside:
                benefits[-1] = _with(benefits[-1], messages=row.raw(1))
            case "MSG":
                messages.append(row.raw(1))
            case "DTP" if is_inside:
                dates = (*benefits[-1].dates, (row.value(1), row.raw(3)))
                benefits[-1] = replace(benefits[-1], dates=dates)
            case "DTP":
                first, last = _span(row)
                if row.value(1) in ("346", "356", "291", "307"):
                    begin, end = first or begin, last or end
                elif row.value(1) in ("347", "357"):
                    end = first or end
            case _:
                pass
    return Eligibility(
        trace=trace,
        coverage=_coverage(benefits),
        plan_name=next((each.plan for each in benefits if each.plan), ""),
        plan_begin=begin,
        plan_end=end,
        benefits=tuple(benefits),
        rejections=tuple(rejections),
        messages=tuple(messages),
    )


def _coverage(benefits: Sequence[Benefit]) -> Coverage:
    """Read EB01 1–5 as active and 6–8 as inactive; both at once says nothing."""
    dental = [b for b in benefits if not b.service_types or DENTAL in b.service_types]
    is_active = any(each.code in ("1", "2", "3", "4", "5") for each in dental)
    is_inactive = any(each.code in ("6", "7", "8") for each in dental)
    if is_active == is_inactive:
        return Coverage.UNKNOWN
    return Coverage.ACTIVE if is_active else Coverage.INACTIVE


def _benefit(row: Segment) -> Benefit:
    procedure = row.parts(13)
    is_cdt = len(procedure) > 1 and procedure[0] == "AD"
    return Benefit(
        code=row.value(1),
        level=row.value(2),
        service_types=row.repeats(3),
        plan=row.raw(5),
        period=row.value(6),
        amount=_decimal(row.value(7)),
        percent=_decimal(row.value(8)),
        quantity_unit=row.value(9),
        quantity=_decimal(row.value(10)),
        needs_authorization=_flag(row.value(11)),
        is_in_network=_flag(row.value(12)),
        cdt_code=procedure[1] if is_cdt else "",
    )


def _with(benefit: Benefit, *, frequencies: str = "", messages: str = "") -> Benefit:
    return replace(
        benefit,
        frequencies=(*benefit.frequencies, *([frequencies] if frequencies else [])),
        messages=(*benefit.messages, *([messages] if messages else [])),
    )


def _frequency(row: Segment) -> str:
    """Say an HSD in words, as "2 VS per 12 month"; codes unknown to us stay codes."""
    units = {"VS": "visits", "P6": "procedures", "S7": "age, high", "S8": "age, low"}
    parts = [row.value(2), units.get(row.value(1), row.value(1))]
    if row.value(5) or row.value(6):
        parts += ["per", row.value(6), PERIODS.get(row.value(5), row.value(5))]
    return " ".join(part for part in parts if part)


def _span(row: Segment) -> tuple[date | None, date | None]:
    first, _, last = row.raw(3).partition("-")
    return _day(first), _day(last)


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None


def _decimal(text: str) -> Decimal | None:
    return amount_of(text)


def _flag(text: str) -> bool | None:
    return {"Y": True, "N": False}.get(text)


def _rejection(row: Segment) -> Rejection:
    code, action = row.value(3), row.value(4)
    reason = _REJECTIONS.get(code, f"reason {code or 'not given'}")
    return Rejection(code, reason, code in _LATER or action in _LATER_ACTIONS)
