"""The durable engine behind our one module."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin
from node.engine import WORKFLOWS, DurableEngine, read_engine_key
from node.errors import ConfigError, Retryable

ACTOR = Actor("test", "main")


def _until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def _start(engine: DurableEngine, database: sa.Engine, key: str, *args: str | int) -> None:
    with begin(database, ACTOR, "test.start") as tx:
        engine.enqueue(tx.conn, WORKFLOWS, "task", key, *args)


def _start_and_fail(engine: DurableEngine, database: sa.Engine) -> None:
    with begin(database, ACTOR, "test") as tx:
        engine.enqueue(tx.conn, WORKFLOWS, "task", "rolled-back", 8)
        raise ValueError("boom")


def test_a_job_commits_with_its_row_and_runs_once(
    database: sa.Engine, engine: DurableEngine
) -> None:
    calls: list[int] = []

    @engine.workflow("task")
    def task(number: int) -> None:
        engine.step("note", calls.append, number)

    for _ in range(3):
        _start(engine, database, "same-key", 7)
    _until(lambda: engine.status("same-key") == "SUCCESS")
    assert calls == [7]
    with pytest.raises(ValueError, match="boom"):
        _start_and_fail(engine, database)
    assert engine.status("rolled-back") is None


def test_retryable_waits_and_tries_again(sqlite_database: sa.Engine, engine: DurableEngine) -> None:
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise Retryable("away", retry_after_s=0.05)
        return "done"

    @engine.workflow("task")
    def task(number: int) -> str:
        return engine.step_until_done("flaky", flaky)

    _start(engine, sqlite_database, "w", 1)
    _until(lambda: engine.status("w") == "SUCCESS")
    assert len(calls) == 3


def test_payloads_are_sealed_at_rest(sqlite_database: sa.Engine, engine: DurableEngine) -> None:
    @engine.workflow("task")
    def task(text: str) -> str:
        return engine.step("echo", str, text)

    _start(engine, sqlite_database, "w", "SECRET-PAYLOAD")
    _until(lambda: engine.status("w") == "SUCCESS")
    path = Path(str(sqlite_database.url.database))
    for file in path.parent.glob(path.name + "*"):
        assert b"SECRET-PAYLOAD" not in file.read_bytes(), file.name


def test_a_key_file_is_private_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "engine.key"
    key = read_engine_key(path)
    assert read_engine_key(path) == key
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="not a 32-byte engine key"):
        read_engine_key(path)


PROGRAM = """
import sys, time
from pathlib import Path
from node.db.session import Actor, begin, open_database
from node.engine import WORKFLOWS, DurableEngine
folder = Path(sys.argv[1])
url = f"sqlite:///{folder}/bitewing.sqlite"
engine = DurableEngine(url, bytes(32), "node-1", poll_s=0.1)
def note(word):
    with (folder / "log").open("a") as file: file.write(word + chr(10))
@engine.workflow("task")
def task(number: int) -> None:
    engine.step("first", note, "first")
    engine.sleep(1.0)
    engine.step("second", note, "second")
engine.launch([WORKFLOWS])
if len(sys.argv) > 2:
    with begin(open_database(url), Actor("t", "main"), "t") as tx:
        engine.enqueue(tx.conn, WORKFLOWS, "task", "w", 1)
while engine.status("w") != "SUCCESS": time.sleep(0.05)
engine.close()
"""


def _steps_kept(database: sa.Engine) -> int:
    with sqlite3.connect(str(database.url.database), timeout=30) as conn:
        known = conn.execute("SELECT name FROM sqlite_master WHERE name = 'operation_outputs'")
        if known.fetchone() is None:
            return 0
        return int(conn.execute("SELECT count(*) FROM operation_outputs").fetchone()[0])


@pytest.mark.faults
def test_a_killed_workflow_goes_on_from_its_last_step(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    first = subprocess.Popen([*command, "start"], env=environment)
    log = tmp_path / "log"
    _until(lambda: _steps_kept(sqlite_database) >= 1)  # a step cut before this runs again
    first.send_signal(signal.SIGKILL)
    first.wait(60)
    assert "second" not in log.read_text()
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0
    assert log.read_text().split() == ["first", "second"]


def test_the_application_version_is_pinned(
    sqlite_database: sa.Engine, engine: DurableEngine
) -> None:
    """Open runs of a release must not be stranded by the next one: see docs/decisions/0003."""

    @engine.workflow("task")
    def task(number: int) -> None: ...

    _start(engine, sqlite_database, "w", 1)
    _until(lambda: engine.status("w") == "SUCCESS")
    with sqlite3.connect(str(sqlite_database.url.database)) as conn:
        versions = {
            row[0] for row in conn.execute("SELECT application_version FROM workflow_status")
        }
    assert json.dumps(sorted(versions)) == '["bitewing-1"]'
