"""What an outside party answers has an end: in bytes, in time, in depth; and is never a bomb."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from node.domain.destinations import Reach
from node.errors import InvalidInput, Rejected
from node.outgoing import open_client
from orchestration.labs.api import ApiLab, ApiSettings
from orchestration.messengers.sms import read_event
from orchestration.messengers.wire import fields_of

TIMEOUT = httpx2.Timeout(60.0)
DEEP = b"[" * 200_000
Write = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def party(write: Write) -> Iterator[tuple[str, list[str]]]:
    """Run a party that answers as it likes; gives its address and the encodings it was offered."""
    offered: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            offered.append(self.headers.get("accept-encoding", ""))
            with suppress(OSError):  # the node hung up
                write(self)

        do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", offered
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def whole(body: bytes, **headers: str) -> Write:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65_536)


def test_a_bomb_is_never_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    with (
        party(whole(bomb, content_encoding="gzip")) as (url, offered),
        open_client(Reach("labs"), timeout=TIMEOUT) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(httpx2.RemoteProtocolError, match="encoded"):
                client.get(url)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
    assert offered == ["identity"]


def test_an_endless_answer_is_ended() -> None:
    with (
        party(endless) as (url, _),
        open_client(Reach("labs"), timeout=TIMEOUT, most_bytes=1 << 20) as client,
        pytest.raises(httpx2.RemoteProtocolError, match="too long"),
    ):
        client.get(url)


def test_an_answer_that_drips_is_ended() -> None:
    with (
        party(endless) as (url, _),
        open_client(Reach("labs"), timeout=TIMEOUT, most_s=0.0) as client,
        pytest.raises(httpx2.RemoteProtocolError, match="does not end"),
    ):
        client.get(url)


def test_a_plain_answer_comes_as_it_is() -> None:
    with (
        party(whole(b'{"a": 1}')) as (url, _),
        open_client(Reach("labs"), timeout=TIMEOUT, most_bytes=8) as client,
    ):
        assert client.get(url).json() == {"a": 1}


def test_an_answer_of_many_levels_is_one_that_cannot_be_read() -> None:
    with party(whole(DEEP)) as (url, _):
        lab = ApiLab(ApiSettings(url.rstrip("/"), "key", reach=Reach("labs")))
        with pytest.raises(Rejected, match="not JSON"):
            lab.updates("1")
        lab.close()
    assert fields_of(httpx2.Response(200, content=DEEP[:60_000])) == {}
    with pytest.raises(InvalidInput, match="not JSON"):
        read_event(DEEP)
