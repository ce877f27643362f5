"""Every command against the sandbox: it lands once, is found again, and never in a wrong place."""

from __future__ import annotations

import dataclasses
import json
import re
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest

from node.errors import Conflict, InvalidInput, NotFound, Rejected, Unsupported
from pms_writeback.bridge.wire import fingerprint
from pms_writeback.commands import (
    AdvanceLabCase,
    AnnotateAppointment,
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    ChangeRecall,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreateLabCase,
    CreatePreauthorization,
    CreateReferral,
    CreateTask,
    EstimateBenefit,
    MarkToothMissing,
    MoveAppointment,
    PlanProcedure,
    SetPatientField,
    SetRecallStatus,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
)
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.opendental.versions import capabilities
from pms_writeback.payload import command_from_json, command_to_json
from pms_writeback.pms import OutcomeUnknown, Support
from pms_writeback.sandbox.server import running

NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)  # 13:00 in New York
REF = "ref:BW-0123456789"
FREE = NOON + timedelta(days=90)


@pytest.fixture
def office(tmp_path):
    with running(tmp_path / "pms.sqlite", clock=lambda: NOON) as sandbox:
        yield sandbox


def connect(office):
    return OpenDental(
        OpenDentalSettings(
            base_url=office.url,
            developer_key=office.developer_key,
            customer_key=office.customer_key,
            time_zone="America/New_York",
            task_list="AI Imaging Review",
            task_user="bitewing",
            update_check_s=3600.0,
        ),
        lambda: NOON,
    )


@pytest.fixture
def pms(office):
    with closing(connect(office)) as pms:
        yield pms


def insured(office):
    """Give a patient with an insurance and a planned crown of theirs."""
    patient = int(office.rows("patplans")[0]["PatNum"])
    codes = {row["ProcCode"]: row["CodeNum"] for row in office.rows("procedurecodes")}
    procedure = office.add(
        "procedurelogs", PatNum=patient, ProcStatus="TP", CodeNum=codes["D2740"], ToothNum="30",
        ProvNum=1, ProcDate="2026-06-10", ProcFee="1450.00",
    )  # fmt: skip
    return str(patient), str(procedure["ProcNum"])


def scheduled(office):
    return next(row for row in office.rows("appointments") if row["AptStatus"] == "Scheduled")


def lab_case(office, patient):
    return str(office.add("labcases", PatNum=int(patient), LaboratoryNum=1)["LabCaseNum"])


def claim(office, patient):
    return str(office.add("claims", PatNum=int(patient), ClaimType="PreAuth")["ClaimNum"])


def plan(office):
    return PlanProcedure("1", "D2392", "30", "MO", date(2026, 6, 10), "1", REF, "two surfaces")


def missing(office):
    return MarkToothMissing("1", "16", REF)


def refer(office):
    return CreateReferral("1", "1", date(2026, 6, 10), "tooth 30, apical lucency", REF)


def preauthorize(office):
    patient, procedure = insured(office)
    return CreatePreauthorization(patient, (procedure,), "", "cusp fractured", REF)


def track(office):
    patient, _ = insured(office)
    key = claim(office, patient)
    return TrackClaim(patient, key, "Pre-authorisation sent", "sent", REF)


def estimate(office):
    patient, procedure = insured(office)
    line = office.add("claimprocs", PatNum=int(patient), ProcNum=int(procedure), Status="Preauth")
    return EstimateBenefit(patient, str(line["ClaimProcNum"]), 58000, "payer answered", REF)


def verify(office):
    plan = office.rows("patplans")[0]
    key = str(plan["PatPlanNum"])
    return VerifyInsurance(str(plan["PatNum"]), key, date(2026, 6, 10), "active", REF)


def open_case(office):
    visit = scheduled(office)
    due = NOON + timedelta(days=14)
    return CreateLabCase(
        str(visit["PatNum"]), "1", "1", str(visit["AptNum"]), due, "zirconia A2", REF
    )


def advance(office):
    return AdvanceLabCase("1", lab_case(office, "1"), "sent", NOON, REF)


def recall(office):
    row = office.rows("recalls")[0]
    return ChangeRecall(
        str(row["PatNum"]), str(row["RecallNum"]), str(row["RecallInterval"]), "3m", "perio", REF
    )


def recall_status(office):
    row = office.rows("recalls")[0]
    return SetRecallStatus(str(row["PatNum"]), str(row["RecallNum"]), "Texted", REF)


def fill_field(office):
    return SetPatientField("1", "AI imaging status", "waiting", REF)


def book(office):
    return BookAppointment("1", FREE, 60, "2", "1", "seat crown", REF)


def move(office):
    visit = scheduled(office)
    start = datetime.fromisoformat(str(visit["AptDateTime"])) + timedelta(hours=4)
    return MoveAppointment(
        str(visit["PatNum"]), str(visit["AptNum"]), start.replace(tzinfo=UTC), FREE, "2", REF
    )


def confirm(office):
    visit = scheduled(office)
    return ConfirmAppointment(
        str(visit["PatNum"]), str(visit["AptNum"]), "Appointment Confirmed", REF
    )


def cancel(office):
    visit = scheduled(office)
    return CancelAppointment(str(visit["PatNum"]), str(visit["AptNum"]), REF)


def annotate(office):
    visit = scheduled(office)
    return AnnotateAppointment(
        str(visit["PatNum"]), str(visit["AptNum"]), "lab work expected on 2026-06-12", REF
    )


NEW = (
    plan,
    missing,
    refer,
    preauthorize,
    track,
    open_case,
    advance,
    recall,
    recall_status,
    fill_field,
    book,
)
NEW += (move, confirm, cancel, annotate, estimate, verify)


def ids(make):
    return make.__name__


@pytest.mark.parametrize("make", NEW, ids=ids)
def test_a_command_lands_and_is_found_again(make, office, pms):
    command = make(office)
    assert pms.capabilities().of(type(command)).support is Support.SUPPORTED
    assert pms.find(command) is None
    made = pms.execute(command)
    found = pms.find(command)
    assert found is not None
    assert (found.resource, found.key, found.already_there) == (made.resource, made.key, True)


@pytest.mark.parametrize("make", NEW, ids=ids)
def test_a_write_whose_answer_is_lost_is_found_and_not_repeated(make, office, pms):
    command = make(office)
    pms.capabilities()
    office.fault("commit_then_drop", methods=("POST", "PUT"))
    with pytest.raises(OutcomeUnknown):
        pms.execute(command)
    already = len(office.log())
    found = pms.find(command)
    assert found is not None
    assert {entry.method for entry in office.log()[already:]} == {"GET"}, "a search writes nothing"
    if not found.is_complete:
        assert pms.execute(command).key == found.key
        assert pms.find(command).is_complete


@pytest.mark.parametrize("make", NEW, ids=ids)
def test_a_write_that_never_arrived_is_not_found(make, office, pms):
    command = make(office)
    pms.capabilities()
    office.fault("drop_before_commit", methods=("POST", "PUT"))
    with pytest.raises(OutcomeUnknown):
        pms.execute(command)
    assert pms.find(command) is None
    pms.execute(command)
    assert pms.find(command) is not None


def test_a_dependants_claim_says_what_they_are_to_the_subscriber(office, pms):
    command = preauthorize(office)
    plan = next(r for r in office.rows("patplans") if str(r["PatNum"]) == command.patient_key)
    office.change("patplans", int(plan["PatPlanNum"]), Relationship="Child")
    key = int(pms.execute(command).key)
    assert next(r for r in office.rows("claims") if r["ClaimNum"] == key)["PatRelat"] == "Child"
    with pytest.raises(Rejected, match="insurance"):
        pms.execute(dataclasses.replace(command, subscription_key="987654"))


def test_an_answer_goes_to_an_open_line_of_this_patient_only(office, pms):
    command = estimate(office)
    pms.execute(command)
    line = next(
        r for r in office.rows("claimprocs") if str(r["ClaimProcNum"]) == command.claim_line_key
    )
    assert float(line["InsEstTotalOverride"]) == 580
    assert "payer answered" in line["Remarks"]
    with pytest.raises(NotFound):
        pms.execute(dataclasses.replace(command, patient_key="40"))
    office.change("claimprocs", int(command.claim_line_key), Status="Received")
    with pytest.raises(Conflict):
        pms.execute(dataclasses.replace(command, ref="ref:BW-another"))
    insurance = verify(office)
    with pytest.raises(NotFound):
        pms.execute(dataclasses.replace(insurance, patient_key="40"))
    pms.execute(insurance)
    (row,) = office.rows("insverifies")
    assert row["Note"].startswith("active")


def test_what_somebody_planned_already_is_not_planned_twice(office, pms):
    command = plan(office)
    pms.execute(command)
    other = PlanProcedure("1", "D2392", "30", "OM", date(2026, 7, 1), "1", "ref:BW-another")
    found = pms.find(other)
    assert found is not None
    assert found.already_there
    elsewhere = PlanProcedure("1", "D2392", "31", "MO", date(2026, 7, 1), "1", "ref:BW-another")
    assert pms.find(elsewhere) is None


def test_a_line_is_added_to_a_visits_note_and_to_this_patients_only(office, pms):
    command = annotate(office)
    office.change("appointments", int(command.appointment_key), Note="numb slowly")
    pms.execute(command)
    (row,) = [r for r in office.rows("appointments") if str(r["AptNum"]) == command.appointment_key]
    assert row["Note"].startswith("numb slowly")
    assert "lab work expected" in row["Note"]
    with pytest.raises(NotFound):
        pms.execute(dataclasses.replace(command, patient_key="40"))


def test_a_hidden_provider_charts_nothing(office, pms):
    office.change("providers", 2, IsHidden="true")
    with pytest.raises(Rejected, match="hidden"):
        pms.execute(PlanProcedure("1", "D2740", "30", "", date(2026, 6, 10), "2", REF))
    with pytest.raises(Rejected, match="no such provider"):
        pms.execute(PlanProcedure("1", "D2740", "30", "", date(2026, 6, 10), "99", REF))
    assert not [row for row in office.rows("procedurelogs") if row["ToothNum"] == "30"
                and row["PatNum"] == 1 and row["ProcStatus"] == "TP"]  # fmt: skip


def test_a_room_that_is_taken_is_not_booked_twice(office, pms):
    pms.execute(book(office))
    again = BookAppointment(
        "2", FREE + timedelta(minutes=30), 30, "2", "1", "check", "ref:BW-second"
    )
    with pytest.raises(Conflict, match="taken"):
        pms.execute(again)
    after = BookAppointment("2", FREE + timedelta(hours=1), 30, "2", "1", "check", "ref:BW-third")
    assert pms.execute(after).key


def test_a_booking_that_came_to_overlap_is_taken_back(office, pms, monkeypatch):
    """Somebody books the same room between our look and our write."""
    command = book(office)
    write = pms._connection.write

    def racing(method, path, body):
        if method == "POST" and path == "/appointments":
            office.add(
                "appointments", PatNum=3, AptStatus="Scheduled", Op=2, ProvNum=1,
                Pattern="XXXXXXXXXXXX", AptDateTime=str(body["AptDateTime"]),
            )  # fmt: skip
        return write(method, path, body)

    monkeypatch.setattr(pms._connection, "write", racing)
    with pytest.raises(Rejected, match="taken back"):
        pms.execute(command)
    ours = [row for row in office.rows("appointments") if REF in str(row["Note"])]
    assert [row["AptStatus"] for row in ours] == ["UnschedList"]


def test_a_booking_whose_answer_was_lost_is_still_taken_back(office, pms):
    """The room was taken while nobody knew whether our visit had landed."""
    command = book(office)
    pms.capabilities()
    office.fault("commit_then_drop", methods=("POST",))
    with pytest.raises(OutcomeUnknown):
        pms.execute(command)
    (ours,) = [row for row in office.rows("appointments") if REF in str(row["Note"])]
    office.add(
        "appointments", PatNum=3, AptStatus="Scheduled", Op=2, ProvNum=1,
        Pattern="XXXXXXXXXXXX", AptDateTime=str(ours["AptDateTime"]),
    )  # fmt: skip
    assert not pms.find(command).is_complete
    with pytest.raises(Rejected, match="taken back"):
        pms.execute(command)
    (ours,) = [row for row in office.rows("appointments") if REF in str(row["Note"])]
    assert ours["AptStatus"] == "UnschedList"
    with pytest.raises(Rejected, match="taken back"):
        pms.execute(command)
    assert len([row for row in office.rows("appointments") if REF in str(row["Note"])]) == 1


def test_a_move_whose_answer_was_lost_says_when_its_room_was_taken(office, pms):
    command = move(office)
    pms.capabilities()
    office.fault("commit_then_drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        pms.execute(command)
    assert pms.find(command).is_complete
    office.add(
        "appointments", PatNum=3, AptStatus="Scheduled", Op=2, ProvNum=1,
        Pattern="XXXXXXXXXXXX", AptDateTime="2026-09-08 13:00:00",
    )  # fmt: skip
    assert not pms.find(command).is_complete
    with pytest.raises(Rejected, match="same moment"):
        pms.execute(command)


def test_a_visit_that_was_moved_meanwhile_stays_where_it_is(office, pms):
    command = move(office)
    office.change("appointments", int(command.appointment_key), AptDateTime="2026-06-20 09:00:00")
    with pytest.raises(Conflict, match="meanwhile"):
        pms.execute(command)
    row = next(
        r for r in office.rows("appointments") if str(r["AptNum"]) == command.appointment_key
    )
    assert row["AptDateTime"] == "2026-06-20 09:00:00"


def test_a_visit_that_was_put_into_another_room_meanwhile_stays_there(office, pms):
    command = move(office)
    room = str(scheduled(office)["Op"])
    pinned = MoveAppointment(**{**fields_of(command), "expected_operatory_key": room})
    office.change("appointments", int(command.appointment_key), Op=1 + int(room) % 3)
    with pytest.raises(Conflict, match="meanwhile"):
        pms.execute(pinned)
    assert office.change("appointments", int(command.appointment_key), Op=int(room))
    assert pms.execute(pinned).key == command.appointment_key


def test_a_recall_that_was_changed_meanwhile_is_left_alone(office, pms):
    command = recall(office)
    office.change("recalls", int(command.recall_key), RecallInterval="4m")
    with pytest.raises(Conflict, match="meanwhile"):
        pms.execute(command)


def test_a_lab_case_keeps_the_time_it_has(office, pms):
    command = advance(office)
    office.change("labcases", int(command.lab_case_key), DateTimeSent="2026-06-01 08:00:00")
    with pytest.raises(Conflict, match="another time"):
        pms.execute(command)


@pytest.mark.parametrize(
    "make", [advance, recall, recall_status, move, confirm, cancel, track], ids=ids
)
def test_another_patients_record_is_never_touched(make, office, pms):
    command = make(office)
    stranger = type(command)(**{**fields_of(command), "patient_key": "40"})
    with pytest.raises(NotFound):
        pms.execute(stranger)


def fields_of(command):
    return {name: getattr(command, name) for name in type(command).__dataclass_fields__}


def test_a_preauthorisation_cut_before_its_note_is_finished_not_repeated(office, pms):
    command = preauthorize(office)
    pms.capabilities()
    office.fault("status", status=500, methods=("PUT",), path="/claims")
    with pytest.raises(OutcomeUnknown):
        pms.execute(command)
    found = pms.find(command)
    assert found is not None
    assert not found.is_complete
    (row,) = office.rows("claims")
    assert row["ClaimNote"] == ""
    assert pms.execute(command).key == found.key
    (row,) = office.rows("claims")
    assert str(row["ClaimNum"]) == found.key
    assert REF in str(row["ClaimNote"])
    assert pms.find(command).is_complete


def test_an_old_office_refuses_with_the_version_it_needs(tmp_path):
    with running(tmp_path / "old.sqlite", clock=lambda: NOON, od_version="22.1") as office:
        pms = connect(office)
        with pytest.raises(Unsupported, match=r"24\.4\.19"):
            pms.execute(advance(office))
        with pytest.raises(Unsupported, match=r"claim note needs Open Dental 25\.2\.21"):
            pms.execute(plan(office))
        pms.close()


@pytest.mark.parametrize("make", NEW, ids=ids)
def test_a_command_lands_at_the_first_version_that_is_said_to_take_it(make, tmp_path):
    """The planned version holds for everything that the command reads and writes on the way."""
    with running(tmp_path / "first.sqlite", clock=lambda: NOON) as newest:
        command = make(newest)
    if isinstance(command, PlanProcedure):
        command = PlanProcedure(**{**fields_of(command), "claim_note": ""})
    reason = capabilities("0.0", has_tasks=True).of(type(command)).reason
    version = re.search(r"needs Open Dental ([\d.]+)", reason).group(1)
    with (
        running(tmp_path / "first.sqlite", clock=lambda: NOON, od_version=version) as office,
        closing(connect(office)) as pms,
    ):
        made = pms.execute(command)
        assert pms.find(command).key == made.key


class _NoStore:
    def put(self, *_arguments):
        raise AssertionError("no document is expected")

    open = put


def test_every_kind_of_command_survives_its_row(office):
    made = [make(office) for make in NEW]
    made += [
        EstimateBenefit("1", "2", 58000, "text", REF),
        VerifyInsurance("1", "2", date(2026, 6, 10), "text", REF),
        AppendProcedureNote("1", "2", "text", REF),
        AppendCommlog("1", "text", NOON, REF),
        CreateTask("1", "text", REF),
        CloseTask("1", REF),
    ]
    for command in made:
        row = json.loads(json.dumps(command_to_json(command, _NoStore(), "main", "key")))
        assert command_from_json(type(command).__name__, row, _NoStore()) == command
    assert {type(command) for command in made} | {UploadDocument} == set(get_args(Command))
    with pytest.raises(InvalidInput):
        command_from_json("BookAppointment", {"patient_key": "1"}, _NoStore())


@pytest.mark.parametrize(
    "bad",
    [
        lambda: PlanProcedure("1", "2740", "30", "", date(2026, 6, 10), "1", REF),
        lambda: PlanProcedure("1", "D2740", "33", "", date(2026, 6, 10), "1", REF),
        lambda: PlanProcedure("1", "D2740", "30", "XY", date(2026, 6, 10), "1", REF),
        lambda: MarkToothMissing("1", "", REF),
        lambda: CreatePreauthorization("1", (), "", "text", REF),
        lambda: CreatePreauthorization("1", ("2",), "", "x" * 390, REF),
        lambda: EstimateBenefit("1", "2", -1, "text", REF),
        lambda: VerifyInsurance("1", "", date(2026, 6, 10), "text", REF),
        lambda: ChangeRecall("1", "2", "6m", "soon", "text", REF),
        lambda: BookAppointment("1", FREE, 7, "2", "1", "", REF),
        lambda: BookAppointment("1", FREE.replace(tzinfo=None), 30, "2", "1", "", REF),
        lambda: CancelAppointment("1", "", REF),
        lambda: CancelAppointment("1", "2", "no token"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(bad):
    with pytest.raises(InvalidInput):
        bad()


def test_a_recall_status_that_the_office_does_not_have_is_refused(office, pms):
    command = recall_status(office)
    with pytest.raises(Rejected, match="no recall status"):
        pms.execute(SetRecallStatus(command.patient_key, command.recall_key, "Waved at", REF))
    with pytest.raises(NotFound):
        pms.execute(SetRecallStatus("39", command.recall_key, "Texted", REF))
    pms.execute(command)
    row = next(r for r in office.rows("recalls") if str(r["RecallNum"]) == command.recall_key)
    names = {each["DefNum"]: each["ItemName"] for each in office.rows("definitions")}
    assert names[row["RecallStatus"]] == "Texted"


@pytest.mark.parametrize("make", [confirm, cancel], ids=ids)
def test_a_visit_moved_meanwhile_is_neither_confirmed_nor_cancelled(make, office, pms):
    command = make(office)
    key = int(command.appointment_key)
    expected = datetime(2026, 6, 20, 13, 0, tzinfo=UTC)
    pinned = type(command)(**{**fields_of(command), "expected_start": expected})
    with pytest.raises(Conflict, match="moved"):
        pms.execute(pinned)
    assert pms.find(pinned) is None
    office.change("appointments", key, AptDateTime="2026-06-20 09:00:00")
    assert pms.execute(pinned).key == command.appointment_key


def test_a_visit_that_was_broken_is_not_confirmed(office, pms):
    command = confirm(office)
    office.change("appointments", int(command.appointment_key), AptStatus="Broken")
    with pytest.raises(Conflict, match="no longer scheduled"):
        pms.execute(command)


def test_a_field_that_somebody_changed_is_left_alone(office, pms):
    pms.execute(fill_field(office))
    then = SetPatientField("1", "AI imaging status", "read", "ref:BW-then", expected="waiting")
    pms.execute(then)
    late = SetPatientField("1", "AI imaging status", "x", "ref:BW-late", expected="waiting")
    with pytest.raises(Conflict, match="meanwhile"):
        pms.execute(late)
    (row,) = [row for row in office.rows("patfields") if row["PatNum"] == 1]
    assert row["FieldValue"] == "read"


def go_on_commlog(ref, follows_ref):
    return AppendCommlog("1", "second version", NOON, ref, follows_ref)


def go_on_task(ref, follows_ref):
    return CreateTask("1", "second version", ref, follows_ref)


GOES_ON = [(go_on_commlog, "commlogs", "Note"), (go_on_task, "tasks", "Descript")]


@pytest.mark.parametrize(("make", "resource", "column"), GOES_ON, ids=["contact", "task"])
def test_what_goes_on_is_appended_once_and_keeps_what_is_there(make, resource, column, office, pms):
    first, second = make(REF, ""), make("ref:BW-second", REF)
    made = pms.execute(first)
    assert pms.find(second) is None
    office.change(resource, int(made.key), **{column: f"{first.text} {REF}\nstaff wrote this"})
    office.fault("commit_then_drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        pms.execute(second)
    assert pms.find(second).key == made.key
    (row,) = [row for row in office.rows(resource) if REF in str(row[column])]
    text = f"second version {REF}\nstaff wrote this\n\nsecond version ref:BW-second"
    assert row[column] == text


@pytest.mark.parametrize(("make", "resource", "column"), GOES_ON, ids=["contact", "task"])
def test_what_it_should_go_on_with_is_gone(make, resource, column, office, pms):
    """Somebody took our token out: a record of its own, nothing of theirs is touched."""
    first, second = make(REF, ""), make("ref:BW-second", REF)
    made = pms.execute(first)
    office.change(resource, int(made.key), **{column: "rewritten by hand"})
    assert pms.execute(second).key != made.key
    texts = [str(row[column]) for row in office.rows(resource)]
    assert "rewritten by hand" in texts


def test_a_row_from_before_a_field_was_added_still_reads(office):
    command = CreateTask("1", "text", REF)
    row = dict(command_to_json(command, _NoStore(), "main", "key"))
    del row["follows_ref"]
    assert command_from_json("CreateTask", row, _NoStore()) == command


def test_a_new_field_left_empty_changes_no_fingerprint():
    """A bridge one version apart must not take a command for another one."""
    before = "1d8822b44e84f7cda86134016193f20bab1d667e616868a30b13542f34d25cc2"
    assert fingerprint(CreateTask("1", "text", REF)) == before
    assert fingerprint(CreateTask("1", "text", "ref:BW-x123", REF)) != fingerprint(
        CreateTask("1", "text", "ref:BW-x123")
    )
