"""Lines of lettering burned into a picture: names and dates that screenshots and bridges stamp.

No reading: letters are small, crisp, of one grey, alike in height and in a row, which nothing in a
mouth is. A lone side marker (R, L) is not a line. Limits and how often it is right and wrong stand
in models/cards/lettering.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from node.domain.findings import Box

#: A line has at least so many letters.
LEAST_LETTERS = 5
#: Heights of letters looked for at each scale, and the scales: 8 to 112 pixels of the picture.
_LEAST_HEIGHT, _MOST_HEIGHT = 7, 28
_SCALES = (1.0, 0.5, 0.25)
#: A letter's strokes are thinner than this, and stand out from what is around by this much (0..1).
_STROKE_PX = 9
_LEAST_CONTRAST = 0.2
#: Letters are drawn: from paper to ink in about a pixel, by so much of the contrast at least.
_LEAST_STEP = 0.4
#: Letters of one line have the same grey, within this.
_SAME_GREY = 0.12
#: How far ink may vary inside a letter, as a share of its contrast: strokes are drawn, not exposed.
_MOST_UNEVEN = 0.25
_MOST_PARTS = 6_000
_NEXT = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Letter:
    x: int
    y: int
    width: int
    height: int
    grey: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def find_lettering(image: np.ndarray) -> tuple[Box, ...]:
    """Find lines of lettering, lying or standing, in `image`: (rows, cols) float 0..1."""
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    steps = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    found: list[Box] = []
    for scale in _SCALES:
        small, crisp = pixels, steps
        if scale < 1.0:
            size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
            if min(size) < 4 * _LEAST_HEIGHT:
                break
            small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            widest = np.ones((round(1 / scale),) * 2, np.uint8)
            crisp = cv2.resize(cv2.dilate(steps, widest), size, interpolation=cv2.INTER_NEAREST)
        for ink in (small, 1.0 - small):
            found += [_scaled(box, scale) for box in _lines(ink, crisp)]
            found += [_scaled(_turned(box), scale) for box in _lines(ink.T, crisp.T)]
    return _merged(found)


def _lines(ink: np.ndarray, steps: np.ndarray) -> Iterator[Box]:
    """Find lying lines of letters brighter than what is around them."""
    letters = sorted(_letters(np.ascontiguousarray(ink), steps), key=lambda each: each.x)
    taken: set[_Letter] = set()
    for first in letters:
        if first in taken:
            continue
        line = [first]
        for other in letters:
            if other.x <= line[-1].x or other in taken:
                continue
            if other.x - (line[-1].x + line[-1].width) > 2.0 * first.height:
                break
            if _follows(line, other):
                line.append(other)
        if len(line) >= LEAST_LETTERS and _is_even(line):
            taken.update(line)
            yield Box(
                float(min(each.x for each in line)),
                float(min(each.y for each in line)),
                float(max(each.x + each.width for each in line)),
                float(max(each.y + each.height for each in line)),
            )


def _letters(ink: np.ndarray, steps: np.ndarray) -> list[_Letter]:
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE_PX, _STROKE_PX))
    raised = cv2.morphologyEx(ink, cv2.MORPH_TOPHAT, kernel)
    mask = (raised > _LEAST_CONTRAST).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count > _MOST_PARTS:  # noise, not a picture with a line on it
        return []
    found = []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        if not _LEAST_HEIGHT <= height <= _MOST_HEIGHT or width > 1.6 * height:
            continue
        if not 0.12 <= area / (width * height) <= 0.95 or (width < 2 and height < _LEAST_HEIGHT):
            continue
        inside = labels[y : y + height, x : x + width] == number
        values = ink[y : y + height, x : x + width][inside]
        core = values[values >= np.percentile(values, 40)]
        contrast = float(raised[y : y + height, x : x + width][inside].max())
        edge = inside & ~cv2.erode(inside.astype(np.uint8), _NEXT, borderValue=0).astype(bool)
        step = float(np.median(steps[y : y + height, x : x + width][edge]))
        if step >= _LEAST_STEP * contrast and float(core.std()) <= _MOST_UNEVEN * contrast:
            found.append(_Letter(x, y, width, height, float(np.median(core))))
    return found


def _follows(line: Sequence[_Letter], other: _Letter) -> bool:
    """Whether a letter stands beside the last of a line, on the same foot and of the same ink."""
    first, last = line[0], line[-1]
    tall = max(first.height, other.height)
    gap = other.x - (last.x + last.width)
    return (
        -0.3 * tall <= gap <= 1.6 * tall
        and 0.55 <= other.height / first.height <= 1.8
        and abs(other.y + other.height - last.y - last.height) <= 0.34 * tall
        and abs(other.middle - first.middle) <= 0.5 * tall
        and abs(other.grey - first.grey) <= _SAME_GREY
    )


def _is_even(line: Sequence[_Letter]) -> bool:
    """Whether letters stand on one foot: most bottoms within a tenth of their height."""
    bottoms = np.array([each.y + each.height for each in line], dtype=float)
    heights = np.array([each.height for each in line], dtype=float)
    slope = np.polyfit([each.x for each in line], bottoms, 1)
    if abs(slope[0]) > 0.05:
        return False
    off = np.abs(bottoms - np.median(bottoms)) <= 1.0 + 0.1 * np.median(heights)
    return float(off.mean()) >= 0.7


def _turned(box: Box) -> Box:
    return Box(box.y0, box.x0, box.y1, box.x1)


def _scaled(box: Box, scale: float) -> Box:
    return Box(box.x0 / scale, box.y0 / scale, box.x1 / scale, box.y1 / scale)


def _merged(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Join what several scales found of one line."""
    merged: list[Box] = []
    for box in sorted(boxes, key=lambda each: (each.y0, each.x0)):
        for number, known in enumerate(merged):
            if box.x0 < known.x1 and known.x0 < box.x1 and box.y0 < known.y1 and known.y0 < box.y1:
                merged[number] = Box(
                    min(box.x0, known.x0),
                    min(box.y0, known.y0),
                    max(box.x1, known.x1),
                    max(box.y1, known.y1),
                )
                break
        else:
            merged.append(box)
    return tuple(merged)
