"""A case as a stage sees it: its data, and the few things it may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, Protocol, TypeVar, cast

from node.config import Mode
from node.errors import Forbidden
from orchestration.access import Chart
from orchestration.workflow import Draft, Json, Workflow
from pms_writeback import outbox
from pms_writeback.pms import Command
from pms_writeback.records import PmsRecord, RecordKind

P = ParamSpec("P")
R = TypeVar("R")


class Ledger(Protocol):
    """What a case has done outside, kept for ever; see `orchestration.steps`."""

    def once(self, case_id: str, name: str, act: Callable[[], Json]) -> Json:
        """Return the result that is kept under `name`, or act and keep its result."""
        ...

    def outside(
        self,
        case_id: str,
        partner: str,
        name: str,
        act: Callable[[], Json],
        find: Callable[[], Json | None] | None,
    ) -> Json:
        """Do the same towards an outside party: in its pace, not while it is paused."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said to a draft; `draft` is the one that counts, edited or not."""

    kind: str
    verdict: str  # approved, edited, refused
    draft: Draft = field(repr=False)
    by: str  # a user's id
    at: datetime
    reason: str = field(default="", repr=False)

    @property
    def is_approved(self) -> bool:
        """Whether the draft may go out."""
        return self.verdict in ("approved", "edited")


@dataclass(slots=True)
class Case:
    """One case during one stage.

    `data` holds JSON values and is committed, with what was queued, when the stage returns. A
    stage may run twice (a crash, a later retry): what it does outside goes through
    :meth:`once` and :meth:`outside`.
    """

    id: str
    key: str
    workflow: Workflow
    mode: Mode
    patient_id: str | None
    data: Draft
    now: datetime
    chart: Chart
    ledger: Ledger = field(repr=False)
    decision: Decision | None = None
    topic: str = ""
    signal: Draft = field(default_factory=dict)
    queued: list[tuple[str, Command]] = field(default_factory=list)
    notes: list[Draft] = field(default_factory=list)

    @property
    def is_silent(self) -> bool:
        """Whether this workflow only runs for comparison."""
        return self.mode is Mode.SILENT

    @property
    def is_reopened(self) -> bool:
        """Whether a person has just taken this case up again after it had ended."""
        return self.topic == "reopened"

    def clock(self) -> datetime:
        """Tell the time, the same throughout a stage."""
        return self.now

    def records(self, kind: RecordKind) -> list[PmsRecord]:
        """Read the patient's records of a kind that the workflow declares."""
        return self.chart.records(kind)

    def once(
        self, name: str, function: Callable[P, Json], *args: P.args, **kwargs: P.kwargs
    ) -> Json:
        """Call a function whose JSON result is kept: later runs of this case get that result."""
        return self.ledger.once(self.id, name, lambda: function(*args, **kwargs))

    def outside(
        self,
        partner: str,
        name: str,
        act: Callable[[], Json],
        find: Callable[[], Json | None] | None = None,
    ) -> Json:
        """Call an outside party once: its answer is kept under `name`.

        When an earlier call's answer was lost, `find` looks whether it landed (its answer, or
        None) before `act` is called again; `act` must carry an idempotency key where the party
        takes one. It raises Retryable to be called again later.

        Raises
        ------
        Forbidden
            The workflow does not declare the partner, or runs silently.
        Retryable
            Outbound calls are paused, or the partner's pace is used up.
        """
        if partner not in self.workflow.partners:
            raise Forbidden(f"the workflow {self.workflow.name} does not declare {partner}")
        if self.is_silent and partner not in self.workflow.silent_partners:
            raise Forbidden(f"the workflow {self.workflow.name} runs silently")
        return self.ledger.outside(self.id, partner, name, act, find)

    def command_key(self, name: str) -> str:
        """Give the outbox key of a command of this case."""
        return f"case:{self.id}:{name}"

    def ref(self, name: str) -> str:
        """Give the token that the command of this name must carry."""
        return outbox.ref_for(self.chart.location_id, self.command_key(name))

    def queue(self, name: str, command: Command) -> None:
        """Queue a command to the PMS, committed with this stage, once per name.

        Raises
        ------
        Forbidden
            The workflow does not declare it, runs silently, or the case has no patient.
        """
        if type(command) not in self.workflow.writes:
            kind = type(command).__name__
            raise Forbidden(f"the workflow {self.workflow.name} does not declare {kind}")
        if self.is_silent or self.patient_id is None:
            raise Forbidden(f"a case of {self.workflow.name} may not write to the PMS here")
        self.queued.append((name, command))

    def note(self, **words: Json) -> None:
        """Add to the timeline that people see: ids, counts and words of ours, no patient data."""
        self.notes.append(cast("Draft", dict(words)))
