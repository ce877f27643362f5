"""The one door for writing: everything or nothing, once, audited."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db import audit
from node.db.migrate import current_revision, head_revision, migrate
from node.db.sealed import Sealed
from node.db.session import Actor, begin, new_id, open_database, read, upsert
from node.db.tables import audit as audit_table
from node.db.tables import event, metadata, patient
from node.domain.events import EventKind
from node.errors import ConfigError

ACTOR = Actor("test", "main")


def _append(database: sa.Engine, key: str) -> bool:
    with begin(database, ACTOR, "test.event") as tx:
        tx.record("object:1", key=key)
        return tx.append_event(EventKind.STUDY_READY, "s", key)


def _append_and_fail(database: sa.Engine) -> None:
    with begin(database, ACTOR, "test") as tx:
        tx.append_event(EventKind.STUDY_READY, "s", "k")
        raise ValueError("boom")


def test_an_event_is_appended_once(database: sa.Engine) -> None:
    assert _append(database, "k")
    assert not _append(database, "k")
    with read(database) as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(event)).scalar() == 1


def test_a_failed_transaction_leaves_nothing(database: sa.Engine) -> None:
    with pytest.raises(ValueError, match="boom"):
        _append_and_fail(database)
    with read(database) as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(event)).scalar() == 0
        assert audit.verify(conn) == (0, None)


def test_times_come_back_aware_and_exact(database: sa.Engine) -> None:
    with begin(database, ACTOR, "test") as tx:
        tx.append_event(EventKind.STUDY_READY, "s", "k")
        now = tx.now
    with read(database) as conn:
        assert conn.execute(sa.select(event.c.at)).scalar_one() == now
        later = sa.select(event.c.seq).where(event.c.at > now - timedelta(microseconds=1))
        assert conn.execute(later).first() is not None


def test_upsert_keeps_the_id(database: sa.Engine) -> None:
    ids = [new_id(), new_id()]
    for number, row_id in enumerate(ids):
        with begin(database, ACTOR, "test") as tx:
            values = {
                "id": row_id,
                "location_id": "main",
                "pms_key": "7",
                "status": f"s{number}",
                "synced_at": datetime.now(UTC),
            }
            upsert(tx.conn, patient, ("location_id", "pms_key"), values)
    with read(database) as conn:
        row = conn.execute(sa.select(patient)).one()
    assert (row.id, row.status) == (ids[0], "s1")


def test_many_writers_make_one_chain(database: sa.Engine) -> None:
    def write(number: int) -> None:
        for step in range(5):
            _append(database, f"{number}-{step}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with read(database) as conn:
        assert audit.verify(conn) == (30, None)


def _three_rows(database: sa.Engine) -> None:
    for key in "abc":
        _append(database, key)


def test_the_audit_refuses_change_and_removal(database: sa.Engine) -> None:
    _three_rows(database)
    for statement in (audit_table.update().values(actor="x"), audit_table.delete()):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            database.connect().execution_options(bitewing_write=True) as conn,
            conn.begin(),
        ):
            conn.execute(statement)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE audit SET actor = 'x' WHERE seq = 2", "content was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("UPDATE audit SET previous_hash = 'x' WHERE seq = 3", "does not follow"),
    ],
)
def test_damage_behind_the_triggers_is_found(
    sqlite_database: sa.Engine, damage: str, words: str
) -> None:
    _three_rows(sqlite_database)
    with sqlite_database.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.exec_driver_sql("DROP TRIGGER audit_no_update")
        conn.exec_driver_sql("DROP TRIGGER audit_no_delete")
        conn.exec_driver_sql(damage)
    with read(sqlite_database) as conn:
        _, broken = audit.verify(conn)
    assert broken is not None
    assert words in broken.reason


def test_an_empty_database_is_brought_to_head(tmp_path: pytest.TempPathFactory) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new.sqlite")
    assert current_revision(database) is None
    assert migrate(database) == head_revision(database) == current_revision(database)
    assert migrate(database) == head_revision(database)
    database.dispose()


def test_the_migrations_make_exactly_the_tables(database: sa.Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name in metadata.tables

    def differs(context: MigrationContext, _found: object, column: sa.Column, *_: object) -> object:
        """SQLite does not look at the type of a column; what became sealed keeps its old one."""
        is_free = context.dialect.name == "sqlite" and isinstance(column.type, Sealed)
        return False if is_free else None

    with database.connect() as conn:
        opts = {"include_object": ours, "compare_type": differs}
        context = MigrationContext.configure(conn, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_a_newer_database_is_refused(sqlite_database: sa.Engine) -> None:
    with sqlite_database.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer release"):
        migrate(sqlite_database)


def test_every_table_carries_its_location() -> None:
    for table in metadata.tables.values():
        assert "location_id" in table.c, table.name
