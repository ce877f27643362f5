"""One request for pre-authorisation: what is planned, judged by the rules, worded, and as a claim.

Everything is read anew whenever a stage asks: what the chart says now counts. A case keeps only
keys, a clinician's answers and the words that were approved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import patient, pms_record, workflow_case
from node.domain.findings import Disposition
from node.domain.teeth import Tooth
from orchestration.access import Chart
from orchestration.deidentify import birth_date_words
from orchestration.payers import pictures, policy
from orchestration.payers.chart import PLANNED, ChartFacts, Planned, read_chart
from orchestration.payers.claim import (
    Area,
    Attachment,
    Claim,
    Line,
    ToothAt,
    quadrant_of,
)
from orchestration.payers.evidence import Assessment, assess
from orchestration.payers.narrative import Narrative, compose, place_words
from orchestration.payers.office import PayerOffice
from orchestration.payers.pictures import SignedPicture, marks_of, read_pictures
from orchestration.payers.policy import NoPolicy, Policy, read_policy, read_secondary
from orchestration.payers.rules import ASKED, FoundRule, Rule
from orchestration.workflow import Draft, Json, Module, Start
from pms_writeback.commands import carries
from pms_writeback.records import PmsRecord, RecordKind

_K = RecordKind
_CHART_KINDS = (
    _K.PROCEDURE, _K.TOOTH_STATE, _K.PERIO_EXAM, _K.PERIO_MEASURE, _K.DOCUMENT,
)  # fmt: skip
#: What reading a request takes.
READS: frozenset[RecordKind | Module] = (
    policy.READS
    | pictures.READS
    | frozenset(_CHART_KINDS)
    | {_K.CLAIM, _K.CLAIM_LINE, _K.PROCEDURE_NOTE}
)


@dataclass(frozen=True, slots=True)
class Wish:
    """One planned procedure with the payer's rule for it and how its evidence stands."""

    planned: Planned
    found: FoundRule
    assessment: Assessment

    @property
    def rule(self) -> Rule:
        """The rule."""
        return self.found.rule


@dataclass(frozen=True, slots=True)
class Request:
    """All of one patient's procedures that one payer is to be asked about."""

    policy: Policy | NoPolicy
    facts: ChartFacts
    pictures: tuple[SignedPicture, ...] = field(repr=False)
    wishes: tuple[Wish, ...]
    day: date
    secondary: Policy | NoPolicy | None = None

    @property
    def total(self) -> Decimal:
        """Sum of the fees."""
        return sum((wish.planned.fee for wish in self.wishes), Decimal(0))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever approves should know beforehand."""
        found = [w for wish in self.wishes for w in wish.found.warnings]
        found += [text for wish in self.wishes for text in wish.assessment.limits]
        found += [text for wish in self.wishes for text in wish.assessment.flags]
        if isinstance(self.secondary, NoPolicy):
            found.append(f"a second insurance is on file, but {self.secondary.reason}")
        return tuple(dict.fromkeys([*found, *self.facts.problems]))

    @property
    def service_types(self) -> tuple[str, ...]:
        """The kinds of service the payer is asked about."""
        return tuple(dict.fromkeys(wish.rule.service_type for wish in self.wishes))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The pictures to show, ours and the PMS's."""
        return tuple(dict.fromkeys(i for w in self.wishes for i in w.assessment.image_ids))

    def narrative(self, office: PayerOffice, answers: Mapping[str, str]) -> Narrative:
        """Word the request with a clinician's answers so far."""
        pairs = [(wish.rule, wish.planned) for wish in self.wishes]
        return compose(pairs, self.facts, office.book.slots, answers)

    def picture(self, image_id: str) -> SignedPicture | None:
        """Find one of our pictures."""
        return next((p for p in self.pictures if p.fact.id == image_id), None)


def read_request(
    office: PayerOffice, chart: Chart, patient_id: str | None, keys: Sequence[str] | None = None
) -> Request:
    """Read what is planned and asked for by the rules; of `keys` only, or of everything.

    What stands on a pre-authorisation in the PMS already is left out unless it is named.
    """
    known = read_policy(chart, patient_id)
    seen = read_pictures(chart, patient_id)
    records = {kind: chart.records(kind, patient_id) for kind in _CHART_KINDS}
    facts = read_chart(records, [p.fact for p in seen], marks_of(seen, chart.zone))
    payer_id = known.insurance.payer_id if isinstance(known, Policy) else ""
    done = set() if keys is not None else _asked_before(chart, patient_id)
    wishes = []
    for planned in facts.planned:
        found = office.book.find(payer_id, planned.cdt_code, chart.today)
        is_meant = planned.key in keys if keys is not None else planned.key not in done
        if found is not None and found.rule.preauth in ASKED and is_meant:
            judged = assess(found.rule, planned, facts, chart.today)
            wishes.append(Wish(planned, found, judged))
    second = read_secondary(chart, patient_id)
    return Request(known, facts, seen, tuple(wishes), chart.today, second)


def start_of(office: PayerOffice, chart: Chart, patient_id: str) -> Start | None:
    """Start a case for a patient whose plan costs enough, or follows from a signed finding.

    What a case has taken up before starts no other, also when it was refused.
    """
    codes = office.book.asked_codes
    plans = (
        r for r in chart.records(_K.PROCEDURE, patient_id) if r.values.get("status") in PLANNED
    )
    if not any(str(plan.values.get("cdt_code")) in codes for plan in plans):
        return None  # cheap, and true of most
    taken = _in_cases(chart, patient_id)
    request = read_request(office, chart, patient_id)
    request = replace(
        request, wishes=tuple(w for w in request.wishes if w.planned.key not in taken)
    )
    if isinstance(request.policy, NoPolicy) and request.policy.is_uninsured:
        return None
    restored = {
        mark.tooth
        for mark in request.facts.marks
        if mark.signed.disposition is Disposition.RESTORE and mark.tooth is not None
    }
    follows = any(w.planned.tooth in restored for w in request.wishes if w.planned.tooth)
    if not request.wishes or not (
        follows or request.total >= Decimal(str(office.section.preauth_amount))
    ):
        return None
    keys = sorted((w.planned.key for w in request.wishes), key=lambda key: (len(key), key))
    listed: list[Json] = list(keys)
    return Start(f"{patient_id}:{keys[0]}", patient_id, {"procedures": listed})


def planning_patients(chart: Chart, keys: Sequence[str] | None = None) -> list[str]:
    """Find patients with planned procedures: of some procedure records, or of all."""
    chart.demand(_K.PROCEDURE)
    query = (
        sa.select(patient.c.id, pms_record.c.record)
        .join(
            pms_record,
            sa.and_(
                pms_record.c.patient_key == patient.c.pms_key,
                pms_record.c.location_id == patient.c.location_id,
            ),
        )
        .where(
            patient.c.location_id == chart.location_id,
            pms_record.c.kind == _K.PROCEDURE.value,
            pms_record.c.tombstoned_at.is_(None),
        )
    )
    parts = (
        [query]
        if keys is None
        else [
            query.where(pms_record.c.pms_key.in_(list(keys[at : at + 500])))
            for at in range(0, len(keys), 500)
        ]
    )
    with read(chart.db) as conn:
        found = {  # records are sealed: their status is looked at here
            row.id
            for part in parts
            for row in conn.execute(part, execution_options={"yield_per": 500})
            if row.record.get("status") in PLANNED
        }
    return sorted(found)


def waiting_cases(chart: Chart, patients: Sequence[str], stage: str) -> list[str]:
    """Find the keys of this workflow's cases that wait at a stage for something of a patient."""
    query = sa.select(workflow_case.c.key).where(
        workflow_case.c.location_id == chart.location_id,
        workflow_case.c.workflow == chart.workflow.name,
        workflow_case.c.state == "waiting",
        workflow_case.c.stage == stage,
        workflow_case.c.patient_id.in_(list(patients)),
    )
    with read(chart.db) as conn:
        return sorted(conn.execute(query).scalars())


def patients_of_records(chart: Chart, kind: RecordKind, keys: Sequence[str]) -> list[str]:
    """Find whose some records of a kind are; those of the office are nobody's."""
    chart.demand(kind)
    query = (
        sa.select(patient.c.id)
        .join(
            pms_record,
            sa.and_(
                pms_record.c.patient_key == patient.c.pms_key,
                pms_record.c.location_id == patient.c.location_id,
            ),
        )
        .where(patient.c.location_id == chart.location_id, pms_record.c.kind == kind.value)
        .distinct()
    )
    found: set[str] = set()
    with read(chart.db) as conn:
        for at in range(0, len(keys), 500):
            part = query.where(pms_record.c.pms_key.in_(list(keys[at : at + 500])))
            found.update(conn.execute(part).scalars())
    return sorted(found)


# --- the claim ------------------------------------------------------------------------------------


def claim_id_of(case_id: str, attempt: int) -> str:
    """Give CLM01 of one attempt: 20 characters that mean nothing outside."""
    return "BW" + hashlib.sha256(f"{case_id} {attempt}".encode()).hexdigest()[:18].upper()


def submission_id_of(case_id: str, attempt: int) -> str:
    """Give the id under which one attempt stands at the clearinghouse."""
    return f"{case_id}-{attempt}"


def build_claim(
    office: PayerOffice,
    request: Request,
    policy: Policy,
    claim_id: str,
    narrative: str,
    answers: Mapping[str, str],
    attachments: Sequence[Attachment],
) -> Claim:
    """Put the predetermination together; raises ConfigError or InvalidInput for what is missing."""
    provider = next((w.planned.provider_key for w in request.wishes), "")
    return Claim(
        id=claim_id,
        kind="predetermination",
        practice=office.practice(),
        treating=office.dentist(provider),
        insurance=policy.insurance,
        patient=policy.patient,
        lines=tuple(_line(wish, answers) for wish in request.wishes),
        narrative=narrative,
        attachments=tuple(attachments),
        missing_teeth=tuple(sorted(request.facts.missing)[:35]),
        other=request.secondary.insurance if isinstance(request.secondary, Policy) else None,
    )


def _line(wish: Wish, answers: Mapping[str, str]) -> Line:
    planned = wish.planned
    placed = answers.get(f"placement:{planned.key}", "initial")
    is_replacement = wish.rule.has_placement and placed == "replacement"
    prior = planned.replaces_on
    if is_replacement and prior is None:
        text = answers.get(f"prior_date:{planned.key}", "")
        prior = date.fromisoformat(text) if text else None
    return Line(
        id=planned.key,
        cdt_code=planned.cdt_code,
        fee=planned.fee,
        teeth=tuple(_teeth(planned)),
        area=planned.area or (_area_of_few(planned) if planned.teeth else None),
        placement="R" if is_replacement else "I" if wish.rule.has_placement else "",
        prior_placement=prior if is_replacement else None,
    )


def _teeth(planned: Planned) -> Iterator[ToothAt]:
    if planned.tooth is not None:
        yield ToothAt(planned.tooth, planned.surfaces)
    yield from (ToothAt(tooth) for tooth in planned.teeth)


def _area_of_few(planned: Planned) -> Area | None:
    areas = {quadrant_of(tooth) for tooth in planned.teeth}
    return areas.pop() if len(areas) == 1 else None


# --- words for people -----------------------------------------------------------------------------


def line_words(wish: Wish) -> str:
    """Name one line for a person: code, place, fee."""
    parts = (wish.planned.cdt_code, place_words(wish.planned), f"{wish.planned.fee:.2f}")
    return " ".join(part for part in parts if part)


def known_values(request: Request, pms_key: str) -> tuple[str, ...]:
    """Give everything that identifies the patient, to be kept from a language model."""
    if isinstance(request.policy, NoPolicy):
        return (pms_key,)
    found: list[str] = [pms_key, request.policy.insurance.member_id]
    people = [request.policy.patient, request.policy.insurance.subscriber]
    if isinstance(request.secondary, Policy):
        found.append(request.secondary.insurance.member_id)
        people.append(request.secondary.insurance.subscriber)
    for person in people:
        names = (person.family_name, person.given_name)
        found += [*names, " ".join(reversed(names)), ", ".join(names)]
        found += [part for name in names for part in name.replace("-", " ").split()]
        found += birth_date_words(person.birth_date)
        if person.address is not None:
            found += [person.address.street, person.address.postal_code]
    return tuple(dict.fromkeys(found))


def claim_record(claims: Sequence[PmsRecord], ref: str) -> PmsRecord | None:
    """Find the pre-authorisation that a command of ours made, by its token."""
    return next((c for c in claims if carries(str(c.values.get("note") or ""), ref)), None)


def perio_lines(facts: ChartFacts) -> tuple[str, ...]:
    """Write the newest periodontal chart, a tooth a line."""
    exam = facts.latest_exam
    if exam is None:
        return ()
    lines = [f"Charted on {exam.day}; probing depths in mm, MB-B-DB / ML-L-DL; * bleeding"]
    for each in exam.teeth:
        cells = [
            ("-" if depth is None else str(depth)) + ("*" if bled else "")
            for depth, bled in zip(each.depths_mm, each.bleeding, strict=True)
        ]
        name = f"#{each.tooth.universal}"
        lines.append(f"{name}: {'-'.join(cells[:3])} / {'-'.join(cells[3:])}")
    return tuple(lines)


def teeth_of(request: Request) -> frozenset[Tooth]:
    """Give the teeth that are to be treated."""
    found = {w.planned.tooth for w in request.wishes if w.planned.tooth is not None}
    return frozenset(found | {tooth for w in request.wishes for tooth in w.planned.teeth})


def is_of_place(tooth: Tooth | None, request: Request) -> bool:
    """Tell whether a tooth lies where something is to be done."""
    if tooth is None:
        return False
    areas = {w.planned.area for w in request.wishes if w.planned.area is not None}
    return tooth in teeth_of(request) or quadrant_of(tooth) in areas


def eligibility_draft(kept: Json) -> Draft:
    """Give the part of an eligibility answer that an approver reads."""
    if not isinstance(kept, dict):
        return {}
    names = ("coverage", "maximum_left", "deductible_left", "patient_share_percent", "said")
    return {name: kept[name] for name in names}


def _in_cases(chart: Chart, patient_id: str) -> set[str]:
    """Give procedures that a case of this workflow has taken up, however it ended."""
    query = sa.select(workflow_case.c.data).where(
        workflow_case.c.location_id == chart.location_id,
        workflow_case.c.workflow == chart.workflow.name,
        workflow_case.c.patient_id == patient_id,
    )
    with read(chart.db) as conn:
        taken = [data.get("procedures", []) for data in conn.execute(query).scalars()]
    return {str(key) for keys in taken for key in keys}


def _asked_before(chart: Chart, patient_id: str | None) -> set[str]:
    """Give procedures that stand on a pre-authorisation in the PMS."""
    preauths = {
        each.key
        for each in chart.records(_K.CLAIM, patient_id)
        if each.values.get("type") == "PreAuth"
    }
    return {
        str(each.values.get("procedure_key") or "")
        for each in chart.records(_K.CLAIM_LINE, patient_id)
        if str(each.values.get("claim_key") or "") in preauths
    }
