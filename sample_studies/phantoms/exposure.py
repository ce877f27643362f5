"""From attenuation to pixels: scatter, blur, noise, look-up curve, and what the receptor adds.

``capture(attenuation, ...)`` needs nothing but the attenuation map, so that a training loop can
keep maps (float16 on disk) and vary dose, sharpness, curves and dirt in a few milliseconds a film.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sample_studies.phantoms.materials import Map

BITS = 12
_TOP = 2**BITS - 1
#: Photons per square mm behind nothing, at the usual exposure (after the detector's efficiency).
_PHOTONS_MM2 = 2.5e6


@dataclass(frozen=True, slots=True)
class Settings:
    """How a film is taken and shown; lengths in mm, shares of 1.

    ``curve`` bends the grey scale (1 linear, below 1 brighter middle); ``window`` are the
    percentiles shown as black and white; ``shoulder`` is how softly both ends saturate.
    ``plate`` and ``frame`` are drawn by :func:`receive`.
    """

    exposure: float = 1.0
    scatter: float = 0.1
    blur_mm: float = 0.05
    motion_mm: float = 0.0
    motion_angle: float = 0.0
    read_noise: float = 0.002
    low: float = 0.5
    high: float = 98.0
    headroom: float = 1.1
    lift: float = 0.15  # how far the darkest part stays above black, mu·t
    range: float = 2.4  # the most mu·t shown, where metal would stretch the window
    curve: float = 1.0
    shoulder: float = 0.5
    sharpen: float = 0.0
    sharpen_mm: float = 0.15
    equalise: float = 0.0
    corner: float = 0.0  # radius as a share of the film's shorter side
    bezel: float = 0.0  # width as a share of the shorter side
    bezel_grey: float = 1.0
    cone: tuple[float, float, float] | None = None  # circle: middle (x, y) and radius, in widths
    edge: tuple[float, float] | None = None  # straight cut: angle, share of the way kept
    cone_grey: float = 0.0
    scratches: int = 0
    specks: int = 0
    dead_lines: int = 0
    banding: float = 0.0
    fog: float = 0.0


def draw_settings(rng: np.random.Generator, *, flaws: float = 1.0) -> Settings:
    """Draw settings as practices use them; `flaws` scales how often something goes wrong."""

    def chance(share: float) -> bool:
        return bool(rng.random() < share * flaws)

    exposure = float(10 ** rng.normal(0.0, 0.22))
    if chance(0.08):
        exposure = float(rng.choice([0.08, 0.15, 5.0]))
    sharp = rng.random()
    cone = edge = None
    if chance(0.05):
        side = 1.0 if rng.random() < 0.5 else -1.0
        cone = (0.5 + side * float(rng.uniform(0.1, 0.32)), float(rng.uniform(0.3, 0.5)), 0.62)
    elif chance(0.04):
        edge = (float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.72, 0.95)))
    return Settings(
        exposure=exposure,
        scatter=float(rng.uniform(0.03, 0.22)),
        blur_mm=float(rng.uniform(0.02, 0.075)) + (0.12 if chance(0.05) else 0.0),
        motion_mm=float(rng.uniform(0.2, 0.7)) if chance(0.05) else 0.0,
        motion_angle=float(rng.uniform(0, math.pi)),
        read_noise=float(rng.uniform(0.001, 0.006)),
        low=float(rng.uniform(0.1, 4.0)),
        high=float(rng.uniform(96.0, 99.9)),
        lift=float(max(0.0, rng.uniform(-0.15, 0.5))),
        headroom=float(rng.uniform(1.0, 1.45)),
        range=float(rng.uniform(1.9, 3.3)),
        curve=float(np.exp(rng.normal(-0.1, 0.28))),
        shoulder=float(rng.uniform(0.0, 1.0)),
        sharpen=0.0 if sharp < 0.4 else float(rng.uniform(0.2, 1.3)),
        sharpen_mm=float(rng.uniform(0.08, 0.4)),
        equalise=float(rng.uniform(0.2, 0.7)) if rng.random() < 0.2 else 0.0,
        corner=float(rng.uniform(0.05, 0.22)) if rng.random() < 0.4 else 0.0,
        bezel=float(rng.uniform(0.004, 0.025)) if rng.random() < 0.25 else 0.0,
        bezel_grey=1.0 if rng.random() < 0.6 else 0.0,
        cone=cone,
        edge=edge,
        cone_grey=1.0 if rng.random() < 0.75 else float(rng.uniform(0, 0.08)),
        scratches=int(rng.poisson(0.6)) + (int(rng.integers(3, 12)) if chance(0.08) else 0),
        specks=int(rng.poisson(0.8)) + (int(rng.integers(5, 30)) if chance(0.1) else 0),
        dead_lines=int(chance(0.02)),
        banding=float(rng.uniform(0.004, 0.015)) if chance(0.08) else 0.0,
        fog=float(rng.uniform(0.02, 0.12)) if chance(0.15) else 0.0,
    )


def noise_of(settings: Settings, attenuation: float, pixel_mm: float) -> float:
    """Standard deviation of mu·t in one pixel behind `attenuation`, before blurring."""
    photons = settings.exposure * _PHOTONS_MM2 * pixel_mm**2
    signal = math.exp(-attenuation) * (1 - settings.scatter) + settings.scatter * 0.2
    return math.sqrt(signal / photons + (settings.read_noise * 0.2) ** 2) / max(signal, 1e-6)


def exposed(
    attenuation: npt.NDArray[np.floating],
    pixel_mm: float,
    settings: Settings,
    rng: np.random.Generator,
) -> Map:
    """Expose a detector behind `attenuation` (mu·t): the signal, 1 behind nothing, with noise."""
    signal = np.exp(-np.asarray(attenuation, np.float32))
    rows, cols = signal.shape
    small = cv2.resize(
        signal, (max(8, cols // 16), max(8, rows // 16)), interpolation=cv2.INTER_AREA
    )
    wide = cv2.GaussianBlur(small, (0, 0), max(4.0 / pixel_mm / 16, 0.5))
    wide = cv2.resize(wide, (cols, rows), interpolation=cv2.INTER_LINEAR)
    signal = signal * np.float32(1 - settings.scatter) + wide * np.float32(settings.scatter)
    sigma = settings.blur_mm / pixel_mm
    if settings.motion_mm > 0:
        signal = _moved(signal, settings.motion_mm / pixel_mm, settings.motion_angle)
    if sigma > 0.25:
        signal = cv2.GaussianBlur(signal, (0, 0), sigma)
    photons = np.float32(settings.exposure * _PHOTONS_MM2 * pixel_mm**2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    # Many photons a pixel: a normal law with the Poisson variance; then the reading's own noise.
    spread = np.sqrt(np.maximum(signal, 0) / photons + np.float32((settings.read_noise * 0.2) ** 2))
    return np.asarray(np.maximum(signal + noise * spread, 1.0 / photons), np.float32)


def capture(
    attenuation: npt.NDArray[np.floating],
    settings: Settings,
    rng: np.random.Generator,
    *,
    pixel_mm: float = 0.078,
) -> npt.NDArray[np.uint16]:
    """Take and develop a film: (rows, cols) mu·t in, 12-bit grey out, radiopaque bright."""
    grey = developed(exposed(attenuation, pixel_mm, settings, rng), pixel_mm, settings)
    return receive(grey, settings, rng)[0]


def developed(signal: Map, pixel_mm: float, settings: Settings) -> Map:
    """Turn a signal into the grey a viewer shows, 0 to 1."""
    density = -np.log(signal + np.float32(settings.fog))
    sample = density[::4, ::4]
    low, high = np.percentile(sample, (settings.low, settings.high))
    low -= settings.lift
    width = min(max(float(high - low), 1.0), settings.range) * settings.headroom
    grey = (density - np.float32(low)) / np.float32(width)
    if settings.equalise > 0:
        radius = 6.0 / pixel_mm / 8
        small = cv2.resize(grey, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
        local = cv2.resize(cv2.GaussianBlur(small, (0, 0), radius), grey.shape[::-1])
        grey = grey - np.float32(settings.equalise * 0.6) * (local - np.float32(0.5))
    if settings.sharpen > 0:
        soft = cv2.GaussianBlur(grey, (0, 0), max(settings.sharpen_mm / pixel_mm, 0.4))
        grey = grey + np.float32(settings.sharpen) * (grey - soft)
    # A look-up curve with a toe and a shoulder, bent by the vendor's gamma.
    line = np.linspace(-0.5, 1.5, 2048)
    bent = np.clip(line, 0, 1)
    s_shape = 1 / (1 + np.exp(-(line - 0.5) * 5.0))
    s_shape = (s_shape - s_shape[512]) / (s_shape[1536] - s_shape[512])
    table = np.clip((1 - settings.shoulder) * bent + settings.shoulder * s_shape, 0, 1.0)
    table = np.clip(table, 0, 1) ** settings.curve
    place = np.clip((grey + 0.5) * np.float32(1023.5), 0, 2047).astype(np.int32)
    return np.asarray(table.astype(np.float32)[place], np.float32)


def receive(
    grey: Map, settings: Settings, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """Add what receptor and tube leave on the film; also returns what stays exposed and seen."""
    rows, cols = grey.shape
    grey = grey.copy()
    seen = np.ones((rows, cols), bool)
    short = min(rows, cols)
    if settings.banding > 0:
        wave = np.sin(np.arange(rows) * rng.uniform(0.1, 0.9)) + rng.normal(0, 0.6, rows)
        grey += (settings.banding * wave[:, None]).astype(np.float32)
    for _ in range(settings.scratches):
        _scratch(grey, rng)
    for _ in range(settings.specks):
        x, y = int(rng.integers(0, cols)), int(rng.integers(0, rows))
        cv2.circle(grey, (x, y), int(rng.integers(0, max(2, short // 180))), 0.97, -1)
    for _ in range(settings.dead_lines):
        column = int(rng.integers(4, cols - 4))
        grey[:, column : column + 1 + int(rng.integers(0, 2))] = float(rng.random() < 0.5)
    if settings.cone is not None or settings.edge is not None:
        kept = _lit(rows, cols, settings)
        soft = cv2.GaussianBlur(kept.astype(np.float32), (0, 0), max(short / 250, 0.6))
        grey = grey * soft + np.float32(settings.cone_grey) * (1 - soft)
        seen &= kept
    shape = np.ones((rows, cols), np.uint8)
    border = int(settings.bezel * short)
    if settings.corner > 0 or border > 0:
        shape = _rounded(rows, cols, border, int(settings.corner * short))
        grey[shape == 0] = settings.bezel_grey
    seen &= shape == 1
    return np.round(np.clip(grey, 0, 1) * _TOP).astype(np.uint16), seen


def _moved(signal: Map, length: float, angle: float) -> Map:
    size = max(3, int(length) | 1)
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    dx, dy = math.cos(angle) * middle, math.sin(angle) * middle
    ends = [(round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(signal, -1, kernel / kernel.sum()), np.float32)


def _lit(rows: int, cols: int, settings: Settings) -> npt.NDArray[np.bool_]:
    yy = np.arange(rows, dtype=np.float32)[:, None] / cols
    xx = np.arange(cols, dtype=np.float32)[None] / cols
    if settings.cone is not None:
        x, y, radius = settings.cone
        return np.asarray((xx - x) ** 2 + (yy - y) ** 2 < radius**2)
    assert settings.edge is not None
    angle, kept = settings.edge
    along = (xx - 0.5) * math.cos(angle) + (yy - rows / cols / 2) * math.sin(angle)
    low, high = float(along.min()), float(along.max())
    return np.asarray(along < low + kept * (high - low))


def _rounded(rows: int, cols: int, border: int, radius: int) -> npt.NDArray[np.uint8]:
    shape = np.zeros((rows, cols), np.uint8)
    radius = max(radius, 1)
    x0, y0, x1, y1 = border, border, cols - 1 - border, rows - 1 - border
    cv2.rectangle(shape, (x0 + radius, y0), (x1 - radius, y1), 1, -1)
    cv2.rectangle(shape, (x0, y0 + radius), (x1, y1 - radius), 1, -1)
    for x in (x0 + radius, x1 - radius):
        for y in (y0 + radius, y1 - radius):
            cv2.circle(shape, (x, y), radius, 1, -1)
    return shape


def _scratch(grey: Map, rng: np.random.Generator) -> None:
    rows, cols = grey.shape
    start = rng.uniform(0, (cols, rows))
    way = rng.normal(0, 0.08, 2) * cols
    bow = rng.normal(0, 0.012, 2) * cols
    points = np.array([start + way * t + bow * t * (1 - t) * 4 for t in np.linspace(0, 1, 9)])
    layer = np.zeros_like(grey)
    scaled = np.round(points * 16).astype(np.int32)
    cv2.polylines(layer, [scaled], False, 1.0, 1, cv2.LINE_AA, 4)
    grey += (float(rng.uniform(0.15, 0.7)) * layer).astype(np.float32)
