"""Reading tables over any DB-API connection: one short statement a table, locks told apart.

Names of tables and columns come from a driver's own list, never from the wire; values are bound.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from node.errors import BitewingError, Retryable
from pms_writeback.bridge.driver import Locked, Table, Values, Window
from pms_writeback.bridge.protocol import Scalar

_BATCH = 500
_DAY = dt.timedelta(days=1)


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    def execute(self, statement: str, parameters: Sequence[object], /) -> object:
        """Run one statement."""
        ...

    def fetchmany(self, size: int, /) -> Sequence[Sequence[object]]:
        """Fetch the next rows."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class DbConnection(Protocol):
    """What is used of a DB-API connection."""

    def cursor(self) -> Cursor:
        """Open a cursor."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class SqlReader:
    """Reads rows; a connection is opened for each statement and never held.

    ``extras`` names further columns of a table: our name to theirs.
    """

    def __init__(
        self,
        connect: Callable[[], DbConnection],
        is_lock: Callable[[Exception], bool],
        product: str,
        extras: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._connect = connect
        self._is_lock = is_lock
        self._product = product
        self._extras = extras or {}

    def rows(self, table: Table, window: Window) -> Iterator[Values]:
        """Read a table, the rows of the window's days where it has a day column."""
        if not table.day_column:
            return iter(self._select(table, "", ()))
        first, last = window
        clause = f" WHERE {table.day_column} >= ? AND {table.day_column} < ?"
        return iter(self._select(table, clause, (first.isoformat(), (last + _DAY).isoformat())))

    def row(self, table: Table, key: str) -> Values | None:
        """Read one row by its key; None when there is none."""
        parts = key.split("|")
        if len(parts) != len(table.keys):
            return None
        clause = " WHERE " + " AND ".join(f"{name} = ?" for name in table.keys)
        found = self._select(table, clause, parts)
        return found[0] if found else None

    def value(self, statement: str) -> Scalar:
        """Read one value; None when there is no row."""
        found = self._run(statement, ())
        return _scalar(found[0][0]) if found else None

    def _select(self, table: Table, clause: str, parameters: Sequence[object]) -> list[Values]:
        extras = self._extras.get(table.name, {})
        names = (*table.columns, *extras)
        wanted = ", ".join((*table.columns, *extras.values()))
        statement = f"SELECT {wanted} FROM {table.name}{clause}"  # noqa: S608 - names are ours
        rows = self._run(statement, parameters)
        return [dict(zip(names, map(_scalar, row), strict=True)) for row in rows]

    def _run(self, statement: str, parameters: Sequence[object]) -> list[Sequence[object]]:
        found: list[Sequence[object]] = []
        try:
            with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(statement, parameters)
                while batch := cursor.fetchmany(_BATCH):
                    found.extend(batch)
        except BitewingError:
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise errors of their own
            raise self.explain(error) from None
        return found

    def explain(self, error: Exception) -> Retryable:
        """Turn a database's error into ours; its text could hold a name and is not kept."""
        kind = type(error).__name__
        if self._is_lock(error):
            return Locked(f"{self._product}'s database is locked ({kind})", retry_after_s=10.0)
        return Retryable(f"{self._product}'s database does not answer ({kind})", retry_after_s=30.0)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return str(value)
