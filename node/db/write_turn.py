"""Whose turn it is to write: SQLite has one write lock, and hands it out without any order.

Source: https://www.sqlite.org/c3ref/busy_timeout.html and ``sqliteDefaultBusyCallback`` in SQLite's
main.c: who finds the database locked sleeps, at last 100 ms at a time, and looks again; whoever
comes in between has it. A thread that writes again and again takes it back within microseconds, so
that one beside it was seen to wait for as long as the other went on. So the writers of one process
queue here, and the first of them looks every millisecond.
"""

from __future__ import annotations

import sqlite3
import threading
import time

import sqlalchemy as sa

#: How often the first in the queue looks whether another process has let go.
_LOOK_S = 0.001


class WriteTurn:
    """The queue of one process before the write lock of one SQLite database."""

    def __init__(self) -> None:
        self._first = threading.Lock()

    def begin(self, conn: sa.Connection) -> None:
        """Open a write transaction, waiting as long as the connection's busy timeout says.

        Raises sqlalchemy.exc.OperationalError when the lock was not to be had in that time.
        """
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        (wait_ms,) = raw.execute("PRAGMA busy_timeout").fetchone()
        deadline = time.monotonic() + wait_ms / 1000
        is_first = self._first.acquire(timeout=wait_ms / 1000)
        try:
            raw.execute("PRAGMA busy_timeout = 0")
            while _is_busy(raw) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
            if not raw.in_transaction:
                conn.exec_driver_sql("BEGIN IMMEDIATE")  # its error is SQLAlchemy's to wrap
        finally:
            raw.execute(f"PRAGMA busy_timeout = {wait_ms}")
            if is_first:
                self._first.release()


def _is_busy(raw: sqlite3.Connection) -> bool:
    """Try to begin; tell whether somebody else writes."""
    try:
        raw.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False
