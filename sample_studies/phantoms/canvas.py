"""The film before exposure: path lengths on the detector's grid, and how the mouth lies on it.

Film frame: pixels, origin at the top-left corner. Mouth frame: mm, turned by the film's tilt and
stretched by elongation about the film's middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.domain.findings import Point
from node.domain.teeth import Tooth
from sample_studies.phantoms.anatomy import Placed
from sample_studies.phantoms.materials import Map

Cut = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Aim:
    """How the film was aimed: turn in radians, stretch, and beam angles as shift per mm depth."""

    turn: float = 0.0
    elongation: float = 1.0
    beam: tuple[float, float] = (0.0, 0.0)


class Canvas:
    """Path-length maps in mm, painted part by part."""

    def __init__(self, rows: int, cols: int, pixel_mm: float, aim: Aim) -> None:
        self.rows, self.cols, self.pixel_mm, self.aim = rows, cols, pixel_mm, aim
        self.beam = aim.beam
        self.middle = (cols * pixel_mm / 2, rows * pixel_mm / 2)
        x = (np.arange(cols, dtype=np.float32) + 0.5) * pixel_mm - self.middle[0]
        y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * pixel_mm - self.middle[1]
        cos, sin = np.float32(math.cos(aim.turn)), np.float32(math.sin(aim.turn))
        stretch = np.float32(1 / aim.elongation)
        self.xs: Map = x * cos + y * sin + np.float32(self.middle[0])
        self.ys: Map = (-x * sin + y * cos) * stretch + np.float32(self.middle[1])
        zeros = np.zeros((rows, cols), np.float32)
        names = ("enamel", "dentine", "cortical", "trabecular", "soft", "plastic")
        self.paths: dict[str, Map] = {name: zeros.copy() for name in names}
        self.silhouettes: dict[Tooth, tuple[Cut, npt.NDArray[np.bool_]]] = {}
        #: What is left of the bone: lesions in it multiply this map.
        self.bone_left: Map = np.ones_like(zeros)

    def px(self, point: Point) -> Point:
        """Mouth mm to film pixels."""
        x, y = point[0] - self.middle[0], (point[1] - self.middle[1]) * self.aim.elongation
        cos, sin = math.cos(self.aim.turn), math.sin(self.aim.turn)
        fx, fy = x * cos - y * sin + self.middle[0], x * sin + y * cos + self.middle[1]
        return fx / self.pixel_mm, fy / self.pixel_mm

    def window(self, tooth: Placed, margin: float = 1.5) -> Cut | None:
        """Return the part of the film a tooth and its ligament can touch."""
        reach_m = tooth.width / 2 + margin + 0.5 * abs(self.beam[0]) * tooth.depth
        spread = [abs(r.at_apex) + r.half + 0.8 for r in tooth.roots]
        wide = max(reach_m, max(spread) + margin)
        corners = [
            self.px(tooth.mouth(sign * wide, v))
            for sign in (-1.0, 1.0)
            for v in (-tooth.crown - margin, tooth.root + margin)
        ]
        return self.cut(corners)

    def cut(self, corners: list[Point]) -> Cut | None:
        """Return the part of the film round `corners` (pixels), None when outside."""
        x0 = max(0, int(min(c[0] for c in corners)))
        x1 = min(self.cols, int(max(c[0] for c in corners)) + 2)
        y0 = max(0, int(min(c[1] for c in corners)))
        y1 = min(self.rows, int(max(c[1] for c in corners)) + 2)
        if x1 - x0 < 3 or y1 - y0 < 3:
            return None
        return slice(y0, y1), slice(x0, x1)

    def box_mm(self, centre: Point, radius: float) -> Cut | None:
        """Return the part of the film within `radius` mm of a point in the mouth."""
        x, y = self.px(centre)
        r = radius / self.pixel_mm * max(1.0, self.aim.elongation)
        return self.cut([(x - r, y - r), (x + r, y + r)])
