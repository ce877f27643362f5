"""The database as it is at one moment, in one file, and back: SQLite's own copy, or pg_dump."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from node.backup.manifest import DatabaseEntry, digest
from node.db import audit
from node.db.session import open_database
from node.db.tables import metadata
from node.errors import ConfigError, InvalidInput, Retryable

_TIMEOUT_S = 6 * 3600


@dataclass(frozen=True, slots=True)
class Dump:
    """The database as it was at one moment, and the objects that its rows name."""

    entry: DatabaseEntry
    object_keys: frozenset[str]


def dump_database(db: sa.Engine, folder: Path) -> Dump:
    """Write the whole database into `folder`; the node may go on writing meanwhile."""
    if db.dialect.name == "sqlite":
        return _dump_sqlite(db, folder / "database.sqlite")
    return _dump_postgresql(db, folder / "database.pgdump")


def load_database(entry: DatabaseEntry, folder: Path, url: str) -> None:
    """Bring a dump into the empty database at `url`; it is not yet migrated.

    Raises InvalidInput when the dump is of the other kind or the database holds data.
    """
    parsed = sa.make_url(url)
    kind = parsed.get_backend_name()
    if kind != entry.kind:
        raise InvalidInput(
            f"this backup is of a {entry.kind} database and the configuration names {kind}"
            + ("; restore into SQLite, then use move-database" if entry.kind == "sqlite" else "")
        )
    if kind == "sqlite":
        target = Path(str(parsed.database))
        if target.exists():
            raise InvalidInput(f"{target} exists already; restore into an empty folder")
        shutil.copyfile(folder / entry.name, target)
        target.chmod(0o600)
        return
    _demand_empty(url)
    _postgresql("pg_restore", parsed, "--exit-on-error", "--no-owner", str(folder / entry.name))


def _object_keys(conn: sa.Connection) -> set[str]:
    """Read every key of the object store that a row names."""
    found: set[str] = set()
    for table in metadata.sorted_tables:
        if "storage_key" in table.c:
            column = table.c.storage_key
            found |= set(conn.execute(sa.select(column).where(column.is_not(None))).scalars())
    return found - {""}


def look_at(path: Path) -> sa.Engine:
    """Open a SQLite dump for reading, leaving its bytes as they are."""
    return sa.create_engine(f"sqlite:///file:{path}?mode=ro&immutable=1&uri=true")


def _dump_sqlite(db: sa.Engine, path: Path) -> Dump:
    with closing(db.raw_connection()) as raw:
        raw.cursor().execute("VACUUM INTO ?", (str(path),))
    path.chmod(0o600)
    copy = look_at(path)
    try:
        with copy.connect() as conn:
            return _look(conn, path)
    finally:
        copy.dispose()


def _dump_postgresql(db: sa.Engine, path: Path) -> Dump:
    """Dump under a snapshot that is also read here, so that the counts are the dump's own."""
    with db.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        snapshot = conn.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one()
        _postgresql(
            "pg_dump", db.url, "--format=custom", f"--snapshot={snapshot}", f"--file={path}"
        )
        path.chmod(0o600)
        return _look(conn, path)


def _look(conn: sa.Connection, path: Path) -> Dump:
    head = audit.read_head(conn)
    names = sa.inspect(conn).get_table_names()
    rows = {
        table.name: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
        if table.name in names
    }
    revision = MigrationContext.configure(conn).get_current_revision() or ""
    entry = DatabaseEntry(
        conn.dialect.name, path.name, digest(path), path.stat().st_size, revision, rows,
        head.seq, head.hash,
    )  # fmt: skip
    return Dump(entry, frozenset(_object_keys(conn)))


def _demand_empty(url: str) -> None:
    db = open_database(url)
    try:
        with db.connect() as conn:
            if sa.inspect(conn).get_table_names():
                raise InvalidInput("the database to restore into already holds tables")
    finally:
        db.dispose()


def _postgresql(tool: str, url: sa.URL, *arguments: str) -> None:
    """Run one of PostgreSQL's own tools; the password goes through its environment."""
    program = shutil.which(tool)
    if program is None:
        raise ConfigError(f"{tool} is not installed: it comes with PostgreSQL's client programs")
    address = url.set(drivername="postgresql", password=None)
    command = [program, f"--dbname={address.render_as_string()}", "--no-password", *arguments]
    try:
        done = subprocess.run(
            command, env=_environment(url), capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise Retryable(f"{tool} did not end within {_TIMEOUT_S // 3600} hours") from None
    if done.returncode:
        raise Retryable(f"{tool} failed with status {done.returncode}")


def _environment(url: sa.URL) -> Mapping[str, str]:
    return {**os.environ, **({"PGPASSWORD": url.password} if url.password else {})}
