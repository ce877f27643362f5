"""Whenever the process is killed, the case goes on and the laboratory has one package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.orchestration.killing import LEAST, run_killed
from tests.orchestration.labs import killed_case


@pytest.mark.faults
def test_a_lab_case_survives_a_kill_around_every_commit(
    tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "bitewing.sqlite")
    kills = run_killed("tests.orchestration.labs.killed_case", tmp_path, seed=7, reach=45)
    assert kills >= LEAST
    assert killed_case.ended(tmp_path) == [("done", "seated", "seated")]
    assert len(killed_case.packages(tmp_path)) == 1
