"""The folder of objects with a bucket behind it: what is not here is fetched.

Writing is the folder's own: an object is on this disk before anybody is told that it was taken.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import sqlalchemy as sa

from node.db.keyring import KeyRing
from node.db.session import read
from node.dicom.distant_file import DistantFile
from node.dicom.instances import FolderStore
from node.dicom.object_file import ObjectFile
from node.dicom.sealed_file import SealedFile
from node.errors import ConfigError, Retryable
from node.objects.copies import KEPT, READABLE, Copy, CopyState, find_copies
from node.objects.shelf import Damaged, Shelf

if TYPE_CHECKING:
    from node.objects.bucket import Bucket

#: A file's time of use is written down no more often.
_USE_EVERY_S = 60.0
#: So long nothing is fetched after the bucket did not answer.
_REST_S = 10.0


class BucketStore(FolderStore):
    """A data folder's images, and behind them the location's bucket."""

    def __init__(
        self,
        folder: Path,
        shelf: Shelf,
        bucket: Bucket,
        db: sa.Engine,
        ring: KeyRing,
        min_free_mb: int = 0,
    ) -> None:
        super().__init__(folder, min_free_mb, ring)
        self.bucket = bucket
        self.shelf = shelf
        self._db = db
        self._sealed_with = ring
        self._away_until = 0.0

    def holds(self, storage_key: str) -> bool:
        """Whether the object is really here, in the bucket, or on its way from another node."""
        if super().holds(storage_key):
            return True
        if self.shelf.is_removed(storage_key):
            return False
        mine = self.shelf.folder_id
        return any(
            copy.state is CopyState.CONFIRMED
            or (copy.state is CopyState.WAITING and copy.folder_id != mine)
            for copy in self._copies(storage_key)
        )

    def file(self, storage_key: str) -> ObjectFile:
        """Return the object as a file that is fetched when it is opened and is not here."""
        self.path(storage_key)  # raises for what is no key
        return DistantFile(
            storage_key, lambda: self.bring(storage_key), lambda: self.holds(storage_key)
        )

    def discard(self, storage_key: str) -> None:
        """Remove an object that no row refers to, here and, by the mover, everywhere."""
        self.path(storage_key)
        self.shelf.note_removed(storage_key)
        super().discard(storage_key)

    def bring(self, storage_key: str) -> SealedFile:
        """Give the object's file on this disk, fetched if need be.

        Raises
        ------
        FileNotFoundError
            It was given up.
        Retryable
            It is with another node that has not yet put it into the bucket; the bucket is away,
            or has lost or damaged it.
        """
        here = self.path(storage_key)
        if not here.is_file():
            copy = self._current(storage_key)
            if copy is None:
                self._explain(storage_key)
            here = self.shelf.cached(copy)
            if not here.is_file():
                here = self._fetch(copy)
        _note_use(here)
        return SealedFile(here, storage_key, self._sealed_with)

    def bring_home(self, copy: Copy) -> Path:
        """Have an object lie in the folder itself again, as it was, and durably.

        Raises as :meth:`bring`.
        """
        home = self.path(copy.storage_key)
        if not home.is_file():
            fetched = self.shelf.cached(copy)
            if not fetched.is_file():
                fetched = self._fetch(copy)
            with fetched.open("rb") as file:
                os.fsync(file.fileno())
            home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):  # it came home meanwhile
                os.link(fetched, home)
            fetched.unlink(missing_ok=True)
        return home

    def _fetch(self, copy: Copy) -> Path:
        """Fetch a copy, unless the bucket was away a moment ago: a page has many pictures."""
        rest_s = self._away_until - time.monotonic()
        if rest_s > 0:
            raise Retryable("the object store is away", rest_s)
        try:
            return self.shelf.fetch(copy, self.bucket)
        except Damaged:
            raise
        except (Retryable, ConfigError):
            self._away_until = time.monotonic() + _REST_S
            raise

    def _copies(self, storage_key: str) -> list[Copy]:
        with read(self._db) as conn:
            return find_copies(conn, [storage_key])

    def _current(self, storage_key: str) -> Copy | None:
        copies = self._copies(storage_key)
        return next((each for each in reversed(copies) if each.state in READABLE), None)

    def _explain(self, storage_key: str) -> NoReturn:
        copies = self._copies(storage_key)
        if copies and not any(each.state in KEPT for each in copies):
            raise FileNotFoundError(storage_key)
        raise Retryable("the image has not yet come from the node that received it", 5.0)


def _note_use(path: Path) -> None:
    """Keep when a file was last used, whatever the file system keeps; its own time stays."""
    try:
        status = path.stat()
        now_ns = time.time_ns()
        if now_ns - status.st_atime_ns > _USE_EVERY_S * 1e9:
            os.utime(path, ns=(now_ns, status.st_mtime_ns))
    except FileNotFoundError:  # it made room; whoever opens it sees that
        return
