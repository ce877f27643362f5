"""Two processes share a PostgreSQL database; when one dies the other goes on with its cases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dbos import DBOS

from node.db.session import begin, open_database
from node.engine import DurableEngine
from orchestration import cases
from orchestration.cases import CaseState
from orchestration.workflow import Start
from tests.conftest import ENGINE_KEY
from tests.orchestration import dying_executor
from tests.orchestration.clockwork import ACTOR, until


@pytest.mark.faults
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_cases_of_a_dead_executor_are_taken_over_and_nothing_is_done_twice(
    database_url: str, tmp_path: Path
) -> None:
    letters = tmp_path / "letters.txt"
    command = [sys.executable, "-m", "tests.orchestration.dying_executor"]
    child = subprocess.Popen([*command, database_url, str(tmp_path)], cwd=Path(__file__).parents[2])
    case_id = _start(database_url, tmp_path)
    try:
        until(letters.exists)
    finally:
        child.kill()
        child.wait()
    work = dying_executor.open_executor(database_url, tmp_path, "executor-b", hangs=False)

    def has_ended() -> bool:
        work.runner.beat()
        work.runner.take_over()
        work.runner.wake_due()
        return work.state(case_id) is CaseState.DONE

    until(has_ended)
    assert letters.read_text() == "letter\n"
    assert "restarted" in work.timeline(case_id)
    work.engine.close(wait_s=1)
    DBOS.destroy(destroy_registry=True)
    work.db.dispose()


def _start(url: str, folder: Path) -> str:
    db = open_database(url)
    engine = DurableEngine(url, ENGINE_KEY, "starter")
    engine.connect()
    with begin(db, ACTOR, "test") as tx:
        case_id = cases.start(tx, engine, dying_executor.flow(folder, hangs=False), Start("a"))
    engine.close(wait_s=0)
    db.dispose()
    assert case_id is not None
    return case_id
