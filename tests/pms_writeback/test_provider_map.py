"""Whom the PMS's keys stand for, and that nothing is written for anybody else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from node.db.session import Actor, begin, read
from node.db.tables import event, pms_command
from node.errors import Conflict, InvalidInput, NotFound
from pms_writeback import outbox
from pms_writeback.availability import open_slots
from pms_writeback.outbox import queue, ref_for
from pms_writeback.pms import BookAppointment, OfficeTime, PlanProcedure
from pms_writeback.practice import open_pms
from pms_writeback.provider_map import (
    MapEntry,
    add_entry,
    end_entry,
    read_map,
    read_office_map,
)
from pms_writeback.records import MapKind
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

#: For what does not depend on the database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ACTOR = Actor("test", "main")
DAY = date(2026, 6, 10)
PROVIDER, ROOM = MapKind.PROVIDER, MapKind.OPERATORY


@pytest.fixture
def synced(database, office, config):
    """A database into which the practice was read: providers 1 to 3, rooms 1 to 3."""
    pms = open_pms(config)
    now = datetime.now(UTC)
    office.change("providers", 2, IsHidden="true")
    assert ScheduleSync(database, pms, config).run_once(now).is_ok
    Warehouse(database, pms, config).run_once(now)
    yield database
    pms.close()


def refusal(db, kind, key, day=DAY):
    with read(db) as conn:
        return read_office_map(conn, "main").refusal(kind, key, day)


def plan(db, engine, store, case, provider="1", day=DAY, key="plan"):
    ref = ref_for("main", key)
    command = PlanProcedure(case.patient_key, "D2391", "30", "O", day, provider, ref)
    with begin(db, ACTOR, "test.queue") as tx:
        command_id = queue(tx, engine, store, key=key, command=command, patient_id=case.patient_id)
    with read(db) as conn:
        return conn.execute(sa.select(pms_command).where(pms_command.c.id == command_id)).one()


def test_before_the_practice_was_read_nobody_is_unknown(sqlite_database):
    assert refusal(sqlite_database, PROVIDER, "1") == ""


@on_sqlite
def test_hidden_and_unknown_providers_are_refused(synced):
    assert refusal(synced, PROVIDER, "1") == ""
    assert "hidden" in refusal(synced, PROVIDER, "2")
    assert "has no provider 77" in refusal(synced, PROVIDER, "77")
    assert "has no operatory 9" in refusal(synced, ROOM, "9")


def test_with_the_first_entry_the_map_is_the_whole_truth_in_its_time(synced):
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-lee", date(2026, 1, 1)))
    assert refusal(synced, PROVIDER, "1") == ""
    assert "not mapped on 2026-06-10" in refusal(synced, PROVIDER, "3")
    assert refusal(synced, ROOM, "3") == ""  # rooms have no map
    end_entry(synced, ACTOR, PROVIDER, "1", date(2026, 5, 31))
    assert "not mapped" in refusal(synced, PROVIDER, "1")
    assert refusal(synced, PROVIDER, "1", date(2026, 5, 31)) == ""
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-kim", date(2026, 6, 1)))
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-kim", date(2026, 6, 1)))  # once
    with read(synced) as conn:
        meanings = [(each.meaning, each.valid_to) for each in read_map(conn, "main", PROVIDER)]
    assert meanings == [("dr-lee", date(2026, 5, 31)), ("dr-kim", None)]


@on_sqlite
def test_wrong_entries_are_refused(synced):
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-lee", DAY))
    with pytest.raises(Conflict):
        add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-kim", DAY + timedelta(days=9)))
    with pytest.raises(NotFound):
        add_entry(synced, ACTOR, MapEntry(PROVIDER, "77", "nobody", DAY))
    with pytest.raises(NotFound):
        end_entry(synced, ACTOR, PROVIDER, "3", DAY)
    with pytest.raises(InvalidInput):
        MapEntry(PROVIDER, "1", "dr-lee", DAY, DAY - timedelta(days=1))
    with pytest.raises(InvalidInput):
        MapEntry(PROVIDER, " ", "dr-lee", DAY)


_DAYS = st.dates(date(2026, 1, 1), date(2026, 1, 31))


@given(_DAYS, st.none() | _DAYS, _DAYS, st.none() | _DAYS)
def test_two_entries_overlap_when_some_day_has_both(first, last, other_first, other_last):
    if (last and last < first) or (other_last and other_last < other_first):
        return
    one = MapEntry(PROVIDER, "1", "a", first, last)
    two = MapEntry(PROVIDER, "1", "b", other_first, other_last)
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(32)]
    assert one.overlaps(two) == any(one.holds(day) and two.holds(day) for day in days)


@on_sqlite
def test_a_write_for_a_hidden_provider_is_declined_with_a_reason(
    synced, office, engine, store, add_case
):
    case = add_case(synced, "900")
    row = plan(synced, engine, store, case, provider="2")
    assert (row.state, row.attempts) == ("declined", 0)
    assert "provider 2 is hidden" in row.error
    with read(synced) as conn:
        failed = sa.select(event.c.data).where(
            event.c.subject == row.id, event.c.kind == "pms.write_failed"
        )
        assert conn.execute(failed).scalar_one()["state"] == "declined"
    with pytest.raises(Conflict, match="hidden"):
        outbox.retry(synced, engine, ACTOR, row.id)


@on_sqlite
def test_the_commands_own_day_decides(synced, engine, store, add_case):
    case = add_case(synced, "900")
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "1", "dr-lee", DAY, DAY + timedelta(days=5)))
    assert plan(synced, engine, store, case, day=DAY, key="in time").state == "queued"
    late = plan(synced, engine, store, case, day=DAY + timedelta(days=6), key="late")
    assert (late.state, "not mapped" in late.error) == ("declined", True)
    add_entry(synced, ACTOR, MapEntry(ROOM, "1", "OP1", DAY))
    ref = ref_for("main", "book")
    starts = datetime(2026, 6, 12, 15, tzinfo=UTC)
    book = BookAppointment(case.patient_key, starts, 60, "3", "1", f"visit {ref}", ref)
    with begin(synced, ACTOR, "test.queue") as tx:
        queue(tx, engine, store, key="book", command=book, patient_id=case.patient_id)
    with read(synced) as conn:
        booked = sa.select(pms_command.c.error).where(pms_command.c.key == "book")
        assert "operatory 3 is not mapped" in conn.execute(booked).scalar_one()


@on_sqlite
def test_only_who_is_mapped_is_offered(synced, office, config):
    office_time = OfficeTime("America/New_York")
    now = datetime.now(UTC)
    today = office_time.today(now)
    days = {"first": today, "last": today + timedelta(days=7)}

    def offered(provider):
        with read(synced) as conn:
            found = open_slots(conn, config, now=now, minutes=30, provider_key=provider, **days)
        return {office_time.to_wall(slot.starts_at).date() for slot in found}

    free = offered("3")
    assert free
    first = min(free)
    add_entry(synced, ACTOR, MapEntry(PROVIDER, "3", "hygiene", first, first))
    assert offered("3") == {first}
    assert offered("1") == set()
    add_entry(synced, ACTOR, MapEntry(ROOM, "1", "OP1", today))
    assert offered("3") == set()  # works in room 3, which is not mapped
