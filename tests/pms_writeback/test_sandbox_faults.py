"""Every fault on command does what its line in docs/sandbox-pms.md says."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import httpx2
import pytest

from node.errors import Retryable
from pms_writeback.pms import AppendCommlog, OfficeAway, OutcomeUnknown
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running

WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
COMMAND = AppendCommlog("1", "Signed.", WHEN, "ref:BW-0123456789")


@pytest.fixture
def pms(office, config):
    with closing(open_pms(config)) as opened:
        opened.capabilities()
        yield opened


def test_a_failure_in_the_middle_of_a_list_gives_no_half_list(office, pms, configure):
    with closing(open_pms(configure(office, page_size=10))) as paging:
        office.fault("status", status=500, after=2, path="/patients/Simple")
        with pytest.raises(Retryable):
            paging.patients()
        assert len(paging.patients()) == 40


def test_a_cut_answer_is_read_again_or_searched_for(office, pms):
    office.fault("cut_answer", methods=("GET",), path="/operatories")
    with pytest.raises(Retryable):
        pms.operatories()
    assert len(pms.operatories()) == 3
    office.fault("cut_answer", methods=("POST",))
    with pytest.raises(OutcomeUnknown):
        pms.execute(COMMAND)
    assert pms.find(COMMAND) is not None


def test_an_ignored_filter_does_no_harm(office, pms):
    other = AppendCommlog("2", "Signed.", WHEN, "ref:BW-other")
    pms.execute(COMMAND)
    office.fault("ignore_filters", count=10, path="/commlogs")
    assert pms.find(COMMAND) is not None
    assert pms.find(other) is None
    office.fault("clear")
    office.fault("ignore_filters", count=10, path="/procedurelogs")
    mine = pms.procedures(patient_key="1")
    assert {each.patient_key for each in mine} == {"1"}


def test_what_was_just_written_shows_later(office, pms):
    pms.execute(COMMAND)
    office.fault("hide_newest", path="/commlogs")
    assert pms.find(COMMAND) is None
    assert pms.find(COMMAND) is not None


def test_the_clock_can_be_set_to_the_night_the_clocks_change(tmp_path, configure):
    with running(tmp_path / "pms.sqlite", time_zone="America/New_York") as office:
        office.fault("clock", text="2026-11-01T05:59:58Z")  # 01:59:58, before the hour repeats
        assert str(office.sandbox.store.clock.now()).startswith("2026-11-01 01:59:5")
        office.fault("clock", text="2026-11-01T06:00:30Z")
        assert str(office.sandbox.store.clock.now()).startswith("2026-11-01 01:00:3")
        office.fault("clear")
        with closing(open_pms(configure(office))) as pms:
            assert abs(pms.clock_offset().total_seconds()) < 5


def test_an_update_and_a_dead_line_are_the_whole_offices_trouble(office, config):
    for kind in ("update_in_progress", "offline"):
        with closing(open_pms(config)) as pms:
            office.fault(kind)
            with pytest.raises(Retryable) as away:
                pms.find(COMMAND)
            office.fault("clear")
        assert isinstance(away.value, OfficeAway)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Retryable),
        (423, Retryable),
        (429, OfficeAway),
        (500, Retryable),
        (502, Retryable),
        (503, OfficeAway),
        (504, Retryable),
    ],
)
def test_the_vendors_failures_are_told_apart(office, pms, status, error):
    office.fault("status", status=status, path="/commlogs", methods=("GET",))
    with pytest.raises(error):
        pms.find(COMMAND)
    office.fault("clear")
    office.fault("status_after_commit", status=504, methods=("POST",))
    with pytest.raises(OutcomeUnknown):
        pms.execute(COMMAND)


def test_a_moment_that_is_none_is_refused(office):
    answer = httpx2.post(
        f"{office.page_url}/_sandbox/faults", json={"kind": "clock", "text": "tomorrow"}
    )
    assert answer.status_code == 422
