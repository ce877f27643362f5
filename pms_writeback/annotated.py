"""The annotated copy of an image for the chart: signed marks drawn, the signature on an edge.

Strokes and colours are those of the review page: 2 px colour inside a 4 px black casing, since no
colour alone stands out on mid-grey film.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from datetime import tzinfo

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from node.domain.findings import Box, FindingKind, Geometry, Line, Point
from node.domain.review import SignedFinding, SignedReview
from node.errors import InvalidInput
from pms_writeback import notes
from pms_writeback.lettering import picture_font, writable

Pixels = npt.NDArray[np.uint8]
Area = tuple[float, float, float, float]

_COLOURS = {
    FindingKind.CARIES: "#F28E00",
    FindingKind.BONE_LEVEL: "#6CC5FF",
    FindingKind.PERIAPICAL_RADIOLUCENCY: "#FFF06B",
    FindingKind.CALCULUS: "#C44E9E",
    FindingKind.RESTORATION: "#00A878",
    FindingKind.CROWN: "#00A878",
    FindingKind.ROOT_FILLING: "#00A878",
}
_OTHER = "#FFFFFF"
_STRIP, _STRIP_TEXT = "#0B0E12", "#E8EDF2"


def annotated_png(
    grey: Pixels, marks: Sequence[SignedFinding], signed: SignedReview, zone: tzinfo
) -> bytes:
    """Draw `marks` of one image, numbered as in the note and the report; PNG.

    ``grey`` is ``(rows, columns)``, 8 bits, 0 black. Below the film stands a strip that says what
    the marks are, who signed and when. Marks that nobody confirmed are left out.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or 0 in grey.shape:
        raise InvalidInput("an annotated copy needs an 8-bit grey image of two dimensions")
    film = Image.fromarray(grey).convert("RGB")
    unit = max(1, round(min(film.size) / 500))
    numbers = {each.id: number for number, each in enumerate(notes.confirmed(signed), start=1)}
    drawn = [each for each in marks if each.id in numbers]
    pen = ImageDraw.Draw(film)
    for each in drawn:
        _stroke(pen, each.finding.geometry, _colour(each), unit)
    taken = [_bounds(each.finding.geometry) for each in drawn]
    for each in drawn:
        taken.append(_label(pen, each, numbers[each.id], unit, film.size, taken))
    return _png(_with_strip(film, signed, zone, unit))


def _with_strip(film: Image.Image, signed: SignedReview, zone: tzinfo, unit: int) -> Image.Image:
    """Add the words below the film, wrapped to its width."""
    font = picture_font(11 * unit)
    margin = 6 * unit
    words = (
        f"AI-assisted ({notes.model_names(signed)}), signed by "
        f"{writable(notes.signer(signed), 'the reader')} on "
        f"{notes.local_time(signed.signed_at, zone)}. {notes.NOT_CLEARED}"
    ).split()
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > film.width - 2 * margin:
            lines.append(word)
        else:
            lines[-1] = longer
    height = sum(font.getmetrics())
    whole = Image.new("RGB", (film.width, film.height + 2 * margin + height * len(lines)), _STRIP)
    whole.paste(film, (0, 0))
    pen = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        place = (margin, film.height + margin + number * height)
        pen.text(place, line, fill=_STRIP_TEXT, font=font)
    return whole


def _colour(each: SignedFinding) -> str:
    return _COLOURS.get(each.finding.kind, _OTHER)


def _stroke(pen: ImageDraw.ImageDraw, geometry: Geometry, colour: str, unit: int) -> None:
    for width, fill in ((4 * unit, "#000000"), (2 * unit, colour)):
        for path in _paths(geometry, unit):
            pen.line(list(path), fill=fill, width=width, joint="curve")


def _paths(geometry: Geometry, unit: int) -> Iterable[Sequence[Point]]:
    """The lines to draw: an outline, or a measured line with a tick across each end."""
    match geometry:
        case Box(x0, y0, x1, y1):
            return [[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0), (x1, y0)]]
        case Line(((x0, y0), (x1, y1))):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            dx, dy = (y1 - y0) / length * 5 * unit, (x0 - x1) / length * 5 * unit
            ticks = [[(x - dx, y - dy), (x + dx, y + dy)] for x, y in geometry.points]
            return [geometry.points, *ticks]
        case _:
            return [[*geometry.points, *geometry.points[:2]]]


def _label(
    pen: ImageDraw.ImageDraw,
    each: SignedFinding,
    number: int,
    unit: int,
    size: tuple[int, int],
    taken: Sequence[Area],
) -> Area:
    """Write number, class letter and tooth beside a mark; return where."""
    tooth = f" #{each.finding.tooth.universal}" if each.finding.tooth else ""
    text = f"{number} {each.finding.kind.letter}{tooth}"
    font, pad = picture_font(12 * unit), 2 * unit
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    box = (right - left + 2 * pad, bottom - top + 2 * pad)
    area = _place(_bounds(each.finding.geometry), box, 4 * unit, size, taken)
    pen.rectangle(area, fill=_colour(each), outline="#000000")
    pen.text((area[0] + pad - left, area[1] + pad - top), text, fill="#000000", font=font)
    return area


def _place(
    mark: Area,
    box: tuple[float, float],
    gap: float,
    size: tuple[int, int],
    taken: Sequence[Area],
) -> Area:
    """Find room for a label: above, below, right or left of its mark, then farther away."""
    x0, y0, x1, y1 = mark
    fitting: list[Area] = []
    for step in range(5):
        away = gap + step * (box[1] + gap)
        corners = [(x0, y0 - away - box[1]), (x0, y1 + away), (x1 + away, y0)]
        for x, y in [*corners, (x0 - away - box[0], y0)]:
            left = min(max(x, 0.0), max(size[0] - 1 - box[0], 0.0))
            top = min(max(y, 0.0), max(size[1] - 1 - box[1], 0.0))
            area = (left, top, left + box[0], top + box[1])
            if not any(_overlap(area, other) for other in taken):
                return area
            fitting.append(area)
    return fitting[0]


def _overlap(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _bounds(geometry: Geometry) -> Area:
    xs = [x for x, _ in geometry.points]
    ys = [y for _, y in geometry.points]
    return min(xs), min(ys), max(xs), max(ys)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
