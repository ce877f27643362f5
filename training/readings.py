"""Compare what a network reads on an intraoral film with what is annotated there.

Readings are values of the product (:class:`models.intraoral_reading.IntraoralReading`), taken with
the thresholds off; films are synthetic or real ones of :mod:`training.layouts`. What a set does
not annotate is not scored on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.geometry import crest_distance
from models.intraoral_reading import IntraoralReading
from node.domain.findings import BoneSite, CariesDepth, Finding, FindingKind, Point
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface, Tooth
from training.detection import LESION_IOU, BoxPx, Found, is_hit, match
from training.panoramic_report import mask_dice, places_apart
from training.synthetic import SiteTruth, SyntheticFilm

#: A mark hits when its middle lies in the lesion widened by this much, mm.
NEAR_MM = 0.5
RULE = (
    f"teeth IoU >= 0.5; a mark hits a lesion when IoU >= {LESION_IOU} or its middle lies within "
    f"{NEAR_MM} mm of it; surfaces, points and levels of matched teeth"
)
#: Contacts covered by more than this share of the enamel cannot be read.
UNREADABLE_SHARE = 0.5
#: The distance from the CEJ to the crest in health, taken off before a percentage is formed.
NORMAL_MM = 2.0
_PROXIMAL = (Surface.MESIAL, Surface.DISTAL)
_SIDES = ("left", "right")
_POINTS = ("cej", "crest", "apex")
_NOWHERE: Point = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class SurfaceScore:
    """One readable proximal surface: its true depth (None is sound) and its highest mark."""

    depth: CariesDepth | None
    score: float


@dataclass(frozen=True, slots=True)
class SiteScore:
    """One annotated site; what was not measured is NaN. Lengths in mm, loss in % of the root.

    ``apart`` is how far CEJ, crest and apex were found from where they are; ``size`` the mean
    size of the film's teeth.
    """

    true_mm: float
    found_mm: float
    true_percent: float
    found_percent: float
    apart: tuple[float, float, float]
    size: float


@dataclass(frozen=True, slots=True)
class MarkScore:
    """One suggested mark of a kind: its probability, and the annotated thing it hit, if any."""

    probability: float
    hit: int | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What one film contributes to the figures."""

    film: SyntheticFilm
    found: tuple[Found, ...]
    truth: tuple[tuple[str, BoxPx], ...]
    pairs: tuple[tuple[int, int], ...]
    exact: int
    near: int
    dice: tuple[float, ...]
    surfaces: tuple[SurfaceScore, ...]
    unreadable: int
    sites: tuple[SiteScore, ...]
    marks: Mapping[FindingKind, tuple[MarkScore, ...]]
    wanted: Mapping[FindingKind, int]
    depths: tuple[tuple[CariesDepth, CariesDepth], ...]


@dataclass(frozen=True, slots=True)
class _Thing:
    """An annotated lesion or mark: its box, its outline if drawn, and its depth if caries."""

    box: BoxPx
    outline: tuple[Point, ...]
    depth: CariesDepth | None


def score(
    film: SyntheticFilm, reading: IntraoralReading, size: tuple[int, ...] | None = None
) -> Scored:
    """Compare `reading` with the truth of `film`; points outside its `size` (rows, cols) are none.

    Without a size every annotated point counts.
    """
    if size is not None:
        film = replace(film, sites=tuple(_within(site, size) for site in film.sites))
    found = tuple(_found(reading))
    boxes = [tooth.box for tooth in film.teeth]
    pairs = [(i, p) for i, p in enumerate(match(found, boxes, iou=0.5)) if p is not None]
    true_of = {reading.teeth[i].tooth: film.teeth[p].tooth for i, p in pairs}
    is_numbered = "numbers" in film.annotated
    surfaces, unreadable = _surfaces(film, reading, true_of)
    marks, depths = _marks(film, reading.findings)
    outlines = [(reading.teeth[i].outline, film.teeth[p].outline) for i, p in pairs]
    return Scored(
        film=film,
        found=found,
        truth=tuple((tooth.tooth.code, tooth.box) for tooth in film.teeth),
        pairs=tuple(pairs),
        exact=sum(a == b for a, b in true_of.items()) if is_numbered else 0,
        near=sum(places_apart(a.code, b.code) == 1 for a, b in true_of.items())
        if is_numbered
        else 0,
        dice=tuple(d for a, b in outlines if (d := mask_dice(a, b)) is not None),
        surfaces=tuple(surfaces),
        unreadable=unreadable,
        sites=tuple(_sites(film, reading.sites, true_of)),
        marks=marks,
        wanted={kind: len(things) for kind, things in _things(film).items()},
        depths=tuple(depths),
    )


def _within(site: SiteTruth, size: tuple[int, ...]) -> SiteTruth:
    """Take an apex that lies beyond the film's edge as unknown."""
    x, y = site.apex
    return site if 0 <= x < size[1] and 0 <= y < size[0] else replace(site, apex=_NOWHERE)


def _found(reading: IntraoralReading) -> list[Found]:
    return [
        Found(m.tooth.code, (m.box.x0, m.box.y0, m.box.x1, m.box.y1), m.probability)
        for m in reading.teeth
    ]


def surface_at(tooth: Tooth, side: str) -> Surface:
    """Name the proximal surface at the left or right side in the image."""
    return Surface.MESIAL if (side == "right") == tooth.is_patient_right else Surface.DISTAL


def _side(tooth: Tooth, surfaces: Sequence[Surface]) -> str | None:
    """Say at which side of a tooth in the image its first proximal surface lies."""
    return next((side for side in _SIDES if surface_at(tooth, side) in surfaces), None)


# --- caries and other marks ----------------------------------------------------------------------


def _caries_scores(
    reading: IntraoralReading,
) -> list[tuple[Tooth, Sequence[Surface], float]]:
    """List (tooth, surfaces, probability of caries): per surface where the network gives that."""
    told: list[tuple[Tooth, Sequence[Surface], float]] = [
        (s.tooth, (s.surface,), 1.0 - s.none)
        for s in reading.surfaces
        if s.is_readable and s.surface in _PROXIMAL
    ]
    return told or [
        (f.tooth, f.surfaces, f.probability or 0.0)
        for f in reading.findings
        if f.kind is FindingKind.CARIES and f.tooth is not None
    ]


def _surfaces(
    film: SyntheticFilm, reading: IntraoralReading, true_of: Mapping[Tooth, Tooth]
) -> tuple[list[SurfaceScore], int]:
    """Score every proximal surface that can be read; count those that overlap hides."""
    if "caries" not in film.annotated:
        return [], 0
    scores: dict[tuple[Tooth, Surface], float] = {}
    for tooth, surfaces, probability in _caries_scores(reading):
        true, side = true_of.get(tooth), _side(tooth, surfaces)
        # The side in the image is what was seen; name it for the true number.
        if true is not None and side is not None:
            key = (true, surface_at(true, side))
            scores[key] = max(scores.get(key, 0.0), probability)
    depths = {(lesion.tooth, lesion.surface): lesion.depth for lesion in film.lesions}
    seen = {(site.tooth, site.surface) for site in film.sites}
    if "sites" not in film.annotated:
        seen = {(tooth.tooth, surface) for tooth in film.teeth for surface in _PROXIMAL}
    hidden = _hidden(film) & (seen | depths.keys())
    kept = sorted((seen | depths.keys()) - hidden, key=lambda k: (k[0].code, k[1].value))
    return [SurfaceScore(depths.get(key), scores.get(key, 0.0)) for key in kept], len(hidden)


def _hidden(film: SyntheticFilm) -> set[tuple[Tooth, Surface]]:
    """List the surfaces that face each other under too much overlap."""
    order = {tooth: n for n, tooth in enumerate((*UPPER_ARCH, *LOWER_ARCH))}
    hidden = set()
    for overlap in film.overlaps:
        if overlap.share > UNREADABLE_SHARE:
            left, right = sorted(overlap.teeth, key=lambda tooth: order.get(tooth, 0))
            hidden |= {(left, surface_at(left, "right")), (right, surface_at(right, "left"))}
    return hidden


def _things(film: SyntheticFilm) -> dict[FindingKind, list[_Thing]]:
    """List what is annotated on a film by kind; kinds without any are left out."""
    things: dict[FindingKind, list[_Thing]] = {}
    if "caries" in film.annotated:
        for lesion in film.lesions:
            ring = np.asarray(lesion.outline)
            (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
            box = (float(x0), float(y0), float(x1), float(y1))
            things.setdefault(FindingKind.CARIES, []).append(
                _Thing(box, lesion.outline, lesion.depth)
            )
    if "marks" in film.annotated:
        for mark in film.marks:
            things.setdefault(mark.kind, []).append(_Thing(mark.box, (), mark.depth))
    return things


def annotated_kinds(film: SyntheticFilm) -> frozenset[FindingKind]:
    """Say of which kinds the absence on this film is known."""
    kinds = {FindingKind.CARIES} if "caries" in film.annotated else set()
    if "marks" in film.annotated:
        kinds |= set(FindingKind) - {FindingKind.BONE_LEVEL, FindingKind.OTHER}
    return frozenset(kinds)


def _marks(
    film: SyntheticFilm, findings: Sequence[Finding]
) -> tuple[dict[FindingKind, tuple[MarkScore, ...]], list[tuple[CariesDepth, CariesDepth]]]:
    """Pair the marks of each kind with what is annotated, the most probable first, each once."""
    things = _things(film)
    marks: dict[FindingKind, tuple[MarkScore, ...]] = {}
    depths: list[tuple[CariesDepth, CariesDepth]] = []
    for kind in annotated_kinds(film):
        own = [finding for finding in findings if finding.kind is kind]
        wanted = things.get(kind, [])
        taken: set[int] = set()
        scored = []
        for finding in sorted(own, key=lambda f: -(f.probability or 0.0)):
            hit = _hit(film, finding, wanted, taken)
            scored.append(MarkScore(finding.probability or 0.0, hit))
            if hit is not None:
                taken.add(hit)
                true = wanted[hit].depth
                if true is not None and finding.depth is not None:
                    depths.append((true, finding.depth))
        marks[kind] = tuple(scored)
    return marks, depths


def _hit(
    film: SyntheticFilm, finding: Finding, things: Sequence[_Thing], taken: set[int]
) -> int | None:
    xs, ys = zip(*finding.geometry.points, strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    scale = film.scale_mm
    reach = NEAR_MM / scale if math.isfinite(scale) else 0.0
    near = []
    for number, thing in enumerate(things):
        inside = _inside(thing, middle)
        if number not in taken and (inside >= -reach or is_hit(box, thing.box, LESION_IOU)):
            near.append((inside, -number))
    return -max(near)[1] if near else None


def _inside(thing: _Thing, point: Point) -> float:
    """Give how far inside (positive) or outside a thing a point lies, pixels."""
    x0, y0, x1, y1 = thing.box
    ring = thing.outline or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return float(cv2.pointPolygonTest(np.asarray(ring, np.float32), point, True))


# --- bone ----------------------------------------------------------------------------------------


def _sites(
    film: SyntheticFilm, sites: Sequence[BoneSite], true_of: Mapping[Tooth, Tooth]
) -> list[SiteScore]:
    if "sites" not in film.annotated:
        return []
    scale = film.scale_mm
    sizes = [(t.box[2] - t.box[0] + t.box[3] - t.box[1]) / 2 for t in film.teeth]
    size = float(np.mean(sizes)) * scale if sizes else math.nan
    found = {}
    for site in sites:
        true, side = true_of.get(site.tooth), _side(site.tooth, [site.surface])
        if true is not None and side is not None:
            found[(true, surface_at(true, side))] = site
    ends = {tooth.tooth: _ends(film.sites, tooth.tooth) for tooth in film.teeth}
    return [
        _site(
            truth,
            found.get((truth.tooth, truth.surface)),
            ends.get(truth.tooth),
            sites,
            scale,
            size,
        )
        for truth in film.sites
        if math.isfinite(truth.level_mm)
    ]


def _ends(sites: Sequence[SiteTruth | BoneSite], tooth: Tooth) -> tuple[Point, Point] | None:
    """Give both CEJs of a tooth, across which its axis stands."""
    own = [site.cej for site in sites if site.tooth == tooth]
    return (own[0], own[1]) if len(own) == 2 else None


def _site(
    truth: SiteTruth,
    found: BoneSite | None,
    across: tuple[Point, Point] | None,
    sites: Sequence[BoneSite],
    scale: float,
    size: float,
) -> SiteScore:
    true_percent = _percent(truth.level_mm, truth.cej, truth.apex, across, scale)
    if found is None:
        nothing = (math.inf, math.inf, math.inf)
        return SiteScore(truth.level_mm, math.nan, true_percent, math.nan, nothing, size)
    own = _ends(sites, found.tooth)
    level = found.level_mm
    if level is None:
        level = crest_distance(found.cej, found.crest, own, (scale, scale))
    percent = found.percent
    if percent is None and found.apex is not None:
        percent = _percent(level, found.cej, found.apex, own, scale)
    apart = tuple(_apart(getattr(found, name), getattr(truth, name), scale) for name in _POINTS)
    return SiteScore(
        truth.level_mm,
        level,
        true_percent,
        math.nan if percent is None else percent,
        (apart[0], apart[1], apart[2]),
        size,
    )


def _apart(found: Point | None, truth: Point, scale: float) -> float:
    """Give the distance in mm; infinite when not found, NaN when the truth is unknown."""
    if not math.isfinite(truth[0]):
        return math.nan
    return math.dist(found, truth) * scale if found is not None else math.inf


def _percent(
    level: float, cej: Point, apex: Point, across: tuple[Point, Point] | None, scale: float
) -> float:
    """Form the loss beyond the normal 2 mm as percent of the root; NaN without an apex."""
    if not math.isfinite(apex[0]):
        return math.nan
    root = crest_distance(cej, apex, across, (scale, scale))
    if root <= 2 * NORMAL_MM:
        return math.nan
    return min(100.0, 100.0 * max(0.0, level - NORMAL_MM) / (root - NORMAL_MM))
