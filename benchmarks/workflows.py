"""Workflows: what waiting costs, how soon a decision counts, how many start, what kills do.

What is measured, each printed as a row:

- ``waiting``: resident memory and processor time of a process that keeps 2,000 cases waiting for a
  signal and 10,000 touches of a campaign waiting for their day, ticking as the node does (SQLite;
  the rows are written as their stages leave them);
- ``approval``: from a person's decision to the stage that follows it, SQLite;
- ``kills``: a run of three letters and an approval, killed with SIGKILL around its commits as often
  as asked; letters lost or doubled afterwards, and seconds from a restart to the run's next step;
- ``starts``: cases started and finished a second by two executors on PostgreSQL (needs
  ``--postgresql URL`` of an empty database).

Run: ``python -m benchmarks.workflows [--kills 1000] [--postgresql URL]`` from a checkout.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import sqlalchemy as sa

from node.config import Config, read_config
from node.db.migrate import migrate
from node.db.session import Actor, begin, insert_once, new_id, open_database, read
from node.db.tables import approval, workflow_case
from node.dicom.instances import FolderStore
from node.domain.rights import Right, Role
from node.engine import DurableEngine, read_engine_key
from orchestration import approvals, cases
from orchestration.case import Case
from orchestration.orchestra import Orchestra, open_orchestra
from orchestration.workflow import Json, Outcome, Start, Workflow, ask, done, wait

ACTOR = Actor("benchmark", "main")
CASES, TOUCHES, IDLE_S = 2_000, 10_000, 60
DECISIONS, STARTS = 100, 2_000


def flow(
    reached: Callable[[str], None], post: Callable[[str], Json], find: Callable[[str], Json | None]
) -> Workflow:
    """Make the shortened run: a letter, an approval, a letter, a wait, a letter."""
    made = Workflow(name="letters", title="Letters", partners=frozenset({"post"}))

    def send(case: Case, name: str) -> None:
        key = f"{case.key}:{name}"
        case.outside("post", name, lambda: post(key), lambda: find(key))

    @made.stage
    def first(case: Case) -> Outcome:
        reached(case.key)
        if case.data.get("short"):
            return done("started")
        send(case, "first")
        return ask(
            "letter", title="Letter", draft={}, right=Right.PREAUTHS_APPROVE, then=second,
            timeout=timedelta(days=9), escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @made.stage
    def second(case: Case) -> Outcome:
        reached(case.key)
        send(case, "second")
        return wait(third, until=case.clock() + timedelta(milliseconds=1))

    @made.stage
    def third(case: Case) -> Outcome:
        send(case, "third")
        return done("told")

    return made


class Practice:
    """A location's workflows on one database; `launch` makes this process run them."""

    def __init__(
        self, folder: Path, workflow: Workflow, url: str = "", executor: str = "node-1"
    ) -> None:
        overrides: dict[str, dict[str, object]] = {
            "node": {"data_dir": folder},
            "workflows": {"modes": {workflow.name: "assist"}},
        }
        if url:
            overrides["database"] = {"url": url}
        self.config: Config = read_config(environment={}, overrides=overrides)
        self.db = open_database(self.config.database_url)
        migrate(self.db)
        key = read_engine_key(folder / "engine.key")
        self.engine = DurableEngine(self.config.database_url, key, executor)
        store = FolderStore(folder / "images")
        self.workflow = workflow
        self.orchestra: Orchestra = open_orchestra(
            self.db, self.engine, store, self.config, executor, {workflow.name: workflow}
        )
        self.orchestra.register()

    def start(self, *keys: str, **data: Json) -> None:
        """Start cases, a hundred in a transaction."""
        for begun in range(0, len(keys), 100):
            with begin(self.db, ACTOR, "benchmark.start") as tx:
                for key in keys[begun : begun + 100]:
                    cases.start(tx, self.engine, self.workflow, Start(key, data=dict(data)))

    def decide(self, approval_id: str) -> None:
        """Approve, as a person would."""
        with begin(self.db, ACTOR, "benchmark.decide") as tx:
            approvals.decide(
                tx, self.engine, self.orchestra.runner.workflows, approval_id, by="person",
                rights=frozenset(Right), verdict="approved",
            )  # fmt: skip

    def waiting_approvals(self) -> list[tuple[str, str]]:
        """Read which approvals wait, each with its case's key."""
        with read(self.db) as conn:
            return [
                (row.id, row.key)
                for row in conn.execute(
                    sa.select(approval.c.id, workflow_case.c.key)
                    .join(workflow_case, workflow_case.c.id == approval.c.case_id)
                    .where(approval.c.state == "waiting")
                )
            ]

    def count(self, state: str) -> int:
        """Count the cases in a state."""
        query = sa.select(sa.func.count()).where(workflow_case.c.state == state)
        with read(self.db) as conn:
            return int(conn.execute(query).scalar_one())


def waiting(folder: Path) -> str:
    """Measure what 12,000 waiting cases cost a process that ticks as the node does."""
    practice = Practice(folder, flow(_ignore, _nothing, _nothing))
    later = datetime.now(UTC) + timedelta(days=30)
    with begin(practice.db, ACTOR, "benchmark.fill") as tx:
        for number in range(CASES + TOUCHES):
            is_touch = number >= CASES
            insert_once(
                tx.conn,
                workflow_case,
                {
                    "id": new_id(), "location_id": "main", "workflow": "letters",
                    "key": f"case-{number}", "state": "waiting", "stage": "third", "leg": 1,
                    "waits": {} if is_touch else {"answer": "third"},
                    "wake_at": later + timedelta(seconds=number) if is_touch else None,
                    "data": {"text": "x" * 500}, "created_at": tx.now, "updated_at": tx.now,
                },
            )  # fmt: skip
    practice.engine.launch()
    _tick(practice, 10, every_s=0.5)
    before, began = time.process_time(), time.monotonic()
    _tick(practice, IDLE_S, every_s=0.5)
    share = (time.process_time() - before) / (time.monotonic() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    practice.engine.close(wait_s=1)
    what = "2,000 cases and 10,000 touches waiting, SQLite"
    return f"| {what} | {share:.1%} of a core, {memory:.0f} MB |"


def _tick(practice: Practice, seconds: float, every_s: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        practice.orchestra.tick()
        practice.orchestra.tick()
        practice.orchestra.follow()
        time.sleep(2 * every_s)


def approval_latency(folder: Path) -> str:
    """Measure from a decision to the stage that follows, one after the other."""
    moments: dict[str, float] = {}
    practice = Practice(
        folder, flow(lambda key: moments.__setitem__(key, time.monotonic()), _nothing, _nothing)
    )
    practice.engine.launch()
    practice.start(*(f"case-{number}" for number in range(DECISIONS)))
    _wait_for(lambda: practice.count("asking") == DECISIONS)
    took = []
    for approval_id, key in practice.waiting_approvals():
        moments.pop(key)
        began = time.monotonic()
        practice.decide(approval_id)
        _wait_for(lambda key=key: key in moments, pause_s=0.002)  # type: ignore[misc]
        took.append(moments[key] - began)
    practice.engine.close(wait_s=1)
    took.sort()
    p50, p95 = statistics.median(took), took[int(len(took) * 0.95)]
    what = f"approval to next step, SQLite, {DECISIONS} decisions"
    return f"| {what} | p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms |"


def killed(folder: Path, kills: int, seed: int = 7) -> str:
    """Kill runs around their commits until `kills` have died; count what was lost or doubled."""
    chance = random.Random(seed)
    letters = folder / "letters.txt"
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    db = open_database(config.database_url)
    migrate(db)
    db.dispose()
    died = finished = 0
    recoveries: list[float] = []
    while died < kills:
        began = time.monotonic()
        child = get_context("fork").Process(
            target=_child,
            args=(folder, letters, finished, chance.randint(1, 8), chance.random() < 0.5),
        )
        child.start()
        child.join(120)
        if child.exitcode == 0:
            finished += 1
            recoveries.append(time.monotonic() - began)
        elif child.exitcode == -signal.SIGKILL:
            died += 1
        else:
            raise SystemExit(f"a run ended with {child.exitcode}")
    lines = letters.read_text().splitlines()
    expected = [
        f"run-{run}:{name}" for run in range(finished) for name in ("first", "second", "third")
    ]
    whole = [line for line in lines if int(line.split(":")[0].removeprefix("run-")) < finished]
    lost, doubled = len(set(expected) - set(whole)), len(whole) - len(set(whole))
    slowest = max(recoveries, default=0.0)
    what = f"{died} kills over {finished} runs of three letters, SQLite"
    after = f"a restart went through to the end in at most {slowest:.1f} s"
    return f"| {what} | {lost} lost, {doubled} doubled; {after} |"


def _child(folder: Path, letters: Path, run: int, commit: int, is_before: bool) -> None:
    """Go on with one run until it has ended, or be killed around the n-th commit."""
    from tests.orchestration.killing import arm

    arm("before" if is_before else "after", commit)

    def post(key: str) -> Json:
        with letters.open("a") as file:
            file.write(key + "\n")
        return 1

    def find(key: str) -> Json | None:
        return 1 if letters.exists() and key in letters.read_text().split() else None

    practice = Practice(folder, flow(_ignore, post, find))
    practice.engine.launch()
    practice.orchestra.runner.heal()
    practice.start(f"run-{run}")

    def has_ended() -> bool:
        practice.orchestra.runner.wake_due()
        for approval_id, _ in practice.waiting_approvals():
            practice.decide(approval_id)
        return practice.count("done") == run + 1

    _wait_for(has_ended)
    os._exit(0)


def starts(folder: Path, url: str) -> str:
    """Measure how many cases two executors on PostgreSQL take from start to end a second."""
    practice = Practice(folder, flow(_ignore, _nothing, _nothing), url, "starter")
    practice.engine.migrate()
    practice.engine.connect()
    go, stop = get_context("spawn").Event(), get_context("spawn").Event()
    workers = [
        get_context("spawn").Process(target=_execute, args=(folder, url, f"worker-{n}", go, stop))
        for n in range(2)
    ]
    for worker in workers:
        worker.start()
    go.wait(60)
    began = time.monotonic()
    practice.start(*(f"case-{number}" for number in range(STARTS)), short=True)
    started = time.monotonic() - began
    _wait_for(lambda: practice.count("done") == STARTS, limit_s=600)
    took = time.monotonic() - began
    stop.set()
    for worker in workers:
        worker.join(20)
    what = f"{STARTS:,} cases on PostgreSQL, two executors"
    rate = f"{STARTS / started:.0f} started a second, {STARTS / took:.0f} done a second"
    return f"| {what} | {rate} |"


def _execute(folder: Path, url: str, name: str, go, stop) -> None:  # type: ignore[no-untyped-def]
    practice = Practice(folder, flow(_ignore, _nothing, _nothing), url, name)
    practice.engine.launch()
    go.set()
    while not stop.wait(0.5):
        practice.orchestra.tick()
    os._exit(0)


def _wait_for(condition: Callable[[], bool], pause_s: float = 0.02, limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the benchmark did not come to its end in time")
        time.sleep(pause_s)


def _ignore(_: str) -> None:
    return None


def _nothing(_: str) -> Json:
    return None


def main() -> int:
    """Measure what was asked for and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--postgresql", default="", help="URL of an empty database")
    parser.add_argument("--only", default="", help="waiting, approval, kills or starts")
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], str]] = {
        "waiting": waiting,
        "approval": approval_latency,
        "kills": lambda folder: killed(folder, given.kills),
        "starts": lambda folder: starts(folder, given.postgresql),
    }
    for name, part in parts.items():
        if given.only not in ("", name) or (name == "starts" and not given.postgresql):
            continue
        with tempfile.TemporaryDirectory() as folder:
            child = get_context("fork").Process(target=_print_row, args=(part, Path(folder)))
            child.start()
            child.join()
            if child.exitcode:
                return 1
    return 0


def _print_row(part: Callable[[Path], str], folder: Path) -> None:
    print(part(folder), flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
