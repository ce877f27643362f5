"""Running the sandbox: as a program of its own, or beside a test or a demonstration."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from node.errors import ConfigError, Retryable
from pms_writeback.sandbox.app import API_PREFIX, CUSTOMER_KEY, DEVELOPER_KEY, Sandbox, create_app
from pms_writeback.sandbox.appointments import delete_appointment
from pms_writeback.sandbox.faults import Fault, FaultKind, LogEntry
from pms_writeback.sandbox.merging import merge_patients
from pms_writeback.sandbox.seed import seed
from pms_writeback.sandbox.service import ALL_PERMISSIONS
from pms_writeback.sandbox.store import Clock, Row, Value, utc_now
from pms_writeback.sandbox.subscriptions import polling

START_DEADLINE_S = 20.0

DEFAULT_PORT = 30223
"""The vendor's own port of its API service."""


@dataclass(frozen=True, slots=True)
class SandboxHandle:
    """A running sandbox and what a test or a demonstration may do with it.

    ``url`` is the API's base; ``page_url`` is for people.
    """

    url: str
    page_url: str
    developer_key: str = field(repr=False)
    customer_key: str = field(repr=False)
    sandbox: Sandbox = field(repr=False)

    def fault(
        self,
        kind: FaultKind,
        *,
        count: int = 1,
        status: int = 503,
        text: str = "",
        seconds: float = 0.0,
        methods: tuple[str, ...] = (),
        path: str = "/",
        on: bool = True,
        computer: str = "SERVER",
        after: int = 0,
    ) -> None:
        """Arm a fault; see `Fault` for the meaning of each value."""
        self.sandbox.faults.arm(
            Fault(
                kind=kind,
                count=count,
                status=status,
                text=text,
                seconds=seconds,
                methods=methods,
                path=path,
                on=on,
                computer=computer,
                after=after,
            )
        )

    def rows(self, resource: str) -> list[Row]:
        """Read all stored rows of a resource, such as "procnotes"."""
        return self.sandbox.store.rows(resource)

    def document(self, key: int) -> bytes:
        """Read the bytes of an uploaded document."""
        with self.sandbox.store.begin() as chart:
            found = chart.file(key)
        if found is None:
            raise LookupError(f"no document {key}")
        return found[1]

    def change(self, resource: str, key: int, **values: Value) -> Row:
        """Change a row as a user of the program would, its change stamp included."""
        with self.sandbox.store.begin() as chart:
            return chart.change(resource, key, values)

    def add(self, resource: str, **values: Value) -> Row:
        """Add a row as a user of the program would."""
        with self.sandbox.store.begin() as chart:
            return chart.add(resource, values)

    def delete_appointment(self, key: int) -> None:
        """Delete an appointment, which only users of the program can."""
        with self.sandbox.store.begin() as chart:
            delete_appointment(chart, key)

    def merge_patients(self, source: int, target: int) -> None:
        """Merge one patient into another, which only users of the program can."""
        with self.sandbox.store.begin() as chart:
            merge_patients(chart, source, target)

    def log(self) -> tuple[LogEntry, ...]:
        """Give the requests answered so far."""
        return self.sandbox.faults.log()


@contextmanager
def running(
    db_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    customer_key: str = CUSTOMER_KEY,
    developer_key: str = DEVELOPER_KEY,
    time_zone: str = "America/New_York",
    clock: Clock = utc_now,
    od_version: str = "25.3.36",
    permissions: frozenset[str] = ALL_PERMISSIONS,
    page_cap: int = 100,
    throttle_s: float = 0.0,
    sftp_port: int = 22,
    seed_patients: int = 40,
    seed_years: int = 0,
) -> Iterator[SandboxHandle]:
    """Serve the sandbox from a thread while the block runs; port 0 takes a free one.

    ``seed_patients`` 0 leaves the practice as it is in the file.
    """
    sandbox = create_app(
        db_path,
        customer_key=customer_key,
        developer_key=developer_key,
        time_zone=time_zone,
        clock=clock,
        od_version=od_version,
        permissions=permissions,
        page_cap=page_cap,
        throttle_s=throttle_s,
        sftp_port=sftp_port,
    )
    if seed_patients:
        seed(sandbox.store, patients=seed_patients, years=seed_years)
    try:
        with (
            polling(sandbox.store, customer_key),
            serving(sandbox, host=host, port=port) as page_url,
        ):
            yield SandboxHandle(
                url=page_url + API_PREFIX,
                page_url=page_url,
                developer_key=developer_key,
                customer_key=customer_key,
                sandbox=sandbox,
            )
    finally:
        sandbox.store.close()


@contextmanager
def another_way(
    handle: SandboxHandle, *, page_cap: int, throttle_s: float = 0.0, port: int = 0
) -> Iterator[SandboxHandle]:
    """Serve the same practice by one more door, as the vendor's three modes do.

    The door has its own page cap, throttle and faults.
    """
    office = replace(handle.sandbox.office, page_cap=page_cap, throttle_s=throttle_s)
    sandbox = Sandbox(handle.sandbox.store, office)
    with serving(sandbox, port=port) as page_url:
        yield replace(handle, url=page_url + API_PREFIX, page_url=page_url, sandbox=sandbox)


@contextmanager
def serving(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a sandbox program from a thread while the block runs; gives its address."""
    listener = _listen(host, port)
    server = uvicorn.Server(_config(app))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="sandbox-pms", daemon=True
    )
    thread.start()
    try:
        _wait_started(server, thread)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=START_DEADLINE_S)
        listener.close()


def serve(
    db_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    customer_key: str = CUSTOMER_KEY,
    developer_key: str = DEVELOPER_KEY,
    time_zone: str = "America/New_York",
    seed_cast: bool = True,
    patients: int = 40,
    years: int = 0,
    page_cap: int = 100,
    od_version: str = "25.3.36",
    throttle_s: float = 0.0,
    sftp_port: int = 22,
) -> None:
    """Serve the sandbox in the foreground until Ctrl-C."""
    sandbox = create_app(
        db_path,
        customer_key=customer_key,
        developer_key=developer_key,
        time_zone=time_zone,
        page_cap=page_cap,
        od_version=od_version,
        throttle_s=throttle_s,
        sftp_port=sftp_port,
    )
    if seed_cast:
        seed(sandbox.store, patients=patients, years=years)
    listener = _listen(host, port)
    try:
        # uvicorn raises the interrupt again after it has shut down.
        with polling(sandbox.store, customer_key), suppress(KeyboardInterrupt):
            uvicorn.Server(_config(sandbox)).run(sockets=[listener])
    finally:
        listener.close()
        sandbox.store.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    # Accepted connections inherit it; asyncio leaves Nagle's 40 ms on where TCP is not named.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",  # a dropped connection is cut at this implementation's socket
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )


def _wait_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise Retryable("the sandbox did not start in time")
        thread.join(timeout=0.01)
