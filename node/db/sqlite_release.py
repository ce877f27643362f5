"""Which release of SQLite this Python brings, and whether the program can work with it."""

from __future__ import annotations

import sqlite3
import sys

from node.errors import ConfigError

#: From Python 3.12 on dbos writes times by ``unixepoch('subsec')``, which is NULL before this
#: release of SQLite (sqlite.org, "Date And Time Functions"; seen with dbos 3.4.0, SQLite 3.40.1).
_NEEDED = (3, 42, 0)
_NEEDED_FROM = (3, 12)


def check_sqlite(
    python: tuple[int, ...] = sys.version_info[:2],
    release: tuple[int, ...] = sqlite3.sqlite_version_info,
) -> None:
    """Raise ConfigError when this Python's SQLite is too old for it."""
    if python[:2] >= _NEEDED_FROM and release < _NEEDED:
        raise ConfigError(
            f"Python {python[0]}.{python[1]} runs with SQLite {'.'.join(map(str, release))} here, "
            f"and needs {'.'.join(map(str, _NEEDED[:2]))}: use Python 3.11, a newer system, or "
            "PostgreSQL ([database] url)"
        )
