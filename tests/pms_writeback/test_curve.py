"""Curve through its partner, against a sandbox of the partner's wire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import httpx2
import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db.session import Actor, begin, read
from node.db.tables import patient, pms_command, worklist_item
from node.errors import (
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    Rejected,
    Retryable,
    Unsupported,
)
from pms_writeback.commands import (
    AppendCommlog,
    BookAppointment,
    CancelAppointment,
    ConfirmAppointment,
    MoveAppointment,
    UploadDocument,
)
from pms_writeback.curve import Curve, NexHealthSettings
from pms_writeback.curve.sandbox import API_KEY, LOCATION, SUBDOMAIN, Fault, running
from pms_writeback.delivery import CANNOT_SEARCH, Delivery, Patience
from pms_writeback.outbox import queue, ref_for, retry
from pms_writeback.pms import OutcomeUnknown, Support
from pms_writeback.practice import open_pms
from pms_writeback.sync import ScheduleSync

REF = "ref:BW-0123456789"


@pytest.fixture
def office(tmp_path):
    with running(tmp_path / "nexhealth.sqlite") as (address, partner):
        yield address, partner


@pytest.fixture
def partner(office):
    return office[1]


@pytest.fixture
def curve(office):
    curve = Curve(NexHealthSettings(API_KEY, SUBDOMAIN, str(LOCATION), "UTC", office[0]))
    yield curve
    curve.close()


def visit(curve):
    today = datetime.now(UTC).date()
    return curve.appointments(today, today + timedelta(days=1))[0]


def soon(days=30):
    moment = datetime.now(UTC) + timedelta(days=days)
    return moment.replace(hour=14, minute=0, second=0, microsecond=0)


def book(curve, **changed):
    someone, room = curve.patients()[0], curve.operatories()[0]
    values = {
        "patient_key": someone.key,
        "starts_at": soon(),
        "minutes": 60,
        "operatory_key": room.key,
        "provider_key": curve.providers()[0].key,
        "text": "seat crown",
        "ref": REF,
    }
    return BookAppointment(**{**values, **changed})


def pdf(curve, content=b"%PDF-1.7 report"):
    return UploadDocument(
        curve.patients()[0].key, "report.pdf", ".pdf", content, "AI report", "AI Imaging",
        "Document", (), datetime.now(UTC), REF,
    )  # fmt: skip


def test_people_visits_rooms_and_providers_are_read_along_the_cursors(curve, partner, monkeypatch):
    monkeypatch.setattr("pms_writeback.curve.connection.PER_PAGE", 7)
    people = curve.patients()
    assert len(people) == 30
    assert len({each.key for each in people}) == 30
    assert people[0].birth_date == date(1951, 3, 2)
    assert people[0].sex == "F"
    assert curve.patient(people[3].key) == people[3]
    today = datetime.now(UTC).date()
    assert len(curve.appointments(today, today + timedelta(days=1))) == 6
    assert [room.name for room in curve.operatories()] == ["Room 1", "Room 2"]
    assert curve.providers()[0].national_provider_id == "1234567893"
    assert curve.patients(datetime.now(UTC) + timedelta(days=1)) == ()


def test_a_blocked_time_is_no_visit_but_takes_the_room(curve, partner):
    start = soon(40)
    room = curve.operatories()[0].key
    partner.store.add(
        "appointments",
        {
            "patient_id": None, "unavailable": True, "operatory_id": int(room),
            "start_time": start.isoformat(),
            "end_time": (start + timedelta(hours=1)).isoformat(),
        },
    )  # fmt: skip
    assert curve.appointments(start.date(), start.date()) == ()
    with pytest.raises(Conflict, match="taken"):
        curve.execute(book(curve, starts_at=start + timedelta(minutes=30)))


def test_a_booking_is_found_by_its_token_and_made_once(curve):
    command = book(curve)
    assert curve.find(command) is None
    made = curve.execute(command)
    found = curve.find(command)
    assert (found.key, found.already_there) == (made.key, True)
    with pytest.raises(Conflict):
        curve.execute(book(curve, ref="ref:BW-another", patient_key=curve.patients()[1].key))


def test_visits_are_moved_confirmed_and_cancelled(curve):
    each = visit(curve)
    where = {"patient_key": each.patient_key, "appointment_key": each.key, "ref": REF}
    move = MoveAppointment(
        expected_start=each.starts_at, starts_at=soon(), operatory_key=each.operatory_key, **where
    )
    confirm = ConfirmAppointment(confirmation="confirmed", **where)
    cancel = CancelAppointment(**where)
    for command in (move, confirm, cancel):
        assert curve.find(command) is None
        curve.execute(command)
        assert curve.find(command).already_there
    with pytest.raises(Conflict, match="meanwhile"):
        curve.execute(move)
    with pytest.raises(Unsupported):
        curve.execute(ConfirmAppointment(confirmation="Arrived", **where))
    with pytest.raises(NotFound):
        curve.execute(CancelAppointment(**{**where, "patient_key": "999999"}))


def test_what_this_route_cannot_do_is_refused_and_listed(curve):
    note = AppendCommlog("1", "text", datetime.now(UTC), REF)
    assert curve.capabilities().of(AppendCommlog).support is Support.UNSUPPORTED
    for attempt in (curve.execute, curve.find):
        with pytest.raises(Unsupported):
            attempt(note)
    with pytest.raises(InvalidInput, match="future"):
        curve.execute(book(curve, starts_at=datetime.now(UTC) - timedelta(hours=1)))
    with pytest.raises(Unsupported, match="PDF"):
        curve.execute(
            UploadDocument(
                "1", "x.jpg", ".jpg", b"x", "d", "c", "Radiograph", (), datetime.now(UTC), REF
            )
        )
    assert curve.procedures(patient_key="1") == ()
    with pytest.raises(Rejected):
        curve.deleted_appointments(date(2026, 1, 1), date(2026, 1, 2))


def test_a_document_is_filed_under_forms_and_letters(curve, partner):
    receipt = curve.execute(pdf(curve))
    assert partner.store.body(int(receipt.key)) == b"%PDF-1.7 report"
    (row,) = partner.store.rows("documents")
    assert REF[4:] in row["filename"]


def test_an_expired_token_is_renewed_once_and_a_wrong_key_is_said(curve, partner, office):
    curve.patients()
    partner.arm(Fault(kind="token_expires"))
    assert curve.patients()
    wrong = Curve(NexHealthSettings("wrong", SUBDOMAIN, str(LOCATION), "UTC", office[0]))
    with pytest.raises(ConfigError, match="customer_key"):
        wrong.patients()
    wrong.close()
    elsewhere = Curve(NexHealthSettings(API_KEY, SUBDOMAIN, "7", "UTC", office[0]))
    with pytest.raises(ConfigError, match="location"):
        elsewhere.patients()
    elsewhere.close()


@pytest.mark.parametrize(("status", "error"), [(429, Retryable), (503, Retryable), (400, Rejected)])
def test_refusals_end_in_the_right_family(curve, partner, status, error):
    curve.patients()
    partner.arm(Fault(kind="status", status=status))
    with pytest.raises(error):
        curve.patients()


def test_a_write_whose_answer_is_lost_is_unknown(curve, partner):
    command = book(curve)
    partner.arm(Fault(kind="status_after_commit", status=504, methods=("POST",)))
    with pytest.raises(OutcomeUnknown):
        curve.execute(command)
    assert curve.find(command) is not None


def test_a_write_lands_later_or_never_and_shows_it(tmp_path):
    now = [datetime.now(UTC)]
    with running(tmp_path / "n.sqlite", clock=lambda: now[0], landing_s=60) as (address, partner):
        curve = Curve(NexHealthSettings(API_KEY, SUBDOMAIN, str(LOCATION), "UTC", address))
        key = curve.execute(book(curve)).key
        assert partner.shown(partner.store.row("appointments", int(key)))["foreign_id"] is None
        now[0] += timedelta(minutes=2)
        assert partner.shown(partner.store.row("appointments", int(key)))["foreign_id"] == f"C{key}"
        partner.arm(Fault(kind="landing_fails"))
        lost = curve.execute(book(curve, starts_at=soon(31), ref="ref:BW-lost")).key
        now[0] += timedelta(minutes=2)
        assert partner.shown(partner.store.row("appointments", int(lost)))["foreign_id"] is None
        curve.close()


def test_the_schedule_becomes_a_worklist(office, database):
    config = read_config(
        environment={},
        overrides={
            "pms": {
                "kind": "curve", "base_url": office[0], "customer_key": API_KEY,
                "subdomain": SUBDOMAIN, "partner_location": str(LOCATION),
            }
        },
    )  # fmt: skip
    pms = open_pms(config)
    report = ScheduleSync(database, pms, config).run_once(datetime.now(UTC))
    assert report.is_ok, report.error
    assert (report.patients, report.appointments) == (30, 6)
    with read(database) as conn:
        count = conn.execute(sa.select(sa.func.count()).select_from(worklist_item)).scalar_one()
    assert count == 6  # visits without a known procedure stay on the list


class _Engine:
    """Takes the runs that a delivery leaves behind; none is wanted here."""

    def enqueue(self, *_arguments, **_options):
        return None


class _Files:
    """Keeps documents in memory."""

    def __init__(self):
        self.kept = {}

    def put(self, location_id, name, write):
        import hashlib
        import io
        from types import SimpleNamespace

        file = io.BytesIO()
        write(file)
        self.kept[name] = file.getvalue()
        return SimpleNamespace(storage_key=name, sha256=hashlib.sha256(file.getvalue()).hexdigest())

    def open(self, storage_key):
        import io

        return io.BytesIO(self.kept[storage_key])


def test_a_document_whose_answer_was_lost_is_never_sent_twice(curve, partner, database):
    """It cannot be searched for, so a person looks in the chart and says so by a retry."""
    actor, engine, files = Actor("test", "main"), _Engine(), _Files()
    person = curve.patients()[0]
    row = {"id": "p" * 32, "location_id": "main", "pms_key": person.key, "synced_at": soon()}
    ref = ref_for("main", "report")
    command = UploadDocument(
        person.key, "report.pdf", ".pdf", b"%PDF-1.7", "AI report", "AI Imaging", "Document", (),
        datetime.now(UTC), ref,
    )  # fmt: skip
    with begin(database, actor, "test") as tx:
        tx.conn.execute(patient.insert().values(row))
        command_id = queue(tx, engine, files, key="report", command=command, patient_id="p" * 32)
    clock = [datetime.now(UTC)]
    delivery = Delivery(database, engine, files, curve, "main", Patience(), lambda: clock[0])
    partner.arm(Fault(kind="status_after_commit", status=504, methods=("POST",)))
    assert delivery.run(command_id, 0) == "unknown"
    clock[0] += timedelta(minutes=10)
    assert delivery.run(command_id, 1) == "failed"
    assert len(partner.store.rows("documents")) == 1
    with read(database) as conn:
        assert conn.execute(sa.select(pms_command.c.error)).scalar_one() == CANNOT_SEARCH
    retry(database, engine, actor, command_id)
    assert delivery.run(command_id, 2) == "done"
    assert len(partner.store.rows("documents")) == 2


def test_the_sandbox_answers_like_the_partner(office):
    address, _ = office
    with httpx2.Client(base_url=address) as client:
        token = client.post("/authenticates", headers={"Authorization": API_KEY}).json()
        headers = {
            "Authorization": f"Bearer {token['data']['token']}",
            "Nex-Api-Version": "v20240412",
        }
        scope = {"subdomain": SUBDOMAIN, "location_id": str(LOCATION)}
        page = client.get("/patients", headers=headers, params=scope).json()
        assert len(page["data"]) == 5  # the service's own default
        assert page["page_info"]["has_next_page"] is True
        assert client.get("/appointments", headers=headers, params=scope).status_code == 400
        assert client.get("/patients", params=scope).status_code == 401
        assert client.get("/nothing", headers=headers, params=scope).status_code == 404


def test_settings_that_cannot_be_right_are_refused():
    with pytest.raises(ConfigError, match="subdomain"):
        NexHealthSettings("key", "", "1", "UTC")
    with pytest.raises(ConfigError, match="https"):
        NexHealthSettings("key", "s", "1", "UTC", "http://nexhealth.example")


def test_what_the_system_cannot_take_is_declined_not_failed(curve, database):
    actor, engine, files = Actor("test", "main"), _Engine(), _Files()
    person = curve.patients()[0]
    row = {"id": "p" * 32, "location_id": "main", "pms_key": person.key, "synced_at": soon()}
    command = AppendCommlog(person.key, "text", datetime.now(UTC), ref_for("main", "note"))
    with begin(database, actor, "test") as tx:
        tx.conn.execute(patient.insert().values(row))
        command_id = queue(tx, engine, files, key="note", command=command, patient_id="p" * 32)
    delivery = Delivery(
        database, engine, files, curve, "main", Patience(), lambda: datetime.now(UTC)
    )
    assert delivery.run(command_id, 0) == "declined"
    with read(database) as conn:
        assert "Curve" in conn.execute(sa.select(pms_command.c.error)).scalar_one()
    retry(database, engine, actor, command_id)
    assert delivery.run(command_id, 1) == "declined"
