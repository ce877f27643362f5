"""Invoices of laboratories: read tolerantly, matched to cases; what is unsure goes to a person.

JSON is ``{"invoices": [{"number", "case", "date", "amount", …}]}``, CSV has a head row with these
names or the usual other ones. Amounts are in the office's currency.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from node.errors import InvalidInput
from orchestration.labs.partner import Invoice

_NAMES = {
    "number": ("number", "invoice", "invoice_number", "invoice_no", "inv"),
    "case": ("case", "case_number", "case_no", "your_reference", "reference", "ref"),
    "lab_case": ("lab_case", "lab_case_number", "our_reference", "lab_no"),
    "date": ("date", "invoice_date", "day"),
    "amount": ("amount", "total", "line_total", "price", "net"),
    "patient": ("patient", "patient_number", "patient_no", "chart"),
    "teeth": ("teeth", "tooth", "tooth_numbers"),
    "description": ("description", "text", "item"),
}
_DATES = ("%Y-%m-%d", "%m/%d/%Y", "%m/%d/%y", "%d.%m.%Y", "%Y%m%d")
#: An invoice more than this over the agreed price is looked at, as a share and as an amount.
_TOLERANCE, _SMALL = Decimal("0.02"), Decimal("1.00")
_MOST_LINES = 20_000


class Fit(StrEnum):
    """How an invoice meets a case."""

    MATCHED = "matched"
    UNSURE = "unsure"  # a person decides
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class BilledCase:
    """What is known of a case when its invoice comes; ``expected`` None when no price is agreed."""

    case_number: str
    lab_case: str
    lab_key: str
    patient_number: str
    teeth: frozenset[str]  # Universal numbers
    sent_on: date
    expected: Decimal | None = None
    invoice: str = ""  # number of an invoice matched before
    is_remake: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """An invoice, the case it belongs to if that is known, and why a person must look."""

    invoice: Invoice
    fit: Fit
    case_number: str = ""
    reasons: tuple[str, ...] = ()


def read_invoices(content: bytes) -> list[Invoice]:
    """Read a JSON or CSV file of invoices.

    Raises
    ------
    InvalidInput
        It is neither, or a line lacks number, date or amount; the message says which line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    rows = _json_rows(text) if text.lstrip()[:1] in ("{", "[") else _csv_rows(text)
    if len(rows) > _MOST_LINES:
        raise InvalidInput("the invoice file has too many lines")
    return [_invoice(number, row) for number, row in enumerate(rows, start=1)]


def match(invoice: Invoice, cases: Sequence[BilledCase]) -> Match:
    """Find the case of an invoice: by our number, else by the laboratory's, else by the patient.

    Only a case found by number whose amount and tooth fit is matched; everything else is unsure.
    """
    found, how = _find(invoice, cases)
    if found is None:
        return Match(invoice, Fit.UNSURE, "", (how,))
    if found.invoice == invoice.number and invoice.number:
        return Match(invoice, Fit.DUPLICATE, found.case_number, ("this invoice came before",))
    reasons = [how] if how else []
    if found.invoice:
        reasons.append(f"the case has the invoice {found.invoice} already")
    if invoice.teeth and found.teeth and not set(invoice.teeth) <= found.teeth:
        reasons.append("the teeth are not those of the case")
    if invoice.day < found.sent_on:
        reasons.append("it is dated before the case was sent")
    reasons += _price(invoice, found)
    fit = Fit.UNSURE if reasons else Fit.MATCHED
    return Match(invoice, fit, found.case_number, tuple(reasons))


def _find(invoice: Invoice, cases: Sequence[BilledCase]) -> tuple[BilledCase | None, str]:
    named = [each for each in cases if invoice.case_number == each.case_number]
    if invoice.case_number and named:
        other = [e for e in cases if invoice.lab_case and e.lab_case == invoice.lab_case]
        if other and other[0] is not named[0]:
            return None, "our number and the laboratory's number name different cases"
        return named[0], ""
    if invoice.case_number:
        return None, "there is no case of this number"
    by_lab = [e for e in cases if invoice.lab_case and e.lab_case == invoice.lab_case]
    if len(by_lab) == 1:
        return by_lab[0], ""
    guesses = [
        each
        for each in cases
        if invoice.patient_number
        and each.patient_number == invoice.patient_number
        and set(invoice.teeth) & each.teeth
    ]
    if len(guesses) == 1:
        return guesses[0], "found by patient and tooth only"
    return None, "it names no case"


def _price(invoice: Invoice, found: BilledCase) -> list[str]:
    if invoice.amount < 0:
        return ["it is a credit note"]
    if found.is_remake and invoice.amount > 0:
        return ["a remake is charged"]
    if found.expected is None:
        return []
    allowed = found.expected + max(found.expected * _TOLERANCE, _SMALL)
    return [f"{invoice.amount - found.expected} over the agreed price"] if (
        invoice.amount > allowed
    ) else []  # fmt: skip


def _json_rows(text: str) -> list[Mapping[str, object]]:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the invoice file is not JSON") from None
    rows = value.get("invoices") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput("the invoice file holds no list of invoices")
    return rows


def _csv_rows(text: str) -> list[Mapping[str, object]]:
    head = text.splitlines()[0] if text.strip() else ""
    mark = ";" if head.count(";") > head.count(",") else "\t" if "\t" in head else ","
    try:
        return [dict(row) for row in csv.DictReader(io.StringIO(text), delimiter=mark)]
    except csv.Error:
        raise InvalidInput("the invoice file is no CSV file") from None


def _invoice(line: int, row: Mapping[str, object]) -> Invoice:
    plain = {re.sub(r"[^a-z]+", "_", str(k or "").lower()).strip("_"): v for k, v in row.items()}

    def text(name: str) -> str:
        found = (plain[each] for each in _NAMES[name] if plain.get(each) not in (None, ""))
        value = next(found, "")
        return ",".join(map(str, value)) if isinstance(value, list) else str(value).strip()

    number, amount, day = text("number"), _amount(text("amount")), _day(text("date"))
    if not number or amount is None or day is None:
        raise InvalidInput(f"line {line} of the invoice file lacks number, date or amount")
    return Invoice(
        number=number[:64],
        case_number=text("case")[:64],
        day=day,
        amount=amount,
        lab_case=text("lab_case")[:64],
        patient_number=text("patient")[:64],
        teeth=tuple(re.findall(r"\d+|[A-T]", text("teeth"))),
        description=text("description")[:200],
    )


def _amount(text: str) -> Decimal | None:
    """Read ``1,234.50``, ``$1234.5`` or ``1.234,50``; None when it is no amount."""
    plain = re.sub(r"[^\d.,-]", "", text)
    if re.search(r",\d{1,2}$", plain):
        plain = plain.replace(".", "").replace(",", ".")
    try:
        amount = Decimal(plain.replace(",", ""))
    except InvalidOperation:
        return None
    return amount.quantize(Decimal("0.01")) if abs(amount) < 10_000_000 else None


def _day(text: str) -> date | None:
    for form in _DATES:
        try:
            return datetime.strptime(text[:10], form).date()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
    return None
