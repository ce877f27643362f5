"""Caries on the surfaces of numbered teeth: lesions with outlines, and an ordinal depth each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from models.geometry import Canvas
from models.intraoral_maps import DEPTH_STEPS, Seen, rings, surface_at
from models.panoramic import CELL, TEETH
from node.domain.findings import CariesDepth, Point, Polygon
from node.domain.teeth import Surface, Tooth

#: All depths, shallow to deep, as the ordinal head counts them.
DEPTHS: tuple[CariesDepth, ...] = tuple(CariesDepth)

_FLOOR = 0.003
_MAX_LESIONS = 60
#: A peak with this share of another's score is a lesion of its own beside it.
_RIVAL = 0.3
#: A lesion smaller than this many square canvas pixels cannot be drawn.
_LEAST_AREA_PX = 6.0

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Lesion:
    """The strongest suspicion of caries on one proximal surface.

    ``score`` is the network's own; ``depths`` (E1 to P) sum to 1 and say how deep if there is any;
    ``outline`` is None when nothing can be drawn.
    """

    tooth: Tooth
    surface: Surface
    score: float
    depths: tuple[float, ...]
    outline: Polygon | None

    @property
    def depth(self) -> CariesDepth:
        """The most likely depth."""
        return mode(self.depths)


def mode(depths: Sequence[float]) -> CariesDepth:
    """Give the most likely depth; of equals the shallower."""
    return DEPTHS[int(np.argmax(depths))]


def distribution(deeper: Sequence[float]) -> tuple[float, ...]:
    """Turn "deeper than E1 … deeper than D3" into probabilities of E1 … P that sum to 1."""
    falling = np.minimum.accumulate(np.clip(np.asarray(deeper, float), 0.0, 1.0))
    steps = np.concatenate([[1.0], falling, [0.0]])
    return tuple(float(v) for v in steps[:-1] - steps[1:])


def lesions(maps: dict[str, Array], seen: Sequence[Seen], canvas: Canvas) -> list[Lesion]:
    """Give the strongest suspicion of every surface that has one, best first."""
    found: dict[tuple[Tooth, Surface], Lesion] = {}
    peaks = lesion_peaks(maps["caries"][0])
    for row, column, score in peaks:
        rivals = [(r, c) for r, c, s in peaks if (r, c) != (row, column) and s > _RIVAL * score]
        mask = lesion_mask(maps["outline"][0], row, column, rivals)
        owner, side = _owner(maps["tooth"], seen, mask, row, column)
        if owner is None:
            continue
        key = (owner.tooth, surface_at(owner.tooth, side))
        if key not in found:
            depths = distribution(maps["depth"][:DEPTH_STEPS, mask].mean(axis=1).tolist())
            outline = _outline(maps["outline"][0], mask, canvas)
            found[key] = Lesion(*key, score, depths, outline)
    return list(found.values())


def lesion_peaks(heat: Array, floor: float = _FLOOR) -> list[tuple[int, int, float]]:
    """Give local maxima of the caries map as (row, column, score), best first."""
    top = functional.max_pool2d(torch.from_numpy(heat)[None, None], 3, stride=1, padding=1)
    where = np.argwhere((heat == top[0, 0].numpy()) & (heat > floor))
    scored = [(int(r), int(c), float(heat[r, c])) for r, c in where]
    return sorted(scored, key=lambda p: (-p[2], p[0], p[1]))[:_MAX_LESIONS]


def lesion_mask(
    outline: Array,
    row: int,
    column: int,
    rivals: Sequence[tuple[int, int]] = (),
    reach: int = 8,
) -> Array:
    """Mark the cells of the lesion round a peak; at least the peak's own cell.

    Cells nearer to one of `rivals` (row, column) are theirs: lesions that face each other across a
    contact touch on the map.
    """
    top, left = max(row - reach, 0), max(column - reach, 0)
    part = outline[top : row + reach + 1, left : column + reach + 1] > 0.5
    ys, xs = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    own = np.hypot(ys - row, xs - column)
    for other in rivals:
        if max(abs(other[0] - row), abs(other[1] - column)) <= 2 * reach:
            part &= np.hypot(ys - other[0], xs - other[1]) >= own
    inside = part.astype(np.uint8)
    inside[row - top, column - left] = 1
    _, parts = cv2.connectedComponents(inside, connectivity=8)
    mask: Array = np.zeros(outline.shape, bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = (
        parts == parts[row - top, column - left]
    )
    return mask


def _owner(
    classes: Array, seen: Sequence[Seen], mask: Array, row: int, column: int
) -> tuple[Seen | None, str]:
    """Tell which tooth a lesion sits on and at which side in the image."""
    x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
    share = classes[:, mask].mean(axis=1)
    best: tuple[float, Seen] | None = None
    for one in seen:
        x0, y0, x1, y1 = one.box
        if x0 - 2 * CELL <= x <= x1 + 2 * CELL and y0 - 2 * CELL <= y <= y1 + 2 * CELL:
            score = float(share[1 + TEETH.index(one.tooth)])
            score += 0.05 * (x0 <= x <= x1)
            if best is None or score > best[0]:
                best = (score, one)
    if best is None:
        return None, ""
    return best[1], side_of(best[1], (x, y))


def side_of(one: Seen, point: Point) -> str:
    """Tell at which side of a tooth's middle a canvas point lies; necks count before the box."""
    ends = [
        one.points[("cej", side)][0] for side in ("left", "right") if ("cej", side) in one.points
    ]
    if len(ends) == 2 and ends[1][0] - ends[0][0] > 2 * CELL:
        middle = (ends[0][0] + ends[1][0]) / 2
    else:
        middle = (one.box[0] + one.box[2]) / 2
    return "left" if point[0] < middle else "right"


def _outline(outline: Array, mask: Array, canvas: Canvas) -> Polygon | None:
    """Draw round the lesion's part of the outline map; None when there is nothing to draw."""
    pad = np.where(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, outline, 0)
    ring = next(iter(rings(pad)), None)
    if ring is None or len(ring) < 3:
        return None
    if cv2.contourArea(ring.astype(np.float32)) < _LEAST_AREA_PX:
        return None
    points = [canvas.to_film((float(x), float(y))) for x, y in ring]
    return Polygon(tuple(points[:500]))
