"""The PMS contract's own values: office time, tokens, commands."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import ConfigError, InvalidInput
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    CloseTask,
    CreateTask,
    OfficeTime,
    UploadDocument,
    carries,
    check_ref,
    with_ref,
)

NOW = datetime(2026, 6, 10, 17, 0, tzinfo=UTC)
ZONES = st.sampled_from(
    [
        "America/New_York",
        "America/Phoenix",
        "America/St_Johns",
        "Europe/Berlin",
        "Australia/Lord_Howe",
    ]
)
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 6 * 365 * 86_400).map(lambda count: EPOCH + timedelta(seconds=count))


def wall_time(text):
    return datetime.fromisoformat(text)


@given(ZONES, MOMENTS)
def test_a_moment_survives_the_office_clock(zone, moment):
    office = OfficeTime(zone)
    assert office.to_utc(office.to_wall(moment), near=moment) == moment


@given(ZONES, MOMENTS, st.integers(0, 40 * 24 * 60))
def test_no_later_change_is_below_the_filter(zone, since, minutes):
    office = OfficeTime(zone)
    later = since + timedelta(minutes=minutes)
    assert office.to_wall(later) >= office.earliest_wall(since)


def test_the_filter_goes_back_only_where_the_clock_does():
    office = OfficeTime("America/New_York")
    # Clocks go back at 06:00 UTC on 2026-11-01.
    before = datetime(2026, 11, 1, 5, 50, 30, tzinfo=UTC)
    assert office.earliest_wall(before) == wall_time("2026-11-01 01:00")
    assert office.earliest_wall(NOW) == wall_time("2026-06-10 13:00")


def test_the_hour_that_repeats_is_the_first_unless_told():
    office = OfficeTime("America/New_York")
    wall = wall_time("2026-11-01 01:30")
    first, second = (datetime(2026, 11, 1, hour, 30, tzinfo=UTC) for hour in (5, 6))
    assert office.to_utc(wall) == first
    assert office.to_utc(wall, near=second) == second


def test_the_hour_that_does_not_exist_is_read():
    office = OfficeTime("America/New_York")
    assert office.to_utc(wall_time("2026-03-08 02:30")) == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


def test_today_is_the_offices():
    assert OfficeTime("America/New_York").today(datetime(2026, 6, 10, 2, tzinfo=UTC)) == date(
        2026, 6, 9
    )


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_zone_is_for_an_operator(name):
    with pytest.raises(ConfigError):
        OfficeTime(name)


def test_tokens_are_exact_and_appended_once():
    assert with_ref("Text.", "ref:BW-12ab") == "Text. ref:BW-12ab"
    assert with_ref("Text. ref:BW-12ab", "ref:BW-12ab") == "Text. ref:BW-12ab"
    assert with_ref("", "ref:BW-12ab") == "ref:BW-12ab"
    assert carries("a (ref:BW-12ab) b", "ref:BW-12ab")
    assert not carries("a ref:BW-12abc", "ref:BW-12ab")
    for wrong in ("", "BW-12ab", "ref:", "ref:a b c d", "ref:" + "x" * 61):
        with pytest.raises(InvalidInput):
            check_ref(wrong)


@pytest.mark.parametrize(
    "build",
    [
        lambda: AppendProcedureNote("", "1", "text", "ref:BW-12ab"),
        lambda: AppendProcedureNote("1", "", "text", "ref:BW-12ab"),
        lambda: AppendProcedureNote("1", "1", "  ", "ref:BW-12ab"),
        lambda: AppendCommlog("1", "text", wall_time("2026-01-01 09:00"), "ref:BW-12ab"),
        lambda: CreateTask("1", "text", "no token"),
        lambda: CloseTask("1", ""),
        lambda: UploadDocument("1", "a", "pdf", b"x", "d", "c", "Document", (), NOW, "ref:BW-12ab"),
        lambda: UploadDocument("1", "a", ".pdf", b"", "d", "c", "Document", (), NOW, "ref:BW-12ab"),
    ],
)
def test_a_command_that_cannot_be_right_is_refused(build):
    with pytest.raises(InvalidInput):
        build()


def test_commands_do_not_show_what_they_carry():
    command = AppendProcedureNote("1", "2", "caries on 3", "ref:BW-12ab")
    assert "caries" not in repr(command)
