"""What an adapter to a laboratory takes and gives back.

Besides the four families: `OutcomeUnknown` says that the package may have arrived and the answer
was lost: look with `LabPartner.find` before it is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import BinaryIO, Protocol

from node.errors import InvalidInput
from pms_writeback.pms import OutcomeUnknown

__all__ = ["Dispatch", "Invoice", "LabPartner", "LabUpdate", "OutcomeUnknown", "Receipt"]

_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{3,39}")
_TEXT = 500


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One package to send; ``open`` gives its bytes anew each time."""

    case_number: str
    file_name: str
    sha256: str
    size_bytes: int
    due_at: datetime | None
    open: Callable[[], BinaryIO] = field(repr=False)

    def __post_init__(self) -> None:
        if not _CASE.fullmatch(self.case_number):
            raise InvalidInput("a case number has 4 to 40 letters, digits and hyphens")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the laboratory said: its own number if it gave one, and whether it had it before."""

    lab_case: str = ""
    already_there: bool = False


@dataclass(frozen=True, slots=True)
class LabUpdate:
    """One word of a laboratory about one case; ``status`` is one of ours or empty.

    ``delivery_id`` is the same however often it is told.
    """

    delivery_id: str
    case_number: str
    status: str
    at: datetime
    lab_case: str = ""
    eta: datetime | None = None
    tracking: str = ""
    carrier: str = ""
    note: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.delivery_id or len(self.delivery_id) > 128:
            raise InvalidInput("an update has an id of at most 128 characters")
        if not _CASE.fullmatch(self.case_number):
            raise InvalidInput("an update names no case")
        if self.at.tzinfo is None or (self.eta is not None and self.eta.tzinfo is None):
            raise InvalidInput("an update's times have zones")
        for text in (self.tracking, self.carrier, self.note, self.lab_case):
            if len(text) > _TEXT:
                raise InvalidInput("an update's text is too long")


@dataclass(frozen=True, slots=True)
class Invoice:
    """One line of a laboratory's invoice: one case, one amount in the office's currency."""

    number: str
    case_number: str
    day: date
    amount: Decimal
    lab_case: str = ""
    patient_number: str = field(default="", repr=False)
    teeth: tuple[str, ...] = ()
    description: str = field(default="", repr=False)


class LabPartner(Protocol):
    """One way to reach one laboratory; calls block and may raise any error above.

    What a way cannot do is `Unsupported`.
    """

    @property
    def can_look(self) -> bool:
        """Whether `find` works, so that nothing is sent twice even after a crash."""
        ...

    @property
    def can_report(self) -> bool:
        """Whether `updates` works, so that the case is asked for where no webhook comes."""
        ...

    def submit(self, dispatch: Dispatch) -> Receipt:
        """Send a package once; the same case number with the same bytes again is one case."""
        ...

    def find(self, dispatch: Dispatch) -> Receipt | None:
        """Look whether this package is there already."""
        ...

    def updates(self, case_number: str) -> Sequence[LabUpdate]:
        """Ask how a case stands; all words so far, oldest first."""
        ...

    def invoices(self, since: date) -> Sequence[Invoice]:
        """Read the invoices written on or after a day."""
        ...
