"""The four error families, which say what to do next, and what each becomes at every edge.

================  =====================  =======  ======  ====  =================  ====
family            means                  C-STORE  C-FIND  HTTP  workflow           exit
================  =====================  =======  ======  ====  =================  ====
``ConfigError``   an operator must act   –        –       –     does not start        2
``InvalidInput``  never acceptable       A900     A900    422   fail, open a task     2
``Retryable``     later, same key        A700     A700    503   back off             75
``Rejected``      understood, refused    –        –       409   park, ask a person    1
anything else     our bug                C211     C311    500   fail loudly          70
================  =====================  =======  ======  ====  =================  ====
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import PurePath


class BitewingError(Exception):
    """Root of the families; raise one of the four below.

    The message is shown to people and written to logs: it never carries patient data.
    """


class ConfigError(BitewingError):
    """An operator must change the configuration or the machine."""


class InvalidInput(BitewingError):
    """What was sent can never be accepted as it is."""


class Retryable(BitewingError):
    """Something is away, locked or full; the same call with the same key may succeed later."""

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(BitewingError):
    """The request was understood and refused; a person must decide."""


class Unsupported(Rejected):
    """The other system cannot express this faithfully."""


class Forbidden(Rejected):
    """The actor lacks the right (HTTP 403 instead of 409)."""


class Conflict(Rejected):
    """Somebody else changed the same thing first; both versions are kept."""


class NotFound(Rejected):
    """There is no such object at this location (HTTP 404 instead of 409)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one family becomes at each edge."""

    store_status: int
    find_status: int
    http_status: int
    exit_code: int


_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (ConfigError, Outcome(0xA700, 0xA700, 503, 2)),
    (InvalidInput, Outcome(0xA900, 0xA900, 422, 2)),
    (Retryable, Outcome(0xA700, 0xA700, 503, 75)),
    (Forbidden, Outcome(0xA900, 0xA900, 403, 1)),
    (NotFound, Outcome(0xA900, 0xA900, 404, 1)),
    (Rejected, Outcome(0xA900, 0xA900, 409, 1)),
)

_BUG = Outcome(0xC211, 0xC311, 500, 70)


def outcome(error: BaseException) -> Outcome:
    """Look up what `error` becomes at the edges; an unknown error is our bug."""
    for family, mapped in _OUTCOMES:
        if isinstance(error, family):
            return mapped
    return _BUG


def place_of(error: BaseException) -> str:
    """Name where a bug was raised, ``file.py:12``, without its text, which could hold a name."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def bug_of(error: BaseException) -> str:
    """Name a bug by its type and place, ``KeyError at file.py:12``."""
    return f"{type(error).__name__} at {place_of(error)}"
