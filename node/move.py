"""Moving up: a practice's SQLite database into PostgreSQL, with everything that is under way.

Rows are copied as they are, sealed where they are, in one transaction of the target; every run
that the durable engine has not ended is queued there again under its own id. Cases wait on in
their rows. The old database stays as it was, except that whatever would leave it is paused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from node.app import hold_executor
from node.config import Config
from node.db import audit, switches
from node.db.migrate import migrate
from node.db.sealed import pass_as_stored
from node.db.session import Actor, begin, open_database, read
from node.db.tables import metadata
from node.engine import DurableEngine
from node.engine_key import engine_key_of
from node.errors import ConfigError, InvalidInput

_BATCH = 1000
_MOVER = "move-database"


@dataclass(frozen=True, slots=True)
class Moved:
    """How much was moved."""

    rows: int
    runs: int
    audit_rows: int


def move_database(config: Config, target_url: str, say: Callable[[str], None]) -> Moved:
    """Copy the configured database into an empty PostgreSQL one; the node must be stopped.

    Raises
    ------
    InvalidInput
        The target is no PostgreSQL address, or already holds data.
    ConfigError
        The node runs, or the copy does not verify; the target is then left without rows.
    """
    if not target_url.startswith(("postgresql://", "postgresql+psycopg://")):
        raise InvalidInput("the target is an address that begins with postgresql://")
    wide_url = target_url.replace("postgresql://", "postgresql+psycopg://", 1)
    release = hold_executor(config)
    source, target = open_database(config.database_url), open_database(wide_url)
    pass_as_stored(source)
    pass_as_stored(target)
    try:
        migrate(source)
        migrate(target)
        _demand_empty(target)
        with _Engines(config, wide_url) as (old, new):
            moved = _copy(config, source, target, old, new, say)
        with begin(source, Actor(_MOVER, config.node.location_id), "database.moved") as tx:
            switches.turn(tx, switches.OUTBOUND, True, "moved to another database")
        return moved
    finally:
        source.dispose()
        target.dispose()
        release()


class _Engines:
    """The durable engine of either database, for queueing only."""

    def __init__(self, config: Config, target_url: str) -> None:
        key = engine_key_of(config)
        location = config.node.location_id
        self._both = [
            DurableEngine(url, key, _MOVER, location) for url in (config.database_url, target_url)
        ]

    def __enter__(self) -> tuple[DurableEngine, DurableEngine]:
        for engine in self._both:
            engine.migrate()
            engine.connect()
        return self._both[0], self._both[1]

    def __exit__(self, *_: object) -> None:
        for engine in self._both:
            engine.close(wait_s=0)


def _copy(
    config: Config,
    source: sa.Engine,
    target: sa.Engine,
    old: DurableEngine,
    new: DurableEngine,
    say: Callable[[str], None],
) -> Moved:
    runs = old.unfinished()
    with read(source) as there, target.begin() as here:
        rows = 0
        for table in metadata.sorted_tables:
            count = _copy_table(there, here, table)
            rows += count
            if count:
                say(f"{table.name:<24} {count}")
        _set_sequences(here)
        held, broken = audit.verify(here)
        if broken is not None:
            raise ConfigError(f"the audit chain does not hold at row {broken.seq}; nothing moved")
        for run in runs:
            new.take(here, run)
    say(f"{'unfinished work':<24} {len(runs)}")
    return Moved(rows, len(runs), held)


def _copy_table(there: sa.Connection, here: sa.Connection, table: sa.Table) -> int:
    """Copy a table; parents of rows in the same table come first by their order of insertion."""
    count = 0
    found = there.execute(sa.select(table), execution_options={"yield_per": _BATCH})
    for part in found.mappings().partitions():
        here.execute(table.insert(), [dict(row) for row in part])
        count += len(part)
    copied = here.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if copied != count:
        raise ConfigError(f"{table.name}: {copied} of {count} rows arrived; nothing moved")
    return count


def _set_sequences(conn: sa.Connection) -> None:
    """Let numbers that the database gives go on after the copied ones."""
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            name = conn.execute(
                sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
                if isinstance(column.type, sa.Integer | sa.BigInteger)
                else sa.select(sa.null())
            ).scalar()
            if name is not None:
                last = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
                conn.execute(sa.select(sa.func.setval(name, last, False)))


def _demand_empty(target: sa.Engine) -> None:
    with read(target) as conn:
        for table in metadata.sorted_tables:
            if conn.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise InvalidInput(f"the target database already holds data (table {table.name})")
