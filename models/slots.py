"""Which place of a series each image fills: templates as a table, and the cheapest assignment.

A slot is named by jaw or side, region and view, with the ISO 3950 teeth it is meant to show; those
in ``optional`` may be there. Templates vary between textbooks; no body fixes a number of images.

Cost of an image in a slot: 1 − (teeth in common ÷ teeth of either), + 1 for each of view, jaw and
side that does not fit, + a little for an image that lies turned. The whole is solved exactly
(Kuhn–Munkres, O(n³)), at most 21 slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.domain.findings import View
from node.domain.reading import Retake, Series, SlotPlace
from node.domain.teeth import Tooth

_TURNED = 0.25
#: An image that costs this much in its slot is not in it.
_UNPLACED = 1.0
_EXTRA = 0.6  # an image without a slot, when templates are compared
_LACK = 0.4  # a slot without an image


@dataclass(frozen=True, slots=True)
class Slot:
    """One place of a template."""

    code: str
    view: View
    teeth: frozenset[Tooth]
    optional: frozenset[Tooth] = frozenset()

    def cost(self, image: SlotImage) -> float:
        """How badly an image fits, 0 at best."""
        wanted = self.teeth | (self.optional & image.teeth)
        either = wanted | image.teeth
        cost = 1.0 - (len(wanted & image.teeth) / len(either) if either else 0.0)
        cost += image.view is not self.view
        if image.teeth and self.view is View.PERIAPICAL:
            cost += not {t.arch for t in image.teeth} & {t.arch for t in self.teeth}
        if image.teeth and self.view is not View.PANORAMIC:
            cost += not (_sides(image.teeth) & _sides(self.teeth))
        return cost + (0.0 if image.is_upright else _TURNED)


@dataclass(frozen=True, slots=True)
class SlotImage:
    """An image to be placed; ``quality`` is 0..1."""

    instance_id: str
    view: View | None
    teeth: frozenset[Tooth]
    quality: float = 1.0
    is_upright: bool = True


def _slot(code: str, teeth: str, optional: str = "") -> Slot:
    view = {"PA": View.PERIAPICAL, "BW": View.BITEWING, "PAN": View.PANORAMIC}[code.split("-")[-1]]
    return Slot(
        code,
        view,
        frozenset(Tooth(each) for each in teeth.split()),
        frozenset(Tooth(each) for each in optional.split()),
    )


_POSTERIOR_PA = (
    _slot("UR-MOL-PA", "18 17 16"), _slot("UR-PM-PA", "16 15 14", "13"),
    _slot("UL-PM-PA", "24 25 26", "23"), _slot("UL-MOL-PA", "26 27 28"),
    _slot("LR-MOL-PA", "48 47 46"), _slot("LR-PM-PA", "46 45 44", "43"),
    _slot("LL-PM-PA", "34 35 36", "33"), _slot("LL-MOL-PA", "36 37 38"),
)  # fmt: skip
_ANTERIOR_6 = (
    _slot("UR-CAN-PA", "13", "12"), _slot("U-INC-PA", "12 11 21 22"),
    _slot("UL-CAN-PA", "23", "22"), _slot("LR-CAN-PA", "43", "42"),
    _slot("L-INC-PA", "42 41 31 32"), _slot("LL-CAN-PA", "33", "32"),
)  # fmt: skip
_ANTERIOR_8 = (
    _slot("UR-CAN-PA", "13 12"), _slot("UR-INC-PA", "11 12", "21"),
    _slot("UL-INC-PA", "21 22", "11"), _slot("UL-CAN-PA", "23 22"),
    _slot("LR-CAN-PA", "43 42"), _slot("LR-INC-PA", "41 42", "31"),
    _slot("LL-INC-PA", "31 32", "41"), _slot("LL-CAN-PA", "33 32"),
)  # fmt: skip
_BW_MOLAR = (
    _slot("R-MOL-BW", "17 16 47 46", "18 48"), _slot("L-MOL-BW", "26 27 36 37", "28 38"),
)  # fmt: skip
_BW_PREMOLAR = (
    _slot("R-PM-BW", "15 14 45 44", "13 43 16 46"), _slot("L-PM-BW", "24 25 34 35", "23 33 26 36"),
)  # fmt: skip
_BW_SIDE = (
    _slot("R-BW", "17 16 15 14 47 46 45 44", "18 13 48 43"),
    _slot("L-BW", "24 25 26 27 34 35 36 37", "28 23 38 33"),
)  # fmt: skip
_BW_ANTERIOR = (
    _slot("R-CAN-BW", "13 12 43 42"), _slot("INC-BW", "11 21 31 41", "12 22 32 42"),
    _slot("L-CAN-BW", "23 22 33 32"),
)  # fmt: skip
_PAN = (
    _slot("PAN", " ".join(f"{q}{p}" for q in (1, 2, 3, 4) for p in range(1, 8)), "18 28 38 48"),
)
_CHILD_PA = (
    _slot("UR-PA", "16 15 14"), _slot("U-INC-PA", "12 11 21 22"), _slot("UL-PA", "24 25 26"),
    _slot("LR-PA", "46 45 44"), _slot("L-INC-PA", "42 41 31 32"), _slot("LL-PA", "34 35 36"),
    _slot("UR-CAN-PA", "13"), _slot("UL-CAN-PA", "23"),
)  # fmt: skip

_FMX14 = _POSTERIOR_PA + _ANTERIOR_6
#: Every template by name. FMX = full-mouth series, BW = bitewings, VBW = vertical bitewings.
TEMPLATES: Mapping[str, tuple[Slot, ...]] = {
    "FMX18": _FMX14 + _BW_MOLAR + _BW_PREMOLAR,
    "FMX20": _POSTERIOR_PA + _ANTERIOR_8 + _BW_MOLAR + _BW_PREMOLAR,
    "FMX21": _POSTERIOR_PA + _ANTERIOR_8 + _BW_MOLAR + _BW_PREMOLAR
    + (_slot("L-MID-INC-PA", "41 31"),),
    "FMX16": _FMX14 + _BW_SIDE,
    "FMX14": _FMX14,
    "FMX10": _CHILD_PA + _BW_SIDE,
    "VBW7": _BW_MOLAR + _BW_PREMOLAR + _BW_ANTERIOR,
    "VBW8": _BW_MOLAR + _BW_PREMOLAR + _BW_ANTERIOR[::2]
    + (_slot("R-INC-BW", "11 12 41 42"), _slot("L-INC-BW", "21 22 31 32")),
    "BW4": _BW_MOLAR + _BW_PREMOLAR,
    "BW3": (*_BW_SIDE, _BW_ANTERIOR[1]),
    "BW2": _BW_SIDE,
    "PAN": _PAN,
    "PAN+BW4": _PAN + _BW_MOLAR + _BW_PREMOLAR,
    "PAN+BW2": _PAN + _BW_SIDE,
}  # fmt: skip


def place(images: Sequence[SlotImage], template: str | None = None) -> Series | None:
    """Lay images into `template`, or into the one that fits best.

    None for fewer than two images with a view that a series has; a template is not forced on
    single images.
    """
    known = [image for image in images if image.view in (View.BITEWING, View.PERIAPICAL,
                                                         View.PANORAMIC)]  # fmt: skip
    if template is not None:
        return _placed(template, known)
    if len(known) < 2:
        return None
    fitting = [name for name, slots in TEMPLATES.items() if _is_near(slots, known)]
    if not fitting:
        return None
    series = [_placed(name, known) for name in fitting]
    best = min(series, key=_badness)
    return best if len(best.places) >= max(2, len(known) // 2) else None


def assign(costs: Sequence[Sequence[float]]) -> list[int | None]:
    """Choose a column for each row so that the sum is least; None for rows beyond the columns.

    Exact, by the Hungarian method with potentials. Ties keep the earlier column.
    """
    rows, columns = len(costs), len(costs[0]) if costs else 0
    if not columns:
        return [None] * rows
    size = max(rows, columns)
    far = 1e6
    padded = [[costs[r][c] if r < rows and c < columns else far for c in range(size)]
              for r in range(size)]  # fmt: skip
    matched = _hungarian(padded)
    return [matched[row] if matched[row] < columns else None for row in range(rows)]


def _hungarian(costs: Sequence[Sequence[float]]) -> list[int]:
    """Solve a square assignment; row -> column. Rows and columns are counted from 1 inside."""
    size = len(costs)
    u, v = [0.0] * (size + 1), [0.0] * (size + 1)
    row_of = [0] * (size + 1)
    for row in range(1, size + 1):
        row_of[0] = row
        least, came, done = [float("inf")] * (size + 1), [0] * (size + 1), [False] * (size + 1)
        column = 0
        while row_of[column]:
            done[column] = True
            here, delta, following = row_of[column], float("inf"), 0
            for j in range(1, size + 1):
                if done[j]:
                    continue
                reduced = costs[here - 1][j - 1] - u[here] - v[j]
                if reduced < least[j]:
                    least[j], came[j] = reduced, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(size + 1):
                if done[j]:
                    u[row_of[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            column = following
        while column:
            row_of[column] = row_of[came[column]]
            column = came[column]
    chosen = [0] * size
    for column in range(1, size + 1):
        chosen[row_of[column] - 1] = column - 1
    return chosen


def _placed(template: str, images: Sequence[SlotImage]) -> Series:
    slots = TEMPLATES[template]
    costs = [[slot.cost(image) for slot in slots] for image in images]
    chosen = assign(costs)
    places, unplaced = [], []
    for image, row, slot in zip(images, costs, chosen, strict=True):
        if slot is None or row[slot] >= _UNPLACED:
            unplaced.append(image)
        else:
            places.append(SlotPlace(image.instance_id, slots[slot].code, round(row[slot], 3)))
    filled = {each.slot for each in places}
    retakes, moved = _retakes(slots, images, unplaced, places)
    return Series(
        template=template,
        places=tuple(moved),
        empty=tuple(slot.code for slot in slots if slot.code not in filled),
        unplaced=tuple(image.instance_id for image in unplaced),
        retakes=tuple(retakes),
    )


def _retakes(
    slots: Sequence[Slot],
    images: Sequence[SlotImage],
    unplaced: Sequence[SlotImage],
    places: Sequence[SlotPlace],
) -> tuple[list[Retake], list[SlotPlace]]:
    """Find images that repeat a filled slot; the better one keeps it."""
    by_id = {image.instance_id: image for image in images}
    kept = {each.slot: each for each in places}
    found = []
    for image in unplaced:
        fitting = [slot for slot in slots if slot.cost(image) < _UNPLACED]
        slot = min(fitting, key=lambda each: each.cost(image), default=None)
        holder = kept.get(slot.code) if slot else None
        if slot is None or holder is None:
            continue
        other = by_id[holder.instance_id]
        worse, better = (other, image) if image.quality > other.quality else (image, other)
        reason = "repeats the same place; the other image is of better quality"
        if worse.quality == better.quality:
            reason = "repeats the same place"
        kept[slot.code] = SlotPlace(better.instance_id, slot.code, round(slot.cost(better), 3))
        found.append(Retake(worse.instance_id, better.instance_id, slot.code, reason))
    return found, list(kept.values())


def _badness(series: Series) -> float:
    extra = len(series.unplaced) - len(series.retakes)  # a retake is not likelier than a slot
    return (
        sum(each.cost for each in series.places)
        + _EXTRA * max(extra, 0)
        + _EXTRA * len(series.retakes)
        + _LACK * len(series.empty)
    )


def _is_near(slots: Sequence[Slot], images: Sequence[SlotImage]) -> bool:
    """Whether a template has about as many images of each view."""
    if not slots:
        return False
    for view in (View.BITEWING, View.PERIAPICAL, View.PANORAMIC):
        wanted = sum(slot.view is view for slot in slots)
        have = sum(image.view is view for image in images)
        if have and not wanted:
            return False
        if have < wanted / 2 or have > wanted + max(2, wanted // 3):
            return False
    return True


def _sides(teeth: frozenset[Tooth]) -> set[bool]:
    return {tooth.is_patient_right for tooth in teeth}
