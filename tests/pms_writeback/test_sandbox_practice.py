"""The invented practice: what it holds, and that starting twice adds only what is missing."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from node.errors import ConfigError
from pms_writeback.sandbox import seed as seeding
from pms_writeback.sandbox.app import CUSTOMER_KEY, DEVELOPER_KEY, create_app
from pms_writeback.sandbox.server import running

NOON = datetime(2026, 6, 10, 16, 0, tzinfo=UTC)


def test_a_second_start_changes_nothing_and_tomorrow_gets_its_schedule(tmp_path):
    path = tmp_path / "pms.sqlite"
    resources = (
        "patients",
        "appointments",
        "procedurelogs",
        "definitions",
        "providers",
        "tasklists",
    )

    def contents(now):
        with running(path, clock=lambda: now) as pms:
            return {name: {tuple(row.items()) for row in pms.rows(name)} for name in resources}

    first = contents(NOON)
    assert contents(NOON) == first
    tomorrow = contents(NOON + timedelta(days=1))
    for name in resources:
        assert first[name] <= tomorrow[name]
    booked = {dict(row)["AptDateTime"][:10] for row in tomorrow["appointments"]}
    assert "2026-06-18" in booked
    todays = [dict(row) for row in tomorrow["appointments"]]
    cast = {row["PatNum"] for row in todays if row["AptDateTime"].startswith("2026-06-11")}
    assert {1, 2, 3, 4, 5, 6, 7} <= cast


def test_the_same_number_makes_the_same_practice(tmp_path):
    people = []
    for name in ("a", "b"):
        with running(tmp_path / f"{name}.sqlite", clock=lambda: NOON) as pms:
            people.append([(row["LName"], row["Birthdate"]) for row in pms.rows("patients")])
    assert people[0] == people[1]


def test_nobody_is_booked_twice_in_a_room_at_once(tmp_path):
    with running(tmp_path / "pms.sqlite", clock=lambda: NOON) as pms:
        rows = pms.rows("appointments")
    places = Counter((row["Op"], row["AptDateTime"]) for row in rows)
    assert max(places.values()) == 1
    assert len({row["AptDateTime"][:10] for row in rows}) == 15
    past = {row["AptStatus"] for row in rows if row["AptDateTime"] < "2026-06-10"}
    assert past == {"Complete"}


def test_without_sample_studies_the_practice_is_still_full(tmp_path, monkeypatch):
    monkeypatch.setattr(seeding, "files", lambda name: tmp_path / "absent")
    with running(tmp_path / "pms.sqlite", clock=lambda: NOON) as pms:
        assert len(pms.rows("patients")) == 40
        assert pms.rows("appointments")


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "pms.sqlite"
    create_app(path).store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="another version"):
        create_app(path)


def test_empty_keys_and_unknown_zones_are_refused(tmp_path):
    with pytest.raises(ConfigError):
        create_app(tmp_path / "a.sqlite", customer_key="")
    with pytest.raises(ConfigError):
        create_app(tmp_path / "a.sqlite", time_zone="Nowhere/Town")


def test_a_taken_port_is_for_an_operator(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="cannot listen"), running(tmp_path / "p", port=port):
            pass


@pytest.mark.faults
def test_what_was_answered_survives_kill_9(tmp_path):
    path, port = tmp_path / "pms.sqlite", _free_port()
    command = [
        sys.executable,
        "-m",
        "pms_writeback.sandbox",
        "--port",
        str(port),
        "--db",
        str(path),
    ]
    headers = {
        "Authorization": f"ODFHIR {DEVELOPER_KEY}/{CUSTOMER_KEY}",
        "Content-Type": "application/json",
    }
    base = f"http://127.0.0.1:{port}"
    first = subprocess.Popen([*command, "--seed-cast"])
    try:
        _wait_up(base, first)
        body = {"PatNum": 1, "Note": "kept"}
        answer = httpx2.post(f"{base}/api/v1/commlogs", json=body, headers=headers)
        assert answer.status_code == 201
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=60)
    second = subprocess.Popen([*command, "--seed-cast"])
    try:
        _wait_up(base, second)
        rows = httpx2.get(f"{base}/api/v1/commlogs?PatNum=1", headers=headers).json()
        assert [row["Note"] for row in rows] == ["kept"]
    finally:
        second.send_signal(signal.SIGINT)
        assert second.wait(timeout=60) == 0


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _wait_up(base, process):
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx2.get(base, timeout=30)
        except httpx2.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
