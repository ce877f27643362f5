"""What arrived in the sandbox, and the faults that are armed; safe to use from any thread."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from node.errors import InvalidInput

Door = Literal["smtp", "sms", "chat"]
FaultKind = Literal[
    "down", "slow", "busy", "commit_then_drop", "bounce", "stop_reply", "delayed_callback", "clear"
]

_MAX_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the next `count` messages at `door` meet it; ``down`` lasts until cleared.

    ``slow`` answers after `seconds`; ``busy`` refuses for now; ``commit_then_drop`` takes the
    message and breaks off; ``bounce`` knows no such recipient; ``stop_reply`` has the recipient
    answer STOP; ``delayed_callback`` tells what became of it after `seconds`.
    """

    kind: FaultKind
    door: Door = "sms"
    count: int = 1
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind) or self.door not in get_args(Door):
            raise InvalidInput(f"no such fault; kinds are {', '.join(get_args(FaultKind))}")
        if not 0 <= self.count <= 100_000 or not 0 <= self.seconds <= 600:
            raise InvalidInput("a fault's count or seconds are out of range")


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message that the sandbox took; ``key`` is a Message-ID or an idempotency key."""

    id: str
    door: Door
    key: str
    sender: str
    to: str
    subject: str
    text: str
    status: str
    headers: str = field(default="", repr=False)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Inbox:
    """Everything that arrived, newest last; the numbers that opted out; the armed faults."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._messages: deque[Arrived] = deque(maxlen=_MAX_KEPT)
        self._faults: list[list[object]] = []
        self._down: set[str] = set()
        self._opted_out: set[str] = set()
        self.on_change: Callable[[], None] | None = None

    def put(self, arrived: Arrived) -> Arrived:
        """Keep one message."""
        with self._lock:
            self._messages.append(arrived)
            self._lock.notify_all()
        return arrived

    def set_status(self, message_id: str, status: str) -> None:
        """Say what became of a message."""
        with self._lock:
            for index, each in enumerate(self._messages):
                if each.id == message_id:
                    self._messages[index] = replace(each, status=status)
            self._lock.notify_all()

    def messages(self, door: Door | None = None, to: str | None = None) -> list[Arrived]:
        """Give what arrived, oldest first."""
        with self._lock:
            return [
                each
                for each in self._messages
                if door in (None, each.door) and to in (None, each.to)
            ]

    def by_key(self, door: Door, key: str) -> Arrived | None:
        """Find the message under a key."""
        with self._lock:
            return next((e for e in self._messages if e.door == door and e.key == key), None)

    def wait_for(self, condition: Callable[[list[Arrived]], bool], timeout_s: float) -> bool:
        """Wait until the messages satisfy a condition; False when they do not in time."""
        with self._lock:
            return self._lock.wait_for(lambda: condition(list(self._messages)), timeout_s)

    def arm(self, fault: Fault) -> None:
        """Arm a fault; ``clear`` disarms all."""
        with self._lock:
            if fault.kind == "clear":
                self._faults.clear()
                self._down.clear()
            elif fault.kind == "down":
                self._down.add(fault.door)
            else:
                self._faults.append([fault, fault.count])

    def is_down(self, door: Door) -> bool:
        """Tell whether a door takes no connection."""
        with self._lock:
            return door in self._down

    def take(self, door: Door, *kinds: FaultKind) -> Fault | None:
        """Use up the first armed fault of these kinds at a door."""
        with self._lock:
            for armed in self._faults:
                fault, left = armed
                assert isinstance(fault, Fault)
                assert isinstance(left, int)
                if left > 0 and fault.door == door and fault.kind in kinds:
                    armed[1] = left - 1
                    return fault
        return None

    def opt(self, number: str, *, out: bool) -> None:
        """Remember that a number wants no more messages, or wants them again."""
        with self._lock:
            (self._opted_out.add if out else self._opted_out.discard)(number)

    def has_opted_out(self, number: str) -> bool:
        """Tell whether a number wants no messages."""
        with self._lock:
            return number in self._opted_out


def new_message_id(prefix: str) -> str:
    """Make a provider's id."""
    return f"{prefix}{secrets.token_hex(12)}"
