"""Universal tooth numbers as Open Dental stores them, and lists such as "1-5,8"."""

from __future__ import annotations

import string

PERMANENT = tuple(str(number) for number in range(1, 33))
PRIMARY = tuple(string.ascii_uppercase[:20])
_SUPERNUMERARY = tuple(str(number) for number in range(51, 83))
_ALL = frozenset((*PERMANENT, *PRIMARY, *_SUPERNUMERARY, *(f"{letter}S" for letter in PRIMARY)))


def is_tooth(text: str) -> bool:
    """Tell whether this is one tooth: 1–32, A–T, 51–82 or AS–TS."""
    return text.upper() in _ALL


def is_tooth_range(text: str) -> bool:
    """Tell whether this is a non-empty list of teeth."""
    try:
        return bool(expand_teeth(text))
    except ValueError:
        return False


def expand_teeth(text: str) -> tuple[str, ...]:
    """Read "1-5,8" as six teeth; raises ValueError for anything else."""
    teeth: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        if dash:
            if not (first.isdigit() and last.isdigit() and int(first) <= int(last) <= 32):
                raise ValueError(part)
            teeth += [str(number) for number in range(int(first), int(last) + 1)]
        elif is_tooth(part):
            teeth.append(part.upper())
        else:
            raise ValueError(part)
    return tuple(teeth)
