"""Compare what the intraoral network sees on one film with what is true of it, for freezing.

Scores are the network's own, before calibration; figures are made by :mod:`training.readings`.
Teeth are paired by their boxes; what was said of a tooth counts for the true tooth it was paired
with, so that a wrong number is counted once and not in every figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.intraoral import Sight
from models.intraoral_caries import Lesion
from models.intraoral_maps import MARK_NAMES, surface_at
from node.domain.findings import CariesDepth, Point, Polygon
from node.domain.teeth import Surface, Tooth
from training.detection import BoxPx, Found, match, match_lesions
from training.intraoral_targets import mark_name
from training.synthetic import LesionTruth, SyntheticFilm

#: Crowns that cover each other by more than this share of the enamel hide their surfaces.
HIDDEN = 0.5
#: A caries mark hits when its middle lies in the lesion's outline widened by this much, mm.
NEAR_MM = 0.5
#: Where the scale is unknown, the same in pixels.
_NEAR_PX = 6.0

Key = tuple[Tooth, Surface]


@dataclass(frozen=True, slots=True)
class Site:
    """One site: true and measured level, mm, NaN when not measured; how sure, how lowered."""

    truth_mm: float
    found_mm: float = math.nan
    score: float = 0.0
    lowered: float = 0.0


@dataclass(frozen=True, slots=True)
class Surf:
    """One proximal surface: its true depth (None is sound) and the score."""

    depth: CariesDepth | None
    score: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What one film contributed; ``marks`` are (true boxes, found marks) by name."""

    teeth: int
    tooth_scores: tuple[tuple[float, bool], ...]  # and whether box and number are right
    surfaces: tuple[Surf, ...]
    caries: tuple[tuple[float, bool], ...]  # score of each drawn lesion, and whether it hit
    sites: tuple[Site, ...]
    contacts: tuple[tuple[float, float], ...]  # true and measured overlap
    marks: dict[str, tuple[tuple[BoxPx, ...], tuple[Found, ...]]]
    told: frozenset[str]


def tally(film: SyntheticFilm, seen: Sight) -> Tally:
    """Compare what was seen on one film with the truth."""
    found = [
        Found(m.tooth.code, (m.box.x0, m.box.y0, m.box.x1, m.box.y1), m.probability)
        for m in seen.teeth
    ]
    pairs = match(found, [t.box for t in film.teeth], iou=0.5)
    true_of = {
        mark.tooth: film.teeth[pair].tooth
        for mark, pair in zip(seen.teeth, pairs, strict=True)
        if pair is not None
    }
    return Tally(
        teeth=len(film.teeth),
        tooth_scores=tuple(
            (mark.probability, pair is not None and film.teeth[pair].tooth == mark.tooth)
            for mark, pair in zip(seen.teeth, pairs, strict=True)
        ),
        surfaces=tuple(_surfaces(film, seen, true_of)),
        caries=tuple(_caries(film, seen.lesions)),
        sites=tuple(_sites(film, seen, true_of)),
        contacts=tuple(_contacts(film, seen, true_of)),
        marks={name: _marks(film, seen, name) for name in MARK_NAMES},
        told=film.annotated,
    )


def _box_of(points: Sequence[Point]) -> BoxPx:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _bounds(outline: Polygon) -> BoxPx:
    return _box_of(outline.points)


def _on_true(said: Tooth, surface: Surface, true_of: dict[Tooth, Tooth]) -> Key | None:
    """Name a side that was seen by the true tooth: its side in the image is what was seen."""
    if said not in true_of or surface not in (Surface.MESIAL, Surface.DISTAL):
        return None
    side = next(s for s in ("left", "right") if surface_at(said, s) == surface)
    return true_of[said], surface_at(true_of[said], side)


def _surfaces(film: SyntheticFilm, seen: Sight, true_of: dict[Tooth, Tooth]) -> list[Surf]:
    """Score every proximal surface that can be read."""
    scores: dict[Key, Lesion] = {}
    for one in seen.lesions:
        key = _on_true(one.tooth, one.surface, true_of)
        if key is not None and (key not in scores or scores[key].score < one.score):
            scores[key] = one
    depths = {(lesion.tooth, lesion.surface): lesion.depth for lesion in film.lesions}
    shown = {(site.tooth, site.surface) for site in film.sites} | depths.keys()
    covered = {
        key for overlap in film.overlaps if overlap.share > HIDDEN for key in facing(*overlap.teeth)
    }
    found = []
    for place in sorted(shown - covered, key=lambda key: (key[0].code, key[1].value)):
        lesion = scores.get(place)
        found.append(Surf(depths.get(place), lesion.score if lesion else 0.0))
    return found


def facing(one: Tooth, other: Tooth) -> tuple[Key, Key]:
    """Name the two surfaces by which neighbours touch."""
    if one.quadrant != other.quadrant:
        return (one, Surface.MESIAL), (other, Surface.MESIAL)
    front, back = sorted((one, other), key=lambda tooth: tooth.position)
    return (front, Surface.DISTAL), (back, Surface.MESIAL)


def _caries(film: SyntheticFilm, lesions: Sequence[Lesion]) -> list[tuple[float, bool]]:
    """Tell for every drawn lesion, best first, whether it hits one that none hit before."""
    taken: set[int] = set()
    marks = []
    for lesion in sorted(lesions, key=lambda one: -one.score):
        if lesion.outline is None:
            continue
        place = _hit(film, lesion.outline)
        is_hit = place is not None and place not in taken
        if place is not None and is_hit:
            taken.add(place)
        marks.append((lesion.score, is_hit))
    return marks


def _hit(film: SyntheticFilm, outline: Polygon) -> int | None:
    """Give the index of the lesion in or beside which a mark's middle lies."""
    x0, y0, x1, y1 = _bounds(outline)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    near = [(_inside(lesion, x, y), index) for index, lesion in enumerate(film.lesions)]
    depth, index = max(near, default=(-1e9, -1))
    reach = NEAR_MM / film.scale_mm if np.isfinite(film.scale_mm) else _NEAR_PX
    return index if depth >= -reach else None


def _inside(lesion: LesionTruth, x: float, y: float) -> float:
    ring = np.asarray(lesion.outline, np.float32)
    return float(cv2.pointPolygonTest(ring, (x, y), True))


def _sites(film: SyntheticFilm, seen: Sight, true_of: dict[Tooth, Tooth]) -> list[Site]:
    found = {_on_true(level.tooth, level.surface, true_of): level for level in seen.levels}
    sites = []
    for site in film.sites:
        level = found.get((site.tooth, site.surface))
        if level is None:
            sites.append(Site(site.level_mm))
            continue
        sites.append(Site(site.level_mm, level.loss_mm, level.score, level.lowered))
    return sites


def _contacts(
    film: SyntheticFilm, seen: Sight, true_of: dict[Tooth, Tooth]
) -> list[tuple[float, float]]:
    truth = {frozenset(overlap.teeth): overlap.share for overlap in film.overlaps}
    found = []
    for contact in seen.contacts:
        pair = frozenset(true_of.get(tooth, tooth) for tooth in contact.teeth)
        if pair in truth:
            found.append((truth[pair], contact.overlap))
    return found


def _marks(
    film: SyntheticFilm, seen: Sight, name: str
) -> tuple[tuple[BoxPx, ...], tuple[Found, ...]]:
    boxes = tuple(mark.box for mark in film.marks if mark_name(mark) == name)
    found = tuple(
        Found(name, (mark.box.x0, mark.box.y0, mark.box.x1, mark.box.y1), mark.score)
        for mark in seen.marks
        if mark.name == name
    )
    return boxes, found


def fates(one: Tally, name: str) -> list[tuple[float, bool]]:
    """Tell for every mark of `name` on a film whether it hits (see training.detection)."""
    boxes, found = one.marks[name]
    pairs = match_lesions(found, boxes)
    return [(mark.probability, pair is not None) for mark, pair in zip(found, pairs, strict=True)]
