"""Exactly once, in order: random faults and cuts against the sandbox, and a real kill -9."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from node.db.session import Actor, begin, read
from node.db.tables import pms_command
from node.engine import DurableEngine
from pms_writeback import outbox
from pms_writeback.delivery import Delivery, Patience
from pms_writeback.pms import AppendCommlog, CreatePreauthorization
from pms_writeback.practice import open_pms

ACTOR = Actor("test", "main")
WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
ENGINE_KEY = b"a test's engine key, 32 bytes..!"

WIRE_FAULTS = {
    "commit then drop": {"kind": "commit_then_drop"},
    "drop before commit": {"kind": "drop_before_commit"},
    "504 after commit": {"kind": "status_after_commit", "status": 504},
    "500 before commit": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "429": {"kind": "status", "status": 429},
    "400": {"kind": "status", "status": 400},
}
FAULTS = ["none", "killed before", "killed after", *WIRE_FAULTS]


class Killed(BaseException):
    """The process ends here, as far as the database can tell."""


@dataclass
class Breaking:
    """The real adapter, its wire broken and its process killed by plan."""

    pms: object
    office: object
    plan: Iterator[str]

    def find(self, command):
        return self.pms.find(command)

    def execute(self, command):
        fault = next(self.plan, "none")
        if fault == "killed before":
            raise Killed
        if fault in WIRE_FAULTS:
            self.office.fault(**WIRE_FAULTS[fault], methods=("POST",))
        try:
            receipt = self.pms.execute(command)
        finally:
            self.office.fault("clear")
        if fault == "killed after":
            raise Killed
        return receipt


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def still_engine(sqlite_database) -> Iterator[DurableEngine]:
    """Take jobs and run none: the test runs them, in an order of its own."""
    url = sqlite_database.url.render_as_string(hide_password=False)
    opened = DurableEngine(url, ENGINE_KEY, "test-1")
    opened.connect()
    yield opened
    opened.close()


@pytest.fixture
def pms(config):
    opened = open_pms(config)
    yield opened
    opened.close()


def test_random_faults_land_each_command_once_and_in_order(
    sqlite_database, still_engine, store, office, pms, add_case
):
    cases = [add_case(sqlite_database, key) for key in ("1", "2", "3")]
    examples = iter(range(10_000))

    @settings(
        max_examples=15,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # a real wire is not repeatable enough to shrink
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        owners=st.lists(st.integers(0, 2), min_size=1, max_size=5),
        plan=st.lists(st.sampled_from(FAULTS), max_size=10),
        seed=st.integers(0, 2**32),
    )
    def check(owners, plan, seed):
        chance = random.Random(seed)
        example = next(examples)
        clock = Clock()
        ids = []
        with begin(sqlite_database, ACTOR, "test") as tx:
            for number, owner in enumerate(owners):
                key = f"{example}-{number}"
                command = AppendCommlog(
                    cases[owner].patient_key, "Signed.", WHEN, outbox.ref_for("main", key)
                )
                ids.append(
                    outbox.queue(
                        tx,
                        still_engine,
                        store,
                        key=key,
                        command=command,
                        patient_id=cases[owner].patient_id,
                        study_id=cases[owner].study_id,
                    )
                )
        delivery = Delivery(
            sqlite_database,
            still_engine,
            store,
            Breaking(pms, office, iter(plan)),
            "main",
            Patience(grace_s=90.0),
            clock,
        )
        has_failed = set()
        for _ in range(400):
            states = states_of(sqlite_database, ids)
            if set(states.values()) == {"done"}:
                break
            command_id = chance.choice(ids)
            if states[command_id] == "failed":
                has_failed.add(owners[ids.index(command_id)])
                outbox.retry(sqlite_database, still_engine, ACTOR, command_id)
            clock.now += timedelta(seconds=chance.choice((1, 10, 100)))
            try:
                delivery.run(command_id, attempts_of(sqlite_database, command_id))
            except Killed:
                continue
        assert set(states_of(sqlite_database, ids).values()) == {"done"}
        landed = [row["Note"].rsplit(" ", 1)[-1] for row in office.rows("commlogs")]
        for owner in set(owners):
            refs = [
                outbox.ref_for("main", f"{example}-{number}")
                for number, each in enumerate(owners)
                if each == owner
            ]
            mine = [ref for ref in landed if ref in refs]
            assert sorted(mine) == sorted(refs), "each exactly once"
            if owner not in has_failed:
                assert mine == refs, "in order"

    check()


def states_of(db: sa.Engine, ids: list[str]) -> dict[str, str]:
    with read(db) as conn:
        rows = conn.execute(
            sa.select(pms_command.c.id, pms_command.c.state).where(pms_command.c.id.in_(ids))
        )
        return {row.id: row.state for row in rows}


@dataclass
class SlowToShow(Breaking):
    """A PMS that lists a new record only at the third look."""

    looks: int = 0

    def find(self, command):
        self.looks += 1
        return self.pms.find(command) if self.looks > 3 else None


def test_a_write_that_shows_late_is_not_sent_again(
    sqlite_database, still_engine, store, office, pms, add_case
):
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, ACTOR, "test") as tx:
        command_id = outbox.queue(
            tx,
            still_engine,
            store,
            key="k",
            command=AppendCommlog("1", "Signed.", WHEN, outbox.ref_for("main", "k")),
            patient_id=case.patient_id,
        )
    clock = Clock()
    slow = SlowToShow(pms, office, iter(["commit then drop"]))
    delivery = Delivery(
        sqlite_database, still_engine, store, slow, "main", Patience(grace_s=90.0), clock
    )
    states = []
    while "done" not in states:
        assert len(states) < 10
        states.append(delivery.run(command_id, attempts_of(sqlite_database, command_id)))
        clock.now += timedelta(seconds=20)
    assert states == ["unknown", "unknown", "unknown", "done"]
    assert len(office.rows("commlogs")) == 1


def attempts_of(db: sa.Engine, command_id: str) -> int:
    with read(db) as conn:
        return conn.execute(
            sa.select(pms_command.c.attempts).where(pms_command.c.id == command_id)
        ).scalar_one()


def test_a_write_of_two_steps_goes_on_after_the_first(
    sqlite_database, still_engine, store, office, pms, add_case
):
    """A pre-authorisation cut before its note is found, finished and not repeated."""
    patient_key = str(office.rows("patplans")[0]["PatNum"])
    codes = {row["ProcCode"]: row["CodeNum"] for row in office.rows("procedurecodes")}
    crown = office.add(
        "procedurelogs", PatNum=int(patient_key), ProcStatus="TP", CodeNum=codes["D2740"],
        ToothNum="30", ProvNum=1, ProcDate="2026-11-21",
    )  # fmt: skip
    case = add_case(sqlite_database, patient_key)
    ref = outbox.ref_for("main", "k")
    command = CreatePreauthorization(patient_key, (str(crown["ProcNum"]),), "", "cusp", ref)
    with begin(sqlite_database, ACTOR, "test") as tx:
        command_id = outbox.queue(
            tx, still_engine, store, key="k", command=command, patient_id=case.patient_id
        )
    clock = Clock()
    delivery = Delivery(
        sqlite_database, still_engine, store, pms, "main", Patience(grace_s=90.0), clock
    )
    office.fault("status", status=429, methods=("PUT",), path="/claims")
    assert delivery.run(command_id, 0) == "unknown"
    assert delivery.run(command_id, 1) == "done", "what was begun needs no grace time"
    (claim,) = office.rows("claims")
    assert ref in str(claim["ClaimNote"])


def test_a_superseded_run_does_nothing(sqlite_database, still_engine, store, office, pms, add_case):
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, ACTOR, "test") as tx:
        command_id = outbox.queue(
            tx,
            still_engine,
            store,
            key="k",
            command=AppendCommlog("1", "Signed.", WHEN, outbox.ref_for("main", "k")),
            patient_id=case.patient_id,
        )
    delivery = Delivery(sqlite_database, still_engine, store, pms, "main", Patience(), Clock())
    office.fault("status", status=503, methods=("POST",))
    assert delivery.run(command_id, 0) == "queued"
    assert delivery.run(command_id, 0) == "superseded"
    assert office.rows("commlogs") == []
    assert delivery.run(command_id, 1) == "done"
    assert delivery.run(command_id, 1) == "done"
    elsewhere = Delivery(sqlite_database, still_engine, store, pms, "south", Patience(), Clock())
    assert elsewhere.run(command_id, 1) == "not ours"
    assert len(office.rows("commlogs")) == 1


_NODE = """
    import os, signal, sys, threading
    from node.config import read_config
    from node.db.session import open_database
    from node.dicom.instances import FolderStore
    from node.engine import PMS, DurableEngine
    from pathlib import Path
    from pms_writeback import outbox
    from pms_writeback.delivery import Patience
    from pms_writeback.practice import open_pms

    url, images, base_url, developer_key, customer_key, moment = sys.argv[1:]
    config = read_config(None, {}, {
        "node": {"time_zone": "America/New_York"},
        "pms": {"kind": "open_dental", "base_url": base_url,
                "developer_key": developer_key, "customer_key": customer_key},
    })

    class Dying:
        def __init__(self, pms):
            self.pms = pms
        def find(self, command):
            return self.pms.find(command)
        def execute(self, command):
            if moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            receipt = self.pms.execute(command)
            if moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return receipt

    engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1", poll_s=0.1)
    outbox.register(
        engine, open_database(url), FolderStore(Path(images)), Dying(open_pms(config)), config,
        Patience(first_wait_s=0.1, longest_wait_s=0.2, grace_s=1.0),
    )
    engine.launch([PMS])
    threading.Event().wait()
"""


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_send_and_started_again(
    sqlite_database, still_engine, store, office, add_case, tmp_path, moment
):
    """The PMS accepted the write, the node died before the receipt; and the moment before."""
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, ACTOR, "test") as tx:
        command_id = outbox.queue(
            tx,
            still_engine,
            store,
            key="k",
            command=AppendCommlog("1", "Signed.", WHEN, outbox.ref_for("main", "k")),
            patient_id=case.patient_id,
            study_id=case.study_id,
        )
    first = start_node(sqlite_database, office, tmp_path, moment)
    assert first.wait(timeout=60) == -9
    assert states_of(sqlite_database, [command_id]) == {command_id: "sending"}
    second = start_node(sqlite_database, office, tmp_path, "never")
    limit = time.monotonic() + 60
    try:
        while states_of(sqlite_database, [command_id])[command_id] != "done":
            assert second.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
    finally:
        second.kill()
        second.wait()
    assert len(office.rows("commlogs")) == 1


def start_node(db: sa.Engine, office, tmp_path, moment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(_NODE),
            db.url.render_as_string(hide_password=False),
            str(tmp_path / "images"),
            office.url,
            office.developer_key,
            office.customer_key,
            moment,
        ]
    )
