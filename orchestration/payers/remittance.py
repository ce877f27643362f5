"""The 835: what a payer paid or, for a predetermination (CLP02 ``25``), expects to pay.

Sums are checked as the standard balances them; what does not balance is kept as a problem and never
applied by itself. A code that differs from the one submitted (SVC06) is a downgrade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orchestration.payers.segments import Segment, amount_of, read_transactions

VERSION = "005010X221A1"
PREDETERMINATION = "25"
DENIED = "4"
REVERSAL = "22"
#: Adjustment reason under which a predetermination says what would be paid.
ANTICIPATED = "101"
DOWNGRADED = "169"
_CENT = Decimal("0.005")


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One CAS triple; ``group`` is CO, PR, OA, PI or CR."""

    group: str
    reason: str
    amount: Decimal
    quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of one line; ``line_id`` is ours (REF*6R), empty when the payer lost it."""

    line_id: str
    cdt_code: str
    submitted_code: str
    charged: Decimal
    paid: Decimal
    allowed: Decimal | None
    adjustments: tuple[Adjustment, ...]
    remarks: tuple[str, ...]

    @property
    def is_downgraded(self) -> bool:
        """Whether the payer answered for another, cheaper procedure than the one submitted."""
        other = self.submitted_code not in ("", self.cdt_code)
        return other or any(each.reason == DOWNGRADED for each in self.adjustments)

    @property
    def expected(self) -> Decimal:
        """What the payer pays or, on a predetermination, says it would pay."""
        return self.paid + sum(
            (each.amount for each in self.adjustments if each.reason == ANTICIPATED), Decimal(0)
        )

    @property
    def patient_share(self) -> Decimal:
        """Sum of what the payer puts on the patient (group PR)."""
        return sum((a.amount for a in self.adjustments if a.group == "PR"), Decimal(0))


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of one claim; ``claim_id`` is our CLM01."""

    claim_id: str
    status: str
    charged: Decimal
    paid: Decimal
    patient_share: Decimal | None
    payer_claim_number: str
    lines: tuple[LineResult, ...]
    adjustments: tuple[Adjustment, ...]
    remarks: tuple[str, ...]
    problems: tuple[str, ...] = ()

    @property
    def is_predetermination(self) -> bool:
        """Whether this is a price before treatment, not a payment."""
        return self.status == PREDETERMINATION

    @property
    def expected(self) -> Decimal:
        """Sum over the lines of what is paid or would be."""
        whole = [each.amount for each in self.adjustments if each.reason == ANTICIPATED]
        return sum((line.expected for line in self.lines), Decimal(0)) + sum(whole, Decimal(0))

    @property
    def reasons(self) -> tuple[str, ...]:
        """All adjustment reasons, claim and lines."""
        found = (*self.adjustments, *(a for line in self.lines for a in line.adjustments))
        return tuple(dict.fromkeys(each.reason for each in found))

    @property
    def all_remarks(self) -> tuple[str, ...]:
        """All remark codes, claim and lines."""
        return tuple(dict.fromkeys([*self.remarks, *(r for x in self.lines for r in x.remarks)]))


@dataclass(frozen=True, slots=True)
class Remittance:
    """One 835; ``take_backs`` are PLB amounts that belong to no claim of this file."""

    total: Decimal
    trace: str
    payer_name: str
    claims: tuple[ClaimResult, ...] = field(repr=False)
    take_backs: tuple[tuple[str, Decimal], ...] = ()
    problems: tuple[str, ...] = ()

    def claim(self, claim_id: str) -> ClaimResult | None:
        """Find the answer to one of our claims; None when it is not here."""
        return next((each for each in self.claims if each.claim_id == claim_id), None)


def read_835(content: str | bytes) -> tuple[Remittance, ...]:
    """Read every 835 of a file.

    Raises
    ------
    InvalidInput
        It is no X12, cut off, or holds no 835.
    """
    sets, is_intact = read_transactions(content, "835")
    return tuple(_remittance(each.segments, is_intact) for each in sets)


def _remittance(rows: Sequence[Segment], is_intact: bool) -> Remittance:
    heads = {row.id: row for row in reversed(rows) if row.id in ("BPR", "TRN")}
    bpr, trn = heads.get("BPR"), heads.get("TRN")
    payer = next((r.raw(2) for r in rows if r.id == "N1" and r.value(1) == "PR"), "")
    claims = tuple(_claim(part) for part in _loops(rows, "CLP", ("SE", "PLB", "LX")))
    takes = tuple(take for row in rows if row.id == "PLB" for take in _take_backs(row))
    total = _amount(bpr.value(2)) if bpr else Decimal(0)
    problems = [] if is_intact else ["the envelope's counts or control numbers do not fit"]
    if bpr is None:
        problems.append("BPR is missing")
    taken = sum((amount for _, amount in takes), Decimal(0))
    if abs(total - (sum((c.paid for c in claims), Decimal(0)) - taken)) > _CENT:
        problems.append("BPR02 is not the sum of the claims less what is taken back")
    return Remittance(total, trn.value(2) if trn else "", payer, claims, takes, tuple(problems))


def _loops(
    rows: Sequence[Segment], head: str, ends: tuple[str, ...]
) -> Iterator[Sequence[Segment]]:
    """Cut at every `head`; a part ends before the next one or before one of `ends`."""
    part: list[Segment] = []
    for row in rows:
        if row.id == head or row.id in ends:
            if part:
                yield part
            part = []
        if row.id == head or (part and row.id not in ends):
            part.append(row)
    if part:
        yield part


def _claim(rows: Sequence[Segment]) -> ClaimResult:
    clp = rows[0]
    first_line = next((n for n, row in enumerate(rows) if row.id == "SVC"), len(rows))
    head = rows[:first_line]
    lines = tuple(_line(part) for part in _loops(rows[first_line:], "SVC", ()))
    adjustments = tuple(a for row in head if row.id == "CAS" for a in _adjustments(row))
    places = {"MOA": range(3, 8), "MIA": (5, 20, 21, 22, 23)}
    remarks = [
        row.value(place)
        for row in head
        if row.id in places
        for place in places[row.id]
        if row.value(place)
    ]
    result = ClaimResult(
        claim_id=clp.value(1),
        status=clp.value(2),
        charged=_amount(clp.value(3)),
        paid=_amount(clp.value(4)),
        patient_share=_amount(clp.value(5)) if clp.value(5) else None,
        payer_claim_number=clp.value(7),
        lines=lines,
        adjustments=adjustments,
        remarks=tuple(remarks),
    )
    return _balanced(result)


def _balanced(claim: ClaimResult) -> ClaimResult:
    problems = []
    of_lines = sum((a.amount for line in claim.lines for a in line.adjustments), Decimal(0))
    of_claim = sum((each.amount for each in claim.adjustments), Decimal(0))
    if abs(claim.paid - (claim.charged - of_claim - of_lines)) > _CENT:
        problems.append("paid is not charged less the adjustments")
    for line in claim.lines:
        own = sum((each.amount for each in line.adjustments), Decimal(0))
        if abs(line.paid - (line.charged - own)) > _CENT:
            problems.append("a line's paid amount is not charged less its adjustments")
    charged = sum((line.charged for line in claim.lines), Decimal(0))
    if claim.lines and abs(charged - claim.charged) > _CENT:
        problems.append("the lines' charges are not the claim's")
    paid = sum((line.paid for line in claim.lines), Decimal(0)) - of_claim
    if claim.lines and abs(paid - claim.paid) > _CENT:
        problems.append("the lines' payments are not the claim's")
    return replace(claim, problems=tuple(dict.fromkeys(problems)))


def _line(rows: Sequence[Segment]) -> LineResult:
    svc = rows[0]
    return LineResult(
        line_id=next((r.raw(2) for r in rows if r.id == "REF" and r.value(1) == "6R"), ""),
        cdt_code=svc.part(1, 2),
        submitted_code=svc.part(6, 2),
        charged=_amount(svc.value(2)),
        paid=_amount(svc.value(3)),
        allowed=next(
            (_amount(r.value(2)) for r in rows if r.id == "AMT" and r.value(1) == "B6"), None
        ),
        adjustments=tuple(a for row in rows if row.id == "CAS" for a in _adjustments(row)),
        remarks=tuple(r.value(2) for r in rows if r.id == "LQ" and r.value(1) == "HE"),
    )


def _adjustments(row: Segment) -> Iterator[Adjustment]:
    """Read up to six triples of reason, amount and quantity."""
    for place in range(2, 20, 3):
        if row.value(place):
            quantity = row.value(place + 2)
            yield Adjustment(
                row.value(1),
                row.value(place),
                _amount(row.value(place + 1)),
                _amount(quantity) if quantity else None,
            )


def _take_backs(row: Segment) -> Iterator[tuple[str, Decimal]]:
    for place in range(3, 15, 2):
        if row.value(place):
            yield row.value(place), _amount(row.value(place + 1))


def _amount(text: str) -> Decimal:
    """Read an amount; what is none counts as zero and then does not balance."""
    return amount_of(text) or Decimal(0)
