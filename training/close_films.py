"""Panoramics with numbered tooth masks, cut so that they are framed like intraoral films.

They lend real shapes and textures to numbering and masks; of bone, caries and everything else
nothing is known on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.panoramic import TEETH
from node.domain.findings import View
from training.datasets import Film

#: The sets known store squashed films; this is the breadth to height of a panoramic as exposed.
_ASPECT = 1.766
_UPPER, _LOWER = tuple(t.code for t in TEETH[:16]), tuple(t.code for t in TEETH[16:])

BoxPx = tuple[float, float, float, float]


def window(
    boxes: dict[str, BoxPx], view: View, is_standing: bool, rng: np.random.Generator
) -> BoxPx | None:
    """Choose the part of a panoramic (x0, y0, x1, y1) that a film of `view` could show.

    None when the teeth for it are missing.
    """
    return _bitewing(boxes, rng) if view is View.BITEWING else _periapical(boxes, is_standing, rng)


def _bitewing(boxes: dict[str, BoxPx], rng: np.random.Generator) -> BoxPx | None:
    upper, lower = (("1", "4"), ("2", "3"))[int(rng.integers(0, 2))]
    first = int(rng.integers(3, 6))
    places = range(first, min(first + int(rng.integers(3, 5)), 9))
    tops = [boxes[f"{upper}{p}"] for p in places if f"{upper}{p}" in boxes]
    lows = [boxes[f"{lower}{p}"] for p in places if f"{lower}{p}" in boxes]
    if len(tops) < 2 or len(lows) < 2:
        return None
    reach = rng.uniform(0.55, 0.8)
    y0 = min(b[3] - reach * (b[3] - b[1]) for b in tops)
    y1 = max(b[1] + reach * (b[3] - b[1]) for b in lows)
    return min(b[0] for b in tops + lows), y0, max(b[2] for b in tops + lows), y1


def _periapical(
    boxes: dict[str, BoxPx], is_standing: bool, rng: np.random.Generator
) -> BoxPx | None:
    is_lower = rng.random() < 0.5
    order = _LOWER if is_lower else _UPPER
    count = int(rng.integers(2, 4)) if is_standing else int(rng.integers(3, 5))
    start = int(rng.integers(4, 10) if is_standing else rng.integers(0, 17 - count))
    teeth = [boxes[c] for c in order[start : start + count] if c in boxes]
    if len(teeth) < 2:
        return None
    x0, x1 = min(b[0] for b in teeth), max(b[2] for b in teeth)
    y0, y1 = min(b[1] for b in teeth), max(b[3] for b in teeth)
    beyond, crown = rng.uniform(0.08, 0.4) * (y1 - y0), rng.uniform(0.0, 0.08) * (y1 - y0)
    above, below = (crown, beyond) if is_lower else (beyond, crown)
    return x0, y0 - above, x1, y1 + below


def fit(
    cut: BoxPx, tooth_px: float, stored: Sequence[int], size: tuple[int, int], share: float
) -> np.ndarray:
    """Give the 2x3 matrix that lays `cut` of a film `stored` (rows, cols) on `size` (rows, cols).

    The film gets its breadth back; a tooth `tooth_px` high fills `share` of the input's rows.
    """
    widen = _ASPECT * stored[0] / stored[1]
    scale = share * size[0] / tooth_px
    x, y = (cut[0] + cut[2]) / 2, (cut[1] + cut[3]) / 2
    return np.array(
        [
            [scale * widen, 0.0, size[1] / 2 - scale * widen * x],
            [0.0, scale, size[0] / 2 - scale * y],
        ]
    )


def tooth_share(is_standing: bool, rng: np.random.Generator) -> float:
    """Draw how much of an intraoral film's height a tooth fills: 21 mm of 30 or 40 mm, about."""
    return float(rng.uniform(0.45, 0.65) if is_standing else rng.uniform(0.55, 0.8))


def boxes_of(film: Film) -> dict[str, BoxPx]:
    """Give the box of each numbered tooth of a panoramic."""
    return {mark.label: mark.box for mark in film.marks}
