"""How often one key may ask: a token bucket over all threads, and "wait" taken at its word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pms_writeback.pms import OfficeAway


class TokenBucket:
    """One token a request; a token comes back every `interval_s`, at most `burst` are kept.

    An interval of 0 is no limit. Waits for a token are slept; a longer rest that the other side
    asked for (`hold`) is refused instead, so that nobody's thread sleeps for minutes.
    """

    def __init__(
        self,
        interval_s: float,
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = interval_s
        self._slack_s = (max(burst, 1) - 1) * interval_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._empty_until = float("-inf")
        self._held_until = float("-inf")

    def take(self) -> None:
        """Sleep until a token is there and take it; raises OfficeAway while the bucket is held."""
        with self._lock:
            now = self._clock()
            if now < self._held_until:
                raise OfficeAway("the office asked to wait", self._held_until - now)
            start = max(now, self._empty_until)
            self._empty_until = start + self._interval_s
            wait_s = start - self._slack_s - now
        if wait_s > 0:
            self._sleep(wait_s)

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so long; a shorter wait never shortens a longer one."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)
