"""Our copy of the practice's records, against the sandbox over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db.session import read
from node.db.tables import audit, event, pms_record, sync_state
from node.domain.events import EventKind
from node.errors import NotFound, Retryable, Unsupported
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.opendental.record_fields import SOURCES
from pms_writeback.record_rows import read_records
from pms_writeback.record_state import record_errors
from pms_writeback.records import Reach, RecordKind, RecordSource
from pms_writeback.sandbox.server import running
from pms_writeback.warehouse import Warehouse

K = RecordKind
#: For what does not depend on the database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NOON = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)


class Clock:
    """One clock for the office and for us."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def office(tmp_path, clock):
    with running(tmp_path / "pms.sqlite", clock=clock) as sandbox:
        yield sandbox


def open_pms(office, clock):
    return OpenDental(
        OpenDentalSettings(
            base_url=office.url,
            developer_key=office.developer_key,
            customer_key=office.customer_key,
            time_zone="America/New_York",
            update_check_s=0.0,
        ),
        clock,
    )


@pytest.fixture
def pms(office, clock):
    pms = open_pms(office, clock)
    yield pms
    pms.close()


@pytest.fixture
def config():
    return read_config(environment={}, overrides={"node": {"time_zone": "America/New_York"}})


@pytest.fixture
def warehouse(database, pms, config):
    return Warehouse(database, pms, config)


@pytest.fixture
def api(office):
    headers = {
        "Authorization": f"ODFHIR {office.developer_key}/{office.customer_key}",
        "Content-Type": "application/json",
    }
    with httpx2.Client(base_url=office.url, headers=headers) as client:
        yield client


def stored(db, kind, **wanted):
    with read(db) as conn:
        return read_records(conn, "main", kind, **wanted)


def events(db):
    with read(db) as conn:
        rows = conn.execute(
            sa.select(event.c.data).where(event.c.kind == EventKind.RECORDS_CHANGED.value)
        )
        return list(rows.scalars())


def changes(reports):
    return {each.kind: each for each in reports if each.drift or each.error}


def test_every_kind_is_read_into_neutral_names(database, warehouse, pms):
    reports = warehouse.run_once(NOON)
    assert isinstance(pms, RecordSource)
    assert not [each for each in reports if each.error]
    for kind in (K.RECALL, K.SUBSCRIPTION, K.COVERAGE, K.PROCEDURE, K.LABORATORY, K.DEFINITION):
        assert stored(database, kind), kind
    (lab, *_) = stored(database, K.LABORATORY)
    assert (lab.values["name"], lab.values["is_hidden"]) == ("Sandbox Ceramics", False)
    recall = stored(database, K.RECALL)[0]
    assert recall.patient_key
    assert recall.values["interval"] == "6m1d"
    assert str(recall.values["due"]).startswith("202")
    assert events(database) == []  # a first load is no news


def test_a_change_comes_with_the_next_run_and_leaves_one_event(database, warehouse, api, clock):
    warehouse.run_once(NOON)
    clock.now += timedelta(minutes=10)
    made = api.post("/commlogs", json={"PatNum": 1, "Note": "called", "SentOrReceived": "Neither"})
    key = str(made.json()["CommlogNum"])
    (report,) = changes(warehouse.run_once(clock.now)).values()
    assert (report.kind, report.added, report.is_whole) == (K.COMMLOG, 1, False)
    (found,) = stored(database, K.COMMLOG, key=key)
    assert (found.patient_key, found.values["text"], found.values["direction"]) == (
        "1", "called", "Neither",
    )  # fmt: skip
    assert found.values["at"] == clock.now.isoformat()
    assert events(database) == [{"kind": "commlog", "keys": [key]}]
    clock.now += timedelta(minutes=1)
    assert not changes(warehouse.run_once(clock.now))


def test_an_idle_run_writes_nothing(database, warehouse, clock):
    warehouse.run_once(NOON)
    clock.now += timedelta(minutes=1)
    warehouse.run_once(clock.now)

    def rows():
        with read(database) as conn:
            return conn.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one()

    before = rows()
    clock.now += timedelta(minutes=1)
    warehouse.run_once(clock.now)
    assert rows() == before


def test_what_is_deleted_there_gets_a_tombstone_here(database, warehouse, api, clock):
    exam = api.post("/perioexams", json={"PatNum": 1}).json()["PerioExamNum"]
    warehouse.run_once(NOON)
    assert stored(database, K.PERIO_EXAM, key=str(exam))
    api.delete(f"/perioexams/{exam}")
    clock.now += timedelta(hours=1)
    reports = changes(warehouse.reconcile(clock.now))
    assert reports[K.PERIO_EXAM].gone == 1
    assert not stored(database, K.PERIO_EXAM, key=str(exam))
    with read(database) as conn:
        row = conn.execute(
            sa.select(pms_record).where(
                pms_record.c.pms_key == str(exam), pms_record.c.kind == "perio_exam"
            )
        ).first()
    assert row.tombstoned_at is not None  # never removed
    assert {"kind": "perio_exam", "keys": [str(exam)]} in events(database)


def test_reconciliation_mends_and_reports_what_the_changes_missed(
    database, warehouse, api, clock, office
):
    warehouse.run_once(NOON)
    # A row written behind the change stamps' back: stamped long before our watermark.
    with office.sandbox.store.begin() as chart:
        chart.add(
            "patfields",
            {
                "PatNum": 1,
                "FieldName": "x",
                "FieldValue": "y",
                "SecDateTEdit": "2020-01-01 00:00:00",
            },
        )
    clock.now += timedelta(minutes=10)
    assert K.PATIENT_FIELD not in changes(warehouse.run_once(clock.now))
    assert changes(warehouse.reconcile(clock.now))[K.PATIENT_FIELD].added == 1
    with read(database) as conn:
        details = conn.execute(
            sa.select(audit.c.detail).where(audit.c.action == "pms.reconciled")
        ).scalars()
        assert [each["drift"] for each in details] == [{"patient_field": 1}]


def test_a_patient_is_read_complete_on_demand(database, warehouse, api):
    api.post("/allergies", json={"PatNum": 9, "defDescription": "Latex"})
    api.post("/popups", json={"PatNum": 9, "Description": "hello"})
    reports = warehouse.refresh_patient("9", NOON)
    assert not [each for each in reports if each.error]
    names = [record.values["name"] for record in stored(database, K.ALLERGY, patient_key="9")]
    assert "Latex" in names
    allergy = stored(database, K.ALLERGY, patient_key="9")[-1].key
    api.delete(f"/allergies/{allergy}")
    warehouse.refresh_patient("9", NOON + timedelta(minutes=1))
    assert allergy not in [each.key for each in stored(database, K.ALLERGY, patient_key="9")]


@on_sqlite
def test_one_kind_that_fails_does_not_stop_the_others(database, warehouse, office, clock):
    office.fault("status", status=400, text="PatNum is required", path="/laboratories", count=1)
    reports = {each.kind: each for each in warehouse.run_once(NOON)}
    assert "PatNum is required" in reports[K.LABORATORY].error
    assert reports[K.RECALL].added > 0
    with read(database) as conn:
        assert list(record_errors(conn, "main")) == ["laboratory"]
    clock.now += timedelta(minutes=5)
    warehouse.run_once(clock.now)
    assert stored(database, K.LABORATORY)
    with read(database) as conn:
        assert record_errors(conn, "main") == {}


@on_sqlite
def test_one_list_that_never_answers_does_not_starve_the_others(database, warehouse, office):
    office.fault("status", status=504, text="Gateway timeout", path="/procedurelogs", count=1)
    reports = {each.kind: each for each in warehouse.run_once(NOON)}
    assert reports[K.PROCEDURE].error
    assert not reports[K.PROCEDURE].is_away
    assert reports[K.RECALL].added > 0  # read after it
    with read(database) as conn:
        assert list(record_errors(conn, "main")) == ["procedure"]


@on_sqlite
def test_an_office_that_is_away_ends_the_run_and_loses_nothing(
    database, warehouse, office, api, clock
):
    warehouse.run_once(NOON)
    clock.now += timedelta(minutes=10)
    made = api.post("/commlogs", json={"PatNum": 2, "Note": "while away"}).json()
    office.fault("status", status=503, text="later", path="/procedurelogs", count=1)
    reports = warehouse.run_once(clock.now)
    assert reports[-1].is_away
    with read(database) as conn:
        assert record_errors(conn, "main") == {}  # no fault of any list
    clock.now += timedelta(hours=2)
    warehouse.run_once(clock.now)
    assert stored(database, K.COMMLOG, key=str(made["CommlogNum"]))


def test_a_list_that_is_suddenly_empty_buries_nobody(database, warehouse, office, clock):
    warehouse.run_once(NOON)
    with office.sandbox.store.begin() as chart:
        rows = chart.select("recalls")
        for row in rows:
            chart.remove("recalls", int(row["RecallNum"]))
    clock.now += timedelta(hours=7)
    reports = warehouse.run_once(clock.now)
    report = changes(reports)[K.RECALL]
    assert "lists no recall at all" in report.error
    assert not report.is_away
    assert reports[-1].kind is not K.RECALL  # the other kinds went on
    assert len(stored(database, K.RECALL)) == len(rows)


@on_sqlite
def test_what_is_unknown_is_kept_raw_and_secrets_are_not(database, warehouse, office):
    with office.sandbox.store.begin() as chart:
        chart.change("referrals", 1, {"SSN": 123456789, "Address": "1 Invented Road"})
    warehouse.run_once(NOON)
    (contact,) = stored(database, K.REFERRAL_CONTACT, key="1")
    assert contact.raw["Address"] == "1 Invented Road"
    assert "SSN" not in contact.raw


@on_sqlite
def test_an_old_office_says_what_it_cannot_list(tmp_path, clock, database, config):
    with running(tmp_path / "old.sqlite", clock=clock, od_version="22.3.40") as office:
        pms = open_pms(office, clock)
        reach = pms.reach()
        assert reach[K.LAB_CASE] is Reach.NONE
        assert reach[K.COMMLOG] is Reach.WHOLE  # its change filter came with 25.1.13
        assert reach[K.ALLERGY] is Reach.PATIENT
        with pytest.raises(Unsupported):
            next(iter(pms.records(K.LAB_CASE)))
        reports = Warehouse(database, pms, config).run_once(NOON)
        assert K.LAB_CASE not in {each.kind for each in reports}
        assert not [each for each in reports if each.error]
        pms.close()


def test_our_database_away_is_said(warehouse, monkeypatch, database):
    def broken(*_args, **_kwargs):
        raise Retryable("the database did not take the write")

    monkeypatch.setattr("pms_writeback.warehouse.begin", broken)
    with pytest.raises(Retryable):
        warehouse.run_once(NOON)


def test_each_kind_has_a_source_with_known_types():
    assert set(SOURCES) == set(RecordKind)
    types = {spec.split(":")[0] for source in SOURCES.values() for spec in source.fields.values()}
    assert types <= {"text", "key", "number", "money", "flag", "day", "moment", "time"}


def test_the_page_about_records_names_every_kind_and_field():
    text = (Path(__file__).parents[2] / "docs" / "pms-records.md").read_text("utf-8")
    for kind, source in SOURCES.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{kind.value}` "))
        assert f"`{source.path}`" in line
        assert all(f"`{name}`" in line for name in source.fields), kind


@on_sqlite
def test_the_night_reads_everything_whole_once(database, warehouse, clock):
    warehouse.run_due(NOON)  # the first load is whole already
    clock.now = NOON + timedelta(hours=12)  # 01:00 in New York, the next day
    assert not all(each.is_whole for each in warehouse.run_due(clock.now))
    clock.now += timedelta(hours=2)
    night = warehouse.run_due(clock.now)
    assert all(each.is_whole for each in night)
    assert {each.kind for each in night} >= {K.COMMLOG, K.CLAIM, K.PROCEDURE}
    clock.now += timedelta(hours=1)
    assert not all(each.is_whole for each in warehouse.run_due(clock.now))


def last_reconciled(db):
    with read(db) as conn:
        return conn.execute(
            sa.select(sync_state.c.last_ok_at).where(sync_state.c.resource == "records-reconciled")
        ).scalar()


@on_sqlite
def test_a_night_that_broke_off_is_tried_again(database, warehouse, office, clock):
    office.fault("status", status=503, text="later", path="/procedurelogs", count=1)
    assert warehouse.run_due(NOON)[-1].is_away
    assert last_reconciled(database) is None  # the first load was not whole
    warehouse.run_due(NOON + timedelta(minutes=5))
    assert last_reconciled(database) == NOON + timedelta(minutes=5)
    clock.now = NOON + timedelta(hours=14)  # 03:00 in New York, the next day
    office.fault("status", status=503, text="later", path="/procedurelogs", count=1)
    assert warehouse.run_due(clock.now)[-1].is_away
    clock.now += timedelta(minutes=5)
    assert all(each.is_whole for each in warehouse.run_due(clock.now))
    assert last_reconciled(database) == clock.now


@on_sqlite
@pytest.mark.parametrize(
    ("kind", "path", "body", "parent", "parent_body"),
    [
        (K.PERIO_MEASURE, "/periomeasures",
         {"SequenceType": "Probing", "IntTooth": 3, "MBvalue": 4},
         ("/perioexams", "PerioExamNum"), {"PatNum": 3}),
        (K.TREATMENT_PLAN_PROCEDURE, "/treatplanattaches", {"ProcNum": 1},
         ("/treatplans", "TreatPlanNum"), {"PatNum": 3, "Heading": "plan", "TPStatus": "Saved"}),
    ],
)  # fmt: skip
def test_a_child_belongs_to_its_parents_patient_whichever_way_it_is_read(
    database, warehouse, api, clock, kind, path, body, parent, parent_body
):
    made = api.post(parent[0], json=parent_body)
    assert made.is_success, made.text
    child = api.post(path, json={**body, parent[1]: made.json()[parent[1]]})
    assert child.is_success, child.text
    warehouse.run_once(NOON)
    mine = stored(database, kind, patient_key="3")
    assert mine
    before = len(events(database))
    warehouse.refresh_patient("3", NOON + timedelta(minutes=1))
    clock.now += timedelta(hours=7)
    warehouse.run_once(clock.now)
    assert stored(database, kind, patient_key="3") == mine
    assert kind.value not in [each["kind"] for each in events(database)[before:]]


def test_only_the_sentence_about_no_documents_means_none(pms, office):
    assert pms.records_of(K.DOCUMENT, "5") == []
    office.fault("status", status=404, text="Patient not found", path="/documents", count=1)
    with pytest.raises(NotFound):
        pms.records_of(K.DOCUMENT, "5")


@on_sqlite
def test_schedules_are_asked_for_by_date_and_past_days_are_not_buried(
    database, warehouse, office, clock
):
    office.add(
        "schedules", SchedDate="2026-05-20", SchedType="Provider", ProvNum=1,
        StartTime="08:00:00", StopTime="12:00:00",
    )  # fmt: skip
    warehouse.run_once(NOON)
    asked = [entry.query for entry in office.log() if entry.path == "/schedules"]
    assert asked
    assert all("dateStart=" in query and "dateEnd=" in query for query in asked)
    old = [each for each in stored(database, K.SCHEDULE) if each.values["day"] == "2026-05-20"]
    assert old
    clock.now += timedelta(days=60)
    assert K.SCHEDULE not in {
        each.kind for each in changes(warehouse.run_once(clock.now)).values() if each.gone
    }
    assert stored(database, K.SCHEDULE, key=old[0].key)


@on_sqlite
def test_unknown_fields_enumerations_and_values_are_kept_and_said_once(
    database, warehouse, office, clock, caplog
):
    caplog.set_level("INFO")
    claim = office.add(
        "claims", PatNum=4, ClaimType="Galactic", ClaimStatus="Beamed", ClaimFee=100,
        DateService="someday",
    )  # fmt: skip
    office.add("claims", PatNum=4, ClaimType="Galactic", DateService="someday")
    assert not [each for each in warehouse.run_once(NOON) if each.error]
    clock.now += timedelta(hours=7)
    warehouse.reconcile(clock.now)
    (found,) = stored(database, K.CLAIM, key=str(claim["ClaimNum"]))
    assert (found.values["type"], found.values["status"]) == ("Galactic", "Beamed")
    assert (found.values["service_on"], found.raw["DateService"]) == (None, "someday")
    said = [each.getMessage() for each in caplog.records]
    assert len([each for each in said if "claims.DateService" in each]) == 1
    assert len([each for each in said if each.endswith("of claims")]) == 1
    assert not [each for each in said if "someday" in each]


@on_sqlite
def test_a_row_without_a_key_stops_nothing(warehouse, office):
    with office.sandbox.store.begin() as chart:
        chart.add("recalls", {"RecallNum": 0, "PatNum": 1})
    report = {each.kind: each for each in warehouse.run_once(NOON)}[K.RECALL]
    assert report.error == ""


@on_sqlite
@pytest.mark.parametrize("version", ["26.1.1.0", "twenty-five", ""])
def test_an_unknown_version_stops_no_sync(tmp_path, clock, database, config, version, caplog):
    with running(tmp_path / "odd.sqlite", clock=clock) as office:
        (row,) = [r for r in office.rows("preferences") if r["PrefName"] == "ProgramVersion"]
        office.change("preferences", int(row["PrefNum"]), ValueString=version)
        pms = open_pms(office, clock)
        warehouse = Warehouse(database, pms, config)
        assert not [each for each in warehouse.run_once(NOON) if each.error]
        warehouse.run_once(NOON + timedelta(minutes=1))
        pms.close()
    assert stored(database, K.RECALL)
    said = [each for each in caplog.records if "ProgramVersion" in each.getMessage()]
    assert len(said) == (0 if version.startswith("26") else 1)


@on_sqlite
@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        # 01:30 the first time, 01:20 and 01:50 the second time: the clock went back at 06:00 UTC
        ("2026-11-01T05:30", "2026-11-01T06:20", "2026-11-01T06:50"),
        # 01:50, 03:05, 03:10: the hour between does not exist
        ("2026-03-08T06:50", "2026-03-08T07:05", "2026-03-08T07:10"),
    ],
)
def test_no_change_is_missed_when_the_clocks_change(
    database, warehouse, api, clock, before, between, after
):
    def at(text):
        clock.now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return clock.now

    warehouse.run_once(at(before))
    at(between)
    made = api.post("/commlogs", json={"PatNum": 1, "Note": "in the night"}).json()
    reports = changes(warehouse.run_once(at(after)))
    assert reports[K.COMMLOG].added == 1
    (found,) = stored(database, K.COMMLOG, key=str(made["CommlogNum"]))
    assert found.changed_at is not None


@on_sqlite
@pytest.mark.parametrize("skew_s", [-7200, 90])
def test_a_wrong_server_clock_loses_no_record(database, warehouse, office, api, clock, skew_s):
    office.fault("skew", seconds=skew_s)
    warehouse.run_once(NOON)
    clock.now += timedelta(minutes=10)
    api.post("/commlogs", json={"PatNum": 1, "Note": "by a wrong clock"})
    assert changes(warehouse.run_once(clock.now))[K.COMMLOG].added == 1
