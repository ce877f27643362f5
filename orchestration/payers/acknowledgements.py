"""Acknowledgements: 999 (syntax of what we sent), 277CA (each claim at the payer's front end)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestration.payers.segments import Segment, read_transactions

#: 277CA status categories in our words.
CATEGORIES: dict[str, str] = {
    "A0": "forwarded",
    "A1": "received",
    "A2": "accepted",
    "A3": "rejected",
    "A4": "not found",
    "A5": "split",
    "A6": "rejected: information is missing",
    "A7": "rejected: information is invalid",
    "A8": "rejected: information does not fit together",
}


class Verdict(StrEnum):
    """What an acknowledgement says."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """One place that the receiver could not take, by segment and element."""

    segment: str
    position: str
    element: str
    code: str


@dataclass(frozen=True, slots=True)
class SyntaxAnswer:
    """A 999 to one group that we sent, named by its control number (GS06)."""

    group_control: str
    verdict: Verdict
    problems: tuple[SyntaxProblem, ...]


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """A 277CA to one claim; ``claim_id`` is our CLM01 (TRN02).

    ``categories`` are pairs of status category and status code; ``payer_claim_number`` is empty
    until the payer gave one.
    """

    claim_id: str
    verdict: Verdict
    categories: tuple[tuple[str, str], ...]
    payer_claim_number: str
    messages: tuple[str, ...] = field(default=(), repr=False)

    @property
    def words(self) -> str:
        """Say the categories for a person."""
        return "; ".join(
            f"{CATEGORIES.get(category, category)} (status {code or 'not given'})"
            for category, code in self.categories
        )


def read_999(content: str | bytes) -> tuple[SyntaxAnswer, ...]:
    """Read every 999 of a file; raises InvalidInput when there is none."""
    sets, _ = read_transactions(content, "999")
    return tuple(_syntax(each.segments) for each in sets)


def read_277ca(content: str | bytes) -> tuple[ClaimAnswer, ...]:
    """Read the answers to all claims of a file; raises InvalidInput when there is no 277."""
    sets, _ = read_transactions(content, "277")
    return tuple(answer for each in sets for answer in _claims(each.segments))


def _syntax(rows: Sequence[Segment]) -> SyntaxAnswer:
    control, verdict, segment_id, position = "", Verdict.UNDECIDED, "", ""
    problems: list[SyntaxProblem] = []
    for row in rows:
        match row.id:
            case "AK1":
                control = row.value(2)
            case "IK3":
                segment_id, position = row.value(1), row.value(2)
                problems.append(SyntaxProblem(segment_id, position, "", row.value(4)))
            case "IK4":
                problems.append(SyntaxProblem(segment_id, position, row.value(1), row.value(3)))
            case "IK5" | "AK9":
                verdict = _worse(verdict, row.value(1))
            case _:
                pass
    return SyntaxAnswer(control, verdict, tuple(problems))


def _worse(known: Verdict, code: str) -> Verdict:
    """Read A and E as accepted; anything else, P (partly) too, as rejected, which prevails."""
    if known is Verdict.REJECTED or code not in ("A", "E"):
        return Verdict.REJECTED
    return Verdict.ACCEPTED


def _claims(rows: Sequence[Segment]) -> Iterator[ClaimAnswer]:
    """Read each TRN of a patient level with the STC and REF that follow it."""
    is_patient, part = False, list[Segment]()
    for row in rows:
        if row.id in ("HL", "SE") or (row.id == "TRN" and part):
            if part:
                yield _claim(part)
            part = []
        if row.id == "HL":
            is_patient = row.value(3) in ("PT", "22", "23")
        if is_patient and (part or row.id == "TRN"):
            part.append(row)


def _claim(rows: Sequence[Segment]) -> ClaimAnswer:
    statuses = [row for row in rows if row.id == "STC"]
    pairs = [
        (row.part(place, 1), row.part(place, 2))
        for row in statuses
        for place in (1, 10, 11)
        if row.part(place, 1)
    ]
    categories = {category for category, _ in pairs}
    if categories & {"A3", "A4", "A6", "A7", "A8"}:
        verdict = Verdict.REJECTED
    elif categories & {"A0", "A1", "A2", "A5"}:
        verdict = Verdict.ACCEPTED
    else:
        verdict = Verdict.UNDECIDED
    number = next((r.raw(2) for r in rows if r.id == "REF" and r.value(1) == "1K"), "")
    texts = tuple(row.raw(12) for row in statuses if row.raw(12))
    return ClaimAnswer(rows[0].raw(2), verdict, tuple(dict.fromkeys(pairs)), number, texts)
