"""Give an intraoral film the looks of another sensor, curve, exposure and archive.

What is drawn from the generator has few looks; a network that saw only those fails on films. The
changes here leave every place where it was.
"""

from __future__ import annotations

import cv2
import numpy as np

Array = np.ndarray


def change(rng: np.random.Generator, pixels: Array) -> Array:
    """Change the looks of uint8 `pixels` (rows, cols); gives float32 0..1."""
    if rng.random() < 0.22:
        clip, tiles = float(rng.uniform(1.0, 4.0)), int(rng.integers(3, 9))
        pixels = cv2.createCLAHE(clip, (tiles, tiles)).apply(pixels)
    image = _curve(rng, pixels).astype(np.float32) / 255.0
    if rng.random() < 0.6:
        image = image * _uneven(rng, image.shape)
    if rng.random() < 0.4:
        image = _local_contrast(rng, image)
    image = _sharpness(rng, image)
    if rng.random() < 0.6:
        image = image + _grain(rng, image)
    if rng.random() < 0.3:
        image = _dirt(rng, image)
    if rng.random() < 0.2:
        image = _coarse(rng, image)
    if rng.random() < 0.25:
        image = _frame(rng, image)
    image = np.clip(image, 0.0, 1.0).astype(np.float32)
    return _compress(rng, image) if rng.random() < 0.3 else image


def _curve(rng: np.random.Generator, pixels: Array) -> Array:
    """Apply a rising look-up curve: a power, or straight pieces between random knots."""
    grey = np.arange(256) / 255.0
    if rng.random() < 0.45:
        table = grey ** np.exp(rng.uniform(-0.75, 0.75))
    else:
        steps = rng.dirichlet(np.full(5, 2.5))
        knots = np.concatenate([[0.0], np.cumsum(steps)])
        smooth = (grey + 2 * np.interp(grey, np.linspace(0, 1, 6), knots)) / 3
        table = cv2.GaussianBlur(smooth[None], (0, 0), 9, borderType=cv2.BORDER_REPLICATE)[0]
    changed: Array = cv2.LUT(pixels, np.clip(table * 255, 0, 255).astype(np.uint8))
    return changed


def _uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw a smooth field round 1: tissue, a bent plate, a beam that falls off."""
    spots = np.exp(rng.normal(0, rng.uniform(0.05, 0.3), (3, 3))).astype(np.float32)
    field = cv2.resize(spots, shape[::-1], interpolation=cv2.INTER_CUBIC)
    bounded: Array = np.clip(field, 0.3, 1.8)
    return bounded


def _local_contrast(rng: np.random.Generator, image: Array) -> Array:
    """Raise or flatten what differs from its wide neighbourhood, bone against tissue above all."""
    wide = cv2.GaussianBlur(image, (0, 0), rng.uniform(8, 30))
    changed: Array = image + np.float32(rng.uniform(-0.45, 0.9)) * (image - wide)
    return changed


def _sharpness(rng: np.random.Generator, image: Array) -> Array:
    choice = rng.random()
    if choice < 0.22:
        soft: Array = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
        return soft
    if choice < 0.5:
        wide: Array = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 4.0))
        sharp: Array = image + np.float32(rng.uniform(0.3, 2.0)) * (image - wide)
        return sharp
    return image


def _grain(rng: np.random.Generator, image: Array) -> Array:
    """Draw noise of some grain; storage plates are noisier where they are dark."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.5))
        noise /= max(float(noise.std()), 1e-6)
    level = np.float32(rng.uniform(0.005, 0.06))
    grain: Array = noise * level * (1.2 - np.clip(image, 0, 1) if rng.random() < 0.5 else 1.0)
    return grain


def _dirt(rng: np.random.Generator, image: Array) -> Array:
    """Draw dust and scratches, bright as on plates."""
    rows, cols = image.shape
    drawn = image.copy()
    for _ in range(int(rng.integers(1, 14))):
        at = (int(rng.integers(0, cols)), int(rng.integers(0, rows)))
        tone = float(rng.uniform(0.6, 1.0))
        if rng.random() < 0.6:
            cv2.circle(drawn, at, int(rng.integers(0, 3)), tone, -1)
        else:
            reach = rng.normal(0, 0.08, 2) * (cols, rows)
            end = (int(at[0] + reach[0]), int(at[1] + reach[1]))
            cv2.line(drawn, at, end, tone, 1, cv2.LINE_AA)
    return drawn


def _coarse(rng: np.random.Generator, image: Array) -> Array:
    """Store the film at a low resolution."""
    rows, cols = image.shape
    factor = rng.uniform(0.35, 0.8)
    size = (max(8, int(cols * factor)), max(8, int(rows * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    stored: Array = cv2.resize(small, (cols, rows), interpolation=cv2.INTER_LINEAR)
    return stored


def _frame(rng: np.random.Generator, image: Array) -> Array:
    """Blank the rim as a plate's edge, a holder or an archive does, with round corners."""
    rows, cols = image.shape
    inset = rng.uniform(-0.02, 0.03, 4) * (cols, rows, cols, rows)
    x0, y0 = max(0, int(inset[0])), max(0, int(inset[1]))
    x1, y1 = cols - 1 - max(0, int(inset[2])), rows - 1 - max(0, int(inset[3]))
    radius = int(rng.uniform(0.02, 0.2) * min(rows, cols))
    inside = np.zeros((rows, cols), np.uint8)
    cv2.rectangle(inside, (x0 + radius, y0), (x1 - radius, y1), 1, -1)
    cv2.rectangle(inside, (x0, y0 + radius), (x1, y1 - radius), 1, -1)
    for x in (x0 + radius, x1 - radius):
        for y in (y0 + radius, y1 - radius):
            cv2.circle(inside, (x, y), radius, 1, -1)
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), rng.uniform(0.5, 4.0))
    rim = np.float32(rng.choice([0.0, 0.05, 0.9, 1.0]))
    framed: Array = image * soft + rim * (1 - soft)
    return framed


def _compress(rng: np.random.Generator, image: Array) -> Array:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    _, data = cv2.imencode(".jpg", (image * 255).astype(np.uint8), quality)
    loaded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert loaded is not None
    result: Array = loaded.astype(np.float32) / np.float32(255)
    return result
