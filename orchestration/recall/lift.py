"""What reminders bring, measured by delaying a random part of low-risk ones. Off by default.

Who is delayed follows from the seed and the case's key alone, so that the draw can be repeated
and checked. During the delay the delayed are the comparison: bookings in those days, prompt
against delayed, as a difference of shares with Newcombe's interval (Wilson score, method 10 in
R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import sqrt

from node.domain.intervals import wilson


class Arm(StrEnum):
    """The value is stored."""

    PROMPT = "prompt"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One reminder in the measurement."""

    arm: Arm
    assigned_at: datetime
    delay_days: int
    booked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lift:
    """Bookings of those written to at once against those delayed; shares, 95 % interval."""

    prompt: int
    prompt_booked: int
    delayed: int
    delayed_booked: int
    difference: float
    low: float
    high: float


def draw(seed: str, case_key: str, share: float) -> Arm:
    """Draw the arm of one reminder; `share` is the part that is delayed."""
    digest = hmac.new(seed.encode(), case_key.encode(), hashlib.sha256).digest()
    return Arm.DELAYED if int.from_bytes(digest[:8]) < share * 2**64 else Arm.PROMPT


def measure(trials: Iterable[Trial], now: datetime) -> Lift | None:
    """Compare the arms over trials whose days of delay are over; None while an arm is empty."""
    counts = {Arm.PROMPT: [0, 0], Arm.DELAYED: [0, 0]}
    for trial in trials:
        end = trial.assigned_at + timedelta(days=trial.delay_days)
        if end > now:
            continue
        booked = trial.booked_at is not None and trial.booked_at < end
        counts[trial.arm][0] += 1
        counts[trial.arm][1] += booked
    (n1, x1), (n2, x2) = counts[Arm.PROMPT], counts[Arm.DELAYED]
    if not n1 or not n2:
        return None
    p1, p2 = x1 / n1, x2 / n2
    (low1, high1), (low2, high2) = wilson(x1, n1), wilson(x2, n2)
    difference = p1 - p2
    low = difference - sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    high = difference + sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return Lift(n1, x1, n2, x2, difference, low, high)
