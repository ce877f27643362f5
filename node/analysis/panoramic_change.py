"""What became of a tooth between two panoramics: how sure the networks are, and no lengths.

A panoramic is magnified and distorted differently every time, so nothing is measured in
millimetres and no grey is compared: the networks mark whole teeth there. A tooth must still be
laid over itself (:mod:`models.change`) to be compared at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from node.domain.findings import Finding, FindingKind, OperatingPoint
from node.domain.reading import Change, Verdict
from node.domain.teeth import Tooth

#: The least rise of the probability that counts, by kind: the 95 % smallest detectable change of
#: one film read twice, taken anew (1.96 standard deviations of the difference, 18 tuning films,
#: 475 teeth). docs/study-reading.md tells how.
SMALLEST: Mapping[FindingKind, float] = {
    FindingKind.CARIES: 0.20,
    FindingKind.ROOT_REMNANT: 0.40,
}


@dataclass(frozen=True, slots=True)
class ToothThen:
    """What was marked on a tooth of the earlier film, and how much its analysis left unsaid.

    ``points`` are the operating points of that analysis: a kind without a mark may have had any
    probability below its review point.
    """

    marks: Sequence[Finding]
    points: Mapping[FindingKind, OperatingPoint]


def tooth_changes(
    tooth: Tooth, now: Sequence[Finding], then: ToothThen, reason: str, change: Change
) -> Iterator[Change]:
    """Compare what is marked on `tooth` now and then, kind by kind.

    `reason` says why the tooth cannot be compared, empty when it can; `change` is what every
    change of this pair of films has in common.
    """
    for kind, least in SMALLEST.items():
        mark = _surest(kind, tooth, now)
        known = _surest(kind, tooth, then.marks)
        if mark is None and known is None:
            continue
        name = f"#{tooth.universal} panoramic: {kind.value.replace('_', ' ')}"
        found = replace(
            change,
            kind=kind,
            before_probability=known.probability if known else None,
            now_probability=mark.probability if mark else None,
        )
        if reason:
            yield replace(found, words=f"{name} not comparable: {reason}")
        elif mark is None:
            words = f"{name}: marked before, no mark now; look at both films"
            yield replace(found, verdict=Verdict.NOT_SEEN_NOW, words=words)
        elif known is not None:
            words = f"{name}: marked before and now; depth and size are not compared"
            yield replace(found, verdict=Verdict.NO_MEASURABLE_CHANGE, words=words)
        else:
            yield _newly_marked(found, name, mark, _unsaid(kind, then), least)


def _newly_marked(
    change: Change, name: str, mark: Finding, before: float | None, least: float
) -> Change:
    """Judge a mark that the earlier film has not; `before` is the most it may have had there."""
    if before is None or mark.probability is None:
        words = f"{name}: marked now, not before; how sure each was cannot be compared"
        return replace(change, verdict=Verdict.NO_MEASURABLE_CHANGE, words=words)
    rise = mark.probability - before
    size = f"below {before:.2f} before, {mark.probability:.2f} now"
    if rise < least:
        words = f"{name}: marked now, not before; {size}: less than films of one day differ"
        return replace(change, verdict=Verdict.NO_MEASURABLE_CHANGE, words=words)
    words = f"{name}: newly marked; {size} (at least {least:.2f} counts); look at both films"
    return replace(change, verdict=Verdict.NEW, words=words)


def _unsaid(kind: FindingKind, then: ToothThen) -> float | None:
    """Give the probability that an unmarked tooth stayed below; None when nobody knows."""
    point = then.points.get(kind)
    return point.review if point else None


def _surest(kind: FindingKind, tooth: Tooth, marks: Sequence[Finding]) -> Finding | None:
    own = [mark for mark in marks if mark.kind is kind and mark.tooth == tooth]
    return max(own, key=lambda mark: mark.probability or 1.0, default=None)
