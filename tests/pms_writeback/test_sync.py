"""The practice's schedule in our tables: what changes, what closes, what is never skipped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db import audit
from node.db.session import read
from node.db.tables import (
    appointment,
    event,
    patient,
    patient_contact,
    patient_identity,
    procedure,
    worklist_item,
)
from node.db.tables import audit as audit_table
from node.domain import schedule
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running
from pms_writeback.sync import ScheduleSync


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def pms(config):
    opened = open_pms(config)
    yield opened
    opened.close()


@pytest.fixture
def sync(sqlite_database, pms, config) -> ScheduleSync:
    return ScheduleSync(sqlite_database, pms, config)


def one(db: sa.Engine, table: sa.Table, **where):
    with read(db) as conn:
        clause = [table.c[name] == value for name, value in where.items()]
        return conn.execute(sa.select(table).where(*clause)).one()


def count(db: sa.Engine, table: sa.Table, **where) -> int:
    with read(db) as conn:
        clause = [table.c[name] == value for name, value in where.items()]
        return conn.execute(sa.select(sa.func.count()).select_from(table).where(*clause)).scalar()


def items_of(db: sa.Engine, pms_key: str):
    visit = one(db, appointment, pms_key=pms_key)
    with read(db) as conn:
        return conn.execute(
            sa.select(worklist_item)
            .where(worklist_item.c.appointment_id == visit.id)
            .order_by(worklist_item.c.modality)
        ).all()


def todays_visit(office):
    """An appointment of today with four bitewings and nothing else."""
    codes = {}
    for row in office.rows("procedurelogs"):
        codes.setdefault(row["AptNum"], []).append(row)
    by_code = {row["CodeNum"]: row["ProcCode"] for row in office.rows("procedurecodes")}
    return next(
        row
        for row in office.rows("appointments")
        if [by_code[each["CodeNum"]] for each in codes.get(row["AptNum"], [])] == ["D0274"]
        and row["AptStatus"] == "Scheduled"
        and row["AptDateTime"][:10] >= office.sandbox.store.clock.now().date().isoformat()
    )


def test_the_first_run_brings_everybody_and_the_days_around(database, pms, config, office):
    sync = ScheduleSync(database, pms, config)
    report = sync.run_once(now())
    assert report.is_ok
    assert report.is_full
    assert count(database, patient) == len(office.rows("patients"))
    assert report.worklist_items == count(database, worklist_item) > 10
    assert count(database, event, kind="schedule.synced") >= 1
    with read(database) as conn:
        assert sync.status(conn).is_fresh
        assert audit.verify(conn)[1] is None


def test_an_appointment_becomes_a_worklist_item(sqlite_database, sync, office):
    visit = todays_visit(office)
    sync.run_once(now())
    key = str(visit["AptNum"])
    row = one(sqlite_database, appointment, pms_key=key)
    (item,) = items_of(sqlite_database, key)
    assert row.accession_number == schedule.accession_number("main", key)
    assert row.study_instance_uid == schedule.study_instance_uid("main", key)
    assert (item.modality, item.expected_images, item.cdt_code) == ("IO", 4, "D0274")
    wall = visit["AptDateTime"]
    assert item.start_date == wall[:10].replace("-", "")
    assert item.start_time == wall[11:].replace(":", "")
    room = next(each for each in office.rows("operatories") if each["OperatoryNum"] == visit["Op"])
    stations = {"OP1": "SENSOR1", "OP2": "SENSOR2"}
    assert item.station_ae_title == stations.get(room["Abbrev"], "ANYSENSOR")


def test_a_second_run_writes_nothing(sqlite_database, sync, pms, config):
    sync.run_once(now())
    before = count(sqlite_database, audit_table)
    report = sync.run_once(now())
    assert report.is_ok
    assert not report.is_full
    assert report.changed == 0
    assert count(sqlite_database, audit_table) == before
    again = ScheduleSync(sqlite_database, pms, config).run_once(now())
    assert again.is_full
    assert again.changed == 0


def test_a_renamed_patient_is_renamed_here(sqlite_database, sync, office):
    sync.run_once(now())
    office.change("patients", 1, LName="Novák-O'Brien")
    report = sync.run_once(now())
    assert report.patients == 1
    person = one(sqlite_database, patient, pms_key="1")
    identity = one(sqlite_database, patient_identity, patient_id=person.id)
    assert identity.family_name == "Novák-O'Brien"
    assert identity.name_key.startswith("novakobrien^")


def test_a_deleted_patient_is_tombstoned_and_leaves_the_list(sqlite_database, sync, office):
    visit = todays_visit(office)
    sync.run_once(now())
    office.change("patients", int(visit["PatNum"]), PatStatus="Deleted")
    sync.run_once(now())
    person = one(sqlite_database, patient, pms_key=str(visit["PatNum"]))
    assert person.tombstoned_at is not None
    assert [item.is_open for item in items_of(sqlite_database, str(visit["AptNum"]))] == [False]
    office.change("patients", int(visit["PatNum"]), PatStatus="Patient")
    sync.run_once(now())
    assert one(sqlite_database, patient, id=person.id).tombstoned_at is None
    assert [item.is_open for item in items_of(sqlite_database, str(visit["AptNum"]))] == [True]


@pytest.mark.parametrize("status", ["Broken", "UnschedList", "Complete"])
def test_what_is_off_the_day_closes_and_keeps_its_ids(sqlite_database, sync, office, status):
    visit = todays_visit(office)
    key = str(visit["AptNum"])
    sync.run_once(now())
    before = one(sqlite_database, appointment, pms_key=key)
    office.change("appointments", visit["AptNum"], AptStatus=status)
    sync.run_once(now())
    assert [item.is_open for item in items_of(sqlite_database, key)] == [False]
    after = one(sqlite_database, appointment, pms_key=key)
    assert (after.accession_number, after.study_instance_uid) == (
        before.accession_number,
        before.study_instance_uid,
    )
    office.change("appointments", visit["AptNum"], AptStatus="Scheduled")
    sync.run_once(now())
    assert [item.is_open for item in items_of(sqlite_database, key)] == [True]


def test_a_moved_appointment_moves_and_keeps_its_ids(sqlite_database, sync, office):
    visit = todays_visit(office)
    key = str(visit["AptNum"])
    sync.run_once(now())
    (before,) = items_of(sqlite_database, key)
    moved = datetime.fromisoformat(visit["AptDateTime"]) + timedelta(days=1)
    office.change(
        "appointments", visit["AptNum"], AptDateTime=moved.strftime("%Y-%m-%d %H:%M:%S"), Op=2
    )
    sync.run_once(now())
    (after,) = items_of(sqlite_database, key)
    assert after.id == before.id
    assert after.scheduled_procedure_step_id == before.scheduled_procedure_step_id
    assert after.start_date == moved.strftime("%Y%m%d")
    assert after.station_ae_title == "SENSOR2"
    assert after.is_open


def test_a_deleted_appointment_closes(sqlite_database, sync, office):
    visit = todays_visit(office)
    sync.run_once(now())
    office.delete_appointment(int(visit["AptNum"]))
    sync.run_once(now())
    assert one(sqlite_database, appointment, pms_key=str(visit["AptNum"])).tombstoned_at is not None
    assert [item.is_open for item in items_of(sqlite_database, str(visit["AptNum"]))] == [False]


def test_an_appointment_that_vanished_unseen_closes_at_the_next_full_run(
    sqlite_database, sync, office, config, pms
):
    visit = todays_visit(office)
    sync.run_once(now())
    office.delete_appointment(int(visit["AptNum"]))
    with office.sandbox.store.begin() as chart:
        for row in chart.select("histappointments"):
            chart.change("histappointments", int(row["HistApptNum"]), {"HistApptAction": "Changed"})
    ScheduleSync(sqlite_database, pms, config).run_once(now())
    assert one(sqlite_database, appointment, pms_key=str(visit["AptNum"])).tombstoned_at is not None


def test_an_office_that_cannot_list_deletions_is_read_whole(sqlite_database, tmp_path, configure):
    with running(tmp_path / "old.sqlite", od_version="22.4.1", seed_patients=20) as old:
        pms = open_pms(configure(old))
        sync = ScheduleSync(sqlite_database, pms, configure(old))
        assert sync.run_once(now()).is_ok
        visit = todays_visit(old)
        assert [each.is_open for each in items_of(sqlite_database, str(visit["AptNum"]))] == [True]
        old.delete_appointment(int(visit["AptNum"]))
        assert sync.run_once(now()).is_ok
        assert [each.is_open for each in items_of(sqlite_database, str(visit["AptNum"]))] == [False]
        pms.close()


def test_an_empty_answer_closes_nothing(sqlite_database, sync, office, config, pms):
    sync.run_once(now())
    before = count(sqlite_database, worklist_item, is_open=True)
    with office.sandbox.store.begin() as chart:  # as if the office's day had been hidden
        for row in chart.select("appointments"):
            chart.change("appointments", int(row["AptNum"]), {"AptDateTime": "1999-01-04 08:00:00"})
            chart.change("appointments", int(row["AptNum"]), {"DateTStamp": "1999-01-04 08:00:00"})
    ScheduleSync(sqlite_database, pms, config).run_once(now())
    assert count(sqlite_database, worklist_item, is_open=True) == before > 10


def test_a_procedure_added_at_the_chair_changes_the_list(sqlite_database, sync, office):
    visit = todays_visit(office)
    key = str(visit["AptNum"])
    sync.run_once(now())
    codes = {row["ProcCode"]: row["CodeNum"] for row in office.rows("procedurecodes")}
    added = office.add(
        "procedurelogs",
        PatNum=visit["PatNum"],
        AptNum=visit["AptNum"],
        CodeNum=codes["D0330"],
        ProcStatus="TP",
        ProcDate=visit["AptDateTime"][:10],
    )
    sync.run_once(now())
    bitewings, panoramic = items_of(sqlite_database, key)
    assert (bitewings.modality, panoramic.modality) == ("IO", "PX")
    assert panoramic.expected_images == 1
    office.change("procedurelogs", int(added["ProcNum"]), ProcStatus="D")
    sync.run_once(now())
    assert [item.is_open for item in items_of(sqlite_database, key)] == [True, False]
    gone = one(sqlite_database, procedure, pms_key=str(added["ProcNum"]))
    assert gone.tombstoned_at is not None
    office.change("procedurelogs", int(added["ProcNum"]), ProcStatus="TP", AptNum=0)
    sync.run_once(now())
    assert [item.is_open for item in items_of(sqlite_database, key)] == [True, False]


def test_a_failed_run_skips_nothing(sqlite_database, sync, office):
    start = now()
    sync.run_once(start)
    office.change("patients", 1, LName="Changed")
    office.fault("offline")
    report = sync.run_once(start + timedelta(minutes=30))
    assert not report.is_ok
    assert report.error
    with read(sqlite_database) as conn:
        status = sync.status(conn)
    assert not status.is_fresh
    assert "away" in status.reason
    office.fault("offline", on=False)
    assert sync.run_once(start + timedelta(minutes=40)).patients == 1
    with read(sqlite_database) as conn:
        assert sync.status(conn).is_fresh


@pytest.mark.parametrize("path", ["/appointments", "/procedurelogs", "/operatories"])
def test_a_run_cut_in_its_middle_is_repeated(sqlite_database, sync, office, path):
    office.fault("status", status=500, path=path, count=1)
    office.fault("status", status=500, path="/api/v1" + path, count=1)
    assert not sync.run_once(now()).is_ok
    report = sync.run_once(now())
    assert report.is_ok
    assert report.worklist_items > 10


@pytest.mark.parametrize("seconds", [-7200.0, 7200.0, 37.0])
def test_a_wrong_clock_loses_no_change(sqlite_database, sync, office, seconds):
    sync.run_once(now())
    office.fault("skew", seconds=seconds)
    sync.run_once(now())
    office.change("patients", 1, LName="Skewed")
    report = sync.run_once(now() + timedelta(seconds=1))
    assert report.patients == 1
    with read(sqlite_database) as conn:
        assert sync.status(conn).clock_offset_s == pytest.approx(seconds, abs=2.0)


def test_a_practice_in_which_nobody_was_read_yet_is_not_fresh(sqlite_database, sync):
    with read(sqlite_database) as conn:
        assert not sync.status(conn).is_fresh


def test_two_locations_side_by_side(database, tmp_path, configure):
    with (
        running(tmp_path / "north.sqlite", seed_patients=5) as north,
        running(tmp_path / "south.sqlite", seed_patients=5) as south,
    ):
        south.change("patients", 1, LName="Southerner")
        for handle, location_id in ((north, "north"), (south, "south")):
            config = configure(handle, location_id)
            pms = open_pms(config)
            assert ScheduleSync(database, pms, config).run_once(now()).is_ok
            pms.close()
        south.change("appointments", 1, AptStatus="Broken")
        config = configure(south, "south")
        pms = open_pms(config)
        ScheduleSync(database, pms, config).run_once(now())
        pms.close()
    for location_id in ("north", "south"):
        person = one(database, patient, location_id=location_id, pms_key="1")
        name = one(database, patient_identity, patient_id=person.id).family_name
        assert (name == "Southerner") == (location_id == "south")
    visits = {
        location_id: one(database, appointment, location_id=location_id, pms_key="1")
        for location_id in ("north", "south")
    }
    assert visits["north"].accession_number != visits["south"].accession_number
    assert visits["north"].status == "scheduled"
    assert visits["south"].status == "broken"
    with read(database) as conn:
        mixed = conn.execute(
            sa.select(sa.func.count())
            .select_from(worklist_item.join(patient, patient.c.id == worklist_item.c.patient_id))
            .where(worklist_item.c.location_id != patient.c.location_id)
        ).scalar()
    assert mixed == 0


def test_how_patients_are_reached_is_kept_and_follows_the_chart(sync, office, sqlite_database):
    office.change("patients", 2, WirelessPhone="(212) 555-0123", TxtMsgOk="Yes", Language="es")
    sync.run_once(now())
    owner = one(sqlite_database, patient, pms_key="2").id
    contact = one(sqlite_database, patient_contact, patient_id=owner)
    assert (contact.mobile, contact.text_allowed, contact.language) == (
        "(212) 555-0123",
        "yes",
        "es",
    )
    assert contact.email
    office.change("patients", 2, TxtMsgOk="No", Email="")
    assert sync.run_once(now()).patients == 1
    contact = one(sqlite_database, patient_contact, patient_id=owner)
    assert (contact.text_allowed, contact.email) == ("no", "")
    assert sync.run_once(now()).changed == 0


def test_what_the_schedule_did_not_understand_is_kept_and_stops_nothing(
    database, pms, config, office, caplog
):
    visit = office.rows("appointments")[0]
    office.change("appointments", int(visit["AptNum"]), AptStatus="Levitating")
    office.change("patients", 1, PatStatus="Cloned", Birthdate="once")
    sync = ScheduleSync(database, pms, config)
    assert sync.run_once(now()).is_ok
    assert not sync.run_once(now()).changed  # the same again is no news
    with read(database) as conn:
        kept = conn.execute(
            sa.select(appointment).where(appointment.c.pms_key == str(visit["AptNum"]))
        ).one()
        person = conn.execute(sa.select(patient).where(patient.c.pms_key == "1")).one()
        usual = conn.execute(sa.select(patient.c.raw).where(patient.c.pms_key == "2")).scalar_one()
    assert (kept.status, kept.raw) == ("other", {"AptStatus": "Levitating"})
    assert (person.status, person.raw, usual) == ("other", {"PatStatus": "Cloned"}, None)
    said = [each.getMessage() for each in caplog.records if "Levitating" in each.getMessage()]
    assert len(said) == 1
