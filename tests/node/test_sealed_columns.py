"""The page about encryption says what is sealed; every type says which column it is."""

from __future__ import annotations

import re
from pathlib import Path

from node.db.sealed import sealed_columns
from node.db.tables import metadata

PAGE = Path(__file__).parents[2] / "docs" / "encryption.md"


def told() -> dict[str, tuple[set[str], set[str]]]:
    """Read the page's table: what is sealed in each table, and what of it is looked up."""
    found = {}
    for line in PAGE.read_text().splitlines():
        row = re.fullmatch(r"\| `(\w+)` \| (`[^|]*`) \|([^|]*)\|", line)
        if row:
            names = [set(re.findall(r"`(\w+)`", row[at])) for at in (2, 3)]
            found[row[1]] = (names[0], names[1])
    return found


def test_the_page_lists_every_sealed_column() -> None:
    sealed: dict[str, tuple[set[str], set[str]]] = {}
    for column, kind in sealed_columns(metadata):
        all_of_it, looked_up = sealed.setdefault(column.table.name, (set(), set()))
        all_of_it.add(column.name)
        if kind.for_lookup:
            looked_up.add(column.name)
    assert told() == sealed


def test_only_what_is_looked_up_shares_its_name() -> None:
    for column, kind in sealed_columns(metadata):
        if not kind.for_lookup:
            assert kind.about == f"{column.table.name}.{column.name}"
