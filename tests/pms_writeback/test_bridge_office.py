"""A practice behind a bridge, read and written through the PMS contract."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from node.config import read_config
from node.db.session import read
from node.errors import Conflict, NotFound, Rejected, Retryable, Unsupported
from pms_writeback.outbox import ref_for
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    AppointmentStatus,
    BookAppointment,
    CancelAppointment,
    CloseTask,
    ConfirmAppointment,
    CreateTask,
    MoveAppointment,
    PatientStatus,
    ProcedureStatus,
    Support,
    UploadDocument,
)
from pms_writeback.record_rows import read_records
from pms_writeback.records import Reach, RecordKind, RecordSource
from pms_writeback.warehouse import Warehouse
from tests.pms_writeback.bridge_world import clinic, until

WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@pytest.fixture(params=["dentrix", "eaglesoft"])
def world(request, tmp_path, sqlite_database):
    with clinic(tmp_path, sqlite_database, request.param) as world:
        world.connect()
        yield world


def commlog(key="k", patient="1", text="Bitewings reviewed."):
    return AppendCommlog(patient, text, WHEN, ref_for("main", key))


def test_the_schedule_is_read_as_the_practice_has_it(world):
    today = world.office_today()
    visits = world.pms.appointments(today, today)
    people = {each.key: each for each in world.pms.patients()}
    assert {visit.patient_key for visit in visits} <= people.keys()
    first = min(visits, key=lambda visit: int(visit.key))
    assert first.status is AppointmentStatus.SCHEDULED
    assert world.pms.office.to_wall(first.starts_at).hour == 8
    assert first.minutes == 60
    codes = {each.cdt_code for each in world.pms.procedures(appointment_key=first.key)}
    assert "D0274" in codes
    person = people[first.patient_key]
    assert (person.family_name, person.sex) == ("Sandbox", "F")
    assert person.birth_date.year == 1984
    rooms = {room.key: room.name for room in world.pms.operatories()}
    assert rooms[first.operatory_key] == "Operatory 1"
    assert {each.key for each in world.pms.providers()} == {"DDS1", "DDS2", "HYG1"}
    yesterday = today - timedelta(days=1)
    done = world.pms.appointments(yesterday, yesterday)
    assert {visit.status for visit in done} == {AppointmentStatus.COMPLETE}


def test_changes_and_deletions_are_seen_by_comparing(world):
    before = world.clock()
    today = world.office_today()
    visits = {visit.key for visit in world.pms.appointments(today, today)}
    table = "v_appt" if world.pms_kind == "dentrix" else "appointment"
    people = "v_patient" if world.pms_kind == "dentrix" else "patient"
    with world.office.writing() as db:
        db.execute(f"DELETE FROM {table} WHERE appointment_id = 1")
        db.execute(f"UPDATE {people} SET last_name = 'Renamed' WHERE patient_id = 3")
        db.execute(f"DELETE FROM {people} WHERE patient_id = 8")
    until(lambda: len(world.pms.appointments(today, today)) == len(visits) - 1)
    assert world.pms.deleted_appointments(today, today) == ("1",)
    until(lambda: len(world.pms.patients(before)) == 2, what="both patients' changes")
    changed = {each.key: each for each in world.pms.patients(before)}
    assert changed["3"].family_name == "Renamed"
    assert changed["8"].status is PatientStatus.DELETED
    with pytest.raises(NotFound):
        world.pms.patient("4711")


def test_a_patient_who_is_not_in_the_copy_yet_is_read_at_once(world):
    world.stop_bridge()
    world.settings = "heavy_hours = ['03:00-03:01']"
    world.start_bridge()
    world.await_schedule()
    if world.pms_kind == "dentrix":
        columns = "(900, 'g', 'New', 'Person', '1990-01-01', 'M')"
        statement = f"INSERT INTO v_patient VALUES {columns}"
    else:
        statement = "INSERT INTO patient VALUES (900, 'New', 'Person', '1990-01-01', 'M')"
    with world.office.writing() as db:
        db.execute(statement)
    assert world.pms.patient("900").family_name == "Person"


def test_every_command_lands_and_is_found(world):
    commands = [
        commlog(),
        CreateTask("1", "Please look at the films.", ref_for("main", "t")),
        UploadDocument(
            "1",
            "report.pdf",
            ".pdf",
            b"%PDF-1.7 report",
            "Report",
            "AI Imaging",
            "Document",
            ("3", "14"),
            WHEN,
            ref_for("main", "d"),
        ),
        CloseTask("1", ref_for("main", "t")),
    ]
    procedure = next(
        each
        for each in world.pms.procedures(patient_key="1")
        if each.status is ProcedureStatus.TREATMENT_PLANNED
    )
    commands.append(AppendProcedureNote("1", procedure.key, "No change.", ref_for("main", "note")))
    for command in commands:
        assert world.pms.find(command) is None
        receipt = world.pms.execute(command)
        assert not receipt.already_there
        again = world.pms.execute(command)
        assert again == receipt, "the journal answers, nothing is written"
        assert world.pms.find(command) == receipt
    entries = world.office.entries()
    assert [each.kind for each in entries] == ["contact", "task", "document", "note"]
    document = entries[2]
    assert document.content == b"%PDF-1.7 report"
    assert document.detail["teeth"] == ["3", "14"]
    assert entries[1].is_done
    supported = {
        each.operation
        for each in world.pms.capabilities().operations
        if each.support is Support.SUPPORTED
    }
    assert {type(command).__name__ for command in commands} <= supported


def test_visits_are_booked_moved_confirmed_and_cancelled(world):
    pms = world.pms
    day = world.office_today() + timedelta(days=1)

    def at(hour, minute=0):
        return pms.office.to_utc(datetime.combine(day, time(hour, minute)))

    def seen(key):
        return next((each for each in pms.appointments(day, day) if each.key == key), None)

    book = BookAppointment("1", at(18), 30, "1", "DDS1", "Control.", ref_for("main", "book"))
    booked = pms.execute(book)
    assert pms.execute(book) == booked == pms.find(book)
    until(lambda: seen(booked.key), what="the booked visit")
    visit = seen(booked.key)
    assert (visit.patient_key, visit.minutes, visit.starts_at) == ("1", 30, at(18))
    assert (visit.operatory_key, visit.provider_key) == ("1", "DDS1")
    taken = BookAppointment("2", at(18, 15), 30, "1", "DDS1", "Other.", ref_for("main", "taken"))
    with pytest.raises(Conflict, match="room is taken"):
        pms.execute(taken)
    move = MoveAppointment("1", booked.key, at(18), at(19), "2", ref_for("main", "move"))
    pms.execute(move)
    until(lambda: seen(booked.key).starts_at == at(19), what="the moved visit")
    late = MoveAppointment("1", booked.key, at(18), at(20), "2", ref_for("main", "late"))
    with pytest.raises(Conflict, match="moved"):
        pms.execute(late)
    confirm = ConfirmAppointment("1", booked.key, "confirmed", ref_for("main", "confirm"))
    pms.execute(confirm)
    until(lambda: seen(booked.key).confirmation == "confirmed", what="the confirmation")
    with pytest.raises(Rejected, match="no confirmation"):
        pms.execute(replace(confirm, confirmation="perhaps", ref=ref_for("main", "perhaps")))
    with pytest.raises(NotFound, match="not this patient's"):
        pms.execute(CancelAppointment("2", booked.key, ref_for("main", "wrong")))
    cancel = CancelAppointment("1", booked.key, ref_for("main", "cancel"))
    pms.execute(cancel)
    until(lambda: seen(booked.key) is None, what="the cancelled visit")
    assert pms.execute(cancel).key == booked.key
    with pytest.raises(Conflict, match="only a scheduled"):
        pms.execute(CancelAppointment("1", booked.key, ref_for("main", "again")))
    assert [each.kind for each in world.office.entries()] == ["booking"] * 4


def test_nothing_is_written_for_a_stranger_or_to_another_patients_procedure(world):
    with pytest.raises(NotFound):
        world.pms.execute(commlog(patient="4711"))
    procedure = world.pms.procedures(patient_key="1")[0]
    wrong = AppendProcedureNote("2", procedure.key, "Text.", ref_for("main", "n"))
    with pytest.raises(Rejected, match="another patient"):
        world.pms.execute(wrong)
    assert world.office.entries() == []


def test_another_command_under_the_same_key_is_refused(world):
    world.pms.execute(commlog())
    with pytest.raises(Rejected, match="same key"):
        world.pms.execute(commlog(text="Something else."))
    assert len(world.office.entries()) == 1


def test_a_refused_command_may_be_sent_again_when_the_reason_is_gone(world):
    world.office.set("refuse", "The day is closed.")
    with pytest.raises(Rejected, match="day is closed"):
        world.pms.execute(commlog())
    world.office.set("refuse", "")
    assert world.pms.execute(commlog()).key
    assert len(world.office.entries()) == 1


def test_a_locked_database_is_waited_for_and_then_reported(world):
    world.stop_bridge()
    world.lock_patience_s = 0.5
    world.start_bridge()
    world.await_schedule()
    with world.office.locked(), pytest.raises(Retryable, match="locked"):
        world.pms.execute(commlog())
    assert world.pms.execute(commlog()).key
    assert len(world.office.entries()) == 1


def test_a_short_lock_is_outlasted(world):
    released = threading.Event()

    def hold():
        with world.office.locked():
            released.wait(0.6)

    holder = threading.Thread(target=hold)
    holder.start()
    assert world.pms.execute(commlog()).key
    released.set()
    holder.join()
    assert len(world.office.entries()) == 1


def test_a_patient_is_known_but_the_bridge_is_away(world):
    world.stop_bridge()
    world.pms.desk.dismiss()
    with pytest.raises(Retryable, match="not connected"):
        world.pms.patients()
    with pytest.raises(Retryable, match="not connected"):
        world.pms.execute(commlog())
    assert world.office.entries() == []


def test_reading_procedures_of_everybody_is_not_offered(world):
    with pytest.raises(Unsupported):
        world.pms.procedures()


def test_lines_of_the_chart_are_the_records_there_are(world, sqlite_database):
    config = read_config(environment={}, overrides={"node": {"time_zone": "America/New_York"}})
    assert isinstance(world.pms, RecordSource)
    reach = world.pms.reach()
    assert [kind for kind, how in reach.items() if how is not Reach.NONE] == [RecordKind.PROCEDURE]
    warehouse = Warehouse(sqlite_database, world.pms, config)
    (report,) = [each for each in warehouse.run_once(datetime.now(UTC)) if each.read]
    assert (report.kind, report.error) == (RecordKind.PROCEDURE, "")
    with read(sqlite_database) as conn:
        lines = read_records(conn, "main", RecordKind.PROCEDURE, patient_key="1")
    shown = {each.key: each for each in world.pms.procedures(patient_key="1")}
    assert {line.key for line in lines} == shown.keys()
    assert "D0274" in {line.values["cdt_code"] for line in lines}
    assert {line.values["status"] for line in lines} <= {"TP", "C", "EO", ""}
    assert [r.key for r in world.pms.records_of(RecordKind.PROCEDURE, "1")] == list(shown)
    with pytest.raises(Unsupported, match="claim"):
        list(world.pms.records(RecordKind.CLAIM))
