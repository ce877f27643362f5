"""Queued writes through a real bridge process, with things going wrong at chosen writes.

The node's side is the outbox's own delivery over a simulated clock; the bridge is a process that
can be killed; the practice is the sandbox driver's file.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.db.session import Actor, begin, new_id, read
from node.db.tables import patient, patient_identity, pms_command
from node.dicom.instances import FolderStore
from node.domain.study import name_key
from node.engine import DurableEngine
from node.errors import Retryable
from pms_writeback import outbox
from pms_writeback.delivery import Delivery, Patience
from pms_writeback.pms import AppendCommlog
from tests.pms_writeback.bridge_world import World, until

ROOT = Path(__file__).parents[2]
ACTOR = Actor("test", "main")
WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
ENGINE_KEY = b"a test's engine key, 32 bytes..!"

FAULTS = (
    "bridge killed",
    "bridge killed after the commit",
    "line cut",
    "answer lost at the clinic",
    "database locked",
    "slow posting",
    "node killed after the answer",
    "node killed before the send",
)


class Killed(BaseException):
    """The node's process ends here, as far as its database can tell."""


@dataclass
class SimulatedClock:
    """Time that passes when it is told to; the bridge's processes live in real time."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class BridgeProcess:
    """``bitewing bridge run`` of a world's clinic."""

    world: World
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "node", "bridge", "run"]
        command += ["--folder", str(self.world.clinic)]
        log = (self.world.folder / "bridge.log").open("ab")
        self.process = subprocess.Popen(command, env=environment, stderr=log, cwd=ROOT)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self.process = None

    def end(self) -> int:
        """End it politely; gives its exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(30)
        self.process = None
        return status


@contextmanager
def bridge_process(world: World) -> Iterator[BridgeProcess]:
    """Run the bridge of a listening world as a process while the block runs."""
    world.write_settings()
    running = BridgeProcess(world)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None:
            running.kill()


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


@dataclass
class Troubled:
    """The bridged PMS, with trouble at planned writes."""

    storm: Storm

    def find(self, command: AppendCommlog) -> object:
        return self.storm.world.pms.find(command)

    def execute(self, command: AppendCommlog) -> object:
        fault = self.storm.plan.pop(command.ref, "")
        if not fault:
            return self.storm.world.pms.execute(command)
        self.storm.met[fault] += 1
        return self.storm.meet(fault, command)


@dataclass
class Storm:
    """Writes of some patients, each under its key, and the faults that befall them."""

    world: World
    bridge: BridgeProcess
    engine: DurableEngine
    store: FolderStore
    seed: int = 1
    plan: dict[str, str] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def run(self, writes: int, faults: int, patients: int = 10) -> Report:
        """Queue the writes, deliver them all, and count what landed."""
        begun = time.monotonic()
        keys = [str(number + 1) for number in range(patients)]
        owners = self.add_patients(keys)
        order = [self._chance.choice(keys) for _ in range(writes)]
        refs = self.queue(order, owners)
        for number, ref in enumerate(self._chance.sample(refs, faults)):
            self.plan[ref] = FAULTS[number % len(FAULTS)]
        asked = self._deliver_all(writes)
        return self._count(begun, order, refs, asked)

    def meet(self, fault: str, command: AppendCommlog) -> object:
        """Let one thing go wrong around one write."""
        pms, office = self.world.pms, self.world.office
        match fault:
            case "node killed before the send":
                raise Killed
            case "node killed after the answer":
                pms.execute(command)
                raise Killed
            case "answer lost at the clinic":
                office.set("lose_answers", "1")
                return pms.execute(command)
            case "slow posting":
                office.set("posting_s", "1.5")
                try:
                    return pms.execute(command)
                finally:
                    # The driver must know how slow posting is for as long as something waits.
                    until(self._nothing_waits, 60, "the posting")
                    office.set("posting_s", "0")
            case "line cut":
                return self._beside(self._cut_line, command)
            case "database locked":
                return self._beside(self._hold_lock, command)
            case "bridge killed":
                return self._beside(self._kill_bridge, command)
            case _:
                office.set("pause_after_commit_s", "30")
                return self._beside(self._kill_after_commit, command)

    def _nothing_waits(self) -> bool:
        self.world.office.post_due()
        with closing(self.world.office.connect()) as db:
            query = "SELECT COUNT(*) FROM x_sandbox_posting"
            return bool(db.execute(query).fetchone()[0] == 0)

    def _beside(self, trouble: object, command: AppendCommlog) -> object:
        thread = threading.Thread(target=trouble, args=(command,))  # type: ignore[arg-type]
        thread.start()
        try:
            return self.world.pms.execute(command)
        finally:
            thread.join()

    def _cut_line(self, _command: AppendCommlog) -> None:
        time.sleep(self._chance.uniform(0.0, 0.03))
        self.world.pms.desk.dismiss()

    def _hold_lock(self, _command: AppendCommlog) -> None:
        with self.world.office.locked():
            time.sleep(self._chance.uniform(0.2, 1.0))

    def _kill_bridge(self, _command: AppendCommlog) -> None:
        time.sleep(self._chance.uniform(0.0, 0.05))
        self.bridge.kill()
        self.bridge.start()

    def _kill_after_commit(self, command: AppendCommlog) -> None:
        def has_landed() -> bool:
            return any(command.ref in each.text for each in self.world.office.entries())

        until(has_landed, 60, "the commit")
        self.bridge.kill()
        self.world.office.set("pause_after_commit_s", "0")
        self.bridge.start()

    def add_patients(self, keys: list[str]) -> dict[str, str]:
        """Add patients of ours for the practice's keys; gives their ids."""
        owners = {}
        with begin(self.world.db, ACTOR, "test.patients") as tx:
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
        with begin(self.world.db, ACTOR, "test.queue") as tx:
            for number, patient_key in enumerate(order):
                key = f"storm-{number}"
                refs.append(outbox.ref_for("main", key))
                outbox.queue(
                    tx,
                    self.engine,
                    self.store,
                    key=key,
                    command=AppendCommlog(patient_key, "Signed.", WHEN, refs[-1]),
                    patient_id=owners[patient_key],
                )
        return refs

    def _deliver_all(self, writes: int) -> int:
        """Run the first open command of each patient until all are done; one at a time."""
        delivery = Delivery(
            self.world.db,
            self.engine,
            self.store,
            Troubled(self),  # type: ignore[arg-type]
            "main",
            Patience(grace_s=5.0),
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
                    outbox.retry(self.world.db, self.engine, ACTOR, row.id)
                    continue
                self.clock.now += timedelta(seconds=2)
                try:
                    outcome = delivery.run(row.id, row.attempts)
                except Killed:
                    outcome = "killed"
                if outcome in ("queued", "unknown"):
                    time.sleep(0.1)  # the practice and the bridge live in real time
        raise AssertionError("the storm did not end")

    def heads(self) -> list[sa.Row[tuple[object, ...]]]:
        """Give each patient's first command that is not done."""
        with read(self.world.db) as conn:
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
        written = (
            (each.patient_id, each.text.rsplit(" ", 1)[-1]) for each in self.world.office.entries()
        )
        ours = set(refs)
        landed = [(owner, ref) for owner, ref in written if ref in ours]
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


def wait_connected(world: World) -> None:
    """Wait until the bridge process has called."""

    def is_there() -> bool:
        try:
            return bool(world.pms.desk.guest)
        except Retryable:
            return False

    until(is_there, 60, "the bridge's call")
