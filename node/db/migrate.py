"""Bring an empty or older database to the present schema (Alembic)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from node.errors import ConfigError

#: PostgreSQL's advisory lock of whoever migrates; the number means nothing.
_LOCK = 0x62697465


def _alembic(engine: sa.Engine) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    return config


def head_revision(engine: sa.Engine) -> str:
    """Return the revision this program needs."""
    head = ScriptDirectory.from_config(_alembic(engine)).get_current_head()
    assert head is not None
    return head


def current_revision(engine: sa.Engine) -> str | None:
    """Return the revision the database has; None for an empty one."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def migrate(engine: sa.Engine) -> str:
    """Apply every missing migration; parts of a node that start together do it one after another.

    Returns the revision. Raises ConfigError when the database is newer than we are.
    """
    with _alone(engine):
        return _migrate(engine)


def _migrate(engine: sa.Engine) -> str:
    script = ScriptDirectory.from_config(_alembic(engine))
    current = current_revision(engine)
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(f"the database is of a newer release (revision {current}): upgrade first")
    command.upgrade(_alembic(engine), "head")
    return head_revision(engine)


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Wait until nobody else migrates; SQLite's file lock does that by itself."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as conn:
        conn.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
        conn.commit()  # the lock belongs to the connection, not to its transaction
        try:
            yield
        finally:
            conn.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
            conn.commit()
