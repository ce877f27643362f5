"""Drivers: what is off, what is refused, what may be put in, and what a bridge does not import."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from node.errors import ConfigError, InvalidInput, NotFound, Retryable, Unsupported
from node.windows_service import BRIDGE, NODE, Keeper, control
from pms_writeback.bridge.cli import cli as bridge_cli
from pms_writeback.bridge.driver import Locked, open_driver
from pms_writeback.bridge.export import with_export
from pms_writeback.bridge.odbc import ReadOnlyOdbc
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.bridge.sandbox import SandboxDriver
from pms_writeback.bridge.sandbox_office import SandboxOffice
from pms_writeback.bridge.settings import BridgeSettings, read_settings
from pms_writeback.dentrix import sandbox as dentrix
from pms_writeback.dentrix import views
from pms_writeback.dentrix.shapes import DentrixShapes
from pms_writeback.eaglesoft import sandbox as eaglesoft
from pms_writeback.eaglesoft import tables
from pms_writeback.eaglesoft.shapes import EaglesoftShapes
from pms_writeback.pms import (
    AppendCommlog,
    AppointmentStatus,
    NotLicensed,
    OfficeTime,
    OutcomeUnknown,
    PatientStatus,
    Support,
    UploadDocument,
)
from tests.pms_writeback.bridge_world import until

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
TODAY = date(2026, 11, 21)
WINDOW = (date(2026, 11, 1), date(2026, 12, 31))
COMMAND = AppendCommlog("1", "Signed.", NOW, "ref:BW-0123456789")
OFFICE = OfficeTime("America/New_York")
ON = {"enabled": True, "connection_string": "DSN=office"}


@pytest.fixture(params=[(dentrix, views), (eaglesoft, tables)], ids=["dentrix", "eaglesoft"])
def vendor(request, tmp_path):
    module, names = request.param
    path = tmp_path / "practice.sqlite"
    module.make_practice(path, TODAY, patients=12, days_around=1)
    return module, names, SandboxOffice(path, module.LAYOUT)


def odbc(vendor, **options):
    module, names, office = vendor
    return ReadOnlyOdbc(
        module.LAYOUT.product, names.PUBLIC, {**ON, **options}, connector=lambda _: office.connect()
    )


def test_odbc_is_off_until_an_office_says_its_licence_covers_it(tmp_path):
    for pms in ("dentrix", "eaglesoft"):
        with pytest.raises(ConfigError, match="is off"):
            open_driver(pms, "odbc", {}, tmp_path)
        with pytest.raises(ConfigError, match="pyodbc is not installed"):
            open_driver(pms, "odbc", ON, tmp_path)
        with pytest.raises(ConfigError, match="unknown key"):
            open_driver(pms, "odbc", {"enbled": True}, tmp_path)


def test_odbc_needs_a_connection_string(vendor, monkeypatch):
    with pytest.raises(ConfigError, match="connection_string"):
        odbc(vendor, connection_string="")
    with pytest.raises(ConfigError, match="connection_string"):
        odbc(vendor, connection_string_env="OFFICE_DSN")
    monkeypatch.setenv("OFFICE_DSN", "DSN=office;PWD=x")
    assert odbc(vendor, connection_string_env="OFFICE_DSN").tables


def test_odbc_reads_the_public_columns_only(vendor):
    driver = odbc(vendor)
    for table in driver.tables:
        assert not [name for name in table.columns if name.startswith("x_")]
        rows = list(driver.rows(table, WINDOW))
        assert rows
        assert set(rows[0]) == set(table.columns)
    people = driver.tables[0]
    assert driver.row(people, "1")["last_name"] == "Sandbox"
    assert driver.row(people, "4711") is None
    assert list(driver.rows(driver.tables[1], (date(2020, 1, 1), date(2020, 1, 2)))) == []


def test_odbc_takes_columns_that_a_licensed_site_names(vendor):
    visit = vendor[1].APPOINTMENT.name
    driver = odbc(vendor, columns={visit: {"minutes": "x_sandbox_minutes"}})
    row = next(iter(driver.rows(vendor[1].APPOINTMENT, WINDOW)))
    assert row["x_site_minutes"] == 60


@pytest.mark.parametrize(
    "columns",
    [
        {"ledger": {"a": "b"}},
        {"visit": {"minutes": "1; DROP TABLE patient"}},
        {"visit": {"a b": "c"}},
        {"visit": {"a": 1}},
        {"visit": "x"},
        [],
    ],
)
def test_odbc_refuses_names_that_are_no_columns(vendor, columns):
    if isinstance(columns, dict) and "visit" in columns:
        columns = {vendor[1].APPOINTMENT.name: columns["visit"]}
    with pytest.raises(ConfigError, match="columns"):
        odbc(vendor, columns=columns)


def test_odbc_never_writes(vendor):
    driver = odbc(vendor)
    assert {each.support for each in driver.operations()} == {Support.NOT_LICENSED}
    for refused in (driver.execute, driver.find):
        with pytest.raises(NotLicensed, match="licensed interface"):
            refused(COMMAND)
    assert issubclass(NotLicensed, Unsupported)


REPORT = UploadDocument(
    "1", "r.pdf", ".pdf", b"%PDF", "Report", "AI", "Document", (), NOW, "ref:BW-0123456789"
)


def test_documents_may_go_to_a_folder_for_staff(vendor, tmp_path):
    folder = tmp_path / "inbox"
    with pytest.raises(ConfigError, match="not a folder"):
        with_export(odbc(vendor), str(folder))
    folder.mkdir()
    driver = with_export(odbc(vendor), str(folder))
    support = {each.operation: each.support for each in driver.operations()}
    assert support["UploadDocument"] is Support.SUPPORTED
    assert support["AppendCommlog"] is Support.NOT_LICENSED
    assert driver.find(REPORT) is None
    receipt = driver.execute(REPORT)
    assert (receipt.resource, receipt.key) == ("exported_file", "1-BW-0123456789.pdf")
    assert (folder / receipt.key).read_bytes() == b"%PDF"
    assert driver.find(REPORT).already_there
    assert [path.name for path in folder.iterdir()] == [receipt.key]
    with pytest.raises(NotLicensed):
        driver.execute(COMMAND)
    assert list(driver.rows(driver.tables[0], WINDOW))
    with pytest.raises(InvalidInput, match="file's name"):
        driver.execute(replace(REPORT, patient_key="../../1"))
    folder.rename(tmp_path / "gone")
    with pytest.raises(Retryable, match="takes no file"):
        driver.execute(REPORT)


def test_a_driver_that_takes_documents_is_not_wrapped(vendor, tmp_path):
    driver = SandboxDriver(vendor[2])
    assert with_export(driver, str(tmp_path)) is driver
    reader = odbc(vendor)
    assert with_export(reader, "") is reader


class OdbcError(Exception):
    pass


@pytest.mark.parametrize(
    ("state", "family"), [("HYT00", Locked), ("40001", Locked), ("08S01", Retryable)]
)
def test_odbc_tells_locks_from_other_trouble_and_keeps_texts_to_itself(vendor, state, family):
    def fail(_):
        raise OdbcError(state, "row of patient Doe is locked")

    driver = ReadOnlyOdbc("Dentrix", views.PUBLIC, ON, connector=fail)
    with pytest.raises(family) as caught:
        driver.rows(views.PATIENT, WINDOW)
    assert type(caught.value) is family
    assert "Doe" not in str(caught.value)


def test_visits_with_public_columns_only():
    row = TableRow(
        "7", NOW, False, {"patient_id": 1, "appointment_date": "2026-11-21", "status_id": -106}
    )
    visit = DentrixShapes(OFFICE).appointment(row)
    assert visit.status is AppointmentStatus.COMPLETE
    assert OFFICE.to_wall(visit.starts_at).isoformat() == "2026-11-21T00:00:00"
    assert visit.operatory_key == ""
    row = TableRow("7", NOW, False, {"patient_id": 1, "start_time": "2026-11-21T09:30:00"})
    visit = EaglesoftShapes(OFFICE).appointment(row)
    assert visit.status is AppointmentStatus.SCHEDULED
    assert OFFICE.to_wall(visit.starts_at).hour == 9


@pytest.mark.parametrize("shapes", [DentrixShapes(OFFICE), EaglesoftShapes(OFFICE)])
def test_odd_values_stop_nothing(shapes):
    odd = {
        "patient_id": None,
        "birth_date": "0000-00-00",
        "appointment_date": "soon",
        "start_time": 17,
        "status_id": "done",
        "x_site_minutes": "an hour",
        "x_site_start_time": "late",
        "x_site_sex": "?",
    }
    row = TableRow("1", NOW, False, odd)
    assert shapes.appointment(row).starts_at is None
    person = shapes.patient(row)
    assert (person.birth_date, person.sex, person.status) == (None, "", PatientStatus.ACTIVE)
    assert shapes.provider(row).key == "1"
    assert shapes.procedure(row, None).cdt_code == ""


def test_padded_provider_keys_are_trimmed(tmp_path):
    path = tmp_path / "eaglesoft.sqlite"
    eaglesoft.make_practice(path, TODAY, patients=9)
    driver = eaglesoft.open_sandbox({"path": str(path)}, tmp_path)
    table = next(each for each in driver.tables if each.name == "provider")
    keys = {table.key_of(row) for row in driver.rows(table, WINDOW)}
    assert keys == {"DDS1", "DDS2", "HYG1"}


def test_the_sandbox_posts_late_when_told_to(vendor):
    office = vendor[2]
    driver = SandboxDriver(office)
    office.set("posting_s", "60")
    with pytest.raises(OutcomeUnknown, match="does not show it yet"):
        driver.execute(COMMAND)
    assert driver.find(COMMAND) is None
    assert driver.posting_s == 120.0
    with office.writing() as db:
        db.execute("UPDATE x_sandbox_posting SET due_at = 0")
    assert driver.find(COMMAND) is not None
    assert len(office.entries()) == 1


def test_a_posting_that_is_quick_is_waited_for(vendor):
    _, _, office = vendor
    office.set("posting_s", "0.2")
    assert SandboxDriver(office).execute(COMMAND).key == "1"


def test_the_sandboxes_locks_are_real(vendor):
    _, _, office = vendor
    driver = SandboxDriver(office)
    with office.locked():
        for action in (driver.execute, driver.find):
            with pytest.raises(Locked):
                action(COMMAND)
        with pytest.raises(Locked):
            driver.rows(driver.tables[0], WINDOW)
    assert driver.execute(COMMAND).key == "1"


def test_an_unregistered_workstation_is_told_so(tmp_path):
    path = tmp_path / "dentrix.sqlite"
    dentrix.make_practice(path, TODAY)
    SandboxOffice(path, dentrix.LAYOUT).set("unregistered", "yes")
    with pytest.raises(ConfigError, match="not registered"):
        dentrix.open_sandbox({}, tmp_path)
    with pytest.raises(ConfigError, match="there already"):
        dentrix.make_practice(path, TODAY)
    with pytest.raises(ConfigError, match="no sandbox practice"):
        dentrix.open_sandbox({"path": "elsewhere.sqlite"}, tmp_path)


def test_nothing_of_the_sandbox_looks_like_a_vendors_own(vendor):
    """Names beyond the public ones are marked as the sandbox's."""
    _, names, office = vendor
    public = {table.name.rpartition(".")[2]: set(table.columns) for table in names.PUBLIC}
    public |= {"system_preferences": {"version"}, "sqlite_sequence": {"name", "seq"}}
    known_more = {"v_appt": {"patient_name"}}
    with sqlite3.connect(office.path) as db:
        made = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for name in made:
            if name.startswith("x_sandbox_"):
                continue
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
            own = {each for each in columns if each.startswith("x_sandbox_")}
            assert columns - own <= public[name] | known_more.get(name, set())
    db.close()


_LICENSED = """
class Driver:
    posting_s = 0.0
    tables = ()
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
    def close(self):
        pass
"""


def test_a_licensed_driver_is_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "licensee_driver.py").write_text(_LICENSED)
    info = tmp_path / "licensee_driver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: licensee-driver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[bitewing.bridge_drivers]\nlicensee = licensee_driver:Driver\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    driver = open_driver("dentrix", "licensee", {"a": 1}, tmp_path)
    assert driver.options == {"a": 1}
    with pytest.raises(ConfigError, match=r"bitewing\.bridge_drivers"):
        open_driver("dentrix", "nobody", {}, tmp_path)
    with pytest.raises(ConfigError, match="no driver for"):
        open_driver("softdent", "odbc", {}, tmp_path)


def test_settings_name_what_is_wrong(tmp_path):
    good = 'node_url = "https://n:1"\npms = "dentrix"\ntime_zone = "America/New_York"\n'
    path = tmp_path / "bridge.toml"
    with pytest.raises(ConfigError, match=r"no bridge\.toml"):
        read_settings(tmp_path)
    for more, words in (
        ("snapshots = 3\n", "snapshots: unknown key"),
        ('heavy_hours = ["noon"]\n', "hours of the day"),
        ('log_level = "LOUD"\n', "log_level"),
        ("=", "not valid TOML"),
    ):
        path.write_text(good + more)
        with pytest.raises(ConfigError, match=words):
            read_settings(tmp_path)
    path.write_text(good.replace("https", "http"))
    with pytest.raises(ConfigError, match="node_url"):
        read_settings(tmp_path)
    path.write_text(good.replace("America/New_York", "Mars"))
    with pytest.raises(ConfigError, match="time zone"):
        read_settings(tmp_path)
    path.write_text(good)
    assert read_settings(tmp_path).driver == "odbc"


def test_every_setting_is_in_the_manual():
    manual = (Path(__file__).parents[2] / "docs" / "bridge.md").read_text()
    for name in BridgeSettings.model_fields:
        assert f"`{name}`" in manual, name


def test_every_command_is_in_the_manual():
    manual = (Path(__file__).parents[2] / "docs" / "bridge.md").read_text()
    for command in bridge_cli.registered_commands:
        name = command.name or command.callback.__name__
        assert f"bitewing bridge {name}" in manual, name


def test_a_bridge_imports_no_networks_images_or_engine():
    code = (
        "import sys; import pms_writeback.bridge.cli, pms_writeback.bridge.service,"
        " pms_writeback.dentrix.sandbox, pms_writeback.eaglesoft.odbc, node.windows_service;"
        " print(sorted({name.split('.')[0] for name in sys.modules} &"
        " {'torch', 'torchvision', 'cv2', 'numpy', 'pydicom', 'pynetdicom', 'dbos', 'sqlalchemy',"
        " 'starlette', 'uvicorn', 'models'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="elsewhere than on Windows")
def test_a_windows_service_elsewhere_names_the_unit():
    for service in (NODE, BRIDGE):
        with pytest.raises(ConfigError, match=service.unit):
            control("install", service, ("x",))
    with pytest.raises(InvalidInput, match="no such action"):
        control("dance", BRIDGE, ("x",))


def test_a_kept_child_is_started_again_and_ended(tmp_path):
    import threading

    trace = tmp_path / "trace"
    code = f"import time; open({str(trace)!r}, 'a').write('x')"
    keeper = Keeper((sys.executable, "-c", code), restart_wait_s=0.01)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    until(lambda: keeper.starts >= 3)
    keeper.stop()
    thread.join()
    sleeper = Keeper((sys.executable, "-c", "import time; time.sleep(600)"))
    thread = threading.Thread(target=sleeper.run)
    thread.start()
    until(lambda: sleeper.starts == 1)
    sleeper.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_a_missing_task_is_not_closed(vendor):
    from pms_writeback.pms import CloseTask

    with pytest.raises(NotFound, match="task to close"):
        SandboxDriver(vendor[2]).execute(CloseTask("1", "ref:BW-none"))
