"""Synthetic bitewings and periapicals by X-ray physics, with exact truth.

Teeth are stacks of elliptic sections (average sizes, varied) with an enamel shell, dentine, pulp
and roots; bone is cortical plates over a trabecular slab with a crest, lamina dura and a
periodontal ligament space. Lesions remove mineral over a limited bucco-lingual depth, so an early
one is faint by physics, not by drawing. Path lengths times attenuation give the exposure; scatter,
blur, noise, a look-up curve and collimation follow. Nothing is taken from a real patient.

Frame: millimetres on the detector plane, x to the right, y down, origin at the top-left corner of
the top-left pixel; truth is given in pixels of the film in the same frame. The patient's right is
on the viewer's left. Attenuation per cm at 60 kVp, hardened by 2 cm of tissue: enamel and dentine
thin, others over 3 mm; computed values, see models/cards/intraoral.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from node.domain.findings import CariesDepth, Point, View
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Surface, Tooth

Map = npt.NDArray[np.float32]

#: Attenuation per cm (see the module's head).
MU = {
    "enamel": 4.75,
    "dentine": 2.68,
    "trabecular": 0.85,
    "cortical": 2.0,
    "soft": 0.345,
    "metal": 80.0,
    "composite": 6.2,
    "plastic": 0.9,
}

#: Crown length, root length, mesio-distal crown and neck, bucco-lingual crown; average mm.
_SIZES: dict[tuple[Arch, int], tuple[float, float, float, float, float]] = {
    (Arch.UPPER, 1): (10.5, 13.0, 8.5, 7.0, 7.0),
    (Arch.UPPER, 2): (9.0, 13.0, 6.5, 5.0, 6.0),
    (Arch.UPPER, 3): (10.0, 17.0, 7.5, 5.5, 8.0),
    (Arch.UPPER, 4): (8.5, 14.0, 7.0, 5.0, 9.0),
    (Arch.UPPER, 5): (8.5, 14.0, 7.0, 5.0, 9.0),
    (Arch.UPPER, 6): (7.5, 12.5, 10.0, 8.0, 11.0),
    (Arch.UPPER, 7): (7.0, 11.5, 9.0, 7.0, 11.0),
    (Arch.UPPER, 8): (6.5, 11.0, 8.5, 6.5, 10.0),
    (Arch.LOWER, 1): (9.0, 12.5, 5.0, 3.5, 6.0),
    (Arch.LOWER, 2): (9.5, 14.0, 5.5, 4.0, 6.5),
    (Arch.LOWER, 3): (11.0, 16.0, 7.0, 5.5, 7.5),
    (Arch.LOWER, 4): (8.5, 14.0, 7.0, 5.0, 7.5),
    (Arch.LOWER, 5): (8.0, 14.5, 7.0, 5.0, 8.0),
    (Arch.LOWER, 6): (7.5, 14.0, 11.0, 9.0, 10.5),
    (Arch.LOWER, 7): (7.0, 13.0, 10.5, 8.0, 10.0),
    (Arch.LOWER, 8): (7.0, 11.0, 10.0, 7.5, 9.5),
}
_DEPTH_RANGE = {  # penetration: share of the enamel, then share of dentine to the pulp
    CariesDepth.E1: (0.25, 0.5, 0.0, 0.0),
    CariesDepth.E2: (0.6, 1.0, 0.0, 0.0),
    CariesDepth.D1: (1.0, 1.0, 0.08, 0.33),
    CariesDepth.D2: (1.0, 1.0, 0.38, 0.66),
    CariesDepth.D3: (1.0, 1.0, 0.7, 0.97),
}


@dataclass(frozen=True, slots=True)
class TrueLesion:
    """One proximal caries lesion: surface, depth code and outline in pixels."""

    tooth: Tooth
    surface: Surface
    depth: CariesDepth
    polygon: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class TrueSite:
    """Bone level at one side of one tooth: points in pixels, length along the tooth's axis."""

    tooth: Tooth
    surface: Surface
    cej: Point
    crest: Point
    apex: Point
    level_mm: float
    root_mm: float


@dataclass(frozen=True, slots=True)
class TrueTooth:
    """One tooth: the part of its outline inside the film, and its box (x0, y0, x1, y1)."""

    tooth: Tooth
    box: tuple[float, float, float, float]
    polygon: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Film:
    """One synthetic film: (rows, cols) uint16 pixels, radiopaque bright, and its truth."""

    pixels: npt.NDArray[np.uint16]
    bits_stored: int
    spacing_mm: float
    view: View
    side: str  # R, L or B
    teeth: tuple[TrueTooth, ...]
    sites: tuple[TrueSite, ...]
    lesions: tuple[TrueLesion, ...]

    def truth(self) -> dict[str, object]:
        """Give the truth as plain JSON values, pixels of this film."""
        return {
            "view": self.view.value,
            "side": self.side,
            "spacing_mm": [self.spacing_mm, self.spacing_mm],
            "bits_stored": self.bits_stored,
            "teeth": [
                {
                    "tooth": t.tooth.code,
                    "box": [round(v, 1) for v in t.box],
                    "polygon": _rounded(t.polygon),
                }
                for t in self.teeth
            ],
            "sites": [
                {
                    "tooth": s.tooth.code,
                    "surface": s.surface.value,
                    "cej": _rounded([s.cej])[0],
                    "crest": _rounded([s.crest])[0],
                    "apex": _rounded([s.apex])[0],
                    "level_mm": round(s.level_mm, 2),
                    "root_mm": round(s.root_mm, 2),
                }
                for s in self.sites
            ],
            "lesions": [
                {
                    "tooth": lesion.tooth.code,
                    "surface": lesion.surface.value,
                    "depth": lesion.depth.value,
                    "polygon": _rounded(lesion.polygon),
                }
                for lesion in self.lesions
            ],
        }


def in_8_bits(film: Film) -> Film:
    """Give the same film with 8 bits stored."""
    pixels = np.round(film.pixels / np.float32(2**film.bits_stored - 1) * 255)
    return replace(film, pixels=pixels.astype(np.uint16), bits_stored=8)


def _rounded(points: Sequence[Point]) -> list[list[float]]:
    return [[round(x, 1), round(y, 1)] for x, y in points]


@dataclass(frozen=True, slots=True)
class _Placed:
    """One tooth in place: size in mm, CEJ centre, axis tilt, and which way its crown points."""

    tooth: Tooth
    crown: float
    root: float
    width: float
    neck: float
    depth: float
    x: float
    y: float
    tilt: float  # radians
    crown_sign: int  # +1: the crown points down (upper teeth)
    mesial_sign: int  # +1: mesial is towards +x
    enamel: float
    cusps: int
    spread: float  # root separation as a share of the neck
    bend: float
    profile: tuple[float, ...]  # shape factors of the crown's outline
    lean: float  # shifts the crown sideways towards its top
    cusp_height: float
    cusp_phase: float
    loss: tuple[float, float] = (1.5, 1.5)  # CEJ to crest at the -x and +x side, mm

    def local(self, xs: Map, ys: Map) -> tuple[Map, Map]:
        """Film mm to tooth mm: u along x, v from the CEJ towards the apex."""
        dx, dy = xs - self.x, (ys - self.y) * -self.crown_sign
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        u, v = dx * cos + dy * sin, -dx * sin + dy * cos
        leaning = u - self.lean * np.clip(-v, 0, None)
        return np.asarray(leaning, np.float32), np.asarray(v, np.float32)

    def film(self, u: float, v: float) -> Point:
        """Tooth mm to film mm."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        dx, dy = u * cos - v * sin, u * sin + v * cos
        return self.x + dx, self.y - self.crown_sign * dy

    def half_width(self, v: Map) -> Map:
        """Half of the mesio-distal width at `v`: widest at the contact, tapering to the apex."""
        crown = np.interp(
            -v / self.crown,
            [0.0, 0.15, 0.35, 0.55, 0.72, 0.88, 1.0],
            np.array([self.neck, 0.35, 0.78, 1.0, 0.985, 0.86, 0.66])
            * np.array([1.0, *[self.width] * 6])
            * np.array([1.0, *self.profile])
            + np.array([0.0, 0.65 * self.neck, 0.22 * self.neck, 0.0, 0.0, 0.0, 0.0]),
        )
        share = np.clip(v / self.root, 0.0, 1.0)
        root = self.neck * (1.0 - 0.30 * share - 0.62 * share**2.6)
        return np.asarray(np.where(v < 0, crown, np.maximum(root, 0.3)) / 2, np.float32)


def _pick(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _place(rng: np.random.Generator, tooth: Tooth, x: float, y: float, scale: float) -> _Placed:
    crown, root, width, neck, depth = (
        value * scale * float(rng.normal(1.0, 0.05))
        for value in _SIZES[(tooth.arch, tooth.position)]
    )
    molar, premolar = tooth.position >= 6, tooth.position in (4, 5)
    return _Placed(
        tooth=tooth,
        crown=crown,
        root=root,
        width=max(width, neck * 1.12),
        neck=neck,
        depth=depth,
        x=x,
        y=y,
        tilt=float(rng.normal(0.0, 0.06)),
        crown_sign=1 if tooth.arch is Arch.UPPER else -1,
        mesial_sign=1 if tooth.is_patient_right else -1,
        enamel=_pick(rng, 0.85, 1.35) * scale,
        cusps=3 if molar else 2 if premolar else 1,
        spread=_pick(rng, 0.30, 0.45) if molar else 0.0,
        bend=float(rng.normal(0.0, 0.06)),
        profile=(
            _pick(rng, 0.9, 1.1),
            _pick(rng, 0.95, 1.04),
            1.0,
            _pick(rng, 0.97, 1.01),
            _pick(rng, 0.9, 1.04),
            _pick(rng, 0.75, 1.15),
        ),
        lean=float(rng.normal(0.0, 0.03)),
        cusp_height=_pick(rng, 0.02, 0.09),
        cusp_phase=float(rng.normal(0.0, 0.5)),
    )


class _Scene:
    """Path-length maps in mm, painted tooth by tooth."""

    def __init__(self, rows: int, cols: int, pixel_mm: float) -> None:
        self.rows, self.cols, self.pixel_mm = rows, cols, pixel_mm
        axis_x = (np.arange(cols, dtype=np.float32) + 0.5) * pixel_mm
        axis_y = (np.arange(rows, dtype=np.float32) + 0.5) * pixel_mm
        self.xs, self.ys = np.meshgrid(axis_x, axis_y)
        self.maps: dict[str, Map] = {
            name: np.zeros((rows, cols), np.float32) for name in MU if name != "soft"
        }
        self.roots = np.zeros((rows, cols), bool)
        self.lamina = np.zeros((rows, cols), np.float32)
        self.ligament = np.zeros((rows, cols), np.float32)
        self.silhouettes: dict[Tooth, npt.NDArray[np.bool_]] = {}

    def window(self, tooth: _Placed, margin: float = 2.0) -> tuple[slice, slice] | None:
        """Return the part of the film a tooth can touch."""
        reach = max(tooth.crown, tooth.root) + margin
        wide = tooth.width / 2 + margin + reach * abs(math.sin(tooth.tilt))
        bounds = [
            (tooth.y - reach, tooth.y + reach, self.rows),
            (tooth.x - wide, tooth.x + wide, self.cols),
        ]
        cut = [
            slice(max(0, int(a / self.pixel_mm)), min(n, int(b / self.pixel_mm) + 1))
            for a, b, n in bounds
        ]
        if cut[0].start >= cut[0].stop or cut[1].start >= cut[1].stop:
            return None
        return cut[0], cut[1]

    def px(self, point: Point) -> Point:
        """Film mm to film pixels."""
        return point[0] / self.pixel_mm, point[1] / self.pixel_mm


def _crown_top(tooth: _Placed, u: Map) -> Map:
    """Height of the occlusal outline above the CEJ at `u`, mm: cusps and grooves."""
    share = np.clip(np.abs(u) / (tooth.width / 2), 0, 1)
    if tooth.cusps == 1:
        return np.asarray(tooth.crown * (1.0 - 0.07 * share**2), np.float32)
    waves = np.cos(u / tooth.width * 2 * math.pi * (tooth.cusps - 1) + tooth.cusp_phase)
    return np.asarray(
        tooth.crown * (0.95 + tooth.cusp_height * waves - 0.12 * share**4), np.float32
    )


def _root_shape(tooth: _Placed, u: Map, v: Map) -> Map:
    """Normalised distance from the axis of the nearest root: 1 is the surface."""
    u = u - tooth.bend * np.clip(v, 0, None) ** 2 / tooth.root
    # The last seventh of a root closes like an ellipse.
    end = np.clip((v / tooth.root - 0.86) / 0.14, 0, 0.9999)
    close = np.sqrt(1 - end**2).astype(np.float32)
    half = tooth.half_width(v) * close
    whole = np.abs(u) / half
    if tooth.spread == 0.0:
        return np.asarray(whole, np.float32)
    trunk = 0.28 * tooth.root
    share = np.clip((v - trunk) / (tooth.root - trunk), 0, 1)
    offset = tooth.spread * tooth.neck / 2 * (0.75 + 0.45 * share)
    thin = np.maximum(tooth.neck * (0.24 - 0.16 * share**2), 0.3) * close
    lobes = np.minimum(np.abs(u - offset), np.abs(u + offset)) / thin
    blend = np.clip(share / 0.3, 0, 1)
    blend = blend * blend * (3 - 2 * blend)
    return np.asarray(np.where(v > trunk, (1 - blend) * whole + blend * lobes, whole), np.float32)


def _paint_tooth(scene: _Scene, tooth: _Placed) -> None:
    cut = scene.window(tooth)
    if cut is None:
        return
    u, v = tooth.local(scene.xs[cut], scene.ys[cut])
    outer = _root_shape(tooth, u, v)
    top = _crown_top(tooth, u)
    inside = (outer < 1) & (v > -top) & (v < tooth.root)
    chord = np.sqrt(np.clip(1 - outer**2, 0, 1))
    taper = np.where(v < 0, np.clip((v + top) / (0.30 * tooth.crown), 0, 1) ** 0.5, 1.0)
    taper = np.where(v > 0, 1.0 - 0.45 * np.clip(v / tooth.root, 0, 1), taper)
    total = np.where(inside, tooth.depth * chord * taper, 0).astype(np.float32)
    shell = _shell(tooth, v)
    core_half = np.maximum(tooth.half_width(v) - shell, 0.1)
    core = (np.abs(u) < core_half) & (v > -(top - 1.5 * tooth.enamel)) & inside
    core_chord = np.sqrt(np.clip(1 - (np.abs(u) / core_half) ** 2, 0, 1))
    dentine = np.where(core, np.maximum(tooth.depth - 2 * shell, 0.5) * core_chord * taper, 0)
    dentine = np.where(v >= 0, total, np.minimum(dentine, total)).astype(np.float32)
    enamel = np.where(v < 0, total - dentine, 0)
    pulp = _pulp(tooth, u, v)
    scene.maps["enamel"][cut] += enamel
    scene.maps["dentine"][cut] += np.maximum(dentine - np.where(inside, pulp, 0), 0)
    scene.roots[cut] |= inside & (v > 0)
    beside = (outer - 1) * tooth.half_width(v)  # mm from the root's surface, about
    for layer, at, sigma in ((scene.ligament, 0.1, 0.1), (scene.lamina, 0.38, 0.12)):
        rim = np.exp(-((beside - at) ** 2) / (2 * sigma**2))
        layer[cut] = np.maximum(layer[cut], np.where((v > 0.5) & ~inside, rim, 0))
    silhouette = np.zeros((scene.rows, scene.cols), bool)
    silhouette[cut] = inside
    scene.silhouettes[tooth.tooth] = silhouette


def _shell(tooth: _Placed, v: Map) -> Map:
    """Enamel thickness at `v`, mm: full at the contact, thinning to nothing at the CEJ."""
    fade = np.clip(-v / (0.45 * tooth.crown), 0, 1)
    return np.asarray(tooth.enamel * (0.02 + 0.98 * fade**0.8), np.float32)


def _pulp(tooth: _Placed, u: Map, v: Map) -> Map:
    """Path length through the pulp: a chamber with horns and one canal a root, mm."""
    middle, tall = 0.1 * tooth.root - 0.16 * tooth.crown, 0.1 * tooth.root + 0.26 * tooth.crown
    horns = v + 0.12 * tooth.crown * (tooth.cusps > 1) * (1 - (u / (0.2 * tooth.neck)) ** 2)
    chamber = (u / (0.24 * tooth.neck)) ** 2 + np.abs((horns - middle) / tall) ** 2.5 < 1
    offset = tooth.spread * tooth.neck / 2
    line = np.minimum(np.abs(u - offset), np.abs(u + offset)) if tooth.spread else np.abs(u)
    canal = (line < 0.055 * tooth.neck + 0.1) & (v > 0) & (v < 0.92 * tooth.root)
    soft = np.clip(1 - np.abs(u) / (0.24 * tooth.neck), 0, 1)
    path = np.where(chamber, 2.2 * soft, 0) + np.where(canal, 0.7, 0)
    return np.asarray(cv2.GaussianBlur(path.astype(np.float32), (0, 0), 2.0), np.float32)


def _sides(tooth: _Placed) -> Iterator[tuple[Surface, int]]:
    yield Surface.MESIAL, tooth.mesial_sign
    yield Surface.DISTAL, -tooth.mesial_sign


def _site(scene: _Scene, tooth: _Placed, surface: Surface, sign: int) -> TrueSite:
    half = float(tooth.half_width(np.zeros(1, np.float32))[0])
    loss = tooth.loss[1 if sign > 0 else 0]
    at = float(tooth.half_width(np.full(1, loss, np.float32))[0])
    at += tooth.bend * loss**2 / tooth.root * sign
    tip = tooth.bend * tooth.root
    if tooth.spread:
        tip += sign * tooth.spread * tooth.neck / 2 * 1.2
    return TrueSite(
        tooth=tooth.tooth,
        surface=surface,
        cej=scene.px(tooth.film(sign * half, 0.0)),
        crest=scene.px(tooth.film(sign * (at + 0.25), loss)),
        apex=scene.px(tooth.film(tip, tooth.root)),
        level_mm=loss,
        root_mm=tooth.root,
    )


def _paint_bone(
    rng: np.random.Generator, scene: _Scene, teeth: Sequence[_Placed], arch: Arch
) -> None:
    """Bone apical to a crest that runs through the crest points of all teeth of one arch."""
    row = sorted((t for t in teeth if t.tooth.arch is arch), key=lambda t: t.x)
    if not row:
        return
    sign = -1 if arch is Arch.UPPER else 1
    knots: list[Point] = []
    for tooth in row:
        half = tooth.neck / 2 + 0.3
        knots += [tooth.film(-half, tooth.loss[0]), tooth.film(half, tooth.loss[1])]
    xs = np.maximum.accumulate(np.array([k[0] for k in knots]) + np.arange(len(knots)) * 1e-3)
    crest = np.interp(scene.xs[0], xs, np.array([k[1] for k in knots])).astype(np.float32)
    crest = cv2.GaussianBlur(crest[None, :], (0, 0), 0.25 / scene.pixel_mm)[0]
    deep = (scene.ys - crest[None, :]) * sign
    crisp, fading = _pick(rng, 0.25, 0.9), _pick(rng, 1.0, 5.0)
    # The plates over a root end at different heights, so no edge crosses it.
    reach = np.where(scene.roots, fading, crisp).astype(np.float32)
    ramp = np.clip(deep / reach, 0, 1) * np.clip(0.45 + deep / 9.0, 0, 1)
    ramp *= 1 - _pick(rng, 0.2, 0.8) * scene.ligament
    texture = _trabeculae(rng, scene)
    outside = np.where(scene.roots, _pick(rng, 0.2, 0.45), 1.0).astype(np.float32)
    thick = _pick(rng, 6.0, 10.0)
    scene.maps["trabecular"] += ramp * outside * thick * (1 + texture)
    scene.maps["cortical"] += ramp * _pick(rng, 0.9, 1.9)
    rim = np.exp(-((deep - 0.2) ** 2) / (2 * 0.16**2)) * (deep > -0.3)
    dense = _pick(rng, 0.2, 1.3)
    scene.maps["cortical"] += np.where(scene.roots, 0.25, 1.0) * rim * dense
    scene.maps["cortical"] += scene.lamina * (deep > 0) * _pick(rng, 0.2, 0.9)


def _trabeculae(rng: np.random.Generator, scene: _Scene) -> Map:
    fine = rng.standard_normal((scene.rows, scene.cols)).astype(np.float32)
    sizes = (_pick(rng, 0.12, 0.24), _pick(rng, 0.3, 0.6))
    small, large = (cv2.GaussianBlur(fine, (0, 0), s / scene.pixel_mm) for s in sizes)
    net = small / max(float(small.std()), 1e-6) - large / max(float(large.std()), 1e-6) * 0.5
    return np.asarray(np.clip(net * _pick(rng, 0.12, 0.45), -0.9, 2.0), np.float32)


def _paint_lesion(
    rng: np.random.Generator, scene: _Scene, tooth: _Placed, surface: Surface, sign: int
) -> TrueLesion | None:
    """Remove mineral at one proximal surface; None when the film does not show it."""
    depth = list(_DEPTH_RANGE)[int(rng.choice(5, p=[0.16, 0.22, 0.27, 0.2, 0.15]))]
    low, high, inner_low, inner_high = _DEPTH_RANGE[depth]
    at = -tooth.crown * _pick(rng, 0.3, 0.5)
    enamel = float(_shell(tooth, np.full(1, at, np.float32))[0])
    half = float(tooth.half_width(np.full(1, at, np.float32))[0])
    to_pulp = max(half - enamel - 0.22 * tooth.neck, 0.8)
    reach = enamel * _pick(rng, low, high) + to_pulp * _pick(rng, inner_low, inner_high)
    tall = _pick(rng, 0.55, 1.0) + 0.28 * reach
    cut = scene.window(tooth)
    if cut is None:
        return None
    u, v = tooth.local(scene.xs[cut], scene.ys[cut])
    inward = tooth.half_width(v) - u * sign
    body = np.where(
        inward < enamel,
        1 - 0.5 * inward / enamel,  # a notch that narrows to the junction
        0.85 * np.sqrt(np.clip(1 - ((inward - enamel) / max(reach - enamel, 0.05)) ** 2, 0, 1)),
    )
    wobble = 1 + 0.18 * np.sin(3.1 * u + _pick(rng, 0, 6)) * np.cos(2.3 * v + _pick(rng, 0, 6))
    shape = (inward > -0.1) & (inward < reach) & (np.abs(v - at) < tall * body * wobble)
    if not shape.any():
        return None
    soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.1 / scene.pixel_mm)
    extent = _pick(rng, 1.2, 2.6) + 0.3 * reach
    lost = _pick(rng, 0.45, 0.9)
    for name in ("enamel", "dentine"):
        path = scene.maps[name][cut]
        share = np.clip(extent / np.maximum(path, extent), 0, 1)
        path *= 1 - soft * lost * share
    mask = np.zeros((scene.rows, scene.cols), np.uint8)
    mask[cut] = shape & scene.silhouettes[tooth.tooth][cut]
    polygon = _outline(mask)
    if polygon is None:
        return None
    return TrueLesion(tooth.tooth, surface, depth, polygon)


def _paint_restoration(rng: np.random.Generator, scene: _Scene, tooth: _Placed) -> None:
    cut = scene.window(tooth)
    if cut is None:
        return
    u, v = tooth.local(scene.xs[cut], scene.ys[cut])
    inside = scene.silhouettes[tooth.tooth][cut]
    top = _crown_top(tooth, u)
    bumps = [_pick(rng, 0, 6.3) for _ in range(4)]  # drawn edges are never straight
    u = u + 0.22 * np.sin(2.1 * v + bumps[0]) + 0.12 * np.sin(4.7 * v + bumps[1])
    v = v + 0.25 * np.sin(1.7 * u + bumps[2]) + 0.12 * np.sin(4.1 * u + bumps[3])
    kind = rng.random()
    if kind < 0.12:  # a metal crown
        shell = (v < -_pick(rng, 0.02, 0.2) * tooth.crown) & inside
        scene.maps["metal"][cut] += np.where(shell, 1.6, 0)
        return
    centre, half = _pick(rng, -0.25, 0.25) * tooth.width, _pick(rng, 0.14, 0.36) * tooth.width
    floor = _pick(rng, 0.38, 0.68) * tooth.crown
    box = (np.abs(u - centre) < half * (1 + 0.15 * np.sin(2 * v))) & (v > -top) & (v < -floor)
    if rng.random() < 0.45:  # with a proximal box
        sign = 1 if rng.random() < 0.5 else -1
        deep = _pick(rng, 0.18, 0.4) * tooth.crown
        box |= (
            (u * sign > centre * sign)
            & (v < -deep)
            & (u * sign > tooth.width / 2 - _pick(rng, 1.4, 2.6))
        )
        box |= (u * sign > centre * sign) & (v < -floor)
    name, path = ("metal", 3.5) if kind < 0.5 else ("composite", _pick(rng, 1.5, 5.0))
    filled = (box & inside).astype(np.float32)
    if name == "composite":
        filled = cv2.GaussianBlur(filled, (0, 0), _pick(rng, 0.05, 0.2) / scene.pixel_mm)
    scene.maps[name][cut] += filled * path
    scene.maps["enamel"][cut] *= 1 - 0.5 * filled


def _outline(mask: npt.NDArray[np.uint8]) -> tuple[Point, ...] | None:
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return None
    largest = max(found, key=cv2.contourArea)
    if cv2.contourArea(largest) < 3:
        return None
    smooth = cv2.approxPolyDP(largest, 0.8, True)[:, 0, :]
    if len(smooth) < 3:
        return None
    return tuple((float(x) + 0.5, float(y) + 0.5) for x, y in smooth[:400])


def _expose(rng: np.random.Generator, scene: _Scene) -> npt.NDArray[np.uint16]:
    """Turn path lengths into pixels: attenuation, scatter, blur, noise, look-up curve."""
    total = np.full((scene.rows, scene.cols), MU["soft"] * _pick(rng, 1.4, 2.8), np.float32)
    tissue = cv2.GaussianBlur(
        rng.standard_normal((scene.rows, scene.cols)).astype(np.float32), (0, 0), 3 / scene.pixel_mm
    )
    total += tissue / max(float(tissue.std()), 1e-6) * 0.035
    for name, path in scene.maps.items():
        total += MU[name] / 10 * path
    lean = rng.normal(0, 0.12, 2)  # tissue gets thicker towards one side
    total += (lean[0] * (scene.xs / scene.xs[-1, -1] - 0.5)).astype(np.float32)
    total += (lean[1] * (scene.ys / scene.ys[-1, -1] - 0.5)).astype(np.float32)
    signal = np.exp(-total)
    wide = cv2.GaussianBlur(signal, (0, 0), 4 / scene.pixel_mm)
    signal = signal * (1 - (s := _pick(rng, 0.04, 0.2))) + wide * s
    signal = cv2.GaussianBlur(signal, (0, 0), _pick(rng, 0.03, 0.11) / scene.pixel_mm)
    dose = 10 ** _pick(rng, 3.0, 4.6)
    noisy = rng.poisson(np.clip(signal * dose, 0, None)) / dose
    density = -np.log(np.maximum(noisy, 1.0 / dose))
    low, high = np.percentile(density, (_pick(rng, 0.2, 2.0), _pick(rng, 97.0, 99.6)))
    grey = np.clip((density - low) / max(float(high - low), 0.3), 0, 1.15)
    grey = np.clip(grey, 0, 1) ** _pick(rng, 0.65, 1.5)
    if rng.random() < 0.5:
        amount, radius = _pick(rng, 0.2, 1.2), _pick(rng, 0.08, 0.3) / scene.pixel_mm
        grey = np.clip(grey + amount * (grey - cv2.GaussianBlur(grey, (0, 0), radius)), 0, 1)
    return np.asarray(np.round(grey * 4095), np.uint16)


def _collimate(rng: np.random.Generator, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Draw what a receptor adds: rounded corners, a cone cut, scratches; return what stays seen."""
    rows, cols = pixels.shape
    seen = np.ones((rows, cols), bool)
    if rng.random() < 0.35:
        radius = int(_pick(rng, 0.06, 0.16) * cols)
        mask = np.zeros((rows, cols), np.uint8)
        cv2.rectangle(mask, (radius, 0), (cols - radius, rows), 1, -1)
        cv2.rectangle(mask, (0, radius), (cols, rows - radius), 1, -1)
        for x in (radius, cols - radius):
            for y in (radius, rows - radius):
                cv2.circle(mask, (x, y), radius, 1, -1)
        pixels[mask == 0] = 4095 if rng.random() < 0.6 else 0
        seen &= mask == 1
    if rng.random() < 0.08:
        x, y = (-1 if rng.random() < 0.5 else 1) * _pick(rng, 0.25, 0.4) * cols, 0.0
        yy, xx = np.mgrid[0:rows, 0:cols]
        circle = (xx - cols / 2 - x) ** 2 + (yy - rows / 2 - y) ** 2 > (0.72 * cols) ** 2
        pixels[circle] = int(_pick(rng, 0, 60))
        seen &= ~circle
    for _ in range(int(rng.poisson(0.15))):
        start = rng.uniform(0, (cols, rows))
        end = start + rng.normal(0, 0.12, 2) * cols
        cv2.line(pixels, start.astype(int).tolist(), end.astype(int).tolist(), 4095, 1)
    return seen


@dataclass(frozen=True, slots=True)
class _Mouth:
    """What all films of one patient share; ``seed`` decides each tooth's lesions and fillings."""

    seed: int
    activity: float  # chance of caries per proximal surface
    bone_mm: float  # mean distance from the CEJ to the crest


def _mouth(rng: np.random.Generator) -> _Mouth:
    return _Mouth(
        seed=int(rng.integers(2**62)),
        activity=float(rng.choice([0.0, 0.06, 0.14, 0.26], p=[0.2, 0.35, 0.3, 0.15])),
        bone_mm=float(rng.choice([1.4, 2.2, 3.4, 5.0], p=[0.4, 0.3, 0.2, 0.1])),
    )


def _treat(scene: _Scene, tooth: _Placed, mouth: _Mouth) -> list[TrueLesion]:
    """Give a tooth its filling or its lesions, the same ones on every film it is seen on."""
    rng = np.random.default_rng((mouth.seed, int(tooth.tooth.code)))
    if rng.random() < (0.28 if tooth.tooth.is_posterior else 0.08):
        _paint_restoration(rng, scene, tooth)
        return []
    lesions = []
    for surface, sign in _sides(tooth):
        if rng.random() < mouth.activity:
            lesion = _paint_lesion(rng, scene, tooth, surface, sign)
            if lesion is not None:
                lesions.append(lesion)
    return lesions


def _finish(
    rng: np.random.Generator,
    scene: _Scene,
    teeth: Sequence[_Placed],
    view: View,
    side: str,
    mouth: _Mouth,
) -> Film:
    for tooth in teeth:
        _paint_tooth(scene, tooth)
    for arch in Arch:
        _paint_bone(rng, scene, teeth, arch)
    lesions = [lesion for tooth in teeth for lesion in _treat(scene, tooth, mouth)]
    pixels = _expose(rng, scene)
    seen = _collimate(rng, pixels)
    for mask in scene.silhouettes.values():
        mask &= seen
    shown = [t for t in (_true_tooth(scene, tooth) for tooth in teeth) if t is not None]
    visible = {t.tooth for t in shown}
    sites = [
        _site(scene, tooth, surface, sign)
        for tooth in teeth
        if tooth.tooth in visible
        for surface, sign in _sides(tooth)
    ]
    return Film(
        pixels=pixels,
        bits_stored=12,
        spacing_mm=scene.pixel_mm,
        view=view,
        side=side,
        teeth=tuple(shown),
        sites=tuple(s for s in sites if _is_seen(seen, s.cej) and _is_seen(seen, s.crest)),
        lesions=tuple(
            lesion
            for lesion in lesions
            if lesion.tooth in visible and all(_is_seen(seen, p, 0) for p in lesion.polygon)
        ),
    )


def _is_seen(seen: npt.NDArray[np.bool_], point: Point, margin: int = 2) -> bool:
    rows, cols = seen.shape
    x, y = point
    inside = margin <= x < cols - margin and margin <= y < rows - margin
    return bool(inside and seen[int(y), int(x)])


def _true_tooth(scene: _Scene, tooth: _Placed) -> TrueTooth | None:
    """Return a tooth whose silhouette shows at least a third of its crown's width."""
    mask = scene.silhouettes.get(tooth.tooth)
    if mask is None:
        return None
    cols = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if len(cols) * scene.pixel_mm < 0.35 * tooth.width or len(rows) * scene.pixel_mm < 2.5:
        return None
    polygon = _outline(mask.astype(np.uint8))
    if polygon is None:
        return None
    box = (float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1))
    return TrueTooth(tooth.tooth, box, polygon)


def _losses(rng: np.random.Generator, teeth: Sequence[_Placed], base: float) -> list[_Placed]:
    """Give every interdental crest a level shared by its two teeth; some sites are angular."""
    placed: list[_Placed] = []
    carried = base
    for tooth in teeth:
        left = float(np.clip(carried + rng.normal(0, 0.25), 0.5, 0.75 * tooth.root))
        carried = float(np.clip(rng.normal(base, 0.2 + 0.22 * base), 0.6, 0.75 * tooth.root))
        if rng.random() < 0.08:
            carried = min(carried + _pick(rng, 1.5, 4.0), 0.75 * tooth.root)
        placed.append(replace(tooth, loss=(left, carried)))
    return placed


def _row(
    rng: np.random.Generator,
    teeth: Sequence[Tooth],
    x: float,
    occlusal_y: float,
    scale: float,
    lost: float,
    bone_mm: float,
) -> list[_Placed]:
    """Stand teeth side by side from `x` with their occlusal surfaces near `occlusal_y` (mm)."""
    placed: list[_Placed] = []
    overlap = float(rng.normal(0.05, 0.18))
    slope = float(rng.normal(0, 0.035))
    start = x
    for tooth in teeth:
        one = _place(rng, tooth, 0.0, 0.0, scale)
        if rng.random() < lost:
            x += one.width * _pick(rng, 0.6, 1.0)
            continue
        height = occlusal_y - one.crown_sign * one.crown + (x - start) * slope
        height += float(rng.normal(0, 0.25))
        centre = x + one.width / 2
        placed.append(replace(one, x=centre, y=height))
        x += one.width - max(overlap + float(rng.normal(0, 0.12)), -0.4)
    return _losses(rng, placed, bone_mm)


def bitewing(
    rng: np.random.Generator, *, cols: int = 512, rows: int = 384, pixel_mm: float = 0.078
) -> Film:
    """Make a bitewing: upper and lower premolars and molars of one side, 40 × 30 mm by default."""
    is_right = bool(rng.random() < 0.5)
    mouth = _mouth(rng)
    teeth = _quarters(rng, is_right, mouth, rows * pixel_mm)
    start = _pick(rng, -18.0, -4.0) if is_right else _pick(rng, -12.0, 0.0)
    return _bite(rng, _Scene(rows, cols, pixel_mm), _moved(teeth, start), is_right, mouth)


def bitewing_series(
    rng: np.random.Generator, *, cols: int = 512, rows: int = 384, pixel_mm: float = 0.078
) -> tuple[Film, Film, Film, Film]:
    """Make four bitewings of one patient: right molar, right premolar, left premolar, left molar.

    A tooth on two films keeps its shape, bone level, filling and lesions.
    """
    mouth = _mouth(rng)
    height = rows * pixel_mm
    sides = [(is_right, _quarters(rng, is_right, mouth, height)) for is_right in (True, False)]
    starts = [start + _pick(rng, -0.8, 0.8) for start in (-1.0, -11.0, -1.0, -11.0)]
    first, second, third, fourth = (
        _bite(rng, _Scene(rows, cols, pixel_mm), _moved(teeth, start), is_right, mouth)
        for (is_right, teeth), start in zip((sides[0],) * 2 + (sides[1],) * 2, starts, strict=True)
    )
    return first, second, third, fourth


def _quarters(
    rng: np.random.Generator, is_right: bool, mouth: _Mouth, height: float
) -> list[_Placed]:
    """Stand the canine to the third molar of both jaws of one side; the upper row starts at 0."""
    scale = _pick(rng, 0.98, 1.12)  # magnification
    middle = height * _pick(rng, 0.44, 0.56)
    gap = _pick(rng, -0.6, 2.4)
    upper = UPPER_ARCH[:6] if is_right else UPPER_ARCH[10:]
    lower = LOWER_ARCH[:6] if is_right else LOWER_ARCH[10:]
    shift = _pick(rng, 1.0, 4.0) * (-1 if is_right else 1)
    above = _row(rng, upper, 0.0, middle - gap / 2, scale, 0.03, mouth.bone_mm)
    return above + _row(rng, lower, shift, middle + gap / 2, scale, 0.04, mouth.bone_mm)


def _moved(teeth: Sequence[_Placed], x: float) -> list[_Placed]:
    return [replace(tooth, x=tooth.x + x) for tooth in teeth]


def _bite(
    rng: np.random.Generator,
    scene: _Scene,
    teeth: Sequence[_Placed],
    is_right: bool,
    mouth: _Mouth,
) -> Film:
    """Expose the part of `teeth` that `scene` shows, mostly with a bite tab between them."""
    if rng.random() < 0.5:
        width, middle = scene.cols * scene.pixel_mm, scene.rows * scene.pixel_mm / 2
        x0, x1 = sorted(rng.uniform(0, width, 2))
        tab = (np.abs(scene.ys - middle) < _pick(rng, 0.6, 1.6)) & (scene.xs > x0) & (scene.xs < x1)
        scene.maps["plastic"] += np.where(tab, _pick(rng, 1.5, 5.0), 0)
    return _finish(rng, scene, teeth, View.BITEWING, "R" if is_right else "L", mouth)


def periapical(
    rng: np.random.Generator, *, long_px: int = 512, short_px: int = 384, pixel_mm: float = 0.078
) -> Film:
    """Make a periapical of one arch: posterior teeth landscape, anterior teeth portrait."""
    arch = UPPER_ARCH if rng.random() < 0.5 else LOWER_ARCH
    centre = int(rng.integers(1, 15))
    anterior = 4 <= centre <= 11
    rows, cols = (long_px, short_px) if anterior else (short_px, long_px)
    scene = _Scene(rows, cols, pixel_mm)
    width, height = cols * pixel_mm, rows * pixel_mm
    scale = _pick(rng, 0.95, 1.1)
    low, high = max(0, centre - 3), min(16, centre + 4)
    chosen = arch[low:high]
    lengths = [_SIZES[(t.arch, t.position)] for t in chosen]
    before = sum(s[2] for s in lengths[: centre - low]) + lengths[centre - low][2] / 2
    start = width / 2 - before * scale + _pick(rng, -3, 3)
    upper = chosen[0].arch is Arch.UPPER
    mouth = _mouth(rng)
    edge = _pick(rng, 0.5, 4.0)
    occlusal = height - edge if upper else edge
    teeth = _row(rng, chosen, start, occlusal, scale, 0.05, mouth.bone_mm)
    sides = {t.is_patient_right for t in chosen}
    side = "B" if len(sides) == 2 else "R" if True in sides else "L"
    return _finish(rng, scene, teeth, View.PERIAPICAL, side, mouth)
