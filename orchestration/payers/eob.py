"""A payer's answer as PDF (explanation of benefits), read tolerantly and doubted readily.

Columns are found by the words of their heads, lines by their procedure codes. Whatever does not
add up, or cannot be told, is a doubt: with one, nothing is applied and a person reads the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from io import BytesIO

import pypdf

from orchestration.payers.remittance import (
    ANTICIPATED,
    DENIED,
    PREDETERMINATION,
    Adjustment,
    ClaimResult,
    LineResult,
)

_MAX_PAGES = 30
_CENT = Decimal("0.005")
_MONEY = re.compile(
    r"(?<![\w.])-?\$?\s?\d{1,3}(?:,\d{3})*\.\d{2}(?![\d.])|(?<![\w.])-?\$?\d+\.\d{2}(?!\d)"
)
_CODE = re.compile(r"\bD\d{4}\b")
_REASON = re.compile(r"\b(?:\d{1,3}|N\d{1,4}|MA\d{1,3})\b")
_LABELS = {
    "claim_id": re.compile(
        r"(?:claim reference|patient account|account (?:no|number)|reference)\s*(?:no\.?|#|:)*\s*"
        r"([A-Za-z0-9-]{1,20})",
        re.IGNORECASE,
    ),
    "payer_number": re.compile(
        r"(?:payer claim number|claim number|claim no\.?|document control)\s*[#:]*\s*"
        r"([A-Za-z0-9-]{4,30})",
        re.IGNORECASE,
    ),
}
_TOTAL = re.compile(r"total[^\n]*?(?:pays|paid|benefit|payment)[^\n]*", re.IGNORECASE)
#: Words of column heads; the first that fits names the column.
_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("submitted", ("submitted", "charged", "billed", "fee", "charge")),
    ("allowed", ("allowed", "eligible", "approved", "maximum allowance")),
    ("patient", ("patient", "you owe", "your share", "copay", "responsibility")),
    ("paid", ("plan pays", "plan paid", "paid", "benefit", "payment", "plan pays")),
)


@dataclass(frozen=True, slots=True)
class EobReading:
    """What a PDF says, and every reason not to trust the reading."""

    claim: ClaimResult
    doubts: tuple[str, ...]

    @property
    def is_sure(self) -> bool:
        """Whether it may be applied without a person."""
        return not self.doubts


def read_eob(content: bytes) -> EobReading:
    """Read an explanation of benefits; never raises for a bad one, but doubts it."""
    text, doubts = _text(content)
    lines = text.splitlines()
    columns = _columns(lines)
    if text and not {"submitted", "paid"} <= set(columns):
        doubts.append("the columns cannot be told")
    found: list[LineResult] = []
    for line in lines:
        if _CODE.search(line) and _MONEY.search(line):
            result, doubt = _line(line, columns)
            found.append(result)
            doubts += doubt
    if text and not found:
        doubts.append("no line with a procedure code and amounts")
    labels = {name: _label(pattern, text) for name, pattern in _LABELS.items()}
    if text and len(labels["claim_id"]) != 1:
        doubts.append("our reference is missing or stands there twice")
    doubts += _check_total(text, found)
    is_price = bool(
        re.search(r"predetermin|pre-?treatment|pre-?author|estimate", text, re.IGNORECASE)
    )
    if re.search(r"reversal|recoup|take-?back|corrected claim", text, re.IGNORECASE):
        doubts.append("it speaks of a correction or a take-back")
    return EobReading(_claim(labels, found, is_price=is_price), tuple(dict.fromkeys(doubts)))


def _text(content: bytes) -> tuple[str, list[str]]:
    """Extract the text; a picture of a page has none."""
    try:
        reader = pypdf.PdfReader(BytesIO(content))
        if reader.is_encrypted:
            return "", ["the PDF is locked"]
        if len(reader.pages) > _MAX_PAGES:
            return "", ["the PDF has too many pages"]
        text = "\n".join(page.extract_text() or "" for page in reader.pages)
    except Exception:  # noqa: BLE001 - an edge: a reader of damaged files raises whatever it meets
        return "", ["the PDF cannot be read"]
    return (text, []) if text.strip() else ("", ["the PDF holds no text: a scan"])


def _columns(lines: Sequence[str]) -> list[str]:
    """Name the money columns in their order, from the line of heads."""
    for line in lines:
        lowered = line.lower()
        if _MONEY.search(line):
            continue
        places = []
        for name, words in _COLUMNS:
            spots = [lowered.find(word) for word in words if word in lowered]
            if spots:
                places.append((min(spots), name))
        if len(places) >= 3:
            return [name for _, name in sorted(places)]
    return []


def _line(line: str, columns: Sequence[str]) -> tuple[LineResult, list[str]]:
    doubts: list[str] = []
    codes = _CODE.findall(line)
    amounts = [_amount(text) for text in _MONEY.findall(line)]
    if len(set(codes)) > 1:
        doubts.append("a line names two procedure codes")
    if len(amounts) != len(columns):
        doubts.append("a line has not one amount a column")
    values = dict(zip(columns, amounts, strict=False))
    submitted, paid = values.get("submitted", Decimal(0)), values.get("paid", Decimal(0))
    allowed, patient = values.get("allowed"), values.get("patient")
    if allowed is not None and patient is not None and abs(allowed - patient - paid) > _CENT:
        doubts.append("a line's parts are not its allowed amount")
    if paid > submitted or any(amount < 0 for amount in amounts):
        doubts.append("a line's amounts cannot be right")
    rest = _MONEY.sub(" ", _CODE.sub(" ", line))
    reasons = [text for text in _REASON.findall(rest) if not text.startswith(("N", "MA"))]
    remarks = tuple(text for text in _REASON.findall(rest) if text.startswith(("N", "MA")))
    result = LineResult(
        line_id="",
        cdt_code=codes[-1] if codes else "",
        submitted_code="",
        charged=submitted,
        paid=paid,
        allowed=allowed,
        adjustments=tuple(_adjustments(submitted, allowed, patient, paid, reasons)),
        remarks=remarks,
    )
    return result, doubts


def _adjustments(
    submitted: Decimal,
    allowed: Decimal | None,
    patient: Decimal | None,
    paid: Decimal,
    reasons: Sequence[str],
) -> list[Adjustment]:
    """Say in the 835's terms why less is paid than charged."""
    found = []
    if patient:
        found.append(Adjustment("PR", "2", patient))
    rest = submitted - paid - (patient or Decimal(0))
    if rest > 0:
        found.append(Adjustment("CO", reasons[0] if reasons else "45", rest))
    found += [Adjustment("CO", reason, Decimal(0)) for reason in reasons[1:]]
    return found


def _check_total(text: str, lines: Sequence[LineResult]) -> list[str]:
    totals = [found for row in _TOTAL.findall(text) for found in _MONEY.findall(row)[-1:]]
    if len(totals) != 1:
        return ["the total is missing or stands there twice"] if text else []
    if abs(_amount(totals[0]) - sum((line.paid for line in lines), Decimal(0))) > _CENT:
        return ["the lines do not sum up to the total"]
    return []


def _claim(
    labels: dict[str, tuple[str, ...]], lines: Sequence[LineResult], *, is_price: bool
) -> ClaimResult:
    paid = sum((line.paid for line in lines), Decimal(0))
    if is_price:  # as an 835 would: nothing paid, the expected amount as an adjustment
        lines = [_priced(line) for line in lines]
    status = PREDETERMINATION if is_price else ("1" if paid else DENIED)
    return ClaimResult(
        claim_id=next(iter(labels["claim_id"]), ""),
        status=status,
        charged=sum((line.charged for line in lines), Decimal(0)),
        paid=Decimal(0) if is_price else paid,
        patient_share=sum((line.patient_share for line in lines), Decimal(0)),
        payer_claim_number=next(iter(labels["payer_number"]), ""),
        lines=tuple(lines),
        adjustments=(),
        remarks=(),
    )


def _priced(line: LineResult) -> LineResult:
    expected = Adjustment("OA", ANTICIPATED, line.paid)
    adjustments = (*line.adjustments, expected) if line.paid else line.adjustments
    return replace(line, paid=Decimal(0), adjustments=adjustments)


def _label(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pattern.findall(text)))


def _amount(text: str) -> Decimal:
    return Decimal(re.sub(r"[$,\s]", "", text))
