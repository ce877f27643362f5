"""Events of the practice's system bring the next look forward; nothing in them is believed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from node.config import read_config
from node.db.session import read
from node.db.tables import appointment, sync_state
from node.errors import ConfigError
from pms_writeback.hints import Turns, leave_hint
from pms_writeback.opendental.events import PATH, WATCHED, make_router
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running, serving
from pms_writeback.sync import ScheduleSync

DEADLINE_S = 60.0


@pytest.fixture
def office(tmp_path):
    with running(tmp_path / "pms.sqlite", time_zone="UTC") as sandbox:
        yield sandbox


@pytest.fixture
def config(office):
    section = {
        "kind": "open_dental",
        "base_url": office.url,
        "developer_key": office.developer_key,
        "customer_key": office.customer_key,
    }
    return read_config(environment={}, overrides={"pms": section})


@pytest.fixture
def door(config, sqlite_database):
    app = FastAPI()
    app.include_router(make_router(config, sqlite_database))
    with serving(app) as address:
        yield address + PATH


def hinted(db):
    with read(db) as conn:
        return conn.execute(
            sa.select(sync_state.c.last_ok_at).where(sync_state.c.resource == "hint")
        ).scalar()


def wait_for(look, what):
    limit = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < limit, what
        time.sleep(0.1)


def test_a_change_there_reaches_the_worklist_without_waiting_for_its_turn(
    office, config, door, sqlite_database
):
    pms = open_pms(config)
    sync = ScheduleSync(sqlite_database, pms, config)
    turns = Turns(sqlite_database, "main", timedelta(hours=1))
    assert turns.take(datetime.now(UTC))
    assert sync.run_once(datetime.now(UTC)).is_ok
    assert pms.subscribe(door, "SERVER", 1) == len(WATCHED)
    assert not turns.take(datetime.now(UTC))
    visit = next(row for row in office.rows("appointments") if row["AptStatus"] == "Scheduled")
    office.change("appointments", int(visit["AptNum"]), Op=2, Note="moved")
    wait_for(lambda: turns.take(datetime.now(UTC)), "no event came")
    sync.run_once(datetime.now(UTC))
    with read(sqlite_database) as conn:
        room = conn.execute(
            sa.select(appointment.c.operatory_key).where(
                appointment.c.pms_key == str(visit["AptNum"])
            )
        ).scalar_one()
    assert room == "2"


def test_subscribing_twice_changes_nothing_and_a_new_address_is_taken(office, config, door):
    pms = open_pms(config)
    assert pms.subscribe(door, "SERVER", 30) == len(WATCHED)
    assert pms.subscribe(door, "SERVER", 30) == 0
    assert pms.subscribe(door + "?t=1", "SERVER", 30) == len(WATCHED)
    assert len(office.rows("subscriptions")) == len(WATCHED)


def test_a_door_that_was_shut_gets_everything_on_opening(office, config, door, sqlite_database):
    """The vendor moves its start only on success, so nothing is lost while we are away."""
    pms = open_pms(config)
    pms.subscribe("http://127.0.0.1:9/closed", "SERVER", 1)
    visit = next(row for row in office.rows("appointments") if row["AptStatus"] == "Scheduled")
    office.change("appointments", int(visit["AptNum"]), Note="while away")
    pms.subscribe(door, "SERVER", 1)
    wait_for(lambda: hinted(sqlite_database), "no event came after the outage")


@pytest.mark.parametrize("key", ["", "wrong", "ODFHIR a/b"])
def test_who_does_not_know_the_key_is_not_heard(door, key, sqlite_database):
    answer = httpx2.post(door, json=[{"AptNum": 1}], headers={"Authorization": key})
    assert answer.status_code == 401
    assert hinted(sqlite_database) is None


def test_an_event_is_only_a_hint(office, door, sqlite_database):
    """Its content is never kept, whatever it says."""
    headers = {"Authorization": office.customer_key, "Event-Type": "WatchTable: Patient"}
    answer = httpx2.post(door, content=b'[{"LName": "Invented"', headers=headers)
    assert answer.status_code == 200
    assert hinted(sqlite_database) is not None
    too_much = httpx2.post(door, content=b"x" * 8_000_001, headers=headers)
    assert too_much.status_code == 413


def test_turns_come_by_the_clock_and_by_hints(sqlite_database):
    turns = Turns(sqlite_database, "main", timedelta(minutes=1))
    now = datetime.now(UTC)
    assert turns.take(now)
    assert not turns.take(now + timedelta(seconds=30))
    leave_hint(sqlite_database, "main", "test")
    assert turns.take(datetime.now(UTC))
    assert not turns.take(datetime.now(UTC))
    assert turns.take(datetime.now(UTC) + timedelta(minutes=2))
    assert turns.take(now - timedelta(days=1))  # the clock was set back


def test_a_blank_workstation_fires_twice(office, config, sqlite_database):
    seen = []
    app = FastAPI()

    @app.post("/hook")
    def hook(rows: list[dict]) -> None:
        seen.append(rows)

    with serving(app) as address:
        pms = open_pms(config)
        pms.subscribe(address + "/hook", "", 1)
        office.change("patients", 1, City="Elsewhere")
        wait_for(lambda: len(seen) >= 2, "no two events came")
    assert seen[0] == seen[1]


def test_settings_of_events_have_bounds():
    with pytest.raises(ConfigError, match="events_poll_s"):
        read_config(environment={}, overrides={"pms": {"events_poll_s": 0}})
