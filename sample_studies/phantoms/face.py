"""What a panoramic shows round the teeth: jaws, sinuses, palate, cheek bones, air and ghosts.

Shapes are given in the face frame of :mod:`.panoramic` (magnified mm from the midline and from the
flat occlusal plane), for the viewer's right; the left is its mirror image with its own variation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np

from node.domain.findings import Point
from node.domain.teeth import Arch
from sample_studies.phantoms.bone import slow_field, trabeculae
from sample_studies.phantoms.canvas import Canvas
from sample_studies.phantoms.materials import Map
from sample_studies.phantoms.teeth import smooth

Points = tuple[Point, ...]

#: From the chin along the lower border, up the ramus, over condyle and coronoid process and down.
_MANDIBLE: Points = (
    (0, 42), (18, 42.5), (35, 42), (60, 43), (84, 45), (100, 44), (110, 38), (115, 26), (118, 4),
    (119, -18), (118, -32), (121, -42), (117, -48), (109, -48), (106, -41), (108, -31), (102, -24),
    (95, -30), (90, -37), (86, -34), (85, -16), (84, 0), (80, 6), (74, -12), (0, -12),
)  # fmt: skip
_MAXILLA: Points = ((0, 12), (78, 12), (86, -4), (87, -30), (78, -58), (40, -66), (0, -66))
_SINUS: Points = (
    (22, -44), (26, -34), (38, -27), (55, -25), (70, -27), (78, -34), (77, -50), (60, -58),
    (34, -57),
)  # fmt: skip
_NOSE: Points = ((2, -34), (16, -36), (20, -46), (16, -64), (3, -68))
_CONCHA: Points = ((6, -42), (15, -43), (14, -50), (7, -50))
_ORBIT: Points = ((30, -66), (50, -60), (68, -66), (74, -80), (26, -80))
_ZYGOMA: Points = ((52, -38), (60, -30), (70, -38), (92, -48), (126, -50), (126, -54), (88, -56))
_BONES = ("cortical", "trabecular")


class Face:
    """Paints the surroundings of the teeth into a canvas through `on_film` (face to mouth mm)."""

    def __init__(
        self, rng: np.random.Generator, canvas: Canvas, on_film: Callable[[Point], Point]
    ) -> None:
        self.canvas, self.on_film = canvas, on_film
        #: Faces differ: how tall and wide the shapes beyond the teeth are.
        self.tall = float(rng.normal(1.0, 0.05))
        self.jut = float(rng.normal(0.0, 2.0))

    @contextmanager
    def bone_of(self, rng: np.random.Generator, arch: Arch) -> Iterator[None]:
        """Keep the bone painted inside this block within the jaw, then finish the jaw's outline."""
        paths = self.canvas.paths
        before = {name: paths[name].copy() for name in _BONES}
        yield
        shape = _MAXILLA if arch is Arch.UPPER else _MANDIBLE
        body = self._round(self._both(rng, shape, 0.8), 2.0)
        for name in _BONES:
            jaw = paths[name] - before[name]
            if name == "trabecular":  # the layer is thick: its struts blur into each other
                jaw = cv2.GaussianBlur(jaw, (0, 0), 0.35 / self.canvas.pixel_mm)
            paths[name] = before[name] + jaw * body
        if arch is Arch.LOWER:
            self._ramus(rng, body)

    def _ramus(self, rng: np.random.Generator, body: Map) -> None:
        """Thicken the lower border and fill the rami, which no tooth's crest bounds."""
        canvas = self.canvas
        rami = self._round(
            self._both(rng, ((86, 52), (82, 4), (80, -60), (130, -60), (130, 52)), 0.5), 3.0
        )
        rami *= body
        paths = canvas.paths
        texture = trabeculae(rng, canvas.rows, canvas.cols, canvas.pixel_mm)
        spongy = float(rng.uniform(6, 9)) * np.maximum(1 + 0.22 * texture, 0.2)
        paths["trabecular"] = paths["trabecular"] * (1 - rami) + spongy * rami
        plate = float(rng.uniform(1.6, 2.6))
        paths["cortical"] = paths["cortical"] * (1 - rami) + plate * rami
        inside = (body > 0.5).astype(np.uint8)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3) * canvas.pixel_mm
        thick = float(rng.uniform(1.8, 3.2))
        border = self._below(10.0, 30.0)
        rim = smooth(-np.asarray(depth, np.float32), -thick, -0.5 * thick) * body
        # Above the teeth the outline only ends the region of the crest.
        outer = np.maximum(border, rami)
        paths["cortical"] += rim * outer * float(rng.uniform(1.6, 3.0)) * (0.45 + 0.55 * border)

    def landmarks(self, rng: np.random.Generator, upper_mm: float, lower_mm: float) -> None:
        """Paint everything else; roots end `upper_mm` above and `lower_mm` below the plane."""
        paths = self.canvas.paths
        floor = -upper_mm + 25.0 + float(rng.normal(0.5, 2.0))
        sinus = self._round(self._both(rng, tuple((x, y + floor) for x, y in _SINUS), 1.5), 1.8)
        nose = self._round(self._both(rng, _NOSE, 0.8), 1.5)
        hollow = np.maximum(sinus * float(rng.uniform(0.5, 0.75)), nose * 0.75)
        for name in _BONES:
            paths[name] *= 1 - hollow
        rims = self._rim(sinus, 0.9) * float(rng.uniform(0.8, 1.6)) + self._rim(nose, 1.2) * 1.2
        paths["cortical"] += rims
        paths["soft"] += self._round(self._both(rng, _CONCHA, 1.0), 1.5) * 9.0
        septum = self._line([(0, -34), (float(rng.normal(0, 1.5)), -52), (0, -70)], 0.9)
        paths["cortical"] += septum * 1.8
        palate = [(x, -33.5 - 0.0004 * x * x) for x in range(-72, 73, 8)]
        paths["cortical"] += self._line(palate, 0.9) * float(rng.uniform(1.2, 2.6))
        ghost = [(x, y - 7.0) for x, y in palate]
        paths["cortical"] += self._line(ghost, 2.0) * float(rng.uniform(0.4, 1.2))
        zygoma = self._round(self._both(rng, _ZYGOMA, 1.5), 2.5)
        paths["cortical"] += (zygoma * 0.8 + self._rim(zygoma, 1.2)) * float(rng.uniform(0.8, 1.8))
        paths["cortical"] += self._rim(self._round(self._both(rng, _ORBIT, 1.5), 2.0), 1.6) * 2.2
        for sign in (-1, 1):
            self._canal(rng, sign, lower_mm)
        self._soft(rng)

    def _canal(self, rng: np.random.Generator, sign: int, lower_mm: float) -> None:
        """Paint one mandibular canal from the ramus to the mental foramen between the premolars."""
        paths = self.canvas.paths
        under = min(lower_mm + float(rng.uniform(2.0, 5.0)), 37.0)
        end = 37.0 + float(rng.normal(0, 2.0))
        course = [
            (101, -8), (99, 4), (93, under - 12), (82, under - 3), (66, under + 1),
            (50, under + 2), (end + 3, under), (end, under - 3.0),
        ]  # fmt: skip
        points = [(sign * x, y) for x, y in course]
        wide = float(rng.uniform(2.6, 3.4))
        band, core = self._line(points, wide + 1.4), self._line(points, wide)
        paths["trabecular"] *= 1 - float(rng.uniform(0.2, 0.45)) * core
        walls = np.clip(band - core, 0, 1)
        paths["cortical"] += walls * float(rng.uniform(0.2, 0.7))
        hole = self._line([points[-1], (points[-1][0], points[-1][1] - 0.6)], 4.0)
        paths["trabecular"] *= 1 - float(rng.uniform(0.2, 0.5)) * hole

    def _soft(self, rng: np.random.Generator) -> None:
        """Paint cheeks, tongue and neck, the air between them, and the ghosts of the far side."""
        canvas = self.canvas
        soft = canvas.paths["soft"]
        xs, ys = canvas.xs, canvas.ys
        x0, y0 = self.on_film((0.0, 0.0))
        x, y = xs - np.float32(x0), ys - np.float32(y0)
        soft += np.float32(rng.uniform(22, 30)) + slow_field(
            rng, canvas.rows, canvas.cols, canvas.pixel_mm, 30.0
        ) * np.float32(1.5)
        # The beam crosses the spine in front, ghosts of the far ramus at the sides.
        spine = np.exp(-((x / np.float32(rng.uniform(18, 30))) ** 2)) * smooth(y, -90, 10)
        soft += spine * np.float32(rng.uniform(8, 22))
        for sign in (-1.0, 1.0):
            far = np.exp(-(((x - sign * 96) / 26) ** 2) - ((y + 26) / 22) ** 2)
            soft += far * np.float32(rng.uniform(6, 14))
            edge = np.abs(x) * np.float32(1) * (np.sign(x) == sign)
            column = smooth(edge, 126, 133) * smooth(y, -55, -20)
            discs = 1 + 0.25 * np.sin((y + 8 * sign) / np.float32(3.4))
            canvas.paths["trabecular"] += column * discs * np.float32(rng.uniform(5, 12))
            throat = [(sign * a, b) for a, b in ((70, -28), (92, -18), (104, 6), (108, 40))]
            soft -= self._line(throat, 15.0, 4.0) * np.float32(rng.uniform(4, 14))
        tongue = [(a, -26 - 0.0003 * a * a) for a in range(-72, 73, 8)]
        if rng.random() < 0.7:  # the tongue was not held against the palate
            soft -= self._line(tongue, 7.0, 2.0) * np.float32(rng.uniform(3, 11))
        lips = np.exp(-((x / 22) ** 2) - (y / 8) ** 2)
        soft -= lips * np.float32(rng.uniform(0, 8))
        lowest = self.on_film((0.0, 42.0 * self.tall))[1]
        chin = lowest + np.float32(6) - 0.0012 * x * x
        soft *= 1 - 0.85 * smooth(ys - chin, 0, 8) * smooth(-np.abs(x), -95, -60)
        outside = smooth(np.abs(x), 128, 150) * smooth(-y, 10, 50)
        soft *= 1 - 0.7 * outside
        hyoid = [(a, 56 - 0.004 * (a - 60) ** 2) for a in range(45, 76, 5)]
        for sign in (-1, 1):
            canvas.paths["cortical"] += (
                self._line([(sign * a, b) for a, b in hyoid], 3.5, 0.8) * 1.5
            )
        np.maximum(soft, 0.5, out=soft)

    def _both(self, rng: np.random.Generator, shape: Points, spread: float) -> Map:
        """Fill a shape and its mirror image."""
        mask = np.zeros((self.canvas.rows, self.canvas.cols), np.uint8)
        for sign in (-1.0, 1.0):
            noise = rng.normal(0, spread, (len(shape), 2))
            points = [
                (sign * (x + (dx + self.jut * (x > 80)) * (x > 0)), y + dy * (abs(y) > 0))
                for (x, y), (dx, dy) in zip(shape, noise, strict=True)
            ]
            cv2.fillPoly(mask, [self._pixels(points)], 1, cv2.LINE_8, 4)
        return mask.astype(np.float32)

    def _pixels(self, points: Sequence[Point]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
        """Face mm to sixteenths of film pixels."""
        dense = np.array(points, np.float64)
        dense[:, 1] = np.where(np.abs(dense[:, 1]) > 15, dense[:, 1] * self.tall, dense[:, 1])
        film = [self.canvas.px(self.on_film((float(x), float(y)))) for x, y in dense]
        return np.round(np.array(film) * 16).astype(np.int32)

    def _round(self, mask: Map, radius: float) -> Map:
        """Round a shape's corners and soften its edge, `radius` in mm."""
        wide = cv2.GaussianBlur(mask, (0, 0), radius / self.canvas.pixel_mm)
        return smooth(np.asarray(wide, np.float32), 0.35, 0.65)

    def _rim(self, shape: Map, width: float) -> Map:
        """Give the line where a shape ends."""
        line = np.asarray(1 - np.abs(2 * shape - 1), np.float32)
        sigma = max(0.3 * width / self.canvas.pixel_mm, 0.4)
        return np.asarray(cv2.GaussianBlur(line, (0, 0), sigma), np.float32)

    def _line(self, points: Sequence[Point], wide: float, soft: float = 0.4) -> Map:
        """Draw a band `wide` mm through points, its edge blurred over `soft` mm."""
        layer = np.zeros((self.canvas.rows, self.canvas.cols), np.float32)
        thick = max(1, round(wide / self.canvas.pixel_mm))
        cv2.polylines(layer, [self._pixels(points)], False, 1.0, thick, cv2.LINE_AA, 4)
        sigma = max(soft / self.canvas.pixel_mm, 0.4)
        return np.asarray(cv2.GaussianBlur(layer, (0, 0), sigma), np.float32)

    def _below(self, start: float, stop: float) -> Map:
        """Rise from 0 at `start` to 1 at `stop` mm below the bent occlusal plane."""
        away = np.arange(-150.0, 151.0, 5.0)
        plane = [self.on_film((float(x), 0.0)) for x in away]
        heights = np.interp(self.canvas.xs, [p[0] for p in plane], [p[1] for p in plane])
        return smooth(self.canvas.ys - np.asarray(heights, np.float32), start, stop)
