"""Bitewings and periapicals: numbered teeth, bone level at each side, proximal caries.

One dense network on the film fitted into a canvas of 512 × 384 pixels, either way up. It predicts
tooth centres with boxes and numbers (as for panoramics), the cemento-enamel junction (CEJ), the
crest and the apex at both sides of every tooth, and proximal caries as centres, outlines and
depth. Numbers keep the order of the arch; a bitewing shows one side, a periapical one jaw. Trained
on synthetic films only: limits and figures are in models/cards/intraoral.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch.nn import functional

from models import arch, panoramic
from models.backbone import DenseNet
from models.geometry import Canvas, crest_distance, neck_scale_mm
from models.intraoral_reading import IntraoralReading
from models.panoramic import CELL, TEETH, Peak
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import (
    BoneSite,
    CariesDepth,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Point,
    Polygon,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError

#: Channels of the point maps: each point at the tooth's left, then right side in the image.
POINTS = ("cej", "crest", "apex")
SIDES = ("left", "right")
#: Depths the ordinal head tells apart; its logits say "deeper than" for all but the last.
DEPTHS = (CariesDepth.E1, CariesDepth.E2, CariesDepth.D1, CariesDepth.D2, CariesDepth.D3)
HEADS = {
    "centre": 2,
    "box": 4,
    "tooth": 1 + len(TEETH),
    "points": len(POINTS) * len(SIDES),
    "offsets": 2 * len(POINTS) * len(SIDES),
    "caries": 1,
    "outline": 1,
    "depth": len(DEPTHS) - 1,
}
#: What is frozen in the weights, in this order.
THRESHOLDS = ("tooth", "point", "caries", "level_mm")
#: The normal distance from the CEJ to the crest, taken off before a percentage is formed.
#: Source: biologic width as used with the 2018 AAP/EFP staging; see the card.
NORMAL_MM = 2.0

_SAME_TOOTH_IOU = 0.6
_CARIES_FLOOR = 0.02
#: How far from where its tooth expects it a point may lie, cells up or down and sideways.
_SEARCH_CELLS = (14, 3)
#: A lesion smaller than this many square canvas pixels cannot be drawn.
_LEAST_AREA_PX = 6.0
_MAX_LESIONS = 40

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Level:
    """Bone level at one side, reported or not; ``loss_mm`` rests on tooth size without spacing."""

    finding: Finding
    loss_mm: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the network sees on a film, before the frozen thresholds of caries and bone."""

    teeth: tuple[ToothMark, ...]
    caries: tuple[Finding, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A numbered tooth on the canvas; points by (name, side), with their heat."""

    tooth: Tooth
    peak: Peak
    probability: float
    points: dict[tuple[str, str], tuple[Point, float]]


@dataclass(frozen=True, slots=True)
class IntraoralModel:
    """The network for bitewings and periapicals with its frozen thresholds."""

    net: DenseNet
    thresholds: dict[str, float]
    version: ModelVersion
    settings: Settings = NO_SETTINGS

    @classmethod
    def from_state(
        cls, state: dict[str, torch.Tensor], version: ModelVersion, settings: Settings = NO_SETTINGS
    ) -> IntraoralModel:
        """Build from a state dict with ``thresholds`` (see :data:`THRESHOLDS`).

        Raises ConfigError when the state dict is of another architecture.
        """
        net, numbers = panoramic.build(state, HEADS)
        if len(numbers) != len(THRESHOLDS):
            raise ConfigError("the intraoral weights carry other thresholds than this program's")
        thresholds = dict(zip(THRESHOLDS, map(float, numbers), strict=True))
        return cls(net, thresholds, version, settings)

    def analyse(self, image: Array, view: View, spacing: Spacing) -> IntraoralReading:
        """Find teeth, caries and lowered bone on `image` (rows, cols), 0..1, metal bright.

        Bone level is reported from the frozen level upwards only, so that healthy sites do not
        hide what matters. Coordinates are pixels of `image`.
        """
        reading = self.read(image, view, spacing)
        caries = []
        for lesion in reading.caries:
            chance = self.settings.suggested(
                lesion.kind, lesion.probability or 0.0, self.thresholds["caries"]
            )
            if chance is not None:
                caries.append(replace(lesion, probability=chance))
        lowered = [x.finding for x in reading.levels if x.loss_mm >= self.thresholds["level_mm"]]
        return IntraoralReading(
            teeth=reading.teeth,
            findings=tuple(caries) + tuple(lowered),
            sites=tuple(_site(level.finding) for level in reading.levels),
        )

    def read(self, image: Array, view: View, spacing: Spacing) -> Reading:
        """Give all that is seen, also what stays below the thresholds of caries and bone."""
        canvas = Canvas.fit(image.shape[0], image.shape[1], spacing)
        maps = run(self.net, stretch(canvas.place(image)))
        seen = decode(maps, view, self.thresholds["tooth"], self.thresholds["point"])
        marks = []
        for one in seen:
            box = canvas.box(one.peak.box)
            if box is not None:
                marks.append(ToothMark(one.tooth, box, one.probability, self.version))
        return Reading(
            tuple(marks),
            tuple(self._caries(maps, seen, canvas)),
            tuple(self._levels(seen, canvas, view, spacing)),
        )

    def _caries(
        self, maps: dict[str, Array], seen: Sequence[_Seen], canvas: Canvas
    ) -> list[Finding]:
        """Draw the strongest lesion of each surface; what has no outline or tooth is noise."""
        found: dict[tuple[Tooth, str], Finding] = {}
        for row, column, score in lesion_peaks(maps["caries"][0]):
            mask = lesion_mask(maps["outline"][0], row, column)
            owner, side = _owner(maps["tooth"], seen, mask, row, column)
            shape = _shape(maps["outline"][0], mask, canvas)
            if owner is None or shape is None or (owner.tooth, side) in found:
                continue
            found[(owner.tooth, side)] = Finding(
                FindingKind.CARIES,
                shape,
                owner.tooth,
                (surface_at(owner.tooth, side),),
                depth=_depth(maps["depth"], mask),
                probability=score,
                model=self.version,
            )
        return list(found.values())

    def _levels(
        self, seen: Sequence[_Seen], canvas: Canvas, view: View, spacing: Spacing
    ) -> list[Level]:
        on_film = [
            {key: (canvas.to_film(p), heat) for key, (p, heat) in one.points.items()}
            for one in seen
        ]
        mm = (spacing.mm_row, spacing.mm_col) if spacing.is_known else None
        if mm is None:
            widths = [
                (one.tooth, points[("cej", "left")][0], points[("cej", "right")][0])
                for one, points in zip(seen, on_film, strict=True)
                if ("cej", "left") in points and ("cej", "right") in points
            ]
            estimate = neck_scale_mm(widths)
            if estimate is None:
                return []
            scale = (estimate, estimate)
        else:
            scale = mm
        levels = []
        for one, points in zip(seen, on_film, strict=True):
            for side in SIDES:
                level = _level(one.tooth, side, points, view, scale, mm is not None, self.version)
                if level is not None:
                    levels.append(level)
        return levels


def _site(finding: Finding) -> BoneSite:
    cej, crest = finding.geometry.points
    assert finding.tooth is not None
    return BoneSite(
        tooth=finding.tooth,
        surface=finding.surfaces[0],
        cej=cej,
        crest=crest,
        apex=None,
        level_mm=finding.value_mm,
        percent=finding.value_percent,
        probability=finding.probability or 0.0,
    )


def stretch(placed: Array) -> Array:
    """Stretch the grey range of a canvas to 0..1 between its 0.5th and 99.5th percentile."""
    low, high = np.percentile(placed, (0.5, 99.5))
    stretched: Array = np.clip((placed - low) / max(high - low, 1e-3), 0.0, 1.0)
    return stretched.astype(np.float32)


def run(net: DenseNet, pixels: Array) -> dict[str, Array]:
    """Run `net` on one canvas; centre, points, caries, outline and depth come as probabilities."""
    maps = panoramic.run(net, pixels)
    for name in ("points", "caries", "outline", "depth"):
        maps[name] = 1.0 / (1.0 + np.exp(-np.clip(maps[name], -30, 30)))
    classes = np.exp(maps["tooth"] - maps["tooth"].max(axis=0, keepdims=True))
    maps["tooth"] = classes / classes.sum(axis=0, keepdims=True)
    return maps


def surface_at(tooth: Tooth, side: str) -> Surface:
    """Name the proximal surface at the left or right side in the image."""
    is_mesial = (side == "right") == tooth.is_patient_right
    return Surface.MESIAL if is_mesial else Surface.DISTAL


def decode(
    maps: dict[str, Array], view: View, least: float = 0.1, least_point: float = 0.1
) -> list[_Seen]:
    """Turn the maps into numbered teeth with their points, on the canvas.

    Teeth below `least` probability and points below `least_point` heat are left out.
    """
    found = panoramic.peaks(maps, 0.1, _SAME_TOOTH_IOU)
    options = []
    for part in _parts(view):
        teeth: list[tuple[Tooth, Peak, float]] = []
        for jaw, first, last in part:
            row = [p for p in found if p.channel == jaw]
            teeth += _number(maps["tooth"], row, jaw, first, last)
        options.append(teeth)
    best = max(options, key=lambda teeth: sum(p for _, _, p in teeth))
    return [
        _Seen(tooth, peak, probability, _points(maps, peak, least_point))
        for tooth, peak, probability in best
        if probability >= least
    ]


def _parts(view: View) -> list[list[tuple[int, int, int]]]:
    """List what a film may show, as (jaw, first, last) places in the arches."""
    if view is View.BITEWING:
        return [[(0, 0, 8), (1, 0, 8)], [(0, 8, 16), (1, 8, 16)]]
    return [[(0, 0, 16)], [(1, 0, 16)]]


def _number(
    classes: Array, row: Sequence[Peak], jaw: int, first: int, last: int
) -> list[tuple[Tooth, Peak, float]]:
    row = sorted(row, key=lambda p: p.box[0] + p.box[2])
    if not row:
        return []
    start = 1 + 16 * jaw
    labels = np.stack([_posterior(classes, peak) for peak in row])[:, start : start + 16]
    labels = labels / np.maximum(labels.sum(axis=1, keepdims=True), 1e-9)
    joint = labels[:, first:last] * np.array([[peak.score] for peak in row])
    chosen = arch.number(np.log(np.maximum(joint, 1e-12)))
    return [
        (
            TEETH[16 * jaw + first + label],
            peak,
            min(1.0, float(np.sqrt(peak.score * joint[index, label]))),
        )
        for index, (peak, label) in enumerate(zip(row, chosen, strict=True))
        if label is not None
    ]


def _posterior(classes: Array, peak: Peak) -> Array:
    """Average the class probabilities of the cells in the middle of a peak's box."""
    half_w = (peak.box[2] - peak.box[0]) / CELL * 0.2
    half_h = (peak.box[3] - peak.box[1]) / CELL * 0.2
    rows = slice(max(int(peak.row - half_h), 0), int(peak.row + half_h) + 1)
    cols = slice(max(int(peak.column - half_w), 0), int(peak.column + half_w) + 1)
    mean: Array = classes[:, rows, cols].reshape(classes.shape[0], -1).mean(axis=1)
    return mean


def _points(
    maps: dict[str, Array], peak: Peak, least: float
) -> dict[tuple[str, str], tuple[Point, float]]:
    """Look for each point of a tooth near where its centre says it is."""
    guess = maps["offsets"][:, peak.row, peak.column] * panoramic.BOX_UNIT
    found = {}
    for index, name in enumerate(POINTS):
        for number, side in enumerate(SIDES):
            channel = index * len(SIDES) + number
            x = (peak.column + 0.5) * CELL + float(guess[2 * channel])
            y = (peak.row + 0.5) * CELL + float(guess[2 * channel + 1])
            hit = _nearby(maps["points"][channel], x / CELL, y / CELL)
            if hit is not None and hit[1] >= least:
                found[(name, side)] = hit
    return found


def _nearby(heat: Array, x: float, y: float) -> tuple[Point, float] | None:
    """Find the warmest cell near (x, y) cells and the centre of its warmth, in canvas pixels."""
    row, col = int(np.floor(y)), int(np.floor(x))
    down, side = _SEARCH_CELLS
    top, left = max(row - down, 0), max(col - side, 0)
    window = heat[top : max(row + down + 1, 0), left : max(col + side + 1, 0)]
    if window.size == 0:
        return None
    at = int(np.argmax(window))
    r, c = top + at // window.shape[1], left + at % window.shape[1]
    rows, cols = slice(max(r - 1, 0), r + 2), slice(max(c - 1, 0), c + 2)
    part = heat[rows, cols]
    ys, xs = np.mgrid[
        rows.start : rows.start + part.shape[0], cols.start : cols.start + part.shape[1]
    ]
    weight = part / max(float(part.sum()), 1e-9)
    centre = (float(((xs + 0.5) * weight).sum()) * CELL, float(((ys + 0.5) * weight).sum()) * CELL)
    return centre, float(heat[r, c])


def lesion_peaks(heat: Array, floor: float = _CARIES_FLOOR) -> list[tuple[int, int, float]]:
    """Give local maxima of the caries map as (row, column, score), best first."""
    top = functional.max_pool2d(torch.from_numpy(heat)[None, None], 3, stride=1, padding=1)
    where = np.argwhere((heat == top[0, 0].numpy()) & (heat > floor))
    scored = [(int(r), int(c), float(heat[r, c])) for r, c in where]
    return sorted(scored, key=lambda p: (-p[2], p[0], p[1]))[:_MAX_LESIONS]


def lesion_mask(outline: Array, row: int, column: int, reach: int = 8) -> Array:
    """Mark the cells of the lesion round a peak; at least the peak's own cell."""
    window = np.zeros(outline.shape, np.uint8)
    window[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = 1
    inside = ((outline > 0.5) & (window > 0)).astype(np.uint8)
    inside[row, column] = 1
    _, parts = cv2.connectedComponents(inside, connectivity=8)
    mask: Array = parts == parts[row, column]
    return mask


def _owner(
    classes: Array, seen: Sequence[_Seen], mask: Array, row: int, column: int
) -> tuple[_Seen | None, str]:
    """Tell which tooth a lesion sits on and at which side in the image."""
    x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
    share = classes[:, mask].mean(axis=1)
    best: tuple[float, _Seen] | None = None
    for one in seen:
        x0, y0, x1, y1 = one.peak.box
        if x0 - 2 * CELL <= x <= x1 + 2 * CELL and y0 - 2 * CELL <= y <= y1 + 2 * CELL:
            score = float(share[1 + TEETH.index(one.tooth)])
            score += 0.05 * (x0 <= x <= x1)
            if best is None or score > best[0]:
                best = (score, one)
    if best is None:
        return None, ""
    middle = (best[1].peak.box[0] + best[1].peak.box[2]) / 2
    return best[1], "left" if x < middle else "right"


def _shape(outline: Array, mask: Array, canvas: Canvas) -> Polygon | None:
    """Draw round the lesion's part of the outline map; None when there is nothing to draw."""
    pad = np.where(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, outline, 0)
    size = (outline.shape[1] * CELL, outline.shape[0] * CELL)
    fine = cv2.resize(pad.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    rings, _ = cv2.findContours(
        (fine > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    ring = max(rings, key=cv2.contourArea, default=None)
    if ring is None or cv2.contourArea(ring) < _LEAST_AREA_PX:
        return None
    smooth = cv2.approxPolyDP(ring, 0.7, True)[:, 0, :].astype(float) + 0.5
    points = [canvas.to_film((float(x), float(y))) for x, y in smooth]
    return Polygon(tuple(points[:500])) if len(points) >= 3 else None


def _depth(deeper: Array, mask: Array) -> CariesDepth:
    """Read the ordinal head over a lesion's cells."""
    return DEPTHS[int((deeper[:, mask].mean(axis=1) > 0.5).sum())]


def _level(
    tooth: Tooth,
    side: str,
    points: dict[tuple[str, str], tuple[Point, float]],
    view: View,
    scale: tuple[float, float],
    is_calibrated: bool,
    version: ModelVersion,
) -> Level | None:
    """Measure one side of one tooth; None unless both the CEJ and the crest are seen."""
    cej, crest = points.get(("cej", side)), points.get(("crest", side))
    if cej is None or crest is None or cej[0] == crest[0]:
        return None
    ends = [points[("cej", s)][0] for s in SIDES if ("cej", s) in points]
    across = (ends[0], ends[1]) if len(ends) == 2 else None
    loss = crest_distance(cej[0], crest[0], across, scale)
    percent = None
    apex = points.get(("apex", side))
    if view is View.PERIAPICAL and apex is not None:
        root = crest_distance(cej[0], apex[0], across, scale)
        if root > 2 * NORMAL_MM:
            percent = min(100.0, 100 * max(0.0, loss - NORMAL_MM) / (root - NORMAL_MM))
    finding = Finding(
        FindingKind.BONE_LEVEL,
        Line((cej[0], crest[0])),
        tooth,
        (surface_at(tooth, side),),
        value_mm=round(loss, 2) if is_calibrated and loss < 100 else None,
        value_percent=None if percent is None else round(percent, 1),
        probability=min(1.0, float(np.sqrt(cej[1] * crest[1]))),
        model=version,
    )
    return Level(finding, loss)
