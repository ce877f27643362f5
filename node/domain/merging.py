"""The same thing seen on several images of a study is one group; its rows stay as they are.

Source: merging per tooth over images. Caries: the strongest mark, weighed by view and quality,
with a bitewing or a second image to support it. Bone: the median of undistorted periapicals, else
of bitewings. Periapical lucency: the strongest on a periapical, a panoramic only without one.
Restorations: the majority of the images that show the tooth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from node.domain.findings import CariesDepth, Finding, FindingKind, View
from node.domain.reading import Group, ImageFacts, StudyFacts, StudyFinding
from node.domain.teeth import Surface, Tooth

#: How much a view's word weighs for caries.
VIEW_WEIGHT: Mapping[View, float] = {View.BITEWING: 1.0, View.PERIAPICAL: 0.7, View.PANORAMIC: 0.3}

_K = FindingKind
#: One of these a tooth; the others one a tooth and surface.
_WHOLE_TOOTH = frozenset(
    {_K.CROWN, _K.ROOT_FILLING, _K.POST, _K.IMPLANT, _K.IMPACTED_TOOTH, _K.ROOT_REMNANT}
    | {_K.PERIAPICAL_RADIOLUCENCY, _K.FURCATION}
)
_BY_MAJORITY = frozenset({_K.RESTORATION, _K.CROWN, _K.ROOT_FILLING, _K.POST, _K.IMPLANT})
_ORDER = "MODIBL"
_DEPTHS = tuple(CariesDepth)


def group_key(finding: Finding) -> str | None:
    """Name what a finding is about, the same on every image; None without a tooth.

    Primary and recurrent caries of one surface are one thing.
    """
    if finding.tooth is None or finding.kind is _K.OTHER:
        return None
    family = "caries" if finding.kind.is_caries else finding.kind.value
    if finding.kind in _WHOLE_TOOTH:
        return f"{family}:{finding.tooth}"
    letters = sorted({surface.value for surface in finding.surfaces}, key=_ORDER.index)
    return f"{family}:{finding.tooth}:{''.join(letters)}"


def merge(findings: Sequence[StudyFinding], facts: StudyFacts) -> tuple[Group, ...]:
    """Group the findings of a study, in the order of their first; findings without tooth stay out.

    A group of one finding is a group too: everything said of a study starts from groups.
    """
    gathered: dict[str, list[StudyFinding]] = {}
    for each in findings:
        key = group_key(each.finding)
        if key is not None:
            gathered.setdefault(key, []).append(each)
    return tuple(_group(key, members, facts) for key, members in gathered.items())


def linked(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Give the groups that join several images."""
    return tuple(group for group in groups if group.images > 1)


def deepest(depths: Sequence[CariesDepth | None]) -> CariesDepth | None:
    """Give the deepest of some depths."""
    known = [depth for depth in depths if depth is not None]
    return max(known, key=_DEPTHS.index) if known else None


def _group(key: str, members: Sequence[StudyFinding], facts: StudyFacts) -> Group:
    first = members[0].finding
    assert first.tooth is not None
    images = {each.instance_id for each in members}
    views = {_view(each, facts) for each in members}
    best = max(members, key=lambda each: _weight(each, facts))
    millimetres, percent = _measure(members, facts)
    return Group(
        key=key,
        finding_ids=tuple(each.id for each in members),
        kind=best.finding.kind,
        tooth=first.tooth,
        surfaces=_surfaces(members),
        images=len(images),
        is_supported=any(each.is_signed for each in members)
        or _is_supported(first.kind, first.tooth, images, views, facts),
        probability=_probability(members, facts),
        depth=deepest([each.finding.depth for each in members if _counts(each, members, facts)]),
        value_mm=millimetres,
        value_percent=percent,
    )


def _is_supported(
    kind: FindingKind,
    tooth: Tooth,
    images: set[str],
    views: set[View | None],
    facts: StudyFacts,
) -> bool:
    if kind.is_caries:
        return View.BITEWING in views or len(images) > 1
    if kind in _BY_MAJORITY:
        shown = {each.instance_id for each in facts.images if tooth in each.teeth} | images
        return 2 * len(images) >= len(shown)
    if kind is _K.PERIAPICAL_RADIOLUCENCY:
        return View.PERIAPICAL in views
    return True


def _counts(each: StudyFinding, members: Sequence[StudyFinding], facts: StudyFacts) -> bool:
    """Whether this image's word is taken: a panoramic only where no other view speaks."""
    views = {_view(member, facts) for member in members}
    return _view(each, facts) is not View.PANORAMIC or views == {View.PANORAMIC}


def _probability(members: Sequence[StudyFinding], facts: StudyFacts) -> float | None:
    """Give the probability of the mark that weighs most, as its model gave it."""
    known = [
        each
        for each in members
        if each.finding.probability is not None and _counts(each, members, facts)
    ]
    if not known:
        return None
    return max(known, key=lambda each: _weight(each, facts)).finding.probability


def _weight(each: StudyFinding, facts: StudyFacts) -> float:
    image = facts.image(each.instance_id)
    share = each.finding.probability if each.finding.probability is not None else 1.0
    if image is None or image.view is None:
        return 0.1 * share
    return VIEW_WEIGHT.get(image.view, 0.1) * image.quality * share


def _measure(
    members: Sequence[StudyFinding], facts: StudyFacts
) -> tuple[float | None, float | None]:
    chosen = _best_view(members, facts)
    lengths = [e.finding.value_mm for e in chosen if e.finding.value_mm is not None]
    shares = [e.finding.value_percent for e in chosen if e.finding.value_percent is not None]
    return (median(lengths) if lengths else None, median(shares) if shares else None)


def _best_view(members: Sequence[StudyFinding], facts: StudyFacts) -> Sequence[StudyFinding]:
    for view in (View.PERIAPICAL, View.BITEWING):
        of_view = [each for each in members if _view(each, facts) is view]
        sound = [each for each in of_view if not _is_flawed(facts.image(each.instance_id))]
        if sound or (of_view and view is View.BITEWING):
            return sound or of_view
    return members


def _is_flawed(image: ImageFacts | None) -> bool:
    return image is None or bool({"elongation", "foreshortening"} & set(image.flaws))


def _surfaces(members: Sequence[StudyFinding]) -> tuple[Surface, ...]:
    found = {surface for each in members for surface in each.finding.surfaces}
    return tuple(sorted(found, key=lambda surface: _ORDER.index(surface.value)))


def _view(each: StudyFinding, facts: StudyFacts) -> View | None:
    image = facts.image(each.instance_id)
    return image.view if image else None
