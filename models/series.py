"""Tooth numbers that fit together over the images of one study.

Each image's network numbers its own teeth. Over a series they must agree: a tooth with a crown on
one film has it on the next, a bitewing shows one side, a periapical one jaw. Every image may be
right or off by one place along the arch; the numbering that agrees best over all images wins if
the gain is clear. An image with a decision of a person keeps its numbers. Pure arithmetic.

Source: sequence and overlap constraints of a series; weights are judged, not learned, and stated
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from node.domain.findings import Box, FindingKind, View
from node.domain.reading import Renumbering
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Tooth

#: Gain, in nats of evidence, from which other numbers are called better, and applied.
FLAG_GAIN, APPLY_GAIN = 1.0, 3.0

_K = FindingKind
#: Evidence (nats) when two films agree or disagree on a mark of what they call the same tooth.
_AGREE: Mapping[FindingKind, tuple[float, float]] = {
    _K.CROWN: (2.0, -1.2),
    _K.IMPLANT: (2.5, -1.5),
    _K.ROOT_FILLING: (2.0, -0.8),
    _K.POST: (2.0, -0.6),
    _K.RESTORATION: (0.7, -0.6),
}
#: A bitewing shows crowns only: what sits in roots is not missed there.
_IN_ROOTS = frozenset({_K.ROOT_FILLING, _K.POST})
#: A neighbour that one film shows and the other, with room for it, does not.
_GAP = -0.8
#: Believing a whole image against its own probabilities costs at least and at most this.
_DOUBT = (1.0, 6.0)
_SHIFTS = (0, -1, 1)


@dataclass(frozen=True, slots=True)
class SeriesImage:
    """What one image says of teeth: numbers with boxes and probabilities, and what they carry.

    ``marks`` are the conspicuous things by tooth as numbered by the model. ``is_decided``: a
    person decided something on this image, its numbers stand.
    """

    instance_id: str
    view: View | None
    side: str
    region: str
    teeth: tuple[tuple[Tooth, Box, float], ...]
    marks: Mapping[Tooth, frozenset[FindingKind]]
    is_decided: bool = False


def reconcile(images: Sequence[SeriesImage]) -> tuple[Renumbering, ...]:
    """Say which images' numbers contradict the series, and give numbers that fit where clear.

    Deterministic; images are taken in the order given. Only permanent teeth take part.
    """
    found = [flag for flag in (_contradiction(image) for image in images) if flag is not None]
    shifts = _best_shifts(images)
    for index, image in enumerate(images):
        if shifts[index] == 0:
            continue
        gain = _total(images, shifts) - _total(images, {**shifts, index: 0})
        if gain < FLAG_GAIN:
            continue
        teeth = tuple(
            (tooth, moved)
            for tooth, _, _ in image.teeth
            if (moved := _shifted(tooth, shifts[index])) is not None
        )
        is_applied = gain >= APPLY_GAIN and not image.is_decided
        found.append(
            Renumbering(image.instance_id, teeth, _reason(images, index, shifts), is_applied)
        )
    return tuple(found)


def _contradiction(image: SeriesImage) -> Renumbering | None:
    """Flag numbers that no film of this view can show; never changed by itself."""
    teeth = [tooth for tooth, _, _ in image.teeth if not tooth.is_deciduous]
    sides = {"R" if tooth.is_patient_right else "L" for tooth in teeth}
    if image.view is View.BITEWING and image.side and sides and sides != {image.side}:
        words = "right" if image.side == "R" else "left"
        reason = f"a bitewing of the {words} side carries numbers of the other"
        return Renumbering(image.instance_id, (), reason, False)
    if image.view is View.BITEWING and len(sides) == 2 and all(t.position > 1 for t in teeth):
        return Renumbering(image.instance_id, (), "a bitewing shows one side, not both", False)
    arches = {tooth.arch for tooth in teeth}
    named = {arch for arch in Arch if arch.name.lower() in image.region.split()}
    if image.view is View.PERIAPICAL and len(named) == 1 and arches and arches != named:
        reason = f"the film looks like {image.region}, its numbers are of the other jaw"
        return Renumbering(image.instance_id, (), reason, False)
    return None


def _best_shifts(images: Sequence[SeriesImage]) -> dict[int, int]:
    """Move one image at a time, the one that gains most first, until nothing gains."""
    shifts = dict.fromkeys(range(len(images)), 0)
    movable = [i for i, image in enumerate(images) if image.teeth and not image.is_decided]
    for _ in range(2 * len(images)):
        gains = [
            (_local(images, {**shifts, i: s}, i) - _local(images, shifts, i), i, s)
            for i in movable
            for s in _possible(images[i])
        ]
        gain, index, shift = max(gains, default=(0.0, 0, 0), key=lambda each: each[0])
        if gain <= 1e-9:
            break
        shifts[index] = shift
    return shifts


def _possible(image: SeriesImage) -> list[int]:
    return [
        shift
        for shift in _SHIFTS
        if all(_shifted(tooth, shift) is not None for tooth, _, _ in image.teeth)
    ]


def _shifted(tooth: Tooth, shift: int) -> Tooth | None:
    """Move a number along the arch, away from (+) or towards (−) the midline; None past its end."""
    if shift == 0:
        return tooth
    if tooth.is_deciduous or not 1 <= tooth.position + shift <= 8:
        return None
    return Tooth(f"{tooth.quadrant}{tooth.position + shift}", tooth.supernumerary)


def _total(images: Sequence[SeriesImage], shifts: Mapping[int, int]) -> float:
    own = sum(_own(image, shifts[i]) for i, image in enumerate(images))
    pairs = combinations(range(len(images)), 2)
    return own + sum(_agreement(images[a], shifts[a], images[b], shifts[b]) for a, b in pairs)


def _local(images: Sequence[SeriesImage], shifts: Mapping[int, int], index: int) -> float:
    """Give the part of the total that depends on one image."""
    return _own(images[index], shifts[index]) + sum(
        _agreement(images[index], shifts[index], other, shifts[number])
        for number, other in enumerate(images)
        if number != index
    )


def _own(image: SeriesImage, shift: int) -> float:
    """Cost of disbelieving the image's own numbers, by how sure its network was."""
    if shift == 0:
        return 0.0
    doubt = 0.0
    for _, _, probability in image.teeth:
        sure = min(max(probability, 0.5), 0.98)
        doubt += 0.4 * math.log(sure / (1 - sure))
    return -min(max(doubt, _DOUBT[0]), _DOUBT[1])


def _agreement(first: SeriesImage, shift_a: int, second: SeriesImage, shift_b: int) -> float:
    """Compare what two films show on the teeth they call the same."""
    a, b = _renamed(first, shift_a), _renamed(second, shift_b)
    shared = sorted(set(a) & set(b))
    total = 0.0
    for tooth in shared:
        for kind, (agree, differ) in _AGREE.items():
            if kind in _IN_ROOTS and View.BITEWING in (first.view, second.view):
                continue
            on_a, on_b = kind in a[tooth], kind in b[tooth]
            total += agree if on_a and on_b else differ if on_a or on_b else 0.0
    return total + _GAP * _gaps(shared, set(a), set(b))


def _gaps(shared: Sequence[Tooth], a: set[Tooth], b: set[Tooth]) -> int:
    """Count teeth between two shared ones that only one of the films shows."""
    count = 0
    for arch in (UPPER_ARCH, LOWER_ARCH):
        places = [arch.index(tooth) for tooth in shared if tooth in arch]
        if len(places) >= 2:
            between = set(arch[min(places) : max(places) + 1])
            count += len((a ^ b) & between)
    return count


def _renamed(image: SeriesImage, shift: int) -> dict[Tooth, frozenset[FindingKind]]:
    return {
        moved: image.marks.get(tooth, frozenset())
        for tooth, _, _ in image.teeth
        if not tooth.is_deciduous and (moved := _shifted(tooth, shift)) is not None
    }


def _reason(images: Sequence[SeriesImage], index: int, shifts: Mapping[int, int]) -> str:
    """Name the marks that another film shows on the number that the shift gives."""
    here = _renamed(images[index], shifts[index])
    words = []
    for number, other in enumerate(images):
        if number == index:
            continue
        there = _renamed(other, shifts[number])
        for tooth in sorted(set(here) & set(there)):
            for kind in sorted(here[tooth] & there[tooth] & set(_AGREE), key=lambda k: k.value):
                words.append(f"{kind.value.replace('_', ' ')} on #{tooth.universal}")
    seen = ", ".join(dict.fromkeys(words)) or "the order of teeth"
    return f"off by one place against the other images ({seen})"
