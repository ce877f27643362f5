"""The intraoral network's maps, and the numbered teeth with their points read off them.

All places here are those of the network's canvas (:class:`models.geometry.Canvas`): pixels as
(x, y), cells of the maps as (row, column), a cell being :data:`CELL` pixels wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models import arch, panoramic
from models.backbone import DenseNet
from models.panoramic import CELL, TEETH, Peak
from node.domain.findings import FindingKind, Point, View
from node.domain.teeth import Surface, Tooth

#: Channels of the point maps: each point at the tooth's left, then right side in the image.
POINTS = ("cej", "crest", "apex")
SIDES = ("left", "right")
#: Steps of the ordinal depth head: "deeper than E1" … "deeper than D3".
DEPTH_STEPS = 5

_K = FindingKind
#: Things found by centre and box: name, kind of finding, and which of four box heads it uses.
#: Things that share a box head are seldom found in one place.
MARKS: tuple[tuple[str, FindingKind, int], ...] = (
    ("restoration", _K.RESTORATION, 0),
    ("crown", _K.CROWN, 0),
    ("implant", _K.IMPLANT, 0),
    ("root_remnant", _K.ROOT_REMNANT, 0),
    ("impacted_tooth", _K.IMPACTED_TOOTH, 0),
    ("root_filling", _K.ROOT_FILLING, 1),
    ("periapical_radiolucency", _K.PERIAPICAL_RADIOLUCENCY, 1),
    ("furcation", _K.FURCATION, 1),
    ("angular_defect", _K.ANGULAR_DEFECT, 2),
    ("recurrent_caries", _K.RECURRENT_CARIES, 2),
    ("occlusal_caries", _K.CARIES, 2),
    ("root_caries", _K.CARIES, 2),
    ("post", _K.POST, 3),
    ("calculus", _K.CALCULUS, 3),
    ("defective_margin", _K.DEFECTIVE_MARGIN, 3),
)
MARK_NAMES = tuple(name for name, _, _ in MARKS)
BOX_HEADS = 4

HEADS = {
    "centre": 2,
    "box": 4,
    "tooth": 1 + len(TEETH),
    "points": len(POINTS) * len(SIDES),
    "offsets": 2 * len(POINTS) * len(SIDES),
    "caries": 1,
    "outline": 1,
    "depth": DEPTH_STEPS,
    "overlap": 1,
    "marks": len(MARKS),
    "mark_box": 4 * BOX_HEADS,
}
_AS_PROBABILITY = ("points", "caries", "outline", "depth", "overlap", "marks")

_SAME_TOOTH_IOU = 0.6
_LEAST_CENTRE = 0.1
#: How far from where its tooth expects it a point may lie, cells up or down and sideways.
_SEARCH_CELLS = (14, 3)
#: What one tooth too many or too few between two neighbours costs, in natural logarithms.
_GAP_COST = 2.0

Array = np.ndarray
BoxPx = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """A numbered tooth on the canvas; points by (name, side), with their heat."""

    tooth: Tooth
    peak: Peak
    probability: float
    points: dict[tuple[str, str], tuple[Point, float]]

    @property
    def box(self) -> BoxPx:
        """The tooth's box, canvas pixels."""
        return self.peak.box

    @property
    def is_upper(self) -> bool:
        """Whether the tooth stands in the upper jaw."""
        return self.peak.channel == 0


def stretch(placed: Array) -> Array:
    """Stretch the grey range of a canvas to 0..1 between its 0.5th and 99.5th percentile."""
    low, high = np.percentile(placed, (0.5, 99.5))
    stretched: Array = np.clip((placed - low) / max(high - low, 1e-3), 0.0, 1.0)
    return stretched.astype(np.float32)


def run(net: DenseNet, pixels: Array) -> dict[str, Array]:
    """Run `net` on one canvas and on its mirror image, and average what both say.

    All maps but boxes and offsets come as probabilities.
    """
    straight = _run(net, pixels)
    other = mirrored(_run(net, np.ascontiguousarray(pixels[:, ::-1])))
    return {name: (map_ + other[name]) / 2 for name, map_ in straight.items()}


def _run(net: DenseNet, pixels: Array) -> dict[str, Array]:
    maps = panoramic.run(net, pixels)
    for name in _AS_PROBABILITY:
        maps[name] = 1.0 / (1.0 + np.exp(-np.clip(maps[name], -30, 30)))
    classes = np.exp(maps["tooth"] - maps["tooth"].max(axis=0, keepdims=True))
    maps["tooth"] = classes / classes.sum(axis=0, keepdims=True)
    return maps


def mirrored(maps: dict[str, Array]) -> dict[str, Array]:
    """Give the maps of the mirror image: places, sides and numbers change over."""
    jaw = len(TEETH) // 2
    numbers = [0, *range(jaw, 0, -1), *range(2 * jaw, jaw, -1)]
    sides = [channel ^ 1 for channel in range(HEADS["points"])]
    steps = [2 * channel + axis for channel in sides for axis in (0, 1)]
    edges = [4 * head + edge for head in range(BOX_HEADS) for edge in (2, 1, 0, 3)]
    order = {"tooth": numbers, "points": sides, "offsets": steps, "mark_box": edges}
    order["box"] = edges[:4]
    result = {}
    for name, map_ in maps.items():
        flipped = map_[:, :, ::-1]
        result[name] = flipped[order[name]] if name in order else flipped.copy()
    result["offsets"][0::2] *= -1
    return result


def surface_at(tooth: Tooth, side: str) -> Surface:
    """Name the proximal surface at the left or right side in the image."""
    is_mesial = (side == "right") == tooth.is_patient_right
    return Surface.MESIAL if is_mesial else Surface.DISTAL


def decode(
    maps: dict[str, Array], view: View, least: float = 0.1, least_point: float = 0.1
) -> list[Seen]:
    """Turn the maps into numbered teeth with their points, on the canvas.

    Teeth below `least` probability and points below `least_point` heat are left out.
    """
    found = panoramic.peaks(maps, _LEAST_CENTRE, _SAME_TOOTH_IOU)
    options = []
    for part in _parts(view):
        teeth: list[tuple[Tooth, Peak, float]] = []
        for jaw, first, last in part:
            row = [p for p in found if p.channel == jaw]
            teeth += _number(maps["tooth"], row, jaw, first, last)
        options.append(teeth)
    best = max(options, key=lambda teeth: sum(p for _, _, p in teeth))
    return [
        Seen(tooth, peak, probability, _points(maps, peak, least_point))
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
    chosen = arch.number_spaced(
        np.log(np.maximum(joint, 1e-6)), missing_between([p.box for p in row]), _GAP_COST
    )
    return [
        (
            TEETH[16 * jaw + first + label],
            peak,
            min(1.0, float(np.sqrt(peak.score * joint[index, label]))),
        )
        for index, (peak, label) in enumerate(zip(row, chosen, strict=True))
        if label is not None
    ]


def missing_between(boxes: Sequence[BoxPx]) -> Array:
    """Estimate how many teeth are missing between each pair of a row, from the boxes' widths."""
    middles = np.array([(x0 + x1) / 2 for x0, _, x1, _ in boxes])
    widths = np.array([max(x1 - x0, 1.0) for x0, _, x1, _ in boxes])
    apart = np.abs(middles[None] - middles[:, None])
    steps: Array = apart / ((widths[None] + widths[:, None]) / 2)
    # Drifted neighbours close a gap in part, so less than half a step is none.
    return np.clip(steps - 1.0, 0.0, None)


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


def masks(maps: dict[str, Array], seen: Sequence[Seen]) -> list[Array]:
    """Give each tooth's mask as probabilities at the cells.

    What the class map gives to a number that no tooth of the film has goes to the nearest tooth
    of that jaw, so that doubt about a number does not tear its mask.
    """
    classes = maps["tooth"]
    rows, cols = classes.shape[1:]
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32) + 0.5
    result: list[Array] = [np.zeros((rows, cols), np.float32)] * len(seen)
    for jaw in (0, 1):
        members = [index for index, one in enumerate(seen) if (not one.is_upper) == bool(jaw)]
        if not members:
            continue
        places = [1 + TEETH.index(seen[index].tooth) for index in members]
        first = 1 + 16 * jaw
        loose = classes[first : first + 16].sum(axis=0) - classes[places].sum(axis=0)
        nearest = np.argmin([_distance(seen[i].box, xs * CELL, ys * CELL) for i in members], axis=0)
        for number, (index, place) in enumerate(zip(members, places, strict=True)):
            inside = _distance(seen[index].box, xs * CELL, ys * CELL) <= 3 * CELL
            own = classes[place] + np.where(nearest == number, loose, 0.0)
            result[index] = np.where(inside, own, 0.0).astype(np.float32)
    return result


def _distance(box: BoxPx, xs: Array, ys: Array) -> Array:
    """Distance from a box, with a slight pull to its middle so that overlaps are split."""
    out = np.maximum(np.maximum(box[0] - xs, xs - box[2]), 0)
    down = np.maximum(np.maximum(box[1] - ys, ys - box[3]), 0)
    pull: Array = out + down + 0.02 * np.abs(xs - (box[0] + box[2]) / 2)
    return pull


def rings(mask: Array, least: float = 0.5) -> list[Array]:
    """Draw round the parts of a map of probabilities, the largest first, in canvas pixels."""
    size = (mask.shape[1] * CELL, mask.shape[0] * CELL)
    fine = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    found, _ = cv2.findContours(
        (fine > least).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    ordered = sorted(found, key=cv2.contourArea, reverse=True)
    return [cv2.approxPolyDP(ring, 0.7, True)[:, 0, :].astype(float) + 0.5 for ring in ordered]


def mark_peaks(maps: dict[str, Array], floor: float, same_iou: float = 0.45) -> list[Peak]:
    """Find things by centre and box, best first; the channel is a place in :data:`MARKS`."""
    found: list[Peak] = []
    for head in range(BOX_HEADS):
        channels = [number for number, mark in enumerate(MARKS) if mark[2] == head]
        part = {
            "centre": maps["marks"][channels],
            "box": maps["mark_box"][4 * head : 4 * head + 4],
        }
        for peak in panoramic.peaks(part, floor, same_iou):
            found.append(Peak(channels[peak.channel], peak.row, peak.column, peak.score, peak.box))
    return sorted(found, key=lambda p: (-p.score, p.channel, p.row, p.column))
