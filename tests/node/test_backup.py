"""A practice's data is copied, checked, and comes back whole into an empty folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from node.__main__ import cli
from node.app import hold_executor
from node.backup.keeper import BackupKeeper
from node.backup.runs import Run, create, find_run, problems_of, prune, runs_of
from node.config import Config, read_config
from node.db import audit, switches
from node.db.keys import open_keys
from node.db.master import key_path
from node.db.session import Actor, begin, new_id, open_database, read
from node.db.tables import instance, metadata, study
from node.dicom.instances import FolderStore
from node.errors import ConfigError, InvalidInput, Retryable
from node.restoring import restore
from tests.conftest import _administer

ACTOR = Actor("test", "main")


def configured(folder: Path, url: str = "", **sections: dict[str, object]) -> Config:
    node = {"data_dir": folder, "time_zone": "America/New_York"}
    database = {"url": url} if url.startswith("postgresql") else {}
    return read_config(environment={}, overrides={"node": node, "database": database, **sections})


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Config:
    return configured(tmp_path, database_url)


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture
def sqlite_config(tmp_path: Path, sqlite_template: Path) -> Config:
    shutil.copyfile(sqlite_template, tmp_path / "bitewing.sqlite")
    return configured(tmp_path)


@pytest.fixture
def db(sqlite_config: Config) -> Iterator[sa.Engine]:
    opened = open_database(sqlite_config.database_url)
    yield opened
    opened.dispose()


def add_image(db: sa.Engine, config: Config, content: bytes) -> str:
    """Store a study of one image whose bytes are `content`."""
    image_id, study_id = new_id(), new_id()
    store = FolderStore(config.node.data_dir / "images")
    stored = store.put("main", image_id, lambda file: file.write(content) and None)
    common = {"location_id": "main"}
    with begin(db, ACTOR, "test.image") as tx:
        tx.conn.execute(
            study.insert().values(
                id=study_id, study_instance_uid=f"1.2.{int(study_id, 16)}"[:64], state="ready",
                match_state="unmatched", received_at=tx.now, last_image_at=tx.now, **common,
            )
        )  # fmt: skip
        tx.conn.execute(
            instance.insert().values(
                id=image_id, study_id=study_id, sop_instance_uid=f"1.3.{int(image_id, 16)}"[:64],
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1.3",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                sha256=stored.sha256, size_bytes=stored.size_bytes, storage_key=stored.storage_key,
                state="received", received_at=tx.now, **common,
            )
        )  # fmt: skip
    return stored.storage_key


def contents(db: sa.Engine) -> dict[str, list[object]]:
    with read(db) as conn:
        return {
            table.name: sorted(map(repr, conn.execute(sa.select(table)).all()))
            for table in metadata.sorted_tables
            if table.name not in ("audit", "workflow_switch", "sync_state")
        }


def test_everything_comes_back_and_what_leaves_the_house_is_held(
    database: sa.Engine, config: Config, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = add_image(database, config, b"first")
    (config.node.data_dir / "engine.key").write_bytes(b"k" * 32)
    for name in ("node-1-main.lock", "reserve"):  # no data
        (config.node.data_dir / name).touch()
    run = create(database, config, root)
    before = contents(database)
    add_image(database, config, b"after the backup")
    assert problems_of(root, run) == []

    folder = tmp_path_factory.mktemp("new") / "data"
    with _empty_database(config) as url:
        restored = configured(folder, url)
        done = restore(restored, root, find_run(root), lambda _: None)
        again = open_database(restored.database_url)
        assert contents(again) == before
        with read(again) as conn:
            assert switches.is_paused(conn, "main", [switches.OUTBOUND])
            assert audit.verify(conn)[1] is None
        again.dispose()
    assert done.files == 2
    assert (folder / "images" / key).read_bytes() == b"first"
    assert (folder / "engine.key").stat().st_mode & 0o777 == 0o600


@contextmanager
def _empty_database(config: Config) -> Iterator[str]:
    """The database to restore into: the folder's SQLite file, or a new one on the server."""
    url = config.database.url.get_secret_value()
    if not url:
        yield ""
        return
    server = url.replace(f"/{sa.make_url(url).database}?", "/{}?")
    name = f"restored_{new_id()[:8]}"
    _administer(server, f"CREATE DATABASE {name}")
    yield server.format(name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_without_the_master_key_it_is_said_that_nothing_can_be_read(
    db: sa.Engine, sqlite_config: Config, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    open_keys(db, sqlite_config, ACTOR)
    create(db, sqlite_config, root)
    there = configured(tmp_path_factory.mktemp("machine") / "data")
    assert "master key" in restore(there, root, find_run(root), print).key_problem
    kept = configured(tmp_path_factory.mktemp("with") / "data")
    key_path(kept).write_bytes(key_path(sqlite_config).read_bytes())
    key_path(kept).chmod(0o600)
    assert restore(kept, root, find_run(root), print).key_problem == ""


def test_the_next_run_copies_only_what_is_new_and_pruning_only_what_nobody_names(
    db: sa.Engine, sqlite_config: Config, root: Path
) -> None:
    kept, gone = (add_image(db, sqlite_config, each) for each in (b"kept", b"gone"))
    create(db, sqlite_config, root)
    with begin(db, ACTOR, "test.purged") as tx:
        tx.conn.execute(instance.delete().where(instance.c.storage_key == gone))
    (sqlite_config.node.data_dir / "images" / gone).unlink()
    add_image(db, sqlite_config, b"new")
    create(db, sqlite_config, root)
    assert len(list((root / "pool").glob("??/*"))) == 3
    assert prune(root, 1) == (1, 1)
    (left,) = runs_of(root)
    assert problems_of(root, left) == []
    assert f"images/{kept}" in {file.path for file in left.manifest.files}


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_flipped_bit_is_found_and_not_restored(
    tmp_path_factory: pytest.TempPathFactory, whole_run: tuple[Path, Run], data: st.DataObject
) -> None:
    root, run = whole_run
    files = [run.folder / run.manifest.database.name, *sorted((root / "pool").glob("??/*"))]
    path = data.draw(st.sampled_from(files))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    whole = path.read_bytes()
    path.write_bytes(raw)
    try:
        assert problems_of(root, run)
        if path.parent != run.folder:
            folder = tmp_path_factory.mktemp("not")
            with pytest.raises(InvalidInput, match="changed in the backup"):
                restore(configured(folder), root, run, lambda _: None)
    finally:
        path.write_bytes(whole)


@pytest.fixture
def whole_run(db: sa.Engine, sqlite_config: Config, root: Path) -> tuple[Path, Run]:
    add_image(db, sqlite_config, b"an image" * 99)
    return root, create(db, sqlite_config, root)


def test_a_file_that_rows_name_and_nobody_has_is_no_backup(
    db: sa.Engine, sqlite_config: Config, root: Path
) -> None:
    key = add_image(db, sqlite_config, b"lost")
    (sqlite_config.node.data_dir / "images" / key).unlink()
    with pytest.raises(Retryable, match="1 files"):
        create(db, sqlite_config, root)
    assert runs_of(root) == []
    assert list(root.glob("*Z")) == []


def test_what_a_run_that_was_cut_off_left_goes_with_the_next_pruning(
    db: sa.Engine, sqlite_config: Config, root: Path
) -> None:
    cut = root / "20200101T020000.000000Z"
    cut.mkdir()
    (cut / "database.sqlite").touch()
    run = create(db, sqlite_config, root)
    assert prune(root, 5) == (0, 0)
    assert [folder.name for folder in root.glob("*Z")] == [run.name]


def test_what_cannot_be_right_is_refused(
    db: sa.Engine, sqlite_config: Config, whole_run: tuple[Path, Run], tmp_path: Path
) -> None:
    root, run = whole_run
    quiet = print
    with pytest.raises(InvalidInput, match="inside the data folder"):
        create(db, sqlite_config, tmp_path / "images" / "backup")
    with pytest.raises(InvalidInput, match="not empty"):
        restore(sqlite_config, root, run, quiet)
    elsewhere = read_config(
        environment={}, overrides={"node": {"data_dir": tmp_path / "b", "location_id": "north"}}
    )
    with pytest.raises(InvalidInput, match="another location"):
        restore(elsewhere, root, run, quiet)
    other = configured(tmp_path / "c")
    release = hold_executor(other)
    with pytest.raises(ConfigError, match="already runs"):
        restore(other, root, run, quiet)
    release()
    with pytest.raises(InvalidInput, match="no such whole backup"):
        find_run(root, "yesterday")


def test_a_manifest_of_another_form_or_that_points_outside_is_refused(
    whole_run: tuple[Path, Run], tmp_path: Path
) -> None:
    root, run = whole_run
    path = run.folder / "manifest.json"
    said = json.loads(path.read_text())
    said["files"][0]["path"] = "../outside"
    path.write_text(json.dumps(said))
    with pytest.raises(InvalidInput, match="outside"):
        restore(configured(tmp_path / "x"), root, find_run(root), print)
    path.write_text(json.dumps({**said, "form": 99}))
    with pytest.raises(InvalidInput, match="form"):
        runs_of(root)


def test_the_node_makes_one_backup_a_day_and_rests_after_a_failure(
    db: sa.Engine, sqlite_config: Config, root: Path
) -> None:
    config = configured(
        sqlite_config.node.data_dir, backup={"folder": str(root), "at": "02:00", "keep": 2}
    )
    keeper, other = BackupKeeper(db, config), BackupKeeper(db, config)
    key = add_image(db, config, b"x")
    night = datetime(2026, 3, 3, 7, 30, tzinfo=UTC)  # half past two in New York
    file = config.node.data_dir / "images" / key
    file.rename(file.with_suffix(".away"))
    with pytest.raises(Retryable):
        keeper.run_once(night)
    assert not other.run_once(night + timedelta(minutes=30))
    file.with_suffix(".away").rename(file)
    assert other.run_once(night + timedelta(minutes=61))
    with read(db) as conn:
        rows = audit.read_head(conn).seq
    assert not keeper.run_once(night + timedelta(hours=12))
    with read(db) as conn:  # a look that finds nothing to do writes nothing
        assert audit.read_head(conn).seq == rows
    for day in (1, 2, 3):
        assert keeper.run_once(night + timedelta(days=day))
    assert len(runs_of(root)) == 2


def test_the_commands_walk_from_backup_to_restored_practice(
    db: sa.Engine, sqlite_config: Config, root: Path, tmp_path: Path
) -> None:
    add_image(db, sqlite_config, b"x")
    at = ["--data-dir", str(sqlite_config.node.data_dir)]
    run = CliRunner()
    assert run.invoke(cli, ["backup", "create", str(root), *at]).exit_code == 0
    assert "1 files" in run.invoke(cli, ["backup", "list", str(root)]).output
    assert "is whole" in run.invoke(cli, ["backup", "verify", str(root)]).output
    new = ["--data-dir", str(tmp_path / "new"), "--yes"]
    assert "outbound is paused" in run.invoke(cli, ["restore", str(root), *new]).output
    (pooled,) = (root / "pool").glob("??/*")
    pooled.unlink()
    broken = run.invoke(cli, ["backup", "verify", str(root)])
    assert (broken.exit_code, "is missing" in broken.output) == (1, True)
