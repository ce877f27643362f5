"""The page of capabilities is what the adapters say."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pms_writeback import matrix
from pms_writeback.pms import Command

PAGE = Path(__file__).parents[2] / "docs" / "pms-capabilities.md"


def test_the_page_is_current():
    assert PAGE.read_text() == matrix.render(), "run python -m pms_writeback.matrix"


def test_every_command_has_a_word_in_every_column():
    names = {command.__name__ for command in get_args(Command)}
    for system in matrix.systems():
        assert set(system.commands) == names
        assert set(system.reads) == set(matrix.READS)
        assert all(system.commands.values())


def test_nothing_is_promised_for_a_vendor_whose_writes_are_licensed():
    for system in matrix.systems():
        if system.name in ("Dentrix", "Eaglesoft"):
            assert all(word.startswith("not licensed") for word in system.commands.values())
