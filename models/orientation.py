"""Turn a copy of an image upright and positive, and bring what was found back to the stored pixels.

Nothing is turned silently: the stored image stays as it is, every coordinate that leaves the
pipeline is one of the stored image, and the analysis says how the image was found to lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from node.domain.findings import (
    BoneSite,
    Box,
    Finding,
    Geometry,
    Line,
    Orientation,
    Point,
    Polygon,
    Spacing,
    ToothMark,
)


@dataclass(frozen=True, slots=True)
class Turned:
    """A stored image of `rows` by `columns` pixels that lies as `orientation` says."""

    orientation: Orientation
    rows: int
    columns: int

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """Copy `stored` (rows, columns), 0..1, so that it stands upright with metal bright."""
        turned = np.rot90(stored, -self.orientation.quarter_turns)
        copy: np.ndarray = 1.0 - turned if self.orientation.is_inverted else turned
        return np.ascontiguousarray(copy)

    def spacing(self, stored: Spacing) -> Spacing:
        """Give the spacing of the upright copy: a quarter turn swaps rows and columns."""
        if self.orientation.quarter_turns % 2 == 0:
            return stored
        return replace(stored, mm_row=stored.mm_col, mm_col=stored.mm_row)

    def point(self, upright: Point) -> Point:
        """Bring a point (x, y) of the upright copy back to the stored image."""
        x, y = upright
        match self.orientation.quarter_turns % 4:
            case 1:
                return y, self.rows - x
            case 2:
                return self.columns - x, self.rows - y
            case 3:
                return self.columns - y, x
            case _:
                return x, y

    def points(self, upright: Iterable[Point]) -> tuple[Point, ...]:
        """Bring points back, in their order."""
        return tuple(self.point(point) for point in upright)

    def box(self, upright: Box) -> Box:
        """Bring a box back."""
        (x0, y0), (x1, y1) = self.points(upright.points)
        return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    def geometry(self, upright: Geometry) -> Geometry:
        """Bring any geometry back."""
        match upright:
            case Box():
                return self.box(upright)
            case Polygon(points):
                return Polygon(self.points(points))
            case Line(points):
                return Line(self.points(points))
            case _:
                assert_never(upright)

    def tooth(self, upright: ToothMark) -> ToothMark:
        """Bring a tooth back."""
        return replace(upright, box=self.box(upright.box), outline=self.points(upright.outline))

    def finding(self, upright: Finding) -> Finding:
        """Bring a finding back."""
        return replace(upright, geometry=self.geometry(upright.geometry))

    def site(self, upright: BoneSite) -> BoneSite:
        """Bring a bone site back."""
        return replace(
            upright,
            cej=self.point(upright.cej),
            crest=self.point(upright.crest),
            apex=None if upright.apex is None else self.point(upright.apex),
        )
