"""Running the sandbox laboratory: as a program of its own, or beside a test or a demonstration."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from node.errors import ConfigError
from orchestration.labs.sandbox.bench import Bench, Fault, FaultKind
from orchestration.labs.sandbox.caller import Caller
from orchestration.labs.sandbox.drop import Drop
from orchestration.labs.sandbox.web import WebServer
from pms_writeback.sandbox.sftp import SftpSite, sftp_serving

DEFAULT_PORT = 8026
USER = "practice"
_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class LabHandle:
    """A running laboratory and what a test or a demonstration may do with it."""

    url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    password: str = field(repr=False)
    bench: Bench = field(repr=False)
    caller: Caller = field(repr=False)
    drop: Drop = field(repr=False)
    sftp: SftpSite = field(repr=False)

    def fault(self, kind: FaultKind, *, count: int = 1, seconds: float = 0.0) -> None:
        """Arm a fault; see `FaultKind`."""
        self.bench.arm(Fault(kind, count, seconds))

    def work(self) -> None:
        """Do and tell what is due by the laboratory's clock."""
        self.bench.tick()
        self.drop.run_once()
        self.caller.run_once()

    def skip(self, **span: float) -> None:
        """Put the laboratory's clock forward and work."""
        self.bench.skip(timedelta(**span))
        self.work()

    @property
    def host_key(self) -> str:
        """The SFTP host key as ``known_hosts`` writes it, to be pinned."""
        return self.sftp.host_key

    def settings(self, transport: str = "api") -> dict[str, object]:
        """Give the ``[[labs]]`` entry that leads a node here."""
        entry: dict[str, object] = {
            "key": "sandbox",
            "name": "Sandbox laboratory",
            "transport": transport,
            "is_sandbox": True,
        }
        if transport == "api":
            return {**entry, "url": self.url, "api_key": self.key, "webhook_secret": self.secret}
        return {
            **entry,
            "host": "127.0.0.1",
            "port": self.sftp.port,
            "user": USER,
            "password": self.password,
            "host_key": self.host_key,
        }


@contextmanager
def running_lab(
    folder: Path,
    *,
    port: int = 0,
    sftp_port: int = 0,
    clock: Callable[[], datetime] | None = None,
    callback_url: str = "",
    is_working: bool = False,
) -> Iterator[LabHandle]:
    """Run a sandbox laboratory beside the caller; port 0 is any free one.

    With `is_working` it works by itself twice a second; else when it is told to. What it knows and
    its keys are kept in `folder`. Raises ConfigError when a port is taken.
    """
    bench = Bench(folder, clock)
    key, secret, password = _kept_keys(folder / "keys")
    drop = Drop(bench, folder / "drop")
    with (
        _web(bench, key, port) as url,
        sftp_serving(
            drop.folder, user=USER, password=password, port=sftp_port,
            key_file=folder / "host_key",
        ) as sftp,
    ):  # fmt: skip
        sftp.faults.is_away = lambda: bench.is_down
        sftp.on_change = drop.run_once
        caller = Caller(bench, secret, callback_url)
        lab = LabHandle(url, key, secret, password, bench, caller, drop, sftp)
        with _working(lab) if is_working else nullcontext():
            yield lab


@contextmanager
def _web(bench: Bench, key: str, port: int) -> Iterator[str]:
    """Serve the laboratory's API and page while the block runs; gives its address."""
    try:
        web = WebServer(bench, key, port)
    except OSError as error:
        raise ConfigError(
            f"the laboratory's port {port} cannot be opened ({error.strerror})"
        ) from None
    thread = threading.Thread(target=web.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_address[1]}"
    finally:
        web.shutdown()
        web.server_close()
        thread.join(timeout=5)


@contextmanager
def _working(lab: LabHandle) -> Iterator[None]:
    stopping = threading.Event()
    worker = threading.Thread(target=_work, args=(lab, stopping), daemon=True)
    worker.start()
    try:
        yield
    finally:
        stopping.set()
        worker.join(timeout=5)


def _work(lab: LabHandle, stopping: threading.Event) -> None:
    while not stopping.wait(_TICK_S):
        lab.work()


def _kept_keys(path: Path) -> tuple[str, str, str]:
    """Read API key, webhook secret and SFTP password, making them when they are missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("\n".join(secrets.token_hex(16) for _ in range(3)))
    api_key, secret, password = path.read_text().split()
    return api_key, secret, password
