"""X12 answers of the sandbox payer: 271, 999, 277CA and 835, composed from what it was sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from orchestration.payers import eligibility, remittance
from orchestration.payers.segments import (
    Elements,
    Envelope,
    Segment,
    Transaction,
    money,
    plain,
    segment,
    write_interchange,
)

PAYER_NAME = "EXAMPLE DENTAL PLAN"
Decision = Literal["approve", "deny", "downgrade", "more_info", "partial"]
#: What the invented plan pays of each kind of service; the rest is the patient's.
SHARES: dict[str, Decimal] = {
    "23": Decimal("1"),
    "25": Decimal(".8"),
    "24": Decimal(".8"),
    "39": Decimal(".5"),
}
FEE_SCHEDULE = Decimal(".8")
#: What a crown is answered as when the plan pays the cheaper treatment.
CHEAPER: dict[str, str] = {"D2740": "D2790", "D6010": "D5213", "D2392": "D2150"}


@dataclass(frozen=True, slots=True)
class SentLine:
    """One line of a claim as the payer read it."""

    id: str
    cdt_code: str
    fee: Decimal


@dataclass(frozen=True, slots=True)
class SentClaim:
    """A claim as the payer read it; names are kept as they came."""

    id: str
    is_predetermination: bool
    total: Decimal
    member_id: str
    family_name: str
    given_name: str
    payer_id: str
    npi: str
    control_numbers: tuple[str, ...]
    reports: tuple[str, ...]
    narrative: str
    lines: tuple[SentLine, ...]
    other_payer_ids: tuple[str, ...] = ()


def read_claim(sent: Transaction) -> SentClaim:
    """Read an 837D, only as far as the answers need it."""
    rows = sent.segments
    (clm,) = [row for row in rows if row.id == "CLM"]
    said = [row for row in rows if row.id == "NM1"]
    names = {row.value(1): row for row in reversed(said)}  # the first of a kind; others pay next
    others = [row for row in said if row.value(1) == "PR"][1:]
    patient = names.get("QC") or names["IL"]
    lines: list[SentLine] = []
    for row in rows:
        if row.id == "SV3":
            lines.append(SentLine("", row.part(1, 2), Decimal(row.value(2))))
        elif row.id == "REF" and row.value(1) == "6R" and lines:
            lines[-1] = replace(lines[-1], id=row.value(2))
    attachments = [row for row in rows if row.id == "PWK"]
    return SentClaim(
        id=clm.value(1),
        is_predetermination=clm.value(19) == "PB",
        total=Decimal(clm.value(2)),
        member_id=names["IL"].value(9),
        family_name=patient.value(3),
        given_name=patient.value(4),
        payer_id=names["PR"].value(9),
        npi=names["85"].value(9),
        control_numbers=tuple(row.value(6) for row in attachments if row.value(6)),
        reports=tuple(row.value(1) for row in attachments),
        narrative=" ".join(row.raw(2) for row in rows if row.id == "NTE"),
        lines=tuple(lines),
        other_payer_ids=tuple(row.value(9) for row in others),
    )


def compose_999(
    envelope: Envelope, group_control: str, *, accepted: bool, problem: str = ""
) -> str:
    """Acknowledge one group; `problem` names the segment that was refused."""
    rows = [segment("AK1", "HC", group_control, "005010X224A2"), segment("AK2", "837", "0001")]
    if not accepted:
        rows.append(segment("IK3", problem or "CLM", "22", "", "8"))
        rows.append(segment("IK4", "1", "1028", "1"))
    verdict = "A" if accepted else "R"
    rows.append(segment("IK5", verdict, *(() if accepted else ("5",))))
    rows.append(segment("AK9", verdict, "1", "1", "1" if accepted else "0"))
    return write_interchange(envelope, "FA", "005010X231A1", "999", [rows])


def compose_277ca(
    envelope: Envelope, claim: SentClaim, payer_claim_number: str, category: str, code: str
) -> str:
    """Answer one claim at the front end: A2 accepted, A3/A6/A7/A8 rejected."""
    at = envelope.at
    status = f"{category}:{code}"
    action = "WQ" if category in ("A1", "A2") else "U"
    rows = [
        segment("BHT", "0085", "08", f"{envelope.control}", f"{at:%Y%m%d}", f"{at:%H%M}", "TH"),
        segment("HL", "1", "", "20", "1"),
        segment("NM1", "PR", "2", PAYER_NAME, "", "", "", "", "PI", claim.payer_id),
        segment("TRN", "1", f"{envelope.control}"),
        segment("DTP", "050", "D8", f"{at:%Y%m%d}"),
        segment("DTP", "009", "D8", f"{at:%Y%m%d}"),
        segment("HL", "2", "1", "21", "1"),
        segment("NM1", "41", "2", "ANY OFFICE", "", "", "", "", "46", "OFFICE"),
        segment("TRN", "2", f"{envelope.control}"),
        segment("STC", "A1:19", f"{at:%Y%m%d}", "WQ", money(claim.total)),
        segment("HL", "3", "2", "19", "1"),
        segment("NM1", "85", "2", "ANY OFFICE", "", "", "", "", "XX", claim.npi),
        segment("TRN", "1", "0"),
        segment("STC", "A1:19:PR", "", "WQ", money(claim.total)),
        segment("HL", "4", "3", "PT"),
        segment(
            "NM1", "QC", "1", claim.family_name, claim.given_name, "", "", "", "MI", claim.member_id
        ),
        segment("TRN", "2", claim.id),
        segment("STC", status, f"{at:%Y%m%d}", action, money(claim.total)),
    ]
    if payer_claim_number:
        rows.append(segment("REF", "1K", payer_claim_number))
    rows.append(segment("DTP", "472", "D8", f"{at:%Y%m%d}"))
    return write_interchange(envelope, "HN", "005010X214", "277", [rows])


def compose_835(
    envelope: Envelope, claim: SentClaim, payer_claim_number: str, decision: Decision
) -> str:
    """Answer a claim: what is paid or, for a predetermination, would be."""
    at = envelope.at
    lines = [
        _Judged.of(line, decision if number == 0 or decision != "partial" else "deny")
        for number, line in enumerate(claim.lines)
    ]
    is_price = claim.is_predetermination
    paid = Decimal(0) if is_price else sum((each.payable for each in lines), Decimal(0))
    status = remittance.PREDETERMINATION if is_price else ("1" if paid else remittance.DENIED)
    rows: list[Elements] = [
        segment(
            "BPR", "H" if not paid else "I", money(paid), "C", "NON" if not paid else "CHK", "",
            "", "", "", "", "", "", "", "", "", "", f"{at:%Y%m%d}",
        ),
        segment("TRN", "1", f"SBX{envelope.control}", "1512345678"),
        segment("DTM", "405", f"{at:%Y%m%d}"),
        segment("N1", "PR", PAYER_NAME),
        segment("N3", "1 PAYER ST"),
        segment("N4", "SALEM", "OR", "97301"),
        segment("PER", "BL", "EDI", "TE", "8005550100"),
        segment("N1", "PE", "ANY OFFICE", "XX", claim.npi),
        segment("LX", "1"),
        segment(
            "CLP", claim.id, status, money(claim.total), money(paid),
            money(sum((each.patient for each in lines), Decimal(0))), "12", payer_claim_number,
            "11", "1",
        ),
        segment(
            "NM1", "QC", "1", claim.family_name, claim.given_name, "", "", "", "MI", claim.member_id
        ),
        segment("DTM", "232", f"{at:%Y%m%d}"),
    ]  # fmt: skip
    for each in lines:
        rows += each.segments(at, is_price=is_price)
    return write_interchange(envelope, "HP", remittance.VERSION, "835", [rows], set_version=False)


@dataclass(frozen=True, slots=True)
class _Judged:
    line: SentLine
    decision: Decision
    allowed: Decimal
    payable: Decimal
    cdt_code: str

    @classmethod
    def of(cls, line: SentLine, decision: Decision) -> _Judged:
        code = CHEAPER.get(line.cdt_code, line.cdt_code) if decision == "downgrade" else ""
        schedule = FEE_SCHEDULE if decision != "downgrade" else FEE_SCHEDULE / 2
        allowed = round(line.fee * schedule, 2)
        if decision in ("deny", "more_info"):
            return cls(line, decision, Decimal(0), Decimal(0), line.cdt_code)
        share = SHARES["39"] if line.cdt_code[:3] in ("D27", "D60", "D62") else SHARES["25"]
        payable = round(allowed * share, 2)
        return cls(line, decision, allowed, payable, code or line.cdt_code)

    @property
    def patient(self) -> Decimal:
        return self.allowed - self.payable

    def segments(self, at: datetime, *, is_price: bool) -> Iterator[Elements]:
        paid = Decimal(0) if is_price else self.payable
        changed = self.cdt_code != self.line.cdt_code
        submitted = f"AD:{self.line.cdt_code}" if changed else ""
        code = f"AD:{self.cdt_code}"
        yield segment("SVC", code, money(self.line.fee), money(paid), "", "1", submitted)
        yield segment("DTM", "472", f"{at:%Y%m%d}")
        match self.decision:
            case "deny":
                yield segment("CAS", "CO", "50", money(self.line.fee))
            case "more_info":
                yield segment("CAS", "CO", "252", money(self.line.fee))
            case _:
                reason = "169" if self.decision == "downgrade" else "45"
                rest = self.line.fee - self.allowed
                if rest:
                    yield segment("CAS", "CO", reason, money(rest))
                if self.patient:
                    yield segment("CAS", "PR", "2", money(self.patient))
                if is_price and self.payable:
                    yield segment("CAS", "OA", remittance.ANTICIPATED, money(self.payable))
        yield segment("REF", "6R", self.line.id)
        if self.allowed:
            yield segment("AMT", "B6", money(self.allowed))
        if self.decision == "more_info":
            yield segment("LQ", "HE", "N40")


@dataclass(frozen=True, slots=True)
class SentQuestion:
    """A 270 as the payer read it."""

    trace: str
    trace_origin: str
    member_id: str
    family_name: str
    given_name: str
    birth_date: str
    is_dependent: bool
    payer_id: str
    npi: str


def read_question(rows: Sequence[Segment]) -> SentQuestion:
    """Read a 270, only as far as the answer needs it."""
    names = {row.value(1): row for row in rows if row.id == "NM1"}
    births = [row.value(2) for row in rows if row.id == "DMG"]
    (trace,) = [row for row in rows if row.id == "TRN"]
    patient = names.get("03", names["IL"])
    return SentQuestion(
        trace.value(2), trace.value(3), names["IL"].value(9), patient.value(3), patient.value(4),
        births[-1], "03" in names, names["PR"].value(9), names["1P"].value(9),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What the invented plan holds for a member; `coverage` "missing" is a member not found."""

    coverage: Literal["active", "inactive", "missing", "later", "silent"] = "active"
    maximum: Decimal = Decimal(1500)
    used: Decimal = Decimal(350)
    deductible: Decimal = Decimal(50)


def compose_271(envelope: Envelope, asked: SentQuestion, plan: Plan) -> str:
    """Answer an eligibility question."""
    at = envelope.at
    rows = [
        segment("BHT", "0022", "11", asked.trace, f"{at:%Y%m%d}", f"{at:%H%M}"),
        segment("HL", "1", "", "20", "1"),
        segment("NM1", "PR", "2", PAYER_NAME, "", "", "", "", "PI", asked.payer_id),
    ]
    if plan.coverage == "later":
        rows.append(segment("AAA", "Y", "", "42", "R"))
    rows += [
        segment("HL", "2", "1", "21", "1"),
        segment("NM1", "1P", "2", "ANY OFFICE", "", "", "", "", "XX", asked.npi),
        segment("HL", "3", "2", "22", "1" if asked.is_dependent else "0"),
    ]
    trace = segment("TRN", "2", asked.trace, asked.trace_origin)
    role = "03" if asked.is_dependent else "IL"
    if asked.is_dependent:
        rows += [
            segment("NM1", "IL", "1", asked.family_name, "", "", "", "", "MI", asked.member_id),
            segment("HL", "4", "3", "23", "0"),
        ]
    qualifier = () if asked.is_dependent else ("", "", "", "MI", asked.member_id)
    rows += [trace, segment("NM1", role, "1", asked.family_name, asked.given_name, *qualifier)]
    if plan.coverage == "missing":
        rows.append(segment("AAA", "N", "", "75", "C"))
    rows.append(segment("DMG", "D8", asked.birth_date))
    rows += _benefits(at, plan)
    return write_interchange(envelope, "HB", eligibility.VERSION, "271", [rows])


def _benefits(at: datetime, plan: Plan) -> Iterator[Elements]:
    if plan.coverage in ("missing", "later"):
        return
    yield segment("DTP", "346", "D8", f"{at.year}0101")
    if plan.coverage == "inactive":
        yield segment("EB", "6", "IND", "35")
        return
    yield segment("EB", "1", "IND", "35", "", "EXAMPLE PPO")
    if plan.coverage == "silent":
        return
    left = plan.maximum - plan.used
    yield segment("EB", "F", "IND", "35", "", "", "23", money(plan.maximum))
    yield segment("EB", "F", "IND", "35", "", "", "29", money(left))
    yield segment("EB", "C", "IND", "35", "", "", "23", money(plan.deductible))
    yield segment("EB", "C", "IND", "35", "", "", "29", "0")
    for service_type, share in SHARES.items():
        patient = f"{Decimal(1) - share:f}".lstrip("0") or "0"
        yield segment("EB", "A", "IND", service_type, "", "", "", "", patient)
    yield segment("EB", "F", "IND", "39", "", "", "", "", "", "", "", "Y", "Y")
    yield segment("MSG", plain("Crowns once per tooth in 5 years. Missing tooth clause.", 264))
