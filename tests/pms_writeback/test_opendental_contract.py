"""The Open Dental adapter against the sandbox on a real socket: reads, writes, searches."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from node.errors import ConfigError, InvalidInput, NotFound, Rejected, Retryable, Unsupported
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    AppointmentStatus,
    CloseTask,
    CreateTask,
    PatientStatus,
    ProcedureStatus,
    Support,
    UploadDocument,
)
from pms_writeback.sandbox.server import running

ZONE = "America/Chicago"
NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)
TODAY = date(2026, 6, 10)


@pytest.fixture
def pms(tmp_path):
    with running(tmp_path / "pms.sqlite", time_zone=ZONE, clock=lambda: NOON) as sandbox:
        yield sandbox


def settings(pms, **changes):
    values = {
        "base_url": pms.url,
        "developer_key": pms.developer_key,
        "customer_key": pms.customer_key,
        "time_zone": ZONE,
        "task_list": "AI Imaging Review",
        "task_user": "bitewing",
        "read_timeout_s": 10.0,
        "update_check_s": 0.0,
        **changes,
    }
    return OpenDentalSettings(**values)


@pytest.fixture
def office(pms):
    adapter = OpenDental(settings(pms), clock=lambda: NOON)
    yield adapter
    adapter.close()


def imaging_procedure(office, patient="1"):
    return next(p for p in office.procedures(patient_key=patient) if p.cdt_code == "D0274")


def note(office, ref="ref:BW-0001abcd", text="Bitewings reviewed."):
    procedure = imaging_procedure(office)
    return AppendProcedureNote("1", procedure.key, text, ref)


def upload(**changes):
    values = {
        "patient_key": "1",
        "filename": "report.pdf",
        "extension": ".pdf",
        "content": b"%PDF-1.7 report",
        "description": "Imaging report",
        "category": "AI Imaging",
        "image_type": "Document",
        "tooth_numbers": ("3", "30"),
        "created": NOON - timedelta(minutes=5),
        "ref": "ref:BW-0002abcd",
        **changes,
    }
    return UploadDocument(**values)


def test_todays_schedule_is_read_in_utc(office):
    appointments = office.appointments(TODAY, TODAY)
    first = next(a for a in appointments if a.patient_key == "1")
    # 08:00 in Chicago in summer.
    assert first.starts_at == datetime(2026, 6, 10, 13, 0, tzinfo=UTC)
    assert first.minutes == 60
    assert first.status is AppointmentStatus.SCHEDULED
    assert first.operatory_key in {o.key for o in office.operatories()}
    assert first.provider_key in {p.key for p in office.providers()}
    assert {"1", "2", "3", "4", "5", "6", "7"} <= {a.patient_key for a in appointments}


def test_patients_are_read_whole_with_their_state(pms, office):
    pms.change("patients", 12, PatStatus="Deleted")
    pms.change("patients", 13, PatStatus="Archived", Birthdate="0001-01-01")
    found = {each.key: each for each in office.patients()}
    assert len(found) == 40
    assert found["12"].status is PatientStatus.DELETED
    assert found["13"].status is PatientStatus.INACTIVE
    assert found["13"].birth_date is None
    assert found["1"].family_name == "Sandbox"
    assert found["1"].birth_date == date(1984, 3, 12)
    assert found["1"].sex == "F"
    assert office.patient("12").status is PatientStatus.DELETED


def test_patient_that_does_not_exist_is_not_found(office):
    with pytest.raises(NotFound):
        office.patient("4711")
    with pytest.raises(NotFound):
        office.patient("../preferences")


def test_patient_data_is_not_shown_by_repr(office):
    assert "Ada" not in repr(office.patient("1"))
    assert "Sandbox" not in repr(office.patient("1"))


def test_procedures_of_a_visit_carry_the_code_and_state(office):
    visit = next(a for a in office.appointments(TODAY, TODAY) if a.patient_key == "1")
    (procedure,) = office.procedures(appointment_key=visit.key)
    assert procedure.cdt_code == "D0274"
    assert procedure.status is ProcedureStatus.TREATMENT_PLANNED
    assert procedure.day == TODAY
    assert procedure.patient_key == "1"
    with pytest.raises(Unsupported):
        office.procedures()


@pytest.mark.parametrize("count", [99, 100, 101, 200, 201])
def test_lists_of_any_length_are_read_whole(tmp_path, count):
    with running(tmp_path / "pms.sqlite", seed_patients=count) as pms:
        office = OpenDental(settings(pms))
        keys = [each.key for each in office.patients()]
        office.close()
    assert len(keys) == len(set(keys)) == count


def test_a_server_that_caps_pages_lower_than_asked_is_read_whole(tmp_path):
    with running(tmp_path / "pms.sqlite", seed_patients=230, page_cap=100) as pms:
        office = OpenDental(settings(pms, page_size=1000))
        assert len(office.patients()) == 230
        office.close()


def test_note_is_appended_and_found_by_its_token(pms, office):
    first, second = note(office), note(office, "ref:BW-0009", "A later addition.")
    receipt = office.execute(first)
    office.execute(second)
    newest = pms.rows("procnotes")[-1]
    assert newest["Note"] == (
        "Bitewings reviewed. ref:BW-0001abcd\n\nA later addition. ref:BW-0009"
    )
    assert newest["isSigned"] == "false"
    assert receipt.resource == "procnotes"
    assert not receipt.already_there
    found = office.find(first)
    assert found is not None
    assert found.key == receipt.key
    assert found.already_there
    # A token that merely begins alike is another one.
    assert office.find(note(office, "ref:BW-0001")) is None


def test_note_on_another_patients_procedure_is_refused_and_nothing_written(pms, office):
    procedure = imaging_procedure(office)
    with pytest.raises(Rejected, match="another patient"):
        office.execute(AppendProcedureNote("2", procedure.key, "text", "ref:BW-0001abcd"))
    assert pms.rows("procnotes") == []


def test_commlog_says_that_nothing_was_sent(pms, office):
    command = AppendCommlog("2", "Imaging reviewed.", NOON, "ref:BW-0003abcd")
    receipt = office.execute(command)
    (row,) = pms.rows("commlogs")
    assert row["SentOrReceived"] == "Neither"
    assert row["CommDateTime"] == "2026-06-10 12:00:00"
    assert row["Note"] == "Imaging reviewed. ref:BW-0003abcd"
    assert office.find(command) == type(receipt)("commlogs", receipt.key, already_there=True)


def test_document_keeps_bytes_teeth_category_and_token(pms, office):
    command = upload(description="Imaging report " + "very long " * 40)
    receipt = office.execute(command)
    (row,) = pms.rows("documents")
    assert pms.document(int(receipt.key)) == b"%PDF-1.7 report"
    assert row["ToothNumbers"] == "3,30"
    assert row["DocCategory"] == 138
    assert row["DateCreated"] == "2026-06-10 11:55:00"
    assert len(str(row["Description"])) <= 255
    assert str(row["Description"]).endswith("ref:BW-0002abcd")
    found = office.find(command)
    assert found is not None
    assert found.key == receipt.key


def test_find_in_a_chart_without_documents_finds_nothing(office):
    assert office.find(upload()) is None


def test_missing_category_says_what_to_do(office):
    with pytest.raises(Rejected, match="Image Categories"):
        office.execute(upload(category="No such"))


def test_category_made_later_is_seen(pms, office):
    with pytest.raises(Rejected):
        office.execute(upload(category="Made later"))
    pms.add("definitions", ItemName="Made later", Category=18)
    fresh = OpenDental(settings(pms), clock=lambda: NOON)
    assert fresh.execute(upload(category="made LATER")).resource == "documents"
    fresh.close()


def test_document_too_large_for_the_wire_is_refused_before_sending(pms, office):
    with pytest.raises(InvalidInput, match="too large"):
        office.execute(upload(content=b"\0" * 12_000_001))
    assert pms.rows("documents") == []


def test_task_is_created_on_the_configured_list_and_closed_once(pms, office):
    create = CreateTask("3", "Review imaging, study 1", "ref:BW-0004abcd")
    receipt = office.execute(create)
    (row,) = pms.rows("tasks")
    assert (row["TaskListNum"], row["UserNum"]) == (2, 2)
    assert (row["ObjectType"], row["KeyNum"]) == ("Patient", 3)
    close = CloseTask("3", "ref:BW-0004abcd")
    assert office.find(close) is None
    assert office.execute(close).key == receipt.key
    assert pms.rows("tasks")[0]["TaskStatus"] == "Done"
    again = office.execute(close)
    assert again.already_there
    assert office.find(close) == again


def test_task_older_than_the_default_window_is_still_found(pms, office):
    create = CreateTask("3", "Review imaging", "ref:BW-0005abcd")
    receipt = office.execute(create)
    pms.change("tasks", int(receipt.key), DateTimeOriginal="2026-01-02 08:00:00")
    found = office.find(create)
    assert found is not None
    assert found.key == receipt.key


def test_closing_a_task_that_is_gone_is_not_found(office):
    with pytest.raises(NotFound):
        office.execute(CloseTask("3", "ref:BW-0006abcd"))


def test_unknown_task_list_or_user_says_what_to_change(pms):
    for change, words in (({"task_list": "Nope"}, "task list"), ({"task_user": "Nope"}, "user")):
        office = OpenDental(settings(pms, **change))
        with pytest.raises(Rejected, match=words):
            office.execute(CreateTask("3", "text", "ref:BW-0007abcd"))
        office.close()


def test_without_a_configured_list_tasks_are_unsupported(pms):
    office = OpenDental(settings(pms, task_list=""))
    assert office.capabilities().of(CreateTask).support is Support.UNSUPPORTED
    with pytest.raises(Unsupported, match="task_list"):
        office.execute(CreateTask("3", "text", "ref:BW-0007abcd"))
    office.close()


def test_changes_since_are_read_and_deletions_seen(pms, office):
    assert office.appointments_since(NOON + timedelta(minutes=1)) == ()
    visits = office.appointments(TODAY, TODAY)
    moved, gone = visits[0], visits[1]
    later = "2026-06-10 12:30:00"
    pms.change("appointments", int(moved.key), Op=3, DateTStamp=later)
    pms.change("patients", 9, LName="Renamed", DateTStamp=later)
    pms.delete_appointment(int(gone.key))
    (changed,) = office.appointments_since(NOON + timedelta(minutes=30))
    assert changed.key == moved.key
    assert changed.operatory_key == "3"
    (patient,) = office.patients(NOON + timedelta(minutes=30))
    assert patient.family_name == "Renamed"
    assert office.deleted_appointments(TODAY, TODAY) == (gone.key,)
    assert gone.key not in {a.key for a in office.appointments(TODAY, TODAY)}


def test_deleted_procedures_are_still_seen(pms, office):
    procedure = imaging_procedure(office)
    pms.change(
        "procedurelogs", int(procedure.key), ProcStatus="D", DateTStamp="2026-06-10 13:00:00"
    )
    (changed,) = office.procedures_since(NOON + timedelta(minutes=59))
    assert changed.status is ProcedureStatus.DELETED


def test_planned_appointments_have_no_start(pms, office):
    (row,) = [row for row in pms.rows("appointments") if row["PatNum"] == 1]
    pms.change(
        "appointments",
        int(row["AptNum"]),
        AptStatus="UnschedList",
        AptDateTime="0001-01-01 00:00:00",
        DateTStamp="2026-06-10 13:00:00",
    )
    (changed,) = office.appointments_since(NOON + timedelta(minutes=59))
    assert changed.starts_at is None
    assert changed.status is AppointmentStatus.UNSCHEDULED


def test_what_nobody_expected_is_counted_and_stops_nothing(pms, office):
    pms.change("patients", 9, PatStatus="Hibernating")
    pms.change("patients", 10, Birthdate="31/12/1999")
    pms.change("operatories", 2, IsHidden="True")
    found = {each.key: each for each in office.patients()}
    assert len(found) == 40
    assert found["9"].status is PatientStatus.OTHER
    assert found["10"].birth_date is None
    assert next(o for o in office.operatories() if o.key == "2").is_hidden
    assert office.oddities()["patients.PatStatus=Hibernating"] == 1
    assert office.oddities()["patients.Birthdate is not a date"] == 1


@pytest.mark.parametrize(
    ("version", "supported"),
    [
        ("25.3.36", {AppendProcedureNote, AppendCommlog, UploadDocument, CreateTask, CloseTask}),
        ("24.2.28", {AppendCommlog, UploadDocument, CreateTask, CloseTask}),
        ("22.4.30", {AppendCommlog, UploadDocument, CreateTask}),
        ("21.2.0.0", {AppendCommlog, UploadDocument}),
    ],
)
def test_old_versions_are_planned_for(tmp_path, version, supported):
    with running(tmp_path / "pms.sqlite", od_version=version) as pms:
        office = OpenDental(settings(pms))
        known = office.capabilities()
        assert known.version == version
        commands = (AppendProcedureNote, AppendCommlog, UploadDocument, CreateTask, CloseTask)
        for command in commands:
            expected = Support.SUPPORTED if command in supported else Support.NEEDS_VERSION
            assert known.of(command).support is expected
        if AppendProcedureNote not in supported:
            for act in (office.execute, office.find):
                with pytest.raises(Unsupported, match=r"needs Open Dental 24\.2\.29"):
                    act(AppendProcedureNote("1", "1", "text", "ref:BW-0001"))
        office.close()


def test_teeth_go_into_the_description_where_the_office_is_too_old(tmp_path):
    with running(tmp_path / "pms.sqlite", od_version="22.4.1") as pms:
        office = OpenDental(settings(pms))
        office.execute(upload())
        (row,) = pms.rows("documents")
        office.close()
    assert row["ToothNumbers"] == ""
    assert row["Description"] == "Imaging report (teeth 3,30) ref:BW-0002abcd"


def test_wrong_keys_and_missing_permissions_are_for_an_operator(tmp_path, pms):
    office = OpenDental(settings(pms, customer_key="wrong"))
    with pytest.raises(ConfigError, match="keys"):
        office.patients()
    office.close()
    permissions = frozenset({"ReadAll"})
    with running(tmp_path / "other.sqlite", permissions=permissions) as limited:
        reader = OpenDental(settings(limited))
        assert len(reader.patients()) == 40
        with pytest.raises(ConfigError, match="Comm"):
            reader.execute(AppendCommlog("2", "text", NOON, "ref:BW-0003abcd"))
        reader.close()


def test_deleted_patient_is_read_only(pms, office):
    pms.change("patients", 2, PatStatus="Deleted")
    with pytest.raises(Rejected, match="deleted"):
        office.execute(AppendCommlog("2", "text", NOON, "ref:BW-0003abcd"))
    with pytest.raises(NotFound):
        office.execute(AppendCommlog("4711", "text", NOON, "ref:BW-0003abcd"))


def test_plain_http_stays_in_the_office():
    def build(url, **changes):
        return OpenDentalSettings(url, "dev", "cust", ZONE, **changes)

    for near in (
        "http://127.0.0.1:30223/api/v1",
        "http://10.0.0.5:30223/api/v1",
        "http://srv/api/v1",
    ):
        assert build(near).base_url == near
    assert build("https://api.example.com/api/v1")
    with pytest.raises(ConfigError, match="TLS"):
        build("http://api.example.com/api/v1")
    with pytest.raises(ConfigError, match="TLS"):
        build("http://8.8.8.8/api/v1")
    assert build("http://api.example.com/api/v1", allow_plain_http=True)
    for wrong in ("ftp://x/api", "api.example.com", "https://user:pw@host/api"):
        with pytest.raises(ConfigError, match="base_url"):
            build(wrong)
    with pytest.raises(ConfigError, match="key"):
        OpenDentalSettings("https://host/api/v1", "", "cust", ZONE)
    assert "cust-secret" not in repr(
        OpenDentalSettings("https://h/api", "dev", "cust-secret", ZONE)
    )


def test_an_office_that_is_not_there_is_away(pms):
    office = OpenDental(settings(pms, base_url="http://127.0.0.1:9/api/v1"))
    with pytest.raises(Retryable, match="does not answer"):
        office.patients()
    office.close()
