"""Tooth outlines: the mask network's crops, turned into polygons on the film."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from models import tooth_crops
from models.tooth_crops import MASK_CELL, BoxPx, MaskNet
from node.domain.findings import Point

#: An outline has at most this many vertices.
MAX_VERTICES = 80
#: A mask is enlarged so before it is traced.
_FINE = 4
#: A mask of fewer square crop pixels is none.
_LEAST_AREA_PX = 60.0


def outlines(
    net: MaskNet,
    threshold: float,
    frame: np.ndarray,
    boxes: Sequence[BoxPx],
    lower: Sequence[bool],
) -> list[tuple[Point, ...]]:
    """Trace the tooth in each box on a film of size :data:`models.tooth_crops.FRAME`.

    Boxes and outlines are in the film's pixels, the origin at the corner of the corner pixel;
    `lower` says per box whether the tooth stands in the lower jaw. A pixel belongs to the tooth
    from the probability `threshold` on. Every tooth is traced twice, the second time in the box of
    its first outline, which fits it better than the box given. An outline has 3 to
    :data:`MAX_VERTICES` points, or none when no tooth stands out.
    """
    if not boxes:
        return []
    first = _traced(net, threshold, frame, boxes, lower)
    fitting = [_box_of(points) or box for points, box in zip(first, boxes, strict=True)]
    return _traced(net, threshold, frame, fitting, lower)


def _traced(
    net: MaskNet,
    threshold: float,
    frame: np.ndarray,
    boxes: Sequence[BoxPx],
    lower: Sequence[bool],
) -> list[tuple[Point, ...]]:
    masks = tooth_crops.run(net, tooth_crops.cut(frame, boxes, lower), "mask")
    return [
        trace(mask, tooth_crops.placement(box, is_lower), threshold)
        for mask, box, is_lower in zip(masks, boxes, lower, strict=True)
    ]


def _box_of(points: Sequence[Point]) -> BoxPx | None:
    """Give the box of an outline; None without one."""
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def trace(logits: np.ndarray, placement: np.ndarray, threshold: float) -> tuple[Point, ...]:
    """Turn a mask of logits into a polygon in the frame that `placement` maps to the crop."""
    rows, cols = logits.shape
    size = (cols * _FINE, rows * _FINE)
    fine = cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR)
    level = np.log(threshold / (1 - threshold))
    contours, _ = cv2.findContours(
        (fine > level).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    if not contours:
        return ()
    per_crop_px = _FINE / MASK_CELL
    largest = max(contours, key=cv2.contourArea)
    if cv2.contourArea(largest) < _LEAST_AREA_PX * per_crop_px**2:
        return ()
    points = _simplified(largest)
    on_crop = (points + 0.5) / per_crop_px
    on_frame = (on_crop - placement[:, 2]) @ np.linalg.inv(placement[:, :2]).T
    return tuple((float(x), float(y)) for x, y in on_frame)


def _simplified(contour: np.ndarray) -> np.ndarray:
    """Drop vertices until few enough are left, the least telling first."""
    tolerance = 0.8
    while True:
        points = cv2.approxPolyDP(contour, tolerance, True)
        if len(points) <= MAX_VERTICES:
            return np.asarray(points.reshape(-1, 2), dtype=np.float64)
        tolerance *= 1.3
