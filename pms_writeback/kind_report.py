"""What one reading of one kind of record changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pms_writeback.record_rows import Written
from pms_writeback.records import RecordKind


@dataclass(frozen=True, slots=True)
class KindReport:
    """What one reading of one kind changed; ``is_whole`` says that it was complete.

    In a reconciliation `drift` counts what the readings of changes had missed. ``is_away`` says
    that the office did not answer at all.
    """

    kind: RecordKind
    is_whole: bool = False
    read: int = 0
    added: int = 0
    changed: int = 0
    gone: int = 0
    error: str = ""
    is_away: bool = False

    @property
    def drift(self) -> int:
        """How many records differed."""
        return self.added + self.changed + self.gone

    def counting(self, written: Written) -> KindReport:
        """Add what one write changed."""
        return replace(
            self,
            added=self.added + len(written.added),
            changed=self.changed + len(written.changed),
            gone=self.gone + len(written.gone),
        )

    def plus(self, more: KindReport) -> KindReport:
        """Add another reading of the same kind; the first error stays."""
        return replace(
            self,
            read=self.read + more.read,
            added=self.added + more.added,
            changed=self.changed + more.changed,
            gone=self.gone + more.gone,
            error=self.error or more.error,
            is_away=self.is_away or more.is_away,
        )
