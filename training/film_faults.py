"""Spoil an intraoral film the way tubes, plates and patients do, and say how it was spoilt."""

from __future__ import annotations

import cv2
import numpy as np

from models.triage import FAULTS

Pixels = np.ndarray


def spoil(
    rng: np.random.Generator, pixels: Pixels, other: Pixels, chance: float = 0.14
) -> tuple[Pixels, np.ndarray]:
    """Give `pixels` (uint8, metal bright) each fault with `chance`, and which it has, as 0 or 1.

    `other` is a second film, for double exposures. Order: :data:`models.triage.FAULTS`.
    """
    has = (rng.random(len(FAULTS)) < chance).astype(np.float32)
    makers = {"cone_cut": cone_cut, "receptor": receptor, "motion": motion}
    if has[FAULTS.index("double")]:
        pixels = double(rng, pixels, other)
    for name in ("motion", "cone_cut", "receptor"):
        if has[FAULTS.index(name)]:
            pixels = makers[name](rng, pixels)
    return pixels, has


def cone_cut(rng: np.random.Generator, pixels: Pixels, share: float | None = None) -> Pixels:
    """Leave a part of the film unexposed (bright) behind a round or straight edge.

    `share` is the least part left out, 4–35 % when None.
    """
    rows, cols = pixels.shape
    wanted = rng.uniform(0.04, 0.35) if share is None else share
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
    if rng.random() < 0.65:
        radius = max(rows, cols) * rng.uniform(0.55, 0.9)
        distance = np.hypot(
            xs - cols / 2 + np.cos(angle) * radius, ys - rows / 2 + np.sin(angle) * radius
        )
    else:
        distance = xs * np.cos(angle) + ys * np.sin(angle)
    edge = np.quantile(distance, 1 - wanted)
    soft = np.clip((distance - edge) / rng.uniform(1.0, 6.0), 0, 1)
    bright = rng.uniform(225, 255)
    cut: Pixels = (pixels * (1 - soft) + bright * soft).astype(np.uint8)
    return cut


def receptor(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Scratch, bite, bend or burn the receptor."""
    image = pixels.copy()
    rows, cols = image.shape
    kind = int(rng.integers(0, 4))
    grey = int(rng.choice([0, 25, 230, 255]))
    if kind == 0:  # scratches
        for _ in range(int(rng.integers(2, 9))):
            ends = rng.uniform(0, 1, (2, 2)) * (cols, rows)
            start = ends[0]
            end = start + (ends[1] - start) * rng.uniform(0.15, 0.7)
            width = int(rng.integers(1, 3))
            cv2.line(image, start.astype(int).tolist(), end.astype(int).tolist(), grey, width)
    elif kind == 1:  # dead lines of a sensor
        for _ in range(int(rng.integers(1, 4))):
            at, width = rng.random(), int(rng.integers(1, 4))
            if rng.random() < 0.5:
                image[int(at * (rows - 4)) :][:width] = grey
            else:
                image[:, int(at * (cols - 4)) :][:, :width] = grey
    elif kind == 2:  # bite marks: a bow of blots
        centre = rng.uniform(0.2, 0.8, 2) * (cols, rows)
        for step in np.linspace(-1, 1, int(rng.integers(3, 7))):
            at = centre + np.array([step * cols * 0.15, step**2 * rows * 0.08])
            size = (int(rng.integers(4, 12)), int(rng.integers(3, 8)))
            cv2.ellipse(image, at.astype(int).tolist(), size, 0, 0, 360, grey, -1)
    else:  # a bent corner
        corner = rng.integers(0, 2, 2)
        reach = rng.uniform(0.12, 0.3, 2) * (cols, rows)
        x, y = corner[0] * cols, corner[1] * rows
        dx, dy = (1 - 2 * corner[0]) * reach[0], (1 - 2 * corner[1]) * reach[1]
        triangle = np.array([(x, y), (x + dx, y), (x, y + dy)], np.int32)
        cv2.fillPoly(image, [triangle], grey)
        cv2.line(image, triangle[1].tolist(), triangle[2].tolist(), 255 - grey, 2)
    return image


def motion(rng: np.random.Generator, pixels: Pixels, length: float | None = None) -> Pixels:
    """Smear the film along a line, or show its contours twice, by 2–6 % of its longer side."""
    span = rng.uniform(0.02, 0.06) if length is None else length
    reach = max(4, round(span * max(pixels.shape)))
    angle = rng.uniform(0, np.pi)
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    if rng.random() < 0.4:
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = cv2.warpAffine(pixels, matrix, pixels.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        twice: Pixels = cv2.addWeighted(pixels, 0.55, moved, 0.45, 0)
        return twice
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    centre = np.array([reach, reach])
    half = np.array([dx, dy]) / 2
    start, end = (centre - half).astype(int), (centre + half).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1)
    smeared: Pixels = cv2.filter2D(
        pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE
    )
    return smeared


def double(rng: np.random.Generator, pixels: Pixels, other: Pixels) -> Pixels:
    """Expose the receptor twice."""
    second = cv2.resize(other, pixels.shape[::-1])
    if rng.random() < 0.5:
        second = np.ascontiguousarray(np.rot90(second, 2))
    share = rng.uniform(0.35, 0.6)
    both: Pixels = cv2.addWeighted(pixels, 1 - share, second, share, 0)
    return both
