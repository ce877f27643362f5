"""The steps of a reminder across channels: pure, from what was sent and when.

A step names its template and how long after the one before it comes. The first step of `due_soon`
and `child` waits for its day before the due day; the others go out at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.messengers.consent import Way
from orchestration.messengers.message import Channel
from orchestration.recall.segments import Segment


@dataclass(frozen=True, slots=True)
class Step:
    """One message: its template, and days after the one before."""

    template: str
    after_days: int
    turns_channel: bool = False  # by the other way, where there is one


@dataclass(frozen=True, slots=True)
class Touch:
    """One step that was done; `channel` None when it could not be sent by any way."""

    step: int
    channel: Channel | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Send:
    """The next message: which step, which way, not before when."""

    step: int
    template: str
    way: Way
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    """There is no further message; `needs_person` says that somebody should call."""

    reason: str
    needs_person: bool


_SOON = (Step("invite", 0), Step("reminder", 14), Step("overdue", 14, True), Step("last", 21))
SEQUENCES: dict[Segment, tuple[Step, ...]] = {
    Segment.PERIO: (Step("important", 0), Step("reminder", 4, True), Step("important", 7)),
    Segment.HIGH_RISK: (Step("important", 0), Step("reminder", 4, True), Step("important", 7)),
    Segment.CHILD: (Step("child", 0), Step("child_reminder", 14), Step("child_reminder", 21, True)),
    Segment.DUE_SOON: _SOON,
    Segment.OVERDUE: (Step("overdue", 0), Step("reminder", 7, True), Step("last", 21)),
    Segment.LONG_OVERDUE: (Step("welcome_back", 0), Step("last", 21, True)),
    Segment.LAPSED: (),
}
#: Whom somebody should call when messages brought nothing.
_CALLED = (Segment.PERIO, Segment.HIGH_RISK, Segment.OVERDUE, Segment.LAPSED)


def next_step(
    segment: Segment, touches: Sequence[Touch], ways: Sequence[Way], now: datetime
) -> Send | Finish:
    """Plan the next message after `touches`, by one of the `ways`, the preferred one first."""
    steps = SEQUENCES[segment]
    number = max((touch.step for touch in touches), default=-1) + 1
    if not steps:
        return Finish("overdue for too long", True)
    if number >= len(steps):
        return Finish("no answer", segment in _CALLED)
    if not ways:
        return Finish("no way to write", True)
    step = steps[number]
    last = touches[-1] if touches else None
    way = ways[0]
    if step.turns_channel and last is not None and len(ways) > 1:
        way = next((each for each in ways if each.channel is not last.channel), way)
    not_before = now if last is None else last.at + timedelta(days=step.after_days)
    return Send(number, step.template, way, max(now, not_before))
