"""The invoice of a case: waited for, matched, and put before a person where anything is unsure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import cast

from node.config import Config
from node.domain.plain_json import encode
from node.domain.rights import Right, Role
from node.errors import Retryable, Unsupported
from orchestration.case import Case, Decision
from orchestration.labs import mirror
from orchestration.labs.desk import LabDesk, round_of, rx_of
from orchestration.labs.invoices import BilledCase, Fit, Match, match, read_invoices
from orchestration.labs.partner import Invoice
from orchestration.labs.states import LabState
from orchestration.workflow import Json, Outcome, Stage, ask, done, wait

_DAY = timedelta(days=1)


def settle(case: Case, desk: LabDesk, config: Config, *, again: Stage, decide: Stage) -> Outcome:
    """Look for the case's invoice once a day until it is there or given up."""
    number = int(str(case.data.get("bill_looks", 0)))
    case.data["bill_looks"] = number + 1
    try:
        invoices = _fetch(case, desk, number)
    except Unsupported:
        return done("seated")
    except Retryable as error:
        case.note(invoices="away", reason=str(error))
        invoices = []
    found = [each for each in (match(i, [_billed(case, desk)]) for i in invoices) if _is_ours(each)]
    if found:
        return _judge(case, found[0], decide)
    if number >= config.labs.invoice_days:
        mirror.task(case, "no-invoice", "No invoice has come for a lab case that was seated.")
        return done("seated")
    return wait(again, until=case.clock() + _DAY)


def keep(case: Case, decision: Decision) -> None:
    """Keep what a person decided about an unsure invoice."""
    if decision.is_approved:
        case.data["invoice"] = decision.draft.get("invoice")
        mirror.log(case, "invoice", f"Laboratory invoice accepted for {_told(case)}.")
    else:
        mirror.task(case, "invoice-refused",
                    f"A laboratory invoice was refused for {_told(case)}. "
                    "Please call the laboratory.")  # fmt: skip


def _judge(case: Case, found: Match, decide: Stage) -> Outcome:
    invoice = found.invoice
    kept: Json = {
        "number": invoice.number,
        "amount": str(invoice.amount),
        "day": invoice.day.isoformat(),
    }
    if found.fit is Fit.MATCHED:
        case.data["invoice"] = kept
        mirror.log(
            case, "invoice", f"Laboratory invoice {invoice.number} matched to {_told(case)}."
        )
        return done("seated")
    return ask(
        "lab_invoice",
        title="A laboratory invoice is unsure",
        draft={"invoice": kept, "case": found.case_number, "reasons": list(found.reasons)},
        right=Right.LAB_CASES_MANAGE,
        then=decide,
        timeout=7 * _DAY,
        escalate_to=Role.OFFICE_MANAGER,
    )


def _fetch(case: Case, desk: LabDesk, number: int) -> Sequence[Invoice]:
    entry = desk.entry(case)
    since = _sent_on(case)

    def ask_for_them() -> Json:
        return cast("Json", [_row(invoice) for invoice in entry.partner.invoices(since)])

    rows = case.outside(entry.outside_name, f"invoices:{number}", ask_for_them)
    return read_invoices(_json(rows))


def _row(invoice: Invoice) -> dict[str, object]:
    return {
        "number": invoice.number,
        "case": invoice.case_number,
        "date": invoice.day.isoformat(),
        "amount": str(invoice.amount),
        "lab_case": invoice.lab_case,
        "patient": invoice.patient_number,
        "teeth": list(invoice.teeth),
        "description": invoice.description,
    }


def _json(rows: Json) -> bytes:
    return json.dumps({"invoices": encode(rows)}).encode()


def _billed(case: Case, desk: LabDesk) -> BilledCase:
    rx = rx_of(case)
    return BilledCase(
        case_number=rx.case_number,
        lab_case=str(case.data.get("lab_case", "")),
        lab_key=str(case.data["lab"]),
        patient_number=rx.patient.number,
        teeth=frozenset(tooth.universal for tooth in rx.teeth),
        sent_on=_sent_on(case),
        expected=desk.entry(case).price(rx.restoration),
        is_remake=rx.remake is not None,
    )


def _is_ours(found: Match) -> bool:
    """An invoice that leads to another case, or to none, is not this case's business."""
    return bool(found.case_number)


def _sent_on(case: Case) -> date:
    moments = cast("Mapping[str, str]", case.data.get("moments", {}))
    text = moments.get(f"{round_of(case)}:{LabState.SENT.value}")
    if not text:
        return case.chart.today
    return datetime.fromisoformat(text).astimezone(case.chart.zone).date()


def _told(case: Case) -> str:
    return f"lab case {rx_of(case).case_number}"
