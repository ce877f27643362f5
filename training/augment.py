"""Change films the way sensors, vendors and hands do, so that networks meet variety early."""

from __future__ import annotations

import cv2
import numpy as np


def affine(
    rng: np.random.Generator,
    source: tuple[int, int],
    target: tuple[int, int],
    strength: float = 1.0,
    flip: bool = False,
) -> np.ndarray:
    """Draw a 2x3 matrix from stored pixels of `source` (rows, cols) to `target` pixels.

    Scale 0.75–1.3, aspect ±12 %, rotation ±6°, shear ±3 %, shift ±8 % at strength 1.
    """
    rows, cols = target
    angle = np.deg2rad(rng.uniform(-6, 6) * strength)
    scale = np.exp(rng.uniform(-0.29, 0.26) * strength)
    aspect = np.exp(rng.uniform(-0.12, 0.12) * strength)
    shear = rng.uniform(-0.03, 0.03) * strength
    shift = rng.uniform(-0.08, 0.08, 2) * strength * (cols, rows)
    rotation = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([scale * aspect, scale / aspect]) @ np.diag([-1.0 if flip else 1.0, 1.0])
    fit = np.diag([cols / source[1], rows / source[0]])
    linear = rotation @ stretch
    centre = np.array([cols / 2, rows / 2])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = linear @ fit
    matrix[:, 2] = centre - linear @ centre + shift
    return matrix


def warp(
    rng: np.random.Generator, pixels: np.ndarray, matrix: np.ndarray, target: tuple[int, int]
) -> np.ndarray:
    """Move uint8 `pixels` by `matrix`; what comes in from outside is black, white or smeared."""
    border = cv2.BORDER_REPLICATE if rng.random() < 0.3 else cv2.BORDER_CONSTANT
    fill = 255 if rng.random() < 0.2 else int(rng.integers(0, 40))
    # Shrinking without smoothing first aliases; a light blur is close enough to area averaging.
    factor = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if factor < 0.7:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.4 / factor)
    return cv2.warpAffine(
        pixels, matrix, target[::-1], flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
    )


def appearance(rng: np.random.Generator, pixels: np.ndarray, may_mask: bool = True) -> np.ndarray:
    """Change curve, contrast, sharpness, noise and overlays of uint8 `pixels`; gives 0..1.

    `may_mask` lets an ellipse blank the corners, as archives of panoramics do.
    """
    if rng.random() < 0.25:
        clip = float(rng.uniform(1.0, 5.0))
        pixels = cv2.createCLAHE(clip, (8, 8)).apply(pixels)
    elif rng.random() < 0.08:
        pixels = cv2.equalizeHist(pixels)
    image = pixels.astype(np.float32) / 255.0
    image = _curve(rng, image)
    image = _sharpness(rng, image)
    if rng.random() < 0.35:
        image += rng.normal(0, rng.uniform(0.005, 0.05), image.shape).astype(np.float32)
    if may_mask and rng.random() < 0.25:
        image = _mask(rng, image)
    if rng.random() < 0.25:
        image = _overlay(rng, image)
    if rng.random() < 0.2:
        image = _compress(rng, image)
    return stretch(image)


def stretch(image: np.ndarray) -> np.ndarray:
    """Stretch the grey range between the 0.5th and 99.5th percentile to 0..1."""
    low, high = np.percentile(image, (0.5, 99.5))
    result: np.ndarray = np.clip((image - low) / max(high - low, 1e-3), 0.0, 1.0)
    return result.astype(np.float32)


def _curve(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.4:
        gain, middle = rng.uniform(3, 9), rng.uniform(0.3, 0.6)
        image = 1.0 / (1.0 + np.exp(-gain * (image - middle)))
    if rng.random() < 0.3:
        image = np.clip((image - rng.uniform(0, 0.15)) * rng.uniform(1.0, 1.6), 0, 1)
    return image.astype(np.float32)


def _sharpness(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    choice = rng.random()
    if choice < 0.2:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if choice < 0.45:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 4.0))
        return image + np.float32(rng.uniform(0.3, 1.8)) * (image - soft)
    if choice < 0.6:
        rows, cols = image.shape
        factor = rng.uniform(0.4, 0.8)
        small = cv2.resize(
            image, (int(cols * factor), int(rows * factor)), interpolation=cv2.INTER_AREA
        )
        return cv2.resize(small, (cols, rows), interpolation=cv2.INTER_LINEAR)
    return image


def _mask(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blank what lies outside an ellipse or rounded frame, as some archives and sensors do."""
    rows, cols = image.shape
    inside = np.zeros(image.shape, np.uint8)
    centre = (int(cols * rng.uniform(0.47, 0.53)), int(rows * rng.uniform(0.46, 0.54)))
    axes = (int(cols * rng.uniform(0.42, 0.52)), int(rows * rng.uniform(0.42, 0.56)))
    cv2.ellipse(inside, centre, axes, 0, 0, 360, 1, -1)
    return np.where(inside > 0, image, np.float32(rng.random() < 0.6))


def _overlay(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Burn in a letter, a label or a logo-like block."""
    rows, cols = image.shape
    canvas = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        text = str(rng.choice(["R", "L", "OPG", "2019-04-11", "kVp 66 mA 8", "D", "PAN 1", "E"]))
        at = (int(rng.uniform(0, cols * 0.9)), int(rng.choice([0.08, 0.14, 0.9, 0.97]) * rows))
        scale = float(rng.uniform(0.4, 1.6)) * rows / 450
        colour = int(rng.choice([0, 230, 255]))
        if rng.random() < 0.3:
            corner = (at[0] + int(70 * scale), at[1] - int(30 * scale))
            cv2.rectangle(canvas, at, corner, 255 - colour, -1)
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 2)
    return canvas.astype(np.float32) / 255.0


def _compress(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 85))]
    _, data = cv2.imencode(".jpg", (np.clip(image, 0, 1) * 255).astype(np.uint8), quality)
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255.0
