"""Bone level at both sides of each tooth: measured sites, and what among them is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.geometry import ROOT_MM, Canvas, angular_depth, crest_distance, neck_scale_mm
from models.intraoral_maps import SIDES, Seen, surface_at
from node.domain.findings import BoneSite, Point, Spacing
from node.domain.teeth import Surface, Tooth

#: The normal distance from the CEJ to the crest, taken off before a percentage is formed.
#: Source: biologic width as used with the 2018 AAP/EFP staging; see the card.
NORMAL_MM = 2.0
#: A root may differ from its average length by this factor; beyond, the apex is not believed.
_ROOT_RANGE = (0.55, 1.6)
#: How sharply the score of a lowered site rises round the normal distance, mm.
_SOFT_MM = 0.4

#: The quadrant on the other side of the midline.
_ACROSS = {1: 2, 2: 1, 3: 4, 4: 3}

Places = Mapping[tuple[str, str], tuple[Point, float]]


@dataclass(frozen=True, slots=True)
class Level:
    """One measured side of a tooth; ``loss_mm`` rests on tooth size without spacing.

    ``score`` says how sure the network is of both points, 0..1.
    """

    tooth: Tooth
    side: str
    cej: Point
    crest: Point
    apex: Point | None
    loss_mm: float
    root_mm: float | None
    is_calibrated: bool
    score: float

    @property
    def surface(self) -> Surface:
        """The surface this side is."""
        return surface_at(self.tooth, self.side)

    @property
    def percent(self) -> float | None:
        """The loss beyond normal as percent of the root beyond normal."""
        if self.root_mm is None or self.root_mm <= 2 * NORMAL_MM:
            return None
        share = 100 * max(0.0, self.loss_mm - NORMAL_MM) / (self.root_mm - NORMAL_MM)
        return round(min(100.0, share), 1)

    @property
    def lowered(self) -> float:
        """How likely the bone is lowered, as a score: sure points, and a loss beyond normal."""
        beyond = (self.loss_mm - NORMAL_MM) / _SOFT_MM
        return float(self.score / (1.0 + np.exp(-np.clip(beyond, -30, 30))))

    def site(self, probability: float) -> BoneSite:
        """Give the site as it is kept; `probability` is the calibrated score."""
        is_told = self.is_calibrated and self.loss_mm < 100
        return BoneSite(
            tooth=self.tooth,
            surface=self.surface,
            cej=self.cej,
            crest=self.crest,
            apex=self.apex,
            level_mm=round(self.loss_mm, 2) if is_told else None,
            percent=self.percent,
            probability=probability,
        )


def places(
    seen: Sequence[Seen], canvas: Canvas
) -> list[dict[tuple[str, str], tuple[Point, float]]]:
    """Give the points of each tooth in film pixels; what is off the film is left out."""
    return [
        {
            key: (canvas.to_film(point), heat)
            for key, (point, heat) in one.points.items()
            if canvas.covers(point)
        }
        for one in seen
    ]


def scale_of(
    seen: Sequence[Seen], on_film: Sequence[Places], spacing: Spacing
) -> tuple[float, float] | None:
    """Give (row, column) mm per pixel; estimated from neck widths without a spacing."""
    if spacing.is_known:
        return spacing.mm_row, spacing.mm_col
    widths = [
        (one.tooth, points[("cej", "left")][0], points[("cej", "right")][0])
        for one, points in zip(seen, on_film, strict=True)
        if ("cej", "left") in points and ("cej", "right") in points
    ]
    estimate = neck_scale_mm(widths)
    return None if estimate is None else (estimate, estimate)


def levels(
    seen: Sequence[Seen],
    on_film: Sequence[Places],
    scale: tuple[float, float] | None,
    is_calibrated: bool,
) -> list[Level]:
    """Measure every side whose CEJ and crest are seen."""
    if scale is None:
        return []
    found = []
    for one, points in zip(seen, on_film, strict=True):
        for side in SIDES:
            level = _level(one.tooth, side, points, scale, is_calibrated)
            if level is not None:
                found.append(level)
    return found


def _level(
    tooth: Tooth, side: str, points: Places, scale: tuple[float, float], is_calibrated: bool
) -> Level | None:
    cej, crest = points.get(("cej", side)), points.get(("crest", side))
    if cej is None or crest is None or cej[0] == crest[0]:
        return None
    ends = [points[("cej", s)][0] for s in SIDES if ("cej", s) in points]
    across = (ends[0], ends[1]) if len(ends) == 2 else None
    loss = crest_distance(cej[0], crest[0], across, scale)
    apex, root = _apex(tooth, cej[0], points.get(("apex", side)), across, scale)
    score = min(1.0, float(np.sqrt(cej[1] * crest[1])))
    return Level(tooth, side, cej[0], crest[0], apex, loss, root, is_calibrated, score)


def _apex(
    tooth: Tooth,
    cej: Point,
    apex: tuple[Point, float] | None,
    across: tuple[Point, Point] | None,
    scale: tuple[float, float],
) -> tuple[Point | None, float | None]:
    """Give the apex and the root's length, or nothing when no such root exists."""
    if apex is None:
        return None, None
    root = crest_distance(cej, apex[0], across, scale)
    usual = ROOT_MM[tooth.arch][tooth.position - 1]
    if not _ROOT_RANGE[0] * usual <= root <= _ROOT_RANGE[1] * usual:
        return None, None
    return apex[0], root


def facing(found: Sequence[Level]) -> list[tuple[Level, Level]]:
    """Pair the sides of neighbours that face each other across one crest."""
    pairs = []
    at = {(level.tooth, level.surface): level for level in found}
    for level in found:
        other = at.get(opposite(level.tooth, level.surface))
        if other is not None and level.side == "right":
            pairs.append((level, other))
    return pairs


def opposite(tooth: Tooth, surface: Surface) -> tuple[Tooth, Surface]:
    """Name the surface that a proximal surface faces; a third molar's distal faces itself."""
    if surface is Surface.DISTAL:
        if tooth.position == 8:
            return tooth, surface
        return Tooth(f"{tooth.quadrant}{tooth.position + 1}"), Surface.MESIAL
    if tooth.position == 1:
        return Tooth(f"{_ACROSS[tooth.quadrant]}1"), Surface.MESIAL
    return Tooth(f"{tooth.quadrant}{tooth.position - 1}"), Surface.DISTAL


def angular(
    found: Sequence[Level], scale: tuple[float, float]
) -> dict[tuple[Tooth, Surface], float]:
    """Measure at each side how far its crest lies below the parallel to the CEJs, mm."""
    depths = {}
    for one, other in facing(found):
        depth = angular_depth((one.cej, one.crest), (other.cej, other.crest), scale)
        deeper = one if depth >= 0 else other
        depths[(deeper.tooth, deeper.surface)] = abs(depth)
    return depths
