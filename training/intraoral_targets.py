"""What the intraoral network should say of an augmented film: labels moved along, then maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from models.intraoral_caries import DEPTHS
from models.intraoral_maps import BOX_HEADS, HEADS, MARK_NAMES, MARKS, SIDES
from models.panoramic import BOX_UNIT, CELL, TEETH
from node.domain.findings import FindingKind, Point
from node.domain.teeth import Surface
from training import panoramic
from training.panoramic import Drawn
from training.synthetic import ANNOTATED, MarkTruth, SyntheticFilm
from training.train import Batch

#: What a film may or may not tell, in the order of the batch's ``told`` flags.
TOLD = ("teeth", "numbers", "sites", "caries", "marks")
#: The label of a cell whose tooth is not told.
UNTOLD = -100
#: Half-width of a point's and a lesion's spot on the heat maps, in cells.
_POINT_SIGMA = 1.1
_LESION_SIGMA = 1.2
#: A thing counts when this share of it is on the film.
_LEAST_SEEN = 0.4
_MIRROR = {"1": "2", "2": "1", "3": "4", "4": "3"}

NUMBER = {tooth.code: index for index, tooth in enumerate(TEETH)}

BoxPx = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Labels:
    """What an augmented film shows, in input pixels; ``parent`` counts teeth as drawn."""

    teeth: list[Drawn]
    points: list[tuple[int, int, Point]]  # parent tooth, channel of the point maps, place
    lesions: list[tuple[np.ndarray, int]]  # outline, place of the depth
    marks: list[tuple[int, BoxPx, int | None]]  # place in MARKS, box, place of the depth
    told: frozenset[str] = field(default=ANNOTATED)


def mirrored(code: str) -> str:
    """Give the number of the tooth at the same place on the other side."""
    return _MIRROR[code[0]] + code[1]


def mark_name(mark: MarkTruth) -> str | None:
    """Name the mark as the network knows it; None for what it does not learn."""
    if mark.kind is FindingKind.CARIES:
        is_pit = mark.surface in (Surface.OCCLUSAL, Surface.INCISAL)
        return "occlusal_caries" if is_pit else "root_caries"
    return mark.kind.value if mark.kind.value in MARK_NAMES else None


def moved(
    film: SyntheticFilm,
    shape: tuple[int, ...],
    matrix: np.ndarray,
    size: tuple[int, int],
    flip: bool,
) -> Labels:
    """Move the truth of `film` (of `shape`) by `matrix` to an input of `size` (rows, cols).

    A mirrored film renumbers its teeth.
    """
    teeth, places = _teeth(film, matrix, size, flip)
    points = []
    for site in film.sites:
        if site.tooth.code not in places:
            continue
        at_right = ((site.surface is Surface.MESIAL) == site.tooth.is_patient_right) != flip
        for kind, point in enumerate((site.cej, site.crest, site.apex)):
            is_exposed = 0 <= point[0] < shape[1] and 0 <= point[1] < shape[0]
            if not is_exposed:  # also what is not a number
                continue
            x, y = _move([point], matrix)[0]
            if 0 <= x < size[1] and 0 <= y < size[0]:
                channel = kind * len(SIDES) + int(at_right)
                points.append((places[site.tooth.code], channel, (float(x), float(y))))
    lesions = []
    for lesion in film.lesions:
        outline = _move(lesion.outline, matrix)
        x, y = outline.mean(axis=0)
        if 0 <= x < size[1] and 0 <= y < size[0]:
            lesions.append((outline, DEPTHS.index(lesion.depth)))
    return Labels(teeth, points, lesions, _marks(film, matrix, size), film.annotated)


def _move(points: Sequence[Point], matrix: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]
    return result


def _teeth(
    film: SyntheticFilm, matrix: np.ndarray, size: tuple[int, int], flip: bool
) -> tuple[list[Drawn], dict[str, int]]:
    teeth: list[Drawn] = []
    places: dict[str, int] = {}
    for truth in film.teeth:
        if truth.tooth.code not in NUMBER:
            continue
        outline = _move(truth.outline, matrix)
        box = _clipped(outline, size, 0.3)
        if box is not None:
            places[truth.tooth.code] = len(teeth)
            place = NUMBER[mirrored(truth.tooth.code) if flip else truth.tooth.code]
            teeth.append(Drawn(place // 16, place + 1, box, outline))
    return teeth, places


def _marks(
    film: SyntheticFilm, matrix: np.ndarray, size: tuple[int, int]
) -> list[tuple[int, BoxPx, int | None]]:
    found: list[tuple[int, BoxPx, int | None]] = []
    for mark in film.marks:
        name = mark_name(mark)
        x0, y0, x1, y1 = mark.box
        box = _clipped(_move([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], matrix), size, _LEAST_SEEN)
        if name is not None and box is not None:
            depth = None if mark.depth is None else DEPTHS.index(mark.depth)
            found.append((MARK_NAMES.index(name), box, depth))
    return found


def _clipped(points: np.ndarray, size: tuple[int, int], least: float) -> BoxPx | None:
    """Give the box of `points` on the input; None when less than `least` of it is left."""
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, size[1] * 1.0), min(y1, size[0] * 1.0))
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    left = (box[2] - box[0]) * (box[3] - box[1])
    if left <= least * (x1 - x0) * (y1 - y0):
        return None
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def targets(labels: Labels, size: tuple[int, int]) -> Batch:
    """Make the maps the network should give for an augmented film."""
    batch = panoramic.targets(labels.teeth, size, 2)
    if "numbers" not in labels.told:
        batch["tooth"] = torch.full_like(batch["tooth"], UNTOLD)
    return (
        batch
        | _point_maps(labels, size)
        | _lesion_maps(labels, size)
        | _mark_maps(labels, size)
        | {
            "overlap": torch.from_numpy(doubled(labels.teeth, size)),
            "told": torch.tensor([float(name in labels.told) for name in TOLD]),
        }
    )


def _cells(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // CELL, size[1] // CELL


def _point_maps(labels: Labels, size: tuple[int, int]) -> Batch:
    rows, cols = _cells(size)
    count = HEADS["points"]
    heat = np.zeros((count, rows, cols), np.float32)
    offsets = np.zeros((2 * count, rows, cols), np.float32)
    known = np.zeros((count, rows, cols), np.float32)
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32) + 0.5
    for parent, channel, (x, y) in labels.points:
        _spot(heat[channel], x / CELL, y / CELL, _POINT_SIGMA)
        x0, y0, x1, y1 = (v / CELL for v in labels.teeth[parent].box)
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        near = (np.abs(xs - cx) < 0.16 * (x1 - x0) + 1) & (np.abs(ys - cy) < 0.12 * (y1 - y0) + 1)
        offsets[2 * channel][near] = (x - xs[near] * CELL) / BOX_UNIT
        offsets[2 * channel + 1][near] = (y - ys[near] * CELL) / BOX_UNIT
        known[channel][near] = 1.0
    return {
        "points": torch.from_numpy(heat),
        "offsets": torch.from_numpy(offsets),
        "known": torch.from_numpy(known),
    }


def _lesion_maps(labels: Labels, size: tuple[int, int]) -> Batch:
    rows, cols = _cells(size)
    caries = np.zeros((1, rows, cols), np.float32)
    inside = np.zeros((rows, cols), np.uint8)
    depth = np.zeros((rows, cols), np.uint8)
    for place, box, deep in labels.marks:
        if deep is not None and MARKS[place][1].is_caries:
            _ellipse(depth, box, deep + 1)
    for outline, deep in labels.lesions:
        middle = outline.mean(axis=0) / CELL
        _spot(caries[0], float(middle[0]), float(middle[1]), _LESION_SIGMA)
        ring = np.round(outline / CELL * 16 - 8).astype(np.int32)
        cv2.fillPoly(inside, [ring], 1, shift=4)
        cv2.fillPoly(depth, [ring], deep + 1, shift=4)
    return {
        "caries": torch.from_numpy(caries),
        "inside": torch.from_numpy(inside.astype(np.float32)),
        "depth": torch.from_numpy(depth.astype(np.int64)),
    }


def _ellipse(cells: np.ndarray, box: BoxPx, value: int) -> None:
    """Fill the ellipse in a box, its middle cell at least."""
    x, y = (box[0] + box[2]) / 2 / CELL, (box[1] + box[3]) / 2 / CELL
    half = ((box[2] - box[0]) / 2 / CELL, (box[3] - box[1]) / 2 / CELL)
    ys, xs = np.mgrid[0 : cells.shape[0], 0 : cells.shape[1]] + 0.5
    away = ((xs - x) / max(half[0], 0.5)) ** 2 + ((ys - y) / max(half[1], 0.5)) ** 2
    cells[away <= 1.0] = value
    cells[min(int(y), cells.shape[0] - 1), min(int(x), cells.shape[1] - 1)] = value


def _mark_maps(labels: Labels, size: tuple[int, int]) -> Batch:
    """Draw centres by kind, and box sides by box head near the centres, the smallest on top."""
    rows, cols = _cells(size)
    heat = np.zeros((len(MARKS), rows, cols), np.float32)
    sides = np.zeros((BOX_HEADS, 4, rows, cols), np.float32)
    weight = np.zeros((BOX_HEADS, rows, cols), np.float32)
    for head in range(BOX_HEADS):
        own = [(place, box) for place, box, _ in labels.marks if MARKS[place][2] == head]
        if not own:
            continue
        things = [
            Drawn(place, 0, box, np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]]]))
            for place, box in own
        ]
        drawn = panoramic.targets(things, size, len(MARKS))
        heat = np.maximum(heat, drawn["heat"].numpy())
        sides[head], weight[head] = drawn["sides"].numpy(), drawn["weight"].numpy()
    return {
        "marks": torch.from_numpy(heat),
        "mark_sides": torch.from_numpy(sides.reshape(4 * BOX_HEADS, rows, cols)),
        "mark_weight": torch.from_numpy(weight),
    }


def doubled(teeth: Sequence[Drawn], size: tuple[int, int]) -> np.ndarray:
    """Give the share of each cell that two teeth of one jaw cover, (1, rows, cols)."""
    rows, cols = size[0] // 2, size[1] // 2
    covered = np.zeros((rows, cols), np.float32)
    for jaw in (0, 1):
        count = np.zeros((rows, cols), np.uint8)
        for tooth in teeth:
            if tooth.channel == jaw:
                one = np.zeros((rows, cols), np.uint8)
                ring = np.round(tooth.outline / 2 * 16 - 8).astype(np.int32)
                cv2.fillPoly(one, [ring], 1, shift=4)
                count += one
        covered = np.maximum(covered, (count > 1).astype(np.float32))
    share = cv2.resize(covered, _cells(size)[::-1], interpolation=cv2.INTER_AREA)
    result: np.ndarray = share[None]
    return result


def _spot(heat: np.ndarray, x: float, y: float, sigma: float) -> None:
    """Draw a Gaussian spot round (x, y) cells, its own cell being 1."""
    rows, cols = heat.shape
    row, col = min(int(y), rows - 1), min(int(x), cols - 1)
    top, left = max(row - 5, 0), max(col - 5, 0)
    part = heat[top : row + 6, left : col + 6]
    ys, xs = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]] + 0.5
    blob = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    np.maximum(part, blob, out=part, casting="same_kind")
    heat[row, col] = 1.0
