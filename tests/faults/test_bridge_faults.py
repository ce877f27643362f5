"""A bridge as a process of its own: killed, cut off, restarted; each command lands once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import begin, read
from node.db.tables import pms_command
from node.dicom.instances import FolderStore
from node.engine import DurableEngine
from node.errors import Retryable
from pms_writeback import outbox
from pms_writeback.delivery import Delivery, Patience
from pms_writeback.outbox import ref_for
from pms_writeback.pms import AppendCommlog
from pms_writeback.waking import wake
from tests.faults.bridge_storm import FAULTS, Storm, bridge_process, wait_connected
from tests.faults.storm import ACTOR, ENGINE_KEY, SimulatedClock
from tests.pms_writeback.bridge_world import clinic, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]

WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
COMMAND = AppendCommlog("1", "Signed.", WHEN, ref_for("main", "k"))


@pytest.fixture(params=["dentrix", "eaglesoft"])
def world(request, tmp_path, sqlite_database):
    with clinic(tmp_path, sqlite_database, request.param) as world:
        world.listen()
        world.enrol()
        yield world


@pytest.fixture
def still_engine(sqlite_database):
    url = sqlite_database.url.render_as_string(hide_password=False)
    opened = DurableEngine(url, ENGINE_KEY, "test-1")
    opened.connect()
    yield opened
    opened.close()


def test_killed_between_the_commit_and_the_receipt(world):
    """The practice has the write, the bridge dies before anybody knows; it lands once."""
    receipts = []
    with bridge_process(world) as bridge:
        wait_connected(world)
        world.office.set("pause_after_commit_s", "60")
        asker = threading.Thread(target=lambda: receipts.append(world.pms.execute(COMMAND)))
        asker.start()
        until(lambda: len(world.office.entries()) == 1, what="the commit")
        bridge.kill()
        world.office.set("pause_after_commit_s", "0")
        bridge.start()
        asker.join(70)
        assert len(receipts) == 1
        assert receipts[0].already_there
        assert world.pms.execute(COMMAND) == receipts[0]
    assert len(world.office.entries()) == 1


def test_killed_and_asked_only_long_after(world):
    """Nobody asks again until much later: the restarted bridge settles it by itself."""
    with bridge_process(world) as bridge:
        wait_connected(world)
        world.office.set("pause_after_commit_s", "60")
        asker = threading.Thread(target=_ignore, args=(world,), daemon=True)
        asker.start()
        until(lambda: len(world.office.entries()) == 1, what="the commit")
        bridge.kill()
        world.office.set("pause_after_commit_s", "0")
        world.stop_listening()  # the node is away as well
        bridge.start()
        until(lambda: _journal_counts(world) == {"done": 1}, 60, "the settlement")
        world.listen()
        wait_connected(world)
        assert world.pms.find(COMMAND).already_there
    assert len(world.office.entries()) == 1


def _ignore(world):
    try:
        world.pms.execute(COMMAND)
    except Retryable:
        return


def _journal_counts(world):
    import sqlite3

    with sqlite3.connect(world.clinic / "journal.sqlite", timeout=10) as db:
        rows = dict(db.execute("SELECT state, COUNT(*) FROM command GROUP BY state"))
    db.close()
    return rows


def test_a_bridge_ends_politely(world):
    with bridge_process(world) as bridge:
        wait_connected(world)
        assert bridge.end() == 0


def test_cut_off_for_a_day_everything_is_delivered_in_order_on_return(
    world, still_engine, tmp_path
):
    clock = SimulatedClock()
    store = FolderStore(tmp_path / "images")
    delivery = Delivery(world.db, still_engine, store, world.pms, "main", Patience(), clock)
    with bridge_process(world) as bridge:
        storm = Storm(world, bridge, still_engine, store)
        owners = storm.add_patients(["1", "2", "3"])
        bridge.kill()
        world.pms.desk.dismiss()
        order = []
        for hour in range(24):
            clock.now += timedelta(hours=1)
            key = str(hour % 3 + 1)
            command = AppendCommlog(key, "Signed.", WHEN, ref_for("main", f"hour-{hour}"))
            with begin(world.db, ACTOR, "test") as tx:
                outbox.queue(
                    tx,
                    still_engine,
                    store,
                    key=f"hour-{hour}",
                    command=command,
                    patient_id=owners[key],
                )
            order.append((key, command.ref))
            for row in storm.heads():
                assert delivery.run(row.id, row.attempts) == "queued"
        assert world.office.entries() == []
        states = _states(world.db)
        assert set(states.values()) == {"queued"}
        assert len(states) == 24
        bridge.start()
        wait_connected(world)
        clock.now += timedelta(hours=1)
        while heads := storm.heads():
            for row in heads:
                assert delivery.run(row.id, row.attempts) == "done"
    landed = [(each.patient_id, each.text.rsplit(" ", 1)[-1]) for each in world.office.entries()]
    for key in ("1", "2", "3"):
        assert [ref for owner, ref in landed if owner == key] == [
            ref for owner, ref in order if owner == key
        ]
    assert len(landed) == 24


def test_what_waited_is_sent_at_once_when_the_bridge_is_back(world, engine, tmp_path):
    """Long waits end with the bridge's call, not with their time."""
    store = FolderStore(tmp_path / "images")
    patience = Patience(first_wait_s=3600.0, longest_wait_s=3600.0)
    outbox.register(engine, world.db, store, world.pms, world.config, patience)
    storm = Storm(world, None, engine, store)
    storm.queue(["1", "2", "1"], storm.add_patients(["1", "2"]))

    def wait_for_the_bridge():
        with read(world.db) as conn:
            errors = conn.execute(sa.select(pms_command.c.error)).scalars().all()
        return sum("not connected" in error for error in errors) == 2

    until(wait_for_the_bridge, 60, "the first tries")
    assert world.listener is not None
    world.listener.on_connect = lambda: wake(world.db, engine, ACTOR)
    with bridge_process(world):
        until(lambda: set(_states(world.db).values()) == {"done"}, 60, "the delivery")
    assert len(world.office.entries()) == 3


def _states(db):
    with read(db) as conn:
        return {
            row.id: row.state
            for row in conn.execute(sa.select(pms_command.c.id, pms_command.c.state))
        }


def test_writes_through_a_storm_land_exactly_once_in_order(world, still_engine, tmp_path):
    with bridge_process(world) as bridge:
        wait_connected(world)
        storm = Storm(world, bridge, still_engine, FolderStore(tmp_path / "images"))
        report = storm.run(FAULTS, writes=40, faults=2 * len(FAULTS), patients=4)
    assert sum(report.faults.values()) == 2 * len(FAULTS)
    assert (report.missing, report.doubled, report.out_of_order) == (0, 0, 0)
