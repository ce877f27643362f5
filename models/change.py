"""The same tooth on two films of different days: laid over each other, and what differs.

A tooth is registered by itself, as teeth move and films are never taken from quite the same angle:
first by points of tooth and neighbours (box corners, CEJ, apices; never the crest, which is what
may have changed), then refined on the pixels of its crop by the enhanced correlation coefficient
(Evangelidis & Psarakis 2008, in OpenCV). Films whose geometry differs, or that do not correlate,
are refused with a reason: they may be looked at, nothing is measured.

Coordinates are pixels (x, y) of each film, origin at the top-left corner of the top-left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.bone_change import Affine, Alignment, ToothOnFilm
from node.domain.findings import Box, Point, Spacing
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Arch, Tooth

Array = np.ndarray

#: mm per pixel of the crops that are compared; a tooth's width in pixels without a spacing.
_CROP_MM, _CROP_WIDTH_PX = 0.08, 100.0
#: Local mean and spread are taken over this many mm, so that exposure and curves cancel.
_LOCAL_MM = 1.2
_MARGIN = 0.15
_ITERATIONS, _EPSILON = 60, 1e-5
#: Least correlation of the locally normalised crops. Chosen on phantom pairs: docs/benchmarks.md.
LEAST_CORRELATION = 0.75
#: Forth and back must meet within this, mm. Source: review page, "different angle, look only".
MOST_RESIDUAL_MM = 0.5
#: How much the geometry may differ: scale beyond the pixel spacing, stretch, turn (degrees).
_SCALE, _STRETCH, _TURN_DEG = 1.15, 1.15, 20.0


@dataclass(frozen=True, slots=True)
class Film:
    """A film to compare: (rows, cols) float 0..1, metal bright, its spacing and its teeth."""

    pixels: Array
    spacing: Spacing
    teeth: Mapping[Tooth, ToothOnFilm]


def register(now: Film, before: Film) -> tuple[Alignment, ...]:
    """Lay every tooth that both films show over itself, in the order of their numbers."""
    shared = sorted(set(now.teeth) & set(before.teeth))
    return tuple(_register(tooth, now, before) for tooth in shared)


def darkening(now: Array, before: Array, alignment: Alignment, area: Sequence[Point]) -> float:
    """Say how much darker `area` (a polygon on the current film) got, in robust spreads.

    Both films are matched in grey over the tooth's surroundings first. Positive is darker: mineral
    lost. About 2 is beyond the films' own noise and misfit; 0 when the area is outside.
    """
    points = np.array(area, np.float32)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    reach = 1.5 * max(x1 - x0, y1 - y0, 20.0)
    left, top = max(int(x0 - reach), 0), max(int(y0 - reach), 0)
    right, bottom = min(int(x1 + reach), now.shape[1]), min(int(y1 + reach), now.shape[0])
    if right - left < 8 or bottom - top < 8:
        return 0.0
    matrix = np.array(alignment.transform, np.float64).reshape(2, 3)
    matrix[:, 2] += np.array([-left, -top]) + _half(matrix)
    size = (right - left, bottom - top)
    moved = cv2.warpAffine(before.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(np.ones(before.shape, np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    here = now[top:bottom, left:right].astype(np.float32)
    inside = np.zeros(here.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(points - (left, top) - 0.5).astype(np.int32)], 1)
    around, lesion = (inside == 0) & (seen > 0.99), (inside == 1) & (seen > 0.99)
    if lesion.sum() < 3 or around.sum() < 50:
        return 0.0
    smooth = max(1.0, 0.15 * math.sqrt(float(lesion.sum())))
    here, moved = (cv2.GaussianBlur(part, (0, 0), smooth) for part in (here, moved))
    slope, shift = np.polyfit(moved[around], here[around], 1)
    difference = here - (slope * moved + shift)
    middle = float(np.median(difference[around]))
    spread = 1.4826 * float(np.median(np.abs(difference[around] - middle)))
    return (middle - float(difference[lesion].mean())) / max(spread, 1e-4)


def _register(tooth: Tooth, now: Film, before: Film) -> Alignment:
    guess = _by_points(tooth, now, before)
    if guess is None:
        identity: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        return Alignment(tooth, identity, 0.0, None, False, "too few points in common")
    forth = _refine(tooth, now, before, guess)
    if forth is None:
        return Alignment(tooth, _flat(guess), 0.0, None, False, "the films do not match here")
    matrix, correlation = forth
    back = _refine(tooth, before, now, cv2.invertAffineTransform(matrix))
    residual = None if back is None else _round_trip(now.teeth[tooth].box, matrix, back[0])
    scale = _px_mm(now.spacing)
    residual_mm = None if residual is None or scale is None else residual * scale
    reason = _refusal(matrix, correlation, residual, residual_mm, now, before, tooth)
    return Alignment(
        tooth,
        _flat(matrix),
        round(correlation, 4),
        None if residual_mm is None else round(residual_mm, 3),
        not reason,
        reason,
    )


def _by_points(tooth: Tooth, now: Film, before: Film) -> Array | None:
    """Fit a similarity from prior to current on the points of a tooth and its neighbours."""
    arch = UPPER_ARCH if tooth.arch is Arch.UPPER else LOWER_ARCH
    near = {tooth}
    if tooth in arch:
        place = arch.index(tooth)
        near |= set(arch[max(place - 1, 0) : place + 2])
    for teeth in (near, set(now.teeth)):
        pairs = [
            pair
            for each in sorted(teeth & set(now.teeth) & set(before.teeth))
            for pair in _pairs(now.teeth[each], before.teeth[each], now, before)
        ]
        if len(pairs) < 3:
            continue
        source = np.array([pair[1] for pair in pairs], np.float64)
        target = np.array([pair[0] for pair in pairs], np.float64)
        width = now.teeth[tooth].box.x1 - now.teeth[tooth].box.x0
        cv2.setRNGSeed(1)
        matrix, _ = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=max(3.0, 0.12 * width)
        )
        if matrix is not None and np.isfinite(matrix).all():
            return np.asarray(matrix, np.float64)
    return None


def _pairs(
    now: ToothOnFilm, before: ToothOnFilm, film_now: Film, film_before: Film
) -> list[tuple[Point, Point]]:
    whole = _whole(now, before, film_now, film_before)
    corners = zip(_corners(now.box), _corners(before.box), whole, strict=True)
    pairs = [(a, b) for a, b, is_whole in corners if is_whole]
    for mine, theirs in ((now.cej, before.cej), (now.apex, before.apex)):
        pairs += [(mine[side], theirs[side]) for side in mine if side in theirs]
    return pairs


def _corners(box: Box) -> tuple[Point, ...]:
    return (box.x0, box.y0), (box.x1, box.y0), (box.x0, box.y1), (box.x1, box.y1)


def _whole(
    now: ToothOnFilm, before: ToothOnFilm, film_now: Film, film_before: Film
) -> tuple[bool, ...]:
    """Whether each corner belongs to the tooth on both films and not to a film's border."""
    sides = []
    for one, film in ((now, film_now), (before, film_before)):
        rows, cols = film.pixels.shape
        box = one.box
        sides.append((box.x0 > 2, box.x1 < cols - 2, box.y0 > 2, box.y1 < rows - 2))
    left, right, top, bottom = (a and b for a, b in zip(*sides, strict=True))
    return left and top, right and top, left and bottom, right and bottom


def _refine(tooth: Tooth, now: Film, before: Film, guess: Array) -> tuple[Array, float] | None:
    """Refine a transform from `before` to `now` on the pixels of the tooth's crop on `now`."""
    box = now.teeth[tooth].box
    step = _step_px(now, box)
    crop, origin = _crop(now.pixels, box, step)
    if min(crop.shape) < 16:
        return None
    other_step = step * float(np.sqrt(abs(np.linalg.det(guess[:, :2])))) ** -1
    # crop pixel -> film pixel -> prior pixel -> reduced prior pixel
    to_now = np.array([[step, 0, origin[0]], [0, step, origin[1]], [0, 0, 1.0]])
    to_before = np.vstack([cv2.invertAffineTransform(guess), [0, 0, 1.0]])
    part, (left, top) = _around(before.pixels, crop.shape, to_before @ to_now)
    if min(part.shape) < 16:
        return None
    small = _reduced(part, other_step)
    to_small = np.diag([1 / other_step, 1 / other_step, 1.0]) @ np.array(
        [[1, 0, -left], [0, 1, -top], [0, 0, 1.0]]
    )
    start = _centred(to_small @ to_before @ to_now)[:2].astype(np.float32)
    radius = _LOCAL_MM / _CROP_MM
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _EPSILON)
    template, image = _normalised(crop, radius), _normalised(small, radius)
    try:
        correlation, found = cv2.findTransformECC(
            template, image, start, cv2.MOTION_AFFINE, criteria, None, 5
        )
    except cv2.error:
        return None  # OpenCV's word for films that share nothing here
    whole = np.vstack([found.astype(np.float64), [0, 0, 1.0]])
    whole = np.linalg.inv(to_small) @ _uncentred(whole) @ np.linalg.inv(to_now)
    if not np.isfinite(whole).all() or abs(np.linalg.det(whole[:2, :2])) < 1e-6:
        return None
    return cv2.invertAffineTransform(whole[:2]), float(correlation)


def _around(pixels: Array, shape: tuple[int, ...], placed: Array) -> tuple[Array, Point]:
    """Cut the part of a film where a crop of `shape` is placed, half of it more on every side."""
    rows, cols = shape
    corners = np.array([[0, 0, 1], [cols, 0, 1], [0, rows, 1], [cols, rows, 1]], np.float64)
    at = corners @ placed[:2].T
    low, high = at.min(axis=0), at.max(axis=0)
    reach = (high - low) / 2
    x0, y0 = (max(int(v), 0) for v in low - reach)
    x1, y1 = (max(math.ceil(v), 0) for v in high + reach)
    return pixels[y0:y1, x0:x1], (float(x0), float(y0))


def _crop(pixels: Array, box: Box, step: float) -> tuple[Array, Point]:
    """Cut a tooth with a margin and reduce it to `step` film pixels a pixel; give its origin."""
    rows, cols = pixels.shape
    dx, dy = _MARGIN * (box.x1 - box.x0), _MARGIN * (box.y1 - box.y0)
    x0, y0 = max(int(box.x0 - dx), 0), max(int(box.y0 - dy), 0)
    x1, y1 = min(math.ceil(box.x1 + dx), cols), min(math.ceil(box.y1 + dy), rows)
    return _reduced(pixels[y0:y1, x0:x1], step), (float(x0), float(y0))


def _reduced(pixels: Array, step: float) -> Array:
    """Resample so that a pixel is `step` pixels wide, by a warp that keeps the frame exact."""
    size = (max(1, int(pixels.shape[1] / step)), max(1, int(pixels.shape[0] / step)))
    source = pixels.astype(np.float32)
    if step > 1:
        source = cv2.GaussianBlur(source, (0, 0), 0.45 * step)
    matrix = np.array([[step, 0, 0.5 * step - 0.5], [0, step, 0.5 * step - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    reduced: Array = cv2.warpAffine(source, matrix, size, flags=flags,
                                    borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    return reduced


def _normalised(pixels: Array, radius: float) -> Array:
    """Take off the local mean and divide by the local spread: exposure and curves cancel."""
    mean = cv2.GaussianBlur(pixels, (0, 0), radius)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur((pixels - mean) ** 2, (0, 0), radius), 1e-6))
    normal: Array = np.clip((pixels - mean) / (spread + 0.02), -3, 3).astype(np.float32)
    return normal


def _refusal(
    matrix: Array,
    correlation: float,
    residual: float | None,
    residual_mm: float | None,
    now: Film,
    before: Film,
    tooth: Tooth,
) -> str:
    """Say why an alignment must not be measured on; empty when it may."""
    if correlation < LEAST_CORRELATION:
        return f"the films do not resemble each other here (correlation {correlation:.2f})"
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    a, b = _px_mm(now.spacing), _px_mm(before.spacing)
    expected = b / a if a and b else None
    scale = float(np.sqrt(scales[0] * scales[1]))
    if np.linalg.det(matrix[:, :2]) < 0 or scales[0] / scales[1] > _STRETCH:
        return "different angle: the tooth is stretched; look only"
    if expected and not expected / _SCALE < scale < expected * _SCALE:
        return "different magnification; look only"
    turn = math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    if abs(turn) > _TURN_DEG:
        return "different angle: the tooth is turned; look only"
    width = now.teeth[tooth].box.x1 - now.teeth[tooth].box.x0
    if residual is None or residual > 0.1 * width:
        return "the alignment is not stable; look only"
    if residual_mm is not None and residual_mm > MOST_RESIDUAL_MM:
        return f"different angle: the alignment misses by {residual_mm:.1f} mm; look only"
    return ""


def _round_trip(box: Box, forth: Array, back: Array) -> float:
    """Give how far the box's corners land from home after going back and forth, mean, pixels."""
    home = np.array(_corners(box), np.float64)
    away = home @ back[:, :2].T + back[:, 2]
    again = away @ forth[:, :2].T + forth[:, 2]
    return float(np.linalg.norm(again - home, axis=1).mean())


def _step_px(film: Film, box: Box) -> float:
    scale = _px_mm(film.spacing)
    if scale is not None:
        return _CROP_MM / scale
    return max((box.x1 - box.x0) / _CROP_WIDTH_PX, 0.25)


def _px_mm(spacing: Spacing) -> float | None:
    return math.sqrt(spacing.mm_row * spacing.mm_col) if spacing.is_known else None


def _flat(matrix: Array) -> Affine:
    a, b, c, d, e, f = (round(float(value), 6) for value in matrix.ravel())
    return a, b, c, d, e, f


# OpenCV puts the origin in the centre of the first pixel, this program at its corner.
_SHIFT = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
_UNSHIFT = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])


def _centred(matrix: Array) -> Array:
    return np.asarray(_UNSHIFT @ matrix @ _SHIFT)


def _uncentred(matrix: Array) -> Array:
    return np.asarray(_SHIFT @ matrix @ _UNSHIFT)


def _half(matrix: Array) -> Array:
    """Correct a 2×3 matrix's shift for OpenCV's pixel centres."""
    return np.asarray(matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5)
