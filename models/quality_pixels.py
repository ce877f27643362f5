"""What the pixels alone say of a film's quality: sharpness, exposure, unexposed area.

Images are (rows, cols), float 0..1, upright and with metal bright. Thresholds and how they were
chosen stand in models/cards/quality.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from node.domain.findings import Box

Pixels = np.ndarray

#: Sharpness is judged on the film at this length, about what the networks and a screen show.
_LENGTH_PX = 512
_FINE_PX, _COARSE_PX = 0.8, 2.0
#: A grey value within this of either end of the range is lost.
_END = 0.006
#: A clear area may vary by this much; bone and teeth vary more.
_FLAT = 0.02
_LEAST_TOOTH_PX = 400


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the grey range fits the teeth.

    ``contrast_to_noise`` is enamel against dentine; ``dark`` and ``bright`` are the shares of
    tooth pixels at the ends of the range.
    """

    contrast_to_noise: float
    dark: float
    bright: float


def sharpness(image: Pixels) -> float:
    """Compare the strongest edges seen finely and coarsely: 1 is blurred, 2 crisp.

    A blur of s pixels leaves the ratio sqrt((coarse² + s²) / (fine² + s²)) of a perfect edge.
    """
    small = _fitted(image)
    coarse = np.percentile(_gradient(small, _COARSE_PX), 99)
    return float(np.percentile(_gradient(small, _FINE_PX), 99) / max(float(coarse), 1e-4))


def exposure(image: Pixels, teeth: Sequence[Box], dense: Sequence[Box] = ()) -> Exposure | None:
    """Measure exposure inside the boxes of `teeth`, leaving out `dense` ones (metal, fillings).

    None when too few tooth pixels are left to judge.
    """
    scale = min(1.0, _LENGTH_PX / max(image.shape))
    small = _fitted(image) if scale < 1 else image.astype(np.float32)
    inside = np.zeros(small.shape, bool)
    for box in teeth:
        width, height = box.x1 - box.x0, box.y1 - box.y0
        inside[_cut(box, scale, 0.2 * width, 0.1 * height)] = True
    for box in dense:
        inside[_cut(box, scale, -3.0, -3.0)] = False
    values = small[inside]
    if values.size < _LEAST_TOOTH_PX:
        return None
    dark, bright = float((values <= _END).mean()), float((values >= 1 - _END).mean())
    body = values[(values > np.percentile(values, 2)) & (values < np.percentile(values, 98))]
    if body.size < _LEAST_TOOTH_PX // 2 or float(np.ptp(body)) < 1e-3:
        return Exposure(0.0, dark, bright)
    split = _otsu(body)
    contrast = float(np.median(body[body > split]) - np.median(body[body <= split]))
    return Exposure(contrast / max(_noise(small), 1e-4), dark, bright)


def clear_share(image: Pixels) -> float:
    """Find the largest unexposed part that reaches an edge, as a share of the film.

    A frame that is clear all round, as plates and archives have, is not counted.
    """
    scale = min(1.0, 256 / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.blur(small, (5, 5))
    spread = np.sqrt(np.maximum(cv2.blur(small * small, (5, 5)) - mean**2, 0))
    top = float(np.percentile(small, 99.8))
    clear = ((small > top - 0.12) & (spread < _FLAT)).astype(np.uint8)
    clear = cv2.morphologyEx(clear, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(clear, connectivity=4)
    best = 0.0
    rows, cols = small.shape
    for index in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[index])
        sides = (x == 0) + (y == 0) + (x + width == cols) + (y + height == rows)
        if 1 <= sides <= 3:
            best = max(best, area / (rows * cols))
    return best


def _fitted(image: Pixels) -> Pixels:
    scale = _LENGTH_PX / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted: Pixels = cv2.resize(image.astype(np.float32), size, interpolation=how)
    return fitted


def _gradient(image: Pixels, sigma: float) -> Pixels:
    soft = cv2.GaussianBlur(image, (0, 0), sigma)
    across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    steepness: Pixels = np.hypot(across, cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3))
    return steepness


def _noise(image: Pixels) -> float:
    """Estimate the standard deviation of the noise, blind to edges.

    Source: J. Immerkær, Fast noise variance estimation, 1996; with a median against structure.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(image, cv2.CV_32F, kernel))
    return float(np.median(response) / 0.6745 / 6.0)


def _otsu(values: Pixels) -> float:
    low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled[None], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return low + float(level) / 255 * (high - low)


def _cut(box: Box, scale: float, less_x: float, less_y: float) -> tuple[slice, slice]:
    def span(low: float, high: float, less: float) -> slice:
        return slice(max(0, int((low + less) * scale)), max(0, int((high - less) * scale) + 1))

    return span(box.y0, box.y1, less_y), span(box.x0, box.x1, less_x)
