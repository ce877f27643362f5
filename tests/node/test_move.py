"""A practice moves from SQLite to PostgreSQL with its open cases, writes and audit chain."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS

from node.app import hold_executor
from node.config import Config, read_config
from node.db import audit
from node.db.keys import open_keys
from node.db.session import Actor, begin, open_database, read
from node.db.tables import audit as audit_table
from node.db.tables import event, workflow_case
from node.domain.events import EventKind
from node.domain.rights import Right, Role
from node.engine import DurableEngine
from node.engine_key import engine_key_of, keep_wrapped
from node.errors import ConfigError, InvalidInput
from node.move import move_database
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.workflow import Outcome, Workflow, ask, done, wait
from tests.conftest import launch
from tests.orchestration.clockwork import ACTOR, Clockwork


def _flow() -> Workflow:
    flow = Workflow(name="letters", title="Letters")

    @flow.stage
    def write(case: Case) -> Outcome:
        return ask(
            "letter", title="Letter", draft={"text": "Dear"}, right=Right.PREAUTHS_APPROVE,
            then=send, timeout=timedelta(days=9), escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def send(case: Case) -> Outcome:
        return wait(end, until=case.clock() + timedelta(days=3))

    @flow.stage
    def end(case: Case) -> Outcome:
        return done("sent")

    return flow


def _open(config: Config, url: str, *, runs: bool) -> tuple[sa.Engine, DurableEngine, Clockwork]:
    """Open a practice on a database as the node does; without `runs` its jobs stay queued."""
    db = open_database(url)
    assert open_keys(db, config, Actor("keys", "main")) is not None  # moved rows are sealed ones
    keep_wrapped(config)
    engine = DurableEngine(url, engine_key_of(config), "node-1")
    work = Clockwork(db, engine, config.node.data_dir, _flow())
    if runs:
        launch(engine)
    else:
        engine.connect()
    return db, engine, work


def _close(db: sa.Engine, engine: DurableEngine) -> None:
    engine.close(wait_s=1)
    DBOS.destroy(destroy_registry=True)
    db.dispose()


@pytest.fixture
def config(tmp_path: Path, sqlite_template: Path) -> Config:
    shutil.copyfile(sqlite_template, tmp_path / "bitewing.sqlite")
    return read_config(environment={}, overrides={"node": {"data_dir": tmp_path}})


@pytest.fixture
def target(postgresql_template: str):
    from tests.conftest import _administer

    name = "moved_here"
    _administer(postgresql_template, f"CREATE DATABASE {name}")
    yield postgresql_template.format(name)
    _administer(postgresql_template, f"DROP DATABASE {name} WITH (FORCE)")


def test_cases_that_ask_wait_or_are_queued_go_on_in_the_new_database(
    config: Config, target: str
) -> None:
    db, engine, work = _open(config, config.database_url, runs=True)
    asking, waiting = (work.start(work.runner.workflows["letters"], key) for key in "ab")
    work.decide(waiting)
    work.settle()
    _close(db, engine)
    db, engine, work = _open(config, config.database_url, runs=False)
    queued = work.start(work.runner.workflows["letters"], "c")
    _close(db, engine)

    moved = move_database(config, target.replace("+psycopg", ""), lambda _: None)
    assert moved.runs == 1

    db, engine, work = _open(config, target, runs=True)
    assert work.state(asking) is CaseState.ASKING
    assert work.question(queued).draft == {"text": "Dear"}
    for case_id in (asking, queued):
        work.decide(case_id)
    work.pass_time(days=4)
    assert {work.state(each) for each in (asking, waiting, queued)} == {CaseState.DONE}
    with begin(db, ACTOR, "test") as tx:  # numbers go on after the copied ones
        tx.append_event(EventKind.STUDY_READY, "x", "after-the-move")
    with read(db) as conn:
        _, broken = audit.verify(conn)
        assert broken is None
        assert conn.execute(sa.select(sa.func.count()).select_from(audit_table)).scalar_one() > 9
        latest = conn.execute(sa.select(event.c.key).order_by(event.c.seq.desc())).scalar()
        assert latest == "after-the-move"
    _close(db, engine)


def test_a_target_that_holds_data_or_a_running_node_is_refused(config: Config, target: str) -> None:
    with pytest.raises(InvalidInput, match="postgresql"):
        move_database(config, "sqlite:///elsewhere.sqlite", lambda _: None)
    release = hold_executor(config)
    with pytest.raises(ConfigError, match="already runs"):
        move_database(config, target, lambda _: None)
    release()
    db, engine, work = _open(config, config.database_url, runs=False)
    work.start(work.runner.workflows["letters"], "a")
    _close(db, engine)
    move_database(config, target, lambda _: None)
    with pytest.raises(InvalidInput, match="already holds data"):
        move_database(config, target, lambda _: None)
    with read(open_database(target)) as conn:
        assert conn.execute(sa.select(workflow_case.c.key)).scalars().all() == ["a"]
