"""The read-only ODBC driver: off until a licensed site turns it on, and it never writes.

It reads the views that a vendor's own interface offers to licensed partners. It knows their public
names only; further columns are named in ``bridge.toml`` from the documentation that comes with the
licence. pyodbc is installed beside it (``bitewing[bridge-odbc]``).
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from node.errors import ConfigError
from pms_writeback.bridge.driver import About, Table, Values, Window
from pms_writeback.bridge.fields import EXTRA_PREFIXES
from pms_writeback.bridge.sql import DbConnection, SqlReader
from pms_writeback.bridge.wire import COMMANDS
from pms_writeback.pms import Capability, Command, NotLicensed, Receipt, Support

_KNOWN_OPTIONS = ("enabled", "connection_string", "connection_string_env", "version", "columns")
_LOCK_STATES = ("HYT00", "HYT01", "40001", "HY008")
"""SQLSTATE of time-outs, serialisation failures and cancelled statements."""

Connector = Callable[[str], DbConnection]


class ReadOnlyOdbc:
    """Reads a vendor's licensed views; every write is refused."""

    posting_s = 0.0

    def __init__(
        self,
        product: str,
        tables: tuple[Table, ...],
        options: Mapping[str, object],
        version_query: str = "",
        connector: Connector | None = None,
    ) -> None:
        unknown = sorted(set(options) - set(_KNOWN_OPTIONS))
        if unknown:
            raise ConfigError(f"driver_options: unknown key {unknown[0][:40]!r}")
        if options.get("enabled") is not True:
            raise ConfigError(
                f"the ODBC driver for {product} is off. It reads views that the vendor licenses:"
                " set driver_options.enabled = true when this office's licence covers them"
            )
        connect = connector or _pyodbc()
        dsn = _connection_string(options)
        self._product = product
        self._tables = tables
        self._version = str(options.get("version", ""))
        self._version_query = version_query
        self._reader = SqlReader(lambda: connect(dsn), is_lock, product, _extras(options, tables))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The public views of this vendor."""
        return self._tables

    def about(self) -> About:
        """Ask for the version where a public view shows it."""
        version = self._version
        if self._version_query:
            version = str(self._reader.value(self._version_query) or version)
        return About(self._product, version, "odbc, read-only", is_sandbox=False)

    def operations(self) -> tuple[Capability, ...]:
        """Refuse every command."""
        reason = f"writing to {self._product} needs the vendor's licensed interface"
        return tuple(
            Capability(command.__name__, Support.NOT_LICENSED, reason) for command in COMMANDS
        )

    def rows(self, table: Table, window: Window) -> Iterator[Values]:
        """Read a view."""
        return self._reader.rows(table, window)

    def row(self, table: Table, key: str) -> Values | None:
        """Read one row of a view."""
        return self._reader.row(table, key)

    def execute(self, command: Command) -> Receipt:
        """Refuse."""
        raise self._refusal(command)

    def find(self, command: Command) -> Receipt | None:
        """Refuse: where nothing can be written, nothing is looked for."""
        raise self._refusal(command)

    def close(self) -> None:
        """Nothing is held open."""

    def _refusal(self, command: Command) -> NotLicensed:
        return NotLicensed(
            f"{type(command).__name__}: writing to {self._product} needs the vendor's licensed"
            " interface; this bridge only reads"
        )


def is_lock(error: Exception) -> bool:
    """Tell a lock or time-out from other troubles, by its SQLSTATE."""
    state = str(error.args[0]) if error.args else ""
    return state in _LOCK_STATES


def _pyodbc() -> Connector:
    try:
        module = importlib.import_module("pyodbc")
    except ImportError:
        raise ConfigError(
            "pyodbc is not installed: install bitewing[bridge-odbc] on the clinic's machine"
        ) from None

    def connect(dsn: str) -> DbConnection:
        return cast(DbConnection, module.connect(dsn, autocommit=True, readonly=True, timeout=15))

    return connect


def _connection_string(options: Mapping[str, object]) -> str:
    name = options.get("connection_string_env")
    found = os.environ.get(str(name), "") if name else options.get("connection_string")
    if not isinstance(found, str) or not found:
        raise ConfigError(
            "driver_options needs connection_string, or connection_string_env with the name of an"
            " environment variable that holds it"
        )
    return found


def _extras(options: Mapping[str, object], tables: tuple[Table, ...]) -> dict[str, dict[str, str]]:
    """Read ``columns``: view, our name, the licensed column's name."""
    given = options.get("columns", {})
    names = {table.name for table in tables}
    if not isinstance(given, dict) or not set(given) <= names:
        raise ConfigError(f"driver_options.columns names views among {sorted(names)}")
    found: dict[str, dict[str, str]] = {}
    for table, columns in given.items():
        if not isinstance(columns, dict):
            raise ConfigError(f"driver_options.columns of {table} is a table of names")
        for ours, theirs in columns.items():
            for name in (ours, theirs):
                if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                    raise ConfigError(f"driver_options.columns of {table}: not a column name")
            found.setdefault(table, {})[EXTRA_PREFIXES[0] + ours] = theirs
    return found
