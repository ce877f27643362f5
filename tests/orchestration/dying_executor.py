"""What the executor does that dies: it takes a case, posts a letter, and hangs before saying so."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from node.db.session import open_database
from node.engine import DurableEngine
from orchestration.case import Case
from orchestration.workflow import Json, Outcome, Workflow, done
from tests.conftest import ENGINE_KEY, launch
from tests.orchestration.clockwork import Clockwork


def flow(folder: Path, *, hangs: bool) -> Workflow:
    made = Workflow(name="letters", title="Letters", partners=frozenset({"post"}))
    letters = folder / "letters.txt"

    def post() -> Json:
        with letters.open("a") as file:
            file.write("letter\n")
        if hangs:
            threading.Event().wait()
        return 1

    def find() -> Json | None:
        return 1 if letters.exists() else None

    @made.stage
    def send(case: Case) -> Outcome:
        case.outside("post", "send", post, find)
        return done("sent")

    return made


def open_executor(url: str, folder: Path, name: str, *, hangs: bool) -> Clockwork:
    db = open_database(url)
    engine = DurableEngine(url, ENGINE_KEY, name, poll_s=0.1)
    work = Clockwork(db, engine, folder, flow(folder, hangs=hangs), now=datetime.now(UTC))
    work.runner.executor = name
    launch(engine)
    work.runner.beat()
    return work


if __name__ == "__main__":
    open_executor(sys.argv[1], Path(sys.argv[2]), "executor-a", hangs=True)
    threading.Event().wait()
