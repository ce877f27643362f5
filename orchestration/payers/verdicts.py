"""A payer's answer as a case keeps it: one line a procedure, what it amounts to, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from node.errors import InvalidInput
from orchestration.payers.denials import RouteTable, result_of, suggest
from orchestration.payers.eob import EobReading
from orchestration.payers.remittance import REVERSAL, ClaimResult, LineResult, Remittance
from orchestration.workflow import Draft, Json

#: The office's names for the states of a claim (Claim Custom Tracking).
TRACK_SENT = "Pre-authorisation sent"
TRACK_ANSWERED = "Answer received"
TRACK_MORE = "More information asked"
_WORDS = {
    "approved": "approved",
    "partly": "approved in part",
    "downgraded": "answered for a cheaper treatment",
    "denied": "denied",
    "more_information": "more information is asked for",
}


def doubts_of(remittance: Remittance, claim: ClaimResult, lines: Mapping[str, str]) -> list[str]:
    """Say why an 835 may not be applied by itself; `lines` are our procedures and their codes."""
    doubts = [*remittance.problems, *claim.problems]
    if claim.status == REVERSAL or any(line.expected < 0 for line in claim.lines):
        doubts.append("it takes an earlier answer back")
    if {line.line_id for line in claim.lines} != set(lines):
        doubts.append("the lines are not those that were sent")
    return list(dict.fromkeys(doubts))


def with_line_ids(
    reading: EobReading, lines: Mapping[str, str]
) -> tuple[dict[str, LineResult], list[str]]:
    """Match a PDF's lines to our procedures by their codes; what is not certain is a doubt."""
    doubts = list(reading.doubts)
    matched: dict[str, LineResult] = {}
    for line in reading.claim.lines:
        fitting = [k for k, code in lines.items() if code == line.cdt_code and k not in matched]
        if not fitting and len(lines) == len(reading.claim.lines) == 1:
            fitting = list(lines)  # the one line, answered for another code
        if len(fitting) != 1:
            doubts.append("a line of the page is not certainly one of ours")
        else:
            matched[fitting[0]] = line
    if set(matched) != set(lines):
        doubts.append("the lines are not those that were sent")
    return matched, list(dict.fromkeys(doubts))


def answer_draft(
    claim: ClaimResult, matched: Mapping[str, LineResult], lines: Mapping[str, str],
    table: RouteTable,
) -> Draft:  # fmt: skip
    """Keep an answer as JSON; amounts are texts, in the plan's currency."""
    rows: list[Json] = []
    for key, line in matched.items():
        sent = lines.get(key, "")
        rows.append(
            {
                "procedure": key,
                "code": sent,
                "answered_code": line.cdt_code if line.cdt_code != sent else "",
                "expected": f"{max(line.expected, Decimal(0)):.2f}",
                "patient": f"{line.patient_share:.2f}",
                "allowed": None if line.allowed is None else f"{line.allowed:.2f}",
                "codes": [*(a.reason for a in line.adjustments), *line.remarks],
            }
        )
    suggestions = suggest(claim, table)
    return {
        "result": result_of(claim, table).value,
        "expected": f"{claim.expected:.2f}",
        "payer_claim_number": claim.payer_claim_number,
        "lines": rows,
        "suggestions": [each.words for each in suggestions],
        "evidence": list(dict.fromkeys(name for each in suggestions for name in each.evidence)),
        "roles": list(dict.fromkeys(each.who.value for each in suggestions)),
    }


def check_answer_draft(draft: Draft) -> None:
    """Refuse an answer that a person typed wrongly; raises InvalidInput naming the field."""
    if draft.get("result") not in _WORDS:
        raise InvalidInput(f"result: one of {', '.join(_WORDS)}")
    rows = draft.get("lines")
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("lines: at least one")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("procedure"), str):
            raise InvalidInput("lines: each names its procedure")
        cents_of(row.get("expected"))


def cents_of(amount: Json) -> int:
    """Read an amount such as "580.00" in cents; raises InvalidInput."""
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        raise InvalidInput("expected: an amount such as 580.00") from None
    if not value.is_finite() or not 0 <= value <= 100_000 or value != round(value, 2):
        raise InvalidInput("expected: an amount between 0 and 100,000, in cents")
    return int(value * 100)


def result_words(draft: Draft) -> str:
    """Say the result for a chart entry."""
    return _WORDS.get(str(draft.get("result")), "answered")


def line_texts(draft: Draft) -> Sequence[str]:
    """Say each line for a chart entry: code and expected amount."""
    rows = draft.get("lines")
    found = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            other = f" (as {row['answered_code']})" if row.get("answered_code") else ""
            found.append(f"{row.get('code')}{other}: plan {row.get('expected')}")
    return found
