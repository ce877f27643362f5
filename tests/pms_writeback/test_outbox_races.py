"""A command that is withdrawn, or whose patient is merged, while its delivery is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import pms_command
from node.errors import Retryable
from pms_writeback import outbox
from pms_writeback.command_rows import CommandState
from pms_writeback.delivery import Delivery, Patience
from pms_writeback.merging import PatientMove, move_patient
from pms_writeback.pms import AppendCommlog, Command, OutcomeUnknown, Pms, Receipt
from pms_writeback.practice import open_pms

ACTOR = Actor("test", "main")
WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@dataclass
class Interrupted:
    """The practice's system; something happens in the node while it is asked."""

    pms: Pms
    at_find: Callable[[], None] | None = None
    at_execute: Callable[[], None] | None = None

    def find(self, command: Command) -> Receipt | None:
        _once(self, "at_find")
        return self.pms.find(command)

    def execute(self, command: Command) -> Receipt:
        _once(self, "at_execute")
        return self.pms.execute(command)


def _once(pms: Interrupted, name: str) -> None:
    happens = getattr(pms, name)
    setattr(pms, name, None)
    if happens is not None:
        happens()


@pytest.fixture
def practice(config) -> Iterator[Interrupted]:
    with closing(open_pms(config)) as pms:
        yield Interrupted(pms)


@pytest.fixture
def delivery(sqlite_database, engine, store, config, practice) -> Delivery:
    patience = Patience(0.05, 0.2, 0.0)
    clock = lambda: datetime.now(UTC)  # noqa: E731
    return Delivery(sqlite_database, engine, store, practice, "main", patience, clock)


@pytest.fixture
def queue(sqlite_database, engine, store):
    def put(case, key: str) -> str:
        ref = outbox.ref_for("main", key)
        command = AppendCommlog(case.patient_key, "A signed finding.", WHEN, ref)
        with begin(sqlite_database, ACTOR, "test.queued") as tx:
            return outbox.queue(
                tx, engine, store,
                key=key, command=command, patient_id=case.patient_id, study_id=case.study_id,
                review_version=1,
            )  # fmt: skip

    return put


@pytest.fixture
def withdraw(sqlite_database):
    """Take every command back that a retraction may take back, as it does."""

    def run() -> None:
        with begin(sqlite_database, ACTOR, "test.retracted") as tx:
            tx.conn.execute(
                pms_command.update()
                .where(pms_command.c.state == CommandState.QUEUED.value)
                .values(state=CommandState.WITHDRAWN.value)
            )

    return run


def row_of(db: sa.Engine, command_id: str):
    with read(db) as conn:
        return conn.execute(sa.select(pms_command).where(pms_command.c.id == command_id)).one()


def deliver(db: sa.Engine, delivery: Delivery, command_id: str) -> str:
    return delivery.run(command_id, row_of(db, command_id).attempts)


def test_what_is_withdrawn_while_it_is_searched_for_is_not_sent(
    sqlite_database, office, delivery, practice, queue, withdraw, add_case
):
    command_id = queue(add_case(sqlite_database, "1"), "k")
    practice.at_find = withdraw
    before = len(office.rows("commlogs"))
    assert deliver(sqlite_database, delivery, command_id) == "overtaken"
    assert row_of(sqlite_database, command_id).state == "withdrawn"
    assert len(office.rows("commlogs")) == before


def test_what_is_withdrawn_while_the_office_is_away_does_not_come_back(
    sqlite_database, office, delivery, practice, queue, withdraw, add_case
):
    command_id = queue(add_case(sqlite_database, "1"), "k")

    def away() -> None:
        withdraw()
        raise Retryable("the office is away")

    practice.at_find = away
    before = len(office.rows("commlogs"))
    deliver(sqlite_database, delivery, command_id)
    assert row_of(sqlite_database, command_id).state == "withdrawn"
    deliver(sqlite_database, delivery, command_id)
    assert row_of(sqlite_database, command_id).state == "withdrawn"
    assert len(office.rows("commlogs")) == before


def test_a_patient_merged_meanwhile_gets_it_under_the_number_that_remains(
    sqlite_database, office, delivery, practice, queue, add_case
):
    case = add_case(sqlite_database, "1")
    add_case(sqlite_database, "2")
    command_id = queue(case, "k")
    practice.at_find = lambda: move_patient(
        sqlite_database, ACTOR, PatientMove("1", "2"), "merged in the practice's system"
    )
    deliver(sqlite_database, delivery, command_id)
    while row_of(sqlite_database, command_id).state != "done":
        assert deliver(sqlite_database, delivery, command_id) == "done"
    mine = [row for row in office.rows("commlogs") if outbox.ref_for("main", "k") in row["Note"]]
    assert [str(row["PatNum"]) for row in mine] == ["2"]


def test_an_address_changed_while_an_answer_is_lost_is_kept(
    sqlite_database, delivery, practice, queue, add_case
):
    case = add_case(sqlite_database, "1")
    add_case(sqlite_database, "2")
    command_id = queue(case, "k")

    def lose() -> None:
        move_patient(sqlite_database, ACTOR, PatientMove("1", "2"), "merged")
        raise OutcomeUnknown("the answer was lost")

    practice.at_execute = lose
    deliver(sqlite_database, delivery, command_id)
    row = row_of(sqlite_database, command_id)
    assert row.state == "unknown"
    assert row.payload["command"]["patient_key"] == "2"
