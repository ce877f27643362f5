"""Which part of the mouth an image shows, and whether that contradicts what its sender states.

Numbered teeth say it when there are any; the triage network otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.domain.findings import QualityFlag, QualityKind, ToothMark, View
from node.domain.teeth import Arch, Tooth

_PLACES = ("", "incisor", "incisor", "canine", "premolar", "premolar", "molar", "molar", "molar")
_SIDES = {"R": "right", "L": "left"}


@dataclass(frozen=True, slots=True)
class Region:
    """``side`` R, L or empty; ``words`` like "upper right molar", empty when not known."""

    side: str = ""
    words: str = ""


def of_teeth(view: View, teeth: Sequence[ToothMark], columns: int) -> Region:
    """Say what an upright film `columns` pixels wide shows, by its teeth.

    The tooth nearest to the middle names the place. A film that shows both sides has none.
    """
    if not teeth or view not in (View.BITEWING, View.PERIAPICAL):
        return Region()
    sides = {_side(mark.tooth) for mark in teeth}
    side = sides.pop() if len(sides) == 1 else ""
    middle = min(teeth, key=lambda mark: abs(mark.box.x0 + mark.box.x1 - columns)).tooth
    place = _place(middle)
    if not side and place != "incisor":
        side = _side(middle)
    jaw = "" if view is View.BITEWING else "upper" if middle.arch is Arch.UPPER else "lower"
    words = (jaw, _SIDES.get(side, ""), place)
    return Region(side, " ".join(word for word in words if word))


def wrong_side(stated: str, by_teeth: str, by_look: str) -> tuple[QualityFlag, ...]:
    """Flag a film that shows another side than `stated`: mirrored, or labelled wrongly.

    Both the numbered teeth and the triage network must say so: they err independently, and a
    false alarm here would cost trust. Nothing is ever mirrored back.
    """
    if stated not in _SIDES or by_teeth not in _SIDES or by_look != by_teeth or by_teeth == stated:
        return ()
    words = (
        f"The film looks like the patient's {_SIDES[by_teeth]} side, but it was sent as "
        f"{_SIDES[stated]}: it may be mirrored or labelled wrongly. Tooth numbers rest on the "
        "picture; please check before signing."
    )
    return (QualityFlag(QualityKind.WRONG_SIDE, words, is_disqualifying=True),)


def _side(tooth: Tooth) -> str:
    return "R" if tooth.is_patient_right else "L"


def _place(tooth: Tooth) -> str:
    if tooth.is_deciduous and tooth.position >= 4:
        return "molar"
    return _PLACES[tooth.position]
