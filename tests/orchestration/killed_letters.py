"""What the killed child does: a case that writes, asks, posts and waits, until it has ended."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from node.db.migrate import migrate
from node.db.session import begin, open_database, read
from node.db.tables import workflow_case
from node.domain.rights import Right, Role
from orchestration import cases
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.workflow import Json, Outcome, Start, Workflow, ask, done, wait
from tests.conftest import launch, make_engine
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until


class Ledger:
    """An outside party that keeps every letter under its idempotency key, in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "letters.jsonl"

    def post(self, key: str) -> Json:
        with self._path.open("a") as file:
            file.write(json.dumps(key) + "\n")
        return self.letters.index(key)

    def find(self, key: str) -> Json | None:
        return self.letters.index(key) if key in self.letters else None

    @property
    def letters(self) -> list[str]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]


def flow(ledger: Ledger) -> Workflow:
    made = Workflow(name="letters", title="Letters", partners=frozenset({"post"}))

    def post(case: Case, key: str) -> Json:
        return case.outside("post", key, lambda: ledger.post(key), lambda: ledger.find(key))

    @made.stage
    def first(case: Case) -> Outcome:
        case.data["first"] = post(case, "first")
        return ask(
            "letter", title="Second letter", draft={}, right=Right.PREAUTHS_APPROVE, then=second,
            timeout=timedelta(days=1), escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @made.stage
    def second(case: Case) -> Outcome:
        case.data["second"] = post(case, "second")
        return wait(third, until=case.clock() + timedelta(days=3))

    @made.stage
    def third(case: Case) -> Outcome:
        case.data["third"] = post(case, "third")
        return done("told")

    return made


def work(folder: Path) -> None:
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    migrate(db)
    engine = make_engine(db)
    letters = flow(Ledger(folder))
    clock = Clockwork(db, engine, folder, letters, now=NINE)
    launch(engine)
    clock.runner.heal()
    with begin(db, ACTOR, "test") as tx:
        cases.start(tx, engine, letters, Start("a"))
    case_id = clock.find(letters, "a")

    def has_ended() -> bool:
        clock.now += timedelta(hours=6)
        clock.runner.wake_due()
        clock.approve_if_asked(case_id)
        return clock.state(case_id) is CaseState.DONE

    until(has_ended)
    engine.close(wait_s=1)


def states(folder: Path) -> list[str]:
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    with read(db) as conn:
        found = conn.execute(sa.select(workflow_case.c.state)).scalars().all()
    db.dispose()
    return list(found)
