"""Radiographic severity of bone loss by its worst site: "consistent with", never a diagnosis.

Sources: AAP/EFP 2018 staging by percent of root (below 15 %, 15 to 33 %, beyond), extent below or
from 30 % of teeth, loss at two or more non-adjacent teeth; percent taken beyond the normal 2 mm
(Maycher, Oral Health 2021). Stages III and IV cannot be told apart on radiographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from node.domain.findings import FindingKind, View
from node.domain.reading import Group, Severity, SiteFact, StudyFacts
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface, Tooth

#: Normal CEJ-crest distance taken off before a percentage is formed, mm.
NORMAL_MM = 2.0
#: From here a crest level counts as loss; conservative, as one measure errs by about 0.4 mm.
LOSS_MM = 3.0
LOSS_PERCENT = 8.0
STAGE_PERCENT = (15.0, 33.0)
#: An angular defect at least this deep raises the stage and prompts a referral, mm.
VERTICAL_MM = 3.0
GENERALIZED_SHARE = 0.30

_K = FindingKind
_RANGES = ("stage I range", "stage II range", "stage III or IV range")


def percent_of_root(level_mm: float, root_mm: float) -> float | None:
    """Give the loss beyond the normal distance as percent of the root; None for no real root."""
    if root_mm <= 2 * NORMAL_MM:
        return None
    return min(100.0, 100 * max(0.0, level_mm - NORMAL_MM) / (root_mm - NORMAL_MM))


def merged_sites(facts: StudyFacts, groups: Sequence[Group], is_signed: bool) -> list[SiteFact]:
    """Give one value a site: what findings say, else, before a signature, what was measured.

    A measured site whose finding was rejected is left out: its finding does not come in `groups`,
    and a level that is high enough to be one is not counted without it.
    """
    found: dict[tuple[Tooth, Surface], SiteFact] = {}
    by_site: dict[tuple[Tooth, Surface], list[SiteFact]] = {}
    by_tooth: dict[Tooth, list[SiteFact]] = {}
    for site in facts.sites:
        by_site.setdefault((site.tooth, site.surface), []).append(site)
        by_tooth.setdefault(site.tooth, []).append(site)
    for group in groups:
        if group.kind is _K.BONE_LEVEL and len(group.surfaces) == 1:
            key = (group.tooth, group.surfaces[0])
            measured = by_site.get(key)
            view = _best_of(measured) if measured else _view_of(group, facts)
            root = _root(by_tooth.get(group.tooth, ()))
            percent = group.value_percent
            if percent is None and group.value_mm is not None and root is not None:
                percent = percent_of_root(group.value_mm, root)
            found[key] = SiteFact("", *key, view, group.value_mm, percent, root)
    if is_signed:
        return list(found.values())
    for key, measured in by_site.items():
        merged = _merged(measured, by_tooth[key[0]])
        if key not in found and not _is_loss(merged):
            found[key] = merged
    return list(found.values())


def severity_of(facts: StudyFacts, groups: Sequence[Group], *, is_signed: bool) -> Severity | None:
    """Say how severe the bone loss looks; None when no site was measured."""
    sites = merged_sites(facts, groups, is_signed)
    known = [site for site in sites if site.level_mm is not None or site.percent is not None]
    if not known:
        return None
    worst = max(known, key=lambda site: (site.percent or -1.0, site.level_mm or 0.0))
    if worst.percent is None:
        return _in_millimetres(worst, facts)
    affected = {site.tooth for site in known if _is_loss(site)}
    caveats = _caveats(known, affected, groups)
    if not affected:
        words = "No measured site shows radiographic bone loss beyond the normal range."
        return Severity(words, "", worst.tooth, worst.surface, worst.level_mm, worst.percent,
                        caveats=caveats)  # fmt: skip
    extent = _extent(affected, facts, known)
    if not _is_a_case(affected):
        words = (
            "Bone loss at fewer than two non-adjacent teeth: no range for the whole mouth "
            "(needs probing)."
        )
        return Severity(words, "", worst.tooth, worst.surface, worst.level_mm, worst.percent,
                        extent, caveats)  # fmt: skip
    step = _step(worst.percent, groups)
    words = f"Radiographic severity consistent with {_RANGES[step]} (needs probing), {extent}."
    return Severity(words, _RANGES[step], worst.tooth, worst.surface, worst.level_mm,
                    worst.percent, extent, caveats)  # fmt: skip


def vertical_defects(groups: Sequence[Group]) -> list[Group]:
    """Give the angular defects that are measured to be deep."""
    return [g for g in groups if g.kind is _K.ANGULAR_DEFECT and (g.value_mm or 0) >= VERTICAL_MM]


def _in_millimetres(worst: SiteFact, facts: StudyFacts) -> Severity:
    level = worst.level_mm or 0.0
    words = (
        f"Worst crest level {level:.1f} mm (detector plane); no percentage of the root and no "
        "range without an apex in view."
    )
    return Severity(words, "", worst.tooth, worst.surface, worst.level_mm)


def _caveats(
    sites: Sequence[SiteFact], affected: set[Tooth], groups: Sequence[Group]
) -> tuple[str, ...]:
    said = []
    with_percent = [site for site in sites if site.percent is not None]
    if with_percent and all(site.view is View.PANORAMIC for site in with_percent):
        said.append(
            "From a panoramic image alone: magnified and distorted, confirm on periapicals."
        )
    if any(site.level_mm is None for site in with_percent):
        said.append("Percentages without a pixel spacing rest on the image alone.")
    if any(group.kind is _K.FURCATION for group in groups):
        said.append(
            "Furcation suspected: a class II or III by probing would mean at least stage III."
        )
    if any(g.kind is _K.ANGULAR_DEFECT and g.value_mm is None for g in groups):
        said.append("Angular defect suspected; its depth was not measured.")
    if affected:
        said.append(
            "Loss from other causes (impaction, restorations, endodontic) is not told apart."
        )
    return tuple(said)


def _step(percent: float, groups: Sequence[Group]) -> int:
    step = sum(percent > limit if limit == STAGE_PERCENT[1] else percent >= limit
               for limit in STAGE_PERCENT)  # fmt: skip
    return 2 if vertical_defects(groups) else step


def _extent(affected: set[Tooth], facts: StudyFacts, known: Sequence[SiteFact]) -> str:
    measured = {site.tooth for site in known} | {site.tooth for site in facts.sites}
    share = len(affected) / max(len(measured), 1)
    name = "generalized" if share >= GENERALIZED_SHARE else "localized"
    return f"{name} ({len(affected)} of {len(measured)} measured teeth)"


def _is_a_case(affected: set[Tooth]) -> bool:
    for arch in (UPPER_ARCH, LOWER_ARCH):
        places = sorted(arch.index(tooth) for tooth in affected if tooth in arch)
        if places and places[-1] - places[0] > 1:
            return True
    return len({tooth.arch for tooth in affected}) > 1


def _is_loss(site: SiteFact) -> bool:
    if site.level_mm is not None:
        return site.level_mm >= LOSS_MM
    return site.percent is not None and site.percent >= LOSS_PERCENT


def _best(sites: Sequence[SiteFact]) -> list[SiteFact]:
    """Choose undistorted periapicals, then bitewings, then whatever there is."""
    for view in (View.PERIAPICAL, View.BITEWING):
        of_view = [site for site in sites if site.view is view and not site.is_distorted]
        if of_view:
            return of_view
    return list(sites)


def _best_of(sites: Sequence[SiteFact]) -> View:
    return _best(sites)[0].view


def _merged(sites: Sequence[SiteFact], of_tooth: Sequence[SiteFact]) -> SiteFact:
    chosen = _best(sites)
    levels = [site.level_mm for site in chosen if site.level_mm is not None]
    shares = [site.percent for site in chosen if site.percent is not None]
    first = chosen[0]
    level = median(levels) if levels else None
    root = _root(of_tooth)
    percent = median(shares) if shares else None
    if percent is None and level is not None and root is not None:
        percent = percent_of_root(level, root)
    return SiteFact("", first.tooth, first.surface, first.view, level, percent, root)


def _root(of_tooth: Sequence[SiteFact]) -> float | None:
    """Measure a tooth's root on undistorted periapicals, mm; for bitewings of the same tooth."""
    lengths = [
        site.root_mm
        for site in of_tooth
        if site.root_mm is not None and site.view is View.PERIAPICAL and not site.is_distorted
    ]
    return median(lengths) if lengths else None


def _view_of(group: Group, facts: StudyFacts) -> View:
    views = {image.view for image in facts.images if group.tooth in image.teeth}
    for view in (View.PERIAPICAL, View.BITEWING, View.PANORAMIC):
        if view in views:
            return view
    return View.OTHER
