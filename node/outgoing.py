"""The one door to other machines: connects only to addresses that were looked at.

The host's name is resolved here, every number it stands for is judged by the party's
:class:`~node.domain.destinations.Reach`, and the connection is made to that very number: a name
that changes its meaning between the look and the connection gains nothing. TLS still proves the
name. Redirects are not followed. Whoever configures a proxy of the environment trusts it to judge.

An answer is as untrusted as its sender: it comes as it is (no encoding, so no bomb), has an end in
bytes and an end in time.

HTTP goes through :func:`open_client`, other protocols over TCP through :func:`connect`; what makes
its own socket (DICOM, a datagram) asks :func:`numbers_of` for the number to use.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import httpcore2
import httpx2

from node.domain.destinations import Reach
from node.errors import ConfigError

#: Gives the numbers of a host and port.
Resolve = Callable[[str, int], Sequence[str]]

#: No answer is longer; whoever expects less checks for less.
MOST_BYTES = 64 << 20
#: No answer takes longer from its first byte to its last, however steadily it drips.
MOST_S = 600.0

_Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Ask the system for a host's numbers, IPv4 and IPv6; raises OSError when it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def numbers_of(
    reach: Reach, host: str, port: int, resolve: Resolve = resolve_host
) -> Sequence[str]:
    """Give the numbers of a host at which its party may be reached, at least one, IPv4 first.

    Raises ConfigError when it may not be reached at any of them, OSError for an unknown name.
    """
    numbers = resolve(host, port)
    allowed = [number for number in numbers if reach.allows(host, number)]
    if not allowed:
        raise ConfigError(
            f"the host of {reach.party} leads to an address {_side_of(numbers)}; {reach.advice}"
        )
    return sorted(allowed, key=lambda number: ":" in number)


def connect(
    reach: Reach, host: str, port: int, timeout_s: float, resolve: Resolve = resolve_host
) -> socket.socket:
    """Open a TCP connection to one party, at the first of its numbers that answers.

    Raises ConfigError as :func:`numbers_of` does, OSError when nobody answers.
    """
    lost: OSError | None = None
    for number in numbers_of(reach, host, port, resolve):
        try:
            return socket.create_connection((number, port), timeout_s)
        except OSError as error:
            lost = error
    raise lost or OSError("no address answered")


def _side_of(numbers: Iterable[str]) -> str:
    is_public = any(ipaddress.ip_address(number).is_global for number in numbers)
    return "outside this network" if is_public else "inside this network or machine"


def open_client(
    reach: Reach,
    *,
    timeout: httpx2.Timeout,
    base_url: str = "",
    headers: Mapping[str, str] | None = None,
    uses_proxy: bool = False,
    ca_file: str = "",
    resolve: Resolve = resolve_host,
    most_bytes: int = MOST_BYTES,
    most_s: float = MOST_S,
) -> httpx2.Client:
    """Make a client for one party; close it when done.

    ``uses_proxy`` lets the environment name a proxy and further authorities; ``ca_file`` names the
    one authority that the party's certificate must come from. A request to an
    address that the party may not have raises ConfigError; nothing was sent then. An answer that
    is encoded, longer than `most_bytes` or slower than `most_s` raises RemoteProtocolError.
    """
    return httpx2.Client(
        base_url=base_url,
        headers={"Accept-Encoding": "identity", **(headers or {})},
        timeout=timeout,
        follow_redirects=False,
        trust_env=uses_proxy,
        transport=_Transport(_Guard(reach, resolve), uses_proxy, ca_file, most_bytes, most_s),
    )


class _Guard(httpcore2.NetworkBackend):
    """Resolves, judges, and connects to what was judged."""

    def __init__(self, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_Option] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            allowed = numbers_of(self._reach, host, port, self._resolve)
        except OSError as error:
            raise httpcore2.ConnectError("the host's name is not known") from error
        lost: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        for number in allowed:
            try:
                return self._plain.connect_tcp(number, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                lost = error
        raise lost or httpcore2.ConnectError("no address answered")


class _Transport(httpx2.HTTPTransport):
    """httpx's own transport over a pool that connects through the guard."""

    def __init__(
        self, guard: _Guard, trust_env: bool, ca_file: str, most_bytes: int, most_s: float
    ) -> None:
        super().__init__(trust_env=trust_env)
        self._most_bytes = most_bytes
        self._most_s = most_s
        if not isinstance(self._pool, httpcore2.ConnectionPool):  # else we would guard nothing
            raise TypeError("this release of httpx2 keeps its connections elsewhere")
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(verify=ca_file or True, trust_env=trust_env),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=guard,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send as httpx does; bound what comes back."""
        answer = super().handle_request(request)
        stream = answer.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
            stream.close()
            raise httpx2.RemoteProtocolError("the answer is encoded, which nobody asked for")
        answer.stream = _Bounded(stream, self._most_bytes, self._most_s)
        return answer


class _Bounded(httpx2.SyncByteStream):
    """A body that ends, or is ended."""

    def __init__(self, body: httpx2.SyncByteStream, most_bytes: int, most_s: float) -> None:
        self._body = body
        self._left = most_bytes
        self._ends_at = time.monotonic() + most_s

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._left -= len(part)
            if self._left < 0:
                raise httpx2.RemoteProtocolError("the answer is too long")
            if time.monotonic() > self._ends_at:
                raise httpx2.RemoteProtocolError("the answer does not end")
            yield part

    def close(self) -> None:
        """Close the connection's stream."""
        self._body.close()
