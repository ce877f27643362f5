"""Contention never refuses a writer: whoever waits for SQLite's write lock gets its turn."""

import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from node.db import audit
from node.db.session import Actor, begin, open_database, read
from node.db.tables import event
from node.domain.events import EventKind
from node.errors import Retryable

ACTOR = Actor("test", "main")
#: Another process that writes back to back until its standard input is closed.
BESIDE = """
import itertools, sys, threading
from node.db.session import Actor, begin, open_database
db, over = open_database(sys.argv[1]), threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
for number in itertools.count():
    with begin(db, Actor("beside", "main"), "test") as tx:
        tx.record(f"beside:{number}")
        over.wait(0.005)
    if number == 0:
        print("writing", flush=True)
    if over.is_set():
        break
"""


def write(database: sa.Engine, key: str, hold: threading.Event | None = None) -> None:
    with begin(database, ACTOR, "test") as tx:
        tx.append_event(EventKind.STUDY_READY, "s", key)
        tx.record(key)
        if hold is not None:
            hold.wait(0.005)


@contextlib.contextmanager
def writing_all_the_time(database: sa.Engine, threads: int) -> Iterator[None]:
    """Let threads of this process and another process write, each at once after itself."""
    over = threading.Event()
    url = database.url.render_as_string(hide_password=False)

    def go_on(name: str) -> None:
        for number in itertools.count():
            write(database, f"{name}-{number}", over)
            if over.is_set():
                return

    beside = subprocess.Popen(
        [sys.executable, "-c", BESIDE, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert beside.stdin is not None
    assert beside.stdout is not None
    try:
        assert beside.stdout.readline() == "writing\n"
        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(go_on, f"t{number}") for number in range(threads)]
            try:
                yield
            finally:
                over.set()
            for each in running:
                each.result()
    finally:
        beside.stdin.close()
        assert beside.wait(120) == 0
        beside.stdout.close()


def test_who_waits_comes_before_who_writes_again(sqlite_database: sa.Engine) -> None:
    is_at_the_door, is_in = threading.Event(), threading.Event()

    def wait_and_write() -> None:
        write(sqlite_database, "waited")
        is_in.set()

    rounds = 0
    with ThreadPoolExecutor(1) as pool:
        with begin(sqlite_database, ACTOR, "test"):
            sa.event.listen(sqlite_database, "checkout", lambda *_: is_at_the_door.set())
            waiting = pool.submit(wait_and_write)
            assert is_at_the_door.wait(60)
            is_in.wait(0.3)  # long enough for SQLite itself to look only every 100 ms
        while not is_in.is_set() and rounds < 50:
            with begin(sqlite_database, ACTOR, "test"):
                is_in.wait(0.01)
            rounds += 1
        waiting.result()
    assert rounds < 10


def test_nobody_starves_beside_those_that_write_all_the_time(sqlite_database: sa.Engine) -> None:
    done = threading.Event()

    def one_after_the_other() -> None:
        for number in range(10):
            write(sqlite_database, f"mine-{number}")
        done.set()

    with writing_all_the_time(sqlite_database, 3), ThreadPoolExecutor(1) as pool:
        mine = pool.submit(one_after_the_other)
        assert done.wait(120), "ten writes did not get through in two minutes"
        mine.result()
    with read(sqlite_database) as conn:
        kept = sa.select(sa.func.count()).where(event.c.key.like("mine-%"))
        assert conn.execute(kept).scalar_one() == 10
        assert audit.verify(conn)[1] is None


def test_a_write_that_finds_no_connection_is_to_come_again(tmp_path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'small.sqlite'}")
    database.pool._timeout = 0.05  # seconds: half a minute is not the point
    with contextlib.ExitStack() as all_taken:
        for _ in range(16 + 10):
            all_taken.enter_context(database.connect())
        with pytest.raises(Retryable, match="TimeoutError"):
            write(database, "one too many")
    database.dispose()
