"""Alveolar bone: crest and septa, plates, trabeculae, lamina dura and ligament.

The buccal and the lingual plate end at heights of their own, so the crest fades over the roots.
Roots take up room in the bone; what is left before and behind them carries the trabeculae.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from node.domain.findings import Point
from node.domain.teeth import Arch
from sample_studies.phantoms.anatomy import Placed
from sample_studies.phantoms.canvas import Canvas
from sample_studies.phantoms.materials import Map
from sample_studies.phantoms.teeth import Painted, edge_distance

_GRID_MM = 0.05


def paint_bone(
    rng: np.random.Generator,
    canvas: Canvas,
    row: Sequence[Placed],
    gaps: Sequence[Point],
    painted: Sequence[Painted],
    arch: Arch,
) -> None:
    """Paint the bone of one jaw under the crest through the crest points of its teeth.

    `gaps` are points of the ridge where teeth are missing, mouth mm.
    """
    if not row and not gaps:
        return
    sign = -1.0 if arch is Arch.UPPER else 1.0
    buccal, lingual, start = _crests(rng, canvas, row, gaps, sign)
    shift = canvas.beam[1] * 3.0
    place = np.clip((canvas.xs - start) / _GRID_MM, 0, len(buccal) - 1).astype(np.int32)
    round_off = float(rng.choice([0.35, 0.8, 1.6], p=[0.4, 0.35, 0.25]) * rng.uniform(0.7, 1.3))
    share = float(rng.uniform(0.35, 0.65))
    deep_b = (canvas.ys - buccal[place]) * sign
    deep_l = (canvas.ys - (lingual[place] + shift)) * sign
    ramp = share * _rise(deep_b, round_off) + (1 - share) * _rise(deep_l, round_off)
    deep = np.maximum(deep_b, deep_l)
    occupied = np.zeros_like(canvas.xs)
    lamina = np.zeros_like(canvas.xs)
    ligament = np.zeros_like(canvas.xs)
    width = float(rng.uniform(0.14, 0.28))
    for tooth in painted:
        occupied[tooth.cut] += tooth.root_path
        _sheath(rng, canvas, tooth, width, lamina, ligament)
    ledge = float(rng.uniform(5.0, 8.0))
    thick = ledge + float(rng.uniform(0.1, 0.35)) * np.clip(deep, 0, 18)
    left = np.maximum(thick - occupied, 0.12 * thick)
    bone = ramp * left * canvas.bone_left
    texture = trabeculae(rng, canvas.rows, canvas.cols, canvas.pixel_mm)
    amount = float(rng.uniform(0.16, 0.45)) * np.clip(left / 5.0, 0.25, 1)
    pdl = 1 - np.clip(ligament, 0, 1) * float(rng.uniform(0.2, 0.7))
    canvas.paths["trabecular"] += bone * np.maximum(1 + amount * texture, 0.05) * pdl
    plates = float(rng.uniform(0.5, 1.5))
    solid = ramp * plates * (0.7 + 0.3 * canvas.bone_left) * (1 - 0.45 * np.clip(ligament, 0, 1))
    free = np.clip(1 - occupied / 4.0, 0, 1)
    rim_size = float(rng.uniform(0.09, 0.2))
    rim = np.exp(-(((np.minimum(deep_b, deep_l) - 1.5 * rim_size) / rim_size) ** 2))
    dense = float(rng.choice([0.0, 0.35, 0.9], p=[0.3, 0.4, 0.3]) * rng.uniform(0.6, 1.4))
    uneven = 1 + 0.5 * _slow(rng, canvas, 2.0)
    solid += rim * dense * (0.12 + 0.88 * free) * np.clip(uneven, 0.1, 2)
    strength = float(rng.uniform(0.25, 1.0))
    solid += lamina * strength * np.clip(uneven, 0.2, 1.8) * _rise(deep, 0.4) * canvas.bone_left**2
    canvas.paths["cortical"] += solid


def _rise(deep: Map, reach: float) -> Map:
    """From 0 at the margin to 1 inside, rounded over `reach` mm."""
    return np.asarray(1 - np.exp(-np.clip(deep, 0, None) / reach), np.float32)


def _crests(
    rng: np.random.Generator,
    canvas: Canvas,
    row: Sequence[Placed],
    gaps: Sequence[Point],
    sign: float,
) -> tuple[Map, Map, float]:
    """Tabulate the buccal and lingual crest height over x, mouth mm."""
    row = sorted(row, key=lambda t: t.x)
    knots: list[tuple[float, float, float]] = []
    scallop = float(rng.uniform(0.0, 1.8))
    other = float(rng.uniform(-0.3, 1.5))
    for tooth in row:
        left, right = crest_point(tooth, False), crest_point(tooth, True)
        middle_x = (left[0] + right[0]) / 2
        middle = (left[1] + right[1]) / 2
        down = tooth.furcation
        knots.append((left[0] - 0.05, left[1], left[1]))
        knots.append((left[0] + 0.5, left[1], left[1]))
        knots.append((middle_x, middle + sign * (scallop + down), middle + sign * (other + down)))
        knots.append((right[0] - 0.5, right[1], right[1]))
        knots.append((right[0] + 0.05, right[1], right[1]))
    for first, second in pairwise(row):
        (ax, ay), (bx, by) = crest_point(first, True), crest_point(second, False)
        room = bx - ax
        if room < 0.6 or room > 4.5:
            continue
        peak = min(float(rng.normal(0.1, 0.2)), 0.5) * sign  # towards the crown
        flat = min(0.35, 0.9 / room)
        # An angular defect is a slope beside its own tooth only; the septum keeps its height.
        ay0 = ay - sign * first.angular[1]
        by0 = by - sign * second.angular[0]
        at_a = max(flat, min(1.9 / room, 0.62)) if first.angular[1] > 0 else flat
        at_b = max(flat, min(1.9 / room, 0.62)) if second.angular[0] > 0 else flat
        if at_a + at_b > 0.98:
            at_a, at_b = at_a * 0.97 / (at_a + at_b), at_b * 0.97 / (at_a + at_b)
        bump = 0.35 * float(rng.normal(0, 0.4))
        for share, base in ((at_a, ay0), (1 - at_b, by0)):
            level = base + (by0 - ay0) * (share - (0 if base == ay0 else 1)) * 0.6 - peak
            knots.append((ax + room * share, level, level + bump * (share - 0.5)))
    knots += [(x, y, y + float(rng.normal(0.2, 0.3))) for x, y in gaps]
    knots.sort()
    xs = np.array([k[0] for k in knots]) + np.arange(len(knots)) * 1e-4
    corners = [canvas.xs[i, j] for i in (0, -1) for j in (0, -1)]
    start, stop = float(min(corners)) - 1, float(max(corners)) + 1
    grid = np.arange(start, stop, _GRID_MM)
    curves = []
    for place in (1, 2):
        curve = np.interp(grid, xs, np.array([k[place] for k in knots])).astype(np.float32)
        curves.append(cv2.GaussianBlur(curve[None], (0, 0), 0.16 / _GRID_MM)[0])
    return curves[0], curves[1], start


def crest_point(tooth: Placed, is_right: bool) -> Point:
    """Where the crest meets the tooth on the +x or -x side, mouth mm."""
    is_mesial = is_right == (tooth.mesial_sign > 0)
    loss = tooth.loss[1 if is_right else 0]
    side = tooth.root_side(loss, is_mesial)
    return tooth.mouth(side + (0.22 if is_mesial else -0.22), loss)


def _sheath(
    rng: np.random.Generator,
    canvas: Canvas,
    tooth: Painted,
    width: float,
    lamina: Map,
    ligament: Map,
) -> None:
    """Add the ligament space and the lamina dura round each root of `tooth`."""
    below = tooth.v > 0.3
    wall = float(rng.uniform(0.14, 0.3))
    for place, mask in enumerate(tooth.roots):
        if not mask.any():
            continue
        away = edge_distance(mask, canvas.pixel_mm)
        dark = np.clip(1.15 - np.abs(away - 0.55 * width) / (0.62 * width), 0, 1)
        bright = np.exp(-(((away - width - wall / 2) / (0.62 * wall)) ** 2))
        seen = below & ~mask
        if place > 0:
            seen &= tooth.v > 0.8 * tooth.shape.trunk
        # Rays just inside a root's edge cross other roots and the plates: both fade there.
        faint = np.where(tooth.root_path > 0.3, 0.35, 1.0) * seen
        np.maximum(ligament[tooth.cut], dark * faint, out=ligament[tooth.cut])
        np.maximum(lamina[tooth.cut], bright * faint, out=lamina[tooth.cut])


def _slow(rng: np.random.Generator, canvas: Canvas, size_mm: float) -> Map:
    """Smooth random field of unit spread with features of `size_mm`."""
    return slow_field(rng, canvas.rows, canvas.cols, canvas.pixel_mm, size_mm)


def slow_field(
    rng: np.random.Generator, rows: int, cols: int, pixel_mm: float, size_mm: float
) -> Map:
    """Draw a smooth random field of unit spread with features of `size_mm`."""
    step = size_mm / pixel_mm
    shape = (max(3, int(rows / step) + 3), max(3, int(cols / step) + 3))
    coarse = rng.standard_normal(shape).astype(np.float32)
    field = cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / 0.75, np.float32)


def trabeculae(rng: np.random.Generator, rows: int, cols: int, pixel_mm: float) -> Map:
    """Draw a net of bright struts round dark marrow, drawn out in one direction; mean 0, spread 1.

    Several octaves of ridges make the falling power spectrum of real bone, about 1/f² between 0.2
    and 2 mm.
    """
    step = max(0.07, pixel_mm)
    shape = (int(rows * pixel_mm / step) + 2, int(cols * pixel_mm / step) + 2)
    pore = float(rng.uniform(0.15, 0.34))
    drawn_out = float(rng.uniform(1.0, 1.8))
    turn = float(rng.normal(0, 12))
    net = np.zeros(shape, np.float32)
    for octave, weight in ((0.55, 0.5), (1.0, 1.0), (1.9, 0.75), (4.0, 0.5)):
        noise = rng.standard_normal(shape).astype(np.float32)
        sigma = pore * octave / step / 1.6
        smooth = cv2.GaussianBlur(noise, (0, 0), sigma * drawn_out, sigmaY=max(sigma, 0.35))
        smooth /= max(float(smooth.std()), 1e-6)
        ridge = 0.75 - np.minimum(np.abs(smooth), 2.0) if octave < 3 else smooth * 0.6
        net += weight * ridge
    matrix = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), turn, 1.12)
    net = cv2.warpAffine(net, matrix, (shape[1], shape[0]), borderMode=cv2.BORDER_REFLECT)
    net = cv2.resize(net, (cols, rows), interpolation=cv2.INTER_LINEAR)
    net -= net.mean()
    return np.asarray(net / max(float(net.std()), 1e-6), np.float32)
