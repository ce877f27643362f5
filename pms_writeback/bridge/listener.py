"""The node's listener for bridges: HTTPS, certificates on both sides, a few small routes.

Without a certificate a caller may read the authority's own one and enrol with a token; everything
else is for a certificate that this node issued, for the location that stands in it.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.certificates import serial_of
from node.config import Config
from node.db.session import read
from node.errors import (
    BitewingError,
    ConfigError,
    Forbidden,
    InvalidInput,
    Rejected,
    Retryable,
    outcome,
    place_of,
)
from pms_writeback.bridge import registry
from pms_writeback.bridge.authority import Authority, location_of, open_authority
from pms_writeback.bridge.desk import Desk, Guest
from pms_writeback.bridge.protocol import (
    MAX_BODY_BYTES,
    VERSIONS,
    Answer,
    Json,
    Request,
    as_list,
    as_object,
    choose_version,
    decode,
    number,
    text,
)

log = logging.getLogger("bitewing.bridge")

WAIT_S = 10.0
"""How long the node holds a bridge's wait for questions open."""

_LOOK_S = 1.0
"""How long the kill switch takes at most to be noticed by a waiting bridge."""
_START_DEADLINE_S = 20.0
_ENROL_BYTES = 16_384
_PEER = "bitewing.peer_certificate"


def bridge_folder(config: Config) -> Path:
    """Where the node keeps the authority and the packages."""
    return config.node.data_dir / "bridge"


class _PeerProtocol(H11Protocol):  # type: ignore[misc]  # uvicorn is untyped for us
    """Tells the application which certificate the caller showed, which uvicorn does not."""

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)
        tls = self.transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        application: ASGIApp = self.config.loaded_app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_PEER] = der
            await application(scope, receive, send)

        self.app = with_peer


@dataclass(slots=True)
class BridgeListener:
    """Serves the bridges of one location; `start` returns once it listens."""

    config: Config
    db: sa.Engine
    desk: Desk
    clock: Callable[[], datetime] = registry.utc_now
    versions: Sequence[int] = VERSIONS
    wait_s: float = WAIT_S
    on_connect: Callable[[], None] = lambda: None
    port: int = 0
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None
    _authority: Authority = field(init=False)
    _context: ssl.SSLContext = field(init=False)

    def start(self) -> None:
        """Open the port; raises ConfigError when it is taken."""
        section = self.config.bridge
        self._authority = open_authority(bridge_folder(self.config), self.clock())
        self._authority.keep_server_certificate(section.public_name, self.clock())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_mode = ssl.CERT_OPTIONAL  # who enrols has none yet
        self._context.load_verify_locations(self._authority.certificate_path)
        self._context.load_cert_chain(*self._authority.server_paths)
        sock = _bind(section.host, self.port or section.port)
        self.port = sock.getsockname()[1]
        settings = uvicorn.Config(
            self._application(),
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        settings.load()
        settings.ssl = self._context
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [sock]}, name="bridge-listener", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_DEADLINE_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise Retryable("the bridge listener did not start in time")
            self._thread.join(timeout=0.01)

    @property
    def thread(self) -> threading.Thread:
        """The serving thread; raises LookupError before `start`."""
        if self._thread is None:
            raise LookupError("the bridge listener was not started")
        return self._thread

    def stop(self) -> None:
        """Close the port; waiting bridges are let go."""
        self.desk.close()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=8)

    def renew_server_certificate(self) -> None:
        """Renew the listener's own certificate when little of it is left; for a daily tick."""
        made = self._authority.keep_server_certificate(self.config.bridge.public_name, self.clock())
        if made:
            self._context.load_cert_chain(*self._authority.server_paths)

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/bridge/authority", self._route(self._show_authority), methods=["POST"]),
                Route("/bridge/enrol", self._route(self._enrol), methods=["POST"]),
                Route("/bridge/hello", self._member(self._hello), methods=["POST"]),
                Route("/bridge/next", self._member(self._next), methods=["POST"]),
                Route("/bridge/answer", self._member(self._answer), methods=["POST"]),
                Route("/bridge/renew", self._member(self._renew), methods=["POST"]),
                Route("/bridge/package/{sha256}", self._package, methods=["GET"]),
            ]
        )

    def _route(self, action: Callable[[Json], Json]) -> Callable[[HttpRequest], object]:
        async def endpoint(request: HttpRequest) -> Response:
            async def work() -> Json:
                body = decode(await _body(request, _ENROL_BYTES))
                return await run_in_threadpool(action, body)

            return await _answered(work)

        return endpoint

    def _member(self, action: Callable[[Json], Json]) -> Callable[[HttpRequest], object]:
        """Make a route for bridges that show a good certificate."""

        async def endpoint(request: HttpRequest) -> Response:
            async def work() -> Json:
                await run_in_threadpool(self._check_peer, request)
                body = decode(await _body(request, MAX_BODY_BYTES))
                return await run_in_threadpool(action, body)

            return await _answered(work)

        return endpoint

    def _check_peer(self, request: HttpRequest) -> None:
        der = request.scope.get(_PEER)
        if not isinstance(der, bytes):
            raise Forbidden("show the certificate of an enrolled bridge")
        certificate = x509.load_der_x509_certificate(der)
        location_id = location_of(certificate)
        if location_id != self._location_id:
            raise Forbidden("this certificate is for another location")
        try:
            registry.check_certificate(self.db, serial_of(certificate), location_id)
        except Forbidden:
            log.warning("a bridge with a refused certificate called")
            raise
        # The TLS layer checks dates only when a line is opened, and lines stay open for days.
        if self.clock() >= certificate.not_valid_after_utc:
            raise Forbidden("this certificate has expired; enrol the bridge again")

    @property
    def _location_id(self) -> str:
        return self.config.node.location_id

    def _show_authority(self, _body: Json) -> Json:
        pem = self._authority.certificate.public_bytes(serialization.Encoding.PEM)
        return {"certificate": pem.decode("ascii")}

    def _enrol(self, body: Json) -> Json:
        issued = registry.enrol(
            self.db,
            self._authority,
            text(body, "token"),
            text(body, "request").encode(),
            self.config.bridge.certificate_days,
            self.clock(),
        )
        return {"certificate": issued.pem.decode("ascii")}

    def _renew(self, body: Json) -> Json:
        issued = registry.renew(
            self.db,
            self._authority,
            self._location_id,
            text(body, "request").encode(),
            self.config.bridge.certificate_days,
            self.clock(),
        )
        return {"certificate": issued.pem.decode("ascii")}

    def _hello(self, body: Json) -> Json:
        version = choose_version(self.versions, body.get("versions"))
        if body.get("pms") != self.config.pms.kind:
            raise ConfigError(
                f"this node expects a bridge to {self.config.pms.kind}, not to"
                f" {str(body.get('pms'))[:30]}"
            )
        zone, ours = body.get("time_zone"), self.config.node.time_zone
        if zone is not None and zone != ours:  # the same wall clock would mean two moments
            raise ConfigError(
                f"the bridge's office is in {str(zone)[:40]}, this node's in {ours}: set the same"
                " time_zone in bridge.toml and in [node]"
            )
        offset = self._offset(body)
        about = {name: value for name, value in body.items() if name != "versions"}
        registry.keep_heard(
            self.db, self._location_id, self.clock(), about={**about, "protocol": version}
        )
        session = self.desk.greet(Guest(about, version, offset))
        log.info("bridge connected", extra={"protocol": version})
        self.on_connect()
        return {"session": session, "version": version, "is_stopped": self._told().is_stopped}

    def _next(self, body: Json) -> Json:
        session, status = text(body, "session"), as_object(body.get("status", {}))
        self.desk.note_clock(session, self._offset(status))
        seen = self._keep_notices(status)
        registry.keep_heard(self.db, self._location_id, self.clock(), heartbeat=status)
        requests, told = self._wait(session, status.get("is_stopped_by_node") is True)
        return {
            "requests": [each.to_json() for each in requests],
            "is_stopped": told.is_stopped,
            "offer": dict(told.offer) if told.offer else None,
            "notices_seen": seen,
        }

    def _wait(
        self, session: str, knows_stop: bool
    ) -> tuple[tuple[Request, ...], registry.BridgeState]:
        """Wait for questions, or until the bridge must be told to stop or to go on."""
        limit = time.monotonic() + self.wait_s
        while True:
            left = limit - time.monotonic()
            told = self._told()
            requests = self.desk.take(session, max(0.0, min(left, _LOOK_S)))
            if requests or left <= 0 or self.desk.is_closed or told.is_stopped != knows_stop:
                return requests, told

    def _answer(self, body: Json) -> Json:
        self.desk.put_answer(Answer.from_json(body.get("answer")))
        return {}

    async def _package(self, request: HttpRequest) -> Response:
        name = request.path_params["sha256"]

        def find() -> Path:
            self._check_peer(request)
            path = bridge_folder(self.config) / "packages" / f"{name}.whl"
            if not name.isalnum() or len(name) != 64 or not path.exists():
                raise Rejected("there is no such package")
            return path

        try:
            return FileResponse(await run_in_threadpool(find))
        except BitewingError as error:
            return _refused(error)

    def _told(self) -> registry.BridgeState:
        with read(self.db) as conn:
            return registry.state_of(conn, self._location_id)

    def _offset(self, said: Json) -> timedelta:
        """Measure the bridge's clock against ours by what it just said; the way takes no time."""
        try:
            return datetime.fromisoformat(text(said, "now")) - self.clock()
        except (ValueError, TypeError):
            raise InvalidInput("the bridge's time cannot be read") from None

    def _keep_notices(self, status: Json) -> int:
        """Log what the bridge reports; returns the last one's number."""
        last = 0
        for each in as_list(status.get("notices", [])):
            notice = as_object(each)
            last = max(last, int(number(notice, "seq", 0)))
            log.warning(
                "bridge reports %s: %s",
                str(notice.get("kind"))[:40],
                str(notice.get("words"))[:300],
            )
        return last


async def _body(request: HttpRequest, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise InvalidInput("the message is too large")
    return bytes(body)


async def _answered(work: Callable[[], object]) -> Response:
    try:
        return JSONResponse(await work())  # type: ignore[misc]
    except BitewingError as error:
        return _refused(error)
    except ClientDisconnect:  # nobody is there to read the answer
        return Response(status_code=400)
    except Exception as error:  # noqa: BLE001 - the HTTP edge
        log.error("bridge listener failed (%s at %s)", type(error).__name__, place_of(error))
        return JSONResponse({"message": "internal error"}, 500)


def _refused(error: BitewingError) -> Response:
    # 426: the two programs do not fit together, and an operator must act.
    status = 426 if isinstance(error, ConfigError) else outcome(error).http_status
    return JSONResponse({"message": str(error)}, status)


def _bind(host: str, port: int) -> socket.socket:
    try:
        sock = socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise ConfigError(
            f"cannot listen for bridges on {host}:{port} ({error.strerror}); change bridge.port"
        ) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
