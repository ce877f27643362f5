"""What the bridge needs of a driver, the part that touches the practice's system.

A driver is the only thing that a licensed partner has to add: a class with these methods, offered
by an installed package under the entry-point group ``bitewing.bridge_drivers``. Its `open` gets
the ``[driver_options]`` of ``bridge.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from node.errors import ConfigError, Retryable
from pms_writeback.bridge.protocol import Scalar
from pms_writeback.pms import Capability, Command, Receipt

ENTRY_POINTS = "bitewing.bridge_drivers"

Window = tuple[date, date]
Values = Mapping[str, Scalar]


class Locked(Retryable):
    """The PMS's database holds a lock on what was asked for; certainly nothing was written."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view that a driver reads.

    ``keys`` are the columns that name a row; ``day_column`` holds the day by which rows are kept
    to the window of days, empty for a table that is read whole. A heavy table is read only in the
    configured hours.
    """

    name: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    day_column: str = ""
    is_heavy: bool = False

    def key_of(self, values: Values) -> str:
        """Name a row; parts of a longer key are joined by a bar."""
        return "|".join(str(values[name]).strip() for name in self.keys)


@dataclass(frozen=True, slots=True)
class About:
    """What a driver is connected to."""

    product: str
    version: str
    driver: str
    is_sandbox: bool


class Driver(Protocol):
    """One practice's system; called from one thread at a time for reads and one for writes.

    Every method may raise `Locked` (nothing happened, try again), Retryable (away), Rejected,
    NotLicensed or ConfigError. `execute` raises OutcomeUnknown when it cannot tell.
    """

    @property
    def tables(self) -> tuple[Table, ...]:
        """What it can read."""
        ...

    @property
    def posting_s(self) -> float:
        """How long an accepted write may take to show, in seconds; 0 when it shows at once."""
        ...

    def about(self) -> About:
        """Ask the system what it is."""
        ...

    def operations(self) -> tuple[Capability, ...]:
        """Say which commands it takes."""
        ...

    def rows(self, table: Table, window: Window) -> Iterator[Values]:
        """Read a table, those of the window's days where it has days, in short statements."""
        ...

    def row(self, table: Table, key: str) -> Values | None:
        """Read one row; None when there is none."""
        ...

    def execute(self, command: Command) -> Receipt:
        """Write one command, committed when it returns."""
        ...

    def find(self, command: Command) -> Receipt | None:
        """Search for what an earlier attempt at `command` wrote, by its token."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class DriverFactory(Protocol):
    """How a driver is opened: its options, and the folder of the bridge."""

    def __call__(self, options: Mapping[str, object], folder: Path) -> Driver:
        """Open it; raises ConfigError when the options cannot be right."""
        ...


def open_driver(pms: str, name: str, options: Mapping[str, object], folder: Path) -> Driver:
    """Open the driver `name` for the PMS `pms`: ``sandbox``, ``odbc`` or an installed package's.

    Raises
    ------
    ConfigError
        There is no such driver, or its options cannot be right.
    """
    return _factory(pms, name)(options, folder)


def _factory(pms: str, name: str) -> DriverFactory:
    if pms not in ("dentrix", "eaglesoft"):
        raise ConfigError(f'no driver for {pms[:30]!r}: pms is "dentrix" or "eaglesoft"')
    if name == "sandbox":
        return _sandbox(pms)
    if name == "odbc":
        return _odbc(pms)
    found = [each for each in entry_points(group=ENTRY_POINTS) if each.name == name]
    if not found:
        raise ConfigError(
            f'there is no driver {name[:60]!r}: shipped are "sandbox" and "odbc"; a licensed'
            f" one is a package with an entry point in {ENTRY_POINTS}"
        )
    return cast(DriverFactory, found[0].load())


def _sandbox(pms: str) -> DriverFactory:
    if pms == "dentrix":
        from pms_writeback.dentrix.sandbox import open_sandbox as open_dentrix

        return open_dentrix
    from pms_writeback.eaglesoft.sandbox import open_sandbox as open_eaglesoft

    return open_eaglesoft


def _odbc(pms: str) -> DriverFactory:
    if pms == "dentrix":
        from pms_writeback.dentrix.odbc import open_odbc as open_dentrix

        return open_dentrix
    from pms_writeback.eaglesoft.odbc import open_odbc as open_eaglesoft

    return open_eaglesoft
