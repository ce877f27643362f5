"""From a study's rows to the facts of its images: numbers that agree, teeth, sites, series, checks.

Pure: no database, no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from models import series, slots
from node.analysis.study_rows import ImageRead
from node.domain.completeness import SeenImage, procedure_checks, six_items
from node.domain.findings import BoneSite, FindingKind, QualityKind, View
from node.domain.reading import (
    CrownRoot,
    ImageFacts,
    Renumbering,
    Series,
    SiteFact,
    StudyFacts,
    ToothState,
    ToothStatus,
)
from node.domain.teeth import PERMANENT, Arch, Tooth

_K = FindingKind
_CONSPICUOUS = frozenset({_K.CROWN, _K.IMPLANT, _K.ROOT_FILLING, _K.POST, _K.RESTORATION})
_DISTORTED = (QualityKind.ELONGATION, QualityKind.FORESHORTENING)
#: What one flaw takes off an image's quality, and one that disqualifies it.
_FLAW, _DISQUALIFYING = 0.1, 0.5
_LEAST_QUALITY = 0.2
#: Crown to supported root: at most 1 to 1 is doubtful, 1 to 1.5 acceptable, 1 to 2 ideal.
_DOUBTFUL, _ACCEPTABLE = 1.0, 1.5


def renumber(images: Sequence[ImageRead]) -> tuple[Renumbering, ...]:
    """Find numbers that contradict the series; see :func:`models.series.reconcile`."""
    return series.reconcile([_for_series(image) for image in images])


def under(
    images: Sequence[ImageRead], renumberings: Sequence[Renumbering]
) -> tuple[ImageRead, ...]:
    """Give the images under the numbers that hold, those of applied renumberings changed."""
    moved = {each.instance_id: dict(each.teeth) for each in renumberings if each.is_applied}
    return tuple(image.renumbered(moved.get(image.id, {})) for image in images)


def facts_of(
    images: Sequence[ImageRead],
    renumberings: Sequence[Renumbering],
    cdt_codes: Sequence[str],
    age_years: int | None,
) -> StudyFacts:
    """Gather the facts of a study from its images under the numbers that hold.

    `cdt_codes` are the scheduled or charted imaging procedures, repeated as often as they stand.
    """
    laid = _series(images)
    teeth, basis = _teeth(images, laid)
    seen = [_seen(image) for image in images]
    intraoral = sum(image.view in (View.BITEWING, View.PERIAPICAL) for image in images)
    return StudyFacts(
        images=tuple(_image_facts(image) for image in images),
        teeth=teeth,
        missing_basis=basis,
        sites=tuple(_site(image, site) for image in images for site in image.sites),
        renumberings=tuple(renumberings),
        series=laid,
        checks=six_items(seen, laid) if intraoral >= 2 else (),
        procedures=procedure_checks(cdt_codes, [image.view for image in images]),
        crown_root=tuple(_crown_roots(images)),
        age_years=age_years,
    )


def _for_series(image: ImageRead) -> series.SeriesImage:
    marks: dict[Tooth, frozenset[FindingKind]] = {}
    for each in image.findings:
        if each.original_tooth is not None and each.finding.kind in _CONSPICUOUS:
            known = marks.get(each.original_tooth, frozenset())
            marks[each.original_tooth] = known | {each.finding.kind}
    return series.SeriesImage(
        image.id,
        image.view,
        image.side,
        image.region,
        tuple((each.original, each.box, each.probability) for each in image.teeth),
        marks,
        image.is_decided,
    )


def _image_facts(image: ImageRead) -> ImageFacts:
    closed = {tooth for f in image.flags if f.kind is QualityKind.OVERLAP for tooth in f.teeth}
    known = image.spacing.is_known
    return ImageFacts(
        instance_id=image.id,
        view=image.view,
        side=image.side,
        region=image.region,
        teeth=tuple(sorted({each.tooth for each in image.teeth})),
        quality=_quality(image),
        is_disqualified=any(flag.is_disqualifying for flag in image.flags),
        closed=tuple(sorted(closed)),
        spacing_mm=(image.spacing.mm_row, image.spacing.mm_col) if known else None,
        flaws=tuple(dict.fromkeys(flag.kind.value for flag in image.flags)),
    )


def _quality(image: ImageRead) -> float:
    lost = sum(_DISQUALIFYING if flag.is_disqualifying else _FLAW for flag in image.flags)
    return round(max(1.0 - lost, _LEAST_QUALITY), 3)


def _site(image: ImageRead, site: BoneSite) -> SiteFact:
    root_mm = None
    if image.spacing.is_known and site.apex is not None:
        dx = (site.apex[0] - site.cej[0]) * image.spacing.mm_col
        dy = (site.apex[1] - site.cej[1]) * image.spacing.mm_row
        root_mm = round(math.hypot(dx, dy), 2)
    is_distorted = any(
        f.kind in _DISTORTED and (not f.teeth or site.tooth in f.teeth) for f in image.flags
    )
    view = image.view or View.OTHER
    return SiteFact(
        image.id, site.tooth, site.surface, view, site.level_mm, site.percent, root_mm, is_distorted
    )


def _series(images: Sequence[ImageRead]) -> Series | None:
    return slots.place(
        [
            slots.SlotImage(
                image.id,
                image.view,
                frozenset(t.tooth for t in image.teeth if not t.tooth.supernumerary),
                _quality(image),
                image.orientation.is_usual,
            )
            for image in images
        ]
    )


def _teeth(images: Sequence[ImageRead], laid: Series | None) -> tuple[tuple[ToothStatus, ...], str]:
    """Chart every permanent tooth; missing only where a panoramic or a whole series would show it.

    Third molars are often taken out or never formed: not seen, they are not called missing. With
    milk teeth in view nothing is.
    """
    shown: dict[Tooth, list[str]] = {}
    for image in images:
        for mark in image.teeth:
            shown.setdefault(mark.tooth, []).append(image.id)
    special = _special(images)
    basis = _missing_basis(images, laid, shown)
    status = []
    for tooth in PERMANENT:
        seen_on = tuple(dict.fromkeys(shown.get(tooth, ())))
        if tooth in special:
            status.append(ToothStatus(tooth, special[tooth], seen_on))
        elif seen_on:
            status.append(ToothStatus(tooth, ToothState.PRESENT, seen_on))
        else:
            is_missing = bool(basis) and tooth.position <= 7
            state = ToothState.MISSING if is_missing else ToothState.NOT_SHOWN
            status.append(ToothStatus(tooth, state))
    return tuple(status), basis


def _missing_basis(
    images: Sequence[ImageRead], laid: Series | None, shown: Mapping[Tooth, Sequence[str]]
) -> str:
    if any(tooth.is_deciduous for tooth in shown):
        return ""
    if any(image.view is View.PANORAMIC and image.teeth for image in images):
        return "gaps on a panoramic"
    if laid is not None and laid.template.startswith("FMX") and not laid.empty:
        return "gaps in a full-mouth series"
    return ""


def _special(images: Sequence[ImageRead]) -> dict[Tooth, ToothState]:
    states = {
        _K.IMPLANT: ToothState.IMPLANT,
        _K.IMPACTED_TOOTH: ToothState.IMPACTED,
        _K.ROOT_REMNANT: ToothState.REMNANT,
    }
    return {
        each.finding.tooth: states[each.finding.kind]
        for image in images
        for each in image.findings
        if each.finding.kind in states and each.finding.tooth is not None
    }


def _seen(image: ImageRead) -> SeenImage:
    known = image.spacing.is_known
    return SeenImage(
        image.id,
        image.view,
        image.rows,
        image.cols,
        (image.spacing.mm_row, image.spacing.mm_col) if known else None,
        {each.tooth: each.box for each in image.teeth},
        image.sites,
        image.flags,
    )


def _crown_roots(images: Sequence[ImageRead]) -> list[CrownRoot]:
    """Measure crown to supported root on periapicals that lie upright and show edge and apex."""
    found: dict[Tooth, CrownRoot] = {}
    for image in images:
        if image.view is not View.PERIAPICAL or not image.orientation.is_usual:
            continue
        for mark in image.teeth:
            ratio = _ratio(image, mark.tooth, mark.box.y0, mark.box.y1)
            if ratio is not None and mark.tooth not in found:
                found[mark.tooth] = CrownRoot(mark.tooth, ratio, _ratio_words(ratio), image.id)
    return [found[tooth] for tooth in sorted(found)]


def _ratio(image: ImageRead, tooth: Tooth, top: float, bottom: float) -> float | None:
    edge = bottom if tooth.arch is Arch.UPPER else top
    if not 2 < edge < image.rows - 2:
        return None
    sites = [site for site in image.sites if site.tooth == tooth and site.apex is not None]
    if not sites:
        return None
    crown = sum(abs(site.crest[1] - edge) for site in sites)
    root = sum(abs(site.apex[1] - site.crest[1]) for site in sites if site.apex is not None)
    return round(root / crown, 2) if crown > 1 and root > 1 else None


def _ratio_words(ratio: float) -> str:
    if ratio <= _DOUBTFUL:
        worth = "doubtful as an abutment"
    elif ratio < _ACCEPTABLE:
        worth = "below 1:1.5"
    else:
        worth = "acceptable"
    return f"crown to root 1:{ratio:.1f}, {worth} (projection; root in bone counts)"
