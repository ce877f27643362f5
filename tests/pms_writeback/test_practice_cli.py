"""``bitewing practice …`` and ``bitewing reconcile``, as an office's IT person types them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from node.__main__ import cli
from node.db.migrate import migrate
from node.db.session import open_database, read
from node.db.tables import patient
from node.errors import Conflict, InvalidInput, NotFound, Unsupported
from pms_writeback.pms import OfficeTime
from pms_writeback.practice import open_pms
from pms_writeback.record_rows import read_records
from pms_writeback.records import RecordKind
from pms_writeback.sandbox.server import running
from pms_writeback.sandbox.service import ALL_PERMISSIONS
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

OFFICE = OfficeTime("America/New_York")


@pytest.fixture
def node(office, configure, tmp_path, monkeypatch):
    """A node's folder with a configuration and a migrated database; gives its Config."""
    config = configure(office, days_after=14)
    (tmp_path / "bitewing.toml").write_text(
        f"""
        [node]
        time_zone = "America/New_York"
        data_dir = "{config.node.data_dir}"
        [pms]
        kind = "open_dental"
        base_url = "{office.url}"
        developer_key = "{office.developer_key}"
        customer_key = "{office.customer_key}"
        days_after = 14
        """
    )
    monkeypatch.chdir(tmp_path)
    config.node.data_dir.mkdir(parents=True)
    db = open_database(config.database_url)
    migrate(db)
    yield config, db
    db.dispose()


def run(*arguments):
    done = CliRunner().invoke(cli, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_one_patient_is_reconciled_on_demand(node, office):
    _, db = node
    office.add("allergies", PatNum=9, AllergyDefNum=1, defDescription="Latex")
    done = run("reconcile", "--patient", "9")
    assert done.exit_code == 0, done.output
    assert "allergy" in done.output
    with read(db) as conn:
        found = read_records(conn, "main", RecordKind.ALLERGY, patient_key="9")
    assert "Latex" in [each.values["name"] for each in found]


def test_free_times_are_listed_on_the_offices_clock(node, office):
    config, db = node
    now = datetime.now(UTC)
    day = OFFICE.today(now) + timedelta(days=1)
    while day.weekday() > 4:
        day += timedelta(days=1)
    for row in office.rows("appointments"):
        office.delete_appointment(int(row["AptNum"]))
    pms = open_pms(config)
    assert ScheduleSync(db, pms, config).run_once(now).is_ok
    Warehouse(db, pms, config).run_once(now)
    done = run("practice", "slots", "--provider", "1", "--first", f"{day}", "--minutes", "60")
    assert done.exit_code == 0, done.output
    assert f"{day} 08:00-09:00  room 1" in done.output
    assert run("practice", "slots", "--provider", "77").output == "nothing free\n"
    with pytest.raises(InvalidInput):
        run("practice", "slots", "--provider", "1", "--first", "tomorrow")


def test_a_system_without_records_says_so(node, monkeypatch):
    monkeypatch.setenv("BITEWING_PMS_KIND", "none")
    with pytest.raises(Unsupported):
        run("reconcile")


def test_the_map_is_kept_by_hand(node, office):
    config, db = node
    pms = open_pms(config)
    assert ScheduleSync(db, pms, config).run_once(datetime.now(UTC)).is_ok
    assert "no map" in run("practice", "map").output
    done = run("practice", "map", "provider", "1", "--name", "dr-lee", "--first", "2026-01-01")
    assert "2026-01-01 to …  dr-lee" in done.output
    assert run("practice", "unmap", "provider", "1", "--last", "2026-05-31").exit_code == 0
    assert "2026-01-01 to 2026-05-31" in run("practice", "map", "provider").output
    with pytest.raises(NotFound):
        run("practice", "map", "operatory", "99", "--name", "nowhere")


def test_a_merge_is_followed_by_hand_where_nobody_tells(node, office):
    config, db = node
    pms = open_pms(config)
    assert ScheduleSync(db, pms, config).run_once(datetime.now(UTC)).is_ok
    with pytest.raises(Conflict, match="still active"):
        run("practice", "merge", "11", "12", "--reason", "a guess")
    office.merge_patients(11, 12)
    done = run("practice", "merge", "11", "12", "--reason", "merged at the desk")
    assert done.exit_code == 0, done.output
    with read(db) as conn:
        row = conn.execute(sa.select(patient).where(patient.c.pms_key == "11")).one()
    assert row.merged_into is not None


def test_check_names_the_kinds_that_failed(node, office):
    config, db = node
    pms = open_pms(config)
    office.fault("status", status=400, text="Request is invalid.", path="/laboratories")
    Warehouse(db, pms, config).run_once(datetime.now(UTC))
    done = run("check")
    assert "laboratory: Open Dental refuses (400): Request is invalid." in done.output


def test_check_says_that_merges_are_not_followed(node, tmp_path):
    assert "Queries" not in run("check").output
    allowed = ALL_PERMISSIONS - {"Queries"}
    with running(tmp_path / "plain.sqlite", permissions=allowed, seed_patients=2) as office:
        text = Path("bitewing.toml").read_text()
        url = next(line for line in text.splitlines() if "base_url" in line)
        Path("bitewing.toml").write_text(text.replace(url, f'base_url = "{office.url}"'))
        done = run("check")
    assert "permission Queries" in next(x for x in done.output.splitlines() if "  pms " in x)
