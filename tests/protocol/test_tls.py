"""TLS: DCMTK as client and server, one-sided and mutual; nobody waits for a silent handshake."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from pydicom.uid import generate_uid

from node.config import PeerSection
from node.db.tables import instance
from node.dicom.send import send_object
from node.errors import ConfigError, Retryable
from tests.protocol.certificates import Authority
from tests.protocol.conftest import Node, make_film, tool, wait_until, write

pytestmark = pytest.mark.protocol


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(start: Callable[..., Node], authority: Authority) -> Callable[..., Node]:
    certificate, key = authority.issue("node")

    def begin(**more: object) -> Node:
        return start(tls_certificate=str(certificate), tls_key=str(key), **more)

    return begin


def echo(port: int, *options: str) -> bool:
    command = [tool("echoscu"), "-v", *options, "127.0.0.1", str(port)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def test_storescu_brings_an_image_over_tls(secure, authority, tmp_path):
    node = secure()
    path = write(make_film(), tmp_path / "film.dcm")
    subprocess.run(
        [
            *(tool("storescu"), "+tla", "+cf", str(authority.path)),
            *("127.0.0.1", str(node.listener.tls_port), str(path)),
        ],
        check=True,
        timeout=60,
    )
    assert len(node.rows(instance)) == 1
    assert echo(node.port), "the plain port goes on"


def test_one_port_never_speaks_for_the_other(secure, authority):
    node = secure()
    assert not echo(node.listener.tls_port)
    assert not echo(node.port, "+tla", "+cf", str(authority.path))


def test_with_an_authority_a_client_needs_its_certificate(secure, authority, tmp_path):
    node = secure(tls_ca=str(authority.path), tls_only=True)
    certificate, key = authority.issue("sensor")
    trust = ("+cf", str(authority.path))
    port = node.listener.tls_port
    assert node.port == port
    assert echo(port, "+tls", str(key), str(certificate), *trust)
    assert not echo(port, "+tla", *trust)
    stranger, stranger_key = Authority(tmp_path, "other").issue("stranger")
    assert not echo(port, "+tls", str(stranger_key), str(stranger), *trust)
    old, old_key = authority.issue("old", days=-1)
    assert not echo(port, "+tls", str(old_key), str(old), *trust)
    assert echo(port, "+tls", str(key), str(certificate), *trust)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_with_forward_secrecy(secure, authority, version):
    node = secure()
    context = ssl.create_default_context(cafile=authority.path)
    context.minimum_version = context.maximum_version = version
    address = ("127.0.0.1", node.listener.tls_port)
    with (
        socket.create_connection(address) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped,
    ):
        name, _, bits = wrapped.cipher()
        assert bits >= 128
        assert "GCM" in name or "CHACHA20" in name


def test_weak_ciphers_are_refused(secure, authority):
    node = secure()
    context = ssl.create_default_context(cafile=authority.path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:AES128-SHA")  # CBC, no forward secrecy
    with (
        socket.create_connection(("127.0.0.1", node.listener.tls_port)) as sock,
        pytest.raises(OSError, match=r"(?i)handshake|alert|eof|reset"),
    ):
        context.wrap_socket(sock, server_hostname="127.0.0.1")


def test_silent_clients_hold_up_nobody(secure, authority):
    node = secure()
    address = ("127.0.0.1", node.listener.tls_port)
    silent = [socket.create_connection(address) for _ in range(20)]
    try:
        assert echo(node.listener.tls_port, "+tla", "+cf", str(authority.path), "-to", "20")
    finally:
        for sock in silent:
            sock.close()


def test_a_silent_client_is_hung_up_on(secure):
    node = secure()
    with socket.create_connection(("127.0.0.1", node.listener.tls_port), timeout=60) as sock:
        assert sock.recv(1) == b"", "the node ends it by itself"


def test_connections_are_bounded_from_one_address(start):
    node = start(max_associations=1)
    opened: list[socket.socket] = []

    def is_refused(sock: socket.socket) -> bool:
        sock.settimeout(0.05)
        try:
            return sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    try:
        for _ in range(80):
            opened.append(socket.create_connection(("127.0.0.1", node.port)))
        wait_until(lambda: any(is_refused(sock) for sock in opened[66:]))
    finally:
        for sock in opened:
            sock.close()
    wait_until(lambda: echo(node.port), 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls_certificate": "/nowhere.pem"}, "tls_certificate"),
        ({"tls_only": True}, "tls_only"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_a_configuration_error(start, options, words):
    with pytest.raises(ConfigError, match=words):
        start(**options)


@pytest.fixture
def archive(authority, tmp_path) -> Iterator[int]:
    """Run DCMTK's storescp with TLS, asking for a certificate."""
    certificate, key = authority.issue("archive")
    (tmp_path / "received").mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [
            *(tool("storescp"), "+tls", str(key), str(certificate), "+cf", str(authority.path)),
            *("-od", str(tmp_path / "received"), str(port)),
        ]
    )

    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_open)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def peer_of(port: int, **more: object) -> PeerSection:
    return PeerSection(name="a", ae_title="STORESCP", host="127.0.0.1", port=port, tls=True, **more)


def test_we_send_over_tls_with_our_certificate(archive, authority, tmp_path):
    certificate, key = authority.issue("sender")
    path = write(make_film(SOPInstanceUID=generate_uid()), tmp_path / "film.dcm")
    peer = peer_of(
        archive,
        tls_ca=str(authority.path),
        tls_certificate=str(certificate),
        tls_key=str(key),
    )
    send_object(path, peer, calling_ae="BITEWING")
    assert len(list((tmp_path / "received").iterdir())) == 1


def test_we_send_nothing_to_a_peer_we_cannot_trust(archive, tmp_path):
    other = Authority(tmp_path, "other")
    path = write(make_film(), tmp_path / "film.dcm")
    with pytest.raises(Retryable):
        send_object(path, peer_of(archive, tls_ca=str(other.path)), calling_ae="BITEWING")
    assert list((tmp_path / "received").iterdir()) == []
