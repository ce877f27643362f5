"""Tasks in the practice's system are from the user there of the person who decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import begin, read
from node.db.tables import user_account
from node.domain.findings import Disposition, FindingKind
from node.engine import DurableEngine
from node.status import Status
from pms_writeback.sandbox.server import running
from pms_writeback.task_users import read_mapping
from tests.orchestration.practice import ACTOR, Practice, until

#: Of the sandbox: "bitewing" is configured, DrAmari is a dentist there.
DEFAULT, AMARI, GONE = 2, 3, 99


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        yield Practice(sqlite_database, engine, tmp_path, sandbox)


def map_everybody(practice: Practice, key: str) -> None:
    with begin(practice.db, ACTOR, "test") as tx:
        tx.conn.execute(user_account.update().values(pms_user_key=key))


def author_of_the_plan(practice: Practice) -> int:
    before = len(practice.sandbox.rows("tasks"))
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.REFER))
    until(practice.is_delivered)
    (task,) = practice.sandbox.rows("tasks")[before:]
    return int(str(task["UserNum"]))


@pytest.mark.parametrize(
    ("key", "author"), [(str(AMARI), AMARI), ("", DEFAULT), (str(GONE), DEFAULT)]
)
def test_a_plan_is_from_the_signer_or_from_the_configured_user(
    practice: Practice, key: str, author: int
) -> None:
    map_everybody(practice, key)
    assert author_of_the_plan(practice) == author
    for note in practice.sandbox.rows("procnotes"):
        assert str(note.get("isSigned", "false")) != "true"  # authorship is no signature


def test_a_hidden_user_is_from_nobody(practice: Practice) -> None:
    practice.sandbox.change("userods", AMARI, IsHidden="true")
    map_everybody(practice, str(AMARI))
    assert author_of_the_plan(practice) == DEFAULT


def test_who_is_no_user_there_is_counted_and_not_named(practice: Practice) -> None:
    with read(practice.db) as conn:
        found = read_mapping(conn, practice.config)
    assert (found.deciding > 0, found.mapped) == (True, 0)
    words = Status(practice.db, practice.config).probes()["pms users"].words
    assert words == (
        f"{found.deciding} of {found.deciding} accounts that decide are no users there: their"
        " tasks carry pms.task_user (People, Change)"
    )
    map_everybody(practice, str(AMARI))
    with read(practice.db) as conn:
        assert read_mapping(conn, practice.config).words.startswith("all ")
