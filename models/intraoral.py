"""Bitewings and periapicals: numbered teeth, what they carry, caries by surface, bone by site.

One dense network on the film fitted into a canvas of 512 × 384 pixels, either way up. It predicts
tooth centres with boxes and numbers (as for panoramics), the cemento-enamel junction (CEJ), the
crest and the apex at both sides of every tooth, caries as centres, outlines and an ordinal depth,
where crowns cover each other, and everything else as centres with boxes. Numbers keep the order of
the arch; a bitewing shows one side, a periapical one jaw. Permanent teeth only: milk teeth are out
of scope. What it was trained on, limits and figures are in models/cards/intraoral.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models import intraoral_bone as bone
from models import intraoral_caries as caries
from models import intraoral_contacts as lying
from models import intraoral_maps as sight
from models import panoramic
from models.backbone import DenseNet
from models.geometry import Canvas
from models.intraoral_bone import Level, opposite
from models.intraoral_caries import Lesion
from models.intraoral_maps import HEADS, Seen
from models.intraoral_marks import Mark, marks
from models.intraoral_reading import Contact, IntraoralReading, Landmarks, SurfaceCaries
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import (
    CariesDepth,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Point,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError

#: What is frozen in the weights themselves, in this order.
#: ``review`` is the score from which things are said that have no operating point.
THRESHOLDS = ("tooth", "point", "level_mm", "review")
#: The calibration of a site's points is kept under this name; other names are those of MARKS.
SITE = "site"

_K = FindingKind
#: Outlines keep this many points at most.
_MOST_POINTS = 200
#: A box side this close to the film's border, canvas pixels, is cut off by it.
_CUT_PX = 2.0
#: How the depths divide where no lesion was seen to read them from, E1 to P.
_USUAL_DEPTHS = (0.35, 0.3, 0.2, 0.1, 0.04, 0.01)
#: Things that mean something also where no number is known.
_UNNUMBERED = {
    *(_K.RESTORATION, _K.CROWN, _K.IMPLANT, _K.ROOT_FILLING, _K.POST),
    *(_K.PERIAPICAL_RADIOLUCENCY, _K.ROOT_REMNANT, _K.IMPACTED_TOOTH),
}

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Sight:
    """All that the network sees on a film, scores as they come, before operating points."""

    teeth: tuple[ToothMark, ...]
    lesions: tuple[Lesion, ...]
    marks: tuple[Mark, ...]
    levels: tuple[Level, ...]
    angular_mm: dict[tuple[Tooth, Surface], float]
    contacts: tuple[Contact, ...]
    landmarks: tuple[Landmarks, ...]
    #: Proximal surfaces that lie outside the film.
    cut: frozenset[tuple[Tooth, Surface]]


@dataclass(frozen=True, slots=True)
class IntraoralModel:
    """The network for bitewings and periapicals with what is frozen beside it."""

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
        """Read `image` (rows, cols), 0..1, metal bright; coordinates are pixels of `image`.

        Findings are given from their review points upwards, bone level also from the frozen level
        upwards only, so that healthy sites do not hide what matters.
        """
        return self.reading(self.see(image, view, spacing))

    def see(self, image: Array, view: View, spacing: Spacing) -> Sight:
        """Give all that is seen, with the network's own scores."""
        canvas = Canvas.fit(image.shape[0], image.shape[1], spacing)
        maps = sight.run(self.net, sight.stretch(canvas.place(image)))
        return see(maps, canvas, view, spacing, self.thresholds, self.version)

    def reading(self, seen: Sight) -> IntraoralReading:
        """Say what of a sight is reported."""
        surfaces = self._surfaces(seen)
        findings = [
            *self._lesions(seen, surfaces),
            *self._marks(seen),
            *self._lowered(seen),
        ]
        return IntraoralReading(
            teeth=seen.teeth,
            findings=tuple(findings),
            sites=tuple(
                level.site(round(self._chance(SITE, level.score), 4)) for level in seen.levels
            ),
            surfaces=surfaces,
            contacts=seen.contacts,
            landmarks=seen.landmarks,
            crown_roots=tuple(lying.crown_roots(seen.landmarks, seen.levels)),
            tilt_degrees=lying.occlusal_tilt(seen.landmarks),
        )

    def _chance(self, name: str, score: float) -> float:
        """Calibrate the score of a head."""
        return min(1.0, max(0.0, self.settings.calibrate(name, score)))

    def _said(self, kind: FindingKind, name: str, score: float) -> float | None:
        """Give the calibrated probability, or None below the kind's review point."""
        chance = self._chance(name, score)
        point = self.settings.operating_points.get(kind)
        is_said = score >= self.thresholds["review"] if point is None else chance >= point.review
        return chance if is_said else None

    def _surfaces(self, seen: Sight) -> tuple[SurfaceCaries, ...]:
        """Score every mesial and distal surface, and the occlusal one of back teeth."""
        lesions = {(lesion.tooth, lesion.surface): lesion for lesion in seen.lesions}
        pits = {m.tooth: m for m in reversed(seen.marks) if m.name == "occlusal_caries"}
        hidden = _hidden(seen)
        result = []
        for mark in seen.teeth:
            for surface in (Surface.MESIAL, Surface.DISTAL):
                key = (mark.tooth, surface)
                lesion = lesions.get(key)
                chance = self._chance("caries", lesion.score if lesion else 0.0)
                depths = lesion.depths if lesion else _USUAL_DEPTHS
                result.append(_surface(key, key not in hidden, chance, depths))
            if mark.tooth.is_posterior:
                pit = pits.get(mark.tooth)
                chance = self._chance("occlusal_caries", pit.score if pit else 0.0)
                depths = pit.depths if pit and pit.depths else _USUAL_DEPTHS
                result.append(_surface((mark.tooth, Surface.OCCLUSAL), True, chance, depths))
        return tuple(result)

    def _lesions(self, seen: Sight, surfaces: Sequence[SurfaceCaries]) -> list[Finding]:
        readable = {(s.tooth, s.surface) for s in surfaces if s.is_readable}
        found = []
        for lesion in seen.lesions:
            chance = self._said(_K.CARIES, "caries", lesion.score)
            key = (lesion.tooth, lesion.surface)
            if chance is None or lesion.outline is None or key not in readable:
                continue
            found.append(
                Finding(
                    _K.CARIES,
                    lesion.outline,
                    lesion.tooth,
                    (lesion.surface,),
                    depth=lesion.depth,
                    probability=chance,
                    model=self.version,
                )
            )
        return found

    def _marks(self, seen: Sight) -> list[Finding]:
        is_calibrated = any(level.is_calibrated for level in seen.levels)
        found = []
        for mark in seen.marks:
            chance = self._said(mark.kind, mark.name, mark.score)
            if chance is None or (mark.tooth is None and mark.kind not in _UNNUMBERED):
                continue
            depth_mm = None
            if mark.kind is _K.ANGULAR_DEFECT and is_calibrated and mark.tooth and mark.surfaces:
                depth_mm = seen.angular_mm.get((mark.tooth, mark.surfaces[0]))
            found.append(
                Finding(
                    mark.kind,
                    mark.box,
                    mark.tooth,
                    mark.surfaces,
                    depth=mark.depth,
                    value_mm=None if depth_mm is None else round(depth_mm, 2),
                    probability=chance,
                    model=self.version,
                )
            )
        return found

    def _lowered(self, seen: Sight) -> list[Finding]:
        found = []
        for level in seen.levels:
            chance = self._said(_K.BONE_LEVEL, _K.BONE_LEVEL.value, level.lowered)
            if chance is None or level.loss_mm < self.thresholds["level_mm"]:
                continue
            site = level.site(chance)
            found.append(
                Finding(
                    _K.BONE_LEVEL,
                    Line((level.cej, level.crest)),
                    level.tooth,
                    (level.surface,),
                    value_mm=site.level_mm,
                    value_percent=site.percent,
                    probability=chance,
                    model=self.version,
                )
            )
        return found


def see(
    maps: dict[str, Array],
    canvas: Canvas,
    view: View,
    spacing: Spacing,
    thresholds: dict[str, float],
    version: ModelVersion,
) -> Sight:
    """Turn the network's maps into what is seen on the film."""
    teeth = sight.decode(maps, view, thresholds["tooth"], thresholds["point"])
    teeth = [one for one in teeth if canvas.box(one.box) is not None]
    on_film = bone.places(teeth, canvas)
    scale = bone.scale_of(teeth, on_film, spacing)
    found = bone.levels(teeth, on_film, scale, spacing.is_known)
    return Sight(
        teeth=tuple(_tooth_marks(maps, teeth, canvas, version)),
        lesions=tuple(caries.lesions(maps, teeth, canvas)),
        marks=tuple(marks(maps, teeth, canvas)),
        levels=tuple(found),
        angular_mm=bone.angular(found, scale) if scale else {},
        contacts=tuple(lying.contacts(maps["overlap"][0], teeth, canvas)),
        landmarks=tuple(lying.landmarks(teeth, on_film, canvas)),
        cut=frozenset(_cut(teeth, canvas)),
    )


def _tooth_marks(
    maps: dict[str, Array], teeth: Sequence[Seen], canvas: Canvas, version: ModelVersion
) -> list[ToothMark]:
    found = []
    for one, mask in zip(teeth, sight.masks(maps, teeth), strict=True):
        box = canvas.box(one.box)
        if box is not None:
            outline = _outline(mask, canvas)
            found.append(ToothMark(one.tooth, box, one.probability, version, outline))
    return found


def _outline(mask: Array, canvas: Canvas) -> tuple[Point, ...]:
    ring = next(iter(sight.rings(mask)), None)
    if ring is None or len(ring) < 3:
        return ()
    kept = ring[:: max(1, -(-len(ring) // _MOST_POINTS))]
    return tuple(canvas.to_film((float(x), float(y))) for x, y in kept)


def _cut(teeth: Sequence[Seen], canvas: Canvas) -> list[tuple[Tooth, Surface]]:
    """List the proximal surfaces that the film's border cuts off."""
    found = []
    for one in teeth:
        middle = (one.box[1] + one.box[3]) / 2
        for side, x in (("left", one.box[0]), ("right", one.box[2])):
            if not canvas.covers((x, middle), _CUT_PX) and ("cej", side) not in one.points:
                found.append((one.tooth, sight.surface_at(one.tooth, side)))
    return found


def _hidden(seen: Sight) -> set[tuple[Tooth, Surface]]:
    """Name the proximal surfaces that cannot be read: crowns overlap, or outside the film."""
    hidden = set(seen.cut)
    for contact in seen.contacts:
        if not contact.is_readable:
            first, second = contact.teeth
            for surface in (Surface.MESIAL, Surface.DISTAL):
                if opposite(first, surface)[0] == second:
                    hidden |= {(first, surface), opposite(first, surface)}
    return hidden


def _surface(
    key: tuple[Tooth, Surface], is_readable: bool, chance: float, depths: Sequence[float]
) -> SurfaceCaries:
    if not is_readable:
        return SurfaceCaries(*key, is_readable=False)
    shares = tuple(round(chance * share, 4) for share in depths)
    return SurfaceCaries(*key, True, round(1.0 - sum(shares), 4), shares)


def depth_of(surface: SurfaceCaries) -> CariesDepth | None:
    """Give the most likely state of a surface; None is sound or unreadable."""
    if not surface.depths or surface.none >= max(surface.depths):
        return None
    return caries.mode(surface.depths)
