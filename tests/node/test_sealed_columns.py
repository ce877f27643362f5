"""The page about encryption says what is sealed; every type says which column it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.sealed import sealed_columns
from node.db.session import Actor, begin, read
from node.db.tables import metadata, patient

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


@pytest.mark.parametrize("value", [0, 7, -2.5, 1e30, True, "5", "007", [0], {"a": 0}])
def test_every_json_value_comes_back_as_it_was(database: sa.Engine, value: object) -> None:
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(
            patient.insert().values(
                id="p" * 32, location_id="main", pms_key="1", raw=value, synced_at=tx.now
            )
        )
    with read(database) as conn:
        found = conn.execute(sa.select(patient.c.raw)).scalar_one()
    assert (found, type(found)) == (value, type(value))
