"""DenPAR: real periapicals with teeth, cemento-enamel junctions, apices and bone lines.

Expected is the set as published (Wimalasiri et al. 2025, CC BY 4.0, not shipped):
``Dataset/{Training,Validation,Testing}/`` with ``Images/<id>.jpg``, ``Masks (Tooth-wise)/<id>/``,
``Key Points Annotations/<id>.json`` (``bboxes`` as corners, flat lists ``CEJ_Points`` and
``Apex_Points``) and ``Bone Level Annotations/<id>.json`` (``Bone_Lines``, polylines); perhaps a
workbook ``*.xlsx`` with the columns id, Arch, Site and FDI notation. Points belong to no tooth
there: they are given to the tooth whose outline they lie on. Nothing is said of caries.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from models.geometry import crest_distance, neck_scale_mm
from node.domain.findings import Point, View
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface, Tooth
from node.errors import InvalidInput
from training.synthetic import SiteTruth, SyntheticFilm, ToothTruth
from training.workbook import read_table

#: Our parts, in the order in which a film that occurs twice is kept. Ids 158, 166, 852, 899 and
#: 1028 of the published set do.
_FOLDERS = {"train": "Training", "tune": "Validation", "test": "Testing"}
_POINTS, _BONE, _MASKS = "Key Points Annotations", "Bone Level Annotations", "Masks (Tooth-wise)"

#: How far from a tooth's outline its points may lie, as a share of the film's longer side.
_REACH = 0.02
#: Mesio-distal crown widths, mm, by place in the quadrant. Source: Wheeler-type means.
_UPPER_MM = (8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0, 8.5)
_LOWER_MM = (5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5, 10.0)
#: By how much box widths must fit one reading of the numbers better than its mirror image.
_CLEARLY = 0.15
_ACROSS = {"1": "2", "2": "1", "3": "4", "4": "3"}
_NOWHERE: Point = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One tooth as annotated: corners, outline, and the points found on it, film pixels."""

    box: tuple[float, float, float, float]
    outline: tuple[Point, ...]
    cej: tuple[Point, ...] = ()
    apex: tuple[Point, ...] = ()

    @property
    def middle(self) -> float:
        return (self.box[0] + self.box[2]) / 2


def is_denpar(folder: Path) -> bool:
    """Tell a DenPAR folder, or the ``Dataset`` folder in it, by its parts."""
    return any((_base(folder) / name / _POINTS).is_dir() for name in _FOLDERS.values())


def _base(folder: Path) -> Path:
    return folder / "Dataset" if (folder / "Dataset").is_dir() else folder


def read_part(folder: Path, part: str) -> tuple[SyntheticFilm, ...]:
    """Read the films of one part; a film that an earlier part has is left out.

    Raises InvalidInput when there are none or an annotation is damaged.
    """
    base = _base(folder)
    earlier: set[str] = set()
    for name in list(_FOLDERS)[: list(_FOLDERS).index(part)]:
        earlier |= {path.stem for path in (base / _FOLDERS[name] / _POINTS).glob("*.json")}
    paths = sorted((base / _FOLDERS[part] / _POINTS).glob("*.json"), key=_order)
    kept = [path for path in paths if path.stem not in earlier]
    if not kept:
        raise InvalidInput(f"{base} has no films under {_FOLDERS[part]}/{_POINTS}")
    listed = _listed(folder)
    return tuple(_film(path, listed.get(path.stem, {})) for path in kept)


def _order(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdigit() else 0), path.stem


def _listed(folder: Path) -> dict[str, dict[str, str]]:
    """Read the workbook's rows by film id; none when there is no workbook."""
    books = [*folder.glob("*.xlsx"), *_base(folder).glob("*.xlsx")]
    rows = [row for book in books[:1] for row in read_table(book)]
    return {row.get("id", "").split(".")[0]: row for row in rows}


def _film(path: Path, row: dict[str, str]) -> SyntheticFilm:
    base, name = path.parent.parent, path.stem
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        boxes = [_box(item) for item in raw["bboxes"]]
        cej, apex = _points(raw["CEJ_Points"]), _points(raw["Apex_Points"])
        lines = _lines(base / _BONE / f"{name}.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path.name} is not a DenPAR annotation: {error!r}") from error
    image = next((p for p in (base / "Images").glob(f"{name}.*")), base / "Images" / f"{name}.jpg")
    teeth = _with_points(_outlined(boxes, base / _MASKS / name), cej, apex)
    teeth = sorted(teeth, key=lambda tooth: tooth.middle)
    upper = _is_upper(teeth, row.get("arch", ""))
    codes = _numbers(teeth, row.get("fdi notation of fully/partially visible teeth", ""), upper)
    annotated = {"teeth", "sites"} | ({"numbers"} if codes else set())
    numbers = [Tooth(c) for c in codes] if codes else list(_unnumbered(len(teeth), upper))
    scale = _scale(teeth, numbers) if codes else 0.0
    sites = [s for t, n in zip(teeth, numbers, strict=True) for s in _sites(t, n, lines, scale)]
    return SyntheticFilm(
        path=image,
        view=View.PERIAPICAL,
        bits_stored=8,
        spacing_mm=0.0,
        teeth=tuple(ToothTruth(n, t.box, t.outline) for t, n in zip(teeth, numbers, strict=True)),
        sites=tuple(sites),
        lesions=(),
        group=name,
        origin="real",
        source="DenPAR",
        annotated=frozenset(annotated),
        estimated_mm=scale,
    )


def _box(item: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in item)
    if not (x0 < x1 and y0 < y1):
        raise ValueError("a box has its corners the wrong way round")
    return x0, y0, x1, y1


def _points(items: Iterable[Sequence[float]]) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in items)


def _lines(path: Path) -> list[tuple[Point, ...]]:
    if not path.exists():
        return []
    return [_points(line) for line in json.loads(path.read_text(encoding="utf-8"))["Bone_Lines"]]


# --- teeth and their points ----------------------------------------------------------------------


def _outlined(boxes: Sequence[tuple[float, float, float, float]], masks: Path) -> list[_Seen]:
    """Give each box the tooth mask that fills it; a box without one keeps its corners."""
    rings = [ring for path in sorted(masks.glob("*.png")) for ring in _ring(path)]
    teeth = []
    for box in boxes:
        x0, y0, x1, y1 = box
        scored = [(_overlap(box, ring), number) for number, ring in enumerate(rings)]
        best, number = max(scored, default=(0.0, -1))
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        teeth.append(_Seen(box, _points(rings[number]) if best > 0.5 else corners))
    return teeth


def _ring(path: Path) -> list[np.ndarray]:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InvalidInput(f"{path.name} is not a readable mask")
    found, _ = cv2.findContours(
        (mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    ring = max(found, key=cv2.contourArea, default=None)
    if ring is None or len(ring) < 3:
        return []
    return [cv2.approxPolyDP(ring, 1.0, True)[:, 0, :].astype(float) + 0.5]


def _overlap(box: tuple[float, float, float, float], ring: np.ndarray) -> float:
    from models.panoramic import iou

    (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
    return iou(box, (float(x0), float(y0), float(x1), float(y1)))


def _with_points(
    teeth: Sequence[_Seen], cej: Sequence[Point], apex: Sequence[Point]
) -> list[_Seen]:
    """Give each point to the tooth whose outline it lies on or in; far ones belong to none."""
    if not teeth:
        return []
    longest = max(max(t.box) for t in teeth)
    owned: dict[str, list[list[Point]]] = {}
    for name, points in (("cej", cej), ("apex", apex)):
        owned[name] = [[] for _ in teeth]
        for point in points:
            inside, number = max((_inside(t.outline, point), n) for n, t in enumerate(teeth))
            if inside >= -_REACH * longest:
                owned[name][number].append(point)
    return [
        _Seen(t.box, t.outline, tuple(sorted(c)), tuple(sorted(a)))
        for t, c, a in zip(teeth, owned["cej"], owned["apex"], strict=True)
    ]


def _inside(outline: Sequence[Point], point: Point) -> float:
    """Give how far inside (positive) or outside an outline a point lies, pixels."""
    ring = np.asarray(outline, np.float32)
    return float(cv2.pointPolygonTest(ring, point, True))


def _is_upper(teeth: Sequence[_Seen], arch: str) -> bool:
    """Tell the jaw: the workbook says it, or the apices lie above the CEJs."""
    if arch.strip().lower() in ("upper", "lower"):
        return arch.strip().lower() == "upper"
    downs = [
        np.mean([p[1] for p in t.apex]) - np.mean([p[1] for p in t.cej])
        for t in teeth
        if t.apex and t.cej
    ]
    return bool(downs) and float(np.mean(downs)) < 0


# --- numbers -------------------------------------------------------------------------------------


def _unnumbered(count: int, upper: bool) -> Sequence[Tooth]:
    """Stand-ins in the right jaw for teeth whose numbers are unknown."""
    return (UPPER_ARCH if upper else LOWER_ARCH)[:count]


def _numbers(teeth: Sequence[_Seen], text: str, upper: bool) -> list[str] | None:
    """Number teeth, sorted from left to right, by the workbook's list; None when in doubt.

    A film may lie mirrored; then the numbers are those it shows as it lies. The boxes' widths
    decide where they can, else the order of the list, which runs from left to right.
    """
    codes = [part.strip().split(".")[0] for part in text.split(",") if part.strip()]
    order = [tooth.code for tooth in (UPPER_ARCH if upper else LOWER_ARCH)]
    if len(codes) != len(teeth) or not codes or not set(codes) <= set(order):
        return None
    straight = sorted(codes, key=order.index)
    mirrored = [_ACROSS[code[0]] + code[1] for code in reversed(straight)]
    gain = _fit(teeth, straight, upper) - _fit(teeth, mirrored, upper)
    if abs(gain) >= _CLEARLY:
        return straight if gain > 0 else mirrored
    if codes == straight or straight == mirrored:
        return straight
    return mirrored if codes == straight[::-1] else None


def _fit(teeth: Sequence[_Seen], codes: Sequence[str], upper: bool) -> float:
    """Correlate box widths with mean tooth widths."""
    table = _UPPER_MM if upper else _LOWER_MM
    expected = np.log([table[int(code[1]) - 1] for code in codes])
    widths = np.log([tooth.box[2] - tooth.box[0] for tooth in teeth])
    if len(teeth) < 2 or expected.std() < 0.05 or widths.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(expected, widths)[0, 1])


def _scale(teeth: Sequence[_Seen], numbers: Sequence[Tooth]) -> float:
    """Estimate mm per pixel from the necks; 0 when no tooth shows both its CEJs."""
    necks = [
        (n, t.cej[0], t.cej[-1]) for t, n in zip(teeth, numbers, strict=True) if len(t.cej) > 1
    ]
    return neck_scale_mm(necks) or 0.0


# --- bone ----------------------------------------------------------------------------------------


def _sites(
    tooth: _Seen, number: Tooth, lines: Sequence[Sequence[Point]], scale: float
) -> list[SiteTruth]:
    """Measure the sides of a tooth where both the CEJ and a bone line are annotated."""
    sites = []
    across = (tooth.cej[0], tooth.cej[-1]) if len(tooth.cej) > 1 else None
    for at_right in (False, True):
        cej = _at_side(tooth, tooth.cej, at_right)
        crest = _crest(tooth, lines, at_right, cej)
        if cej is None or crest is None:
            continue
        apex = tooth.apex[-1 if at_right else 0] if tooth.apex else _NOWHERE
        surface = Surface.MESIAL if at_right == number.is_patient_right else Surface.DISTAL
        level = crest_distance(cej, crest, across, (scale, scale)) if scale else math.nan
        sites.append(SiteTruth(number, surface, cej, crest, apex, level))
    return sites


def _at_side(tooth: _Seen, points: Sequence[Point], at_right: bool) -> Point | None:
    """Pick the point of one side; a single point belongs to the side it lies at."""
    if len(points) > 1:
        return points[-1 if at_right else 0]
    if points and (points[0][0] >= tooth.middle) == at_right:
        return points[0]
    return None


def _crest(
    tooth: _Seen, lines: Sequence[Sequence[Point]], at_right: bool, cej: Point | None
) -> Point | None:
    """Find where a bone line meets the tooth's outline at one side, the nearest to its CEJ."""
    if cej is None:
        return None
    reach = _REACH * max(max(x, y) for x, y in tooth.outline)
    found = []
    for line in lines:
        dense = _dense(line)
        ring = [p for p in dense if (p[0] >= tooth.middle) == at_right]
        near = min(((abs(_inside(tooth.outline, p)), p) for p in ring), default=None)
        if near is not None and near[0] <= reach:
            found.append((math.dist(near[1], cej), near[1]))
    return min(found)[1] if found else None


def _dense(line: Sequence[Point]) -> list[Point]:
    """Give points along a polyline about a pixel apart."""
    points: list[Point] = list(line[:1])
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        count = max(1, int(math.dist((x0, y0), (x1, y1))))
        steps = np.linspace(0, 1, count + 1)[1:]
        points += [(float(x0 + t * (x1 - x0)), float(y0 + t * (y1 - y0))) for t in steps]
    return points
