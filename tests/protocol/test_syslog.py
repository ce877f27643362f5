"""The syslog sender against rsyslog by UDP, TCP and TLS, and against collectors that misbehave."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.errors import ConfigError, InvalidInput, Retryable
from node.syslog import Collector, Facility, Message, Severity, SyslogSender, Transport, encode
from tests.protocol.certificates import Authority
from tests.protocol.conftest import wait_until
from tests.protocol.rsyslog import Rsyslog, free_port, plain_tcp

pytestmark = pytest.mark.protocol

AT = datetime(2026, 11, 22, 9, 30, 15, 250_000, tzinfo=UTC)


@pytest.fixture
def collect(tmp_path: Path) -> Iterator[Callable[[str], Rsyslog]]:
    running: list[Rsyslog] = []

    def begin(inputs: str) -> Rsyslog:
        running.append(Rsyslog(tmp_path, inputs))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


def is_sent(sender: SyslogSender, *messages: Message) -> bool:
    """Send; False while the collector is still starting."""
    try:
        sender.send(messages)
    except Retryable:
        return False
    return True


def test_a_message_has_the_form_of_rfc_5424():
    message = Message(
        "Prüfung\nzwei Zeilen",
        msgid="DICOM+RFC3881",
        at=AT,
        severity=Severity.WARNING,
        facility=Facility.AUTHPRIV,
        data={"head@32473": {"seq": "17", "odd": 'a"b]c\\d'}},
    )
    line = encode(message, "bitewing", "praxis node\n7")
    header, _, text = line.partition(b"\xef\xbb\xbf")
    assert re.fullmatch(
        rb"<84>1 2026-11-22T09:30:15\.250Z praxis_node_7 bitewing \d+ DICOM\+RFC3881 "
        rb'\[head@32473 seq="17" odd="a\\"b\\]c\\\\d"\] ',
        header,
    )
    assert text.decode() == "Prüfung\nzwei Zeilen"


def test_rsyslog_reads_what_came_by_tcp(collect):
    port = free_port()
    collector = collect(plain_tcp(port))
    sender = SyslogSender(Collector("127.0.0.1", port, Transport.TCP), host_name="praxis")
    messages = [Message(f"nummer {n} ü", "anchor", AT, data={"h@1": {"n": str(n)}}) for n in (1, 2)]
    wait_until(lambda: is_sent(sender, *messages))
    wait_until(lambda: len(collector.lines()) >= 2)
    first = collector.lines()[0].split("|")
    assert first[:6] == [
        *("85", "2026-11-22T09:30:15.250Z", "praxis", "bitewing", "anchor", '[h@1 n="1"]')
    ]
    assert first[6].lstrip("\ufeff") == "nummer 1 ü"
    assert "nummer 2" in collector.lines()[1]


def test_rsyslog_takes_a_batch_over_mutual_tls(collect, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("collector")
    port = free_port()
    collector = collect(
        f'global(DefaultNetstreamDriver="ossl" '
        f'DefaultNetstreamDriverCAFile="{authority.path}" '
        f'DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}")\n'
        'module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" '
        'StreamDriver.Authmode="x509/certvalid")\n'
        f'input(type="imtcp" port="{port}" address="127.0.0.1")'
    )
    own, own_key = authority.issue("node")
    known = Collector(
        "127.0.0.1", port, ca=str(authority.path), certificate=str(own), key=str(own_key)
    )
    wait_until(lambda: is_sent(SyslogSender(known), *(Message(f"eins {n}") for n in range(200))))
    wait_until(lambda: len(collector.lines()) >= 200)
    stranger = Authority(tmp_path, "other")
    doubted = Collector("127.0.0.1", port, ca=str(stranger.path))
    with pytest.raises(Retryable, match="TLS failed"):
        SyslogSender(doubted).send([Message("to somebody else")])
    assert not [line for line in collector.lines() if "somebody else" in line]


def test_rsyslog_reads_a_datagram(collect):
    port = free_port(socket.SOCK_DGRAM)
    collector = collect(
        f'module(load="imudp")\ninput(type="imudp" port="{port}" address="127.0.0.1")'
    )
    sender = SyslogSender(Collector("127.0.0.1", port, Transport.UDP))

    def arrived() -> bool:
        return is_sent(sender, Message("by datagram")) and bool(collector.lines())

    wait_until(arrived)
    with pytest.raises(InvalidInput, match="too long for UDP"):
        sender.send([Message("x" * 70_000)])


def test_what_is_not_confirmed_is_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = Collector("127.0.0.1", server.getsockname()[1], Transport.TCP, timeout_s=0.3)
        with pytest.raises(Retryable, match="did not confirm"):
            SyslogSender(where).send([Message("into the void")])
    with pytest.raises(Retryable, match="cannot be reached"):
        SyslogSender(where).send([Message("nobody there")])


def test_a_collector_that_hangs_up_unread_has_not_taken_it():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        where = Collector("127.0.0.1", server.getsockname()[1], Transport.TCP)
        with pytest.raises(Retryable):
            SyslogSender(where).send([Message("y" * 2_000_000)])
        thread.join()


def test_a_collector_that_closes_without_a_word_over_tls_has_read_all(tmp_path):
    """Not every collector answers close_notify; reading to the end is what counts."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("collector"))
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def read_all() -> None:
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                while piece := secured.recv(4096):
                    received.extend(piece)

        thread = threading.Thread(target=read_all)
        thread.start()
        port = server.getsockname()[1]
        SyslogSender(Collector("127.0.0.1", port, ca=str(authority.path))).send([Message("all")])
        thread.join()
    assert received.endswith(b"all")


def test_a_certificate_that_is_none_is_said_at_once(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="syslog"):
        SyslogSender(Collector("127.0.0.1", 1, ca=str(tmp_path / "ca.pem")))
