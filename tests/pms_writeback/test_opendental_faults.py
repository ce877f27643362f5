"""The Open Dental adapter when the wire, the office or its clock breaks."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta

import httpx2
import pytest

from node.errors import ConfigError, NotFound, Rejected, Retryable
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.opendental.connection import sentence
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    CloseTask,
    CreateTask,
    OfficeAway,
    OutcomeUnknown,
    UploadDocument,
)
from pms_writeback.sandbox.server import running

NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)


@pytest.fixture
def pms(tmp_path):
    with running(tmp_path / "pms.sqlite", time_zone="America/Chicago") as sandbox:
        yield sandbox


def open_office(pms, **changes):
    values = {
        "base_url": pms.url,
        "developer_key": pms.developer_key,
        "customer_key": pms.customer_key,
        "time_zone": "America/Chicago",
        "task_list": "AI Imaging Review",
        "task_user": "bitewing",
        "read_timeout_s": 5.0,
        "update_check_s": 0.0,
        **changes,
    }
    return OpenDental(OpenDentalSettings(**values))


@pytest.fixture
def office(pms):
    adapter = open_office(pms)
    yield adapter
    adapter.close()


def commands(office):
    procedure = office.procedures(patient_key="1")[0]
    return (
        (AppendProcedureNote("1", procedure.key, "text", "ref:BW-a001"), "procnotes"),
        (AppendCommlog("1", "text", NOON, "ref:BW-a002"), "commlogs"),
        (
            UploadDocument(
                "1", "a.pdf", ".pdf", b"x", "d", "AI Imaging", "Document", (), NOON, "ref:BW-a003"
            ),
            "documents",
        ),
        (CreateTask("1", "text", "ref:BW-a004"), "tasks"),
    )


def deliver(office, command):
    """Send as an outbox does: look first, then send; an unknown outcome is looked for again."""
    for _ in range(5):
        found = office.find(command)
        if found is not None:
            return found
        try:
            return office.execute(command)
        except OutcomeUnknown:
            continue
    raise AssertionError("never delivered")


@pytest.mark.parametrize("kind", ["commit_then_drop", "status_after_commit", "drop_before_commit"])
def test_a_lost_answer_is_found_and_nothing_is_doubled(pms, office, kind):
    for command, resource in commands(office):
        pms.fault(kind, status=504, methods=("POST",))
        with pytest.raises(OutcomeUnknown):
            office.execute(command)
        assert len(pms.rows(resource)) == (0 if kind == "drop_before_commit" else 1)
        receipt = deliver(office, command)
        assert receipt.already_there is (kind != "drop_before_commit")
        assert len(pms.rows(resource)) == 1
        assert deliver(office, command).key == receipt.key
        assert len(pms.rows(resource)) == 1


def test_a_task_closed_without_an_answer_is_closed(pms, office):
    office.execute(CreateTask("1", "text", "ref:BW-a004"))
    close = CloseTask("1", "ref:BW-a004")
    pms.fault("commit_then_drop", methods=("PUT",))
    with pytest.raises(OutcomeUnknown):
        office.execute(close)
    assert office.find(close) is not None
    assert office.execute(close).already_there


def test_throttling_and_maintenance_are_not_sent_and_wait(pms, office):
    command, resource = commands(office)[1]
    pms.fault("status", status=429, seconds=7, methods=("POST",))
    with pytest.raises(Retryable) as caught:
        office.execute(command)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.retry_after_s == 7
    pms.fault("status", status=503, methods=("POST",))
    with pytest.raises(Retryable) as caught:
        office.execute(command)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert pms.rows(resource) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failing_read_is_tried_later(pms, office, status):
    office.patients()
    pms.fault("status", status=status, path="/patients")
    with pytest.raises(Retryable) as caught:
        office.patients()
    assert not isinstance(caught.value, OutcomeUnknown)
    assert len(office.patients()) == 40


def test_a_failing_page_in_the_middle_fails_the_whole_list(tmp_path):
    with running(tmp_path / "pms.sqlite", seed_patients=250) as pms:
        office = open_office(pms)
        office.clock_offset()
        pms.fault("delay", seconds=0, count=2, path="/patients/Simple")
        pms.fault("status", status=500, path="/patients/Simple")
        with pytest.raises(Retryable):
            office.patients()
        assert len(office.patients()) == 250
        office.close()


def test_an_econnector_that_is_down_is_away_on_reads_and_unknown_on_writes(pms, office):
    text = "Error: eConnector is not responding."
    pms.fault("status", status=400, text=text, methods=("GET",), path="/patients")
    with pytest.raises(Retryable, match="eConnector"):
        office.patients()
    pms.fault("status", status=400, text=text, methods=("POST",))
    with pytest.raises(OutcomeUnknown):
        office.execute(commands(office)[1][0])


def test_a_refusal_carries_the_offices_own_words(pms, office):
    text = "Cannot do that in this office."
    pms.fault("status", status=400, text=text, methods=("POST",))
    with pytest.raises(Rejected, match="Cannot do that in this office"):
        office.execute(commands(office)[1][0])


def test_a_slow_answer_to_a_write_is_unknown_and_later_found(pms):
    office = open_office(pms, read_timeout_s=0.5)
    command, resource = commands(office)[1]
    pms.fault("delay", seconds=1.5, methods=("POST",))
    with pytest.raises(OutcomeUnknown):
        office.execute(command)
    deadline = time.monotonic() + 60
    while office.find(command) is None:
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    assert deliver(office, command).already_there
    assert len(pms.rows(resource)) == 1
    office.close()


def test_a_slow_read_is_away(pms):
    office = open_office(pms, read_timeout_s=0.3)
    office.clock_offset()
    pms.fault("delay", seconds=1.0, path="/operatories")
    with pytest.raises(Retryable):
        office.operatories()
    office.close()


def test_an_office_offline_is_away_and_comes_back(pms, office):
    pms.fault("offline")
    with pytest.raises(Retryable):
        office.patients()
    pms.fault("offline", on=False)
    assert len(office.patients()) == 40


def test_nothing_is_done_while_the_program_is_updated(pms, office):
    command, resource = commands(office)[1]
    pms.fault("update_in_progress", computer="FRONTDESK")
    with pytest.raises(Retryable, match="being updated"):
        office.execute(command)
    with pytest.raises(Retryable, match="being updated"):
        office.patients()
    assert pms.rows(resource) == []
    pms.fault("update_in_progress", computer="")
    assert office.execute(command).resource == resource


def test_another_offices_clock_is_measured_and_corrected(pms, office):
    assert abs(office.clock_offset()) < timedelta(seconds=2)
    pms.fault("skew", seconds=600)
    ahead = office.clock_offset()
    assert abs(ahead - timedelta(seconds=600)) < timedelta(seconds=2)
    before = datetime.now(UTC) - timedelta(seconds=5)
    pms.change("patients", 9, LName="Renamed")
    (changed,) = office.patients(before)
    assert changed.key == "9"
    # The stamp was made by a clock ten minutes fast; it is given by ours.
    assert abs(changed.changed_at - datetime.now(UTC)) < timedelta(seconds=10)


def autumn(tmp_path, now):
    return running(tmp_path / "pms.sqlite", time_zone="America/Chicago", clock=lambda: now[0])


def test_a_change_in_the_hour_that_repeats_is_not_missed(tmp_path):
    # On 2026-11-01 at 07:00 UTC Chicago's clocks go from 02:00 back to 01:00.
    first = datetime(2026, 11, 1, 6, 50, tzinfo=UTC)  # 01:50 for the first time
    now = [first]
    with autumn(tmp_path, now) as pms:
        office = OpenDental(
            OpenDentalSettings(
                pms.url, pms.developer_key, pms.customer_key, "America/Chicago", update_check_s=0
            ),
            clock=lambda: now[0],
        )
        office.clock_offset()
        now[0] = datetime(2026, 11, 1, 7, 20, tzinfo=UTC)  # 01:20 for the second time
        pms.change("patients", 9, LName="Renamed")
        assert pms.rows("patients")[8]["DateTStamp"] == "2026-11-01 01:20:00"
        assert abs(office.clock_offset()) < timedelta(seconds=2)
        changed = {each.key: each for each in office.patients(first)}
        assert abs(changed["9"].changed_at - now[0]) < timedelta(seconds=2)
        office.close()


def test_an_appointment_in_the_hour_that_repeats_is_read_as_the_first(tmp_path):
    now = [datetime(2026, 10, 31, 17, 0, tzinfo=UTC)]
    with autumn(tmp_path, now) as pms:
        office = OpenDental(
            OpenDentalSettings(pms.url, pms.developer_key, pms.customer_key, "America/Chicago"),
            clock=lambda: now[0],
        )
        day = date(2026, 11, 1)
        visit = office.appointments(day, day)[0]
        pms.change("appointments", int(visit.key), AptDateTime="2026-11-01 01:30:00")
        (moved,) = [a for a in office.appointments(day, day) if a.key == visit.key]
        assert moved.starts_at == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
        pms.change("appointments", int(visit.key), AptDateTime="2026-11-01 12:00:00")
        (moved,) = [a for a in office.appointments(day, day) if a.key == visit.key]
        assert moved.starts_at == datetime(2026, 11, 1, 18, 0, tzinfo=UTC)
        office.close()


def test_requests_keep_their_distance(tmp_path):
    with running(tmp_path / "slow.sqlite", throttle_s=300.0) as pms:
        hasty = open_office(pms)
        with pytest.raises(Retryable, match="wait"):
            hasty.operatories()  # asks for the state of updates first, without a pause
        hasty.close()
    with running(tmp_path / "pms.sqlite", throttle_s=0.3) as pms:
        patient = open_office(pms, min_interval_s=1.0, update_check_s=60.0)
        assert len(patient.operatories()) == 3
        patient.close()


def test_a_throttled_key_asks_nothing_before_its_time(tmp_path):
    with running(tmp_path / "pms.sqlite") as pms:
        office = open_office(pms)
        pms.fault("status", status=429, seconds=30)
        with pytest.raises(OfficeAway):
            office.operatories()
        asked = len(pms.log())
        with pytest.raises(OfficeAway) as refused:
            office.providers()
        assert 0 < refused.value.retry_after_s <= 30
        assert len(pms.log()) == asked
        office.close()


@pytest.mark.parametrize(
    "body",
    [
        "Patient not found",
        '"Patient not found"',
        '{"message": "Patient not found"}',
        " Patient\nnot found ",
    ],
)
def test_every_form_of_an_error_text_is_read(body):
    assert sentence(httpx2.Response(404, text=body)) == "Patient not found"


def test_a_web_page_is_no_error_text():
    assert sentence(httpx2.Response(502, text="<html>proxy</html>")) == "Bad Gateway"
    assert sentence(httpx2.Response(502, text="")) == "Bad Gateway"


def test_a_misspelt_address_is_not_found_and_a_redirect_is_for_an_operator(pms):
    office = open_office(pms, base_url=pms.url + "/nowhere")
    with pytest.raises(NotFound):
        office.patients()
    office.close()
    moved = open_office(pms, base_url=pms.page_url + "/patients/1/")
    with pytest.raises((ConfigError, Rejected)):
        moved.patients()
    moved.close()
