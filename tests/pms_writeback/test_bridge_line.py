"""The line: protocol versions, broken sessions, the kill switch, packages, odd messages."""

from __future__ import annotations

import base64
import json
import threading
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from node.db.session import read
from node.errors import ConfigError, Conflict, InvalidInput, Rejected, Retryable, Unsupported
from pms_writeback.bridge import registry
from pms_writeback.bridge.desk import Desk, Guest
from pms_writeback.bridge.identity import Identity
from pms_writeback.bridge.link import Link, SessionEnded
from pms_writeback.bridge.protocol import (
    Answer,
    Method,
    Request,
    TableRow,
    choose_version,
    decode,
    rows_from_json,
    rows_to_json,
)
from pms_writeback.bridge.updates import Package, Updates, new_signing_key, sign_package, verify
from pms_writeback.outbox import ref_for
from pms_writeback.pms import AppendCommlog, CannotSearch, NotLicensed, OutcomeUnknown
from tests.pms_writeback.bridge_world import clinic, until

WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@pytest.fixture
def world(tmp_path, sqlite_database):
    with clinic(tmp_path, sqlite_database) as world:
        yield world


def commlog(key="k"):
    return AppendCommlog("1", "Signed.", WHEN, ref_for("main", key))


@pytest.mark.parametrize(
    ("node", "bridge", "spoken"),
    [((1, 2), (1, 2), 2), ((1,), (1, 2), 1), ((1, 2), (1,), 1), ((2, 3), (1, 2), 2)],
)
def test_one_version_apart_works_in_both_directions(world, node, bridge, spoken):
    world.listen(versions=node)
    world.enrol()
    world.start_bridge(versions=bridge)
    world.await_schedule()
    assert world.pms.desk.guest.version == spoken
    assert world.pms.execute(commlog()).key
    today = world.office_today()
    assert world.pms.appointments(today, today)
    assert len(world.office.entries()) == 1


@pytest.mark.parametrize(
    ("node", "bridge", "who"), [((3, 4), (1, 2), "bridge"), ((1,), (2, 3), "node")]
)
def test_two_versions_apart_says_who_must_be_updated(world, node, bridge, who):
    world.listen(versions=node)
    world.enrol()
    running = world.start_bridge(versions=bridge)
    until(lambda: f"update the {who}" in running.line)


def test_rows_read_the_same_in_both_versions():
    rows = (
        TableRow("1", WHEN, False, {"a": 1, "b": None}),
        TableRow("2", WHEN + timedelta(days=1), True, {"a": "x", "c": 2.5}),
    )
    first = rows_from_json(json.loads(json.dumps(rows_to_json(rows, 1))))
    second = rows_from_json(json.loads(json.dumps(rows_to_json(rows, 2))))
    assert first == rows
    assert [(row.key, row.changed_at, row.is_gone) for row in second] == [
        (row.key, row.changed_at, row.is_gone) for row in rows
    ]
    assert second[0].values == {"a": 1, "b": None, "c": None}


@pytest.mark.parametrize(
    "data",
    [
        {"rows": [["1"]], "columns": ["a"]},
        {"rows": [["1", "yesterday", False, 1]], "columns": ["a"]},
        {"rows": [{"key": "1"}]},
        {"rows": [[]]},
        {"rows": "x"},
    ],
)
def test_rows_that_cannot_be_read(data):
    with pytest.raises(InvalidInput):
        rows_from_json(data)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_messages_that_cannot_be_read(body):
    with pytest.raises(InvalidInput):
        decode(body)


def test_every_error_keeps_its_family_on_the_way():
    for error in (
        NotLicensed("a"),
        CannotSearch("a2"),
        Unsupported("b"),
        Rejected("c"),
        Conflict("c2"),
        InvalidInput("d"),
        ConfigError("e"),
        Retryable("f", 7.0),
        OutcomeUnknown("g", 8.0),
    ):
        answer = Answer.from_json(json.loads(json.dumps(Answer.of_error("1", error).to_json())))
        with pytest.raises(type(error), match=str(error)) as caught:
            answer.result()
        assert type(caught.value) is type(error)
    with pytest.raises(Rejected, match="something"):
        Answer("1", "something new", {}).result()


def test_versions_that_nobody_shares():
    assert choose_version((1, 2), [2, 3, "x"]) == 2
    with pytest.raises(ConfigError, match="update the bridge"):
        choose_version((3,), [1])
    with pytest.raises(ConfigError, match="update the bridge"):
        choose_version((1,), [])
    with pytest.raises(InvalidInput):
        choose_version((1,), None)


def test_an_unknown_question_is_answered(world):
    world.connect()
    with pytest.raises(Unsupported, match="does not know"):
        world.pms.desk.ask("dance", {}, 10)


def test_a_table_that_the_driver_does_not_read(world):
    world.connect()
    with pytest.raises(Rejected, match="does not read"):
        world.pms.desk.ask(Method.PULL, {"table": "ledger"}, 10)
    with pytest.raises(InvalidInput, match="rows"):
        world.pms.desk.ask(Method.PULL, {"table": "admin.v_appt", "limit": 10**9}, 10)


def test_the_node_restarts_and_the_bridge_dials_again(world):
    world.connect()
    world.stop_listening()
    until(lambda: "does not answer" in world.bridge.line)
    world.listen()
    world.await_schedule()
    assert world.pms.execute(commlog()).key
    notices = {each.kind for each in world.bridge.journal.notices()}
    until(lambda: not world.bridge.journal.notices(), what="the notices' way to the node")
    assert notices <= {"line"}


def test_a_newer_hello_ends_the_older_session(world):
    world.connect()
    world.stop_bridge()
    link = Link(world.url, Identity(world.clinic).context())
    about = {"pms": "dentrix", "now": world.clock().isoformat()}
    first = link.hello(about)
    second = link.hello(about)
    with pytest.raises(SessionEnded):
        link.next(first, {"now": world.clock().isoformat()})
    assert link.next(second, {"now": world.clock().isoformat()}).requests == ()
    link.close()


def test_what_was_handed_out_and_lost_is_handed_out_again():
    desk = Desk()
    guest = Guest({"pms": "dentrix"}, 2, timedelta())
    first = desk.greet(guest)
    results = []
    asker = threading.Thread(
        target=lambda: results.append(desk.ask(Method.PULL, {"table": "t"}, 10))
    )
    asker.start()
    (lost,) = desk.take(first, 5)
    assert desk.take(first, 0) == ()
    second = desk.greet(guest)
    (again,) = desk.take(second, 5)
    assert again.id == lost.id
    desk.put_answer(Answer(again.id, "ok", {"n": 1}))
    desk.put_answer(Answer(again.id, "ok", {"n": 2}))
    asker.join()
    assert results == [{"n": 1}]


def test_a_question_tells_its_age_when_it_is_handed_out_again():
    now = [0.0]
    desk = Desk(monotonic=lambda: now[0])
    guest = Guest({}, 2, timedelta())
    first = desk.greet(guest)
    asker = threading.Thread(target=lambda: desk.ask(Method.WRITE, {}, 50))
    asker.start()
    (fresh,) = desk.take(first, 5)
    now[0] = 20.0
    (again,) = desk.take(desk.greet(guest), 5)
    assert (fresh.age_s, again.age_s) == (0.0, 20.0)
    assert Request.from_json(json.loads(json.dumps(again.to_json()))) == again
    desk.put_answer(Answer(again.id, "ok", {}))
    asker.join()


def test_an_answer_that_never_comes_leaves_the_outcome_unknown():
    desk = Desk()
    with pytest.raises(Retryable, match="not connected") as away:
        desk.ask(Method.WRITE, {}, 0.1)
    assert not isinstance(away.value, OutcomeUnknown)
    session = desk.greet(Guest({}, 2, timedelta()))
    with pytest.raises(Retryable, match="not connected") as unseen:
        desk.ask(Method.WRITE, {}, 0.1)
    assert not isinstance(unseen.value, OutcomeUnknown), "nobody fetched it"
    taker = threading.Thread(target=lambda: desk.take(session, 5))
    taker.start()
    with pytest.raises(OutcomeUnknown):
        desk.ask(Method.WRITE, {}, 0.3)
    taker.join()


def test_a_silent_bridge_counts_as_away():
    now = [0.0]
    desk = Desk(monotonic=lambda: now[0])
    desk.greet(Guest({}, 2, timedelta()))
    assert desk.guest.version == 2
    now[0] = 61.0
    with pytest.raises(Retryable, match="not connected"):
        _ = desk.guest


def test_the_nodes_kill_switch_holds_everything(world):
    world.connect()
    registry.set_stopped(world.db, world.actor, True, "maintenance")
    until(lambda: heartbeat(world).get("stopped") == "stopped by the node")
    with pytest.raises(Retryable, match="stopped by the node"):
        world.pms.execute(commlog())
    assert world.office.entries() == []
    registry.set_stopped(world.db, world.actor, False)
    until(lambda: heartbeat(world).get("stopped") == "")
    assert world.pms.execute(commlog()).key


def heartbeat(world):
    with read(world.db) as conn:
        return registry.state_of(conn, "main").heartbeat


def test_a_stopped_bridge_makes_the_schedule_stale_not_old(world):
    world.connect()
    (world.clinic / "STOP").touch()
    until(lambda: "STOP" in str(heartbeat(world).get("stopped")))
    world.pms.stale_s = 0.0
    today = world.office_today()
    with pytest.raises(Retryable, match=r"has not read Dentrix's schedule since .*STOP"):
        world.pms.appointments(today, today)


def test_the_clocks_difference_is_measured_and_taken_away(world):
    world.connect()
    world.bridge.stop()
    real = world.clock
    world.clock = lambda: real() + timedelta(hours=2)
    world.start_bridge()
    world.await_schedule()
    assert abs(world.pms.clock_offset() - timedelta(hours=2)) < timedelta(seconds=10)
    before = real()
    with world.office.writing() as db:
        db.execute("UPDATE v_patient SET last_name = 'Renamed' WHERE patient_id = 3")
    until(lambda: [each.key for each in world.pms.patients(before)] == ["3"])
    assert world.pms.patients(real() + timedelta(minutes=5)) == ()


def test_the_wrong_practice_system_or_zone_is_refused(world):
    world.listen()
    world.enrol()
    world.write_settings()
    link = Link(world.url, Identity(world.clinic).context())
    with pytest.raises(ConfigError, match="expects a bridge to dentrix"):
        link.hello({"pms": "eaglesoft", "now": world.clock().isoformat()})
    elsewhere = {"now": world.clock().isoformat(), "time_zone": "America/Chicago"}
    with pytest.raises(ConfigError, match="office is in America/Chicago"):
        link.hello({"pms": "dentrix", **elsewhere})
    with pytest.raises(Rejected, match="time cannot be read"):
        link.hello({"pms": "dentrix", "now": "yesterday"})
    link.close()


# --- signed packages --------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path):
    pem, public = new_signing_key()
    wheel = tmp_path / "dist" / "bitewing-9.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"a wheel" * 1000)
    return sign_package(wheel, "9.1.0", pem), public, wheel


def test_a_signed_package_is_fetched_and_staged(world, release):
    package, public, wheel = release
    world.settings = f'update_key = "{public}"'
    world.connect()
    packages = world.config.node.data_dir / "bridge" / "packages"
    packages.mkdir(parents=True)
    (packages / f"{package.sha256}.whl").write_bytes(wheel.read_bytes())
    registry.set_offer(world.db, world.actor, package.to_json())
    until(lambda: heartbeat(world).get("staged") == "9.1.0")
    staged = world.clinic / "updates" / "9.1.0" / wheel.name
    assert staged.read_bytes() == wheel.read_bytes()


def test_a_package_that_is_not_signed_by_the_release_key_is_never_fetched(world, release):
    package, _, _ = release
    _, other = new_signing_key()
    world.settings = f'update_key = "{other}"'
    world.connect()
    registry.set_offer(world.db, world.actor, package.to_json())
    until(lambda: any(each.kind == "update_refused" for each in seen_notices(world)))
    assert not (world.clinic / "updates").exists()


def seen_notices(world):
    return world.bridge.journal.notices()


def test_wrong_packages_are_refused(release, tmp_path):
    package, public, wheel = release
    content = wheel.read_bytes()
    updates = Updates(tmp_path / "updates", public, "0.1.0")

    def changed(**fields):
        return Package.from_json({**package.to_json(), **fields})

    for wrong in (
        changed(version="9.2.0"),
        changed(size=package.size + 1),
        changed(sha256="0" * 64),
        changed(signature=base64.b64encode(b"x" * 64).decode()),
        changed(signature="not base64!"),
    ):
        with pytest.raises(Rejected, match="not signed"):
            updates.stage(wrong, lambda _: content)
    for damaged in (content[:-1], content + b"x", b"y" * len(content)):
        with pytest.raises(Rejected, match="not what was signed"):
            updates.stage(package, lambda _, damaged=damaged: damaged)
    assert updates.staged is None
    with pytest.raises(ConfigError, match="update_key"):
        Updates(tmp_path / "updates", "", "0.1.0").stage(package, lambda _: content)
    with pytest.raises(ConfigError, match="not an Ed25519"):
        verify(package, "AAAA")
    with pytest.raises(Rejected, match="not newer"):
        Updates(tmp_path / "updates", public, "10.0.0").stage(package, lambda _: content)
    updates.stage(package, lambda _: content)
    with pytest.raises(Rejected, match="not newer"):
        updates.stage(package, lambda _: content)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": "../../etc"},
        {"wheel": "../evil.whl"},
        {"wheel": "numpy-1.0-py3-none-any.whl"},
        {"sha256": "../../x"},
        {"size": 0},
        {"size": 10**12},
    ],
)
def test_manifests_that_reach_out_of_their_folder(release, fields):
    with pytest.raises(InvalidInput):
        Package.from_json({**release[0].to_json(), **fields})


def test_a_staged_package_that_was_changed_is_not_installed(release, tmp_path):
    package, public, wheel = release
    updates = Updates(tmp_path / "updates", public, "0.1.0")
    with pytest.raises(Rejected, match="no package is staged"):
        updates.install()
    path = updates.stage(package, lambda _: wheel.read_bytes())
    path.write_bytes(b"something else")
    with pytest.raises(Rejected, match="not what was signed"):
        updates.install()


def test_a_staged_package_is_installed_by_pip(tmp_path):
    """Into a folder of its own, so that the program under test stays as it is."""
    pem, public = new_signing_key()
    wheel = tmp_path / "bitewing-9.1.0-py3-none-any.whl"
    info = "bitewing-9.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("bitewing_marker.py", "here = True\n")
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: bitewing\nVersion: 9.1.0\n")
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(
            f"{info}/RECORD", f"bitewing_marker.py,,\n{info}/METADATA,,\n{info}/RECORD,,\n"
        )
    package = sign_package(wheel, "9.1.0", pem)
    updates = Updates(tmp_path / "updates", public, "0.1.0")
    updates.stage(package, lambda _: wheel.read_bytes())
    assert updates.install(("--target", str(tmp_path / "site"))) == "9.1.0"
    assert (tmp_path / "site" / "bitewing_marker.py").exists()
    assert updates.staged is None


def test_a_signed_file_that_is_no_wheel_is_refused_by_pip(release, tmp_path):
    package, public, wheel = release
    updates = Updates(tmp_path / "updates", public, "0.1.0")
    updates.stage(package, lambda _: wheel.read_bytes())
    with pytest.raises(Rejected, match="pip refused"):
        updates.install(("--target", str(tmp_path / "site")))
    assert updates.staged == package
