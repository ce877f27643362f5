"""Serving the web application: over TLS where it is configured, and the way there without."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from cryptography import x509
from starlette.datastructures import URL
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from node.certificates import read_certificate
from node.config import WebSection
from node.errors import ConfigError
from node.tls import ServerTls, TlsFiles

_STOP_S = 8.0


@dataclass(slots=True)
class WebServer:
    """The ports of one web application; `start` returns once they are open."""

    section: WebSection
    app: ASGIApp
    port: int = 0
    redirect_port: int | None = None
    _tls: ServerTls | None = None
    _running: list[Callable[[], None]] = field(default_factory=list)

    def start(self) -> None:
        """Open the ports; raises ConfigError when one is taken or a certificate cannot be used."""
        section = self.section
        if section.tls_certificate:
            files = TlsFiles("web", section.tls_certificate, section.tls_key)
            self._tls = ServerTls(files)
        elif section.redirect_port:
            raise ConfigError("web.redirect_port leads to TLS: it needs web.tls_certificate")
        self.port = self._serve(self.app, section.port, "web", self._tls)
        if section.redirect_port:
            way = _ToTls(self.port, hosts_of(Path(section.tls_certificate)))
            self.redirect_port = self._serve(way, section.redirect_port, "web-redirect", None)

    @property
    def is_tls(self) -> bool:
        """Whether the application is served over TLS."""
        return self._tls is not None

    def refresh_certificates(self) -> bool:
        """Take over a certificate that was replaced; tells whether there was one."""
        return self._tls is not None and self._tls.refresh()

    def stop(self) -> None:
        """Let running requests end for a moment, then close."""
        while self._running:
            self._running.pop()()

    def _serve(self, app: ASGIApp, port: int, name: str, tls: ServerTls | None) -> int:
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        settings.load()
        if tls is not None:
            settings.ssl = tls.context
        server = uvicorn.Server(settings)
        sock = _bind(self.section.host, port)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [sock]}, name=name, daemon=True
        )
        thread.start()

        def close() -> None:
            server.should_exit = True
            thread.join(timeout=_STOP_S)

        self._running.append(close)
        return int(sock.getsockname()[1])


def hosts_of(certificate: Path) -> list[str]:
    """Read which names and addresses a certificate is for, in its order."""
    try:
        names = read_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        raise ConfigError("web.tls_certificate names no host") from None
    return [str(each.value) for each in names.value]


class _ToTls:
    """Sends every caller to the same page over TLS; never to a host that is not ours."""

    def __init__(self, port: int, hosts: list[str]) -> None:
        self._port = port
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        asked = URL(scope=scope)
        named = [each for each in self._hosts if not each.startswith("*.")]
        host = asked.hostname if asked.hostname in named else next(iter(named), None)
        if host is None:
            return Response(status_code=421)
        shown = f"[{host}]" if ":" in host else host
        place = asked.replace(scheme="https", netloc=f"{shown}:{self._port}")
        return RedirectResponse(str(place), status_code=308)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay (40 ms on every small answer) off only where TCP is named
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name != "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"the web port {port} cannot be opened ({error.strerror}); "
            "choose another with --http-port"
        ) from None
    sock.listen(128)
    return sock
