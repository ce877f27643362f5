"""Alembic's entry: run the migrations on the engine that node.db.migrate passes in.

SQLite changes a table by making it anew; while that goes on nothing checks what refers to it. It is
checked afterwards, whole (SQLite: "Making Other Kinds Of Table Schema Changes", step 10).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import context

from node.db.tables import metadata
from node.errors import ConfigError

_engine = context.config.attributes["engine"]


@contextmanager
def _without_references(conn: sa.Connection) -> Iterator[None]:
    if conn.dialect.name != "sqlite":
        yield
        return
    plain = conn.connection.driver_connection  # a pragma counts outside transactions only
    assert plain is not None
    plain.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        plain.execute("PRAGMA foreign_keys=ON")
    broken = plain.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise ConfigError(f"after the upgrade a row of {broken[0]} refers to no row of {broken[2]}")


with (
    _engine.connect().execution_options(bitewing_write=True) as _conn,
    _without_references(_conn),
):
    context.configure(
        connection=_conn,
        target_metadata=metadata,
        render_as_batch=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    _conn.commit()
