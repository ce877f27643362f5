"""Cut panoramics with numbered teeth so that they are framed like intraoral films.

They lend an intraoral film's texture, which drawn films lack; what a cut shows is known from the
numbers of its teeth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from node.domain.findings import View
from node.domain.teeth import Arch, Tooth
from training.datasets import Film

Boxes = Mapping[str, tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Cut:
    """Upright pixels (uint8) and the teeth they show, the one in the middle first."""

    pixels: np.ndarray
    teeth: tuple[Tooth, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """Where in the mouth: ``jaw`` U, L or "", ``place`` 0–3 or None, ``side`` R, L or ""."""

    jaw: str
    place: int | None
    side: str

    def mirrored(self) -> Region:
        """Swap the sides."""
        return Region(self.jaw, self.place, {"R": "L", "L": "R"}.get(self.side, ""))


def region(view: View, teeth: Sequence[Tooth]) -> Region:
    """Say the region of a film that shows `teeth`, the middle one first.

    A bitewing has no jaw; incisors have a side only when all teeth lie on it.
    """
    if not teeth:
        return Region("", None, "")
    sides = {tooth.is_patient_right for tooth in teeth}
    middle = teeth[0]
    side = "R" if middle.is_patient_right else "L"
    if middle.position <= 2 and len(sides) == 2:
        side = ""
    jaw = "" if view is View.BITEWING else "U" if middle.arch is Arch.UPPER else "L"
    return Region(jaw, place_of(middle), side)


def place_of(tooth: Tooth) -> int:
    """Number the places: incisor 0, canine 1, premolar 2, molar 3."""
    return (0, 0, 1, 2, 2, 3, 3, 3)[min(tooth.position, 8) - 1]


def cut(film: Film, view: View, rng: np.random.Generator) -> Cut | None:
    """Cut one film's teeth at random; None where the teeth asked for are missing."""
    boxes = {mark.label: mark.box for mark in film.marks}
    choose = _bitewing if view is View.BITEWING else _periapical
    found = choose(boxes, rng)
    if found is None:
        return None
    (x0, y0, x1, y1), codes = found
    pixels = film.read()
    rows, cols = pixels.shape
    left, right = max(0, int(x0)), min(cols, int(x1))
    top, low = max(0, int(y0)), min(rows, int(y1))
    # Stored films may be squashed; UFBA's are square but were about 1991 x 1127.
    widen = 1.766 * rows / cols
    size = (int((right - left) * widen * 3), (low - top) * 3)
    if min(size) < 60:
        return None
    enlarged = cv2.resize(pixels[top:low, left:right], size, interpolation=cv2.INTER_CUBIC)
    middle = (x0 + x1) / 2
    order = sorted(codes, key=lambda c: abs((boxes[c][0] + boxes[c][2]) / 2 - middle))
    return Cut(enlarged, tuple(Tooth(code) for code in order))


_Window = tuple[tuple[float, float, float, float], list[str]]


def _bitewing(boxes: Boxes, rng: np.random.Generator) -> _Window | None:
    upper, lower = (("1", "4"), ("2", "3"))[int(rng.integers(0, 2))]
    first = int(rng.integers(3, 6))
    places = range(first, min(first + int(rng.integers(3, 5)), 9))
    tops = [f"{upper}{p}" for p in places if f"{upper}{p}" in boxes]
    lows = [f"{lower}{p}" for p in places if f"{lower}{p}" in boxes]
    if len(tops) < 2 or len(lows) < 2:
        return None
    reach = rng.uniform(0.55, 0.8)
    y0 = min(boxes[c][3] - reach * (boxes[c][3] - boxes[c][1]) for c in tops)
    y1 = max(boxes[c][1] + reach * (boxes[c][3] - boxes[c][1]) for c in lows)
    codes = tops + lows
    x0, x1 = min(boxes[c][0] for c in codes), max(boxes[c][2] for c in codes)
    return (x0, y0, x1, y1), codes


def _periapical(boxes: Boxes, rng: np.random.Generator) -> _Window | None:
    order = [*(f"1{p}" for p in range(8, 0, -1)), *(f"2{p}" for p in range(1, 9))]
    if is_lower := rng.random() < 0.5:
        order = [*(f"4{p}" for p in range(8, 0, -1)), *(f"3{p}" for p in range(1, 9))]
    start = int(rng.integers(0, 13))
    codes = [c for c in order[start : start + int(rng.integers(2, 5))] if c in boxes]
    if len(codes) < 2:
        return None
    x0, x1 = min(boxes[c][0] for c in codes), max(boxes[c][2] for c in codes)
    y0, y1 = min(boxes[c][1] for c in codes), max(boxes[c][3] for c in codes)
    height = y1 - y0
    beyond, crown = rng.uniform(0.1, 0.45) * height, rng.uniform(0.0, 0.08) * height
    above, below = (crown, beyond) if is_lower else (beyond, crown)
    return (x0, y0 - above, x1, y1 + below), codes
