"""What can serve as a UID."""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Whether `text` can serve as a UID: digits and dots, 1–64 characters.

    Leading zeros are let through: they occur, and harm nobody. Source: PS3.5 chapter 9.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None
