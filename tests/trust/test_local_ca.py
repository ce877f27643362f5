"""The practice's own authority: what it certifies, what it refuses, what it takes back."""

import os
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from cryptography import x509
from typer.testing import CliRunner

from node import local_ca
from node.__main__ import cli
from node.db import tables
from node.db.migrate import migrate
from node.db.session import Actor, open_database, read
from node.domain.destinations import PUBLIC_ONLY
from node.errors import ConfigError, InvalidInput, NotFound, Rejected
from node.local_ca import Kind, LocalAuthority, Request
from node.outgoing import open_client

NOW = datetime.now(UTC).replace(microsecond=0)
ACTOR = Actor("cli", "main")


@pytest.fixture
def db(tmp_path: Path) -> sa.Engine:
    engine = open_database(f"sqlite:///{tmp_path / 'bitewing.sqlite'}")
    migrate(engine)
    return engine


@pytest.fixture
def authority(db: sa.Engine, tmp_path: Path) -> LocalAuthority:
    return local_ca.create(tmp_path / "ca", db, ACTOR, NOW, domains=["smile.example"])


def verify(root: Path, certificate: Path, *options: str) -> str:
    """Ask OpenSSL, which has the last word in most programs."""
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(root), *options]
    done = subprocess.run(
        [*command, str(certificate)], capture_output=True, text=True, timeout=60, check=False
    )
    return (done.stdout + done.stderr).strip()


def kept(folder: Path, issued: local_ca.Issued) -> Path:
    path = folder / f"{issued.serial}.pem"
    path.write_bytes(issued.certificate)
    path.with_suffix(".key").write_bytes(issued.key)
    return path


@pytest.mark.parametrize(
    ("kind", "purposes"),
    [
        (Kind.WEB, ["sslserver"]),
        (Kind.DICOM, ["sslserver", "sslclient"]),
        (Kind.PEER, ["sslserver", "sslclient"]),
    ],
)
def test_a_certificate_holds_for_its_purpose_and_its_hosts(authority, tmp_path, kind, purposes):
    hosts = ("node.lan", "192.168.7.2", "page.smile.example")
    made = authority.issue(Request(kind, "node", hosts), NOW)
    path = kept(tmp_path, made)
    for purpose in ("sslserver", "sslclient"):
        said = verify(authority.root_path, path, "-purpose", purpose)
        assert ("OK" in said) is (purpose in purposes), said
    assert "OK" in verify(authority.root_path, path, "-verify_hostname", "node.lan")
    assert "OK" in verify(authority.root_path, path, "-verify_ip", "192.168.7.2")
    assert "mismatch" in verify(authority.root_path, path, "-verify_hostname", "other.lan")
    assert made.expires_at - NOW <= timedelta(days=825)


@pytest.mark.parametrize(
    "host", ["bank.example", "8.8.8.8", "evil.smile.example.com", "smile.example.", "a b", "*.lan"]
)
def test_nothing_outside_the_office_is_certified(authority, host):
    with pytest.raises(InvalidInput):
        authority.issue(Request(Kind.WEB, "web", (host,)), NOW)


def test_a_stolen_root_key_certifies_nothing_outside_either(authority, tmp_path):
    """The constraint stands in the root itself, whoever signs."""
    from node import certificates

    key = certificates.new_key()
    builder = certificates.build(
        certificates.common_name("x", "y"), key.public_key(), NOW, NOW + timedelta(days=9)
    ).add_extension(certificates.alternative_names(["bank.example"]), critical=False)
    built = certificates.sign(builder, authority.certificate.subject, authority.key)
    path = tmp_path / "bank.pem"
    path.write_bytes(certificates.pem_of(built))
    assert "permitted subtree violation" in verify(authority.root_path, path)


def test_a_revoked_certificate_is_refused_and_others_go_on(authority, tmp_path):
    good = authority.issue(Request(Kind.PEER, "sensor-1", ()), NOW)
    lost = authority.issue(Request(Kind.PEER, "sensor-2", ()), NOW)
    checks = ("-crl_check", "-CRLfile", str(authority.revoked_path))
    assert "OK" in verify(authority.root_path, kept(tmp_path, lost), *checks)
    authority.revoke(lost.serial, "stolen", NOW + timedelta(seconds=1))
    assert "revoked" in verify(authority.root_path, kept(tmp_path, lost), *checks)
    assert "OK" in verify(authority.root_path, kept(tmp_path, good), *checks)
    with pytest.raises(Rejected):
        authority.revoke(lost.serial, "again", NOW)
    with pytest.raises(NotFound):
        authority.revoke("abc", "none", NOW)
    with read(authority.db) as conn:
        rows = {row.name: row for row in local_ca.issued(conn, "main")}
    assert rows["sensor-2"].reason == "stolen"
    assert rows["sensor-1"].revoked_at is None


def test_the_root_is_made_once_and_its_key_is_private(authority, db, tmp_path):
    with pytest.raises(Rejected):
        local_ca.create(tmp_path / "ca", db, ACTOR, NOW)
    key = tmp_path / "ca" / "root.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        local_ca.open_authority(tmp_path / "ca", db, ACTOR)


def test_under_a_passphrase_the_key_opens_only_with_it(db, tmp_path):
    local_ca.create(tmp_path / "ca", db, ACTOR, NOW, passphrase=b"correct horse")
    assert b"ENCRYPTED" in (tmp_path / "ca" / "root.key").read_bytes()
    with pytest.raises(ConfigError, match="needs its passphrase"):
        local_ca.open_authority(tmp_path / "ca", db, ACTOR)
    with pytest.raises(ConfigError, match="passphrase is another"):
        local_ca.open_authority(tmp_path / "ca", db, ACTOR, b"wrong")
    local_ca.open_authority(tmp_path / "ca", db, ACTOR, b"correct horse")


def test_a_machine_may_keep_its_own_key(authority, tmp_path):
    key, request = tmp_path / "sensor.key", tmp_path / "sensor.csr"
    subprocess.run(
        [
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(request), "-subj", "/CN=bank.example"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    made = authority.issue(Request(Kind.PEER, "sensor", (), request.read_bytes()), NOW)
    assert made.key == b""
    assert "bank.example" not in str(x509.load_pem_x509_certificate(made.certificate).subject)
    assert "OK" in verify(authority.root_path, kept(tmp_path, made))
    with pytest.raises(InvalidInput):
        authority.issue(Request(Kind.PEER, "sensor", (), b"no request"), NOW)


def test_everything_is_written_in_the_audit(authority):
    made = authority.issue(Request(Kind.WEB, "web", ("node.lan",)), NOW)
    authority.revoke(made.serial, "lost", NOW)
    with read(authority.db) as conn:
        actions = list(conn.execute(sa.select(tables.audit.c.action)).scalars())
    assert [each for each in actions if each.startswith(("authority", "certificate"))] == [
        "authority.made",
        "certificate.issued",
        "certificate.revoked",
    ]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["ca", *arguments, "--data-dir", str(tmp_path / "data")])
        if code == 0 and done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code or code != 0, done.output
        return done.output

    return call


def test_the_commands_from_the_root_to_a_renewed_certificate(run, tmp_path):
    assert "root.pem" in run("create", "--domain", "smile.example")
    run("issue", "web", "--host", "page.smile.example", "--host", "192.168.7.2")
    web = tmp_path / "data" / "tls" / "web.pem"
    assert stat.S_IMODE(web.with_suffix(".key").stat().st_mode) == 0o600
    first = x509.load_pem_x509_certificate(web.read_bytes())
    run("issue", "peer", "sensor-1", "--out", str(tmp_path / "carry"))
    assert (tmp_path / "carry" / "sensor-1.key").exists()
    run("renew", "web")
    second = x509.load_pem_x509_certificate(web.read_bytes())
    assert first.serial_number != second.serial_number
    listed = run("list")
    assert listed.count("page.smile.example 192.168.7.2") == 2
    assert "sensor-1" in listed
    run("revoke", f"{first.serial_number:x}", "--reason", "renewed")
    assert "revoked" in run("list")
    with pytest.raises(InvalidInput, match="bitewing bridge token"):
        run("issue", "bridge")


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(("host", "is_taken"), [("localhost", True), ("127.0.0.1", False)])
def test_a_guarded_connection_still_proves_the_name(
    authority, tmp_path, monkeypatch, host, is_taken
):
    """The client connects to a number, and demands the name that was asked for."""
    path = kept(tmp_path, authority.issue(Request(Kind.WEB, "web", ("localhost",)), NOW))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path.with_suffix(".key"))
    server = HTTPServer(("127.0.0.1", 0), _Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(authority.root_path))
    timeout = httpx2.Timeout(30.0)
    try:
        with closing(open_client(PUBLIC_ONLY, timeout=timeout, uses_proxy=True)) as client:
            url = f"https://{host}:{server.server_port}/"
            if is_taken:
                assert client.get(url).status_code == 200
            else:
                with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
                    client.get(url)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
