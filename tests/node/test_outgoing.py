"""Where the program connects to: judged by the number, whatever the name says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path

import httpx2
import pytest

from node.config import read_config
from node.domain.destinations import Reach
from node.errors import ConfigError
from node.outgoing import open_client

TIMEOUT = httpx2.Timeout(20.0)
LABS = Reach("labs", (ip_network("192.168.7.0/24"),))
OFFICE = Reach("pms", takes_near=True)


class _Echo(BaseHTTPRequestHandler):
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"{self.headers['host']}{self.path}")
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("location", "http://localhost:1/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _server() -> Iterator[tuple[int, list[str]]]:
    seen: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Echo", (_Echo,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("reach", "host", "number", "is_allowed"),
    [
        (LABS, "lab.example", "93.184.215.14", True),
        (LABS, "lab.example", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        (LABS, "lab.example", "192.168.7.20", True),
        (LABS, "lab.example", "192.168.8.20", False),
        (LABS, "192.168.8.20", "192.168.8.20", False),
        (LABS, "lab.example", "10.0.0.1", False),
        (LABS, "lab.example", "100.64.0.1", False),
        (LABS, "lab.example", "127.0.0.1", False),
        (LABS, "lab.example", "::1", False),
        (LABS, "lab.example", "::ffff:127.0.0.1", False),
        (LABS, "lab.example", "64:ff9b::7f00:1", False),
        (LABS, "lab.example", "64:ff9b::a00:1", False),
        (LABS, "lab.example", "2002:7f00:1::", False),
        (LABS, "lab.example", "fd12::1", False),
        (LABS, "lab.example", "0.0.0.0", False),
        (LABS, "lab.example", "224.0.0.1", False),
        (LABS, "lab.example", "169.254.169.254", False),
        (LABS, "169.254.169.254", "169.254.169.254", False),
        (LABS, "lab.example", "fe80::1%1", False),
        (LABS, "localhost", "127.0.0.1", True),
        (LABS, "127.0.0.1", "127.0.0.1", True),
        (OFFICE, "server", "192.168.1.10", True),
        (OFFICE, "192.168.1.10", "192.168.1.10", True),
        (OFFICE, "server", "93.184.215.14", False),  # named near, stands outside
        (OFFICE, "api.vendor.example", "192.168.1.10", False),
        (OFFICE, "api.vendor.example", "93.184.215.14", True),
    ],
)
def test_a_party_is_reached_where_it_may_stand(
    reach: Reach, host: str, number: str, is_allowed: bool
) -> None:
    assert reach.allows(host, number) is is_allowed


@pytest.mark.parametrize("number", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"])
def test_no_list_opens_the_metadata_of_a_cloud(number: str) -> None:
    everything = Reach("labs", (ip_network("0.0.0.0/0"), ip_network("::/0")), takes_near=True)
    assert not everything.allows("lab.example", number)


def test_a_public_name_that_stands_for_this_machine_is_refused() -> None:
    with (
        _server() as (port, seen),
        open_client(LABS, timeout=TIMEOUT, resolve=lambda *_: ["127.0.0.1"]) as client,
        pytest.raises(ConfigError, match="private_networks"),
    ):
        client.get(f"http://lab.example:{port}/")
    assert seen == []


def test_the_number_that_was_judged_is_the_one_connected_to() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])  # the name changes after the first look
    with (
        _server() as (port, seen),
        open_client(LABS, timeout=TIMEOUT, resolve=lambda *_: next(answers)) as client,
    ):
        assert client.get(f"http://localhost:{port}/first").status_code == 200
        with pytest.raises(ConfigError):  # a new connection is a new look
            client.get(f"http://localhost:{port + 1 if port < 65535 else 1}/second")
    assert seen == [f"localhost:{port}/first"]


def test_of_several_numbers_only_the_allowed_are_tried() -> None:
    with (
        _server() as (port, seen),
        open_client(
            LABS, timeout=TIMEOUT, resolve=lambda *_: ["169.254.169.254", "::1", "127.0.0.1"]
        ) as client,
    ):
        assert client.get(f"http://localhost:{port}/").status_code == 200
    assert len(seen) == 1


def test_a_redirect_is_not_followed() -> None:
    with _server() as (port, seen), open_client(LABS, timeout=TIMEOUT) as client:
        assert client.get(f"http://127.0.0.1:{port}/away").status_code == 302
    assert seen == [f"127.0.0.1:{port}/away"]


def test_an_unknown_name_is_a_connection_that_was_not_made() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("unknown")

    with (
        open_client(LABS, timeout=TIMEOUT, resolve=unknown) as client,
        pytest.raises(httpx2.ConnectError),
    ):
        client.get("http://lab.example/")


def test_private_networks_are_configured_for_each_party(tmp_path: Path) -> None:
    file = tmp_path / "bitewing.toml"
    file.write_text('[outgoing]\nprivate_networks = {labs = ["10.1.0.0/16"]}\n')
    outgoing = read_config(file, {}).outgoing
    assert outgoing.reach("labs").allows("lab.example", "10.1.2.3")
    assert not outgoing.reach("payers").allows("payer.example", "10.1.2.3")
    file.write_text('[outgoing]\nprivate_networks = {labs = ["ten"]}\n')
    with pytest.raises(ConfigError, match="no address or network"):
        read_config(file, {})
