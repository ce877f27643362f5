"""Pictures of a comparison: a tooth now, the same tooth before laid over it, and what differs.

Drawn in the node from the stored images and the stored transform; PNG, the crop of one tooth with
its surroundings, in pixels of the current image. The difference outlines what got darker (mineral
lost) and lighter (filled, or bone gained) beyond the films' own noise; grey values are matched
first. It is an aid for looking, not a measurement.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Raster

from node.dicom.object_file import ObjectFile
from node.dicom.pixels import model_input
from node.domain.reading import Registration

Grey = npt.NDArray[np.float32]
Part = Literal["now", "before", "difference", "all"]

#: How far round the tooth's box is shown, as a share of it, and how small a crop may be, pixels.
_AROUND = 0.35
_LEAST_PX = 48
#: Differences are judged over this length, mm (pixels without a spacing), in robust spreads.
_COARSE_MM, _COARSE_PX = 0.35, 8
_SPREADS = 3.0
#: An edge this much beside its place is no difference: what the alignment may miss by, mm (pixels).
_MISFIT_MM, _MISFIT_PX = 0.25, 5
_DARKER, _LIGHTER = (242, 142, 0), (108, 197, 255)
_GAP_PX = 6


def draw(
    part: Part,
    now: ObjectFile,
    before: ObjectFile,
    registration: Registration,
    box: Sequence[float],
    mm_per_px: float | None,
) -> bytes:
    """Draw one part, or all three side by side, as PNG.

    `box` is the tooth on the current image (x0, y0, x1, y1). Raises InvalidInput when an image
    cannot be decoded.
    """
    pixels, _ = model_input(now)
    earlier, _ = model_input(before)
    window = _window(box, pixels.shape)
    x0, y0, x1, y1 = window
    here = pixels[y0:y1, x0:x1]
    there, seen = _laid_over(earlier, registration, window)
    there = _matched(there, here, seen)
    pictures = {
        "now": lambda: _grey(here),
        "before": lambda: _grey(np.where(seen, there, 0).astype(np.float32)),
        "difference": lambda: _difference(here, there, seen, mm_per_px),
    }
    if part != "all":
        return _png(pictures[part]())
    drawn = [pictures[name]() for name in ("before", "now", "difference")]
    gap = np.zeros((drawn[0].shape[0], _GAP_PX, 3), np.uint8)
    return _png(np.hstack([drawn[0], gap, drawn[1], gap, drawn[2]]))


def _window(box: Sequence[float], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    dx = max(_AROUND * (x1 - x0), (_LEAST_PX - (x1 - x0)) / 2)
    dy = max(_AROUND * (y1 - y0), (_LEAST_PX - (y1 - y0)) / 2)
    rows, cols = shape[:2]
    return (
        max(int(x0 - dx), 0),
        max(int(y0 - dy), 0),
        min(int(x1 + dx), cols),
        min(int(y1 + dy), rows),
    )


def _laid_over(
    earlier: Grey, registration: Registration, window: tuple[int, int, int, int]
) -> tuple[Grey, npt.NDArray[np.bool_]]:
    """Sample the prior image where the current crop lies; say which pixels it has."""
    a, b, c, d, e, f = registration.transform
    matrix = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1.0]]))
    x0, y0, x1, y1 = window
    matrix = matrix @ np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1.0]])
    values = tuple(float(value) for value in matrix[:2].ravel())
    size = (x1 - x0, y1 - y0)
    how = Raster.Resampling.BILINEAR
    # Pillow samples at pixel centres in a frame whose origin is the corner, as ours is
    moved = Raster.fromarray(earlier).transform(size, Raster.Transform.AFFINE, values, how)
    mask = Raster.fromarray(np.ones(earlier.shape, np.float32))
    seen = np.asarray(mask.transform(size, Raster.Transform.AFFINE, values, how)) > 0.99
    return np.asarray(moved, np.float32), seen


def _matched(there: Grey, here: Grey, seen: npt.NDArray[np.bool_]) -> Grey:
    """Bring the prior's greys to the current's by quantiles; curves and exposures differ."""
    if seen.sum() < 64:
        return there
    steps = np.linspace(0, 100, 33)
    source = np.percentile(there[seen], steps)
    target = np.percentile(here[seen], steps)
    source = np.maximum.accumulate(source + np.arange(33) * 1e-6)
    return np.interp(there, source, target).astype(np.float32)


def _difference(
    here: Grey, there: Grey, seen: npt.NDArray[np.bool_], mm_per_px: float | None
) -> npt.NDArray[np.uint8]:
    step = max(2, round(_COARSE_MM / mm_per_px) if mm_per_px else _COARSE_PX)
    coarse = _coarse(here - there, step)
    misfit = _MISFIT_MM / mm_per_px if mm_per_px else _MISFIT_PX
    slope = np.hypot(*np.gradient(_coarse(here, step)))
    known = _coarse(seen.astype(np.float32), 2 * step) > 0.999  # away from the film's edge
    drawn = _grey(here)
    if known.sum() < 64:
        return drawn
    middle = float(np.median(coarse[known]))
    spread = max(1.4826 * float(np.median(np.abs(coarse[known] - middle))), 0.004)
    limit = _SPREADS * spread + misfit * slope
    for mask, colour in (
        (coarse < middle - limit, _DARKER),
        (coarse > middle + limit, _LIGHTER),
    ):
        drawn[_rim(mask & known)] = colour
    return drawn


def _coarse(values: Grey, step: int) -> Grey:
    """Average over squares of `step` pixels, smoothly brought back to size."""
    rows, cols = values.shape
    small = (max(1, cols // step), max(1, rows // step))
    reduced = Raster.fromarray(values).resize(small, Raster.Resampling.BOX)
    return np.asarray(reduced.resize((cols, rows), Raster.Resampling.BICUBIC), np.float32)


def _rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Give the outline of a mask, two pixels wide."""
    inner = mask.copy()
    for _ in range(2):
        inner[1:-1, 1:-1] = (
            inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2]
            & inner[1:-1, 2:]
        )  # fmt: skip
    return mask & ~inner


def _grey(values: Grey) -> npt.NDArray[np.uint8]:
    eight = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Raster.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()
