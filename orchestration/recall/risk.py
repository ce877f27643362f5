"""A recall interval that fits the patient's risk, proposed with its reasons to a clinician.

Only signed findings, completed procedures and charted pockets count. Bounds: adults 3 to 24 months
and under 18 3 to 12 (NICE CG19, 1.1.4-1.1.9); perio maintenance 2 to 4 months in treated moderate
or advanced disease (systematic reviews of supportive periodontal therapy). Nothing is ever set
here: a proposal is a draft for the hygienist or dentist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from node.domain.findings import CariesDepth, FindingKind
from node.domain.review import SignedReview
from orchestration.messengers.consent import age_on
from orchestration.recall.due import Interval, Track
from pms_writeback.records import PmsRecord

#: How far back findings and therapy count, and how old a perio chart may be.
_FINDINGS_DAYS = 730
_EXAM_DAYS = 550
#: Pockets: from 4 mm a site is inflamed, from 5 mm it counts, from 6 mm it is deep.
_SITES = (
    "mesiobuccal", "buccal", "distobuccal", "mesiolingual", "lingual", "distolingual"
)  # fmt: skip
_DENTINE = {CariesDepth.D1, CariesDepth.D2, CariesDepth.D3, CariesDepth.P}
_THERAPY = frozenset({"D4341", "D4342", "D4346", "D4260", "D4261"})
_STEPS = (2, 3, 4, 6, 9, 12, 18, 24)


class Risk(StrEnum):
    """How soon trouble is to be expected; UNKNOWN when there is too little to say."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Pockets:
    """One perio exam: sites of at least 4, 5 and 6 mm, of how many measured."""

    day: date
    sites: int
    over_4: int
    over_5: int
    over_6: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the proposal rests on; counts of the last two years, exams newest first."""

    age: int | None
    enamel_lesions: int
    dentine_lesions: int
    periapical: int
    bone_sites: int
    has_signed_images: bool
    exams: tuple[Pockets, ...]
    has_perio_therapy: bool


@dataclass(frozen=True, slots=True)
class Assessment:
    """A risk and the interval that fits it, months; None when the present one may stay."""

    risk: Risk
    months: int | None
    reasons: tuple[str, ...]


def gather(
    reviews: Iterable[SignedReview],
    exams: Iterable[PmsRecord],
    measures: Iterable[PmsRecord],
    done: Sequence[tuple[str, date]],
    birth_date: date | None,
    today: date,
) -> Evidence:
    """Count what is on record of one patient; findings of the last two years only."""
    since = today - timedelta(days=_FINDINGS_DAYS)
    recent = [each for each in reviews if each.signed_at.date() >= since]
    enamel: set[tuple[object, ...]] = set()
    dentine: set[tuple[object, ...]] = set()
    periapical: set[object] = set()
    bone: set[tuple[object, ...]] = set()
    for review in recent:
        for signed in review.findings:
            finding = signed.finding
            place = (finding.tooth, finding.surfaces)
            if finding.kind.is_caries:
                (dentine if finding.depth in _DENTINE else enamel).add(place)
            elif finding.kind is FindingKind.PERIAPICAL_RADIOLUCENCY:
                periapical.add(finding.tooth)
            elif finding.kind in (FindingKind.ANGULAR_DEFECT, FindingKind.FURCATION) or (
                finding.kind is FindingKind.BONE_LEVEL and (finding.value_mm or 0) >= 3.0
            ):
                bone.add((*place, finding.kind))
    return Evidence(
        age=None if birth_date is None else age_on(birth_date, today),
        enamel_lesions=len(enamel - dentine),
        dentine_lesions=len(dentine),
        periapical=len(periapical),
        bone_sites=len(bone),
        has_signed_images=bool(recent),
        exams=_pockets(exams, measures, today),
        has_perio_therapy=any(code in _THERAPY | {"D4910"} for code, _ in done),
    )


def assess(evidence: Evidence, track: Track, current: Interval | None) -> Assessment:
    """Judge the risk and find the interval that fits it.

    Lengthening goes one step at a time; shortening goes to what the risk asks for. A change of
    less than a month is none.
    """
    risk, wanted, reasons = _perio(evidence) if track is Track.PERIO else _prophy(evidence)
    if wanted is None or current is None:
        return Assessment(risk, None, reasons)
    low, high = bounds(evidence.age, track)
    months = max(low, min(high, wanted))
    now = current.months + current.days / 30.0
    if months > now:
        months = next((step for step in _STEPS if step > now + 0.5), months)
        months = max(low, min(months, high, wanted))
    if abs(months - now) < 1.0:
        return Assessment(risk, None, reasons)
    return Assessment(risk, months, reasons)


def bounds(age: int | None, track: Track) -> tuple[int, int]:
    """Give the shortest and longest interval in months; an unknown age counts as under 18."""
    if track is Track.PERIO:
        return 2, 4
    return (3, 12) if age is None or age < 18 else (3, 24)


def _perio(evidence: Evidence) -> tuple[Risk, int | None, tuple[str, ...]]:
    if not evidence.exams:
        return Risk.HIGH, None, ("perio maintenance; no current perio chart to judge by",)
    latest = evidence.exams[0]
    said = (
        f"perio chart of {latest.day}: {latest.over_5} sites of 5 mm or more, {latest.over_6} of 6"
    )
    earlier = evidence.exams[1] if len(evidence.exams) > 1 else None
    if earlier is not None and latest.over_5 > earlier.over_5 and latest.over_6 > 0:
        return Risk.HIGH, 2, (said, f"worse than on {earlier.day} ({earlier.over_5} sites)")
    if latest.over_5 > 0 or evidence.bone_sites > 0:
        return Risk.HIGH, 3, (said,)
    if earlier is not None and earlier.over_5 == 0:
        return Risk.MODERATE, 4, (said, f"stable since {earlier.day}")
    return Risk.HIGH, 3, (said,)


def _prophy(evidence: Evidence) -> tuple[Risk, int | None, tuple[str, ...]]:
    reasons = _signs(evidence)
    pockets = evidence.exams[0] if evidence.exams else None
    deep = pockets is not None and pockets.over_5 >= 3
    if evidence.dentine_lesions >= 2 or deep or evidence.enamel_lesions >= 4:
        return Risk.HIGH, 3 if evidence.dentine_lesions >= 3 else 4, reasons
    if evidence.dentine_lesions or evidence.enamel_lesions >= 1 or evidence.bone_sites:
        return Risk.MODERATE, 6, reasons
    if pockets is not None and pockets.over_5:
        return Risk.MODERATE, 6, reasons
    if not evidence.has_signed_images or pockets is None:
        lacking = "signed images" if not evidence.has_signed_images else "perio chart"
        return Risk.UNKNOWN, None, (*reasons, f"no {lacking} recent enough to judge by")
    if evidence.periapical:
        return Risk.MODERATE, None, reasons
    if evidence.has_perio_therapy:
        return Risk.MODERATE, 6, (*reasons, "treated for periodontal disease before")
    return Risk.LOW, 24, (*reasons, "no caries signed in two years and no pocket of 5 mm or more")


def _signs(evidence: Evidence) -> tuple[str, ...]:
    counts = (
        (evidence.dentine_lesions, "caries into dentine signed in two years"),
        (evidence.enamel_lesions, "caries in enamel signed in two years"),
        (evidence.periapical, "periapical findings signed in two years"),
        (evidence.bone_sites, "sites of bone loss signed in two years"),
    )
    said = [f"{count} {words}" for count, words in counts if count]
    if evidence.exams:
        latest = evidence.exams[0]
        said.append(f"perio chart of {latest.day}: {latest.over_5} sites of 5 mm or more")
    return tuple(said)


def _pockets(
    exams: Iterable[PmsRecord], measures: Iterable[PmsRecord], today: date
) -> tuple[Pockets, ...]:
    """Count the probing depths of each exam that is recent enough, newest first."""
    days = {
        each.key: date.fromisoformat(str(each.values["day"]))
        for each in exams
        if each.values.get("day")
    }
    depths: dict[str, list[float]] = {}
    for measure in measures:
        exam = str(measure.values.get("exam_key") or "")
        if exam not in days or measure.values.get("sequence") != "Probing":
            continue
        for site in _SITES:
            depth = measure.values.get(site)
            # below 0 the PMS means "not measured"; above 19 it encodes hyperplasia
            if isinstance(depth, int | float) and 0 <= depth <= 19:
                depths.setdefault(exam, []).append(float(depth))
    found = [
        Pockets(
            days[exam],
            len(values),
            sum(value >= 4 for value in values),
            sum(value >= 5 for value in values),
            sum(value >= 6 for value in values),
        )
        for exam, values in depths.items()
        if today - timedelta(days=_EXAM_DAYS) <= days[exam] <= today
    ]
    return tuple(sorted(found, key=lambda each: each.day, reverse=True))
