"""Open slots from our copies of the practice's schedule."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from node.config import read_config
from node.db.session import read
from node.errors import ConfigError, InvalidInput
from pms_writeback.availability import open_slots
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

NOW = datetime(2026, 6, 10, 12, 0, tzinfo=UTC)  # a Wednesday, 08:00 in New York
FREE_DAY = date(2026, 6, 16)  # the Tuesday after; its visits are removed below


@pytest.fixture
def office(tmp_path):
    with running(tmp_path / "pms.sqlite", clock=lambda: NOW) as sandbox:
        for row in sandbox.rows("appointments"):
            if str(row["AptDateTime"]).startswith(FREE_DAY.isoformat()):
                sandbox.delete_appointment(int(row["AptNum"]))
        yield sandbox


def config_of(office, *windows):
    return read_config(
        environment={},
        overrides={
            "node": {"time_zone": "America/New_York"},
            "pms": {
                "kind": "open_dental", "base_url": office.url,
                "developer_key": office.developer_key, "customer_key": office.customer_key,
                "windows": list(windows),
            },
        },
    )  # fmt: skip


def pulled(office, db):
    config = config_of(office)
    pms = open_pms(config)
    assert ScheduleSync(db, pms, config).run_once(NOW).is_ok
    assert not [each for each in Warehouse(db, pms, config).run_once(NOW) if each.error]


def slots(db, config, first=FREE_DAY, last=FREE_DAY, minutes=60, provider="1", **more):
    with read(db) as conn:
        return open_slots(
            conn, config, first=first, last=last, minutes=minutes, provider_key=provider,
            **{"now": NOW, **more},
        )  # fmt: skip


def local(found):
    """Begins on the office's clock, four hours behind UTC in June."""
    return [(each.starts_at - timedelta(hours=4)).strftime("%H:%M") for each in found]


def test_a_day_without_visits_is_free_but_for_lunch(office, sqlite_database):
    pulled(office, sqlite_database)
    found = slots(sqlite_database, config_of(office), step_min=60)
    assert local(found) == ["08:00", "09:00", "10:00", "11:00", "13:00", "14:00", "15:00", "16:00"]
    assert {each.operatory_key for each in found} == {"1"}


def test_visits_of_the_provider_and_the_room_are_in_the_way(office, sqlite_database):
    for room, start in ((1, "09:00:00"), (2, "14:00:00")):
        office.add(
            "appointments", PatNum=1, AptStatus="Scheduled", Op=room, ProvNum=1,
            Pattern="X" * 12, AptDateTime=f"{FREE_DAY} {start}",
        )  # fmt: skip
    office.add(
        "appointments", PatNum=1, AptStatus="Broken", Op=1, ProvNum=1, Pattern="X" * 12,
        AptDateTime=f"{FREE_DAY} 15:00:00",
    )  # fmt: skip
    pulled(office, sqlite_database)
    found = slots(sqlite_database, config_of(office), step_min=60)
    assert local(found) == ["08:00", "10:00", "11:00", "13:00", "15:00", "16:00"]


def test_weekends_holidays_and_hidden_providers_have_none(office, sqlite_database):
    office.add(
        "schedules", SchedDate="2026-06-17", SchedType="Practice", StartTime="00:00:00",
        StopTime="00:00:00",
    )  # fmt: skip
    office.change("providers", 2, IsHidden="true")
    pulled(office, sqlite_database)
    config = config_of(office)
    assert slots(sqlite_database, config, date(2026, 6, 13), date(2026, 6, 14)) == []
    assert slots(sqlite_database, config, date(2026, 6, 17), date(2026, 6, 17)) == []
    assert slots(sqlite_database, config, provider="2") == []
    assert slots(sqlite_database, config, provider="99") == []


def test_windows_bound_a_type_of_visit_in_time_and_number(office, sqlite_database):
    window = {
        "appointment_type": "Crown prep", "provider": "1", "weekdays": ["tue"],
        "start": time(9), "stop": time(11), "at_most": 1,
    }  # fmt: skip
    config = config_of(office, window)
    pulled(office, sqlite_database)
    asked = {"appointment_type": "Crown prep", "step_min": 60}
    assert local(slots(sqlite_database, config, **asked)) == ["09:00", "10:00"]
    assert slots(sqlite_database, config, date(2026, 6, 15), date(2026, 6, 15), **asked) == []
    assert len(slots(sqlite_database, config, step_min=60)) == 8  # another type is free
    office.add(
        "appointments", PatNum=1, AptStatus="Scheduled", Op=2, ProvNum=1, Pattern="X" * 6,
        AptDateTime=f"{FREE_DAY} 09:00:00",
    )  # fmt: skip
    pulled(office, sqlite_database)
    assert slots(sqlite_database, config, **asked) == []


def test_the_hour_that_is_skipped_or_repeated_is_read_on_the_offices_clock(
    tmp_path, sqlite_database
):
    """On the Monday after the clocks went back 08:00 is 13:00 UTC, not 12:00."""
    now = datetime(2026, 10, 30, 12, 0, tzinfo=UTC)
    with running(tmp_path / "pms.sqlite", clock=lambda: now) as office:
        for row in office.rows("appointments"):
            office.delete_appointment(int(row["AptNum"]))
        config = config_of(office)
        pms = open_pms(config)
        ScheduleSync(sqlite_database, pms, config).run_once(now)
        Warehouse(sqlite_database, pms, config).run_once(now)
        monday = date(2026, 11, 2)
        found = slots(sqlite_database, config, monday, monday, now=now)
    assert found[0].starts_at == datetime(2026, 11, 2, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "asked",
    [
        {"minutes": 7},
        {"minutes": 600},
        {"last": date(2026, 6, 1)},
        {"last": date(2026, 6, 18)},  # its visits are not read: seven days ahead are
        {"first": date(2026, 6, 8)},
    ],
)
def test_questions_without_sense_are_refused(office, sqlite_database, asked):
    with pytest.raises(InvalidInput):
        slots(sqlite_database, config_of(office), **asked)


def test_a_window_with_a_wrong_weekday_is_refused(office):
    with pytest.raises(ConfigError, match="weekdays"):
        config_of(
            office,
            {"appointment_type": "x", "weekdays": ["noday"], "start": time(9), "stop": time(10)},
        )
