"""The file of a practice on SQLite: who may read it, and which SQLite writes it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from node.db.session import open_database
from node.db.sqlite_release import check_sqlite
from node.errors import ConfigError


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists instead")
def test_a_new_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "bitewing-data"
    database = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    database.dispose()


def test_a_python_with_too_old_a_sqlite_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"3\.12 runs with SQLite 3\.40\.1 here, and needs 3\.42"):
        check_sqlite((3, 12), (3, 40, 1))
    check_sqlite((3, 11), (3, 40, 1))
    check_sqlite((3, 13), (3, 42, 0))
