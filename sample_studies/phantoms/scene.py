"""A film before exposure: the attenuation of everything in the beam, and the truth about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from node.domain.findings import CariesDepth, FindingKind, Point, View
from node.domain.teeth import Arch, Surface, Tooth
from sample_studies.phantoms import dentistry, exposure, lesions, teeth
from sample_studies.phantoms.anatomy import Placed
from sample_studies.phantoms.arrange import Stood, ridge_points
from sample_studies.phantoms.bone import crest_point, paint_bone
from sample_studies.phantoms.canvas import Canvas, Cut
from sample_studies.phantoms.materials import Map, attenuation
from sample_studies.phantoms.plan import Mouth, Prevalence
from sample_studies.phantoms.truth import (
    Film,
    TrueLesion,
    TrueMark,
    TrueOverlap,
    TrueQuality,
    TrueSite,
    TrueTooth,
    bounds,
    outline,
    percent_lost,
)

Mask = npt.NDArray[np.bool_]
_BOTH = (Surface.MESIAL, Surface.DISTAL)
_NO_SURFACE = ""
#: An angular part of this many mm or more is called an angular defect.
_ANGULAR_MM = 2.0
_PATCH_MM = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What lies in the beam: ``attenuation`` is (rows, cols) mu·t; truth in pixels of the film.

    Take films of it with :func:`expose`, or with
    :func:`sample_studies.phantoms.exposure.capture` where only pixels are wanted.
    """

    attenuation: Map
    spacing_mm: float
    view: View
    side: str
    teeth: tuple[TrueTooth, ...]
    sites: tuple[TrueSite, ...]
    lesions: tuple[TrueLesion, ...]
    marks: tuple[TrueMark, ...]
    overlaps: tuple[TrueOverlap, ...]
    elongation: float
    tilt_deg: float


class Painter:
    """Paints the teeth and the bone of a film and collects what is true of them."""

    def __init__(self, canvas: Canvas, mouth: Mouth, odds: Prevalence) -> None:
        self.canvas, self.mouth, self.odds = canvas, mouth, odds
        self.painted: list[teeth.Painted] = []
        self.lesions: list[TrueLesion] = []
        self.marks: list[TrueMark] = []
        self.eroded: set[Tooth] = set()

    def jaw(self, rng: np.random.Generator, stood: Sequence[Stood], arch: Arch) -> None:
        """Paint one row of teeth, then their bone."""
        own: list[teeth.Painted] = []
        for one in stood:
            painted = self._tooth(one)
            if painted is not None:
                teeth.finish(self.canvas, painted)
                own.append(painted)
        self._connectors(stood)
        rooted = [p for p in own if p.root_path.any()]
        natural = [one.shape for one in stood if one.has_bone_level]
        for shape in natural:
            self._angular(shape)
        gaps = ridge_points(rng, stood, self.mouth)
        paint_bone(rng, self.canvas, natural, gaps, rooted, arch)
        self.painted += own

    def _rng(self, tooth: Tooth) -> np.random.Generator:
        return np.random.default_rng((self.mouth.seed, int(tooth.code), 3))

    def _tooth(self, one: Stood) -> teeth.Painted | None:
        state, shape = one.state, one.shape
        rng = self._rng(shape.tooth)
        if state.state == "missing":
            return None
        if state.state == "implant":
            self._implant(rng, shape)
        painted = teeth.paint(self.canvas, shape)
        if painted is None:
            return None
        if state.state in ("implant", "pontic"):
            self._crown_alone(rng, painted, state.crown)
            return None
        if state.state == "remnant":
            self._remnant(rng, painted)
        elif state.state == "impacted":
            mask = painted.inside
            self._mark(painted, FindingKind.IMPACTED_TOOTH, mask)
        else:
            self._treat(rng, painted, one)
        if state.periapical_mm >= 1.0:
            self._periapical(rng, shape, state.periapical_mm)
        if one.has_bone_level:
            self._furcation(rng, painted)
        return painted

    def _treat(self, rng: np.random.Generator, painted: teeth.Painted, one: Stood) -> None:
        """Lesions first, then what the dentist put in, then what grew beside it."""
        state, shape, canvas = one.state, one.shape, self.canvas
        if state.mimic:
            lesions.mimic(rng, canvas, painted, state.mimic)
        for surface, depth in state.caries:
            spot = lesions.proximal(rng, canvas, painted, surface, depth)
            self._lesion(painted, surface, depth, spot)
        if state.occlusal is not None:
            spot = lesions.occlusal(rng, canvas, painted, state.occlusal)
            self._spot(painted, FindingKind.CARIES, spot, Surface.OCCLUSAL.value, state.occlusal)
        for surface in state.root_caries:
            level = _level(shape, surface)
            if level > 2.2 and not state.crown:
                spot = lesions.root(rng, canvas, painted, surface, level)
                depth = CariesDepth.D1
                self._spot(painted, FindingKind.CARIES, spot, surface.value, depth, "root")
        margins: dict[Surface, tuple[float, float]] = {}
        if state.root_filled:
            root, post = dentistry.fill_roots(rng, canvas, painted, state.short_mm, state.post)
            fit = "over" if state.short_mm < 0 else "short" if state.short_mm > 2 else "adequate"
            self._spot(painted, FindingKind.ROOT_FILLING, root, detail=fit)
            self._spot(painted, FindingKind.POST, post, detail=state.post)
        for filling in state.fillings:
            spot, flaw, margin = dentistry.fill(rng, canvas, painted, filling)
            name = filling.surface.value if filling.surface else "O" if filling.form != "V" else "B"
            self._spot(painted, FindingKind.RESTORATION, spot, name, detail=filling.material)
            self._spot(painted, FindingKind.DEFECTIVE_MARGIN, flaw, name, detail=filling.flaw)
            margins[filling.surface or Surface.OCCLUSAL] = margin
        if state.crown:
            spot, mesial, distal = dentistry.crown(rng, canvas, painted, state.crown)
            self._spot(painted, FindingKind.CROWN, spot, detail=state.crown)
            margins = {Surface.MESIAL: mesial, Surface.DISTAL: distal}
        for surface, depth in state.recurrent:
            at = margins.get(surface, (0.0, -0.5 * shape.crown))
            spot = lesions.beside(rng, canvas, painted, surface, at, depth)
            self._spot(painted, FindingKind.RECURRENT_CARIES, spot, surface.value, depth)
        for surface in state.calculus:
            spot = lesions.calculus(rng, canvas, painted, surface, _level(shape, surface))
            self._spot(painted, FindingKind.CALCULUS, spot, surface.value)

    def _implant(self, rng: np.random.Generator, shape: Placed) -> None:
        found = dentistry.implant(rng, self.canvas, shape, self.mouth.bone_mm)
        if found is not None:
            cut, mask = found
            self._add_mark(FindingKind.IMPLANT, shape.tooth, cut, mask)

    def _crown_alone(self, rng: np.random.Generator, painted: teeth.Painted, material: str) -> None:
        """A crown over an implant or in a bridge: no root under it."""
        painted.dentine *= painted.v < 0
        painted.inside &= painted.v < 0
        spot, _, _ = dentistry.crown(rng, self.canvas, painted, material)
        self._spot(painted, FindingKind.CROWN, spot, detail=material)
        painted.dentine *= 0.2
        cut = painted.cut
        for name, path in painted.others.items():
            self.canvas.paths.setdefault(name, np.zeros_like(self.canvas.xs))[cut] += path
        self.canvas.paths["enamel"][cut] += painted.enamel * (painted.v < 0)

    def _connectors(self, stood: Sequence[Stood]) -> None:
        """Join the crowns of a bridge."""
        for first, second in pairwise(stood):
            if "pontic" not in (first.state.state, second.state.state):
                continue
            a, b = first.shape, second.shape
            x, y = (a.x + a.width / 2 + b.x - b.width / 2) / 2, (a.y + b.y) / 2
            y += a.crown_sign * 0.5 * a.crown
            cut = self.canvas.box_mm((x, y), 2.0)
            if cut is not None:
                xs, ys = self.canvas.xs[cut] - x, self.canvas.ys[cut] - y
                bar = ((xs / 1.9) ** 4 + (ys / 1.4) ** 2 < 1).astype(np.float32) * 2.5
                metal = self.canvas.paths.setdefault("cobalt_chrome", np.zeros_like(self.canvas.xs))
                metal[cut] += bar

    def _remnant(self, rng: np.random.Generator, painted: teeth.Painted) -> None:
        phase = float(rng.uniform(0, 6))
        edge = float(rng.uniform(-0.5, 2.5)) + 0.5 * np.sin(painted.m * 1.7 + phase)
        gone = painted.v < edge
        for path in (painted.enamel, painted.dentine, painted.root_path):
            path[gone] = 0
        painted.enamel[:] = 0
        painted.inside &= ~gone
        painted.crown &= False
        self._mark(painted, FindingKind.ROOT_REMNANT, painted.inside)

    def _periapical(self, rng: np.random.Generator, shape: Placed, diameter: float) -> None:
        roots = [r for r in shape.roots if r.z >= 0]
        root = roots[int(rng.integers(0, len(roots)))]
        m = float(root.centre(np.full(1, root.length, np.float32))[0])
        at = shape.mouth(m, root.length + diameter * 0.18)
        found = lesions.lucency(rng, self.canvas, at, diameter)
        if found is None or not self._on_film(shape.mouth(m, root.length)):
            return
        cut, mask, lost = found
        contrast = 0.08 * lost * 6.0
        detail = f"{diameter:.1f} mm"
        kind = FindingKind.PERIAPICAL_RADIOLUCENCY
        self._add_mark(kind, shape.tooth, cut, mask, detail=detail, contrast=contrast)

    def _furcation(self, rng: np.random.Generator, painted: teeth.Painted) -> None:
        shape = painted.shape
        if len(shape.roots) < 2 or not shape.furcation:
            return
        loss = sum(shape.loss) / 2
        if loss < 0.45 * shape.trunk:
            return
        self.eroded.add(shape.tooth)
        down = shape.furcation
        lean = float(
            np.mean([r.centre(np.full(1, shape.trunk, np.float32))[0] for r in shape.roots])
        )
        half = max(0.35 * shape.neck / 2, 0.8)
        x = (painted.m - lean) / half
        y = (painted.v - shape.trunk) / down
        hole = (y > -0.4) & (y + x * x * 0.8 < 1) & (np.abs(x) < 1.6)
        soft = teeth.smooth((1.0 - np.maximum(y, 0) - x * x * 0.5).astype(np.float32), 0, 0.6)
        lost = float(rng.uniform(0.55, 0.95))
        self.canvas.bone_left[painted.cut] *= 1 - lost * soft * (y > -0.6)
        self._add_mark(FindingKind.FURCATION, shape.tooth, painted.cut, hole)

    def _angular(self, shape: Placed) -> None:
        for is_right in (False, True):
            extra = shape.angular[1 if is_right else 0]
            if extra < _ANGULAR_MM:
                continue
            sign = 1.0 if is_right else -1.0
            away = sign * shape.mesial_sign * 1.9
            loss = shape.loss[1 if is_right else 0]
            is_mesial = is_right == (shape.mesial_sign > 0)
            side = shape.root_side(loss - extra, is_mesial)
            corners = (
                crest_point(shape, is_right),
                shape.mouth(side, loss - extra),
                shape.mouth(side + away, loss - extra),
            )
            if all(self._on_film(c) for c in corners):
                polygon = tuple(self.canvas.px(c) for c in corners)
                surface = (Surface.MESIAL if is_mesial else Surface.DISTAL).value
                kind = FindingKind.ANGULAR_DEFECT
                detail = f"{extra:.1f} mm"
                self.marks.append(
                    TrueMark(
                        kind, shape.tooth, surface, bounds(polygon), polygon, None, detail, 0.3
                    )
                )

    def _on_film(self, point: Point) -> bool:
        x, y = self.canvas.px(point)
        return 0 <= x < self.canvas.cols and 0 <= y < self.canvas.rows

    def _lesion(
        self,
        painted: teeth.Painted,
        surface: Surface,
        depth: CariesDepth,
        spot: lesions.Spot | None,
    ) -> None:
        if spot is None:
            return
        polygon = _polygon(painted.cut, spot.mask)
        if polygon is not None:
            tooth = painted.shape.tooth
            self.lesions.append(TrueLesion(tooth, surface, depth, polygon, spot.contrast))

    def _spot(
        self,
        painted: teeth.Painted,
        kind: FindingKind,
        spot: lesions.Spot | None,
        surface: str = _NO_SURFACE,
        depth: CariesDepth | None = None,
        detail: str = "",
    ) -> None:
        if spot is not None:
            tooth = painted.shape.tooth
            self._add_mark(
                kind, tooth, painted.cut, spot.mask, surface, depth, detail, spot.contrast
            )

    def _mark(self, painted: teeth.Painted, kind: FindingKind, mask: Mask) -> None:
        self._add_mark(kind, painted.shape.tooth, painted.cut, mask)

    def _add_mark(
        self,
        kind: FindingKind,
        tooth: Tooth,
        cut: Cut,
        mask: Mask,
        surface: str = _NO_SURFACE,
        depth: CariesDepth | None = None,
        detail: str = "",
        contrast: float = 1.0,
    ) -> None:
        polygon = _polygon(cut, mask)
        if polygon is not None:
            box = bounds(polygon)
            self.marks.append(TrueMark(kind, tooth, surface, box, polygon, depth, detail, contrast))


def _polygon(cut: Cut, mask: Mask) -> tuple[Point, ...] | None:
    return outline(mask.astype(np.uint8), cut[1].start, cut[0].start)


def _level(shape: Placed, surface: Surface) -> float:
    is_right = (surface is Surface.MESIAL) == (shape.mesial_sign > 0)
    return shape.loss[1 if is_right else 0]


def finish(painter: Painter, view: View, side: str, stood: Sequence[Stood], kvp: float) -> Scene:
    """Add up what was painted and gather its truth."""
    canvas = painter.canvas
    total = np.zeros_like(canvas.xs)
    for name, path in canvas.paths.items():
        if path.any():
            total += attenuation(name, np.maximum(path, 0), kvp)
    shown = [t for t in (_true_tooth(canvas, one.shape) for one in stood) if t is not None]
    visible = {t.tooth for t in shown}
    sites = [
        site
        for one in stood
        if one.has_bone_level and one.shape.tooth in visible
        for site in _sites(canvas, one.shape, one.shape.tooth in painter.eroded)
    ]
    return Scene(
        attenuation=total,
        spacing_mm=canvas.pixel_mm,
        view=view,
        side=side,
        teeth=tuple(shown),
        sites=tuple(sites),
        lesions=tuple(lesion for lesion in painter.lesions if lesion.tooth in visible),
        marks=tuple(painter.marks),
        overlaps=tuple(_overlaps(canvas, stood)),
        elongation=canvas.aim.elongation,
        tilt_deg=math.degrees(canvas.aim.turn),
    )


def expose(scene: Scene, settings: exposure.Settings, rng: np.random.Generator) -> Film:
    """Take one film of `scene`; what is not exposed, or too faint for the noise, is no truth."""
    pixel_mm = scene.spacing_mm
    signal = exposure.exposed(scene.attenuation, pixel_mm, settings, rng)
    pixels, seen = exposure.receive(exposure.developed(signal, pixel_mm, settings), settings, rng)
    behind = float(np.percentile(scene.attenuation, 75))
    noise = exposure.noise_of(settings, behind, pixel_mm)
    least = 2 * noise * min(1.0, pixel_mm / _PATCH_MM)
    shown = [t for t in (_kept(t, seen) for t in scene.teeth) if t is not None]
    names = {t.tooth for t in shown}
    artefacts = [
        name
        for name, has in (
            ("scratch", settings.scratches > 2),
            ("dead_line", settings.dead_lines > 0),
            ("dirt", settings.specks > 4),
            ("banding", settings.banding > 0),
        )
        if has
    ]
    lost = settings.cone is not None or settings.edge is not None
    quality = TrueQuality(
        overlaps=scene.overlaps,
        cone_cut=float(1 - seen.mean()) if lost else 0.0,
        elongation=scene.elongation,
        blur_mm=settings.blur_mm,
        motion_mm=settings.motion_mm,
        exposure=settings.exposure,
        noise=noise,
        tilt_deg=scene.tilt_deg,
        artefacts=tuple(artefacts),
    )
    return Film(
        pixels=pixels,
        bits_stored=exposure.BITS,
        spacing_mm=pixel_mm,
        view=scene.view,
        side=scene.side,
        teeth=tuple(shown),
        sites=tuple(
            s
            for s in scene.sites
            if s.tooth in names and _is_seen(seen, s.cej) and _is_seen(seen, s.crest)
        ),
        lesions=tuple(
            replace(lesion, is_visible=True)
            for lesion in scene.lesions
            if lesion.tooth in names
            and lesion.contrast > least
            and _share_seen(seen, lesion.polygon) > 0.9
        ),
        marks=tuple(
            mark
            for mark in scene.marks
            if mark.contrast > least and _share_seen(seen, mark.polygon) > 0.6
        ),
        quality=quality,
    )


def _is_seen(seen: Mask, point: Point, margin: int = 2) -> bool:
    rows, cols = seen.shape
    x, y = point
    inside = margin <= x < cols - margin and margin <= y < rows - margin
    return bool(inside and seen[int(y), int(x)])


def _share_seen(seen: Mask, polygon: Sequence[Point]) -> float:
    return sum(_is_seen(seen, p, 0) for p in polygon) / len(polygon)


def _kept(tooth: TrueTooth, seen: Mask) -> TrueTooth | None:
    x0, y0, x1, y1 = (int(v) for v in tooth.box)
    return tooth if seen[y0:y1, x0:x1].mean() > 0.4 else None


def _sites(canvas: Canvas, shape: Placed, furcation: bool) -> list[TrueSite]:
    """Measure the bone of one tooth on the film, at right angles to the line between its CEJs."""
    ends = [
        canvas.px(shape.mouth(shape.half_at(0.0, True), 0.0)),
        canvas.px(shape.mouth(-shape.half_at(0.0, False), 0.0)),
    ]
    wx, wy = ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]
    length = math.hypot(wx, wy)
    ax, ay = -wy / length, wx / length

    def along(a: Point, b: Point) -> float:
        return abs((b[0] - a[0]) * ax + (b[1] - a[1]) * ay) * canvas.pixel_mm

    found = []
    for surface, cej in zip(_BOTH, ends, strict=True):
        is_mesial = surface is Surface.MESIAL
        is_right = is_mesial == (shape.mesial_sign > 0)
        crest = canvas.px(crest_point(shape, is_right))
        apex = canvas.px(shape.mouth(*shape.apex(is_mesial)))
        level, root = along(cej, crest), along(cej, apex)
        found.append(
            TrueSite(
                tooth=shape.tooth,
                surface=surface,
                cej=cej,
                crest=crest,
                apex=apex,
                level_mm=level,
                root_mm=root,
                percent=percent_lost(level, root),
                is_angular=shape.angular[1 if is_right else 0] >= _ANGULAR_MM,
                furcation=furcation,
            )
        )
    return found


def _true_tooth(canvas: Canvas, shape: Placed) -> TrueTooth | None:
    """Return a tooth whose silhouette shows at least a third of its crown's width."""
    found = canvas.silhouettes.get(shape.tooth)
    if found is None:
        return None
    cut, mask = found
    cols, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(cols) * canvas.pixel_mm < 0.35 * shape.neck or len(rows) * canvas.pixel_mm < 2.5:
        return None
    polygon = _polygon(cut, mask)
    if polygon is None:
        return None
    left, top = cut[1].start, cut[0].start
    box = (cols[0] + left, rows[0] + top, cols[-1] + 1 + left, rows[-1] + 1 + top)
    x0, y0, x1, y1 = (float(v) for v in box)
    return TrueTooth(shape.tooth, (x0, y0, x1, y1), polygon)


def _overlaps(canvas: Canvas, stood: Sequence[Stood]) -> list[TrueOverlap]:
    """Measure how much of the enamel of neighbours the film shows over each other."""
    found = []
    for first, second in pairwise(stood):
        a, b = first.shape, second.shape
        if a.tooth.arch is not b.tooth.arch or not (first.has_bone_level and second.has_bone_level):
            continue
        one, two = canvas.silhouettes.get(a.tooth), canvas.silhouettes.get(b.tooth)
        if one is None or two is None:
            continue
        middle = ((a.x + a.width / 2 + b.x - b.width / 2) / 2, (a.y + b.y) / 2)
        at = canvas.px((middle[0], middle[1] + a.crown_sign * 0.55 * a.crown))
        if not (0 <= at[0] < canvas.cols and 0 <= at[1] < canvas.rows):
            continue
        shared = _shared(one, two)
        widest = float(shared.sum(axis=1).max()) * canvas.pixel_mm if shared.size else 0.0
        enamel = (a.enamel + b.enamel) / 2
        found.append(TrueOverlap((a.tooth, b.tooth), min(widest / enamel, 2.0), at))
    return found


def _shared(one: tuple[Cut, Mask], two: tuple[Cut, Mask]) -> Mask:
    (rows_a, cols_a), (rows_b, cols_b) = one[0], two[0]
    top, bottom = max(rows_a.start, rows_b.start), min(rows_a.stop, rows_b.stop)
    left, right = max(cols_a.start, cols_b.start), min(cols_a.stop, cols_b.stop)
    if top >= bottom or left >= right:
        return np.zeros((0, 0), bool)
    a = one[1][
        top - rows_a.start : bottom - rows_a.start, left - cols_a.start : right - cols_a.start
    ]
    b = two[1][
        top - rows_b.start : bottom - rows_b.start, left - cols_b.start : right - cols_b.start
    ]
    return np.asarray(a & b)
