"""A database of the previous release comes up with its rows, and its cases are left as they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig

import node.db.migrate as migration
from node.db.migrate import migrate
from node.db.session import open_database, read
from node.db.tables import workflow_case
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.workflow import Outcome, Workflow, done
from tests.conftest import close_engine, launch, make_engine
from tests.orchestration.clockwork import Clockwork

#: The last revision of the release before workflows waited in rows.
_BEFORE = "0006"
_OLD_CASES = [
    ("1" * 32, "chart_findings", "study:1", "queued"),
    ("2" * 32, "publish_results", "study:1:0", "failed"),
    ("3" * 32, "flag_study", "study:1:1:patient", "flagged"),
]


def _previous_release(path: Path) -> None:
    """Make a database as that release left it."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    db = open_database(f"sqlite:///{path}")
    config.attributes["engine"] = db
    command.upgrade(config, _BEFORE)
    db.dispose()
    with sqlite3.connect(path) as conn:
        conn.executemany(
            "INSERT INTO workflow_case (id, location_id, workflow, key, state, data, error,"
            " created_at, updated_at) VALUES (?, 'main', ?, ?, ?, '{}', '',"
            " '2026-01-05 10:00:00', '2026-01-05 10:00:00')",
            _OLD_CASES,
        )


def test_cases_of_the_previous_release_are_kept_and_new_ones_run_beside_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bitewing.sqlite"
    _previous_release(path)
    db = open_database(f"sqlite:///{path}")
    migrate(db)
    flow = Workflow(name="letters", title="Letters")

    @flow.stage
    def write(case: Case) -> Outcome:
        return done("written")

    engine = make_engine(db)
    work = Clockwork(db, engine, tmp_path, flow)
    launch(engine)
    assert work.runner.heal() == 0
    case_id = work.start(flow, "a")
    work.pass_time(days=1)
    assert work.state(case_id) is CaseState.DONE
    with read(db) as conn:
        kept = conn.execute(
            sa.select(
                workflow_case.c.id, workflow_case.c.workflow, workflow_case.c.key,
                workflow_case.c.state,
            ).where(workflow_case.c.id != case_id).order_by(workflow_case.c.id)
        ).all()  # fmt: skip
    assert [tuple(row) for row in kept] == _OLD_CASES
    close_engine(engine)
    db.dispose()
