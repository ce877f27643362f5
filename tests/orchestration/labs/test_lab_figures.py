"""Invoices find their case or a person; figures carry the numbers of cases behind them."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from node.errors import InvalidInput
from orchestration.labs.invoices import BilledCase, Fit, match, read_invoices
from orchestration.labs.partner import Invoice
from orchestration.labs.prescription import Restoration
from orchestration.labs.statistics import (
    ClosedCase,
    by_lab,
    suggest_lab,
    suggest_material,
)

CASE = BilledCase(
    "BW-1001", "L-77", "sandbox", "41", frozenset({"19"}), date(2026, 11, 2), Decimal("180.00")
)
OTHER = replace(CASE, case_number="BW-1002", lab_case="L-78", teeth=frozenset({"3"}))
CASES = (CASE, OTHER)
INVOICE = Invoice("INV-1", "BW-1001", date(2026, 11, 16), Decimal("180.00"), "L-77", "41", ("19",))


def test_an_invoice_that_fits_is_matched() -> None:
    found = match(INVOICE, CASES)
    assert (found.fit, found.case_number, found.reasons) == (Fit.MATCHED, "BW-1001", ())


def test_the_laboratorys_number_is_enough() -> None:
    assert match(replace(INVOICE, case_number=""), CASES).fit is Fit.MATCHED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"case_number": "BW-9999"}, "no case of this number"),
        ({"lab_case": "L-78"}, "different cases"),
        ({"case_number": "", "lab_case": ""}, "patient and tooth only"),
        ({"case_number": "", "lab_case": "", "patient_number": ""}, "names no case"),
        ({"teeth": ("30",)}, "teeth"),
        ({"amount": Decimal("190.00")}, "10.00 over"),
        ({"amount": Decimal("-5.00")}, "credit note"),
        ({"day": date(2026, 10, 1)}, "before the case was sent"),
    ],
)
def test_what_does_not_fit_goes_to_a_person(change: dict[str, object], reason: str) -> None:
    found = match(replace(INVOICE, **change), CASES)  # type: ignore[arg-type]
    assert found.fit is Fit.UNSURE
    assert reason in " ".join(found.reasons)


def test_small_differences_of_price_pass() -> None:
    assert match(replace(INVOICE, amount=Decimal("183.60")), CASES).fit is Fit.MATCHED


def test_the_same_invoice_again_and_a_second_one() -> None:
    billed = (replace(CASE, invoice="INV-1"), OTHER)
    assert match(INVOICE, billed).fit is Fit.DUPLICATE
    assert match(replace(INVOICE, number="INV-2"), billed).fit is Fit.UNSURE


def test_a_remake_is_not_charged() -> None:
    assert "remake is charged" in match(INVOICE, (replace(CASE, is_remake=True),)).reasons[0]


@pytest.mark.parametrize(
    "content",
    [
        b'{"invoices": [{"number": "INV-1", "case": "BW-1001", "date": "2026-11-16", '
        b'"amount": 180, "lab_case": "L-77", "patient": "41", "teeth": ["19"]}]}',
        b"Invoice No,Case No,Date,Total,Lab No,Patient,Tooth\n"
        b"INV-1,BW-1001,11/16/2026,$180.00,L-77,41,#19\n",
        "\ufeffinvoice;reference;date;amount;lab case;patient;teeth\n"
        "INV-1;BW-1001;16.11.2026;180,00;L-77;41;19\n".encode(),
    ],
)
def test_invoices_come_in_several_forms(content: bytes) -> None:
    assert read_invoices(content) == [INVOICE]


@pytest.mark.parametrize(
    "content", [b"{", b'{"a": 1}', b"[1]", b"number,date,amount\n,2026-01-01,5\n",
                b"number,date,amount\nI,2026-01-01,much\n", b"number,date,amount\nI,soon,5\n"],
)  # fmt: skip
def test_what_is_no_invoice_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_invoices(content)


def test_an_empty_file_holds_no_invoices() -> None:
    assert read_invoices(b"") == []


def closed(lab: str, count: int, remakes: int, days: int, cost: str) -> list[ClosedCase]:
    sent = date(2026, 6, 1)
    return [
        ClosedCase(
            lab, Restoration.CROWN, "zirconia_monolithic" if lab == "A" else "pfm_noble", sent,
            sent + timedelta(days=days), sent + timedelta(days=14), number < remakes,
            "fit" if number < remakes else "", Decimal(cost),
        )
        for number in range(count)
    ]  # fmt: skip


def test_figures_by_laboratory() -> None:
    first, second = by_lab([*closed("A", 8, 2, 9, "100"), *closed("B", 4, 0, 16, "120")])
    assert (first.name, first.cases, first.remakes, first.remake_rate) == ("A", 8, 2, 0.25)
    assert first.turnaround_days == 7.0
    assert first.on_time_rate == 1.0
    assert second.on_time_rate == 0.0
    assert second.cost == Decimal("120")


def test_the_laboratory_with_fewer_remakes_is_suggested_with_its_numbers() -> None:
    cases = [*closed("A", 20, 4, 9, "100"), *closed("B", 20, 0, 14, "120")]
    found = suggest_lab(cases, Restoration.CROWN)
    assert found is not None
    assert (found.name, found.cases) == ("B", 20)
    assert "0 of 20" in found.reasons[0]
    assert "4 of 20 at A" in found.reasons[0]
    materials = suggest_material(cases, Restoration.CROWN, ("zirconia_monolithic", "pfm_noble"))
    assert materials is not None
    assert materials.name == "pfm_noble"


def test_too_few_cases_suggest_nothing() -> None:
    assert suggest_lab([*closed("A", 20, 0, 9, "1"), *closed("B", 4, 0, 9, "1")],
                       Restoration.CROWN) is None  # fmt: skip
    assert suggest_lab(closed("A", 20, 0, 9, "1"), Restoration.BRIDGE) is None


def test_a_case_still_out_has_no_turnaround() -> None:
    (only,) = by_lab([replace(closed("A", 1, 0, 9, "1")[0], received_on=None, cost=None)])
    assert (only.turnaround_days, only.cost, only.on_time_rate) == (None, None, None)
