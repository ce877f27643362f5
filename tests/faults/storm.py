"""Queued writes of many patients under planned faults: what landed, how often, in which order.

The node's side is the outbox's own delivery over a simulated clock. What a practice is, and how its
trouble is made, is the business of who uses this.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id, read
from node.db.tables import patient, patient_identity, pms_command
from node.dicom.instances import FolderStore
from node.domain.study import name_key
from node.engine import DurableEngine
from pms_writeback import outbox
from pms_writeback.delivery import Delivery, Patience
from pms_writeback.pms import AppendCommlog, Command, Pms, Receipt

ACTOR = Actor("test", "main")
WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
ENGINE_KEY = b"a test's engine key, 32 bytes..!"


class Killed(BaseException):
    """The node's process ends here, as far as its database can tell."""


@dataclass
class SimulatedClock:
    """Time that passes when it is told to; the practice lives in real time."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Report:
    """What a storm came to."""

    writes: int
    faults: Counter[str]
    seconds: float
    missing: int
    doubled: int
    out_of_order: int
    asked_a_person: int

    @property
    def is_exact(self) -> bool:
        """Say whether every write landed once and in its patient's order."""
        return not (self.missing or self.doubled or self.out_of_order)

    def table(self) -> str:
        """Write it as the rows of a benchmark."""
        rows = (
            ("writes queued", self.writes, "1,000"),
            ("faults met", sum(self.faults.values()), "200"),
            ("missing in the practice", self.missing, "0"),
            ("doubled", self.doubled, "0"),
            ("patients out of order", self.out_of_order, "0"),
            ("a person asked", self.asked_a_person, "–"),
            ("the whole storm, s", round(self.seconds), "–"),
        )
        head = "| measure | value | target |\n|---|--:|--:|\n"
        return head + "\n".join(f"| {name} | {value} | {aim} |" for name, value, aim in rows)


@dataclass
class Writes:
    """Writes of some patients, each under its key, and the faults that befall them.

    A storm says what one fault does (`meet`) and what the practice holds afterwards (`landed`).
    """

    db: sa.Engine
    pms: Pms
    engine: DurableEngine
    store: FolderStore
    seed: int = 1
    grace_s: float = 5.0
    plan: dict[str, str] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def meet(self, fault: str, command: Command) -> Receipt:
        """Let one thing go wrong around one write."""
        raise NotImplementedError

    def landed(self) -> Sequence[tuple[str, str]]:
        """Give patient key and token of each record in the practice, in their order."""
        raise NotImplementedError

    def compose(self, patient_key: str, ref: str) -> Command:
        """Compose one write."""
        return AppendCommlog(patient_key, "Signed.", WHEN, ref)

    def run(self, kinds: Sequence[str], writes: int, faults: int, patients: int = 10) -> Report:
        """Queue the writes, deliver them all, and count what landed."""
        begun = time.monotonic()
        keys = [str(number + 1) for number in range(patients)]
        owners = self.add_patients(keys)
        order = [self.chance.choice(keys) for _ in range(writes)]
        refs = self.queue(order, owners)
        for number, ref in enumerate(self.chance.sample(refs, faults)):
            self.plan[ref] = kinds[number % len(kinds)]
        asked = self.deliver_all(writes)
        return self._count(begun, order, refs, asked)

    def add_patients(self, keys: list[str]) -> dict[str, str]:
        """Add patients of ours for the practice's keys; gives their ids."""
        owners = {}
        with begin(self.db, ACTOR, "test.patients") as tx:
            for key in keys:
                owners[key] = new_id()
                tx.conn.execute(
                    patient.insert().values(
                        id=owners[key], location_id="main", pms_key=key, synced_at=tx.now
                    )
                )
                tx.conn.execute(
                    patient_identity.insert().values(
                        patient_id=owners[key],
                        location_id="main",
                        family_name="Example",
                        given_name="Robin",
                        birth_date=date(1980, 2, 3),
                        name_key=name_key("Example", "Robin"),
                    )
                )
        return owners

    def queue(self, order: list[str], owners: dict[str, str]) -> list[str]:
        """Queue one write for each key of `order`; gives their tokens."""
        refs = []
        with begin(self.db, ACTOR, "test.queue") as tx:
            for number, patient_key in enumerate(order):
                key = f"storm-{number}"
                refs.append(outbox.ref_for("main", key))
                outbox.queue(
                    tx,
                    self.engine,
                    self.store,
                    key=key,
                    command=self.compose(patient_key, refs[-1]),
                    patient_id=owners[patient_key],
                )
        return refs

    def deliver_all(self, writes: int) -> int:
        """Run the first open command of each patient until all are done; one at a time.

        Gives how often a person was asked, who says: try again.
        """
        delivery = Delivery(
            self.db,
            self.engine,
            self.store,
            Troubled(self),  # type: ignore[arg-type]
            "main",
            Patience(grace_s=self.grace_s),
            self.clock,
        )
        asked = 0
        for _ in range(20 * writes):
            heads = self.heads()
            if not heads:
                return asked
            for row in heads:
                if row.state == "failed":
                    asked += 1
                    outbox.retry(self.db, self.engine, ACTOR, row.id)
                    continue
                self.clock.now += timedelta(seconds=2)
                try:
                    outcome = delivery.run(row.id, row.attempts)
                except Killed:
                    outcome = "killed"
                if outcome in ("queued", "unknown"):
                    self.rest()
        raise AssertionError("the storm did not end")

    def rest(self) -> None:
        """Let the practice go on in its own time after a try that came to nothing."""

    def heads(self) -> list[sa.Row[tuple[object, ...]]]:
        """Give each patient's first command that is not done."""
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(
                    pms_command.c.id,
                    pms_command.c.patient_id,
                    pms_command.c.attempts,
                    pms_command.c.state,
                )
                .where(pms_command.c.state != "done")
                .order_by(pms_command.c.created_at, pms_command.c.id)
            ).all()
        return list({row.patient_id: row for row in reversed(rows)}.values())

    def _count(self, begun: float, order: list[str], refs: list[str], asked: int) -> Report:
        ours = set(refs)
        landed = [(owner, ref) for owner, ref in self.landed() if ref in ours]
        times = Counter(ref for _, ref in landed)
        out_of_order = 0
        for key in set(order):
            wanted = [ref for ref, owner in zip(refs, order, strict=True) if owner == key]
            out_of_order += [ref for owner, ref in landed if owner == key] != wanted
        return Report(
            writes=len(refs),
            faults=self.met,
            seconds=time.monotonic() - begun,
            missing=sum(times[ref] == 0 for ref in refs),
            doubled=sum(count > 1 for count in times.values()),
            out_of_order=out_of_order,
            asked_a_person=asked,
        )


@dataclass
class Troubled:
    """The practice's system, with trouble at planned writes."""

    storm: Writes

    def find(self, command: Command) -> Receipt | None:
        return self.storm.pms.find(command)

    def execute(self, command: Command) -> Receipt:
        fault = self.storm.plan.pop(command.ref, "")
        if not fault:
            return self.storm.pms.execute(command)
        self.storm.met[fault] += 1
        return self.storm.meet(fault, command)
