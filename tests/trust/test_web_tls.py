"""The page over TLS: certificates replaced while it runs, and the way there from a plain port."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from fastapi import FastAPI

from node import local_ca
from node.config import WebSection
from node.db.migrate import migrate
from node.db.session import Actor, open_database
from node.errors import ConfigError
from node.local_ca import Kind, LocalAuthority, Request
from node.private_file import write_private
from node.web import problems
from node.web_server import WebServer


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    db = open_database(f"sqlite:///{tmp_path / 'bitewing.sqlite'}")
    migrate(db)
    return local_ca.create(tmp_path / "ca", db, Actor("cli", "main"), datetime.now(UTC))


def install(authority: LocalAuthority, folder: Path) -> WebSection:
    made = authority.issue(Request(Kind.WEB, "web", ("localhost", "127.0.0.1")), datetime.now(UTC))
    write_private(folder / "web.key", made.key)
    write_private(folder / "web.pem", made.certificate)
    return WebSection(
        port=0, tls_certificate=str(folder / "web.pem"), tls_key=str(folder / "web.key")
    )


@contextmanager
def serving(section: WebSection) -> Iterator[WebServer]:
    app = FastAPI()
    problems.install(app)

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    server = WebServer(section, app)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def shown(server: WebServer, authority: LocalAuthority) -> int:
    """Read which certificate a new caller is shown; the name and the root are proved."""
    context = ssl.create_default_context(cafile=authority.root_path)
    with closing(context.wrap_socket(_connect(server.port), server_hostname="localhost")) as sock:
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


def _connect(port: int):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_the_page_is_served_over_tls_and_says_so(authority, tmp_path):
    with serving(install(authority, tmp_path)) as server:
        context = ssl.create_default_context(cafile=authority.root_path)
        with httpx2.Client(verify=context, timeout=30) as client:
            answer = client.get(f"https://localhost:{server.port}/hello")
        assert answer.json() == "hello"
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"http://localhost:{server.port}/hello", timeout=30)


def test_without_tls_nothing_promises_it():
    with serving(WebSection(port=0)) as server:
        answer = httpx2.get(f"http://127.0.0.1:{server.port}/hello", timeout=30)
    assert "strict-transport-security" not in answer.headers


def test_a_renewed_certificate_is_shown_without_a_restart(authority, tmp_path):
    section = install(authority, tmp_path)
    with serving(section) as server:
        first = shown(server, authority)
        assert not server.refresh_certificates()
        install(authority, tmp_path)
        assert server.refresh_certificates()
        second = shown(server, authority)
        install(authority, tmp_path)
        assert server.refresh_certificates()
        assert len({first, second, shown(server, authority)}) == 3


def test_half_a_renewal_changes_nothing_until_it_is_whole(authority, tmp_path):
    section = install(authority, tmp_path)
    with serving(section) as server:
        first = shown(server, authority)
        key = (tmp_path / "web.key").read_bytes()
        (tmp_path / "other").mkdir()
        install(authority, tmp_path / "other")
        write_private(tmp_path / "web.key", (tmp_path / "other" / "web.key").read_bytes())
        assert not server.refresh_certificates()
        assert shown(server, authority) == first
        write_private(tmp_path / "web.key", key)
        (tmp_path / "web.pem").unlink()
        assert not server.refresh_certificates()
        assert shown(server, authority) == first


@pytest.mark.parametrize(
    ("host", "leads_to"),
    [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("evil.example", "localhost")],
)
def test_the_plain_port_leads_to_our_own_name_only(authority, tmp_path, host, leads_to):
    plain = _free_port()
    section = install(authority, tmp_path).model_copy(update={"redirect_port": plain})
    with serving(section) as server:
        answer = httpx2.get(
            f"http://127.0.0.1:{plain}/review/abc?x=1",
            headers={"host": host},
            follow_redirects=False,
            timeout=30,
        )
        assert answer.status_code == 308
        assert answer.headers["location"] == f"https://{leads_to}:{server.port}/review/abc?x=1"


def test_a_way_to_tls_needs_tls():
    with pytest.raises(ConfigError, match="tls_certificate"):
        WebServer(WebSection(port=0, redirect_port=_free_port()), FastAPI()).start()


def test_behind_our_own_tls_cookies_travel_over_nothing_else():
    assert WebSection(tls_certificate="web.pem").cookies_are_secure
    assert not WebSection().cookies_are_secure


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path, content):
    path = tmp_path / "web.pem"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"web\.tls_certificate"):
        WebServer(WebSection(port=0, tls_certificate=str(path)), FastAPI()).start()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
