"""Panoramic radiographs: both jaws spread out on one film, with the ghosts that the turn leaves.

The film's layer is unrolled: a face frame in magnified mm (x from the midline to the viewer's
right, y down from the occlusal plane, which is still flat there) is bent into the smile and
squeezed in front as the patient's position has it. No length of a panoramic is to be trusted: a
:class:`Scene` keeps the detector's pixel size, which exposing it needs, but a film says
``NOMINAL_MM`` and its truth has neither bone levels nor other lengths. Proximal lesions from D2 on
are marks with boxes like everything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from node.domain.findings import CariesDepth, FindingKind, Point, View
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Tooth
from sample_studies.phantoms.anatomy import Placed
from sample_studies.phantoms.arrange import Stood, impacted, moved, row
from sample_studies.phantoms.canvas import Aim, Canvas
from sample_studies.phantoms.exposure import draw_settings
from sample_studies.phantoms.face import Face
from sample_studies.phantoms.plan import DEPTHS, Condition, Prevalence, draw_mouth
from sample_studies.phantoms.scene import Painter, Scene, expose, finish
from sample_studies.phantoms.truth import Film, TrueLesion, TrueMark, bounds

#: The pixel size a panoramic film states; it stands for none.
NOMINAL_MM = 0.1
_USUAL = Prevalence()
_SQUEEZE_MM = 24.0
_TURN_MM = 45.0
_KINDS = frozenset(
    {
        FindingKind.RESTORATION,
        FindingKind.CROWN,
        FindingKind.ROOT_FILLING,
        FindingKind.IMPLANT,
        FindingKind.IMPACTED_TOOTH,
        FindingKind.ROOT_REMNANT,
        FindingKind.PERIAPICAL_RADIOLUCENCY,
    }
)
_DEEP = frozenset(DEPTHS[DEPTHS.index(CariesDepth.D2) :])


@dataclass(frozen=True, slots=True)
class Position:
    """How the patient stood in the machine.

    ``smile`` is the bend of the occlusal plane in 1/mm: about 0.0018 when right, more with the chin
    down, below 0 with the chin up. ``squeeze`` is how much too narrow the front teeth are: above 0
    too far forward, below 0 too far back. ``rotation`` widens one side and narrows the other.
    """

    smile: float = 0.0018
    squeeze: float = 0.0
    rotation: float = 0.0
    magnification: float = 1.25

    def bend(self, x: float) -> float:
        """Rise or fall of the occlusal plane at `x` of the face, mm down."""
        return -self.smile * min(x * x, 90.0**2)

    def across(self, x: float) -> float:
        """Where the film shows what lies at `x` of the face, mm from the midline."""
        front = self.squeeze * _SQUEEZE_MM * math.sqrt(math.pi) / 2 * math.erf(x / _SQUEEZE_MM)
        return x - front + self.rotation * _TURN_MM * math.log(math.cosh(x / _TURN_MM))

    def width(self, x: float) -> float:
        """Width on the film of a mm across at `x` of the face."""
        front = self.squeeze * math.exp(-((x / _SQUEEZE_MM) ** 2))
        return 1 - front + self.rotation * math.tanh(x / _TURN_MM)


def draw_position(rng: np.random.Generator, odds: Prevalence) -> Position:
    """Draw how a patient is positioned: mostly well, sometimes badly."""
    smile, squeeze = float(rng.normal(0.0016, 0.0005)), float(rng.normal(0.1, 0.07))
    if rng.random() < 0.2 * odds.flaws:
        smile = float(rng.choice([rng.uniform(-0.0008, 0.0004), rng.uniform(0.0026, 0.0036)]))
    if rng.random() < 0.2 * odds.flaws:
        squeeze = float(rng.choice([rng.uniform(0.22, 0.36), rng.uniform(-0.35, -0.12)]))
    rotation = float(np.clip(rng.normal(0, 0.035), -0.1, 0.1))
    magnification = float(rng.uniform(1.2, 1.3))
    return Position(smile, float(np.clip(squeeze, -0.35, 0.36)), rotation, magnification)


def panoramic_scene(
    rng: np.random.Generator,
    odds: Prevalence = _USUAL,
    *,
    cols: int = 1200,
    rows: int = 600,
    pixel_mm: float = 0.25,
    position: Position | None = None,
) -> Scene:
    """Compose what a panoramic shows, not yet exposed; 300 × 150 mm by default."""
    place = position if position is not None else draw_position(rng, odds)
    mouth = draw_mouth(rng)
    wide = cols * pixel_mm
    aim = Aim(
        turn=float(np.radians(rng.normal(0, 0.8))),
        elongation=float(np.exp(rng.normal(0, 0.03))),
        beam=(float(rng.normal(0, 0.03)), float(rng.normal(0.08, 0.03))),
    )
    canvas = Canvas(rows, cols, pixel_mm, aim)
    middle = (
        wide / 2 + float(rng.normal(0, 2.0)),
        rows * pixel_mm * 0.55 + float(rng.normal(0, 2.5)),
    )
    opened = float(rng.uniform(1.0, 5.0))
    jaws = []
    for teeth, sign in ((UPPER_ARCH, -1.0), (LOWER_ARCH, 1.0)):
        flat = row(mouth, teeth, 0.0, 0.0, odds, place.magnification)
        front = [one.shape.x for one in flat if one.shape.tooth.position == 1]
        flat = moved(flat, -sum(front) / len(front), sign * opened / 2)
        jaws.append(_unrolled(_thirds(rng, flat, odds), place, middle))

    def on_film(point: Point) -> Point:
        x, y = point
        return middle[0] + place.across(x), middle[1] + y + place.bend(x)

    face = Face(rng, canvas, on_film)
    painter = Painter(canvas, mouth, odds)
    for stood, arch in zip(jaws, (Arch.UPPER, Arch.LOWER), strict=True):
        with face.bone_of(rng, arch):
            painter.jaw(rng, stood, arch)
    apices = [[_apex_depth(one.shape, middle, place) for one in stood] for stood in jaws]
    face.landmarks(rng, _median(apices[0]), _median(apices[1]))
    everyone = [one for stood in jaws for one in stood]
    scene = finish(painter, View.PANORAMIC, "B", everyone, 70.0)
    marks = [m for m in map(_kept_mark, scene.marks) if m is not None]
    marks += [_as_mark(lesion) for lesion in scene.lesions if lesion.depth in _DEEP]
    return replace(scene, sites=(), lesions=(), overlaps=(), marks=tuple(marks))


def take_panoramic(scene: Scene, rng: np.random.Generator, odds: Prevalence = _USUAL) -> Film:
    """Expose a panoramic scene: coarser and noisier than a film in the mouth, no cone, no plate."""
    settings = replace(
        draw_settings(rng, flaws=odds.flaws),
        exposure=float(0.05 * 10 ** rng.normal(0.0, 0.2)),
        scatter=float(rng.uniform(0.04, 0.14)),
        blur_mm=float(rng.uniform(0.12, 0.3)),
        motion_mm=0.0,
        low=float(rng.uniform(1.0, 5.0)),
        high=float(rng.uniform(98.5, 99.8)),
        lift=float(rng.uniform(-0.2, 0.15)),
        headroom=float(rng.uniform(0.95, 1.15)),
        range=float(rng.uniform(2.2, 3.0)),
        sharpen_mm=float(rng.uniform(0.3, 0.8)),
        corner=0.0,
        cone=None,
        edge=None,
        scratches=0,
        specks=0,
        fog=0.0,
    )
    return replace(expose(scene, settings, rng), spacing_mm=NOMINAL_MM)


def _thirds(rng: np.random.Generator, stood: Sequence[Stood], odds: Prevalence) -> list[Stood]:
    """Leave out, tilt or impact the third molars."""
    changed = list(stood)
    for place, beside in ((0, 1), (len(changed) - 1, len(changed) - 2)):
        one, neighbour = changed[place], changed[beside].shape
        shape, chance = one.shape, float(rng.random())
        if rng.random() < 0.3:
            changed[place] = Stood(shape, Condition("missing"))
        elif one.state.state != "present":
            continue
        elif chance < odds.impacted * (1.0 if shape.tooth.arch is Arch.LOWER else 0.5):
            if shape.tooth.arch is Arch.LOWER:
                changed[place] = impacted(rng, one, neighbour)
            else:
                lean = float(rng.uniform(-0.5, 0.3)) * shape.mesial_sign
                up = shape.y - float(rng.uniform(5.0, 9.0))
                changed[place] = Stood(
                    replace(shape, y=up, tilt=lean, x=shape.x - 2.0 * shape.mesial_sign),
                    Condition("impacted"),
                )
        elif chance > 0.75:
            lean = float(rng.uniform(-0.15, 0.35)) * shape.mesial_sign
            changed[place] = replace(one, shape=replace(shape, tilt=shape.tilt + lean))
    return changed


def _unrolled(stood: Sequence[Stood], place: Position, middle: Point) -> list[Stood]:
    """Put a flat row on the film's curve, each tooth as wide as its place shows it."""
    found = []
    for one in stood:
        shape = one.shape
        slope = -2 * place.smile * shape.x
        lean = slope * (-0.3 if shape.tooth.arch is Arch.UPPER else 0.8)
        at = middle[0] + place.across(shape.x), middle[1] + shape.y + place.bend(shape.x)
        shape = _squeezed(shape, place.width(shape.x))
        found.append(replace(one, shape=replace(shape, x=at[0], y=at[1], tilt=shape.tilt + lean)))
    return found


def _squeezed(shape: Placed, share: float) -> Placed:
    """Make a tooth narrower or wider, roots and all."""
    narrow = np.float32(share)
    return replace(
        shape,
        width=shape.width * share,
        neck=shape.neck * share,
        roots=tuple(
            replace(
                root,
                at_start=root.at_start * share,
                at_apex=root.at_apex * share,
                half=root.half * share,
                bend=root.bend * share,
                hook=root.hook * share,
            )
            for root in shape.roots
        ),
        mesial=shape.mesial * narrow,
        distal=shape.distal * narrow,
    )


def _apex_depth(shape: Placed, middle: Point, place: Position) -> tuple[Tooth, float]:
    """How far from the flat occlusal plane the apex lies, mm."""
    level = middle[1] + place.bend(shape.x - middle[0])
    return shape.tooth, abs(shape.y - level) + shape.root


def _median(depths: Sequence[tuple[Tooth, float]]) -> float:
    """The usual depth of premolars' and molars' apices, mm."""
    return float(np.median([d for tooth, d in depths if 5 <= tooth.position <= 7]))


def _kept_mark(mark: TrueMark) -> TrueMark | None:
    """Keep what a panoramic is read for, without lengths."""
    if mark.kind in (FindingKind.CARIES, FindingKind.RECURRENT_CARIES):
        is_recurrent = mark.kind is FindingKind.RECURRENT_CARIES
        detail = "recurrent" if is_recurrent else mark.detail
        kept = replace(mark, kind=FindingKind.CARIES, detail=detail)
        return kept if mark.depth in _DEEP else None
    if mark.kind is FindingKind.PERIAPICAL_RADIOLUCENCY:
        return replace(mark, detail="")
    return mark if mark.kind in _KINDS else None


def _as_mark(lesion: TrueLesion) -> TrueMark:
    return TrueMark(
        FindingKind.CARIES,
        lesion.tooth,
        lesion.surface.value,
        bounds(lesion.polygon),
        lesion.polygon,
        lesion.depth,
        "",
        lesion.contrast,
    )
