"""Dentrix over ODBC: the public views of the vendor's read interface, read-only and off by default.

The connection string comes from the vendor's own client library after the registration on the
workstation; this driver does not replace that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pms_writeback.bridge.odbc import ReadOnlyOdbc
from pms_writeback.dentrix import views


def open_odbc(options: Mapping[str, object], folder: Path) -> ReadOnlyOdbc:
    """Open the driver; raises ConfigError unless it was turned on."""
    return ReadOnlyOdbc("Dentrix", views.PUBLIC, options)
