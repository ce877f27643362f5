"""A line to the object store that fails as it is told: a proxy on loopback."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ERROR = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>-</Message></Error>'


@dataclass
class BadLine:
    """The proxy; `fault` is what it does: "" passes everything on.

    ``slow-down`` and ``forbid`` are answers of services, ``drop-upload`` hangs up in the middle of
    a body, ``hold-upload`` keeps it there, ``lose-answer`` hangs up after the object was stored,
    ``wrong-bytes`` changes one byte of what is fetched, ``cut`` sends half, ``away`` hangs up,
    ``elsewhere`` redirects.
    """

    port: int
    fault: str = ""
    requests: list[str] = field(default_factory=list)
    holding: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def bad_line(target_port: int) -> Iterator[BadLine]:
    """Run the proxy until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            line.requests.append(self.command)
            self.close_connection = True
            length = int(self.headers.get("Content-Length") or 0)
            is_upload, is_fetch = self.command == "PUT", self.command == "GET"
            if line.fault == "away":
                return
            if is_upload and line.fault in ("drop-upload", "hold-upload"):
                self.rfile.read(length // 2)
                if line.fault == "hold-upload":
                    line.holding.set()
                    line.let_go.wait(60)
                return
            body = self.rfile.read(length)
            if line.fault in ("slow-down", "forbid", "elsewhere"):
                self._answer_itself()
                return
            status, headers, answer = self._ask(body)
            if is_upload and line.fault == "lose-answer":
                return
            if is_fetch and status < 300 and line.fault == "wrong-bytes":
                answer = answer[:-1] + bytes((answer[-1] ^ 1,))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "keep-alive"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            cut = is_fetch and line.fault == "cut"
            self.wfile.write(answer[: len(answer) // 2] if cut else answer)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

        def _answer_itself(self) -> None:
            status, code = {
                "slow-down": (503, b"SlowDown"),
                "forbid": (403, b"AccessDenied"),
                "elsewhere": (307, b"TemporaryRedirect"),
            }[line.fault]
            answer = b"" if self.command == "HEAD" else _ERROR % code
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(answer)))
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:9/taken")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            there = http.client.HTTPConnection("127.0.0.1", target_port, timeout=60)
            there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                there.putheader(name, value)
            there.endheaders(body or None)
            answer = there.getresponse()
            try:
                return answer.status, answer.getheaders(), answer.read()
            finally:
                there.close()

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return  # the other side hung up, as it was made to

    server = Server(("127.0.0.1", 0), Handler)
    line = BadLine(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield line
    finally:
        line.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()
