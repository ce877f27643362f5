"""Killed at any commit, a pre-authorisation goes on: one claim, each file once, each entry once."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import open_database, read
from node.db.tables import workflow_case
from node.engine import DurableEngine
from tests.orchestration.clockwork import NINE
from tests.orchestration.killing import LEAST, run_killed
from tests.orchestration.payers import killed_preauth as child
from tests.orchestration.payers.preauth_world import preauth_world


class Ticking:
    """A payer's clock on which two hours pass whenever it is looked at."""

    def __init__(self) -> None:
        self.now = NINE

    def __call__(self) -> datetime:
        self.now += timedelta(hours=2)
        return self.now


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_nothing_is_sent_or_written_twice_whenever_the_process_is_killed(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with preauth_world(sqlite_database, engine, tmp_path) as world:
        world.payer.desk.clock = Ticking()
        world.sign_film()
        procedure = world.plan_crown()
        assert world.sync.run_once(world.work.now).is_ok
        world.records.reconcile(world.work.now)
        case = (world.patient_id, str(world.key), procedure)
        (tmp_path / child.CASE).write_text(json.dumps(case))
        (tmp_path / child.SECTIONS).write_text(json.dumps(world.sections, default=str))
        with sqlite_database.connect() as conn:
            conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(tmp_path / "bitewing.sqlite", tmp_path / child.DATABASE)
        kills = run_killed("tests.orchestration.payers.killed_preauth", tmp_path, seed=1, reach=26)
        assert kills >= LEAST
        after = open_database(f"sqlite:///{tmp_path / child.DATABASE}")
        with read(after) as conn:
            ended = conn.execute(sa.select(workflow_case)).one()
        after.dispose()
        assert (ended.state, ended.stage) == ("done", "approved")
        assert len(world.payer.desk.submissions()) == 1
        assert len(world.payer.desk.attachments()) == 2
        claims = [r for r in world.office.rows("claims") if r["ClaimType"] == "PreAuth"]
        assert len(claims) == 1
        (line,) = [r for r in world.office.rows("claimprocs") if r["Status"] == "Preauth"]
        assert float(line["InsEstTotalOverride"]) == 580
        entries = [r["Note"] for r in world.office.rows("commlogs") if "Pre-auth" in r["Note"]]
        assert len(entries) == len(set(entries)) == 2
        assert len(world.office.rows("claimtrackings")) == 2
