"""While everything outbound is paused nothing is written to the chart; nothing is lost either."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db import switches
from node.db.session import begin, read
from node.db.tables import pms_command
from node.domain.findings import Disposition, FindingKind
from node.engine import DurableEngine
from pms_writeback.sandbox.server import running
from pms_writeback.waking import wake
from tests.orchestration.practice import ACTOR, Practice, until


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        yield Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")


def _errors(practice: Practice) -> set[str]:
    with read(practice.db) as conn:
        return set(conn.execute(sa.select(pms_command.c.error)).scalars())


def _turn(practice: Practice, is_paused: bool) -> None:
    with begin(practice.db, ACTOR, "test") as tx:
        switches.turn(tx, switches.OUTBOUND, is_paused)


def test_a_signed_finding_waits_for_the_switch_and_is_then_written(practice: Practice) -> None:
    _turn(practice, True)
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(lambda: "Everything outbound is paused." in _errors(practice))
    assert practice.sandbox.rows("procnotes") == []
    _turn(practice, False)
    wake(practice.db, practice.engine, ACTOR)
    until(practice.is_delivered)
    assert len(practice.sandbox.rows("procnotes")) == 1
