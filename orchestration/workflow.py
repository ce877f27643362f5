"""How a workflow is written: one file, stages read top to bottom, each ending in an outcome.

A case of a workflow is a row; it runs a *leg* at a time, stage after stage until it must wait for
a moment, a signal or a person. Waiting costs nothing and survives anything, as the row holds all
that is needed to go on. What a workflow may read, write and call is declared in its header and
nothing else is given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from node.domain.events import EventKind
from node.domain.rights import Right, Role
from pms_writeback.pms import Command
from pms_writeback.records import RecordKind

if TYPE_CHECKING:
    from orchestration.access import Chart
    from orchestration.case import Case

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]
Draft = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Go:
    """The next stage follows at once."""

    stage: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The next stage follows at a moment, or another one when a signal of a topic comes first."""

    stage: str = ""
    until: datetime | None = None
    on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """A person with `right` approves, edits or refuses a draft; the stage `then` follows.

    When nobody does by `timeout`, it is escalated to a role with a task in the PMS, and goes on
    waiting; with `late` that stage follows instead and the question is withdrawn. In silent mode
    nobody is asked: the case ends, or goes on with the stage `silent`.
    """

    kind: str
    title: str
    draft: Draft
    right: Right
    then: str
    timeout: timedelta
    escalate_to: Role
    late: str = ""
    silent: str = ""
    on: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The case has ended; `result` is a word for the figures, such as "booked"."""

    result: str


@dataclass(frozen=True, slots=True)
class Park:
    """The case can go no further by itself; a person reads why, mends it and retries, or ends it.

    `reason` is a sentence of ours without patient data.
    """

    reason: str


Outcome = Go | Wait | Ask | Done | Park
Stage = Callable[["Case"], Outcome]


@dataclass(frozen=True, slots=True)
class Start:
    """A case to start under `key`; the same key again starts nothing."""

    key: str
    patient_id: str | None = None
    data: Draft = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signal:
    """Something for a case that is found by its key; `delivery_id` again has no effect."""

    key: str
    topic: str
    delivery_id: str
    payload: Draft = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Happened:
    """An event as a hook sees it: what, to which opaque id, with which ids and states."""

    seq: int
    kind: EventKind
    subject: str
    data: Mapping[str, Json]
    at: datetime


Hook = Callable[["Chart", Happened], Iterable[Start | Signal]]
Sweep = Callable[["Chart", date], Iterable[Start | Signal]]


class Module(StrEnum):
    """What else of ours a workflow may read, besides records of the PMS."""

    IDENTITY = "identity"  # names and birth dates
    APPOINTMENTS = "appointments"
    REVIEWS = "reviews"  # signed ones only; what is unsigned reaches no workflow
    IMAGES = "images"
    CONTACT = "contact"  # addresses, preferred ways, and what people chose


@dataclass(eq=False, slots=True)
class Workflow:
    """The header of a workflow and its stages.

    Parameters
    ----------
    name
        Stored with every case; never changed.
    title
        How people call it.
    reads, writes, partners
        The kinds of PMS record and the modules it may read, the commands it may queue and the
        outside parties it may call.
    silent_partners
        Those of `partners` that it may call in silent mode: sandboxes only.
    renamed
        Names of stages of earlier releases and what they are called now.
    again
        Results after which a person may take an ended case up again, such as a refusal by mistake,
        and the stage it goes on with; `Case.is_reopened` is true there.
    """

    name: str
    title: str
    reads: frozenset[RecordKind | Module] = frozenset()
    writes: frozenset[type[Command]] = frozenset()
    partners: frozenset[str] = frozenset()
    silent_partners: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    undoings: dict[str, Callable[[Case, Json], None]] = field(default_factory=dict)
    checks: dict[str, Callable[[Draft], None]] = field(default_factory=dict)
    hooks: dict[EventKind, list[Hook]] = field(default_factory=dict)
    sweeps: dict[str, tuple[time, Sweep]] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The stage where a case starts: the first one in the file."""
        return next(iter(self.stages))

    def stage(self, function: Stage) -> Stage:
        """Register a stage under its function's name."""
        self.stages[function.__name__] = function
        return function

    def undo(self, step: str) -> Callable[[Callable[[Case, Json], None]], object]:
        """Register how a done step is taken back when its case is cancelled.

        `step` names it up to a colon: ``"submit"`` stands for ``"submit:2"`` too. The result it is
        called with is None when the step began and nobody knows whether it landed.
        """

        def register(function: Callable[[Case, Json], None]) -> object:
            self.undoings[step] = function
            return function

        return register

    def check_draft(self, kind: str) -> Callable[[Callable[[Draft], None]], object]:
        """Register what an edited draft of a kind must hold; it raises InvalidInput."""

        def register(function: Callable[[Draft], None]) -> object:
            self.checks[kind] = function
            return function

        return register

    def on(self, kind: EventKind) -> Callable[[Hook], Hook]:
        """Register what an event starts or signals; events may come more than once."""

        def register(function: Hook) -> Hook:
            self.hooks.setdefault(kind, []).append(function)
            return function

        return register

    def daily(self, at: str) -> Callable[[Sweep], Sweep]:
        """Register what starts every day at ``HH:MM`` of practice time, late if it was off."""

        def register(function: Sweep) -> Sweep:
            self.sweeps[function.__name__] = (time.fromisoformat(at), function)
            return function

        return register

    def resolve(self, stage: str) -> Stage | None:
        """Find a stage by its stored name, of this release or of an earlier one."""
        return self.stages.get(self.renamed.get(stage, stage))


def go(stage: Stage) -> Go:
    """Go on with `stage` at once."""
    return Go(stage.__name__)


def wait(
    then: Stage | None = None,
    *,
    until: datetime | None = None,
    on: Mapping[str, Stage] | None = None,
) -> Wait:
    """Wait until a moment for `then`, or for the first signal of a topic in `on`.

    Raises
    ------
    ValueError
        There is nothing to wait for.
    """
    if (until is None and not on) or (until is not None) != (then is not None):
        raise ValueError("wait for a moment with its stage, for signals, or for both")
    return Wait(then.__name__ if then else "", until, _names(on))


def ask(
    kind: str,
    *,
    title: str,
    draft: Draft,
    right: Right,
    then: Stage,
    timeout: timedelta,
    escalate_to: Role,
    late: Stage | None = None,
    silent: Stage | None = None,
    on: Mapping[str, Stage] | None = None,
) -> Ask:
    """Hold `draft` until a person decides: see :class:`Ask`."""
    return Ask(
        kind, title, draft, right, then.__name__, timeout, escalate_to,
        late.__name__ if late else "", silent.__name__ if silent else "", _names(on),
    )  # fmt: skip


def done(result: str) -> Done:
    """End the case with a word for the figures."""
    return Done(result)


def park(reason: str) -> Park:
    """Stop here until a person has looked."""
    return Park(reason)


def _names(on: Mapping[str, Stage] | None) -> dict[str, str]:
    return {topic: stage.__name__ for topic, stage in (on or {}).items()}
