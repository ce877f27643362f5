"""Making, listing, checking and pruning the runs of a backup folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from node import __version__
from node.backup.database import Dump, dump_database, look_at
from node.backup.manifest import (
    FORM,
    NAME,
    FileEntry,
    Manifest,
    digest,
    read_manifest,
    write_manifest,
)
from node.backup.pool import Pool, data_files
from node.config import Config
from node.db import audit
from node.db.session import Actor, Tx, begin, read, upsert
from node.db.tables import sync_state
from node.errors import ConfigError, InvalidInput, NotFound, Retryable
from node.objects.copies import READABLE, copies_in
from node.objects.opening import open_bucket
from node.status import BACKUP

#: Who makes backups.
ACTOR = "backup"
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_TRIES = 3
#: Where the object store lies in the data folder.
_IMAGES = "images"


@dataclass(frozen=True, slots=True)
class Run:
    """One whole backup: its folder and what it holds."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Its moment, as its folder is named."""
        return self.folder.name


def pool_of(root: Path) -> Pool:
    """Open the pool of a backup folder."""
    return Pool(root / "pool")


def runs_of(root: Path) -> list[Run]:
    """Read every whole run, the oldest first."""
    return [Run(path.parent, read_manifest(path.parent)) for path in sorted(root.glob(f"*/{NAME}"))]


def find_run(root: Path, name: str = "") -> Run:
    """Find a run, the latest without a name; raises InvalidInput when there is none."""
    runs = [run for run in runs_of(root) if name in ("", run.name)]
    if not runs:
        raise InvalidInput(f"there is no such whole backup in {root}")
    return runs[-1]


def create(db: sa.Engine, config: Config, root: Path, now: datetime | None = None) -> Run:
    """Make a run of the database and the data folder; the node may be running.

    The database comes first: what its rows name was on the disk before them. An object that was
    purged between the two looks makes both be taken again.

    Raises
    ------
    InvalidInput
        `root` lies inside the data folder, or its disk has no room.
    Retryable
        Files that rows name are missing or still with another node, or the disk or the bucket
        is away.
    """
    data_dir = config.node.data_dir
    if root.resolve().is_relative_to(data_dir.resolve()):
        raise InvalidInput("a backup inside the data folder would be lost with it")
    now = now or datetime.now(UTC)
    folder = root / now.strftime(_STAMP)
    try:
        earlier = runs_of(root)
        known = earlier[-1].manifest.files if earlier else ()
        pool_of(root).make_room(data_dir, known)
        folder.mkdir(parents=True, mode=0o700)
        try:
            manifest = _take(db, config, folder, known, now)
            write_manifest(manifest, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise Retryable(f"the backup's disk did not take it ({error.strerror})") from None
    with begin(db, Actor(ACTOR, config.node.location_id), "backup.made") as tx:
        note_run(tx, last_ok_at=now, error="")
        tx.record(BACKUP, run=folder.name, files=len(manifest.files))
    return Run(folder, manifest)


def note_run(tx: Tx, **values: object) -> None:
    """Keep when a backup was tried or made, for the status and the next one."""
    row = {"location_id": tx.location_id, "resource": BACKUP, **values}
    upsert(tx.conn, sync_state, ("location_id", "resource"), row)


def _take(
    db: sa.Engine, config: Config, folder: Path, known: tuple[FileEntry, ...], now: datetime
) -> Manifest:
    last = {entry.path: entry for entry in known}
    missing = 0
    for _ in range(_TRIES):
        for old in folder.glob("database.*"):
            old.unlink()
        dump = dump_database(db, folder)
        files = _keep_files(config.node.data_dir, pool_of(folder.parent), last)
        files += _keep_copies(db, config, pool_of(folder.parent), {file.path for file in files})
        missing = _count_missing(dump, files)
        if not missing:
            location_id = config.node.location_id
            return Manifest(FORM, __version__, now, location_id, dump.entry, tuple(files))
    raise Retryable(
        f"{missing} files that the database names are neither in the data folder nor in a bucket"
    )


def _keep_files(data_dir: Path, pool: Pool, last: dict[str, FileEntry]) -> list[FileEntry]:
    files = []
    for path in data_files(data_dir):
        name = path.relative_to(data_dir).as_posix()
        try:
            files.append(pool.keep(path, name, last.get(name)))
        except FileNotFoundError:  # purged or replaced since it was listed
            continue
    return files


def _keep_copies(
    db: sa.Engine, config: Config, pool: Pool, here: Collection[str]
) -> list[FileEntry]:
    """Keep what only the bucket of ``[objects]`` has, so that a run is whole without it."""
    if not config.objects.endpoint:
        return []
    bucket = open_bucket(config)
    with read(db) as conn:
        copies = copies_in(conn, config.node.location_id, READABLE)
    files: dict[str, FileEntry] = {}
    for copy in copies:
        name = f"{_IMAGES}/{copy.storage_key}"
        if name not in here:
            fetch = partial(bucket.fetch, copy.name)
            try:
                files[name] = pool.keep_fetched(name, copy.sha256, copy.mtime_ns, fetch)
            except NotFound:  # given up since it was listed; or lost, which is counted
                continue
    return list(files.values())


def _count_missing(dump: Dump, files: list[FileEntry]) -> int:
    kept = {entry.path for entry in files}
    return sum(f"{_IMAGES}/{key}" not in kept for key in dump.object_keys)


def problems_of(root: Path, run: Run, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Read every byte of a run again and check it; returns what is wrong, in words."""
    entry = run.manifest.database
    dump = run.folder / entry.name
    if not dump.exists():
        return ["the database is missing"]
    if digest(dump) != entry.sha256:
        return ["the database was changed"]
    found = _audit_problems(run) if entry.kind == "sqlite" else []
    pool = pool_of(root)
    for number, file in enumerate(run.manifest.files, 1):
        problem = pool.problem(file)
        if problem:
            found.append(problem)
        if number % 1000 == 0:
            say(f"{number} of {len(run.manifest.files)} files")
    return found


def _audit_problems(run: Run) -> list[str]:
    db = look_at(run.folder / run.manifest.database.name)
    try:
        with db.connect() as conn:
            if conn.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok":
                return ["the database is damaged"]
            _, broken = audit.verify(conn)
    finally:
        db.dispose()
    return [f"the audit does not hold at row {broken.seq}: {broken.reason}"] if broken else []


def prune(root: Path, keep: int) -> tuple[int, int]:
    """Keep the last `keep` runs; returns how many runs and how many files were removed.

    What is left of runs that were cut off before the last whole one goes too.
    """
    if keep < 1:
        raise InvalidInput("at least one backup is kept")
    runs = runs_of(root)
    if not runs:
        raise ConfigError(f"{root} holds no backup")
    dropped = runs[:-keep]
    for run in dropped:
        (run.folder / NAME).unlink()  # no run any more, whatever happens next
    for folder in root.glob("*Z"):
        if folder.name < runs[-1].name and not (folder / NAME).exists():
            shutil.rmtree(folder)
    kept = {file.sha256 for run in runs[-keep:] for file in run.manifest.files}
    return len(dropped), pool_of(root).prune(kept)
