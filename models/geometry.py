"""Plain geometry of intraoral films: the canvas a network sees, and lengths along a tooth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from node.domain.findings import Box, Point, Spacing
from node.domain.teeth import Arch, Tooth

#: The canvas lying and standing, (rows, cols).
LYING, STANDING = (384, 512), (512, 384)
#: A film with known spacing is not enlarged beyond this many mm per canvas pixel.
_FINEST_MM = 0.062
_LEAST_FILL = 0.7

#: Average mesio-distal width at the neck, mm, by place in the quadrant.
#: Source: Wheeler-type means; see models/cards/intraoral.md.
_NECK_MM: dict[Arch, tuple[float, ...]] = {
    Arch.UPPER: (7.0, 5.0, 5.5, 5.0, 5.0, 8.0, 7.0, 6.5),
    Arch.LOWER: (3.5, 4.0, 5.5, 5.0, 5.0, 9.0, 8.0, 7.5),
}
#: Average mesio-distal width of the crown, and average root length, mm; the same source.
CROWN_MM: dict[Arch, tuple[float, ...]] = {
    Arch.UPPER: (8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0, 8.5),
    Arch.LOWER: (5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5, 10.0),
}
ROOT_MM: dict[Arch, tuple[float, ...]] = {
    Arch.UPPER: (13.0, 13.0, 17.0, 14.0, 14.0, 12.5, 11.5, 11.0),
    Arch.LOWER: (12.5, 14.0, 16.0, 14.0, 14.5, 14.0, 13.0, 11.0),
}
#: Average thickness of the proximal enamel at the contact, mm; the same source.
ENAMEL_MM = 1.15


@dataclass(frozen=True, slots=True)
class Canvas:
    """How a film lies on the network's input: canvas = film × scale + (left, top)."""

    rows: int
    cols: int
    scale: float
    left: float
    top: float
    film_rows: int
    film_cols: int

    @classmethod
    def fit(cls, film_rows: int, film_cols: int, spacing: Spacing) -> Canvas:
        """Centre a film on the canvas of its orientation, its proportions kept."""
        rows, cols = LYING if film_cols >= film_rows else STANDING
        scale = fit = min(rows / film_rows, cols / film_cols)
        if spacing.is_known:
            finest = spacing.mm_col / _FINEST_MM
            scale = min(fit, max(finest, _LEAST_FILL * fit))
        # Rounding may make a film that fills the canvas a hair larger than it.
        left = max(0.0, (cols - film_cols * scale) // 2)
        top = max(0.0, (rows - film_rows * scale) // 2)
        return cls(rows, cols, scale, left, top, film_rows, film_cols)

    def place(self, image: np.ndarray) -> np.ndarray:
        """Draw the film (rows, cols) on a black canvas, float32."""
        size = (
            max(1, round(self.film_cols * self.scale)),
            max(1, round(self.film_rows * self.scale)),
        )
        how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image.astype(np.float32), size, interpolation=how)
        placed = np.zeros((self.rows, self.cols), np.float32)
        top, left = int(max(self.top, 0)), int(max(self.left, 0))
        height, width = min(size[1], self.rows - top), min(size[0], self.cols - left)
        placed[top : top + height, left : left + width] = small[:height, :width]
        return placed

    def to_film(self, point: Point) -> Point:
        """Move a canvas point to film pixels and keep it on the film."""
        x, y = (point[0] - self.left) / self.scale, (point[1] - self.top) / self.scale
        return min(max(x, 0.0), float(self.film_cols)), min(max(y, 0.0), float(self.film_rows))

    def covers(self, point: Point, margin: float = 0.0) -> bool:
        """Whether a canvas point lies on the film, `margin` canvas pixels from its edge or more."""
        x, y = (point[0] - self.left) / self.scale, (point[1] - self.top) / self.scale
        inset = margin / self.scale
        return inset <= x <= self.film_cols - inset and inset <= y <= self.film_rows - inset

    def box(self, box: tuple[float, float, float, float]) -> Box | None:
        """Move a box to film pixels, clipped; None when less than a pixel is left."""
        (x0, y0), (x1, y1) = self.to_film((box[0], box[1])), self.to_film((box[2], box[3]))
        return Box(x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def crest_distance(
    cej: Point,
    far: Point,
    across: tuple[Point, Point] | None,
    scale_mm: tuple[float, float],
) -> float:
    """Measure from the CEJ to `far` along the tooth's long axis, in mm.

    The axis is at right angles to the line `across` from CEJ to CEJ; without it, the image's
    vertical. Points are (x, y) pixels on the detector plane, `scale_mm` is (row, column) mm per
    pixel. Magnification is not corrected. Returns 0 or more.
    """
    dx, dy = (far[0] - cej[0]) * scale_mm[1], (far[1] - cej[1]) * scale_mm[0]
    ax, ay = 0.0, 1.0
    if across is not None:
        wx = (across[1][0] - across[0][0]) * scale_mm[1]
        wy = (across[1][1] - across[0][1]) * scale_mm[0]
        length = math.hypot(wx, wy)
        if length > 0 and abs(wx) > abs(wy):
            ax, ay = -wy / length, wx / length
    return abs(dx * ax + dy * ay)


def neck_scale_mm(necks: Sequence[tuple[Tooth, Point, Point]]) -> float | None:
    """Estimate mm per pixel from neck widths, the median over teeth; None without any.

    For choosing what to show and for shares of a root only, never for a length in mm.
    """
    ratios = [
        _NECK_MM[tooth.arch][tooth.position - 1] / math.dist(a, b)
        for tooth, a, b in necks
        if not tooth.is_deciduous and math.dist(a, b) > 1.0
    ]
    return float(np.median(ratios)) if ratios else None


def angular_depth(
    one: tuple[Point, Point], other: tuple[Point, Point], scale_mm: tuple[float, float]
) -> float:
    """Measure how far the crest between two neighbours leaves the parallel to their CEJs, in mm.

    `one` and `other` are (CEJ, crest) of the two sides that face each other. Positive when the
    crest at `one` lies farther from the CEJ–CEJ line than that at `other`. Source: an angular
    defect is a crest line not parallel to the line of the CEJs; see models/cards/intraoral.md.
    """
    across = (one[0], other[0])
    return crest_distance(*one, across, scale_mm) - crest_distance(*other, across, scale_mm)


def crown_root_ratio(edge: Point, crest: Point, apex: Point) -> float | None:
    """Divide the part of a tooth above the bone by the part in it; None when nothing is in it.

    `edge` is the occlusal or incisal edge; lengths run along the line from edge to apex, so pixels
    must be square.
    """
    length = math.dist(edge, apex)
    if length <= 0:
        return None
    along = (
        (crest[0] - edge[0]) * (apex[0] - edge[0]) + (crest[1] - edge[1]) * (apex[1] - edge[1])
    ) / length
    return along / (length - along) if 0 < along < length else None


def crown_scale_mm(widths: Sequence[tuple[Tooth, float]]) -> float | None:
    """Estimate mm per pixel from crown widths in pixels, the median; None without any.

    For shares only, as :func:`neck_scale_mm`.
    """
    ratios = [
        CROWN_MM[tooth.arch][tooth.position - 1] / width
        for tooth, width in widths
        if not tooth.is_deciduous and width > 2.0
    ]
    return float(np.median(ratios)) if ratios else None


def tilt_degrees(edges: Sequence[Point]) -> float | None:
    """Give the angle of the line through occlusal edges against the horizontal, in degrees.

    Positive when the line falls towards the right. None with fewer than two points.
    """
    if len(edges) < 2:
        return None
    xs, ys = np.array(edges, float).T
    spread = float(((xs - xs.mean()) ** 2).sum())
    if spread <= 0:
        return None
    slope = float(((xs - xs.mean()) * (ys - ys.mean())).sum()) / spread
    return math.degrees(math.atan(slope))
