"""Eaglesoft over ODBC: its public tables, read-only and off by default.

Authorised integrators get the connection string through the vendor's own settings component.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pms_writeback.bridge.odbc import ReadOnlyOdbc
from pms_writeback.eaglesoft import tables


def open_odbc(options: Mapping[str, object], folder: Path) -> ReadOnlyOdbc:
    """Open the driver; raises ConfigError unless it was turned on."""
    return ReadOnlyOdbc("Eaglesoft", tables.PUBLIC, options, tables.VERSION_QUERY)
