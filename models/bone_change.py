"""Change of the bone level between two films of one site, once the tooth is laid over itself.

Pure arithmetic, so that whoever has the points and the transform can measure; finding the transform
is :mod:`models.change`. Coordinates are pixels (x, y) of each film, origin at the top-left corner
of the top-left pixel; lengths are mm on the detector plane, magnification not corrected.

Sources: two measures with a mean error of 0.31-0.35 mm each give σ ≈ 0.4 mm each and 1.1 mm as the
95 % smallest detectable change (clearance summary K210187, computed); never below 1.0 mm or 7 % of
the root.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.domain.findings import BoneSite, Box, Point, Spacing
from node.domain.teeth import Arch, Surface, Tooth

Affine = tuple[float, float, float, float, float, float]

#: 95 % smallest detectable change of one site's level, mm: two measures of σ ≈ 0.4 mm each.
SMALLEST_MM = 1.1
#: Nor is less than this share of the root's length ever called a change.
SMALLEST_ROOT_SHARE = 0.07
#: Two ways to measure one change may differ by this, mm; else neither is believed.
_MOST_DISAGREEMENT_MM = 1.0


@dataclass(frozen=True, slots=True)
class ToothOnFilm:
    """Where a tooth lies on a film; points by side of the tooth."""

    tooth: Tooth
    box: Box
    cej: Mapping[Surface, Point] = field(default_factory=dict)
    apex: Mapping[Surface, Point] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alignment:
    """A tooth's affine transform (2×3, row by row) from prior to current pixels, and its worth.

    `correlation` is −1..1; `residual_mm` None without a spacing.
    """

    tooth: Tooth
    transform: Affine
    correlation: float
    residual_mm: float | None
    is_usable: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """Bone level now minus before at one site, with its 95 % half width and what counts, mm."""

    delta_mm: float
    uncertainty_mm: float
    smallest_mm: float

    @property
    def is_measurable(self) -> bool:
        """Whether it exceeds what two measures of an unchanged site would show."""
        return abs(self.delta_mm) >= self.smallest_mm


def move(transform: Affine, point: Point) -> Point:
    """Move a point of the prior film to the current one."""
    a, b, c, d, e, f = transform
    return a * point[0] + b * point[1] + c, d * point[0] + e * point[1] + f


def level_change(
    now: BoneSite, before: BoneSite, alignment: Alignment, spacing: Spacing, axis: Point
) -> LevelChange | str:
    """Measure how far the crest moved towards the apex between two films of one site.

    Both levels are in mm on their own films; the prior crest, moved onto the current film, gives a
    second measure along `axis` (current pixels, from the CEJ towards the apex). Their mean counts;
    where they disagree the answer is the reason, in words. The root's length is taken where seen.
    """
    if now.level_mm is None or before.level_mm is None or not spacing.is_known:
        return "no trusted pixel spacing on both films"
    by_levels = now.level_mm - before.level_mm
    crest = move(alignment.transform, before.crest)
    by_pixels = _along((now.crest[0] - crest[0], now.crest[1] - crest[1]), axis, spacing)
    if abs(by_levels - by_pixels) > _MOST_DISAGREEMENT_MM:
        return (
            f"two ways to measure it differ by {abs(by_levels - by_pixels):.1f} mm "
            "(levels on each film, and the crests laid over each other)"
        )
    smallest = SMALLEST_MM
    if now.apex is not None:
        root = (now.apex[0] - now.cej[0], now.apex[1] - now.cej[1])
        smallest = max(smallest, SMALLEST_ROOT_SHARE * abs(_along(root, axis, spacing)))
    return LevelChange((by_levels + by_pixels) / 2, SMALLEST_MM, smallest)


def changed_strip(
    one: ToothOnFilm, now: BoneSite, before: BoneSite, spacing: Spacing
) -> tuple[Point, ...]:
    """Outline the strip beside the tooth that bone must have left, or filled, on the current film.

    From the crest now to where it was by the two levels, 0.2 to 1.0 mm away from the root. Empty
    without millimetres or when the levels differ by less than could be called a change.
    """
    if now.level_mm is None or before.level_mm is None or not spacing.is_known:
        return ()
    step = now.level_mm - before.level_mm
    if abs(step) < SMALLEST_MM - _MOST_DISAGREEMENT_MM / 2:
        return ()
    scale = math.sqrt(spacing.mm_row * spacing.mm_col)
    ax, ay = tooth_axis(one, now.surface)
    ox, oy = _outward(one, now.surface, (ax, ay))
    x, y = now.crest
    near, far, along = 0.2 / scale, 1.0 / scale, step / scale
    return (
        (x + near * ox, y + near * oy),
        (x + far * ox, y + far * oy),
        (x + far * ox - along * ax, y + far * oy - along * ay),
        (x + near * ox - along * ax, y + near * oy - along * ay),
    )


def _outward(one: ToothOnFilm, surface: Surface, axis: Point) -> Point:
    """Give the direction away from the tooth at one side, at right angles to its axis."""
    side = (-axis[1], axis[0])
    middle = ((one.box.x0 + one.box.x1) / 2, (one.box.y0 + one.box.y1) / 2)
    here = one.cej.get(surface, middle)
    other = next((p for name, p in one.cej.items() if name is not surface), middle)
    towards = (here[0] - other[0]) * side[0] + (here[1] - other[1]) * side[1]
    return side if towards >= 0 else (-side[0], -side[1])


def tooth_axis(one: ToothOnFilm, surface: Surface) -> Point:
    """Give the direction from crown to apex on a film, of length 1.

    From the CEJ to the apex of that side; else at right angles to the line of both CEJs; else
    straight up for upper teeth and down for lower ones.
    """
    upward = one.tooth.arch is Arch.UPPER
    guess = (0.0, -1.0 if upward else 1.0)
    cej, apex = one.cej.get(surface), one.apex.get(surface)
    if cej is not None and apex is not None and math.dist(cej, apex) > 1:
        length = math.dist(cej, apex)
        return (apex[0] - cej[0]) / length, (apex[1] - cej[1]) / length
    ends = list(one.cej.values())
    if len(ends) == 2 and (length := math.dist(*ends)) > 1:
        across = ((ends[1][0] - ends[0][0]) / length, (ends[1][1] - ends[0][1]) / length)
        normal = (-across[1], across[0])
        same = normal[0] * guess[0] + normal[1] * guess[1] >= 0
        return normal if same else (-normal[0], -normal[1])
    return guess


def _along(step: Point, axis: Point, spacing: Spacing) -> float:
    """Give the part of a step along a direction, in mm."""
    ax, ay = axis[0] * spacing.mm_col, axis[1] * spacing.mm_row
    length = math.hypot(ax, ay)
    return (step[0] * spacing.mm_col * ax + step[1] * spacing.mm_row * ay) / max(length, 1e-9)
