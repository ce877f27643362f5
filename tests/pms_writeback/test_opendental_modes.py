"""The three ways into one Open Dental office, and what happens when one of them is away."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest

from node.errors import ConfigError
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.opendental.ways import Mode, Way, Ways, usual_way
from pms_writeback.pms import AppendCommlog, OfficeAway, OutcomeUnknown
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import another_way, running

MANY = 130  # more patients than the remote service gives at once


@pytest.fixture
def office(tmp_path):
    """The API service, which gives up to 1000 rows at once."""
    with running(tmp_path / "pms.sqlite", page_cap=1000, seed_patients=MANY) as service:
        yield service


@pytest.fixture
def remote(office):
    """The vendor's cloud: 100 rows at once, throttled."""
    with another_way(office, page_cap=100, throttle_s=0.05) as door:
        yield door


@pytest.fixture
def connect(office):
    opened = []

    def make(*ways):
        pms = OpenDental(
            OpenDentalSettings(
                base_url="", developer_key=office.developer_key,
                customer_key=office.customer_key, time_zone="America/New_York",
                update_check_s=0.0, ways=ways,
            )
        )  # fmt: skip
        opened.append(pms)
        return pms

    yield make
    for pms in opened:
        pms.close()


def way(mode, door):
    usual = usual_way(mode, door.url)
    return replace(usual, min_interval_s=0.1 if mode is Mode.REMOTE else 0.0)


def nobody():
    """An address at which certainly nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return usual_way(Mode.SERVICE, f"http://127.0.0.1:{port}/api/v1")


def note(key="ref:BW-mode1"):
    return AppendCommlog("5", f"by whatever way {key}", datetime.now(UTC), key)


@pytest.mark.parametrize("mode", list(Mode))
def test_each_mode_reads_whole_lists_and_writes(mode, office, remote, connect):
    pms = connect(way(mode, remote if mode is Mode.REMOTE else office))
    assert len(pms.patients()) >= MANY
    pms.execute(note())
    assert pms.find(note()) is not None
    assert len([row for row in office.rows("commlogs") if "ref:BW-mode1" in str(row["Note"])]) == 1


def test_the_vendors_limits_and_addresses_are_the_usual_ones():
    assert usual_way(Mode.SERVICE).url == "http://localhost:30223/api/v1"
    assert usual_way(Mode.LOCAL).url == "http://localhost:30222/api/v1"
    remote = usual_way(Mode.REMOTE)
    assert (remote.url, remote.page_size, remote.min_interval_s) == (
        "https://api.opendental.com/api/v1", 100, 1.0,
    )  # fmt: skip


def test_the_service_comes_first_and_the_cloud_when_it_is_away(office, remote, connect):
    pms = connect(way(Mode.SERVICE, office), way(Mode.REMOTE, remote))
    assert len(pms.patients()) >= MANY
    assert remote.log() == ()
    office.fault("offline")
    assert len(pms.patients()) >= MANY  # in pages of 100 now
    assert len([each for each in remote.log() if each.path == "/patients/Simple"]) >= 2
    remote.fault("offline")
    with pytest.raises(OfficeAway):
        pms.patients()
    office.fault("offline", on=False)
    assert len(pms.patients()) >= MANY  # both rest; whoever answers is used


def test_a_write_that_nobody_got_goes_by_the_next_way(office, remote, connect):
    pms = connect(nobody(), way(Mode.REMOTE, remote))
    pms.execute(note())
    assert len([row for row in office.rows("commlogs") if "ref:BW-mode1" in str(row["Note"])]) == 1


def test_a_write_whose_answer_was_lost_is_not_sent_by_another_way(office, remote, connect):
    pms = connect(way(Mode.SERVICE, office), way(Mode.REMOTE, remote))
    office.fault("commit_then_drop", methods=("POST",), path="/commlogs")
    with pytest.raises(OutcomeUnknown):
        pms.execute(note())
    assert pms.find(note()) is not None
    assert len([row for row in office.rows("commlogs") if "ref:BW-mode1" in str(row["Note"])]) == 1


def test_a_way_that_failed_rests_for_a_minute(office, remote):
    now = [0.0]
    headers = {"Authorization": f"ODFHIR {office.developer_key}/{office.customer_key}"}
    ways = Ways(
        [Way(office.url, 1000, 0.0), Way(remote.url, 100, 0.1)],
        headers, httpx2.Timeout(5.0), lambda: now[0],
    )  # fmt: skip

    def ask():
        return ways.request("GET", "/providers", is_write=False).status_code

    office.fault("drop_before_commit", count=1)
    assert (ask(), ways.page_size) == (200, 100)
    asked = len(office.log())
    assert ask() == 200
    assert len(office.log()) == asked  # at rest
    now[0] = 61.0
    assert (ask(), ways.page_size) == (200, 1000)
    assert len(office.log()) == asked + 1
    ways.close()


def test_the_configuration_names_one_address_or_several_ways(office, configure):
    endpoints = [{"mode": "service", "url": office.url}, {"mode": "remote"}]
    with pytest.raises(ConfigError, match="either"):
        open_pms(configure(office, endpoints=endpoints))
    with pytest.raises(ConfigError, match="either"):
        open_pms(configure(office, base_url=""))
    far = [{"mode": "service", "url": "http://pms.example.com/api/v1"}]
    with pytest.raises(ConfigError, match="TLS"):
        open_pms(configure(office, base_url="", endpoints=far))
    pms = open_pms(configure(office, base_url="", endpoints=endpoints))
    assert len(pms.patients()) >= MANY
    pms.close()
