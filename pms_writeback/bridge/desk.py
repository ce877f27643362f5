"""The node's desk for one bridge: questions wait here until the bridge fetches and answers them.

A question that was handed out and not answered is handed out again when the line comes back, as
long as its asker waits: every question may be asked twice without harm.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from node.errors import Conflict, Retryable
from pms_writeback.bridge.protocol import Answer, Json, Request
from pms_writeback.pms import OfficeAway, OutcomeUnknown

AWAY_AFTER_S = 60.0
"""A bridge that was silent this long counts as away."""

AWAY = "the bridge at the clinic is not connected"
_MAX_BATCH = 16


@dataclass(frozen=True, slots=True)
class Guest:
    """The bridge that is connected: what it said of itself, and how far its clock is ahead."""

    about: Json
    version: int
    clock_offset: timedelta


@dataclass(slots=True)
class _Asked:
    request: Request
    at: float
    handed_to: str = ""
    answer: Answer | None = None


@dataclass(slots=True)
class Desk:
    """Questions and answers of one location; safe to use from several threads."""

    monotonic: Callable[[], float] = time.monotonic
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _open: dict[str, _Asked] = field(default_factory=dict)
    _session: str = ""
    _guest: Guest | None = None
    _heard_at: float = 0.0
    _is_closed: bool = False

    @property
    def guest(self) -> Guest:
        """The connected bridge; raises OfficeAway when there is none."""
        with self._changed:
            if self._guest is None or self.monotonic() - self._heard_at > AWAY_AFTER_S:
                raise OfficeAway(AWAY, 15.0)
            return self._guest

    def ask(self, method: str, params: Mapping[str, object], timeout_s: float) -> Json:
        """Ask the bridge one of `protocol.Method` and wait for its answer's value.

        Raises
        ------
        Retryable
            The bridge is away; it never saw the question.
        OutcomeUnknown
            The bridge fetched the question and did not answer in time.
        BitewingError
            What the bridge answered with.
        """
        _ = self.guest
        asked = _Asked(Request(secrets.token_hex(8), str(method), params), self.monotonic())
        limit = self.monotonic() + timeout_s
        with self._changed:
            self._open[asked.request.id] = asked
            self._changed.notify_all()
            try:
                while asked.answer is None:
                    left = limit - self.monotonic()
                    if left <= 0 or self._is_closed:
                        raise _no_answer(asked)
                    self._changed.wait(min(left, 1.0))
            finally:
                del self._open[asked.request.id]
        return asked.answer.result()

    def greet(self, guest: Guest) -> str:
        """Take up a bridge that says hello; an earlier session ends. Returns the session's id."""
        with self._changed:
            self._session, self._guest = secrets.token_hex(16), guest
            self._heard_at = self.monotonic()
            self._changed.notify_all()
            return self._session

    def take(self, session: str, wait_s: float) -> tuple[Request, ...]:
        """Hand out what this session has not seen, waiting for something to come.

        Raises Conflict when the session is over.
        """
        limit = self.monotonic() + wait_s
        with self._changed:
            while True:
                self._check(session)
                self._heard_at = self.monotonic()
                unseen = [each for each in self._open.values() if each.handed_to != session]
                if unseen or self._is_closed or self.monotonic() >= limit:
                    break
                self._changed.wait(max(min(limit - self.monotonic(), 1.0), 0.01))
            now = self.monotonic()
            for each in unseen[:_MAX_BATCH]:
                each.handed_to = session
            return tuple(replace(each.request, age_s=now - each.at) for each in unseen[:_MAX_BATCH])

    def note_clock(self, session: str, offset: timedelta) -> None:
        """Keep a newer measurement of the bridge's clock; raises Conflict."""
        with self._changed:
            self._check(session)
            if self._guest is not None:
                self._guest = Guest(self._guest.about, self._guest.version, offset)

    def put_answer(self, answer: Answer) -> None:
        """Lay an answer down; one that nobody waits for any more is dropped."""
        with self._changed:
            self._heard_at = self.monotonic()
            asked = self._open.get(answer.id)
            if asked is not None and asked.answer is None:
                asked.answer = answer
                self._changed.notify_all()

    def dismiss(self) -> None:
        """End the session, for a revoked certificate."""
        with self._changed:
            self._session, self._guest = "", None
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing is asked here any more."""
        return self._is_closed

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _check(self, session: str) -> None:
        if not self._session or session != self._session:
            raise Conflict("this session is over; say hello again")


def _no_answer(asked: _Asked) -> Retryable:
    if not asked.handed_to:
        return OfficeAway(AWAY, 15.0)
    return OutcomeUnknown("the bridge fetched the question and did not answer in time", 15.0)
