"""A real object store, a line to it that fails when told to, and nodes' data folders over one."""

from __future__ import annotations

import io
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from minio import Minio

from node.config import Config, read_config
from node.db.keys import open_keys
from node.db.session import Actor, new_id, open_database, read
from node.disk import Disk, disk_of
from node.objects.copies import Copy, find_copies
from node.objects.mover import Mover
from node.objects.opening import open_objects
from node.objects.room import Room
from node.objects.store import BucketStore
from tests.conftest import _administer
from tests.node.objects.bad_line import BadLine, bad_line
from tests.node.objects.swift import ACCESS_KEY, REGION, SECRET_KEY, Swift, demanded

ACTOR = Actor("test", "main")


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """OpenStack Swift, once for all tests."""
    with demanded() as server:
        yield server


@pytest.fixture
def line(swift: Swift) -> Iterator[BadLine]:
    """A line to it that can fail."""
    with bad_line(swift.port) as opened:
        yield opened


@pytest.fixture
def there(swift: Swift) -> Minio:
    """The service as its owner sees it, past the bad line."""
    return Minio(f"127.0.0.1:{swift.port}", ACCESS_KEY, SECRET_KEY, secure=False, region=REGION)


@pytest.fixture
def bucket_name(there: Minio) -> str:
    """A new bucket."""
    name = f"films-{new_id()[:12]}"
    there.make_bucket(name)
    return name


@dataclass
class Place:
    """One node's data folder over a shared database and bucket."""

    config: Config
    db: sa.Engine
    there: Minio
    free: list[int] = field(default_factory=lambda: [10**12])

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """Do what a new start does."""
        ring = open_keys(self.db, self.config, ACTOR)
        store = open_objects(self.config, self.db, ring)
        assert isinstance(store, BucketStore)
        self.store = store
        disk = replace(disk_of(self.config), free=lambda _: self.free[0])
        assert isinstance(disk, Disk)
        self.mover = Mover(self.db, store, self.config, Room(self.db, store, self.config, disk))

    def put(self, content: bytes, name: str = "") -> str:
        key = self.store.put("main", name or f"{new_id()}.dcm", lambda file: file.write(content))
        return key.storage_key

    def read(self, key: str) -> bytes:
        return self.store.file(key).read_bytes()

    def file(self, key: str) -> Path:
        return self.store.path(key)

    def copies(self, key: str) -> list[Copy]:
        with read(self.db) as conn:
            return find_copies(conn, [key])

    def states(self, key: str) -> list[str]:
        return [copy.state.value for copy in self.copies(key)]

    def move(self, later: timedelta = timedelta()) -> None:
        """Let a new mover run once, as if `later`."""
        self.reopen()
        self.mover.run_once(datetime.now(UTC) + later)

    def objects(self) -> set[str]:
        bucket, prefix = self.config.objects.bucket, self.config.objects.prefix
        listed = self.there.list_objects(bucket, prefix=prefix, recursive=True)
        return {str(each.object_name).removeprefix(prefix) for each in listed}

    def raw(self, name: str) -> bytes:
        answer = self.there.get_object(
            self.config.objects.bucket, self.config.objects.prefix + name
        )
        return answer.data

    def overwrite(self, name: str, content: bytes) -> None:
        self.there.put_object(
            self.config.objects.bucket,
            self.config.objects.prefix + name,
            io.BytesIO(content),
            len(content),
        )


Open = Callable[..., Place]


BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Make a migrated database; SQLite, unless a test asks for both (`BOTH`)."""
    if request.param == "sqlite":
        path = tmp_path / "shared.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_template")
    name = f"objects_{uuid.uuid4().hex[:12]}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE bitewing_template")
    yield server.format(name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def configured(
    tmp_path: Path, database_url: str, line: BadLine, bucket_name: str
) -> Callable[..., Config]:
    """Configure a node by the name of its data folder; all share database, key and bucket."""

    def make(name: str = "a", **objects: object) -> Config:
        return read_config(
            environment={},
            overrides={
                "node": {"data_dir": tmp_path / name},
                "database": {"url": database_url},
                "encryption": {"key_file": str(tmp_path / "master.key")},
                "objects": {
                    "endpoint": line.url,
                    "bucket": bucket_name,
                    "prefix": "practice/",
                    "access_key": ACCESS_KEY,
                    "secret_key": SECRET_KEY,
                    **objects,
                },
            },
        )

    return make


@pytest.fixture
def place(configured: Callable[..., Config], there: Minio) -> Iterator[Open]:
    """Open data folders of nodes that share database, key and bucket."""
    opened: list[Place] = []

    def begin(name: str = "a", **objects: object) -> Place:
        config = configured(name, **objects)
        opened.append(Place(config, open_database(config.database_url), there))
        return opened[-1]

    yield begin
    for each in opened:
        each.db.dispose()


@pytest.fixture
def node(place: Open) -> Place:
    """One node."""
    return place()
