"""Whenever the process is killed, the case goes on and nothing outside is done twice or never."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.orchestration import killed_letters
from tests.orchestration.killing import LEAST, run_killed


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2])
def test_every_letter_goes_out_once_whenever_the_process_is_killed(
    tmp_path: Path, sqlite_template: Path, seed: int
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "bitewing.sqlite")
    kills = run_killed("tests.orchestration.killed_letters", tmp_path, seed=seed)
    assert kills >= LEAST
    assert killed_letters.Ledger(tmp_path).letters == ["first", "second", "third"]
    assert killed_letters.states(tmp_path) == ["done"]
