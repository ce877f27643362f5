"""Path lengths through one tooth: enamel cap, dentine, pulp and roots, seen along the beam.

Crowns have a buccal and a lingual half of their own height; the beam's angle moves everything by
its bucco-lingual place, so cusps part, the palatal root shifts and contacts overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from sample_studies.phantoms.anatomy import Placed, Root
from sample_studies.phantoms.canvas import Canvas
from sample_studies.phantoms.materials import Floats, Map

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Painted:
    """One tooth on the film: path lengths in mm inside the window `cut`, still to be treated.

    ``others`` are path lengths of other materials; ``root_path`` is what the bone makes room for.
    """

    shape: Placed
    cut: tuple[slice, slice]
    m: Map
    v: Map
    enamel: Map
    dentine: Map
    root_path: Map
    inside: Mask
    crown: Mask
    top: Map  # height over the CEJ of the higher cusp row
    roots: list[Mask]
    others: dict[str, Map] = field(default_factory=dict)
    no_crown: bool = False

    def add(self, material: str, path: Map) -> None:
        """Add path length of another material."""
        if material in self.others:
            self.others[material] += path
        else:
            self.others[material] = np.asarray(path, np.float32)


def smooth(x: Floats, low: float, high: float) -> Map:
    """Rise from 0 at `low` to 1 at `high` without corners."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def chord(x: Floats, squareness: float) -> Map:
    """Share of the full thickness at normalised distance `x` from the middle of a section."""
    near = np.clip(np.abs(x), 0, 1)
    power = near * near if abs(squareness - 2.0) < 0.05 else near**squareness
    return np.asarray(np.sqrt(1 - power), np.float32)


def paint(canvas: Canvas, tooth: Placed) -> Painted | None:
    """Measure the beam's way through `tooth`; None when the film does not show it."""
    cut = canvas.window(tooth)
    if cut is None:
        return None
    m, v = tooth.local(canvas.xs[cut], canvas.ys[cut])
    slide = canvas.beam[0] * tooth.mesial_sign + math.sin(tooth.turn)
    rise = -tooth.crown_sign * canvas.beam[1]
    enamel, dentine, crown, top = _crown(tooth, m, v, slide, rise)
    root, masks, apart = _roots(tooth, m, v, slide, rise)
    # Enamel reaches further down in the middle of the buccal and lingual faces.
    sheet = np.minimum(1.8 * _face(tooth, m, v) * (v >= 0), root * 0.5)
    enamel = enamel + sheet
    dentine = dentine + root - sheet
    pulp = _pulp(tooth, m, v, slide, apart)
    dentine = np.maximum(dentine - pulp * (dentine > 0), 0)
    inside = crown | (root > 0.05)
    return Painted(tooth, cut, m, v, enamel, dentine, root, inside, crown, top, masks)


def _face(tooth: Placed, m: Map, v: Map) -> Map:
    """Thickness of the enamel on the buccal and the lingual face."""
    bow = tooth.cej_bow * (1 - (m / (tooth.neck / 2)) ** 2)
    place = np.clip((np.maximum(bow, 0) - v) / (0.5 * tooth.crown), 0, 1)
    return np.asarray(tooth.enamel * 0.8 * place**1.2, np.float32)


def _crown(tooth: Placed, m: Map, v: Map, slide: float, rise: float) -> tuple[Map, Map, Mask, Map]:
    above = v < 0
    place = np.clip(-v / (0.5 * tooth.crown), 0, 1)
    side = (0.04 + 0.96 * place**0.85) * tooth.enamel  # thickness of the enamel beside the dentine
    enamel = np.zeros_like(m)
    dentine = np.zeros_like(m)
    highest = np.full_like(m, -9.0)
    wedge = {"molar": 1.7, "premolar": 2.6, "canine": 5.0, "incisor": 0.8 * tooth.crown}[tooth.kind]
    power = {"molar": 0.5, "premolar": 0.6, "canine": 0.75, "incisor": 0.9}[tooth.kind]
    occlusal = tooth.enamel * (1.55 if tooth.kind in ("molar", "premolar") else 1.0)
    half_depth = tooth.depth / 2
    face = _face(tooth, m, v)
    wide_m, wide_d = tooth.half_width(v, True), tooth.half_width(v, False)
    for is_buccal in (True, False):
        z = (1 if is_buccal else -1) * half_depth * 0.45
        um = m - z * slide * place
        uv = v - z * rise * place
        top = tooth.tops(um, is_buccal)
        half = np.where(um > 0, wide_m, wide_d)
        x = um / np.maximum(half, 0.05)
        room = uv + top
        is_in = above & (np.abs(x) < 1) & (room > 0)
        taper = np.clip(room / wedge, 0, 1) ** power
        neck_share = 0.88 + 0.12 * place
        total = half_depth * chord(x, tooth.squareness) * taper * neck_share * is_in
        core_half = np.maximum(half - side, 0.05)
        core_room = room - occlusal - 0.2 * np.clip(top - tooth.crown * 0.86, 0, 2)
        core_x = um / core_half
        core_depth = np.maximum(half_depth * neck_share - face, 0.3)
        core = core_depth * chord(core_x, tooth.squareness + 0.9)
        core *= np.clip(core_room / wedge, 0, 1) ** power * (np.abs(core_x) < 1) * is_in
        np.minimum(core, total, out=core)
        enamel += total - core
        dentine += core
        np.maximum(highest, np.where(np.abs(x) < 1, top + uv - v, -9.0), out=highest)
    crown = (enamel + dentine) > 0.02
    return enamel.astype(np.float32), dentine.astype(np.float32), crown, highest


def _roots(
    tooth: Placed, m: Map, v: Map, slide: float, rise: float
) -> tuple[Map, list[Mask], list[tuple[Root, Map]]]:
    below = v >= 0
    depth = tooth.depth * 0.88
    half = np.where(m > 0, tooth.half_width(v, True), tooth.half_width(v, False))
    single = len(tooth.roots) == 1
    masks: list[Mask] = []
    apart: list[tuple[Root, Map]] = []
    if single:
        root = tooth.roots[0]
        um = m - (root.centre(v) - root.at_start)
        x = um / np.maximum(half, 0.05)
        narrow = np.sqrt(np.clip(1 - (v / root.length) ** 3, 0, 1)) * (
            1 - 0.25 * np.clip(v / root.length, 0, 1)
        )
        path = depth * narrow * chord(x, 2.2) * (np.abs(x) < 1) * below * (v < root.length)
        masks.append(below & (path > 0.02))
        apart.append((root, um))
        return path.astype(np.float32), masks, apart
    x = m / np.maximum(half, 0.05)
    # The furcation's arch spans what lies between the outer roots.
    first, second = tooth.roots[0], tooth.roots[1]
    inner_m = first.centre(v) - first.half_width(v)
    inner_d = second.centre(v) + second.half_width(v)
    gap = np.maximum((inner_m - inner_d) / 2, 0.25)
    away = np.minimum(np.abs(m - (inner_m + inner_d) / 2) / gap, 1.2)
    limit = tooth.trunk + tooth.arch_height * (away**2 - 0.6)
    open_at = np.clip((limit - v) / (0.4 * tooth.trunk), 0, 1)
    groove = smooth(v, 0.4 * tooth.trunk, 1.1 * tooth.trunk) * smooth(1.5 - away, 0.0, 1.0)
    fluted = 1 - 0.35 * groove
    trunk = depth * chord(x, 2.4) * (np.abs(x) < 1) * below * np.sqrt(open_at) * fluted
    trunk *= 1 - 0.3 * smooth(v, 0.5 * tooth.trunk, 1.5 * tooth.trunk)
    total = trunk
    masks.append(below & (trunk > 0.02))
    for root in tooth.roots:
        um = m - root.centre(v) - root.z * slide
        uv = v - root.z * rise
        wide = root.half_width(uv)
        x = um / np.maximum(wide, 0.05)
        grows = smooth(uv, root.start, root.start + 0.8 * tooth.trunk)
        body = root.depth * chord(x, 2.2) * (np.abs(x) < 1) * grows
        body = body * (uv < root.length) * np.sqrt(np.clip(1.02 - (uv / root.length) ** 4, 0, 1))
        apart.append((root, um))
        masks.append((np.abs(x) < 1) & (uv > 1.05 * tooth.trunk) & (uv < root.length))
        # Roots lie inside the trunk where they leave it; a palatal one then lies behind the others.
        both = np.minimum(total, body) if root.z < 0 else np.float32(0)
        behind = smooth(v, 0.9 * tooth.trunk, 2.0 * tooth.trunk)
        total = np.maximum(total, body) + both * behind
    return np.where(below, total, 0).astype(np.float32), masks, apart


def _pulp(tooth: Placed, m: Map, v: Map, slide: float, apart: list[tuple[Root, Map]]) -> Map:
    """Path length through the pulp: a chamber with horns and a canal in every root, mm."""
    size = tooth.pulp
    if tooth.kind == "molar":
        wide = 0.27 * tooth.neck * (0.75 + 0.3 * size)
        roof = 0.2 * tooth.crown * size
        floor = 0.3 * tooth.trunk * (0.3 + 0.7 * size)
        u = np.abs(m) / wide
        tall = np.where(m > 0, tooth.horns[0], tooth.horns[1])
        horn = np.exp(-(((u - 0.76) / 0.26) ** 2)) * tall * tooth.crown * size
        sag = 0.5 * (1 - u * u) * 0.9
        chamber = smooth(roof + horn - sag * 0.5 + v, -0.25, 0.75)
        chamber *= smooth(floor + 0.25 - 0.5 * (1 - u * u) - v, -0.2, 1.1) * smooth(
            1.12 - u, 0, 0.42
        )
        path = chamber * (0.9 + 1.9 * size)
        for root, um in apart:
            narrow = np.clip(1 - v / root.length, 0.12, 1)
            canal = (0.16 + 0.3 * size) * narrow
            at = smooth(canal - np.abs(um) + 0.12, 0, 0.22)
            reach = smooth(v, 0.2 * floor, floor + 1.2) * (v < root.length - 0.4)
            # Canals start at the chamber's corners and run into the middle of each root.
            path = np.maximum(
                path, at * reach * (0.5 + 1.5 * narrow) * (1.1 if root.z == 0 else 0.8)
            )
        return np.asarray(path, np.float32)
    root, um = apart[0]
    top = {"premolar": 0.42, "canine": 0.48, "incisor": 0.5}[tooth.kind] * tooth.crown
    top *= 0.45 + 0.55 * size
    share = np.clip((v + top) / (root.length + top), 0, 1)
    widest = (0.05 + 0.085 * size) * tooth.neck
    shape = np.interp(
        share, (0, 0.07, 0.2, 0.34, 0.6, 0.93, 0.96), (0.15, 0.6, 1.0, 0.85, 0.5, 0.22, 0)
    )
    half = (widest * shape).astype(np.float32)
    body = smooth(half - np.abs(um), -0.08, 0.16) * (v > -top) * (share < 0.96)
    if tooth.kind == "premolar" and tooth.roots[0].bend > 0.02:  # two canals beside each other
        split = smooth(v, 0.35 * root.length, 0.6 * root.length) * 0.55
        two = smooth(0.18 - np.abs(np.abs(um) - split * (1 + 4 * abs(slide))), -0.08, 0.12)
        body = np.where(
            v > 0.35 * root.length, np.minimum(np.maximum(two, 0), 1) * (share < 0.95), body
        )
    deep = (0.32 if tooth.kind == "premolar" else 0.26) * tooth.depth * (0.45 + 0.55 * size)
    return np.asarray(body * deep * (1 - 0.72 * share), np.float32)


def finish(canvas: Canvas, painted: Painted) -> None:
    """Add a treated tooth to the film's paths; a drawn edge is never sharper than the film."""
    cut = painted.cut
    canvas.paths["enamel"][cut] += painted.enamel
    canvas.paths["dentine"][cut] += painted.dentine
    for material, path in painted.others.items():
        canvas.paths.setdefault(material, np.zeros_like(canvas.xs))[cut] += path
    mask = painted.inside if not painted.no_crown else painted.inside & (painted.v > -0.05)
    canvas.silhouettes[painted.shape.tooth] = (cut, mask)


def edge_distance(mask: Mask, pixel_mm: float) -> Map:
    """Distance in mm outside of `mask`, 0 inside."""
    outside = (~mask).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3) * pixel_mm, np.float32)
