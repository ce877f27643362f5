"""How soon a visit that was moved in the practice's system stands at its new day on the worklist.

What is measured: seconds from the commit in the sandbox practice to the first C-FIND answer with
the new day, by a node in its own process (listener, web and workflows), asked every 50 ms. First
with events, the node's own turn an hour away and the office looking for changes every 3 s, the
default; then without events and a poll interval of 10 s. The moves come at random moments.

Run: ``python -m benchmarks.pms_events`` (about five minutes).
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.whole_node import print_head, print_row
from node.dicom.worklist_scu import query_worklist
from pms_writeback.opendental.events import PATH
from pms_writeback.pms import OfficeTime
from pms_writeback.sandbox.server import SandboxHandle, running
from tests.faults.running_node import NodeProcess

ROUNDS_WITH_EVENTS, ROUNDS_WITHOUT = 30, 8
_POLL_S = 10
_DEADLINE_S = 60.0


def _visit(sandbox: SandboxHandle) -> tuple[int, str]:
    """Choose a visit of today that the worklist shows; gives its key and its patient's."""
    today = OfficeTime("America/New_York").today(datetime.now(UTC)).isoformat()
    imaging = {row["AptNum"] for row in sandbox.rows("procedurelogs")}
    for row in sandbox.rows("appointments"):
        is_today = str(row["AptDateTime"]).startswith(today)
        if is_today and row["AptStatus"] == "Scheduled" and row["AptNum"] in imaging:
            return int(row["AptNum"]), str(row["PatNum"])
    raise SystemExit("the sandbox has no visit today")


def _days(node: NodeProcess, patient: str) -> set[str]:
    steps = query_worklist(node.peer, patient_id=patient)
    return {step.scheduled_procedure_step_start_date for step in steps}


def _measure(sandbox: SandboxHandle, node: NodeProcess, rounds: int, apart_s: float) -> list[float]:
    key, patient = _visit(sandbox)
    chance = random.Random(1)
    taken = []
    today = OfficeTime("America/New_York").today(datetime.now(UTC))
    for number in range(rounds):
        time.sleep(chance.uniform(1.0, apart_s))
        day = today + timedelta(days=1 + number % 5)
        began = time.perf_counter()
        sandbox.change("appointments", key, AptDateTime=f"{day} 08:00:00")
        while f"{day:%Y%m%d}" not in _days(node, patient):
            if time.perf_counter() - began > _DEADLINE_S:
                raise SystemExit("the move did not reach the worklist in a minute")
            time.sleep(0.05)
        taken.append(time.perf_counter() - began)
    return taken


def _run(poll_s: int, with_events: bool, rounds: int, apart_s: float) -> list[float]:
    os.environ["BITEWING_PMS_POLL_S"] = str(poll_s)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "sandbox.sqlite") as sandbox:
            (folder / "data").mkdir()
            node = NodeProcess(folder, sandbox, only="dicom,web,workflows")
            if with_events:
                node.extra = f'events_url = "{node.url}{PATH}"\nevents_workstation = "SERVER"\n'
            node.start()
            try:
                _wait_first(sandbox, node)
                return _measure(sandbox, node, rounds, apart_s)
            finally:
                node.stop()


def _wait_first(sandbox: SandboxHandle, node: NodeProcess) -> None:
    patient = _visit(sandbox)[1]
    limit = time.monotonic() + _DEADLINE_S
    while not _days(node, patient):
        if time.monotonic() > limit:
            raise SystemExit("the first schedule did not come")
        time.sleep(0.2)


def main() -> None:
    """Measure with events, then without."""
    print_head()
    with_events = _run(3600, True, ROUNDS_WITH_EVENTS, 5.0)
    print_row("a moved visit on the worklist, with events (s)", with_events)
    sys.stdout.flush()
    without = _run(_POLL_S, False, ROUNDS_WITHOUT, float(_POLL_S))
    print_row(f"without events, poll interval {_POLL_S} s (s)", without)


if __name__ == "__main__":
    main()
