"""A payer's PDF is read when it is plain and doubted when it is not."""

from decimal import Decimal
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from orchestration.payers.denials import Result, load_routes, result_of
from orchestration.payers.eob import read_eob
from orchestration.payers.sandbox.answers import Decision, compose_835
from orchestration.payers.sandbox.desk import compose_eob
from tests.orchestration.payers.examples import ENVELOPE
from tests.orchestration.payers.test_payer_answers import sent


def page(*lines: str) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(buffer)
    for number, text in enumerate(lines):
        canvas.drawString(50, 780 - 16 * number, text)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


GOOD = (
    "Example Mutual   Pre-treatment estimate",
    "Reference: BW1   Claim Number: ICN-77",
    "Code   Charged   Allowed   You owe   Benefit",
    "D2740  $1,450.00  1160.00  580.00  580.00",
    "D2392  250.50  200.40  40.08  160.32",
    "Total benefit payment 740.32",
)


@pytest.mark.parametrize("decision", ["approve", "deny", "downgrade", "more_info", "partial"])
def test_the_sandbox_payers_page_says_what_its_835_would(decision: Decision) -> None:
    claim = sent()
    x12 = compose_835(ENVELOPE, claim, "ICN1", decision)
    read = read_eob(compose_eob(claim, x12))
    assert read.doubts == ()
    assert read.claim.claim_id == "BW1"
    assert read.claim.payer_claim_number == "ICN1"
    assert read.claim.is_predetermination
    results = {"approve": Result.APPROVED, "deny": Result.DENIED, "partial": Result.PARTLY,
               "downgrade": Result.DOWNGRADED, "more_info": Result.MORE_INFORMATION}  # fmt: skip
    assert result_of(read.claim, load_routes()) is results[decision]


def test_other_words_and_another_order_are_understood() -> None:
    read = read_eob(page(*GOOD))
    assert read.doubts == ()
    assert read.claim.expected == Decimal("740.32")
    assert [line.charged for line in read.claim.lines] == [Decimal(1450), Decimal("250.50")]
    swapped = (
        GOOD[0],
        GOOD[1],
        "Plan pays   Fee   Patient   Eligible   Code",
        "580.00 1450.00 580.00 1160.00 D2740",
        "Total plan pays 580.00",
    )
    read = read_eob(page(*swapped))
    assert read.doubts == ()
    assert read.claim.lines[0].patient_share == 580


@pytest.mark.parametrize(
    ("lines", "doubt"),
    [
        ((*GOOD[:3], "D2740 1450.00 1160.00 580.00 680.00", "Total benefit 680.00"), "allowed"),
        ((*GOOD[:-1], "Total benefit 999.00"), "sum up"),
        (GOOD[:-1], "total"),
        ((GOOD[0], "Reference: BW1 Reference: BW2", *GOOD[2:]), "reference"),
        ((GOOD[0], *GOOD[2:]), "reference"),
        ((*GOOD[:2], "Code A B C D", *GOOD[3:]), "columns"),
        ((*GOOD[:3], "D2740 1450.00 1160.00 580.00", "Total benefit 580.00"), "one amount"),
        ((*GOOD, "This is a reversal of an earlier payment"), "take-back"),
        (("Dear office, we received your request.",), "procedure code"),
    ],
)
def test_what_cannot_be_told_is_a_doubt(lines: tuple[str, ...], doubt: str) -> None:
    assert any(doubt in each for each in read_eob(page(*lines)).doubts)


def test_a_scan_a_lock_and_rubbish_are_doubted() -> None:
    claim = sent()
    x12 = compose_835(ENVELOPE, claim, "ICN1", "approve")
    assert "a scan" in read_eob(compose_eob(claim, x12, is_readable=False)).doubts[0]
    for content in (b"", b"%PDF-1.4 nonsense", b"hello"):
        assert not read_eob(content).is_sure


@pytest.mark.parametrize("other", [b"/SCII85Decode", b"/FlateDecodf", b"/Crypt"])
def test_a_page_packed_in_an_unknown_way_is_doubted(other: bytes) -> None:
    packed = page(*GOOD).replace(b"/ASCII85Decode", other).replace(b"/FlateDecode", other)
    assert read_eob(packed).doubts == ("the PDF cannot be read",)


@given(st.data())
def test_a_damaged_page_is_doubted_or_read_never_a_bug(data: st.DataObject) -> None:
    whole = page(*GOOD)
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    read = read_eob(broken)
    assert not read.is_sure or read.claim.expected == Decimal("740.32")
