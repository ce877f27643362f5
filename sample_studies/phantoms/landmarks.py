"""Normal anatomy round the teeth: sinus, canals, sutures, cortices, cheek, lip and tongue."""

from __future__ import annotations

import numpy as np

from sample_studies.phantoms.bone import slow_field
from sample_studies.phantoms.canvas import Canvas
from sample_studies.phantoms.materials import Map
from sample_studies.phantoms.teeth import smooth


def _curve(rng: np.random.Generator, xs: Map, points: list[tuple[float, float]]) -> Map:
    """Interpolate a height over x through `points`, smoothly wavering."""
    points = sorted(points)
    px = np.array([p[0] for p in points])
    py = np.array([p[1] for p in points])
    if len(px) >= 3:
        fit = np.polynomial.Polynomial.fit(px, py, 2)
        base = fit(xs)
    else:
        base = np.interp(xs, px, py)
    phase = rng.uniform(0, 6.3, 2)
    return np.asarray(
        base + 0.35 * np.sin(0.45 * xs + phase[0]) + 0.18 * np.sin(1.3 * xs + phase[1]), np.float32
    )


def _line(distance: Map, width: float) -> Map:
    return np.asarray(np.exp(-((distance / width) ** 2)), np.float32)


def sinus(rng: np.random.Generator, canvas: Canvas, floor: list[tuple[float, float]]) -> None:
    """Paint a maxillary sinus above a scalloped floor through `floor` (mouth mm)."""
    level = _curve(rng, canvas.xs, floor)
    above = level - canvas.ys
    inside = smooth(above, -0.1, 0.5)
    for name, keep in (("trabecular", rng.uniform(0.2, 0.5)), ("cortical", rng.uniform(0.5, 0.9))):
        canvas.paths[name] *= 1 - (1 - float(keep)) * inside
    canvas.paths["cortical"] += _line(above, float(rng.uniform(0.16, 0.32))) * float(
        rng.uniform(0.5, 1.3)
    )
    if rng.random() < 0.4:  # a septum
        x = float(rng.uniform(canvas.xs[0, 0], canvas.xs[0, -1]))
        lean = float(rng.normal(0, 0.3))
        wall = _line(canvas.xs - x - lean * above - 0.04 * above**2, float(rng.uniform(0.15, 0.3)))
        canvas.paths["cortical"] += wall * inside * float(rng.uniform(0.3, 0.9))


def zygoma(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    """Paint the cheek bone's U over the upper molars, its lowest point at (x, y)."""
    wide = float(rng.uniform(4.5, 8.0))
    u = (canvas.xs - x) / wide
    bottom = y - 0.9 * wide * u**2
    inside = smooth(bottom - canvas.ys, 0, float(rng.uniform(1.0, 3.0))) * (np.abs(u) < 1.6)
    canvas.paths["cortical"] += inside * float(rng.uniform(0.8, 2.6))
    rim = _line(bottom - canvas.ys - 0.5, 0.5) * np.clip(1.4 - np.abs(u), 0, 1)
    canvas.paths["cortical"] += rim * float(rng.uniform(0.5, 1.8))


def nasal(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    """Paint the midline of the upper jaw: suture, incisive foramen and floor of the nose at y."""
    gap = np.abs(canvas.xs - x - 0.25 * np.sin(canvas.ys * 0.8))
    dark, rim = float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.2, 0.5))
    above = canvas.ys < y + 9
    canvas.paths["trabecular"] *= 1 - _line(gap, dark) * 0.6 * above
    canvas.paths["cortical"] += _line(gap - dark - rim, rim) * float(rng.uniform(0.2, 0.8)) * above
    if rng.random() < 0.5:
        at = y + float(rng.uniform(5, 9))
        oval = ((canvas.xs - x) / rng.uniform(0.8, 1.8)) ** 2 + (
            (canvas.ys - at) / rng.uniform(1.5, 3)
        ) ** 2
        canvas.paths["trabecular"] *= 1 - 0.55 * smooth(1.3 - np.asarray(oval, np.float32), 0, 0.8)
    floor = y + 0.09 * (np.abs(canvas.xs - x) - 3.0) ** 2 * -1
    above_floor = floor - canvas.ys
    hole = smooth(above_floor, 0, 0.6)
    canvas.paths["trabecular"] *= 1 - 0.6 * hole
    canvas.paths["cortical"] += _line(above_floor, 0.3) * float(rng.uniform(0.3, 1.2))


def canal(rng: np.random.Generator, canvas: Canvas, course: list[tuple[float, float]]) -> None:
    """Paint the mandibular canal along `course`: a dark band between thin bright lines."""
    away = np.abs(canvas.ys - _curve(rng, canvas.xs, course))
    half = float(rng.uniform(1.0, 1.7))
    canvas.paths["trabecular"] *= 1 - float(rng.uniform(0.1, 0.4)) * smooth(half - away, -0.3, 0.5)
    canvas.paths["cortical"] += _line(away - half, 0.2) * float(rng.uniform(0.0, 0.5))


def foramen(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    """Paint the mental foramen: a dark oval without a sharp rim (not a lesion)."""
    oval = ((canvas.xs - x) / rng.uniform(1.0, 1.9)) ** 2 + (
        (canvas.ys - y) / rng.uniform(0.8, 1.5)
    ) ** 2
    hole = smooth(1.4 - np.asarray(oval, np.float32), 0, 1.0)
    canvas.paths["trabecular"] *= 1 - float(rng.uniform(0.2, 0.55)) * hole


def lower_border(rng: np.random.Generator, canvas: Canvas, edge: list[tuple[float, float]]) -> None:
    """End the lower jaw at `edge` with its thick cortex."""
    below = canvas.ys - _curve(rng, canvas.xs, edge)
    keep = smooth(-below, 0, 0.4)
    for name in ("trabecular", "cortical"):
        canvas.paths[name] *= keep
    thick = float(rng.uniform(1.2, 2.4))
    canvas.paths["cortical"] += smooth(below + thick, -0.3, 0.5) * keep * float(rng.uniform(1, 2.6))


def ridge(rng: np.random.Generator, canvas: Canvas, line: list[tuple[float, float]]) -> None:
    """Paint the external oblique or mylohyoid ridge: a bright slanting band."""
    away = canvas.ys - _curve(rng, canvas.xs, line)
    wide = float(rng.uniform(0.4, 1.1))
    canvas.paths["cortical"] += _line(away, wide) * float(rng.uniform(0.4, 1.4))
    canvas.paths["trabecular"] *= 1 - float(rng.uniform(0.0, 0.3)) * smooth(away, 0, 3)


def tubercles(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    """Paint the genial tubercles and a few nutrient canals of the lower front."""
    ring = np.hypot(canvas.xs - x, canvas.ys - y).astype(np.float32)
    canvas.paths["cortical"] += _line(ring - 0.9, 0.4) * float(rng.uniform(0.3, 1.2))
    for _ in range(int(rng.integers(0, 4))):
        at = x + float(rng.normal(0, 6))
        way = np.abs(canvas.xs - at - 0.3 * np.sin(canvas.ys * 0.5))
        canvas.paths["trabecular"] *= 1 - 0.25 * _line(way, 0.2)


def soft_tissue(rng: np.random.Generator, canvas: Canvas, edges: list[tuple[float, float]]) -> None:
    """Paint cheek and gums as uneven soft tissue, and lip or tongue edges through `edges`."""
    base = float(rng.uniform(8, 20))
    uneven = slow_field(rng, canvas.rows, canvas.cols, canvas.pixel_mm, float(rng.uniform(7, 14)))
    canvas.paths["soft"] += base + uneven * float(rng.uniform(0.3, 1.2))
    lean = rng.normal(0, 3.5, 2)
    x = (canvas.xs - canvas.middle[0]) / canvas.middle[0]
    y = (canvas.ys - canvas.middle[1]) / canvas.middle[1]
    canvas.paths["soft"] += np.asarray(lean[0] * x + lean[1] * y, np.float32)
    for x0, y0 in edges:
        lie = float(rng.normal(0, 0.35))
        bend = float(rng.normal(0, 0.012))
        away = canvas.ys - (y0 + lie * (canvas.xs - x0) + bend * (canvas.xs - x0) ** 2)
        way = 1.0 if rng.random() < 0.5 else -1.0
        step = smooth(away * way, 0, float(rng.uniform(0.15, 2.0)))
        canvas.paths["soft"] += step * float(rng.uniform(1.0, 5.0))
    np.maximum(canvas.paths["soft"], 1.0, out=canvas.paths["soft"])
