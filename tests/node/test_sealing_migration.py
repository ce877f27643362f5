"""The step to columns that can be sealed, with rows of before in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig

import node.db
from node.db.migrate import migrate
from node.db.session import new_id, open_database, read
from node.db.tables import patient, patient_identity, payer_mail, pms_record

AT = "2026-01-02 03:04:05.000000"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        db = open_database(f"sqlite:///{tmp_path / 'old.sqlite'}")
        yield db
        db.dispose()
        return
    from tests.conftest import _administer

    server, name = request.getfixturevalue("postgresql_server"), f"old_{new_id()[:12]}"
    _administer(server, f"CREATE DATABASE {name}")
    db = open_database(server.format(name))
    yield db
    db.dispose()
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def upgrade_to(db: sa.Engine, revision: str) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(node.db.__file__).parent / "migrations"))
    config.attributes["engine"] = db
    command.upgrade(config, revision)


def test_rows_of_before_are_there_after_the_step(empty: sa.Engine) -> None:
    upgrade_to(empty, "0022")
    mail = b'ISA*00*\xe9"' * 50
    with empty.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        for name, values in (
            ("patient", {"id": "p1", "pms_key": "0017", "synced_at": AT, "raw": '{"odd": null}'}),
            (
                "patient_identity",
                {
                    "patient_id": "p1",
                    "family_name": "O'Brien",
                    "given_name": "Ünal",
                    "birth_date": "1961-07-23",
                    "name_key": "obrien^unal",
                },
            ),
            (
                "pms_record",
                {
                    "id": "r1",
                    "kind": "insurance",
                    "pms_key": "5",
                    "patient_key": "0017",
                    "record": '{"born": "1961-07-23"}',
                    "raw": "{}",
                    "digest": "d",
                    "synced_at": AT,
                },
            ),
            (
                "payer_mail",
                {
                    "id": "m1",
                    "delivery_id": "d",
                    "kind": "999",
                    "media_type": "x",
                    "content": mail,
                    "state": "given",
                    "at": AT,
                },
            ),
        ):
            names = ["location_id", *values]
            marks = ", ".join(f":{each}" for each in names)
            conn.execute(
                sa.text(f"INSERT INTO {name} ({', '.join(names)}) VALUES ({marks})"),
                {"location_id": "main", **values},
            )
    migrate(empty)
    with read(empty) as conn:
        person = conn.execute(sa.select(patient_identity)).one()
        assert (person.family_name, person.given_name) == ("O'Brien", "Ünal")
        assert person.birth_date.isoformat() == "1961-07-23"
        assert (person.name_key, person.name_start) == ("obrien^unal", "obr")
        found = conn.execute(sa.select(patient).where(patient.c.pms_key == "0017")).one()
        assert found.raw == {"odd": None}
        record = conn.execute(
            sa.select(pms_record).where(pms_record.c.patient_key == found.pms_key)
        ).one()
        assert (record.record, record.raw) == ({"born": "1961-07-23"}, {})
        assert conn.execute(sa.select(payer_mail.c.content)).scalar_one() == mail
