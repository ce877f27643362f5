"""Fixtures that every test may use: databases, a running durable engine, an actor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS
from hypothesis import HealthCheck, settings

from node.db.migrate import migrate
from node.db.session import Actor, open_database
from node.engine import ALL_QUEUES, DurableEngine

# The same examples every time: a push is judged by its change. `--hypothesis-profile=default`
# looks for new ones.
# No example is timed: a machine that is busy elsewhere makes no test fail.
settings.register_profile(
    "repeatable",
    derandomize=True,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

ENGINE_KEY = b"a test's engine key, 32 bytes..!"


@pytest.fixture
def actor() -> Actor:
    """Somebody who may write at the location "main"."""
    return Actor("test", "main")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one migrated SQLite file, copied for every test."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite"
    _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Start a throw-away PostgreSQL cluster; give its URL with a ``{}`` for the database."""
    tools = _postgresql_tools()
    if tools is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed, and CI must test it")
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="bwpg"))  # short: a socket path has 107 characters
    folder.chmod(0o755)
    socket, data = folder / "s", folder / "data"
    socket.mkdir()
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(socket, "postgres")
        shutil.chown(data, "postgres")
    options = f"-k {socket} -c listen_addresses= -c fsync=off -c max_connections=200"
    control = [str(tools / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
    _as_postgres(
        [str(tools / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
    )
    _as_postgres([*control, "-l", str(data / "log"), "-o", options, "start"])
    try:
        yield f"postgresql+psycopg://postgres@/{{}}?host={socket}"
    finally:
        _as_postgres([*control, "-m", "immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    """Make one migrated PostgreSQL database, copied for every test."""
    _administer(postgresql_server, "CREATE DATABASE bitewing_template")
    _prepare(postgresql_server.format("bitewing_template"))
    return postgresql_server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Make an empty, migrated database of each kind; give its SQLAlchemy URL."""
    if request.param == "sqlite":
        path = tmp_path / "bitewing.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_template")
    name = f"test_{uuid.uuid4().hex[:16]}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE bitewing_template")
    yield server.format(name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    """Open an empty, migrated database; runs the test on SQLite and on PostgreSQL."""
    opened = open_database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """Open an empty, migrated database, SQLite only (for tests that need no other)."""
    path = tmp_path / "bitewing.sqlite"
    shutil.copyfile(sqlite_template, path)
    opened = open_database(f"sqlite:///{path}")
    yield opened
    opened.dispose()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[DurableEngine]:
    """Run the durable engine on the test's database (SQLite unless it asks for `database`).

    Register workflows with ``engine.workflow(name)`` before enqueuing them.
    """
    wants_both = "database" in request.fixturenames
    opened: sa.Engine = request.getfixturevalue("database" if wants_both else "sqlite_database")
    running = launch_engine(opened)
    yield running
    close_engine(running)


def launch_engine(opened: sa.Engine) -> DurableEngine:
    """Launch an engine that polls fast, on the database of `opened`."""
    running = make_engine(opened)
    launch(running)
    return running


def make_engine(opened: sa.Engine) -> DurableEngine:
    """Make an engine to register workflows with before it is launched, as the node does."""
    url = opened.url.render_as_string(hide_password=False)
    return DurableEngine(url, ENGINE_KEY, "test-1", poll_s=0.1)


def launch(engine: DurableEngine) -> None:
    """Launch it with fast polls."""
    engine.launch(replace(queue, poll_s=0.05) for queue in ALL_QUEUES)


def close_engine(running: DurableEngine) -> None:
    """Stop the engine and forget its workflows, so that the next test can register its own."""
    running.close(wait_s=1)
    DBOS.destroy(destroy_registry=True)


def _prepare(url: str) -> None:
    opened = open_database(url)
    migrate(opened)
    opened.dispose()
    DurableEngine(url, ENGINE_KEY, "test-1").migrate()
    if url.startswith("sqlite"):
        with sa.create_engine(url).connect() as conn:  # all in one file, to be copied
            conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _administer(server: str, statement: str) -> None:
    admin = sa.create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.exec_driver_sql(statement)
    admin.dispose()


def _postgresql_tools() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _as_postgres(command: list[str]) -> None:
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/"
    )
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.returncode}")
