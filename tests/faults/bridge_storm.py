"""Queued writes through a real bridge process, with things going wrong at chosen writes.

The node's side is the outbox's own delivery over a simulated clock; the bridge is a process that
can be killed; the practice is the sandbox driver's file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.dicom.instances import FolderStore
from node.engine import DurableEngine
from node.errors import Retryable
from pms_writeback.pms import Command, Receipt
from tests.faults.storm import Killed, Writes
from tests.pms_writeback.bridge_world import World, until

ROOT = Path(__file__).parents[2]
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
        self.process.wait(60)
        self.process = None

    def end(self) -> int:
        """End it politely; gives its exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(90)
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


class Storm(Writes):
    """Writes through a bridge that is killed, cut off, locked out and slow."""

    def __init__(
        self, world: World, bridge: BridgeProcess, engine: DurableEngine, store: FolderStore
    ) -> None:
        super().__init__(world.db, world.pms, engine, store)
        self.world = world
        self.bridge = bridge

    def landed(self) -> list[tuple[str, str]]:
        return [
            (each.patient_id, each.text.rsplit(" ", 1)[-1]) for each in self.world.office.entries()
        ]

    def rest(self) -> None:
        time.sleep(0.1)  # the practice and the bridge live in real time

    def meet(self, fault: str, command: Command) -> Receipt:
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

    def _beside(self, trouble: object, command: Command) -> Receipt:
        thread = threading.Thread(target=trouble, args=(command,))  # type: ignore[arg-type]
        thread.start()
        try:
            return self.world.pms.execute(command)
        finally:
            thread.join()

    def _cut_line(self, _command: Command) -> None:
        time.sleep(self.chance.uniform(0.0, 0.03))
        self.world.pms.desk.dismiss()

    def _hold_lock(self, _command: Command) -> None:
        with self.world.office.locked():
            time.sleep(self.chance.uniform(0.2, 1.0))

    def _kill_bridge(self, _command: Command) -> None:
        time.sleep(self.chance.uniform(0.0, 0.05))
        self.bridge.kill()
        self.bridge.start()

    def _kill_after_commit(self, command: Command) -> None:
        def has_landed() -> bool:
            return any(command.ref in each.text for each in self.world.office.entries())

        until(has_landed, 60, "the commit")
        self.bridge.kill()
        self.world.office.set("pause_after_commit_s", "0")
        self.bridge.start()


def wait_connected(world: World) -> None:
    """Wait until the bridge process has called."""

    def is_there() -> bool:
        try:
            return bool(world.pms.desk.guest)
        except Retryable:
            return False

    until(is_there, 60, "the bridge's call")
