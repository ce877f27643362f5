"""A node's listener, an enrolled bridge and an invented practice, all on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import Actor
from pms_writeback.bridge import identity, registry
from pms_writeback.bridge.authority import open_authority
from pms_writeback.bridge.driver import open_driver
from pms_writeback.bridge.listener import BridgeListener, bridge_folder
from pms_writeback.bridge.office import BridgedPms
from pms_writeback.bridge.protocol import VERSIONS
from pms_writeback.bridge.sandbox_office import SandboxOffice
from pms_writeback.bridge.service import Bridge, Timing
from pms_writeback.bridge.settings import read_settings
from pms_writeback.dentrix import sandbox as dentrix
from pms_writeback.eaglesoft import sandbox as eaglesoft
from pms_writeback.practice import open_pms

ZONE = "America/New_York"
VENDORS = {"dentrix": dentrix, "eaglesoft": eaglesoft}
FAST = Timing(tick_s=0.05, first_redial_s=0.05, longest_redial_s=0.3)


def until(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "it") -> None:
    """Wait for a condition, or fail with its name."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.01)


def utc_now() -> datetime:
    return datetime.now(UTC)


def node_config(folder: Path, pms: str, port: int = 0, **bridge: object) -> Config:
    return read_config(
        None,
        {},
        {
            "node": {"time_zone": ZONE, "data_dir": str(folder / "node")},
            "pms": {"kind": pms},
            "bridge": {"host": "127.0.0.1", "port": port, **bridge},
        },
    )


@dataclass
class World:
    """One clinic: the node's side, the bridge's folder and the practice behind it."""

    folder: Path
    db: sa.Engine
    pms_kind: str = "dentrix"
    clock: Callable[[], datetime] = utc_now
    config: Config = field(init=False)
    office: SandboxOffice = field(init=False)
    pms: BridgedPms = field(init=False)
    listener: BridgeListener | None = None
    bridge: Bridge | None = None
    port: int = 0
    settings: str = ""
    patients: int = 12
    lock_patience_s: float = 3.0

    def __post_init__(self) -> None:
        self.config = node_config(self.folder, self.pms_kind)
        vendor = VENDORS[self.pms_kind]
        path = self.clinic / f"{self.pms_kind}.sqlite"
        self.clinic.mkdir(parents=True, exist_ok=True)
        today = self.office_today()
        vendor.make_practice(path, today, patients=self.patients, days_around=1, time_zone=ZONE)
        self.office = SandboxOffice(path, vendor.LAYOUT)
        opened = open_pms(self.config)
        assert isinstance(opened, BridgedPms)
        self.pms = opened
        self.pms.clock = self.clock

    @property
    def clinic(self) -> Path:
        return self.folder / "clinic"

    @property
    def actor(self) -> Actor:
        return Actor("test", "main")

    def office_today(self):
        from pms_writeback.pms import OfficeTime

        return OfficeTime(ZONE).today(self.clock())

    def listen(self, versions: Sequence[int] = VERSIONS, wait_s: float = 1.0) -> BridgeListener:
        """Open the node's listener, at the port it had before."""
        fresh = open_pms(self.config)
        assert isinstance(fresh, BridgedPms)
        self.pms = fresh
        self.pms.clock = self.clock
        self.listener = BridgeListener(
            self.config,
            self.db,
            self.pms.desk,
            clock=self.clock,
            versions=versions,
            wait_s=wait_s,
            port=self.port,
        )
        self.listener.start()
        self.port = self.listener.port
        return self.listener

    def token(self, hours: float = 1.0) -> str:
        authority = open_authority(bridge_folder(self.config), self.clock())
        return str(registry.make_token(self.db, self.actor, authority, hours, self.clock()))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def enrol(self) -> None:
        identity.enrol(self.clinic, self.url, self.token())

    def write_settings(self) -> None:
        (self.clinic / "bridge.toml").write_text(
            f"""
node_url = "{self.url}"
pms = "{self.pms_kind}"
time_zone = "{ZONE}"
driver = "sandbox"
snapshot_s = 0.1
heavy_every_s = 0.1
lock_patience_s = {self.lock_patience_s}
{self.settings}
"""
        )

    def start_bridge(self, versions: Sequence[int] = VERSIONS) -> Bridge:
        self.write_settings()
        settings = read_settings(self.clinic)
        driver = open_driver(settings.pms, settings.driver, settings.driver_options, self.clinic)
        self.bridge = Bridge(
            self.clinic, settings, driver, clock=self.clock, timing=FAST, versions=versions
        )
        self.bridge.start()
        return self.bridge

    def connect(self) -> None:
        """Listen, enrol, start the bridge and wait until the schedule can be read."""
        self.listen()
        self.enrol()
        self.start_bridge()
        self.await_schedule()

    def await_schedule(self) -> None:
        until(self._can_read, what="the bridge's first reading")

    def _can_read(self) -> bool:
        from node.errors import Retryable

        try:
            self.pms.patients()
            self.pms.providers()
            self.pms.operatories()
            self.pms.appointments(self.office_today(), self.office_today())
        except Retryable:
            return False
        return True

    def stop_bridge(self) -> None:
        if self.bridge is not None:
            self.bridge.stop()
            self.bridge = None

    def stop_listening(self) -> None:
        if self.listener is not None:
            self.listener.stop()
            self.listener = None

    def stop(self) -> None:
        self.stop_bridge()
        self.stop_listening()


@contextmanager
def clinic(
    folder: Path, db: sa.Engine, pms_kind: str = "dentrix", **more: object
) -> Iterator[World]:
    """Run a world while the block runs; nothing is connected yet."""
    world = World(folder, db, pms_kind, **more)
    try:
        yield world
    finally:
        world.stop()
