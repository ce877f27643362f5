"""When the bridge may touch the practice's system: capacity windows and the kill switch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

from node.errors import ConfigError, Retryable
from pms_writeback.bridge.journal import Journal
from pms_writeback.pms import OfficeTime

STOP_FILE = "STOP"
_NODE_STOP = "stopped_by_node"
STOP_WAIT_S = 60.0
WINDOW_WAIT_S = 300.0


class Stopped(Retryable):
    """Somebody switched the bridge off; nothing was done."""


@dataclass(frozen=True, slots=True)
class HourSpan:
    """A span of the office's day; one that ends before it begins goes over midnight."""

    begins: time
    ends: time

    @classmethod
    def parse(cls, words: str) -> HourSpan:
        """Read ``12:00-13:30``; raises ConfigError."""
        found = re.fullmatch(r"(\d\d?:\d\d)\s*-\s*(\d\d?:\d\d)", words.strip())
        try:
            if found is None:
                raise ValueError
            begins, ends = (time.fromisoformat(part.zfill(5)) for part in found.groups())
        except ValueError:
            raise ConfigError(f"not hours of the day: {words[:30]!r} (12:00-13:30)") from None
        return cls(begins, ends)

    def holds(self, moment: time) -> bool:
        """Tell whether a wall-clock time lies in it; equal ends mean the whole day."""
        if self.begins < self.ends:
            return self.begins <= moment < self.ends
        return moment >= self.begins or moment < self.ends


@dataclass(frozen=True, slots=True)
class Hours:
    """Spans of the office's day; none means always."""

    spans: tuple[HourSpan, ...]
    office: OfficeTime

    @classmethod
    def parse(cls, words: Sequence[str], office: OfficeTime) -> Hours:
        """Read a list of spans; raises ConfigError."""
        return cls(tuple(HourSpan.parse(each) for each in words), office)

    def are_open(self, now: datetime) -> bool:
        """Tell whether `now` lies in one of them."""
        wall = self.office.to_wall(now).time()
        return not self.spans or any(span.holds(wall) for span in self.spans)


class KillSwitch:
    """Off by a file beside the bridge's data, or by the node; the node's word outlives restarts."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._file = folder / STOP_FILE
        self._journal = journal

    @property
    def reason(self) -> str:
        """Why the bridge is stopped; empty when it may work."""
        if self._file.exists():
            return f"stopped on the clinic's machine (file {STOP_FILE})"
        return "stopped by the node" if self.is_stopped_by_node else ""

    @property
    def is_stopped_by_node(self) -> bool:
        """Tell whether the node's last word was to stop."""
        return bool(self._journal.setting(_NODE_STOP))

    def obey(self, is_stopped: bool) -> None:
        """Keep what the node says."""
        self._journal.remember(_NODE_STOP, "yes" if is_stopped else "")

    def check(self) -> None:
        """Raise `Stopped` when the bridge may not touch the practice's system."""
        if reason := self.reason:
            raise Stopped(f"the bridge is {reason}", retry_after_s=STOP_WAIT_S)
