"""Parts of one node that start at the same moment, as containers do, on one empty database."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from node.db.migrate import current_revision, head_revision

MIGRATE = """
import sys
from node.db.migrate import migrate
from node.db.session import open_database
from node.engine import DurableEngine
db = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(db)
DurableEngine(sys.argv[1], b"a test's engine key, 32 bytes..!", "test-1").migrate()
"""


@pytest.fixture
def empty_url(postgresql_server: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    admin = sa.create_engine(postgresql_server.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgresql_server.format(name)
    with admin.connect() as conn:
        conn.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_parts_that_start_together_make_the_schema_once(empty_url: str) -> None:
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for part in parts:
        assert part.stdout is not None
        assert part.stdout.readline() == "ready\n"
    for part in parts:
        assert part.stdin is not None
        part.stdin.write("go\n")
        part.stdin.flush()
    said = [part.communicate(timeout=240)[1] for part in parts]
    assert [part.returncode for part in parts] == [0, 0], said
    db = sa.create_engine(empty_url)
    assert current_revision(db) == head_revision(db)
    db.dispose()
