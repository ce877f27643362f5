"""Making room: local files of what the bucket has confirmed go, the longest unused first.

The bucket is asked once more for every single file before it goes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.dicom.parts import storage_key_of
from node.disk import Disk
from node.errors import InvalidInput
from node.objects.copies import Copy, CopyState, find_copies
from node.objects.store import BucketStore

_MB = 1_000_000
#: Who was just given a file's path may still open it.
_LEAST_UNUSED = timedelta(minutes=10)
_TOGETHER = 400


@dataclass(frozen=True, slots=True)
class _Local:
    path: Path
    storage_key: str
    size_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class Room:
    """How much one data folder may keep: by size, by age, and by what is free on its disk."""

    db: sa.Engine
    store: BucketStore
    config: Config
    disk: Disk

    def make(self, now: datetime) -> list[Copy]:
        """Let go what may and should go; return copies that the bucket has lost, which stay.

        Raises as :meth:`Bucket.has`.
        """
        section = self.config.objects
        is_low = self._missing_bytes() > 0
        if not (section.cache_mb or section.cache_days or is_low):
            return []
        files = sorted(self._files(), key=lambda each: each.used_at)
        too_many = sum(each.size_bytes for each in files) - section.cache_mb * _MB
        wanted = max(too_many if section.cache_mb else 0, self._missing_bytes())
        unused = (now - _LEAST_UNUSED).timestamp()
        old = (now - timedelta(days=section.cache_days)).timestamp()
        lost: list[Copy] = []
        freed = 0
        for start in range(0, len(files), _TOGETHER):
            part = [
                each
                for each in files[start : start + _TOGETHER]
                if each.used_at < unused
                and (freed < wanted or (section.cache_days and each.used_at < old))
            ]
            for each, copy in self._confirmed(part):
                is_old = bool(section.cache_days) and each.used_at < old
                if freed >= wanted and not is_old:
                    continue
                if not self.store.bucket.has(copy.name, copy.size_bytes, copy.sha256):
                    lost.append(copy)
                elif self._let_go(each, copy):
                    freed += each.size_bytes
        return lost

    def _missing_bytes(self) -> int:
        """Count the bytes that lack on the disk up to its upper mark."""
        return self.disk.low_mb * _MB - self.disk.look().free_bytes

    def _files(self) -> Iterator[_Local]:
        location_id = self.config.node.location_id
        for path in (self.store.folder / location_id).glob("??/*"):
            try:
                yield _local(path, storage_key_of(location_id, path.name))
            except (InvalidInput, FileNotFoundError):
                continue
        for storage_key, _, path in self.store.shelf.cached_names(location_id):
            try:
                yield _local(path, storage_key)
            except FileNotFoundError:
                continue

    def _confirmed(self, files: list[_Local]) -> Iterator[tuple[_Local, Copy]]:
        """Pair files with the copies that the bucket has of these very bytes."""
        with read(self.db) as conn:
            copies = find_copies(conn, {each.storage_key for each in files})
        known: dict[str, list[Copy]] = {}
        for copy in copies:
            if copy.state is CopyState.CONFIRMED:
                known.setdefault(copy.storage_key, []).append(copy)
        for each in files:
            for copy in known.get(each.storage_key, ()):
                if each.path == self.store.shelf.cached(copy) or copy.is_of(each.path):
                    yield each, copy

    def _let_go(self, file: _Local, copy: Copy) -> bool:
        if file.path == self.store.shelf.cached(copy):
            file.path.unlink(missing_ok=True)
            return True
        return let_go(self.store, copy)


def let_go(store: BucketStore, copy: Copy) -> bool:
    """Remove the local file of a copy, unless other bytes lie there now; False when it stays.

    It is taken aside first: what lies aside cannot be replaced between the look and the removal.
    A mover that is killed in between puts it back when it begins.
    """
    home = store.path(copy.storage_key)
    if not copy.is_of(home):
        return False
    aside = store.shelf.aside / home.name
    try:
        home.replace(aside)
    except FileNotFoundError:
        return False
    if copy.is_of(aside):
        aside.unlink()
        return True
    put_back(aside, home)  # it was replaced at this very moment: that one stays
    return False


def put_back(aside: Path, home: Path) -> None:
    """Put a file back from aside, unless a newer one lies there."""
    with contextlib.suppress(FileExistsError):
        os.link(aside, home)
    aside.unlink()


def _local(path: Path, storage_key: str) -> _Local:
    status = path.stat()
    return _Local(path, storage_key, status.st_size, max(status.st_atime, status.st_mtime))
