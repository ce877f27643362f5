"""`bitewing keys …`, as an operator runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from node.__main__ import cli
from node.config import read_config
from node.db.session import Actor, begin, open_database
from node.db.tables import data_key
from node.dicom.instances import FolderStore
from node.engine_key import engine_key_of, keep_wrapped
from node.errors import ConfigError, InvalidInput, Rejected

Run = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the folder; give what it printed."""
    monkeypatch.chdir(folder.parent)

    def bitewing(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        done = cli([*arguments, "--data-dir", str(folder)], standalone_mode=False)
        assert (done or 0) == status
        return "".join(capsys.readouterr())

    return bitewing


def ids(listed: str, what: str) -> list[str]:
    return re.findall(rf"^([0-9a-f]{{16}})  {what}", listed, re.MULTILINE)


def keep_a_film(folder: Path) -> Path:
    """Store a film as the node does; give its file."""
    from node.db.keys import attach_keys

    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    db = open_database(config.database_url)
    store = FolderStore(folder / "images", ring=attach_keys(db, config, "main"))
    db.dispose()
    stored = store.put("main", "film0001.dcm", lambda file: file.write(b"film"))
    return store.path(stored.storage_key)


def test_keys_from_the_first_to_the_last(run: Run, folder: Path) -> None:
    assert f"KEEP A COPY of {folder}.key" in run("keys", "create")
    with pytest.raises(Rejected, match="has its keys already"):
        run("keys", "create")
    listed = run("keys", "list")
    assert "sealed: wholly" in listed
    (old,) = ids(listed, "data")
    assert len(ids(listed, "lookup")) == 1
    film = keep_a_film(folder)
    assert "2 keys open" in run("keys", "check", "--files")
    assert "new key" in run("keys", "rotate", "--later")
    listed = run("keys", "list", "--uses")
    assert re.search(rf"^{old}  data +old .* 1 in use$", listed, re.MULTILINE)
    assert "plain: 0" in listed
    with pytest.raises(Rejected, match="1 values or files are sealed with it"):
        run("keys", "drop", old)
    assert "0 values and 1 files sealed anew" in run("keys", "reseal")
    assert "0 values and 0 files sealed anew" in run("keys", "reseal")
    _age(folder, old)
    run("keys", "drop", old)
    assert old not in run("keys", "list")
    run("keys", "check", "--files")
    film.write_bytes(film.read_bytes()[:-1])
    assert "main/fi/film0001.dcm: a stored object is cut off" in run(
        "keys", "check", "--files", status=1
    )


def test_the_master_key_is_replaced(run: Run, folder: Path, tmp_path: Path) -> None:
    run("keys", "create")
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    keep_wrapped(config)
    key = engine_key_of(config)
    assert key not in (folder / "engine.key").read_bytes()
    new = tmp_path / "safe" / "master.key"
    assert "2 keys wrapped anew" in run("keys", "rewrap", "--new-key-file", str(new))
    with pytest.raises(ConfigError, match="is not the one that wrapped"):
        run("keys", "check")
    with pytest.raises(ConfigError, match="is not the one that wrapped"):
        engine_key_of(config)
    (tmp_path / "new.toml").write_text(f'[encryption]\nkey_file = "{new}"\n')
    assert "2 keys open" in run("keys", "check", "--config", str(tmp_path / "new.toml"))
    moved = read_config(
        tmp_path / "new.toml", environment={}, overrides={"node": {"data_dir": folder}}
    )
    assert engine_key_of(moved) == key


def test_a_plain_engine_key_goes_on_wrapped(folder: Path, run: Run) -> None:
    run("keys", "create")
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    before = engine_key_of(config)
    assert (folder / "engine.key").read_bytes() == before
    keep_wrapped(config)
    keep_wrapped(config)
    assert engine_key_of(config) == before
    assert before not in (folder / "engine.key").read_bytes()


def test_rewrap_wants_to_know_where_to(run: Run) -> None:
    run("keys", "create")
    with pytest.raises(InvalidInput, match="either --to or --new-key-file"):
        run("keys", "rewrap")


def test_check_speaks_of_encryption(run: Run, folder: Path) -> None:
    run("keys", "create")
    Path(f"{folder}.key").unlink()
    assert "is missing; put it back" in run("check", status=2)


def _age(folder: Path, key_id: str) -> None:
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    with begin(db, Actor("test", "main"), "test") as tx:
        tx.conn.execute(
            data_key.update()
            .where(data_key.c.key_id == key_id)
            .values(replaced_at=tx.now - timedelta(days=1))
        )
        tx.record("key")
    db.dispose()
