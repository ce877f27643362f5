"""What teeth carry: restorations, root fillings, calculus and the rest, as boxes on teeth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.geometry import Canvas
from models.intraoral_caries import distribution, mode, side_of
from models.intraoral_maps import MARKS, Array, BoxPx, Seen, mark_peaks, surface_at
from models.panoramic import CELL, TEETH, Peak, iou
from node.domain.findings import Box, CariesDepth, FindingKind
from node.domain.teeth import Surface, Tooth

_K = FindingKind
_FLOOR = 0.03
#: Kinds of which a tooth has one at most.
_SINGLE = {_K.CROWN, _K.IMPLANT, _K.ROOT_REMNANT, _K.IMPACTED_TOOTH, _K.FURCATION}
#: Kinds that lie on the mesial or the distal side.
_SIDED = {_K.CALCULUS, _K.RECURRENT_CARIES, _K.DEFECTIVE_MARGIN, _K.ANGULAR_DEFECT}
#: A filling counts as reaching a side of its tooth from this share of the width inwards.
_RIM = 0.17


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing seen, its score not yet calibrated; ``name`` is its entry in MARKS."""

    name: str
    kind: FindingKind
    box: Box
    tooth: Tooth | None
    surfaces: tuple[Surface, ...]
    score: float
    depths: tuple[float, ...] = ()

    @property
    def depth(self) -> CariesDepth | None:
        """The most likely depth of caries; None for everything else."""
        return mode(self.depths) if self.depths else None


def marks(maps: dict[str, Array], seen: Sequence[Seen], canvas: Canvas) -> list[Mark]:
    """Find things by centre and box, best first, each on its tooth."""
    found: list[Mark] = []
    taken: set[tuple[FindingKind, Tooth | None, tuple[Surface, ...]]] = set()
    for peak in mark_peaks(maps, _FLOOR):
        name, kind, _ = MARKS[peak.channel]
        box = canvas.box(peak.box)
        if box is None:
            continue
        owner = _owner(maps["tooth"], seen, peak, kind)
        surfaces = () if owner is None else _surfaces(owner, peak.box, kind, name)
        key = (kind, owner.tooth if owner else None, () if kind in _SINGLE else surfaces)
        if owner is not None and key in taken and (kind in _SINGLE or kind in _SIDED):
            continue
        taken.add(key)
        depths = _depths(maps["depth"], peak) if kind.is_caries else ()
        tooth = owner.tooth if owner else None
        found.append(Mark(name, kind, box, tooth, surfaces, peak.score, depths))
    return [mark for mark in found if not _is_doubled(mark, found)]


def _is_doubled(mark: Mark, found: Sequence[Mark]) -> bool:
    """Whether a surer crown or filling already explains a filling or crown."""
    pair = {_K.CROWN: _K.RESTORATION, _K.RESTORATION: _K.CROWN}
    other = pair.get(mark.kind)
    return other is not None and any(
        rival.kind is other
        and rival.score > mark.score
        and iou(_corners(rival.box), _corners(mark.box)) > 0.5
        for rival in found
    )


def _corners(box: Box) -> BoxPx:
    return box.x0, box.y0, box.x1, box.y1


def _owner(classes: Array, seen: Sequence[Seen], peak: Peak, kind: FindingKind) -> Seen | None:
    """Tell on which tooth a thing is; a lucency belongs to the nearest root end."""
    x, y = (peak.box[0] + peak.box[2]) / 2, (peak.box[1] + peak.box[3]) / 2
    if kind is _K.PERIAPICAL_RADIOLUCENCY:
        return _nearest_end(seen, x, y)
    cells = _cells(peak.box, classes.shape[1:])
    share = classes[(slice(None), *cells)].mean(axis=(1, 2))
    best: tuple[float, Seen] | None = None
    for one in seen:
        x0, y0, x1, y1 = one.box
        if x0 - 3 * CELL <= x <= x1 + 3 * CELL and y0 - 3 * CELL <= y <= y1 + 3 * CELL:
            score = float(share[1 + TEETH.index(one.tooth)]) + 0.3 * iou(one.box, peak.box)
            score += 0.05 * (x0 <= x <= x1)
            if best is None or score > best[0]:
                best = (score, one)
    return best[1] if best else None


def _nearest_end(seen: Sequence[Seen], x: float, y: float) -> Seen | None:
    best: tuple[float, Seen] | None = None
    for one in seen:
        x0, y0, x1, y1 = one.box
        end = y0 if one.is_upper else y1
        away = float(np.hypot(max(x0 - x, x - x1, 0.0), y - end))
        if away < 0.5 * (y1 - y0) and (best is None or away < best[0]):
            best = (away, one)
    return best[1] if best else None


def _cells(box: BoxPx, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Give the cells of a box's middle half, one at least, inside the map."""
    cut = []
    for low, high, size in ((box[1], box[3], shape[0]), (box[0], box[2], shape[1])):
        quarter = (high - low) / 4
        start = min(max(int((low + quarter) / CELL), 0), size - 1)
        cut.append(slice(start, max(start + 1, min(int((high - quarter) / CELL) + 1, size))))
    return cut[0], cut[1]


def _surfaces(one: Seen, box: BoxPx, kind: FindingKind, name: str) -> tuple[Surface, ...]:
    """Name the surfaces a thing touches, as far as the projection tells."""
    if name == "occlusal_caries":
        return (Surface.OCCLUSAL,)
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    if kind in _SIDED or name == "root_caries":
        return (surface_at(one.tooth, side_of(one, middle)),)
    if kind is not _K.RESTORATION:
        return ()
    x0, y0, x1, y1 = one.box
    rim, high = _RIM * (x1 - x0), 0.2 * (y1 - y0)
    touched = []
    if box[0] < x0 + rim:
        touched.append(surface_at(one.tooth, "left"))
    if box[2] > x1 - rim:
        touched.append(surface_at(one.tooth, "right"))
    reaches_edge = box[3] > y1 - high if one.is_upper else box[1] < y0 + high
    if reaches_edge and one.tooth.is_posterior:
        touched.append(Surface.OCCLUSAL)
    order = (Surface.MESIAL, Surface.OCCLUSAL, Surface.DISTAL)
    return tuple(surface for surface in order if surface in touched)


def _depths(deeper: Array, peak: Peak) -> tuple[float, ...]:
    cells = _cells(peak.box, deeper.shape[1:])
    return distribution(deeper[(slice(None), *cells)].mean(axis=(1, 2)).tolist())
