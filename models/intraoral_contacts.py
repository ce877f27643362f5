"""How teeth lie on a film: contacts and their overlap, edges, root ends, the occlusal plane."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from models.geometry import ENAMEL_MM, Canvas, crown_root_ratio, crown_scale_mm, tilt_degrees
from models.intraoral_bone import Level, Places
from models.intraoral_maps import SIDES, Array, Seen
from models.intraoral_reading import Contact, CrownRoot, Landmarks
from models.panoramic import CELL
from node.domain.findings import Point
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH

#: A crown whose edge lies closer to the film's border than this, canvas pixels, may be cut off.
_EDGE_PX = 3.0
#: Cells of two crowns are believed to cover each other above this probability.
_LEAST_DOUBLE = 0.25


def neighbours(seen: Sequence[Seen]) -> list[tuple[Seen, Seen]]:
    """Pair teeth that stand side by side, left one first: consecutive numbers of one jaw."""
    pairs = []
    for order in (UPPER_ARCH, LOWER_ARCH):
        row = sorted(
            (one for one in seen if one.tooth in order), key=lambda s: order.index(s.tooth)
        )
        pairs += [
            (a, b)
            for a, b in itertools.pairwise(row)
            if order.index(b.tooth) == order.index(a.tooth) + 1
        ]
    return pairs


def contacts(double: Array, seen: Sequence[Seen], canvas: Canvas) -> list[Contact]:
    """Measure how wide neighbouring crowns cover each other, as a share of the enamel's width.

    `double` says for each cell how likely two teeth of one jaw lie in it.
    """
    mm = crown_scale_mm([(one.tooth, one.box[2] - one.box[0]) for one in seen])
    if mm is None:
        return []
    found = []
    for left, right in neighbours(seen):
        if right.box[0] - left.box[2] > 3 * CELL:
            continue
        wide, row = _cover(double, left, right)
        x = (left.box[2] + right.box[0]) / 2
        point = canvas.to_film((x, (row + 0.5) * CELL))
        share = round(wide * CELL * mm / ENAMEL_MM, 2)
        found.append(Contact((left.tooth, right.tooth), point, share))
    return found


def _cover(double: Array, left: Seen, right: Seen) -> tuple[float, int]:
    """Give the widest run of covered cells between two crowns, in cells, and its row."""
    x0 = min(left.box[2], right.box[0]) / CELL - 3
    x1 = max(left.box[2], right.box[0]) / CELL + 3
    columns = slice(max(int(x0), 0), max(int(np.ceil(x1)), 1))
    first, last = _crown_rows(left, right, double.shape[0])
    part = double[first:last, columns]
    if part.size == 0:
        return 0.0, first
    width = np.where(part > _LEAST_DOUBLE, part, 0.0).sum(axis=1)
    # One row can be noise: the third widest stands for the contact.
    ranked = np.argsort(-width, kind="stable")
    chosen = int(ranked[min(2, len(ranked) - 1)])
    return float(width[chosen]), first + (chosen if width[chosen] > 0 else len(width) // 2)


def _crown_rows(left: Seen, right: Seen, rows: int) -> tuple[int, int]:
    """Give the rows of two crowns: from the edge to the necks, else half of the box."""
    necks = [p[0][1] for one in (left, right) for key, p in one.points.items() if key[0] == "cej"]
    if left.is_upper:
        bottom = min(left.box[3], right.box[3])
        top = min(necks) if necks else (left.box[1] + left.box[3]) / 2
    else:
        top = max(left.box[1], right.box[1])
        bottom = max(necks) if necks else (left.box[1] + left.box[3]) / 2
    first = min(max(int(top / CELL), 0), rows - 1)
    return first, max(first + 1, min(int(np.ceil(bottom / CELL)), rows))


def landmarks(seen: Sequence[Seen], on_film: Sequence[Places], canvas: Canvas) -> list[Landmarks]:
    """Say where each tooth begins and ends, as far as the film shows it."""
    found = []
    for one, points in zip(seen, on_film, strict=True):
        edge = _edge(one)
        is_seen = canvas.covers(edge, _EDGE_PX)
        left, right = (points.get(("cej", side)) for side in SIDES)
        apices = tuple(points[("apex", s)][0] for s in SIDES if ("apex", s) in points)
        found.append(
            Landmarks(
                one.tooth,
                canvas.to_film(edge) if is_seen else None,
                apices,
                (left[0] if left else None, right[0] if right else None),
            )
        )
    return found


def _edge(one: Seen) -> Point:
    """The middle of the occlusal or incisal edge, canvas pixels."""
    x0, y0, x1, y1 = one.box
    return (x0 + x1) / 2, y1 if one.is_upper else y0


def crown_roots(marks: Sequence[Landmarks], levels: Sequence[Level]) -> list[CrownRoot]:
    """Give the crown–root ratio of each tooth whose edge, crest and root end are seen."""
    ratios = []
    for mark in marks:
        own = [(level.crest, level.apex) for level in levels if level.tooth == mark.tooth]
        known = [(crest, apex) for crest, apex in own if apex is not None]
        if mark.crown is None or not known:
            continue
        # The middle of both sides lies on the tooth's axis, as the middle of its edge does.
        crest, apex = np.mean(known, axis=0)
        ratio = crown_root_ratio(
            mark.crown, (float(crest[0]), float(crest[1])), (float(apex[0]), float(apex[1]))
        )
        if ratio is not None:
            ratios.append(CrownRoot(mark.tooth, round(ratio, 2)))
    return ratios


def occlusal_tilt(marks: Sequence[Landmarks]) -> float | None:
    """Measure the occlusal plane against the image's horizontal, in degrees; see the reading.

    Each jaw has its own line; on a bitewing the flatter one counts, cusps of one jaw being uneven.
    """
    tilts: list[float] = []
    for order in (UPPER_ARCH, LOWER_ARCH):
        edges = [m.crown for m in marks if m.crown is not None and m.tooth in order]
        tilt = tilt_degrees(edges)
        if tilt is not None:
            tilts.append(tilt)
    if not tilts:
        return None
    flattest: float = min(tilts, key=lambda tilt: abs(tilt))
    return round(flattest, 1)
