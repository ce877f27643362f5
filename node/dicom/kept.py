"""What becomes of an object that was sent, and what its sender is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SUCCESS = 0x0000
#: PS3.4 Table B.2-1 offers three warnings. B000 says that we changed elements and B006 that we
#: dropped some; neither is true, both copies are kept whole. B007, "the data set does not match",
#: is the one that tells the sender to look at what it sent.
DOES_NOT_MATCH = 0xB007


class Kept(Enum):
    """What became of one C-STORE."""

    STORED = "stored"
    SAME_AGAIN = "same_again"  # the bytes were here already; nothing was written
    RESTORED = "restored"  # the bytes were known, but their file was gone
    BESIDE = "beside"  # other bytes under a known SOP Instance UID


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The answer to one C-STORE, given after everything is on the disk."""

    kept: Kept
    status: int
    instance_id: str
    study_id: str
