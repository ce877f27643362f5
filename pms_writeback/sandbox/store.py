"""Rows of the sandbox practice in one SQLite file, and the wall clock that stamps them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from node.errors import ConfigError
from pms_writeback.pms import OfficeTime
from pms_writeback.sandbox.tables import (
    FIELD_TYPES,
    FILES,
    KEYS,
    PATIENT_LINKS,
    SCHEMA,
    TABLES,
    metadata,
)

Value = str | int | float
Row = dict[str, Value]
"""One row as the wire has it; the sandbox's only currency."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Read this machine's clock."""
    return datetime.now(UTC)


class ServerClock:
    """The database server's wall clock: the office's zone, and as wrong as it was told to be."""

    def __init__(self, time_zone: str, clock: Clock = utc_now) -> None:
        self.office = OfficeTime(time_zone)
        self.skew = timedelta()
        self._clock = clock

    def show(self, moment: datetime) -> None:
        """Set the clock to an instant; it goes on from there."""
        self.skew = moment - self._clock()

    def now(self) -> datetime:
        """Give the naive wall-clock time, whole seconds."""
        return self.office.to_wall(self._clock() + self.skew).replace(microsecond=0)


def stamp(moment: datetime) -> str:
    """Write a naive time as the wire does."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


class Chart:
    """One open transaction on the practice's rows."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._cache: dict[tuple[str, int], Row | None] = {}
        self.now = now

    @property
    def stamp(self) -> str:
        """The server's clock at the begin of this transaction, as the wire writes it."""
        return stamp(self.now)

    def get(self, resource: str, key: int) -> Row | None:
        """Read one row by its primary key."""
        if (resource, key) not in self._cache:
            table = TABLES[resource]
            found = self.select(resource, table.c[KEYS[resource]] == key)
            self._cache[resource, key] = found[0] if found else None
        return self._cache[resource, key]

    def select(
        self,
        resource: str,
        *conditions: ColumnElement[bool],
        order: Sequence[ColumnElement[object]] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """Read rows in primary-key order unless another is given."""
        table = TABLES[resource]
        query = select(table).where(*conditions).order_by(*order, table.c[KEYS[resource]])
        if limit is not None:
            query = query.limit(limit).offset(offset)
        return [dict(found._mapping) for found in self._connection.execute(query)]

    def count(self, resource: str) -> int:
        """Count the rows of one resource."""
        query = select(func.count()).select_from(TABLES[resource])
        return self._connection.execute(query).scalar_one()

    def add(self, resource: str, values: Mapping[str, Value]) -> Row:
        """Insert a row with today's stamps and give it back whole."""
        filled = {**_stamps(resource, self.stamp, _ENTRY_STAMPS), **values}
        result = self._connection.execute(TABLES[resource].insert().values(filled))
        return self._fresh(resource, int(result.lastrowid))

    def add_many(self, resource: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Insert rows with today's stamps where they have none of their own."""
        stamps = _stamps(resource, self.stamp, _ENTRY_STAMPS)
        grouped: dict[tuple[str, ...], list[dict[str, Value]]] = {}
        for row in rows:
            filled = {**stamps, **row}
            grouped.setdefault(tuple(filled), []).append(filled)
        for each in grouped.values():
            self._connection.execute(TABLES[resource].insert(), each)
        self._cache.clear()

    def highest(self, resource: str) -> int:
        """Give the highest primary key in use, 0 in an empty table."""
        key = TABLES[resource].c[KEYS[resource]]
        return self._connection.execute(select(func.max(key))).scalar() or 0

    def change(self, resource: str, key: int, values: Mapping[str, Value]) -> Row:
        """Update a row, its change stamp included, and give it back whole."""
        table = TABLES[resource]
        if filled := {**_stamps(resource, self.stamp, _EDIT_STAMPS), **values}:
            self._connection.execute(
                table.update().where(table.c[KEYS[resource]] == key).values(filled)
            )
        return self._fresh(resource, key)

    def remove(self, resource: str, key: int) -> None:
        """Delete a row for good."""
        table = TABLES[resource]
        self._connection.execute(table.delete().where(table.c[KEYS[resource]] == key))
        self._cache.clear()

    def add_file(self, key: int, extension: str, sha256: str, content: bytes) -> None:
        """Keep the bytes of a document."""
        values = {"DocNum": key, "Extension": extension, "Sha256": sha256, "Content": content}
        self._connection.execute(FILES.insert().values(values))

    def file(self, key: int) -> tuple[str, bytes] | None:
        """Read the extension and bytes of a document."""
        query = select(FILES.c.Extension, FILES.c.Content).where(FILES.c.DocNum == key)
        found = self._connection.execute(query).one_or_none()
        return None if found is None else (found.Extension, found.Content)

    def remove_file(self, key: int) -> None:
        """Delete the bytes of a document."""
        self._connection.execute(FILES.delete().where(FILES.c.DocNum == key))

    def link_patients(self, source: int, target: int, link_type: int) -> None:
        """Note that one patient is linked to another, as of now."""
        values = {"PatNumFrom": source, "PatNumTo": target, "LinkType": link_type}
        self._connection.execute(PATIENT_LINKS.insert().values(**values, DateTimeLink=self.stamp))

    def query(self, sql: str, limit: int, offset: int) -> list[Row]:
        """Run one reading statement over the tables; raises ValueError for any other."""
        with self._reading_only():
            try:
                found = self._connection.exec_driver_sql(sql)
            except DBAPIError as error:
                raise ValueError(str(error.orig)) from None
            return [dict(row) for row in found.mappings().all()[offset : offset + limit]]

    @contextmanager
    def _reading_only(self) -> Iterator[None]:
        self._connection.exec_driver_sql("PRAGMA query_only = ON")
        try:
            yield
        finally:
            self._connection.exec_driver_sql("PRAGMA query_only = OFF")

    def _fresh(self, resource: str, key: int) -> Row:
        self._cache.clear()
        row = self.get(resource, key)
        if row is None:
            raise LookupError(f"{resource} {key} vanished in its own transaction")
        return row


_EDIT_STAMPS = ("DateTStamp", "SecDateTEdit")
_ENTRY_STAMPS = (
    *_EDIT_STAMPS,
    "SecDateTEntry",
    "SecDateEntry",
    "DateTEntry",
    "EntryDateTime",
    "DateTimeEntry",
    "DateTimeOriginal",
    "DateTimeNote",
    "HistDateTStamp",
    "DateEntryC",
)


def _stamps(resource: str, now: str, names: tuple[str, ...]) -> Row:
    kinds = FIELD_TYPES[resource]
    return {name: now[:10] if kinds[name] == "date" else now for name in names if name in kinds}


class Store:
    """The SQLite file; transactions are serial, as one small office needs."""

    def __init__(self, path: Path, clock: ServerClock) -> None:
        self.clock = clock
        self.path = path
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        event.listen(self._engine, "connect", _pragmas)
        with self._engine.begin() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found not in (0, SCHEMA):
                raise ConfigError(f"{path} was made by another version of the sandbox; remove it")
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA:d}")

    @contextmanager
    def begin(self) -> Iterator[Chart]:
        """Open a transaction; it commits unless the block raises."""
        with self._lock, self._engine.begin() as connection:
            yield Chart(connection, self.clock.now())

    def rows(self, resource: str) -> list[Row]:
        """Read every row of one resource, in primary-key order."""
        with self.begin() as chart:
            return chart.select(resource)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()


def _pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
