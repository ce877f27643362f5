"""What the chart, the schedule and the plan say of one lab case, read for drafting and checking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from node.config import Config
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.labs.directory import Directory, LabEntry
from orchestration.labs.drafting import DraftFacts, SeatVisit
from orchestration.labs.prescription import (
    Laboratory,
    Office,
    Prescriber,
    Restoration,
    Wearer,
)
from orchestration.labs.procedures import DELETED, ChartProcedure, read_procedure
from orchestration.labs.statistics import Suggestion
from orchestration.labs.validation import CaseFacts, Coverage
from orchestration.workflow import Module
from pms_writeback.pms import AppointmentStatus
from pms_writeback.records import PmsRecord, RecordKind

#: What the lab case workflow reads.
READS: frozenset[RecordKind | Module] = frozenset(
    {RecordKind.PROCEDURE, RecordKind.TOOTH_STATE, RecordKind.ALLERGY, RecordKind.LAB_CASE}
    | {RecordKind.TREATMENT_PLAN_PROCEDURE, RecordKind.LABORATORY, RecordKind.LAB_TURNAROUND}
    | {RecordKind.SUBSCRIPTION, RecordKind.BENEFIT, RecordKind.SCHEDULE}
    | {Module.IDENTITY, Module.CONTACT, Module.APPOINTMENTS, Module.REVIEWS}
)
#: Plans pay for the same tooth again after so many years where they say nothing else.
_AGAIN_YEARS = 5
#: A visit that seats the work comes at least this long after its preparation.
_LEAST_TO_SEAT = timedelta(days=2)
_FARTHEST = timedelta(days=180)
_SOON = timedelta(days=45)
#: Words by which offices name turnarounds.
_TURNAROUND_WORDS = {
    Restoration.CROWN: ("crown",),
    Restoration.BRIDGE: ("bridge", "fpd"),
    Restoration.VENEER: ("veneer",),
    Restoration.INLAY_ONLAY: ("inlay", "onlay"),
    Restoration.IMPLANT_CROWN: ("implant",),
    Restoration.FULL_DENTURE: ("denture",),
    Restoration.PARTIAL_DENTURE: ("partial",),
    Restoration.NIGHT_GUARD: ("guard", "splint"),
}


def draft_facts(
    case: Case,
    config: Config,
    directory: Directory,
    entry: LabEntry,
    case_number: str,
    procedure_keys: Iterable[str],
    suggestion: Suggestion | None,
) -> DraftFacts:
    """Gather what a draft is made from."""
    chart, section = case.chart, config.labs
    wanted = set(procedure_keys)
    procedures = tuple(p for p in patient_procedures(chart) if p.key in wanted)
    provider = next((p.provider_key for p in procedures if p.provider_key), "")
    licensed = directory.prescriber_of_provider(provider)
    restoration = directory.codes[procedures[0].cdt_code].restoration if procedures else None
    return DraftFacts(
        case_number=case_number,
        today=chart.today,
        zone=chart.zone,
        office=Office(
            config.node.practice_name, section.practice_address, section.telephone, section.contact
        ),
        dentist=Prescriber(provider)
        if licensed is None
        else Prescriber(provider, licensed.name, licensed.licence_number, licensed.licence_state),
        lab=Laboratory(entry.section.key, entry.section.name),
        patient=Wearer(chart.pms_key(), _name(chart) if section.send_patient_name else ""),
        procedures=procedures,
        allergies=allergies(chart.records(RecordKind.ALLERGY)),
        missing_teeth=missing_teeth(chart.records(RecordKind.TOOTH_STATE)),
        reviews=tuple(chart.reviews()),
        visit=seat_visit(chart, procedures),
        turnaround_days=turnaround(chart, entry, restoration),
        holidays=entry.pack.holidays,
        infection_control=section.infection_control,
        shipping=section.shipping,
        material=suggestion,
    )


def case_facts(
    case: Case, entry: LabEntry, restoration: Restoration, codes: Sequence[str],
    teeth: Sequence[Tooth], own_keys: Iterable[str],
) -> CaseFacts:  # fmt: skip
    """Gather what a prescription is checked against."""
    chart = case.chart
    return CaseFacts(
        today=chart.today,
        zone=chart.zone,
        turnaround_days=turnaround(chart, entry, restoration),
        missing_teeth=missing_teeth(chart.records(RecordKind.TOOTH_STATE)),
        coverage=coverage(chart, codes, teeth, set(own_keys)),
    )


def patient_procedures(chart: Chart, patient_id: str | None = None) -> list[ChartProcedure]:
    """Read a patient's procedures, those that were deleted in the chart left out."""
    found = (read_procedure(r) for r in chart.records(RecordKind.PROCEDURE, patient_id))
    return [procedure for procedure in found if procedure.status != DELETED]


def allergies(records: Iterable[PmsRecord]) -> tuple[str, ...]:
    """Name the active allergies."""
    found = (r.values for r in records if r.values.get("is_active", True))
    return tuple(dict.fromkeys(name for v in found if (name := str(v.get("name") or "").strip())))


def missing_teeth(records: Sequence[PmsRecord]) -> frozenset[Tooth] | None:
    """Read the teeth marked missing; None where the chart marks no tooth at all."""
    if not records:
        return None
    gone = set()
    for record in records:
        if record.values.get("state") == "Missing":
            try:
                gone.add(Tooth.from_universal(str(record.values.get("tooth") or "")))
            except InvalidInput:
                continue
    return frozenset(gone)


def seat_visit(chart: Chart, procedures: Sequence[ChartProcedure]) -> SeatVisit | None:
    """Find the visit at which the work is seated: the patient's next one after the preparation."""
    prepared = {p.appointment_key for p in procedures if p.day and p.day >= chart.today}
    visits = chart.visits(chart.now + _LEAST_TO_SEAT, chart.now + _FARTHEST)
    booked = [
        visit
        for visit in visits
        if visit.status == AppointmentStatus.SCHEDULED.value and visit.pms_key not in prepared
    ]
    return SeatVisit(booked[0].pms_key, booked[0].starts_at) if booked else None


def visit_now(chart: Chart, appointment_key: str) -> SeatVisit | None:
    """Read a visit as it stands now; None when it is no longer booked."""
    visits = chart.visits(chart.now - _FARTHEST, chart.now + 2 * _FARTHEST)
    found = (
        SeatVisit(visit.pms_key, visit.starts_at)
        for visit in visits
        if visit.pms_key == appointment_key
        and visit.status in (AppointmentStatus.SCHEDULED.value, AppointmentStatus.COMPLETE.value)
    )
    return next(found, None)


def is_called_off(chart: Chart, appointment_key: str) -> bool:
    """Tell whether the schedule says that a visit will not be; what we never saw is not said."""
    visit = chart.visit(appointment_key)
    kept = (AppointmentStatus.SCHEDULED.value, AppointmentStatus.COMPLETE.value)
    return visit is not None and visit.status not in kept


def next_visit(chart: Chart, since: datetime) -> SeatVisit | None:
    """Find the patient's first booked visit from a moment on, within six weeks of it."""
    first = max(since, chart.now)
    for visit in chart.visits(first, first + _SOON):
        if visit.status == AppointmentStatus.SCHEDULED.value:
            return SeatVisit(visit.pms_key, visit.starts_at)
    return None


def laboratory_key(chart: Chart, entry: LabEntry) -> str:
    """Find the PMS's key of a laboratory: as configured, else by its name; empty for none."""
    if entry.section.pms_key:
        return entry.section.pms_key
    wanted = entry.section.name.strip().casefold()
    rows = chart.office_records(RecordKind.LABORATORY)
    return next((r.key for r in rows if str(r.values["name"]).strip().casefold() == wanted), "")


def turnaround(chart: Chart, entry: LabEntry, restoration: Restoration | None) -> int:
    """Give the laboratory's working days: the PMS's own figure, else the pack's, else ten."""
    lab = laboratory_key(chart, entry)
    words = _TURNAROUND_WORDS.get(restoration, ()) if restoration else ()
    for record in chart.office_records(RecordKind.LAB_TURNAROUND) if lab else ():
        name = str(record.values.get("name") or "").casefold()
        if record.values.get("laboratory_key") == lab and any(word in name for word in words):
            return int(str(record.values.get("days_actual") or 0)) or 10
    return entry.pack.turnaround_days.get(restoration, 10) if restoration else 10


def coverage(
    chart: Chart, codes: Sequence[str], teeth: Sequence[Tooth], own_keys: set[str]
) -> Coverage:
    """Say what the plan pays for such work, and from when it pays for these teeth again."""
    plans = {
        str(r.values.get("plan_key"))
        for r in chart.records(RecordKind.SUBSCRIPTION)
        if r.values.get("plan_key")
    }
    percent: float | None = None
    for record in chart.office_records(RecordKind.BENEFIT) if plans and codes else ():
        values = record.values
        if str(values.get("plan_key")) in plans and values.get("cdt_code") in codes:
            share = values.get("percent")
            if (
                values.get("type") == "CoInsurance"
                and isinstance(share, int | float)
                and share >= 0
            ):
                percent = float(share) if percent is None else max(percent, float(share))
            elif values.get("type") == "Exclusions":
                percent = 0.0
    return Coverage(percent, _again_from(chart, codes, teeth, own_keys) if plans else None)


def _again_from(
    chart: Chart, codes: Sequence[str], teeth: Sequence[Tooth], own_keys: set[str]
) -> date | None:
    before = [
        p.day
        for p in patient_procedures(chart)
        if p.key not in own_keys
        and p.day is not None
        and p.status in ("C", "EO", "EC")
        and p.tooth in teeth
        and p.cdt_code[:3] in {code[:3] for code in codes}
    ]
    if not before:
        return None
    last = max(before)
    return last.replace(year=last.year + _AGAIN_YEARS, day=min(last.day, 28))


def _name(chart: Chart) -> str:
    person = chart.person()
    return f"{person.family_name}, {person.given_name}".strip(", ")


def begins_at(procedures: Sequence[ChartProcedure], now: datetime) -> datetime:
    """Give the moment from which a patient's files belong to this work: the day before it began."""
    days = [p.day for p in procedures if p.day is not None and p.day <= now.date()]
    first = max(days, default=now.date())
    return datetime(first.year, first.month, first.day, tzinfo=now.tzinfo) - timedelta(days=1)
