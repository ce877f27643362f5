"""Where a lab case stands, which step may follow, and what a patient is told about it.

draft → signed → sent → acknowledged → in production → shipped → received → checked → seated, or a
remake, or cancelled. Steps may be skipped forward: laboratories do not report all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from orchestration.labs.partner import LabUpdate


class LabState(StrEnum):
    """The state of one case; the value is stored."""

    DRAFT = "draft"
    SIGNED = "signed"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    IN_PRODUCTION = "in_production"
    SHIPPED = "shipped"
    RECEIVED = "received"
    CHECKED = "quality_checked"
    SEATED = "seated"
    REMAKE = "remake"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (LabState.SEATED, LabState.REMAKE, LabState.CANCELLED)


_ORDER = (
    LabState.DRAFT,
    LabState.SIGNED,
    LabState.SENT,
    LabState.ACKNOWLEDGED,
    LabState.IN_PRODUCTION,
    LabState.SHIPPED,
    LabState.RECEIVED,
    LabState.CHECKED,
    LabState.SEATED,
)
#: What a laboratory may report; the rest is seen here, in the practice.
REPORTED = frozenset(
    {LabState.ACKNOWLEDGED, LabState.IN_PRODUCTION, LabState.SHIPPED, LabState.CANCELLED}
)
#: Work that failed after it was seated is a new case, linked to this one.
_REMADE_FROM = frozenset({LabState.RECEIVED, LabState.CHECKED})

#: What a patient may be told; nothing clinical, and nothing of states that say nothing to them.
PATIENT_WORDS: dict[LabState, str] = {
    LabState.SENT: "Your dental work has been sent to the laboratory.",
    LabState.IN_PRODUCTION: "The laboratory is making your dental work.",
    LabState.SHIPPED: "Your dental work is on its way to our office.",
    LabState.CHECKED: "Your dental work is here and ready for your visit.",
}
#: What a patient is told when the work will not be here in time.
PATIENT_DELAY = "Your dental work takes a little longer. We will call you about your visit."


class Step(StrEnum):
    """What an update did to a case."""

    APPLIED = "applied"
    REPEATED = "repeated"  # the same state again, perhaps with news such as another date
    LATE = "late"  # an earlier step, told out of order
    BACKWARDS = "backwards"  # a newer word that takes a step back: a person looks
    REFUSED = "refused"  # the case has ended, or the laboratory may not say this


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stands by what was told so far; `at` is when the state was reached there."""

    state: LabState
    at: datetime
    eta: datetime | None = None
    eta_told_at: datetime | None = None
    tracking: str = ""
    carrier: str = ""
    notes: tuple[str, ...] = field(default=())


def may_follow(state: LabState, following: LabState) -> bool:
    """Tell whether a step forward from `state` to `following` exists."""
    if following is LabState.CANCELLED:
        return not state.is_final
    if following is LabState.REMAKE:
        return state in _REMADE_FROM
    if state.is_final or following not in _ORDER:
        return False
    if following is LabState.SEATED:
        return state is LabState.CHECKED
    return _ORDER.index(following) > _ORDER.index(state)


def hear(standing: Standing, update: LabUpdate) -> tuple[Standing, Step]:
    """Apply a laboratory's word; news such as a date count even when the step does not.

    A date told earlier than the one that is known does not replace it.
    """
    told = _with_news(standing, update)
    try:
        state = LabState(update.status)
    except ValueError:
        return told, Step.REPEATED
    if state not in REPORTED or standing.state.is_final:
        return standing, Step.REFUSED
    if state is standing.state:
        return told, Step.REPEATED
    if may_follow(standing.state, state):
        return replace(told, state=state, at=update.at), Step.APPLIED
    return told, Step.BACKWARDS if update.at > standing.at and _is_ours(standing) else Step.LATE


def _is_ours(standing: Standing) -> bool:
    """Before the work is here, a newer word backwards means something; afterwards it is stale."""
    return standing.state in REPORTED


def _with_news(standing: Standing, update: LabUpdate) -> Standing:
    known = standing.eta_told_at
    is_newer = update.eta is not None and (known is None or update.at >= known)
    note = update.note.strip()
    return replace(
        standing,
        eta=update.eta if is_newer else standing.eta,
        eta_told_at=update.at if is_newer else known,
        tracking=update.tracking or standing.tracking,
        carrier=update.carrier or standing.carrier,
        notes=standing.notes if not note or note in standing.notes else (*standing.notes, note),
    )
