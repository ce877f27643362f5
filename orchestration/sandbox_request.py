"""What a request to any of our sandbox services shares: bodies, answers, keys and hanging up."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'"
)


class SandboxRequest(BaseHTTPRequestHandler):
    """One request on the loopback interface; a service adds its ``do_…`` methods."""

    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def read_body(self, largest: int) -> bytes | None:
        """Read a body of a told length up to `largest` bytes; answers 413 to any other: None."""
        unsaid = "" if "Transfer-Encoding" in self.headers else "0"
        length = self.headers.get("Content-Length", unsaid)
        if not (length.isascii() and length.isdigit()) or int(length) > largest:
            self.close_connection = True
            self.answer(413, {"error": "invalid_request", "message": "too large"})
            return None
        return self.rfile.read(int(length))

    def has_key(self, key: str) -> bool:
        """Tell whether the request bears `key`; compared in constant time."""
        given = self.headers.get("Authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {key}".encode())

    def answer(
        self,
        status: int,
        body: Mapping[str, object] | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with JSON, or with nothing."""
        content = b"" if body is None else json.dumps(body).encode()
        self.send(status, "application/json", content, headers)

    def send(
        self, status: int, kind: str, content: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with `content` of a media type; a page may run nothing."""
        policy = {"Content-Security-Policy": _PAGE_POLICY} if kind.startswith("text/html") else {}
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            **policy,
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_page(self, page: str) -> None:
        """Answer with a page of HTML."""
        self.send(200, "text/html; charset=utf-8", page.encode())

    def drop(self) -> None:
        """Break the connection off without an answer."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a request's line may name a case, a person or a code."""
