"""Draw signed findings into a copy of a film: arrays in, arrays out.

Strokes, casing and colours are those of the review page, so that film and page look alike. Below
the film, never on it, stands a strip that says what the marks are and who signed them.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from node.domain.findings import Box, Finding, FindingKind, Geometry, Line
from node.errors import InvalidInput

Pixels = npt.NDArray[np.uint8]
Rectangle = tuple[float, float, float, float]

# The smallest CIEDE2000 distance of these is 12.8 over normal and colour-blind vision.
_COLOURS = {
    FindingKind.CARIES: "#F28E00",
    FindingKind.BONE_LEVEL: "#6CC5FF",
    FindingKind.PERIAPICAL_RADIOLUCENCY: "#FFF06B",
    FindingKind.CALCULUS: "#C44E9E",
    FindingKind.RESTORATION: "#00A878",
    FindingKind.CROWN: "#00A878",
    FindingKind.ROOT_FILLING: "#00A878",
    FindingKind.POST: "#00A878",
    FindingKind.DEFECTIVE_MARGIN: "#00A878",
    FindingKind.RECURRENT_CARIES: "#F28E00",
    FindingKind.ANGULAR_DEFECT: "#6CC5FF",
    FindingKind.FURCATION: "#6CC5FF",
}
_OTHER = "#FFFFFF"
_STRIP = "#0B0E12"
_TEXT = "#E8EDF2"


@dataclass(frozen=True, slots=True)
class Mark:
    """One outline or line to draw, and the text beside it."""

    geometry: Geometry
    colour: str
    text: str


def mark(finding: Finding, label: str, number: int | None = None) -> Mark:
    """Make the mark of a finding: its number if it has one, its class letter, then `label`."""
    parts = ("" if number is None else str(number), finding.kind.letter, label)
    text = " ".join(part for part in parts if part)
    return Mark(finding.geometry, _COLOURS.get(finding.kind, _OTHER), text)


def annotate(grey8: Pixels, marks: Sequence[Mark], banner: Sequence[str]) -> Pixels:
    """Return the film in RGB, ``(rows + strip, cols, 3)``, with marks and the banner's lines.

    ``grey8`` is ``(rows, cols)``, 0 black. The film keeps its place: pixel (x, y) stays (x, y).
    """
    if grey8.ndim != 2 or grey8.dtype != np.uint8 or 0 in grey8.shape:
        raise InvalidInput("an annotated copy needs an 8-bit grey image of two dimensions")
    rows, cols = grey8.shape
    film = Image.fromarray(grey8).convert("RGB")
    unit = max(1, round(min(rows, cols) / 500))
    font = _font(13 * unit)
    draw = ImageDraw.Draw(film)
    for item in marks:
        _stroke(draw, item, unit)
    shapes = [_bounds(item) for item in marks]
    labels: list[Rectangle] = []
    for number, item in enumerate(marks):
        others = shapes[:number] + shapes[number + 1 :]
        labels.append(_write_label(draw, item, font, unit, (cols, rows), labels, others))
    return np.vstack([np.asarray(film), _strip(banner, cols, unit)])


def writable(text: str, otherwise: str) -> str:
    """Return `text` in letters the font has, without accents if need be, else `otherwise`."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return next((wording for wording in (text, plain) if _can_write(wording)), otherwise)


def _can_write(text: str) -> bool:
    font = _font(16)
    missing = bytes(font.getmask("\U0010ffff"))
    return all(
        character.isspace() or bytes(font.getmask(character)) != missing for character in text
    )


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # Bitstream Vera comes with reportlab: the same letters, and bytes, on every machine.
    face = files("reportlab").joinpath("fonts/Vera.ttf").read_bytes()
    return ImageFont.truetype(io.BytesIO(face), size_px)


def _stroke(draw: ImageDraw.ImageDraw, item: Mark, unit: int) -> None:
    path = path_of(item.geometry)
    for width, colour in ((4 * unit, "#000000"), (2 * unit, item.colour)):
        draw.line(path, fill=colour, width=width, joint="curve")
        if isinstance(item.geometry, Line):
            for tick in _ticks(item.geometry, 5 * unit):
                draw.line(tick, fill=colour, width=width)


def path_of(geometry: Geometry) -> list[tuple[float, float]]:
    """Return the points that draw a geometry, ``(x, y)`` in pixels; areas are closed."""
    match geometry:
        case Box(x0, y0, x1, y1):
            return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        case Line(points):
            return list(points)
        case _:
            return [*geometry.points, geometry.points[0]]


def _ticks(line: Line, half: float) -> Iterator[list[tuple[float, float]]]:
    (x0, y0), (x1, y1) = line.points
    length = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
    across = ((y1 - y0) / length * half, (x0 - x1) / length * half)
    for x, y in line.points:
        yield [(x - across[0], y - across[1]), (x + across[0], y + across[1])]


def _write_label(
    draw: ImageDraw.ImageDraw,
    item: Mark,
    font: ImageFont.FreeTypeFont,
    unit: int,
    size: tuple[int, int],
    labels: Sequence[Rectangle],
    shapes: Sequence[Rectangle],
) -> Rectangle:
    left, top, right, bottom = draw.textbbox((0, 0), item.text, font=font)
    pad = 2 * unit
    box = (right - left + 2 * pad, bottom - top + 2 * pad)
    x, y = _place(item, box, 4 * unit, size, labels, shapes)
    area = (x, y, x + box[0], y + box[1])
    draw.rectangle(area, fill=item.colour, outline="#000000")
    draw.text((x + pad - left, y + pad - top), item.text, fill="#000000", font=font)
    return area


def _place(
    item: Mark,
    box: tuple[float, float],
    gap: float,
    size: tuple[int, int],
    labels: Sequence[Rectangle],
    shapes: Sequence[Rectangle],
) -> tuple[float, float]:
    """Find a place beside the mark: off every label, and off other marks where it can be."""
    x0, y0, x1, y1 = _bounds(item)
    beside = [(x0, y1 + gap), (x1 + gap, y0), (x0 - gap - box[0], y0)]
    candidates = [(x0, y0 - gap - box[1]), *beside]
    candidates += [(x, y + step * (box[1] + gap)) for step in (1, 2, 3) for x, y in beside]
    limit = (max(size[0] - 1 - box[0], 0), max(size[1] - 1 - box[1], 0))
    inside = [(min(max(x, 0), limit[0]), min(max(y, 0), limit[1])) for x, y in candidates]
    unmoved = [place for place, wanted in zip(inside, candidates, strict=True) if place == wanted]
    for places, taken in ((unmoved, [*labels, *shapes]), (inside, labels)):
        for x, y in places:
            if not _hits((x, y, x + box[0], y + box[1]), taken):
                return x, y
    return inside[0]


def _bounds(item: Mark) -> Rectangle:
    xs, ys = zip(*item.geometry.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _hits(area: Rectangle, taken: Sequence[Rectangle]) -> bool:
    return any(
        area[0] < other[2] and other[0] < area[2] and area[1] < other[3] and other[1] < area[3]
        for other in taken
    )


def _strip(banner: Sequence[str], cols: int, unit: int) -> Pixels:
    font = _font(min(12 * unit, max(10, cols // 12)))
    margin = 6 * unit
    lines = [part for text in banner for part in _wrap(text, font, cols - 2 * margin)]
    height = sum(font.getmetrics())
    strip = Image.new("RGB", (cols, 2 * margin + height * len(lines)), _STRIP)
    draw = ImageDraw.Draw(strip)
    for number, text in enumerate(lines):
        draw.text((margin, margin + number * height), text, fill=_TEXT, font=font)
    return np.asarray(strip)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
