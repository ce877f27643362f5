"""Groups of patients who are reminded alike, and who comes first."""

from __future__ import annotations

from enum import StrEnum

from orchestration.recall.due import Due, Track
from orchestration.recall.risk import Risk

_LONG_DAYS = 180


class Segment(StrEnum):
    """One group; the value is stored. Those above go out first."""

    PERIO = "perio"
    HIGH_RISK = "high_risk"
    CHILD = "child"
    OVERDUE = "overdue"
    DUE_SOON = "due_soon"
    LONG_OVERDUE = "long_overdue"
    LAPSED = "lapsed"  # no message: a person looks

    @property
    def rank(self) -> int:
        """Order of going out."""
        return list(Segment).index(self)


def segment_of(due: Due, risk: Risk, age: int | None, given_up_days: int) -> Segment:
    """Find the group of one due recall; perio and high risk count before anything else."""
    if due.days_overdue > given_up_days:
        return Segment.LAPSED
    if due.track is Track.PERIO:
        return Segment.PERIO
    if risk is Risk.HIGH:
        return Segment.HIGH_RISK
    if age is not None and age < 18:
        return Segment.CHILD
    if due.days_overdue > _LONG_DAYS:
        return Segment.LONG_OVERDUE
    return Segment.OVERDUE if due.days_overdue > 0 else Segment.DUE_SOON


def may_be_delayed(segment: Segment, risk: Risk) -> bool:
    """Tell whether a reminder may be part of a trial of delaying: low risk only, never perio."""
    return risk is Risk.LOW and segment in (Segment.DUE_SOON, Segment.OVERDUE, Segment.CHILD)
