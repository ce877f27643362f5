"""What of a payer's evidence the records hold, and what is missing or too old.

Pure: a rule and a chart in, a judgement out. Missing evidence becomes a task for the office;
nothing is made up for it. Poor-prognosis signs that make payers refuse are said beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from node.domain.findings import CariesDepth, FindingKind, View
from node.domain.teeth import Tooth
from orchestration.payers.chart import ChartFacts, Done, ImageFact, Planned
from orchestration.payers.claim import QUADRANTS, arch_of, quadrant_of
from orchestration.payers.rules import EvidenceKind, EvidenceRule, Frequency, Rule

#: Films of one day that together are a full-mouth series: at least so many intra-oral ones.
_SERIES_FILMS = 14
#: Pocket from which payers doubt a crown, mm.
_DEEP_MM = 7
#: Active periodontal therapy, by rule key.
_THERAPY = frozenset({"D4341", "D4342", "D4260", "D4261"})

_VIEWS: dict[EvidenceKind, frozenset[View]] = {
    EvidenceKind.PERIAPICAL: frozenset({View.PERIAPICAL}),
    EvidenceKind.BITEWING: frozenset({View.BITEWING}),
    EvidenceKind.PANORAMIC: frozenset({View.PANORAMIC}),
    EvidenceKind.PHOTO: frozenset({View.PHOTO}),
    EvidenceKind.RADIOGRAPH: frozenset(
        {View.PERIAPICAL, View.BITEWING, View.PANORAMIC, View.OCCLUSAL}
    ),
}
_WORDS: dict[EvidenceKind, str] = {
    EvidenceKind.PERIAPICAL: "periapical radiograph",
    EvidenceKind.BITEWING: "bitewing",
    EvidenceKind.PANORAMIC: "panoramic",
    EvidenceKind.FULL_SERIES: "full-mouth series",
    EvidenceKind.RADIOGRAPH: "radiograph",
    EvidenceKind.PHOTO: "photograph",
    EvidenceKind.PERIO_CHART: "perio chart",
    EvidenceKind.MISSING_TEETH: "list of missing teeth",
    EvidenceKind.PRIOR_DATE: "date of the earlier placement",
    EvidenceKind.PRIOR_THERAPY: "dates of earlier periodontal therapy",
    EvidenceKind.NARRATIVE: "narrative",
}


class Standing(StrEnum):
    """How one piece of evidence stands."""

    HELD = "held"
    TOO_OLD = "too_old"
    INSUFFICIENT = "insufficient"  # there, but it does not show what the payer asks for
    MISSING = "missing"
    WRITTEN = "written"  # a narrative: written next


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of evidence: what was asked for, how it stands, and what it rests on.

    ``ids`` are image ids, ``exam:`` or ``procedure:`` with a key; ``words`` say it to a person.
    """

    kinds: tuple[EvidenceKind, ...]
    standing: Standing
    is_optional: bool
    ids: tuple[str, ...]
    words: str

    @property
    def is_lacking(self) -> bool:
        """Whether a person must do something before the request can go out."""
        return not self.is_optional and self.standing not in (Standing.HELD, Standing.WRITTEN)


@dataclass(frozen=True, slots=True)
class Assessment:
    """How one planned procedure stands against one rule."""

    procedure_key: str
    items: tuple[Item, ...]
    limits: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def lacking(self) -> tuple[Item, ...]:
        """What is missing."""
        return tuple(item for item in self.items if item.is_lacking)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Images to attach."""
        pictures = (i for item in self.items if item.standing is Standing.HELD for i in item.ids)
        return tuple(
            dict.fromkeys(i for i in pictures if not i.startswith(("exam:", "procedure:")))
        )


def assess(rule: Rule, planned: Planned, facts: ChartFacts, today: date) -> Assessment:
    """Judge one planned procedure by one rule on one day."""
    return Assessment(
        planned.key,
        tuple(_item(each, planned, facts, today) for each in rule.evidence),
        tuple(_limits(rule, planned, facts, today)),
        tuple(_flags(rule, planned, facts)),
    )


def lacking_words(items: Sequence[Item]) -> str:
    """Say for a task what is missing; no patient data."""
    return "; ".join(dict.fromkeys(item.words for item in items))


def _item(each: EvidenceRule, planned: Planned, facts: ChartFacts, today: date) -> Item:
    """Take the best of the alternatives: held before too old before missing."""
    order = (Standing.WRITTEN, *Standing)
    found = [_one(kind, each, planned, facts, today) for kind in each.kinds]
    best = min(found, key=lambda item: order.index(item.standing))
    if best.standing in (Standing.HELD, Standing.WRITTEN):
        return best
    names = " or ".join(_WORDS[kind] for kind in each.kinds)
    words = {
        Standing.TOO_OLD: f"{best.words}; a newer {names} is needed",
        Standing.INSUFFICIENT: best.words,
    }.get(best.standing, f"{names} is missing")
    return Item(each.kinds, best.standing, each.is_optional, best.ids, words)


def _one(
    kind: EvidenceKind, each: EvidenceRule, planned: Planned, facts: ChartFacts, today: date
) -> Item:
    def item(standing: Standing, ids: Sequence[str], words: str) -> Item:
        return Item(each.kinds, standing, each.is_optional, tuple(ids), words)

    oldest = today - timedelta(days=each.max_age_days) if each.max_age_days else date.min
    match kind:
        case EvidenceKind.NARRATIVE:
            return item(Standing.WRITTEN, (), _WORDS[kind])
        case EvidenceKind.MISSING_TEETH:
            standing = Standing.HELD if facts.missing else Standing.MISSING
            return item(standing, (), _WORDS[kind])
        case EvidenceKind.PRIOR_DATE:
            standing = Standing.HELD if planned.replaces_on else Standing.MISSING
            return item(standing, (f"procedure:{planned.key}",), _WORDS[kind])
        case EvidenceKind.PRIOR_THERAPY:
            therapy = [d for d in facts.done if d.cdt_code in _THERAPY]
            ids = [f"procedure:{d.key}" for d in therapy]
            return item(Standing.HELD if therapy else Standing.MISSING, ids, _WORDS[kind])
        case EvidenceKind.PERIO_CHART:
            return item(*_perio(each, planned, facts, oldest))
        case EvidenceKind.FULL_SERIES:
            pictures = _series(facts)
        case _:
            pictures = [f for f in facts.images if f.view in _VIEWS[kind] and _shows(f, planned)]
    dated = [f for f in pictures if f.taken_on is not None]
    fresh = [f for f in dated if f.taken_on is not None and f.taken_on >= oldest]
    if fresh:
        last = max(f.taken_on for f in fresh if f.taken_on is not None)
        chosen = [f.id for f in fresh if f.taken_on == last]
        return item(Standing.HELD, chosen, f"{_WORDS[kind]} of {last}")
    if dated:
        last = max(f.taken_on for f in dated if f.taken_on is not None)
        return item(Standing.TOO_OLD, [f.id for f in dated], f"{_WORDS[kind]} of {last}")
    return item(Standing.MISSING, (), _WORDS[kind])


def _perio(
    each: EvidenceRule, planned: Planned, facts: ChartFacts, oldest: date
) -> tuple[Standing, tuple[str, ...], str]:
    exam = facts.latest_exam
    if exam is None:
        return Standing.MISSING, (), "perio chart"
    ids = (f"exam:{exam.key}",)
    if exam.day < oldest:
        return Standing.TOO_OLD, ids, f"perio chart of {exam.day}"
    deep = exam.deep(planned.area, each.min_depth_mm)
    wanted = {t for t in planned.teeth if each.min_depth_mm}
    if len(deep) < each.min_teeth or not wanted <= {p.tooth for p in deep}:
        words = (
            f"the perio chart of {exam.day} shows {len(deep)} teeth with"
            f" {each.min_depth_mm} mm or more where {each.min_teeth} are asked for"
        )
        return Standing.INSUFFICIENT, ids, words
    return Standing.HELD, ids, f"perio chart of {exam.day}"


def _series(facts: ChartFacts) -> list[ImageFact]:
    films = [f for f in facts.images if f.view in (View.PERIAPICAL, View.BITEWING) and f.taken_on]
    days = {f.taken_on for f in films}
    whole = [day for day in days if sum(1 for f in films if f.taken_on == day) >= _SERIES_FILMS]
    return [f for f in films if f.taken_on in whole]


def _shows(image: ImageFact, planned: Planned) -> bool:
    """Tell whether a picture may show the place; one whose teeth are unknown may not be assumed to.

    Photographs and panoramics show more than they name.
    """
    if image.view in (View.PHOTO, View.PANORAMIC) and not image.teeth:
        return True
    if planned.tooth is not None:
        return planned.tooth in image.teeth
    if planned.teeth:
        return bool(set(planned.teeth) & set(image.teeth))
    if planned.area in QUADRANTS.values():
        return any(quadrant_of(tooth) is planned.area for tooth in image.teeth)
    return bool(image.teeth)


def _limits(rule: Rule, planned: Planned, facts: ChartFacts, today: date) -> Iterator[str]:
    for each in rule.frequency:
        begin = _months_before(today, each.months)
        same = [
            done
            for done in facts.done
            if done.cdt_code in rule.codes and done.day > begin and _is_same(each, done, planned)
        ]
        if len(same) >= each.count:
            last = max(done.day for done in same)
            yield (
                f"{rule.label}: at most {each.count} in {each.months} months per {each.per}; "
                f"the last was on {last}"
            )


def _is_same(each: Frequency, done: Done, planned: Planned) -> bool:
    match each.per:
        case "tooth":
            return planned.tooth is not None and done.tooth == planned.tooth
        case "quadrant":
            return planned.area is not None and (
                done.area is planned.area
                or (done.tooth is not None and quadrant_of(done.tooth) is planned.area)
            )
        case "arch":
            arch = planned.area or (arch_of(planned.tooth) if planned.tooth else None)
            return arch is not None and (
                done.area is arch or (done.tooth is not None and arch_of(done.tooth) is arch)
            )
        case "person":
            return True


def _flags(rule: Rule, planned: Planned, facts: ChartFacts) -> Iterator[str]:
    """Say what makes payers refuse restorations, from what is signed and charted."""
    if planned.tooth is None or not rule.has_placement:
        return
    tooth = planned.tooth
    if tooth in facts.missing and planned.area is None and rule.key == "crown":
        yield f"#{tooth.universal} is charted as missing"
    for mark in facts.marks:
        found = mark.signed.finding
        if mark.tooth == tooth:
            yield from _red(found.kind, found.depth, found.value_percent, tooth)
    exam = facts.latest_exam
    for each in exam.teeth if exam else ():
        if each.tooth == tooth and (each.deepest_mm or 0) >= _DEEP_MM:
            yield f"#{tooth.universal}: pocket of {each.deepest_mm} mm"


def _red(
    kind: FindingKind, depth: CariesDepth | None, percent: float | None, tooth: Tooth
) -> Iterator[str]:
    name = f"#{tooth.universal}"
    if kind is FindingKind.PERIAPICAL_RADIOLUCENCY:
        yield f"{name}: radiolucency at the apex; say how it is treated"
    if kind is FindingKind.FURCATION:
        yield f"{name}: furcation"
    if kind is FindingKind.BONE_LEVEL and percent is not None and percent >= 50:
        yield f"{name}: half of the bone support or more is lost"
    if kind.is_caries and depth is CariesDepth.P:
        yield f"{name}: caries to the pulp; say how the pulp is treated"


def _months_before(day: date, months: int) -> date:
    count = day.year * 12 + day.month - 1 - months
    year, month = divmod(count, 12)
    for last in range(day.day, 27, -1):
        try:
            return date(year, month + 1, last)
        except ValueError:
            continue
    return date(year, month + 1, min(day.day, 28))
