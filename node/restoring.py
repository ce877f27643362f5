"""Bringing a backup back into an empty data folder, with what leaves the house held back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from node.app import hold_executor
from node.backup.database import load_database
from node.backup.pool import data_files
from node.backup.runs import Run, pool_of
from node.config import Config
from node.db import audit, switches
from node.db.keys import attach_keys
from node.db.migrate import migrate
from node.db.session import Actor, begin, open_database, read
from node.errors import ConfigError, InvalidInput


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back; ``key_problem`` says why it cannot be read yet, empty when it can."""

    made_at: datetime
    files: int
    rows: int
    audit_rows: int
    key_problem: str


def restore(config: Config, root: Path, run: Run, say: Callable[[str], None]) -> Restored:
    """Bring `run` back; the node is stopped, its data folder and its database empty.

    Everything outbound is paused afterwards: a person looks at what was sent since the backup was
    made, and lets it go on.

    Raises
    ------
    InvalidInput
        The folder or database is not empty, or the backup is not what it was when it was made.
    ConfigError
        The node runs, or the backup is of a newer release.
    """
    data_dir = config.node.data_dir
    if data_dir.exists() and any(data_files(data_dir)):
        raise InvalidInput(f"{data_dir} is not empty; restore into an empty folder")
    if run.manifest.location_id != config.node.location_id:
        raise InvalidInput("the backup is of another location than the configuration's")
    release = hold_executor(config)
    try:
        _bring_files(run, root, data_dir, say)
        load_database(run.manifest.database, run.folder, config.database_url)
        return _open(config, run)
    finally:
        release()


def _bring_files(run: Run, root: Path, data_dir: Path, say: Callable[[str], None]) -> None:
    free = shutil.disk_usage(data_dir).free
    if run.manifest.size_bytes > free:
        raise InvalidInput(f"{data_dir} has no room for {run.manifest.size_bytes // 10**6} MB")
    pool = pool_of(root)
    for number, entry in enumerate(run.manifest.files, 1):
        pool.bring(entry, data_dir)
        if number % 1000 == 0:
            say(f"{number} of {len(run.manifest.files)} files")


def _open(config: Config, run: Run) -> Restored:
    """Check the rows and the audit, migrate, and hold back what leaves the house."""
    entry = run.manifest.database
    db = open_database(config.database_url)
    try:
        with read(db) as conn:
            audit_rows, broken = audit.verify(conn)
            head = audit.read_head(conn)
        if broken is not None:
            raise ConfigError(f"the audit does not hold at row {broken.seq}: {broken.reason}")
        if (head.seq, head.hash) != (entry.audit_seq, entry.audit_hash):
            raise InvalidInput("the database does not end where the backup says")
        migrate(db)
        with begin(db, Actor("restore", config.node.location_id), "backup.restored") as tx:
            reason = f"restored from the backup of {run.manifest.made_at:%Y-%m-%d %H:%M} UTC"
            switches.turn(tx, switches.OUTBOUND, True, reason)
            tx.record("backup", run=run.name, audit_seq=entry.audit_seq)
        key_problem = _look_for_key(db, config)
    finally:
        db.dispose()
    return Restored(
        run.manifest.made_at,
        len(run.manifest.files),
        sum(entry.rows.values()),
        audit_rows,
        key_problem,
    )


def _look_for_key(db: sa.Engine, config: Config) -> str:
    """Say what is wrong with the master key: no backup carries it."""
    try:
        attach_keys(db, config, config.node.location_id)
    except ConfigError as error:
        return str(error)
    return ""
