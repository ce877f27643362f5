"""One location of ours is one clinic of an office that has several."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import read
from node.db.tables import appointment, operatory, patient
from node.errors import ConfigError
from pms_writeback.availability import open_slots
from pms_writeback.pms import OfficeTime
from pms_writeback.practice import open_pms
from pms_writeback.record_rows import read_records
from pms_writeback.records import RecordKind
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

K = RecordKind
NORTH, SOUTH = 1, 2
OFFICE = OfficeTime("America/New_York")


@pytest.fixture
def two_clinics(office):
    """Rooms 1 and 2 are the north clinic's, room 3 and its visits the south's."""
    for key, name in ((NORTH, "North"), (SOUTH, "South")):
        office.add("clinics", ClinicNum=key, Description=name, Abbr=name[:1])
    for row in office.rows("operatories"):
        key = int(row["OperatoryNum"])
        office.change("operatories", key, ClinicNum=SOUTH if key == 3 else NORTH)
    for row in office.rows("appointments"):
        clinic = SOUTH if row["Op"] == 3 else NORTH
        office.change("appointments", int(row["AptNum"]), ClinicNum=clinic)
    for row in office.rows("procedurelogs"):
        visit = next(v for v in office.rows("appointments") if v["AptNum"] == row["AptNum"])
        office.change("procedurelogs", int(row["ProcNum"]), ClinicNum=visit["ClinicNum"])
    for row in office.rows("patients"):
        key = int(row["PatNum"])
        office.change("patients", key, ClinicNum=NORTH if key % 2 else SOUTH)
    return office


@pytest.fixture
def north(two_clinics, configure):
    config = configure(two_clinics, clinics=[str(NORTH)])
    pms = open_pms(config)
    yield config, pms
    pms.close()


def keys(db, table, **wanted):
    with read(db) as conn:
        rows = conn.execute(sa.select(table)).all()
    alive = [row for row in rows if getattr(row, "tombstoned_at", None) is None]
    return {
        row.pms_key
        for row in alive
        if all(getattr(row, name) == value for name, value in wanted.items())
    }


def test_only_the_own_clinics_schedule_is_kept(sqlite_database, two_clinics, north):
    db, (config, pms) = sqlite_database, north
    sync = ScheduleSync(db, pms, config)
    assert sync.run_once(datetime.now(UTC)).is_ok
    ours = keys(db, appointment)
    assert ours
    visits = {str(row["AptNum"]): row for row in two_clinics.rows("appointments")}
    assert {visits[key]["ClinicNum"] for key in ours} == {NORTH}
    assert keys(db, operatory, is_hidden=False) == {"1", "2"}
    north_people = {str(r["PatNum"]) for r in two_clinics.rows("patients") if r["ClinicNum"] == 1}
    guests = {str(visits[key]["PatNum"]) for key in ours}
    assert keys(db, patient) == north_people | guests  # a guest of the other clinic is known too
    moved = next(iter(ours))
    two_clinics.change("appointments", int(moved), ClinicNum=SOUTH, Op=3)
    two_clinics.change("operatories", 2, ClinicNum=SOUTH)
    sync = ScheduleSync(db, pms, config)
    assert sync.run_once(datetime.now(UTC) + timedelta(minutes=1)).is_ok
    assert moved not in keys(db, appointment)
    assert keys(db, operatory, is_hidden=False) == {"1"}


def test_only_the_own_clinics_records_are_kept(database, two_clinics, north):
    db, (config, pms) = database, north
    warehouse = Warehouse(db, pms, config)
    now = datetime.now(UTC)
    assert warehouse.run_once(now) == ()  # who our patients are is not known yet
    assert ScheduleSync(db, pms, config).run_once(now).is_ok
    assert not [each for each in warehouse.run_once(now) if each.error]
    with read(db) as conn:
        lines = read_records(conn, "main", K.PROCEDURE)
        recalls = read_records(conn, "main", K.RECALL)
        clinics = read_records(conn, "main", K.CLINIC)
        codes = read_records(conn, "main", K.PROCEDURE_CODE)
    assert {each.clinic_key for each in lines} == {str(NORTH)}
    assert {each.patient_key for each in recalls} <= keys(db, patient)
    assert [each.key for each in clinics] == [str(NORTH)]
    assert codes
    moved = lines[0]
    two_clinics.change("procedurelogs", int(moved.key), ClinicNum=SOUTH)
    warehouse.run_once(now + timedelta(minutes=1))
    with read(db) as conn:
        assert not read_records(conn, "main", K.PROCEDURE, key=moved.key)


def test_only_the_own_clinics_rooms_are_offered(sqlite_database, two_clinics, north):
    db, (config, pms) = sqlite_database, north
    now = datetime.now(UTC)
    day = OFFICE.today(now) + timedelta(days=1)
    while day.weekday() > 4:
        day += timedelta(days=1)
    for row in two_clinics.rows("appointments"):
        if str(row["AptDateTime"]).startswith(f"{day}"):
            two_clinics.delete_appointment(int(row["AptNum"]))
    ScheduleSync(db, pms, config).run_once(now)
    Warehouse(db, pms, config).run_once(now)

    def rooms(provider):
        with read(db) as conn:
            found = open_slots(
                conn, config, now=now, first=day, last=day, minutes=60, provider_key=provider
            )
        return {slot.operatory_key for slot in found}

    assert rooms("1") == {"1"}
    assert rooms("3") == set()  # works in the south clinic's room that day


def test_clinics_are_open_dentals(office, configure):
    with pytest.raises(ConfigError, match="clinics"):
        open_pms(configure(office, kind="dentrix", clinics=["1"]))
