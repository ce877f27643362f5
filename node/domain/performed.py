"""States of a performed procedure step, and of the scheduled step that it belongs to."""

from __future__ import annotations

from enum import StrEnum


class PerformedState(StrEnum):
    """Where a modality says that it stands (PS3.3 C.4.14, Performed Procedure Step Status)."""

    STARTED = "started"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"

    @classmethod
    def read(cls, text: str) -> PerformedState | None:
        """Read the defined term that DICOM uses; None for anything else."""
        return _TERMS.get(" ".join(text.upper().split()))

    @classmethod
    def is_told(cls, text: str) -> bool:
        """Whether what is stored of a scheduled step says that its device is done with it."""
        return bool(text) and cls(text).is_final

    @property
    def is_final(self) -> bool:
        """Whether the step may not be changed any more (PS3.4 F.7.2.2.2)."""
        return self is not PerformedState.STARTED


_TERMS = {
    "IN PROGRESS": PerformedState.STARTED,
    "COMPLETED": PerformedState.COMPLETED,
    "DISCONTINUED": PerformedState.DISCONTINUED,
}
