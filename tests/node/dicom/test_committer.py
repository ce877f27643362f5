"""Grouped commits: together where they meet, alone where one fails."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from node.db import audit, tables
from node.db.session import Actor, Tx, begin, new_id, read
from node.dicom.committer import Committer
from node.dicom.store import Kept, StoreOutcome
from node.domain.events import EventKind
from node.errors import InvalidInput, Retryable

ACTOR = Actor("dicom", "main")


def leave_event(tx: Tx) -> StoreOutcome:
    key = new_id()
    tx.append_event(EventKind.IMAGE_STORED, key, key)
    tx.record(key, kept="stored")
    return StoreOutcome(Kept.STORED, 0, key, key)


def leave_event_and_fail(tx: Tx) -> StoreOutcome:
    leave_event(tx)
    raise InvalidInput("this one is not wanted")


def break_a_constraint(tx: Tx) -> StoreOutcome:
    values = {"location_id": "main", "kind": "x", "key": "twice", "subject": "", "data": {}}
    for _ in range(2):
        tx.conn.execute(tables.event.insert(), values | {"at": tx.now})
    raise AssertionError("the key is unique")


def subjects(database: sa.Engine, table: sa.Table) -> set[str]:
    with read(database) as conn:
        return set(conn.execute(sa.select(table.c.subject)).scalars())


def run_together(
    database: sa.Engine, committer: Committer, works: list[Callable[[Tx], StoreOutcome]]
) -> list[Future[StoreOutcome]]:
    """Hold the first transaction open until all the others wait behind it."""
    started, go_on = threading.Event(), threading.Event()

    def first(tx: Tx) -> StoreOutcome:
        started.set()
        assert go_on.wait(60)
        return leave_event(tx)

    with ThreadPoolExecutor(len(works) + 1) as pool:
        futures = [pool.submit(committer.run, first)]
        assert started.wait(60)
        futures += [pool.submit(committer.run, work) for work in works]
        for _ in range(6000):
            if committer.pending == len(works):
                break
            threading.Event().wait(0.01)
        go_on.set()
    return futures


@pytest.mark.parametrize("failing", [leave_event_and_fail, break_a_constraint])
def test_one_that_fails_is_undone_alone(database, failing):
    committer = Committer(database, ACTOR, "image.received")
    futures = run_together(database, committer, [leave_event, failing, leave_event, leave_event])
    assert [future.exception() is None for future in futures] == [True, True, False, True, True]
    kept = {future.result().instance_id for future in futures if future.exception() is None}
    assert subjects(database, tables.event) == kept
    with read(database) as conn:
        assert audit.verify(conn) == (4, None)
        actions = conn.execute(sa.select(tables.audit.c.action)).scalars().all()
    assert actions == ["image.received"] * 4


def test_those_that_wait_are_committed_at_once(database):
    committer = Committer(database, ACTOR, "image.received")
    commits: list[object] = []
    sa.event.listen(database, "commit", commits.append)
    futures = run_together(database, committer, [leave_event] * 5)
    assert len({future.result().instance_id for future in futures}) == 6
    assert len(commits) == 2


def test_when_the_database_is_away_all_are_told(sqlite_database):
    sa.event.listen(
        sqlite_database, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=50")
    )
    sqlite_database.dispose()
    committer = Committer(sqlite_database, ACTOR, "image.received")
    holder = sqlite3.connect(sqlite_database.url.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(committer.run, leave_event) for _ in range(4)]
    assert all(isinstance(future.exception(), Retryable) for future in futures)
    holder.rollback()
    holder.close()
    assert committer.run(leave_event).kept is Kept.STORED
    assert len(subjects(sqlite_database, tables.event)) == 1


def test_two_processes_with_the_same_studies_in_another_order_keep_all(database):
    """As two receiving nodes before one PostgreSQL; SQLite has one writer at a time anyway."""
    ones, others = (Committer(database, ACTOR, "image.received") for _ in range(2))
    with begin(database, ACTOR, "test") as tx:
        keys = [f"{number}" for number in range(2)]
        for key in keys:
            tx.append_event(EventKind.IMAGE_STORED, key, key)
    both_hold_one = threading.Barrier(2)

    def touch(number: int) -> Callable[[Tx], StoreOutcome]:
        def work(tx: Tx) -> StoreOutcome:
            rows = tables.event.update().where(tables.event.c.key == f"{number}")
            tx.conn.execute(rows.values(subject="touched"))
            with contextlib.suppress(threading.BrokenBarrierError):  # SQLite, or the second time
                both_hold_one.wait(0.5)
            return leave_event(tx)

        return work

    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(run_together, database, committer, [touch(first), touch(1 - first)])
            for committer, first in ((ones, 0), (others, 1))
        ]
        futures = [future for each in waiting for future in each.result()]
    kept = {future.result().instance_id for future in futures}
    assert len(kept) == 6
    assert kept <= subjects(database, tables.event)
    with read(database) as conn:
        assert audit.verify(conn) == (7, None)


def test_a_write_of_its_own_stands_beside(database):
    committer = Committer(database, ACTOR, "image.received")
    with begin(database, ACTOR, "other") as tx:
        leave_event(tx)
    committer.run(leave_event)
    with read(database) as conn:
        assert audit.verify(conn) == (2, None)
