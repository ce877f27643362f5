"""A first draft of a prescription from chart, history, schedule and signed findings.

Software fills what these say for certain and nothing else; every field it fills has its source. No
implant data is ever taken from an image: not even a maker that looks obvious.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, tzinfo

from node.domain.findings import FindingKind
from node.domain.review import SignedReview
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Tooth
from node.errors import InvalidInput
from orchestration.labs.prescription import (
    FieldSource,
    Laboratory,
    LabRx,
    Office,
    Part,
    Prescriber,
    Restoration,
    Source,
    Unit,
    Wearer,
)
from orchestration.labs.procedures import ChartProcedure, CodeMeaning
from orchestration.labs.statistics import Suggestion
from orchestration.labs.workdays import add_workdays

_RESTORED = {
    FindingKind.CROWN: "a crown",
    FindingKind.RESTORATION: "a restoration",
    FindingKind.IMPLANT: "an implant",
    FindingKind.POST: "a post",
    FindingKind.ROOT_FILLING: "a root filling",
}
_DUE_AT = time(12)


@dataclass(frozen=True, slots=True)
class SeatVisit:
    """The visit at which the work is seated, if one is booked."""

    appointment_key: str
    starts_at: datetime


@dataclass(frozen=True, slots=True)
class DraftFacts:
    """What a draft is made from."""

    case_number: str
    today: date
    zone: tzinfo
    office: Office
    dentist: Prescriber
    lab: Laboratory
    patient: Wearer
    procedures: tuple[ChartProcedure, ...]
    allergies: tuple[str, ...]
    missing_teeth: frozenset[Tooth] | None
    reviews: tuple[SignedReview, ...]
    visit: SeatVisit | None
    turnaround_days: int
    holidays: frozenset[date]
    infection_control: str
    shipping: str
    material: Suggestion | None = None


def compose_draft(facts: DraftFacts, codes: Mapping[str, CodeMeaning]) -> LabRx:
    """Compose a draft; what is unknown stays empty for the clinician.

    Raises
    ------
    InvalidInput
        No procedure of the case is work for a laboratory.
    """
    known = [p for p in facts.procedures if p.cdt_code in codes]
    if not known:
        raise InvalidInput("no procedure of this case is work for a laboratory")
    meaning = codes[known[0].cdt_code]
    units = tuple(_units(known, codes))
    material = _material(known, codes)
    arch = meaning.arch or (units[0].tooth.arch if units else None)
    rx = LabRx(
        case_number=facts.case_number,
        written_on=facts.today,
        restoration=meaning.restoration,
        office=facts.office,
        dentist=facts.dentist,
        lab=facts.lab,
        patient=facts.patient,
        procedure_codes=tuple(dict.fromkeys(p.cdt_code for p in known)),
        units=units,
        arch=arch,
        material=material,
        allergies=facts.allergies,
        due_at=due_moment(
            facts.today,
            facts.zone,
            facts.turnaround_days,
            facts.holidays,
            facts.visit.starts_at if facts.visit else None,
        ),
        seat_at=facts.visit.starts_at if facts.visit else None,
        seat_appointment_key=facts.visit.appointment_key if facts.visit else "",
        shipping=facts.shipping,
        infection_control=facts.infection_control,
        observations=tuple(_observations(units, facts)),
    )
    return replace(rx, sources=tuple(_sources(rx, facts)))


def fields_changed(before: LabRx, after: LabRx) -> tuple[str, ...]:
    """Name the fields that a person changed, sources left aside."""
    names = [name for name in LabRx.__slots__ if name not in ("sources", "signature")]
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def with_clinician(before: LabRx, after: LabRx) -> LabRx:
    """Keep the sources of what stands as drafted, and name the clinician for what was changed."""
    changed = fields_changed(before, after)
    kept = [s for s in before.sources if s.field.partition(".")[0] not in changed]
    own = [FieldSource(name, Source.CLINICIAN) for name in changed]
    return replace(after, sources=(*kept, *own), signature=None)


def _units(
    procedures: Sequence[ChartProcedure], codes: Mapping[str, CodeMeaning]
) -> Iterator[Unit]:
    seen: set[Tooth] = set()
    for procedure in procedures:
        meaning = codes[procedure.cdt_code]
        teeth = [procedure.tooth] if procedure.tooth else []
        if meaning.part is Part.REPLACED and meaning.restoration is Restoration.PARTIAL_DENTURE:
            teeth = [*procedure.tooth_range]
        for tooth in teeth:
            if tooth not in seen:
                seen.add(tooth)
                has_surfaces = meaning.restoration is Restoration.INLAY_ONLAY
                yield Unit(tooth, meaning.part, procedure.surfaces if has_surfaces else "")


def _material(procedures: Sequence[ChartProcedure], codes: Mapping[str, CodeMeaning]) -> str:
    """Take the material that the codes name, if they agree."""
    named = {codes[p.cdt_code].material for p in procedures}
    return named.pop() if len(named) == 1 else ""


def due_moment(
    today: date,
    zone: tzinfo,
    turnaround_days: int,
    holidays: frozenset[date],
    seat_at: datetime | None,
) -> datetime:
    """Two working days before the visit where there is time, else as soon as the laboratory can."""
    due = add_workdays(today, turnaround_days, holidays)
    if seat_at is not None:
        due = max(due, add_workdays(seat_at.astimezone(zone).date(), -2, holidays))
    return datetime.combine(due, _DUE_AT, zone)


def _observations(units: Sequence[Unit], facts: DraftFacts) -> Iterator[str]:
    """Say what the signed findings show beside and opposite the work, in words for the bench."""
    near = {tooth for unit in units for tooth in _around(unit.tooth)} - {u.tooth for u in units}
    said: set[str] = set()
    for review in facts.reviews:
        day = review.signed_at.astimezone(facts.zone).date().isoformat()
        for signed in review.findings:
            tooth, kind = signed.finding.tooth, signed.finding.kind
            if tooth in near and kind in _RESTORED:
                text = f"#{tooth.universal} bears {_RESTORED[kind]} (image finding signed {day})."
                if text not in said:
                    said.add(text)
                    yield text
    if facts.missing_teeth is not None:
        gone = sorted(near & facts.missing_teeth)
        if gone:
            yield "Missing in the chart: " + ", ".join(f"#{t.universal}" for t in gone) + "."


def _around(tooth: Tooth) -> Iterable[Tooth]:
    """The neighbours of a permanent tooth, and the three opposite it."""
    own, other = (UPPER_ARCH, LOWER_ARCH) if tooth.arch is Arch.UPPER else (LOWER_ARCH, UPPER_ARCH)
    if tooth not in own:
        return ()
    place = own.index(tooth)
    beside = [own[n] for n in (place - 1, place + 1) if 0 <= n < len(own)]
    opposite = [other[n] for n in (place - 1, place, place + 1) if 0 <= n < len(other)]
    return (*beside, *opposite)


def _sources(rx: LabRx, facts: DraftFacts) -> Iterator[FieldSource]:
    procedures = ", ".join(f"procedure {p.key}" for p in facts.procedures)
    yield FieldSource("restoration", Source.PROCEDURE, procedures)
    if rx.units:
        yield FieldSource("units", Source.PROCEDURE, procedures)
    if rx.arch is not None:
        yield FieldSource("arch", Source.PROCEDURE, procedures)
    if rx.material:
        yield FieldSource("material", Source.PROCEDURE, procedures)
    elif facts.material is not None:
        words = f"suggested only: {facts.material.name}, {'; '.join(facts.material.reasons)}"
        yield FieldSource("material", Source.SUGGESTION, words)
    if rx.allergies:
        yield FieldSource("allergies", Source.HISTORY)
    if rx.seat_at is not None:
        yield FieldSource("seat_at", Source.APPOINTMENT, f"appointment {rx.seat_appointment_key}")
    yield FieldSource("due_at", Source.APPOINTMENT if rx.seat_at else Source.SETTINGS)
    for name in ("office", "dentist", "lab", "shipping", "infection_control"):
        if getattr(rx, name):
            yield FieldSource(name, Source.SETTINGS)
    if rx.observations:
        yield FieldSource("observations", Source.SIGNED_FINDING)
