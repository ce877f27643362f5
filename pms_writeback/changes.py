"""Rows to insert and to update, and the small rules for finding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo

import sqlalchemy as sa

Row = Mapping[str, object]
_CHUNK = 500


@dataclass(slots=True)
class Changes:
    """Rows to insert and update, in the order that foreign keys ask for."""

    inserts: list[tuple[sa.Table, dict[str, object]]] = field(default_factory=list)
    updates: list[tuple[sa.Table, str, dict[str, object]]] = field(default_factory=list)
    touched: dict[str, set[str]] = field(default_factory=dict)

    def touch(self, table: sa.Table, key: str) -> None:
        """Count a changed row under its table."""
        self.touched.setdefault(table.name, set()).add(key)

    def keys(self, table: sa.Table) -> set[str]:
        """Give the keys of a table's changed rows."""
        return self.touched.get(table.name, set())

    @property
    def count(self) -> int:
        """How many rows differ."""
        return sum(len(keys) for keys in self.touched.values())

    def apply(self, conn: sa.Connection) -> None:
        """Write them."""
        waiting: list[dict[str, object]] = []
        for number, (table, values) in enumerate(self.inserts):
            waiting.append(values)
            is_last = number + 1 == len(self.inserts) or self.inserts[number + 1][0] is not table
            if is_last:
                conn.execute(table.insert(), waiting)
                waiting = []
        for table, row_id, values in self.updates:
            key = next(iter(table.primary_key.columns))
            conn.execute(table.update().where(key == row_id).values(values))


def difference(row: Row, values: Mapping[str, object]) -> dict[str, object]:
    """Give the values that a row does not have yet."""
    return {name: value for name, value in values.items() if row[name] != value}


def fit(text: str, length: int) -> str:
    """Fit a column: no NUL (PostgreSQL has none), at most `length` characters."""
    return text.replace("\x00", "")[:length]


def storable(values: Mapping[str, object]) -> dict[str, object]:
    """Take out NUL characters, which PostgreSQL's JSON has none of."""
    return {
        name: value.replace("\x00", "") if isinstance(value, str) else value
        for name, value in values.items()
    }


def chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    """Split into lists that fit one statement, each key once."""
    once = list(dict.fromkeys(keys))
    for start in range(0, len(once), _CHUNK):
        yield once[start : start + _CHUNK]


def bounds(window: tuple[date, date], zone: tzinfo) -> tuple[datetime, datetime]:
    """Give the instants at which the window's first day begins and its last day ends."""
    first, last = window
    start = datetime.combine(first, time(), zone)
    return start, datetime.combine(last + timedelta(days=1), time(), zone)
