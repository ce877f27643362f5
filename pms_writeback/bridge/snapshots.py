"""Reading the practice's tables on a schedule, light ones often and heavy ones in quiet hours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from node.errors import BitewingError, NotFound
from pms_writeback.bridge.commands import LockPatience
from pms_writeback.bridge.driver import Driver, Table, Window
from pms_writeback.bridge.journal import Journal
from pms_writeback.bridge.limits import Hours, KillSwitch
from pms_writeback.bridge.protocol import TableRow
from pms_writeback.bridge.warehouse import Warehouse
from pms_writeback.pms import OfficeTime


class Snapshots:
    """Keeps the warehouse current; one reading at a time."""

    def __init__(
        self,
        driver: Driver,
        warehouse: Warehouse,
        journal: Journal,
        switch: KillSwitch,
        heavy_hours: Hours,
        office: OfficeTime,
        clock: Callable[[], datetime],
        *,
        every_s: float = 60.0,
        heavy_every_s: float = 3600.0,
        days_before: int = 30,
        days_after: int = 180,
        patience: LockPatience | None = None,
    ) -> None:
        self._driver = driver
        self._warehouse = warehouse
        self._journal = journal
        self._switch = switch
        self._heavy_hours = heavy_hours
        self._office = office
        self._clock = clock
        self._every = timedelta(seconds=every_s)
        self._heavy_every = timedelta(seconds=heavy_every_s)
        self._days = (timedelta(days=days_before), timedelta(days=days_after))
        self._patience = patience or LockPatience()
        self._one_at_a_time = threading.Lock()
        self.stop = threading.Event()
        self.problems: dict[str, str] = {}

    @property
    def tables(self) -> tuple[Table, ...]:
        """What can be read."""
        return self._driver.tables

    def table(self, name: str) -> Table:
        """Look a table up; raises NotFound when this driver cannot read it."""
        for each in self._driver.tables:
            if each.name == name:
                return each
        raise NotFound(f"this driver does not read {name[:60]!r}")

    def run_due(self) -> int:
        """Read every table whose time has come; returns how many rows changed.

        A table that cannot be read is noted and tried again next time; the others go on.
        """
        if self._switch.reason:
            return 0
        return sum(self._guarded(table) for table in self._driver.tables if self._is_due(table))

    def read_row(self, name: str, key: str) -> TableRow | None:
        """Read one row now, from the practice's system itself; gone ones are told as such."""
        self._switch.check()
        table = self.table(name)
        with self._one_at_a_time:
            values = self._patience.outlast(lambda: self._driver.row(table, key), self.stop)
            self._warehouse.take_row(table, key, values, self._clock())
        return self._warehouse.row(name, key)

    def _is_due(self, table: Table) -> bool:
        last, now = self._warehouse.last_look(table.name), self._clock()
        if last is None:  # without a first look there is no schedule at all
            return True
        every = self._heavy_every if table.is_heavy else self._every
        if table.is_heavy and not self._heavy_hours.are_open(now):
            return False
        return not timedelta() <= now - last < every

    def _guarded(self, table: Table) -> int:
        try:
            count = self._take(table)
        except BitewingError as error:
            self.problems[table.name] = str(error)
            self._journal.note(self._clock(), "snapshot_failed", f"{table.name}: {error}")
            return 0
        self.problems.pop(table.name, None)
        return count

    def _take(self, table: Table) -> int:
        now = self._clock()
        window = self._window(now)
        with self._one_at_a_time:
            rows = self._patience.outlast(lambda: list(self._driver.rows(table, window)), self.stop)
            taken = self._warehouse.take(table, rows, window, now)
        if taken.is_doubtful:
            words = f"{table.name}: most rows were missing; looking again before believing it"
            self._journal.note(now, "snapshot_doubtful", words)
        return taken.added + taken.changed + taken.gone

    def _window(self, now: datetime) -> Window:
        today = self._office.today(now)
        return today - self._days[0], today + self._days[1]
