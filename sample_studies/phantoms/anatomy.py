"""Shapes of teeth: crowns with two rows of cusps, enamel caps, roots that bend, pulp.

Tooth frame, mm: ``m`` towards mesial (lateral for none), ``v`` from the CEJ towards the apex,
``z`` towards buccal. Mouth frame: x to the viewer's right, y down. Average sizes are Wheeler-type
means; people differ by 5 to 10 per cent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from node.domain.findings import Point
from node.domain.teeth import Arch, Tooth
from sample_studies.phantoms.materials import Map

Table = npt.NDArray[np.float32]

#: Crown length, root length, mesio-distal crown and neck, bucco-lingual crown; average mm.
SIZES: dict[tuple[Arch, int], tuple[float, float, float, float, float]] = {
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
#: Height over the CEJ (share of the crown) and width there (share of the way from neck to crown).
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "molar": ((0, 0), (0.14, 0.3), (0.32, 0.68), (0.5, 0.94), (0.62, 1), (0.75, 0.97), (0.88, 0.8),
              (0.97, 0.5), (1.05, 0.1)),
    "premolar": ((0, 0), (0.15, 0.3), (0.33, 0.68), (0.52, 0.95), (0.62, 1), (0.72, 0.93),
                 (0.85, 0.6), (0.95, 0.1), (1.05, -0.6)),
    "canine": ((0, 0), (0.15, 0.2), (0.35, 0.55), (0.55, 0.92), (0.64, 1), (0.74, 0.8),
               (0.86, 0.05), (0.96, -1.2), (1.05, -2.2)),
    "incisor": ((0, 0), (0.18, 0.22), (0.4, 0.52), (0.62, 0.8), (0.82, 1), (0.92, 0.98),
                (0.98, 0.8), (1.02, 0.4), (1.06, 0)),
}  # fmt: skip
STEP_MM = 0.05


@dataclass(frozen=True, slots=True)
class Root:
    """One root; offsets are towards mesial in mm, ``start`` is where it leaves the trunk."""

    at_start: float
    at_apex: float
    length: float
    half: float
    depth: float
    bend: float
    hook: float
    z: float
    start: float

    def centre(self, v: Map) -> Map:
        """Where the root's middle lies at `v`."""
        share = np.clip((v - self.start) / (self.length - self.start), 0, 1.1)
        line = self.at_start + (self.at_apex - self.at_start) * share
        sweep = self.bend * self.length * (share * share - share * 0.4)
        return np.asarray(
            line + sweep + self.hook * np.clip(share - 0.68, 0, 1) ** 2 * 10, np.float32
        )

    def half_width(self, v: Map) -> Map:
        """Half of the root's width at `v`; the last fifth closes like an ellipse."""
        share = np.clip((v - self.start) / (self.length - self.start), 0, 1)
        end = np.clip((v / self.length - 0.8) / 0.2, 0, 1)
        return np.asarray(
            self.half * (1 - 0.42 * share - 0.16 * share**3) * np.sqrt(1 - end**2), np.float32
        )


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """One tooth in place: sizes in mm, CEJ centre in the mouth, tilt, and its variations."""

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
    kind: str
    roots: tuple[Root, ...]
    trunk: float  # CEJ to furcation, mm; the whole root without one
    arch_height: float
    cej_bow: float
    buccal: tuple[tuple[float, float], ...]  # cusps: place as a share of half the width, height mm
    lingual: tuple[tuple[float, float], ...]
    wear: float
    pulp: float
    squareness: float
    horns: tuple[float, float]  # pulp horns, mesial and distal, in crowns
    mesial: Table = field(repr=False)
    distal: Table = field(repr=False)
    turn: float = 0.0  # how much the tooth is turned round its axis, radians
    loss: tuple[float, float] = (1.5, 1.5)  # CEJ to crest at the -x and +x side, mm
    angular: tuple[float, float] = (0.0, 0.0)  # extra depth at that side only, mm
    furcation: float = 0.0  # bone lost between the roots, mm

    @property
    def is_molar(self) -> bool:
        """Whether the crown has two roots or more under it."""
        return self.kind == "molar"

    def local(self, xs: Map, ys: Map) -> tuple[Map, Map]:
        """Mouth mm to tooth mm (m, v)."""
        dx, dy = xs - self.x, (ys - self.y) * -self.crown_sign
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        m = (dx * cos + dy * sin) * self.mesial_sign
        return np.asarray(m, np.float32), np.asarray(-dx * sin + dy * cos, np.float32)

    def mouth(self, m: float, v: float) -> Point:
        """Tooth mm to mouth mm."""
        u = m * self.mesial_sign
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return self.x + u * cos - v * sin, self.y - self.crown_sign * (u * sin + v * cos)

    def half_width(self, v: Map, is_mesial: bool) -> Map:
        """Half of the mesio-distal width of crown and trunk at `v` on one side."""
        table = self.mesial if is_mesial else self.distal
        place = np.clip((v + self.crown * 1.06) / STEP_MM, 0, len(table) - 1.001)
        return np.asarray(table[place.astype(np.int32)], np.float32)

    def half_at(self, v: float, is_mesial: bool) -> float:
        """Half of the width at one height."""
        return float(self.half_width(np.full(1, v, np.float32), is_mesial)[0])

    def tops(self, m: Map, is_buccal: bool) -> Map:
        """Height of one row of cusps over the CEJ at `m`, mm."""
        cusps = self.buccal if is_buccal else self.lingual
        half = self.width / 2
        height = np.full_like(m, -9.0)
        slope = {"molar": 0.62, "premolar": 0.6, "canine": 0.75, "incisor": 0.05}[self.kind]
        for at, tall in cusps:
            side = np.sqrt(((m - at * half) ** 2) + 0.35) - 0.59
            np.maximum(height, tall - slope * side, out=height)
        floor = self.crown * (1 - 0.26) if self.is_molar else -9.0
        np.maximum(height, floor, out=height)
        return np.asarray(np.minimum(height, self.crown * (1 - self.wear)), np.float32)

    def root_side(self, v: float, is_mesial: bool) -> float:
        """Where the outer surface lies at `v` on one side, mm towards mesial."""
        sign = 1.0 if is_mesial else -1.0
        best = -99.0
        at = np.full(1, v, np.float32)
        for root in self.roots:
            if root.start <= v < root.length and root.z >= 0:
                edge = root.centre(at)[0] * sign + root.half_width(at)[0]
                best = max(best, float(edge))
        if v <= self.trunk * 1.02 or best < -90:
            best = max(best, self.half_at(min(v, self.trunk), is_mesial))
        return best * sign

    def apex(self, is_mesial: bool) -> tuple[float, float]:
        """Give (m, v) of the apex on one side."""
        sign = 1.0 if is_mesial else -1.0
        root = max((r for r in self.roots if r.z >= 0), key=lambda r: r.at_apex * sign)
        return float(root.centre(np.full(1, root.length, np.float32))[0]), root.length


def kind_of(tooth: Tooth) -> str:
    """Name the crown's type."""
    names = ("incisor", "incisor", "canine", "premolar", "premolar", "molar", "molar", "molar")
    return names[tooth.position - 1]


def make(rng: np.random.Generator, tooth: Tooth, scale: float, wear: float, pulp: float) -> Placed:
    """Draw one tooth of a person, standing at the origin."""
    spread = rng.normal(1.0, (0.06, 0.08, 0.05, 0.05, 0.05))
    crown, root, width, neck, depth = (
        float(value * scale * s)
        for value, s in zip(SIZES[(tooth.arch, tooth.position)], spread, strict=True)
    )
    kind = kind_of(tooth)
    width = max(width, neck * 1.14)
    roots, trunk = _roots(rng, tooth, root, neck, depth)
    longest = max(r.length for r in roots)
    return Placed(
        tooth=tooth,
        crown=crown,
        root=longest,
        width=width,
        neck=neck,
        depth=depth,
        x=0.0,
        y=0.0,
        tilt=float(rng.normal(0.0, 0.05)),
        crown_sign=1 if tooth.arch is Arch.UPPER else -1,
        mesial_sign=1 if tooth.is_patient_right else -1,
        enamel=float(rng.uniform(0.85, 1.35)) * scale,
        kind=kind,
        roots=roots,
        trunk=trunk,
        arch_height=float(rng.uniform(0.3, 1.6)),
        cej_bow=float(rng.uniform(0.2, 1.4)) * (1.4 if kind in ("incisor", "canine") else 1.0),
        buccal=_cusps(rng, tooth, crown, True),
        lingual=_cusps(rng, tooth, crown, False),
        wear=float(np.clip(wear + rng.normal(0, 0.02), 0.0, 0.25)),
        pulp=float(np.clip(pulp * rng.normal(1, 0.15), 0.25, 1.4)),
        squareness=float(rng.uniform(2.2, 3.2)),
        horns=(float(rng.uniform(0.08, 0.27)), float(rng.uniform(0.05, 0.24))),
        mesial=_side(rng, kind, crown, width, neck, trunk, roots, True),
        distal=_side(rng, kind, crown, width, neck, trunk, roots, False),
        turn=float(rng.normal(0, 0.08)),
    )


def _side(
    rng: np.random.Generator,
    kind: str,
    crown: float,
    width: float,
    neck: float,
    trunk: float,
    roots: tuple[Root, ...],
    is_mesial: bool,
) -> Table:
    """Tabulate half of the width of crown and trunk from the top (1.06 crowns up) to the apex."""
    nodes = np.array(_OUTLINES[kind], float)
    shift = rng.normal(0.02 if is_mesial else -0.05, 0.035)
    heights = nodes[:, 0] + shift * np.sin(np.clip(nodes[:, 0], 0, 1) * math.pi)
    shares = nodes[:, 1] * rng.normal(1, 0.05, len(nodes)) + rng.normal(0, 0.02, len(nodes))
    shares[0] = 0.0
    shares -= np.clip(shares.max() - 1.0, -0.05, None)  # the contact stays a contact
    shares[0] = 0.0
    longest = max(r.length for r in roots)
    v = np.arange(-crown * 1.06, longest + 1.0, STEP_MM)
    swell = rng.uniform(-0.02, 0.05)
    half_crown = neck / 2 + np.interp(-v / crown, heights, shares) * (width - neck) / 2
    if len([r for r in roots if r.z >= 0]) > 1:
        half_root = neck / 2 * (1 + swell * np.sin(np.clip(v / trunk, 0, 2) * math.pi / 2))
        # Past the furcation the trunk's sides are those of the outer roots.
        sign = 1.0 if is_mesial else -1.0
        at = v.astype(np.float32)
        outer = [r.centre(at) * sign + r.half_width(at) for r in roots if r.z >= 0]
        blend = np.clip((v - 0.45 * trunk) / (0.55 * trunk), 0, 1)
        half_root = (1 - blend) * half_root + blend * np.max(outer, axis=0)
    else:
        share = np.clip(v / longest, 0, 1)
        end = np.clip((share - 0.82) / 0.18, 0, 1)
        half_root = neck / 2 * (1 - (0.36 - swell) * share - 0.2 * share**3)
        half_root *= np.sqrt(np.clip(1 - end**2, 0, 1))
    half = np.where(v < 0, half_crown, half_root)
    kernel = np.hanning(13)[1:-1]
    padded = np.pad(half, 5, mode="edge")
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), "valid"), np.float32)


def _cusps(
    rng: np.random.Generator, tooth: Tooth, crown: float, is_buccal: bool
) -> tuple[tuple[float, float], ...]:
    """Place the cusps of one row: (share of half the width towards mesial, height in mm)."""
    upper = tooth.arch is Arch.UPPER
    kind = kind_of(tooth)

    def tall(share: float) -> float:
        return float(crown * (share + rng.normal(0, 0.02)))

    jitter = float(rng.normal(0, 0.05))
    if kind == "molar":
        if is_buccal and not upper and tooth.position == 6:
            return ((0.55 + jitter, tall(0.98)), (-0.08, tall(0.97)), (-0.68 + jitter, tall(0.9)))
        first, second = (0.96, 0.93) if is_buccal != upper else (1.0, 0.93)
        if not is_buccal:
            first, second = (1.0, 0.9) if upper else (0.99, 0.97)
        return ((0.46 + jitter, tall(first)), (-0.48 + jitter, tall(second)))
    if kind == "premolar":
        height = 1.0 if is_buccal else (0.9 if upper else 0.68 if tooth.position == 4 else 0.85)
        return ((0.03 + jitter if is_buccal else 0.12 + jitter, tall(height)),)
    if kind == "canine":
        return ((0.08 + jitter, tall(1.0) if is_buccal else tall(0.93)),)
    return ((0.0, tall(1.0) if is_buccal else tall(0.985)),)


def _roots(
    rng: np.random.Generator, tooth: Tooth, length: float, neck: float, depth: float
) -> tuple[tuple[Root, ...], float]:
    """Draw the roots of a tooth and the length of its trunk."""

    def bend(size: float) -> float:
        return float(rng.normal(-0.02, size))

    def hook() -> float:
        return float(rng.normal(-0.4, 0.9)) if rng.random() < 0.22 else float(rng.normal(0, 0.15))

    if kind_of(tooth) != "molar":
        root = Root(
            0.0, -0.03 * length, length, neck / 2, depth * 0.88, bend(0.03), hook(), 0.0, 0.0
        )
        return (root,), length
    upper = tooth.arch is Arch.UPPER
    trunk = float(rng.uniform(0.24, 0.38)) * length
    fused = tooth.position == 8 and rng.random() < 0.5
    apart = float(rng.uniform(0.15, 0.4)) * (0.3 if fused else 0.75 if tooth.position == 7 else 1.0)
    lean = -float(rng.uniform(0.0, 0.16)) * length * (1.0 if tooth.position > 6 else 0.5)
    half = neck * float(rng.uniform(0.2, 0.25))
    pair = []
    for sign in (1.0, -1.0):
        own = length * float(rng.normal(1.0, 0.05))
        start = neck / 2 - half
        pair.append(
            Root(
                sign * start,
                sign * start * (0.72 + 1.6 * apart) + lean,
                own,
                half * float(rng.normal(1 if sign > 0 else 0.94, 0.05)),
                depth * (0.42 if upper else 0.8),
                bend(0.05) - sign * 0.12 * apart,
                hook(),
                0.25 * depth if upper else 0.0,
                0.55 * trunk,
            )
        )
    if not upper:
        return tuple(pair), trunk
    palatal = Root(
        float(rng.normal(-0.02, 0.05)) * neck,
        float(rng.normal(-0.05, 0.1)) * neck + lean * 0.5,
        length * float(rng.normal(1.06, 0.06)),
        half * float(rng.uniform(1.15, 1.5)),
        depth * 0.42,
        bend(0.04),
        hook(),
        -0.3 * depth,
        0.1 * trunk,
    )
    return (*pair, palatal), trunk
