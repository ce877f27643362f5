"""Archived parts are searched and exported like the rest, once they have been verified."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.__main__ import cli
from node.audit_keeping import AuditKeeper
from node.config import read_config
from node.db import audit, tables
from node.db.audit_export import export_links
from node.db.audit_rows import AuditEntry
from node.db.audit_search import Wanted, conditions_of
from node.db.migrate import migrate
from node.db.session import Actor, begin, new_id, open_database, read
from node.domain.audit_chain import canonical, verify_export, verify_links
from node.errors import InvalidInput, NotFound, Rejected
from tests.node.test_audit_chain import LONG_AGO, write

ACTOR = Actor("test", "main")
Run = Callable[..., str]


def opened(folder: Path) -> AuditKeeper:
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    db = open_database(config.database_url)
    migrate(db)
    return AuditKeeper(db, config)


@pytest.fixture
def keeping(tmp_path: Path) -> AuditKeeper:
    """Keep an audit of two patients, a row a day, of which all but what is new is archived."""
    made = opened(tmp_path / "data")
    ids = {}
    with begin(made.db, ACTOR, "test") as tx:
        for number in ("17", "18"):
            ids[number] = patient_id = new_id()
            tx.conn.execute(
                tables.patient.insert().values(
                    id=patient_id, location_id="main", pms_key=number, synced_at=tx.now
                )
            )
            tx.conn.execute(
                tables.study.insert().values(
                    id=f"study{number}", location_id="main", study_instance_uid=f"1.2.{number}",
                    state="signed", match_state="matched", patient_id=patient_id,
                    received_at=tx.now, last_image_at=tx.now,
                )
            )  # fmt: skip
            tx.conn.execute(
                tables.instance.insert().values(
                    id=f"image{number}", location_id="main", study_id=f"study{number}",
                    sop_instance_uid=f"1.3.{number}", **_needed(tables.instance),
                )
            )  # fmt: skip
        tx.record("test")
    kinds = (
        ("mia", "image.opened", "instance:image17", {}),
        ("mia", "image.opened", "instance:image18", {}),
        ("max", "chart.opened", "patient", {"patient": ids["17"]}),
        ("mia", "review.signed", "study:study17", {}),
        ("max", "worklist.shown", "worklist", {"found": 2}),
    )
    unprotected = sa.text("DROP TRIGGER audit_no_delete")
    with made.db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(unprotected)
        conn.execute(tables.audit.delete())
        for day in range(15):
            actor, action, subject, detail = kinds[day % 5]
            at = LONG_AGO + timedelta(days=day)
            audit.append(conn, AuditEntry("main", at, actor, action, subject, detail))
    assert made.archive()
    with begin(made.db, ACTOR, "image.opened") as tx:
        tx.record("instance:image17")
    return made


def _needed(table: sa.Table) -> dict[str, object]:
    """Fill the columns that must have a value with something of their type."""
    values: dict[str, object] = {}
    for column in table.columns:
        if column.nullable or column.server_default is not None or column.primary_key:
            continue
        if column.name in ("location_id", "study_id", "sop_instance_uid"):
            continue
        kind = column.type.python_type if not isinstance(column.type, tables.UtcDateTime) else None
        values[column.name] = LONG_AGO if kind is None else kind()
    return values


WANTED = {
    "all": Wanted("main"),
    "user": Wanted("main", user="mia"),
    "patient": Wanted("main", patient="17"),
    "study": Wanted("main", study="1.2.18"),
    "action": Wanted("main", action="image"),
    "whole action": Wanted("main", action="chart.opened"),
    "period": Wanted("main", since=LONG_AGO + timedelta(days=3), until=LONG_AGO + timedelta(8)),
    "both": Wanted("main", patient="17", user="max"),
    "another location": Wanted("other"),
}


@pytest.mark.parametrize("name", WANTED)
def test_what_is_archived_is_found_as_if_it_were_at_hand(
    keeping: AuditKeeper, tmp_path: Path, name: str
) -> None:
    """The same rows, once in the database alone and once moved into an archive."""
    with read(keeping.db) as conn:
        archived = {row.seq for row in keeping.archives.find(conn, WANTED[name])}
        rows = list(keeping.archives.rows(conn))
        with keeping.db.connect().execution_options(bitewing_write=True) as again:
            again.execute(tables.audit.delete())
            audit.append(again, *(row.entry for row in rows))
            query = sa.select(tables.audit.c.seq).where(*conditions_of(again, WANTED[name]))
            offset = again.execute(sa.select(sa.func.min(tables.audit.c.seq))).scalar_one() - 1
            at_hand = {seq - offset for seq in again.execute(query).scalars()}
            again.rollback()
    assert len(rows) == 15
    assert archived == at_hand
    assert bool(archived) is (name != "another location")


def test_an_unknown_patient_is_said(keeping: AuditKeeper) -> None:
    with read(keeping.db) as conn, pytest.raises(NotFound):
        list(keeping.archives.find(conn, Wanted("main", patient="99")))


@pytest.fixture
def run(
    keeping: AuditKeeper, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    folder = keeping.config.node.data_dir
    monkeypatch.chdir(folder.parent)

    def bitewing(*arguments: str) -> str:
        capsys.readouterr()
        assert not cli([*arguments, "--data-dir", str(folder)], standalone_mode=False)
        return "".join(capsys.readouterr())

    return bitewing


def test_the_command_reads_archived_parts_when_asked(run: Run) -> None:
    said = run("audit", "search", "--patient", "17", "--action", "image")
    assert said.count("image.opened") == 1
    assert "rows up to 15 are archived; --archived reads them too" in said
    said = run("audit", "search", "--patient", "17", "--action", "image", "--archived")
    assert said.count("instance:image17") == 4
    assert "image18" not in said
    days = [line.split()[1] for line in said.splitlines()]
    assert days == sorted(days, reverse=True)
    two = run("audit", "search", "--action", "image", "--archived", "--most", "2")
    assert two.count("image.opened") == 2
    until = date(LONG_AGO.year, LONG_AGO.month, LONG_AGO.day) + timedelta(days=1)
    early = run("audit", "search", "--until", str(until), "--archived")
    assert early.count("image.opened") == 2


def test_an_export_reaches_into_archived_parts_and_proves_itself(
    run: Run, keeping: AuditKeeper, tmp_path: Path
) -> None:
    path = tmp_path / "export.json"
    run("audit", "export", "--patient", "17", "--archived", "--out", str(path))
    with read(keeping.db) as conn:
        head = audit.read_head(conn)
    proof = verify_export(path, head.hash)
    assert proof.problem == ""
    assert proof.shown == 9 + 1  # archived and at hand
    assert "image18" not in path.read_text()


def test_nothing_is_shown_of_a_part_that_does_not_hold(run: Run, keeping: AuditKeeper) -> None:
    (path,) = keeping.archive_dir.iterdir()
    rows = gzip.decompress(path.read_bytes()).replace(b'"max"', b'"mia"', 1)
    path.write_bytes(gzip.compress(rows))
    with pytest.raises(Rejected, match="does not hold at row 3"):
        run("audit", "search", "--archived")


def test_a_row_of_the_first_release_is_not_left_out_of_an_export(
    sqlite_database: sa.Engine,
) -> None:
    """Its hash goes over its content, so that an export without it would prove nothing."""
    write(sqlite_database, 1)
    with read(sqlite_database) as conn:
        before = audit.read_head(conn).hash
    content = [2, "main", LONG_AGO.isoformat(timespec="microseconds"), "u", "image.opened", "i", {}]
    values = {
        "seq": 2, "location_id": "main", "at": LONG_AGO, "actor": "u", "action": "image.opened",
        "subject": "i", "detail": {}, "previous_hash": before,
        "hash": hashlib.sha256(canonical([*content, before])).hexdigest(),
    }  # fmt: skip
    with sqlite_database.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(tables.audit.insert(), values)
    write(sqlite_database, 1)
    with read(sqlite_database) as conn:
        whole = list(export_links(conn, Wanted("main"), 100))
        assert verify_links(whole, audit.read_head(conn).hash).problem == ""
        with pytest.raises(InvalidInput, match=r"row 2 was written by release 0\.1"):
            list(export_links(conn, Wanted("main", user="test"), 100))
