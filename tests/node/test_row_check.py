"""Sealed values exchanged between rows of one column: which are found, and which are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db import keys, tables
from node.db.session import Actor, begin, read
from node.db.settled import digest_of
from node.domain.study import name_key
from node.row_check import misplaced_rows
from tests.node.dicom.conftest import NOW, Practice
from tests.node.test_keys import _write

ACTOR = Actor("test", "main")
EVERY_NAME = ("family_name", "given_name", "middle_name", "birth_date", "name_key", "name_start")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return read_config(environment={}, overrides={"node": {"data_dir": tmp_path / "data"}})


@pytest.fixture
def practice(database: sa.Engine, config: Config) -> Practice:
    """Two patients, each with a signed study and a write that landed."""
    keys.open_keys(database, config, ACTOR)
    made = Practice(database)
    user_id = made.insert(
        tables.user_account, username="a", display_name="A", role="dentist", password_hash="x"
    )
    for number, family in (("17", "Quendel"), ("18", "Wurz")):
        patient_id = made.patient(family=family, number=number)
        study_id = made.insert(
            tables.study, study_instance_uid=f"1.2.{number}", patient_id=patient_id,
            state="signed", match_state="matched", received_at=NOW, last_image_at=NOW,
        )  # fmt: skip
        made.insert(
            tables.review, study_id=study_id, version=1, signed_by=user_id, signer_name="A",
            signer_role="dentist", statement="s", content_hash="c", software_version="1",
            content={"study_id": study_id, "version": 1, "signer_id": user_id}, signed_at=NOW,
        )  # fmt: skip
        command = {"patient_key": number, "text": f"note of {number}"}
        command_id = made.insert(
            tables.pms_command, key=number, ref=number, study_id=study_id, patient_id=patient_id,
            kind="AppendCommlog", payload={"command": command}, state="done", created_at=NOW,
            updated_at=NOW,
        )  # fmt: skip
        with begin(database, ACTOR, "pms.command_done") as tx:
            tx.record(f"command:{command_id}", command=digest_of(command))
    assert list(misplaced_rows(database, "main")) == []
    return made


def exchange(db: sa.Engine, table: str, key: str, *columns: str) -> None:
    """Let the two rows of a table change values, as somebody who may write there can."""
    with read(db) as conn:
        one, other = conn.execute(
            sa.text(f"SELECT {', '.join((key, *columns))} FROM {table} ORDER BY {key}")
        ).all()
    for row, values in ((one, other), (other, one)):
        for place, column in enumerate(columns, 1):
            _write(db, f"UPDATE {table} SET {column} = '{values[place]}' WHERE {key} = '{row[0]}'")


@pytest.mark.parametrize(
    ("table", "key", "columns", "words"),
    [
        ("patient_identity", "patient_id", ("family_name",), "what it is found by"),
        ("patient_identity", "patient_id", ("name_key", "name_start"), "what it is found by"),
        ("review", "id", ("content",), "another study's"),
        ("pms_command", "id", ("payload",), "not the one that was sent"),
    ],
)
def test_values_exchanged_between_two_rows_are_found(
    practice: Practice, table: str, key: str, columns: tuple[str, ...], words: str
) -> None:
    exchange(practice.db, table, key, *columns)
    found = list(misplaced_rows(practice.db, "main"))
    assert [(each.table, words in each.reason) for each in found] == [(table, True)] * 2


@pytest.mark.parametrize("columns", [EVERY_NAME, ("birth_date",)])
def test_what_no_other_place_tells_of_is_not_found(
    practice: Practice, columns: tuple[str, ...]
) -> None:
    """Known and written down in docs/encryption.md: a row's whole identity, or a birth date."""
    with begin(practice.db, ACTOR, "test") as tx:
        first = tx.conn.execute(sa.select(sa.func.min(tables.patient_identity.c.patient_id)))
        tx.conn.execute(
            tables.patient_identity.update()
            .where(tables.patient_identity.c.patient_id == first.scalar())
            .values(birth_date=NOW.date())
        )
    exchange(practice.db, "patient_identity", "patient_id", *columns)
    assert list(misplaced_rows(practice.db, "main")) == []


def test_a_value_that_does_not_open_is_named(practice: Practice) -> None:
    _write(practice.db, "UPDATE patient_identity SET given_name = family_name")
    found = list(misplaced_rows(practice.db, "main"))
    assert ["changed or moved" in each.reason for each in found] == [True, True]


def test_a_reduced_write_is_known_by_its_digest(practice: Practice) -> None:
    with begin(practice.db, ACTOR, "test") as tx:
        for row in tx.conn.execute(sa.select(tables.pms_command)).all():
            reduced = {"command": {}, "digest": digest_of(row.payload["command"])}
            tx.conn.execute(
                tables.pms_command.update()
                .where(tables.pms_command.c.id == row.id)
                .values(payload=reduced)
            )
    assert list(misplaced_rows(practice.db, "main")) == []
    exchange(practice.db, "pms_command", "id", "payload")
    assert len(list(misplaced_rows(practice.db, "main"))) == 2


def test_a_name_of_two_words_is_its_rows_own(practice: Practice) -> None:
    with begin(practice.db, ACTOR, "test") as tx:
        tx.conn.execute(
            tables.patient_identity.update().values(
                family_name="O'Brien-Smith",
                given_name="Ünal Maria",
                name_key=name_key("O'Brien-Smith", "Ünal Maria"),
                name_start="obr",
            )
        )
    assert list(misplaced_rows(practice.db, "main")) == []
