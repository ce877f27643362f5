"""The audit's chain: any change, gap, reorder or cut is found and named, also across archives."""

import gzip
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.audit_keeping import AuditKeeper
from node.config import Config, read_config
from node.db import audit
from node.db.audit_archive import close_part
from node.db.audit_export import export_links, write_export
from node.db.audit_parts import verify_archives
from node.db.audit_rows import AuditEntry, stored_rows
from node.db.audit_search import Wanted
from node.db.session import Actor, begin, open_database, read
from node.db.tables import audit as audit_table
from node.domain import audit_chain
from node.errors import ConfigError, InvalidInput, Rejected, Retryable

ACTOR = Actor("test", "main")
LONG_AGO = datetime(2019, 3, 1, 8, 30, 0, 250, tzinfo=UTC)
DETAILS = (
    {},
    {"count": 3, "share": 1e-05, "big": 1e300},
    {"words": 'caf\u00e9 \U0001f9b7 \\ "', "list": [1, None, True], "in": {"b": 1, "a": 2.5}},
)


def write(db: sa.Engine, count: int = 6) -> None:
    for number in range(count):
        with begin(db, ACTOR, "image.opened") as tx:
            tx.record(f"instance:{number}", **DETAILS[number % len(DETAILS)])


def write_old(db: sa.Engine, count: int) -> None:
    """Append entries of years ago."""
    with db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        for number in range(count):
            at = LONG_AGO + timedelta(days=number)
            audit.append(
                conn, AuditEntry("main", at, "u", "image.opened", f"instance:{number}", {})
            )


def broken(db: sa.Engine, heads: dict[int, str] | None = None) -> audit.AuditBreak | None:
    with read(db) as conn:
        return audit.verify(conn, heads)[1]


def unlocked(db: sa.Engine) -> None:
    """Take the triggers away, as somebody with the database's file can."""
    with db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        names = conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.all():
            conn.exec_driver_sql(f"DROP TRIGGER {name}")


def execute(db: sa.Engine, statement: str, *values: object) -> None:
    with db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.exec_driver_sql(statement, values)


def execute_all(db: sa.Engine, statements: str) -> None:
    for each in statements.split(";"):
        execute(db, each)


def keeper(db: sa.Engine, tmp_path: Path, **audit_keys: object) -> AuditKeeper:
    return AuditKeeper(db, config(tmp_path, **audit_keys))


def config(tmp_path: Path, **audit_keys: object) -> Config:
    overrides = {"node": {"data_dir": str(tmp_path)}, "audit": audit_keys}
    return read_config(environment={}, overrides=overrides)


@pytest.fixture
def flipping(sqlite_database: sa.Engine) -> sa.Engine:
    write(sqlite_database)
    unlocked(sqlite_database)
    return sqlite_database


COLUMNS = [column.name for column in audit_table.c]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seq=st.integers(1, 6), column=st.sampled_from(COLUMNS), place=st.integers(0, 10_000))
def test_one_flipped_bit_anywhere_is_found(
    flipping: sa.Engine, seq: int, column: str, place: int
) -> None:
    with flipping.connect().execution_options(bitewing_write=True) as conn, conn.begin() as undo:
        query = f"SELECT typeof({column}), CAST({column} AS BLOB) FROM audit WHERE seq = ?"
        kind, kept = conn.exec_driver_sql(query, (seq,)).one()
        value: object
        if kind == "integer":
            value = int(kept) ^ (1 << place % 40)
        else:
            bits = bytearray(kept)
            bits[place // 8 % len(bits)] ^= 1 << place % 8
            value = bytes(bits)
        cast = "?" if kind == "integer" else "CAST(? AS TEXT)"
        try:
            conn.exec_driver_sql(f"UPDATE audit SET {column} = {cast} WHERE seq = ?", (value, seq))
        except sa.exc.IntegrityError:  # the number of another row: the database refuses it
            undo.rollback()
            return
        found = audit.verify(conn)[1]
        undo.rollback()
    assert found is not None
    assert column == "seq" or found.seq in (seq, seq + 1)


def test_every_bit_of_one_row_is_covered(flipping: sa.Engine) -> None:
    with flipping.connect().execution_options(bitewing_write=True) as conn:
        for column in COLUMNS[1:]:
            with conn.begin():
                query = f"SELECT CAST({column} AS BLOB) FROM audit WHERE seq = 3"
                kept = conn.exec_driver_sql(query).scalar_one()
            for place in range(len(kept) * 8):
                bits = bytearray(kept)
                bits[place // 8] ^= 1 << place % 8
                with conn.begin() as undo:
                    change = f"UPDATE audit SET {column} = CAST(? AS TEXT) WHERE seq = 3"
                    conn.exec_driver_sql(change, (bytes(bits),))
                    found = audit.verify(conn)[1]
                    undo.rollback()
                assert found is not None, (column, place)


def test_a_value_written_in_another_way_is_a_change(flipping: sa.Engine) -> None:
    execute(flipping, "UPDATE audit SET detail = replace(detail, '1e-05', '1E-05') WHERE seq = 2")
    found = broken(flipping)
    assert found is not None
    assert found.seq == 2


def test_reordered_rows_are_found(flipping: sa.Engine) -> None:
    for old, new in ((3, 99), (4, 3), (99, 4)):
        execute(flipping, "UPDATE audit SET seq = ? WHERE seq = ?", new, old)
    found = broken(flipping)
    assert found is not None
    assert found.seq == 3


def test_an_audit_cut_off_at_its_end_is_found_by_its_anchored_head(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    write(sqlite_database)
    keeping = keeper(sqlite_database, tmp_path)
    keeping.anchor()
    assert keeping.check().broken is None
    unlocked(sqlite_database)
    execute(sqlite_database, "DELETE FROM audit WHERE seq > 4")
    assert broken(sqlite_database) is None  # by itself it looks whole
    found = keeping.check().broken
    assert found is not None
    assert found == audit.AuditBreak(5, "row 5 is missing: the audit was anchored up to row 6")
    with pytest.raises(Rejected, match="anchored up to row 6"):
        keeping.anchor()
    execute(sqlite_database, "DELETE FROM audit")
    emptied = keeping.check().broken
    assert emptied is not None
    assert emptied.seq == 1


def test_an_audit_cut_off_at_its_start_is_found(flipping: sa.Engine) -> None:
    execute(flipping, "DELETE FROM audit WHERE seq < 3")
    found = broken(flipping)
    assert found is not None
    assert "row 1 is missing" in found.reason


def test_a_chain_computed_anew_is_found_by_its_anchored_head(
    flipping: sa.Engine, tmp_path: Path
) -> None:
    keeping = keeper(flipping, tmp_path)
    keeping.anchor()
    with read(flipping) as conn:
        entries = [row.entry for row, _ in stored_rows(conn)]
    execute(flipping, "DELETE FROM audit")
    with flipping.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        forged = AuditEntry("main", entries[0].at, "nobody", "image.opened", "instance:0", {})
        audit.append(conn, forged, *entries[1:])
    assert broken(flipping) is None
    found = keeping.check().broken
    assert found is not None
    assert (found.seq, "written anew" in found.reason) == (6, True)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO audit SELECT seq, location_id, at, 'x', action, subject, detail,"
        " previous_hash, hash FROM audit WHERE seq = 2",
        "INSERT INTO audit_checkpoint VALUES (3, 'main', 1, 'h', 'f', 's', '2026-01-01 00:00:00')"
        ";UPDATE audit_checkpoint SET last_seq = 4",
    ],
)
def test_sqlite_refuses_what_would_replace_a_row(
    sqlite_database: sa.Engine, statement: str
) -> None:
    write(sqlite_database)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        execute_all(sqlite_database, statement)


def test_rows_are_removed_only_behind_a_checkpoint(database: sa.Engine) -> None:
    write(database)
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        database.connect().execution_options(bitewing_write=True) as conn,
        conn.begin(),
    ):
        conn.execute(audit_table.delete().where(audit_table.c.seq == 1))


def test_the_chain_holds_across_an_archive(database: sa.Engine, tmp_path: Path) -> None:
    write_old(database, 5)
    keeping = keeper(database, tmp_path)
    keeping.anchor()
    write(database, 3)
    first = close_part(database, ACTOR, tmp_path / "audit-archive", LONG_AGO + timedelta(days=3))
    assert first is not None
    assert (first.first_seq, first.last_seq) == (1, 3)
    closed = keeping.archive()
    assert [(part.first_seq, part.last_seq) for part in closed] == [(4, 5)]
    assert keeping.archive() == []
    checked = keeping.check()
    assert (checked.rows, checked.archived, checked.broken) == (5, 5, None)
    with read(database) as conn:
        first_row = conn.execute(sa.select(sa.func.min(audit_table.c.seq))).scalar()
    assert first_row == 6
    write(database, 1)
    assert keeping.check().broken is None


def test_what_is_kept_at_hand_is_not_archived(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    write(sqlite_database, 2)
    keeping = keeper(sqlite_database, tmp_path)
    assert keeping.archive() == []
    with pytest.raises(Rejected, match="keep_days"):
        keeping.archive(datetime.now(UTC))


@pytest.fixture
def archived(sqlite_database: sa.Engine, tmp_path: Path) -> tuple[AuditKeeper, Path]:
    write_old(sqlite_database, 4)
    keeping = keeper(sqlite_database, tmp_path)
    (part,) = keeping.archive()
    return keeping, part.path


def _change(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).replace(b"instance:1", b"instance:7")
    path.write_bytes(gzip.compress(lines))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "is missing"),
        (_change, "was changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "was changed"),
    ],
)
def test_a_damaged_archive_is_named(
    archived: tuple[AuditKeeper, Path], damage: Callable[[Path], None], words: str
) -> None:
    keeping, path = archived
    damage(path)
    found = keeping.check().broken
    assert found is not None
    assert path.name in found.reason
    assert words in found.reason


def test_a_forged_checkpoint_hides_nothing(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    write(sqlite_database)
    with read(sqlite_database) as conn:
        third = [row.hash for row, _ in stored_rows(conn)][2]
    unlocked(sqlite_database)
    execute(
        sqlite_database,
        "INSERT INTO audit_checkpoint VALUES (3, 'main', 1, ?, 'audit-1-3.jsonl.gz', 's', "
        "'2026-01-01 00:00:00.000000')",
        third,
    )
    execute(sqlite_database, "DELETE FROM audit WHERE seq < 4")
    found = broken(sqlite_database)
    assert found is not None
    assert "no row of the chain says why" in found.reason
    with read(sqlite_database) as conn:
        _, gone = verify_archives(conn, tmp_path, {})
    assert gone is not None


def test_a_damaged_chain_is_not_archived(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    write_old(sqlite_database, 4)
    unlocked(sqlite_database)
    execute(sqlite_database, "UPDATE audit SET actor = 'x' WHERE seq = 2")
    with pytest.raises(Rejected, match="row 2"):
        keeper(sqlite_database, tmp_path).archive()


def test_heads_outlive_a_torn_line_and_name_a_changed_one(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    write(sqlite_database, 2)
    keeping = keeper(sqlite_database, tmp_path)
    keeping.anchor()
    keeping.anchor()
    file = keeping.head_file.path
    assert len(file.read_text().splitlines()) == 1
    file.write_text(file.read_text() + '{"seq": 9, "ha')
    write(sqlite_database, 1)
    keeping.anchor()
    assert sorted(keeping.head_file.read()) == [2, 3]
    assert keeping.check().heads == 2
    file.write_text(file.read_text().replace('"seq": 2', '"seq": 3'))
    with pytest.raises(ConfigError, match="contradicts"):
        keeping.check()
    file.write_text("something else\n")
    with pytest.raises(ConfigError, match="line 1"):
        keeping.check()


def test_a_restored_database_begins_a_new_file_of_heads(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    write(sqlite_database, 4)
    keeping = keeper(sqlite_database, tmp_path)
    keeping.anchor()
    unlocked(sqlite_database)
    execute(sqlite_database, "DELETE FROM audit WHERE seq > 2")
    aside = keeping.restart_heads("restored from the backup of Monday")
    assert aside is not None
    assert aside.exists()
    assert keeping.check().broken is None
    found = keeper(sqlite_database, tmp_path).check([aside]).broken
    assert found is not None  # the old file still tells what is missing


def test_a_collector_gets_each_head_and_one_that_is_away_gets_it_later(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    write(sqlite_database, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keeping = keeper(
        sqlite_database,
        tmp_path,
        syslog_host="127.0.0.1",
        syslog_port=port,
        syslog_transport="tcp",
    )
    with pytest.raises(Retryable):
        keeping.anchor()
    assert sorted(keeping.head_file.read()) == [2]  # the file has it all the same
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(20)

        def take() -> None:
            line, _ = server.accept()
            with line:
                while part := line.recv(4096):
                    got.append(part)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        head = keeping.anchor()
        thread.join(60)
    assert f"audit head 2 {head.hash}".encode() in b"".join(got)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_proves_itself_with_python_alone(
    sqlite_database: sa.Engine, tmp_path: Path, form: str
) -> None:
    write(sqlite_database)
    with begin(sqlite_database, Actor("mia", "main"), "image.opened") as tx:
        tx.record("instance:9", **DETAILS[2])
    write(sqlite_database, 2)
    path = tmp_path / f"export.{form}"
    with read(sqlite_database) as conn, path.open("w", newline="", encoding="utf-8") as file:
        links = export_links(conn, Wanted("main", user="mia"), 1000)
        write_export(file, "csv" if form == "csv" else "json", links)
        head = audit.read_head(conn)
    proof = audit_chain.verify_export(path, head.hash[:16])
    assert (proof.shown, proof.left_out, proof.head, proof.problem) == (1, 2, head.hash, "")
    run = [sys.executable, "-I", audit_chain.__file__, str(path), head.hash]
    assert subprocess.run(run, capture_output=True, timeout=60).returncode == 0
    assert subprocess.run([*run[:-1], "0" * 64], capture_output=True, timeout=60).returncode == 1
    text = path.read_text(encoding="utf-8")
    assert "instance:5" not in text  # rows left out say nothing
    for old, new in (("instance:9", "instance:8"), ("mia", "max")):
        path.write_text(text.replace(old, new), encoding="utf-8")
        assert "changed" in audit_chain.verify_export(path).problem


def test_an_export_with_a_row_taken_out_does_not_hold(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    write(sqlite_database)
    with read(sqlite_database) as conn:
        links = list(export_links(conn, Wanted("main", action="image"), 1000))
        head = audit.read_head(conn)
        with pytest.raises(InvalidInput, match="more than 3 rows"):
            list(export_links(conn, Wanted("main"), 3))
    assert audit_chain.verify_links(links, head.hash).problem == ""
    assert audit_chain.verify_links([*links[:2], *links[3:]]).problem == "row 3 is missing"
    assert "anchored" in audit_chain.verify_links(links[:-1], head.hash).problem
    assert audit_chain.verify_links(links, "ab").problem != ""
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"rows": []}))
    assert "cannot be read" in audit_chain.verify_export(path).problem


def test_rows_of_the_first_release_still_hold(sqlite_database: sa.Engine) -> None:
    entry = AuditEntry("main", LONG_AGO, "u", "image.opened", "instance:1", {"a": 1})
    content = [1, "main", LONG_AGO.isoformat(timespec="microseconds"), "u", "image.opened"]
    old = audit_chain.canonical([*content, "instance:1", {"a": 1}, audit.GENESIS])
    values = {
        "seq": 1, "location_id": "main", "at": entry.at, "actor": "u", "action": entry.action,
        "subject": entry.subject, "detail": {"a": 1}, "previous_hash": audit.GENESIS,
        "hash": hashlib.sha256(old).hexdigest(),
    }  # fmt: skip
    with sqlite_database.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(audit_table.insert(), values)
    write(sqlite_database, 2)
    assert broken(sqlite_database) is None


def test_reopened_databases_go_on_with_the_chain(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "copy.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    for _ in range(2):
        db = open_database(f"sqlite:///{path}")
        write(db, 2)
        assert broken(db) is None
        db.dispose()
