"""Teeth and their surfaces, numbered by ISO 3950 (FDI) inside the program.

US practices read Universal numbers: convert at the edges with :meth:`Tooth.universal`.
A supernumerary tooth carries the code of its nearest regular neighbour and a flag
(ADA: permanent number + 50, deciduous letter + "S").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from node.errors import InvalidInput

_DECIDUOUS_LETTERS = "ABCDEFGHIJKLMNOPQRST"
_PERMANENT_BASE = {1: (9, -1), 2: (8, 1), 3: (25, -1), 4: (24, 1)}
_DECIDUOUS_BASE = {5: (5, -1), 6: (4, 1), 7: (15, -1), 8: (14, 1)}


class Arch(Enum):
    """The jaw a tooth stands in."""

    UPPER = "upper"
    LOWER = "lower"


class Surface(Enum):
    """A tooth surface, named by its usual letter.

    A 2-D projection shows mesial, distal and occlusal/incisal; buccal and lingual are superimposed.
    """

    MESIAL = "M"
    DISTAL = "D"
    OCCLUSAL = "O"
    INCISAL = "I"
    BUCCAL = "B"
    LINGUAL = "L"


@dataclass(frozen=True, slots=True, order=True)
class Tooth:
    """One tooth: a two-digit ISO 3950 code (11–48 permanent, 51–85 deciduous)."""

    code: str
    supernumerary: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-4][1-8]|[5-8][1-5]", self.code):
            raise InvalidInput(f"not an ISO 3950 tooth code: {self.code!r}")

    @property
    def quadrant(self) -> int:
        """1–4 permanent, 5–8 deciduous: upper right, upper left, lower left, lower right."""
        return int(self.code[0])

    @property
    def position(self) -> int:
        """Place in the quadrant counted from the midline, from 1."""
        return int(self.code[1])

    @property
    def is_deciduous(self) -> bool:
        """Whether this is a milk tooth."""
        return self.quadrant >= 5

    @property
    def arch(self) -> Arch:
        """The jaw."""
        return Arch.UPPER if self.quadrant in (1, 2, 5, 6) else Arch.LOWER

    @property
    def is_patient_right(self) -> bool:
        """Whether the tooth is on the patient's right, the viewer's left in a mounted image."""
        return self.quadrant in (1, 4, 5, 8)

    @property
    def is_posterior(self) -> bool:
        """Premolars and molars."""
        return self.position >= 4

    @property
    def universal(self) -> str:
        """The US Universal number: 1–32, A–T, 51–82, AS–TS."""
        if self.is_deciduous:
            start, step = _DECIDUOUS_BASE[self.quadrant]
            letter = _DECIDUOUS_LETTERS[start + step * self.position]
            return letter + "S" if self.supernumerary else letter
        start, step = _PERMANENT_BASE[self.quadrant]
        number = start + step * self.position
        return str(number + 50 if self.supernumerary else number)

    @classmethod
    def from_universal(cls, text: str) -> Tooth:
        """Read a US Universal number; raises InvalidInput when there is no such tooth."""
        name = text.strip()
        # Only ASCII: "ß" in capitals would read as tooth S, supernumerary.
        tooth = _BY_UNIVERSAL.get(name.upper()) if name.isascii() else None
        if tooth is None:
            raise InvalidInput(f"not a Universal tooth number: {text!r}")
        return tooth

    def __str__(self) -> str:
        return self.code + ("S" if self.supernumerary else "")


PERMANENT: tuple[Tooth, ...] = tuple(Tooth(f"{q}{p}") for q in (1, 2, 3, 4) for p in range(1, 9))
DECIDUOUS: tuple[Tooth, ...] = tuple(Tooth(f"{q}{p}") for q in (5, 6, 7, 8) for p in range(1, 6))

_BY_UNIVERSAL: dict[str, Tooth] = {
    tooth.universal: tooth
    for regular in PERMANENT + DECIDUOUS
    for tooth in (regular, Tooth(regular.code, supernumerary=True))
}

#: Permanent teeth in the order of the mounted image, patient's right on the viewer's left.
UPPER_ARCH: tuple[Tooth, ...] = tuple(
    [Tooth(f"1{p}") for p in range(8, 0, -1)] + [Tooth(f"2{p}") for p in range(1, 9)]
)
LOWER_ARCH: tuple[Tooth, ...] = tuple(
    [Tooth(f"4{p}") for p in range(8, 0, -1)] + [Tooth(f"3{p}") for p in range(1, 9)]
)
