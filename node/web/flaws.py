"""What is wrong with an image, in words for the page, and what a retake would change."""

from __future__ import annotations

from collections.abc import Iterable

from node.domain.findings import Orientation, QualityFlag, QualityKind
from node.domain.image_json import flag_from_json, orientation_from_json
from node.domain.review import Json
from node.web.shapes import Flaw

_Q = QualityKind
_HINTS = {
    _Q.OVERLAP: "aim the beam through the contacts (horizontal angle)",
    _Q.CONE_CUT: "centre the cone on the receptor",
    _Q.CROWN_CUT: "move the receptor towards the crowns",
    _Q.APEX_CUT: "move the receptor beyond the apices",
    _Q.ELONGATION: "raise the vertical angle",
    _Q.FORESHORTENING: "lower the vertical angle",
    _Q.TILTED: "level the receptor with the teeth",
    _Q.UNDEREXPOSED: "expose more, or come closer",
    _Q.OVEREXPOSED: "expose less",
    _Q.BLUR: "keep patient and tube still",
    _Q.RECEPTOR: "clean or replace the receptor",
    _Q.POSITIONING: "align the head with the light lines",
    _Q.WRONG_SIDE: "check the side marker first",
    _Q.LETTERING: "export films without an overlay",
}


def flaws(flags: Iterable[Json] | None, orientation: Json | None) -> tuple[Flaw, ...]:
    """Compose the list of one image, the disqualifying ones first."""
    found = [_flaw(flag_from_json(flag)) for flag in flags or ()]
    lie = orientation_from_json(orientation)
    if not lie.is_usual:
        found.append(Flaw(kind="orientation", words=_lie(lie), hint="", is_disqualifying=False))
    return tuple(sorted(found, key=lambda flaw: not flaw.is_disqualifying))


def _flaw(flag: QualityFlag) -> Flaw:
    return Flaw(
        kind=flag.kind.value,
        words=flag.detail,
        hint=_HINTS.get(flag.kind, "") if flag.is_disqualifying else "",
        is_disqualifying=flag.is_disqualifying,
        teeth=tuple(tooth.code for tooth in flag.teeth),
    )


def _lie(lie: Orientation) -> str:
    turns = ("", "turned left", "upside down", "turned right")[lie.quarter_turns % 4]
    negative = "as a negative" if lie.is_inverted else ""
    mirrored = "mirrored" if lie.is_mirrored else ""
    words = " and ".join(word for word in (turns, mirrored, negative) if word)
    return f"Stored {words}; shown as stored, read upright."
