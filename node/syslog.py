"""A small syslog sender: RFC 5424 messages over UDP, TCP (RFC 6587) or TLS (RFC 5425).

Syslog has no acknowledgement. Over TCP and TLS a batch therefore gets a connection of its own,
closed in order: the collector closes its side only after it has read everything, and a batch whose
end was not seen counts as not sent. The caller keeps it and sends it again; a message may arrive
twice, never not at all. UDP promises nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path

from node.domain.destinations import Reach
from node.errors import ConfigError, InvalidInput, Retryable
from node.outgoing import connect, numbers_of

_TIMEOUT_S = 10.0
_MOST_UDP_BYTES = 65_000
_BOM = b"\xef\xbb\xbf"
#: A collector may stand in the office.
OFFICE = Reach("audit", takes_near=True)


class Transport(StrEnum):
    """How messages travel."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class Facility(IntEnum):
    """The two security facilities of RFC 5424, Table 1."""

    AUTH = 4
    AUTHPRIV = 10


class Severity(IntEnum):
    """The severities of RFC 5424, Table 2, that we use."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


@dataclass(frozen=True, slots=True)
class Collector:
    """Where messages go; ``ca`` empty: the machine's own authorities are trusted."""

    host: str
    port: int
    transport: Transport = Transport.TLS
    ca: str = ""
    certificate: str = ""
    key: str = ""
    timeout_s: float = _TIMEOUT_S
    reach: Reach = OFFICE


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` may hold any character, `data` is structured data by element id."""

    text: str
    msgid: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    severity: Severity = Severity.NOTICE
    facility: Facility = Facility.AUTHPRIV
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class SyslogSender:
    """Sends batches to one collector; safe to use from several threads."""

    collector: Collector
    app_name: str = "bitewing"
    host_name: str = field(default_factory=socket.gethostname)
    _tls: ssl.SSLContext | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Read the certificates at once: ConfigError when one of them cannot be used."""
        if self.collector.transport is Transport.TLS:
            self._tls = _client_context(self.collector)

    def send(self, messages: Sequence[Message]) -> None:
        """Send all of them, in order, and see the collector take the last one.

        Raises
        ------
        Retryable
            The collector is away, refused us, or did not confirm; nothing of it may have arrived.
        InvalidInput
            A message is too long for UDP.
        ConfigError
            The collector's name leads where it may not stand; nothing was sent.
        """
        lines = [encode(message, self.app_name, self.host_name) for message in messages]
        if not lines:
            return
        try:
            if self.collector.transport is Transport.UDP:
                self._send_datagrams(lines)
            else:
                self._send_stream(lines)
        except ssl.SSLError as error:
            raise Retryable(f"the syslog collector: TLS failed ({error.reason})") from None
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise Retryable(f"the syslog collector cannot be reached ({words})") from None

    def _send_datagrams(self, lines: Sequence[bytes]) -> None:
        if any(len(line) > _MOST_UDP_BYTES for line in lines):
            raise InvalidInput("an audit message is too long for UDP; use TCP or TLS")
        where = self.collector
        number = numbers_of(where.reach, where.host, where.port)[0]
        family = socket.AF_INET6 if ":" in number else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(where.timeout_s)
            sock.connect((number, where.port))
            for line in lines:
                sock.send(line)

    def _send_stream(self, lines: Sequence[bytes]) -> None:
        """Frame by octet count (RFC 6587 3.4.1), the only way that survives line breaks."""
        with self._connected() as sock:
            sock.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines))
            _close_in_order(sock)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        where = self.collector
        with connect(where.reach, where.host, where.port, where.timeout_s) as plain:
            if self._tls is None:
                yield plain
                return
            with self._tls.wrap_socket(plain, server_hostname=where.host) as secured:
                yield secured


def encode(message: Message, app_name: str, host_name: str) -> bytes:
    """Write one message as RFC 5424 asks, its text in UTF-8 behind a byte order mark."""
    priority = message.facility * 8 + message.severity
    at = message.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    names = (_name(host_name, 255), _name(app_name, 48), str(os.getpid()), _name(message.msgid, 32))
    header = f"<{priority}>1 {at} {' '.join(names)} {_structured(message.data)} "
    return header.encode("ascii") + _BOM + message.text.encode("utf-8", "replace")


def _name(text: str, most: int) -> str:
    """Keep what a header field may hold: printable ASCII without blanks; empty is a dash."""
    return re.sub(r"[^!-~]", "_", text)[:most] or "-"


def _structured(data: Mapping[str, Mapping[str, str]]) -> str:
    elements = []
    for element, pairs in data.items():
        inside = "".join(f' {_sd_name(name)}="{_escaped(value)}"' for name, value in pairs.items())
        elements.append(f"[{_sd_name(element)}{inside}]")
    return "".join(elements) or "-"


def _sd_name(text: str) -> str:
    return re.sub(r'[^!-~]|[="\]]', "_", text)[:32] or "_"


def _escaped(value: str) -> str:
    clean = re.sub(r'[\\"\]]', lambda found: "\\" + found.group(), value)
    return clean.encode("ascii", "backslashreplace").decode("ascii")


def _close_in_order(sock: socket.socket) -> None:
    """Say that nothing follows and wait until the other side says so too.

    Raises Retryable when it does not within the time allowed.
    """
    try:
        if isinstance(sock, ssl.SSLSocket):
            _unwrap(sock)
            return
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            continue
    except TimeoutError:
        raise Retryable("the syslog collector did not confirm that it has read everything") from (
            None
        )


def _unwrap(sock: ssl.SSLSocket) -> None:
    """Exchange close_notify; a collector that only closes after ours has read all as well."""
    try:
        plain = sock.unwrap()
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return
    except ssl.SSLError as error:
        if error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            return
        raise
    with contextlib.suppress(OSError):
        plain.close()


def _client_context(collector: Collector) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if collector.ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cafile=collector.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if collector.certificate:
            key = Path(collector.key) if collector.key else None
            context.load_cert_chain(Path(collector.certificate), key)
    except (OSError, ssl.SSLError) as error:
        words = error.strerror or getattr(error, "reason", None) or "unreadable"
        raise ConfigError(f"syslog: a certificate file cannot be used ({words})") from None
    return context
