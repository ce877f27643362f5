"""Faults on command: what the wire, the office and its clock do wrong, and for how often."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pms_writeback.sandbox.store import Store
from pms_writeback.sandbox.tables import TABLES

FaultKind = Literal[
    "status",
    "status_after_commit",
    "delay",
    "delay_after_commit",
    "commit_then_drop",
    "drop_before_commit",
    "cut_answer",
    "ignore_filters",
    "hide_newest",
    "offline",
    "skew",
    "clock",
    "update_in_progress",
    "clear",
]

_TEXTS = {
    400: "Office eConnector is not responding. Check the office's connectivity.",
    423: "Lock wait timeout exceeded; try restarting transaction",
    429: "Too many requests.",
    500: "An unexpected error occurred.",
    502: "Bad gateway.",
    503: "Service unavailable.",
    504: "The request timed out after 60 seconds.",
}


class Fault(BaseModel):
    """One fault to arm.

    ``count`` requests are hit, those of ``methods`` whose path begins with ``path``, once ``after``
    of them went well. ``seconds`` is the delay, the clock's skew, or Retry-After of a status;
    ``text`` the sentence of a status, or the moment that ``clock`` shows. ``computer`` is who
    updates the office (empty: nobody). ``on`` switches ``offline``.
    """

    model_config = ConfigDict(extra="forbid")

    kind: FaultKind
    count: int = Field(1, ge=0, le=100_000)
    after: int = Field(0, ge=0, le=100_000)
    status: int = Field(503, ge=400, le=599)
    text: str = ""
    seconds: float = Field(0.0, ge=-1_000_000, le=1_000_000)
    methods: tuple[str, ...] = ()
    path: str = "/"
    on: bool = True
    computer: str = "SERVER"

    @property
    def sentence(self) -> str:
        """What the body of a status fault says."""
        return self.text or _TEXTS.get(self.status, "An unexpected error occurred.")

    @property
    def moment(self) -> datetime:
        """The instant that ``clock`` sets; raises ValueError when the text is none."""
        moment = datetime.fromisoformat(self.text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _shows_a_moment(self) -> Self:
        if self.kind == "clock":
            _ = self.moment
        return self

    def hits(self, method: str, path: str) -> bool:
        """Tell whether this request is one of those to break."""
        return path.startswith(self.path) and (not self.methods or method in self.methods)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int
    after: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One answered request, without bodies; ``status`` 0 means that no answer was sent."""

    at: str
    method: str
    path: str
    query: str
    status: int
    milliseconds: float


class Faults:
    """The armed faults and the log of requests; safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._armed: deque[_Armed] = deque()
        self._log: deque[LogEntry] = deque(maxlen=5_000)
        self.is_offline = False

    def arm(self, fault: Fault) -> None:
        """Arm a fault, or apply it at once where it is a state."""
        match fault.kind:
            case "clear":
                self._clear()
            case "offline":
                self.is_offline = fault.on
            case "skew":
                self._store.clock.skew = timedelta(seconds=fault.seconds)
            case "clock":
                self._store.clock.show(fault.moment)
            case "update_in_progress":
                self._set_updating(fault.computer if fault.on else "")
            case _:
                with self._lock:
                    self._armed.append(_Armed(fault, fault.count, fault.after))

    def take(self, method: str, path: str) -> Fault | None:
        """Take the first armed fault that hits this request."""
        with self._lock:
            for armed in self._armed:
                if armed.left <= 0 or not armed.fault.hits(method, path):
                    continue
                if armed.after > 0:
                    armed.after -= 1
                    continue
                armed.left -= 1
                return armed.fault
        return None

    def note(self, entry: LogEntry) -> None:
        """Keep one line of the request log."""
        with self._lock:
            self._log.append(entry)

    def log(self) -> tuple[LogEntry, ...]:
        """Give the last requests, oldest first."""
        with self._lock:
            return tuple(self._log)

    def _clear(self) -> None:
        with self._lock:
            self._armed.clear()
        self.is_offline = False
        self._store.clock.skew = timedelta()
        self._set_updating("")

    def _set_updating(self, computer: str) -> None:
        name = TABLES["preferences"].c.PrefName
        with self._store.begin() as chart:
            for row in chart.select("preferences", name == "UpdateInProgressOnComputerName"):
                chart.change("preferences", int(row["PrefNum"]), {"ValueString": computer})
