"""One SQLite file of the bridge: opened in WAL mode, written in whole transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from node.errors import ConfigError, Retryable

_SCHEMA_VERSION = 1


class SqliteFile:
    """A file that `name` says in errors; safe to use from several threads.

    ``synchronous`` FULL outlasts a power cut; NORMAL may lose the last transactions, for what can
    be read again.
    """

    def __init__(
        self, path: Path, schema: str, name: str, synchronous: Literal["FULL", "NORMAL"]
    ) -> None:
        self._name = name
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise ConfigError(f"{path} was written by a newer bridge (schema {version})")
            self._db.executescript(f"{schema}\nPRAGMA user_version = {_SCHEMA_VERSION:d};")
        except sqlite3.Error as error:
            raise ConfigError(f"cannot use the {name} {path} ({error})") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """Open a write transaction that commits unless the block raises.

        Raises Retryable when the file is locked or the disk full.
        """
        with self._lock:
            cursor = self._db.cursor()
            cursor.row_factory = sqlite3.Row
            try:
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise Retryable(f"the bridge's {self._name} is not writable ({error})") from None
            except BaseException:
                self._roll_back()
                raise
            finally:
                cursor.close()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
