"""Certificates: enrolment by token, renewal, revocation, and who is turned away."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from node.certificates import serial_of
from node.db.session import read
from node.errors import ConfigError, InvalidInput, NotFound, Rejected, Retryable
from pms_writeback.bridge import identity, registry
from pms_writeback.bridge.authority import location_of, open_authority
from pms_writeback.bridge.identity import Identity
from pms_writeback.bridge.link import Link
from pms_writeback.bridge.token import EnrolmentToken
from tests.pms_writeback.bridge_world import clinic, node_config, until, utc_now


class Clock:
    """The real time and what was added to it."""

    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return utc_now() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(tmp_path, sqlite_database, clock):
    with clinic(tmp_path, sqlite_database, clock=clock) as world:
        world.listen()
        yield world


def hello(world, folder=None):
    link = Link(world.url, Identity(folder or world.clinic).context())
    try:
        return link.hello({"pms": "dentrix", "now": world.clock().isoformat()})
    finally:
        link.close()


def issued(world):
    with read(world.db) as conn:
        return registry.certificates(conn, "main")


def test_a_token_enrols_one_bridge_once(world, tmp_path):
    token = world.token()
    mine = identity.enrol(world.clinic, world.url, token)
    assert location_of(mine.certificate) == "main"
    assert [row.serial for row in issued(world)] == [serial_of(mine.certificate)]
    assert hello(world).version == 2
    with pytest.raises(Rejected, match="used already"):
        identity.enrol(tmp_path / "second", world.url, token)
    assert not Identity(tmp_path / "second").is_enrolled


def test_keys_are_for_their_owner_alone(world):
    world.enrol()
    node = world.config.node.data_dir / "bridge"
    for path in (world.clinic / "bridge.key", node / "authority.key", node / "server.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_an_old_token_is_refused(world, clock, tmp_path):
    token = world.token(hours=1)
    clock.ahead = timedelta(hours=2)
    with pytest.raises(Rejected, match="too old"):
        identity.enrol(tmp_path / "b", world.url, token)


@pytest.mark.parametrize("words", ["", "BWE1.x", "BWE2.secret.AAAA", "BWE1.a.!!!", "a b c"])
def test_words_that_are_no_token(words, tmp_path):
    with pytest.raises(InvalidInput, match="not an enrolment token"):
        identity.enrol(tmp_path, "https://127.0.0.1:1", words)


def test_a_false_node_gets_nothing(world, tmp_path, sqlite_database):
    """Somebody who answers at the node's address has another authority."""
    elsewhere = open_authority(tmp_path / "elsewhere", world.clock())
    token = EnrolmentToken("secret", elsewhere.sha256)
    with pytest.raises(Rejected, match="not the one that made the token"):
        identity.enrol(tmp_path / "b", world.url, str(token))
    unknown = EnrolmentToken(
        "secret", open_authority(world.config.node.data_dir / "bridge", world.clock()).sha256
    )
    with pytest.raises(Rejected, match="no such enrolment token"):
        identity.enrol(tmp_path / "b", world.url, str(unknown))


def test_no_node_at_the_address(tmp_path, world):
    token = world.token()
    world.stop_listening()
    with pytest.raises(Retryable, match="does not answer"):
        identity.enrol(tmp_path / "b", world.url, token)


def test_without_a_certificate_nothing_but_enrolment_is_open(world):
    context = ssl.create_default_context(
        cafile=world.config.node.data_dir / "bridge" / "authority.pem"
    )
    with httpx2.Client(base_url=world.url, verify=context) as anybody:
        for path in ("/bridge/hello", "/bridge/next", "/bridge/answer", "/bridge/renew"):
            assert anybody.post(path, json={}).status_code == 403
        assert anybody.get("/bridge/package/" + "0" * 64).status_code == 403
        assert anybody.post("/bridge/enrol", content=b"x" * 20_000).status_code == 422
        assert anybody.post("/bridge/enrol", content=b"[]").status_code == 422
        assert anybody.post("/bridge/enrol", json={"token": "x", "request": "y"}).status_code == 403
        assert anybody.get("/").status_code == 404


def test_a_certificate_of_another_authority_ends_the_handshake(world, tmp_path):
    elsewhere = open_authority(tmp_path / "elsewhere", world.clock())
    world.enrol()
    stranger = tmp_path / "stranger"
    request = Identity(stranger).prepare_renewal()
    certificate = elsewhere.issue(request, "main", 90, world.clock()).pem
    (stranger / "bridge.pem").write_bytes(certificate)
    (stranger / "bridge.key.next").rename(stranger / "bridge.key")
    (stranger / "authority.pem").write_bytes((world.clinic / "authority.pem").read_bytes())
    with pytest.raises(Retryable, match="does not answer"):
        hello(world, stranger)


def test_a_certificate_we_never_wrote_down_is_refused(world, tmp_path):
    """As after restoring an older database: the key is ours, the row is missing."""
    world.enrol()
    ours = open_authority(world.config.node.data_dir / "bridge", world.clock())
    stranger = tmp_path / "stranger"
    for location, words in (("main", "not known here"), ("south", "another location")):
        request = Identity(stranger).prepare_renewal()
        (stranger / "bridge.pem").write_bytes(ours.issue(request, location, 90, world.clock()).pem)
        (stranger / "bridge.key").write_bytes((stranger / "bridge.key.next").read_bytes())
        (stranger / "authority.pem").write_bytes((world.clinic / "authority.pem").read_bytes())
        with pytest.raises(ConfigError, match=words):
            hello(world, stranger)


def test_a_revoked_certificate_is_refused_on_an_open_line(world):
    world.enrol()
    link = Link(world.url, Identity(world.clinic).context())
    session = link.hello({"pms": "dentrix", "now": world.clock().isoformat()})
    (row,) = issued(world)
    registry.revoke(world.db, world.actor, row.serial, "the machine was sold")
    with pytest.raises(ConfigError, match="revoked"):
        link.next(session, {"now": world.clock().isoformat()})
    link.close()
    with pytest.raises(Rejected, match="already"):
        registry.revoke(world.db, world.actor, row.serial, "again")
    with pytest.raises(NotFound):
        registry.revoke(world.db, world.actor, "abc", "a slip")
    (row,) = issued(world)
    assert row.reason == "the machine was sold"


def test_a_bridge_renews_its_certificate_before_it_expires(world, clock):
    world.enrol()
    first = Identity(world.clinic).certificate
    world.start_bridge()
    world.await_schedule()
    assert len(issued(world)) == 1
    clock.ahead = timedelta(days=70)
    until(lambda: Identity(world.clinic).certificate != first, what="the renewal")
    renewed = Identity(world.clinic).certificate
    assert renewed.public_key() != first.public_key(), "with a new key"
    assert len(issued(world)) == 2
    world.await_schedule()
    assert not (world.clinic / "bridge.key.next").exists()


def test_a_renewal_that_was_cut_is_finished(world):
    world.enrol()
    mine = Identity(world.clinic)
    link = Link(world.url, mine.context())
    certificate = link.renew(mine.prepare_renewal())
    link.close()
    both = certificate + (world.clinic / "bridge.key.next").read_bytes()
    (world.clinic / "bridge.pem").write_bytes(both)  # killed here, before the key was moved
    mine.repair()
    assert hello(world).version == 2
    assert mine.certificate.not_valid_after_utc > datetime.now(UTC)
    assert not (world.clinic / "bridge.key.next").exists()


def test_a_certificate_for_another_key_is_not_taken(world, tmp_path):
    world.enrol()
    mine = Identity(world.clinic)
    mine.prepare_renewal()
    with pytest.raises(Rejected, match="another key"):
        mine.complete_renewal((world.clinic / "bridge.pem").read_bytes())
    assert hello(world).version == 2


def test_an_expired_certificate_is_refused(world, clock):
    world.enrol()
    clock.ahead = timedelta(days=91)
    with pytest.raises(ConfigError, match="expired"):
        hello(world)


def test_an_expired_bridge_says_that_it_must_enrol_again(world, clock):
    world.enrol()
    clock.ahead = timedelta(days=91)
    bridge = world.start_bridge()
    until(lambda: "enrol` again" in bridge.line)


def test_a_node_under_another_name_is_not_trusted(tmp_path, sqlite_database):
    with clinic(tmp_path, sqlite_database) as world:
        world.config = node_config(tmp_path, "dentrix", host="0.0.0.0")
        world.listen()
        with pytest.raises(ConfigError, match="public_name"):
            identity.enrol(world.clinic, f"https://127.0.0.2:{world.port}", world.token())
        world.stop_listening()
        world.config = node_config(tmp_path, "dentrix", host="0.0.0.0", public_name="127.0.0.2")
        world.listen()
        identity.enrol(world.clinic, f"https://127.0.0.2:{world.port}", world.token())


def test_one_bridge_a_folder(world):
    world.enrol()
    first = world.start_bridge()
    with pytest.raises(ConfigError, match="already runs"):
        world.start_bridge()
    world.stop_bridge()
    first.stop()
    world.start_bridge()


def test_a_bridge_that_was_never_enrolled_says_so(world):
    with pytest.raises(ConfigError, match="not enrolled"):
        world.start_bridge()


def test_a_damaged_authority_is_an_operators_matter(tmp_path):
    open_authority(tmp_path, utc_now())
    (tmp_path / "authority.key").unlink()
    with pytest.raises(ConfigError, match="damaged"):
        open_authority(tmp_path, utc_now())


def test_the_listeners_own_certificate_follows_its_name_and_age(tmp_path):
    authority = open_authority(tmp_path, utc_now())
    assert authority.keep_server_certificate("node.example", utc_now())
    assert not authority.keep_server_certificate("node.example", utc_now())
    assert authority.keep_server_certificate("192.0.2.7", utc_now())
    assert not authority.keep_server_certificate("192.0.2.7", utc_now() + timedelta(days=300))
    assert authority.keep_server_certificate("192.0.2.7", utc_now() + timedelta(days=320))
