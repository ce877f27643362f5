"""A bit flipped anywhere in the database's file, an archived part or the heads: found, or harmless.

Harmless means that every entry of the audit reads back as it was written; else the first entry
that does not is named, and everything before it holds.
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.audit_keeping import AuditKeeper
from node.db.audit_archive import close_part
from node.db.audit_parts import archived_links
from node.db.audit_rows import stored_rows
from node.db.session import open_database, read
from node.errors import BitewingError, ConfigError, Rejected
from tests.node.test_audit_chain import ACTOR, LONG_AGO, keeper, write, write_old

PAGE = 4096
ARCHIVED, KEPT = 6, 14


@pytest.fixture
def audited(sqlite_database: sa.Engine, tmp_path: Path) -> AuditKeeper:
    """Keep an audit with two archived parts; the newest row is anchored."""
    write_old(sqlite_database, ARCHIVED)
    write(sqlite_database, 1)  # as long as it is the newest, it is not old
    keeping = keeper(sqlite_database, tmp_path)
    for day in (3, 6):
        end = LONG_AGO + timedelta(days=day)
        assert close_part(sqlite_database, ACTOR, keeping.archive_dir, end) is not None
    write(sqlite_database, KEPT - 3)
    keeping.anchor()
    checked = keeping.check()
    assert (checked.archived, checked.rows, checked.broken) == (ARCHIVED, KEPT, None)
    return keeping


def flipped(path: Path, whole: bytes, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([whole[place] ^ 1 << bit]))


def kept_rows(db: sa.Engine) -> list[tuple[object, str]]:
    with read(db) as conn:
        return [(row, problem) for row, problem in stored_rows(conn)]


@pytest.fixture
def copy(audited: AuditKeeper, tmp_path: Path) -> Path:
    """Copy the database, all of it in one file."""
    path = tmp_path / "flipped.sqlite"
    with audited.db.connect() as conn:
        conn.exec_driver_sql("COMMIT")
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(tmp_path / "bitewing.sqlite", path)
    return path


def places(whole: bytes) -> Iterator[int]:
    """Name bytes of every page; of pages that hold the audit, many."""
    for start in range(0, len(whole), PAGE):
        page = whole[start : start + PAGE]
        is_audit = b"image.opened" in page or b".jsonl.gz" in page
        step = 29 if is_audit else PAGE
        yield from range(start + start // PAGE % step, start + PAGE, step)


def test_a_bit_of_the_databases_file_is_found_or_changes_no_entry(
    audited: AuditKeeper, copy: Path
) -> None:
    whole, expected = copy.read_bytes(), kept_rows(audited.db)
    found = harmless = 0
    for number, place in enumerate(places(whole)):
        flipped(copy, whole, place, number % 8)
        db = open_database(f"sqlite:///{copy}")
        try:
            broken = AuditKeeper(db, audited.config).check().broken
            if broken is None:
                assert kept_rows(db) == expected, place
                harmless += 1
            else:
                assert broken.seq <= ARCHIVED + KEPT + 1
                found += 1
        except (sa.exc.DatabaseError, BitewingError):  # SQLite itself refuses the file
            found += 1
        finally:
            db.dispose()
        copy.write_bytes(whole)
        for beside in ("-wal", "-shm"):
            Path(f"{copy}{beside}").unlink(missing_ok=True)
    assert found > 100
    assert harmless > 100


def test_a_bit_of_an_archived_part_is_found_and_the_rows_before_it_hold(
    audited: AuditKeeper,
) -> None:
    parts = sorted(audited.archive_dir.iterdir())
    assert len(parts) == 2
    first_seq = {parts[0]: 1, parts[1]: 4}
    for path in parts:
        whole, named = path.read_bytes(), set()
        for place in range(len(whole)):
            flipped(path, whole, place, place % 8)
            checked = audited.check()
            assert checked.broken is not None, place
            assert path.name in checked.broken.reason
            assert first_seq[path] <= checked.broken.seq < first_seq[path] + 3
            assert checked.archived <= ARCHIVED
            named.add(checked.broken.seq)
            path.write_bytes(whole)
        assert named == {first_seq[path] + number for number in range(3)}


def test_a_changed_row_of_a_part_is_named(audited: AuditKeeper) -> None:
    path = max(audited.archive_dir.iterdir())
    rows = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(rows.replace(b"instance:4", b"instance:7")))
    broken = audited.check().broken
    assert broken is not None
    assert broken.seq == 5
    assert "its content was changed" in broken.reason
    with read(audited.db) as conn, pytest.raises(Rejected, match="row 5"):
        list(archived_links(conn, audited.archive_dir, {}))


def test_a_bit_of_the_anchored_heads_hides_no_cut(audited: AuditKeeper, tmp_path: Path) -> None:
    path = audited.head_file.path
    whole = path.read_bytes()
    with audited.db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        names = conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.all():
            conn.exec_driver_sql(f"DROP TRIGGER {name}")
        last = ARCHIVED + KEPT
        conn.exec_driver_sql("DELETE FROM audit WHERE seq = ?", (last,))
    unseen = 0
    for place in range(len(whole)):
        flipped(path, whole, place, place % 8)
        with contextlib.suppress(ConfigError):  # the head is damaged, and that is said
            unseen += audited.check().broken is None
        path.write_bytes(whole)
    assert unseen == 0


def test_a_checkpoint_that_says_something_else_is_named(audited: AuditKeeper) -> None:
    with audited.db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.exec_driver_sql("DROP TRIGGER audit_checkpoint_no_update")
    for change in ("at = '2019-01-01 00:00:00.000000'", "location_id = 'other'"):
        with audited.db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
            kept = conn.exec_driver_sql(
                "SELECT at, location_id FROM audit_checkpoint WHERE last_seq = 3"
            ).one()
            conn.exec_driver_sql(f"UPDATE audit_checkpoint SET {change} WHERE last_seq = 3")
        broken = audited.check().broken
        assert broken is not None
        assert (broken.seq, "not what the chain says" in broken.reason) == (1, True)
        with audited.db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
            conn.exec_driver_sql(
                "UPDATE audit_checkpoint SET at = ?, location_id = ? WHERE last_seq = 3",
                tuple(kept),
            )
    assert audited.check().broken is None
