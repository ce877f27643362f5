"""Caries, calculus and lost bone: what disease takes from the paths or adds to them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from node.domain.findings import CariesDepth
from node.domain.teeth import Surface
from sample_studies.phantoms.bone import slow_field
from sample_studies.phantoms.canvas import Canvas
from sample_studies.phantoms.materials import Map
from sample_studies.phantoms.teeth import Painted, smooth

Mask = npt.NDArray[np.bool_]

#: Share of the enamel, then of the dentine to the pulp.
DEPTH_RANGE = {
    CariesDepth.E1: (0.28, 0.5, 0.0, 0.0),
    CariesDepth.E2: (0.62, 1.0, 0.0, 0.0),
    CariesDepth.D1: (1.0, 1.0, 0.1, 0.33),
    CariesDepth.D2: (1.0, 1.0, 0.38, 0.66),
    CariesDepth.D3: (1.0, 1.0, 0.7, 0.95),
    CariesDepth.P: (1.0, 1.0, 1.05, 1.3),
}
#: Attenuation per mm at 65 kVp, thin: what a lost path takes away.
LOST = {"enamel": 0.42, "dentine": 0.24}


@dataclass(frozen=True, slots=True)
class Spot:
    """A mask in the window of a tooth, with the mean change of mu·t inside."""

    mask: Mask
    contrast: float


def _wobble(rng: np.random.Generator, painted: Painted, canvas: Canvas, size: float) -> Map:
    rows, cols = painted.m.shape
    return slow_field(rng, rows, cols, canvas.pixel_mm, size)


def _remove(
    rng: np.random.Generator,
    canvas: Canvas,
    painted: Painted,
    shape: Map,
    extent: float,
    lost: float,
) -> Spot | None:
    """Take the share `lost` of the mineral over `extent` mm of beam, where `shape` is 1."""
    blur_mm = float(rng.uniform(0.1, 0.3))
    soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), max(blur_mm / canvas.pixel_mm, 0.4))
    gone = np.zeros_like(soft)
    total = np.maximum(painted.enamel + painted.dentine, 0.05)
    # A lesion rarely takes a ray's whole way, even where the tooth is thin.
    share = np.clip(extent / total, 0, float(rng.uniform(0.55, 0.9))) * soft * lost
    for name in ("enamel", "dentine"):
        path: Map = getattr(painted, name)
        gone += LOST[name] * path * share
        path *= 1 - share
    mask = (shape > 0.5) & painted.inside
    if mask.sum() < 3:
        return None
    return Spot(mask, float(gone[mask].mean()))


def proximal(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, surface: Surface, depth: CariesDepth
) -> Spot | None:
    """Remove mineral at a proximal surface just below the contact."""
    tooth = painted.shape
    is_mesial = surface is Surface.MESIAL
    sign = 1.0 if is_mesial else -1.0
    low, high, inner_low, inner_high = DEPTH_RANGE[depth]
    at = -tooth.crown * float(rng.uniform(0.28, 0.5))
    place = float(np.clip(-at / (0.5 * tooth.crown), 0, 1))
    enamel = tooth.enamel * (0.04 + 0.96 * place**0.85)
    to_pulp = max(tooth.half_at(at, is_mesial) - enamel - 0.2 * tooth.neck, 0.8)
    reach = enamel * float(rng.uniform(low, high)) + to_pulp * float(
        rng.uniform(inner_low, inner_high)
    )
    tall = float(rng.uniform(0.5, 0.95)) + 0.26 * reach
    inward = tooth.half_width(painted.v, is_mesial) - painted.m * sign
    slant = float(rng.normal(0.12, 0.12)) * inward  # lesions run a little apically inwards
    wobble = 1 + 0.16 * _wobble(rng, painted, canvas, 0.9)
    narrow = float(rng.uniform(0.35, 0.7))
    dentine = (
        0.85
        * float(rng.uniform(0.8, 1.25))
        * np.sqrt(np.clip(1 - ((inward - enamel) / max(reach - enamel, 0.05)) ** 2, 0, 1))
    )
    body = np.where(inward < enamel, 1 - narrow * np.clip(inward, 0, None) / enamel, dentine)
    edge = reach * (1 + 0.1 * (wobble - 1) * 3)
    inside = (
        (inward > -0.3) & (inward < edge) & (np.abs(painted.v - at - slant) < tall * body * wobble)
    )
    early = depth in (CariesDepth.E1, CariesDepth.E2)
    extent = float(rng.uniform(1.4, 2.8)) + 0.45 * reach
    lost = float(rng.uniform(0.35, 0.75) if early else rng.uniform(0.45, 0.92))
    gradient = 1 - 0.45 * np.clip(inward / max(reach, 0.2), 0, 1)
    shape = np.where(inside & painted.inside, gradient, 0).astype(np.float32)
    spot = _remove(rng, canvas, painted, shape, extent * 1.2, lost)
    mask = inside & painted.inside
    if spot is None or mask.sum() < 3:
        return None
    return Spot(mask, spot.contrast)


def occlusal(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, depth: CariesDepth
) -> Spot | None:
    """Remove dentine under a fissure, spreading along its junction with the enamel."""
    tooth = painted.shape
    middle = float(rng.normal(0, 0.12)) * tooth.width
    junction = tooth.crown * 0.82 - tooth.enamel * 1.5
    to_pulp = max(junction - 0.2 * tooth.crown, 1.0)
    _, _, low, high = DEPTH_RANGE[depth]
    reach = to_pulp * float(rng.uniform(low, high))
    wide = float(rng.uniform(0.8, 1.4)) + 0.55 * reach
    down = painted.v + junction
    wobble = 1 + 0.16 * _wobble(rng, painted, canvas, 1.0)
    x = (painted.m - middle) / (wide * wobble)
    dome = (np.abs(x) < 1) & (down > -0.25) & (down < reach * np.sqrt(np.clip(1 - x * x, 0, 1)))
    fissure = (np.abs(painted.m - middle) < 0.2) & (down <= 0) & (painted.v > -painted.top)
    shape = np.where(dome, 1.0, np.where(fissure, 0.4, 0.0)).astype(np.float32)
    extent = float(rng.uniform(2.0, 3.5)) + 0.5 * reach
    return _remove(
        rng, canvas, painted, shape * painted.inside, extent, float(rng.uniform(0.5, 0.9))
    )


def root(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, surface: Surface, level: float
) -> Spot | None:
    """Remove a saucer from the root between the CEJ and the crest."""
    tooth = painted.shape
    is_mesial = surface is Surface.MESIAL
    at = float(rng.uniform(0.3, max(0.6, min(level - 0.8, 2.5))))
    inward = tooth.half_width(painted.v, is_mesial) - painted.m * (1.0 if is_mesial else -1.0)
    reach, tall = float(rng.uniform(0.6, 1.8)), float(rng.uniform(0.7, 1.5))
    wobble = 1 + 0.15 * _wobble(rng, painted, canvas, 0.9)
    round_ = ((painted.v - at) / tall) ** 2 + (inward / reach) ** 2
    shape = ((round_ < wobble) & (inward > -0.3) & painted.inside).astype(np.float32)
    return _remove(
        rng, canvas, painted, shape, float(rng.uniform(2.2, 4.5)), float(rng.uniform(0.5, 0.9))
    )


def beside(
    rng: np.random.Generator,
    canvas: Canvas,
    painted: Painted,
    surface: Surface,
    at: tuple[float, float],
    depth: CariesDepth,
) -> Spot | None:
    """Remove mineral under a filling's or crown's margin at tooth place `at` (recurrent caries)."""
    size = {CariesDepth.D1: 0.8, CariesDepth.D2: 1.4, CariesDepth.D3: 2.1}[depth]
    size *= float(rng.uniform(0.85, 1.15))
    wobble = 1 + 0.2 * _wobble(rng, painted, canvas, 0.9)
    m0, v0 = at
    if surface is not Surface.OCCLUSAL:  # from the surface inwards, along the floor of the box
        m0 -= (1.0 if surface is Surface.MESIAL else -1.0) * size * 0.4
    wide, tall = size * float(rng.uniform(0.8, 1.2)), size * float(rng.uniform(0.55, 0.85))
    round_ = ((painted.m - m0) / wide) ** 2 + ((painted.v - v0 - tall * 0.5) / tall) ** 2
    shape = ((round_ < wobble) & painted.inside).astype(np.float32)
    for name, path in painted.others.items():
        if name != "soft":
            shape *= path < 0.3
    return _remove(
        rng, canvas, painted, shape, float(rng.uniform(2.5, 4.5)), float(rng.uniform(0.55, 0.95))
    )


def calculus(
    rng: np.random.Generator, canvas: Canvas, painted: Painted, surface: Surface, level: float
) -> Spot | None:
    """Add a spur of calculus at the neck of one side."""
    tooth = painted.shape
    is_mesial = surface is Surface.MESIAL
    sign = 1.0 if is_mesial else -1.0
    at = float(rng.uniform(-0.5, max(0.4, level - 1.0)))
    out = painted.m * sign - tooth.half_width(painted.v, is_mesial)
    far, tall = float(rng.uniform(0.35, 1.1)), float(rng.uniform(0.5, 1.3))
    tip = at + float(rng.normal(0.1, 0.25))
    wobble = 1 + 0.25 * _wobble(rng, painted, canvas, 0.5)
    height = tall * np.clip(1 - out / far, 0, 1) ** float(rng.uniform(0.7, 1.4)) * wobble
    middle = at + (tip - at) * np.clip(out / far, 0, 1)
    shape = (out > -0.25) & (out < far) & (np.abs(painted.v - middle) < height)
    path = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), max(0.07 / canvas.pixel_mm, 0.3))
    thick = float(rng.uniform(1.0, 3.0))
    painted.add("calculus", path * thick)
    mask = shape & (out > -0.1)
    return Spot(mask, 0.25 * thick) if mask.sum() >= 3 else None


def mimic(rng: np.random.Generator, canvas: Canvas, painted: Painted, kind: str) -> None:
    """Paint what looks like caries and is none: burnout, abrasion, hypoplasia."""
    tooth = painted.shape
    if kind == "burnout":  # a darker collar whose edges fade
        collar = np.exp(-(((painted.v - rng.uniform(0.4, 1.2)) / rng.uniform(0.6, 1.0)) ** 2))
        side = tooth.half_width(painted.v, bool(rng.random() < 0.5))
        near = np.clip(np.abs(painted.m) / np.maximum(side, 0.1), 0, 1) ** 3
        painted.dentine *= 1 - float(rng.uniform(0.12, 0.35)) * collar * near
        return
    at = 0.3 if kind == "abrasion" else -float(rng.uniform(0.3, 0.7)) * tooth.crown
    tall = float(rng.uniform(0.4, 0.8))
    wide = float(rng.uniform(0.2, 0.4)) * tooth.width
    middle = float(rng.normal(0, 0.1)) * tooth.width
    round_ = ((painted.v - at) / tall) ** 2 + ((painted.m - middle) / wide) ** 2
    notch = smooth(1.2 - np.asarray(round_, np.float32), 0, 0.9)
    depth = float(rng.uniform(0.5, 1.6)) if kind == "abrasion" else float(rng.uniform(0.2, 0.5))
    total = np.maximum(painted.enamel + painted.dentine, 0.1)
    for path in (painted.enamel, painted.dentine):
        path *= 1 - notch * np.clip(depth / total, 0, 0.6)


def lucency(
    rng: np.random.Generator, canvas: Canvas, at: tuple[float, float], diameter: float
) -> tuple[tuple[slice, slice], Mask, float] | None:
    """Dissolve bone round a place in the mouth; its window, mask and mean share lost."""
    cut = canvas.box_mm(at, diameter * 0.9 + 0.8)
    if cut is None:
        return None
    xs, ys = canvas.xs[cut], canvas.ys[cut]
    wobble = 1 + 0.12 * slow_field(
        rng, xs.shape[0], xs.shape[1], canvas.pixel_mm, max(0.3 * diameter, 0.5)
    )
    aspect = float(rng.uniform(0.85, 1.2))
    x, y = xs - at[0], ys - at[1]
    ring = np.hypot(x * aspect, y / aspect) / (diameter / 2)
    ring = (ring / np.clip(wobble, 0.6, 1.5)).astype(np.float32)
    fuzzy = float(rng.uniform(0.1, 0.6))
    lost = float(rng.uniform(0.5, 0.97))
    canvas.bone_left[cut] *= 1 - lost * smooth(1 + fuzzy / 2 - ring, 0, fuzzy)
    if rng.random() < 0.3:  # a thin cortical or sclerotic rim
        rim = np.exp(-(((ring - 1.12) / float(rng.uniform(0.06, 0.25))) ** 2))
        canvas.paths["cortical"][cut] += rim * float(rng.uniform(0.2, 0.8))
    return cut, ring < 1.0, lost
