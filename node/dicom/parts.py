"""Objects on their way into the store: parts, each whole under its name or nowhere.

A name is one of our own opaque ids, never anything that came over the network, and the location
stands first in every key, so that two practices can never share a path. With a data key an object
is sealed on its way to the disk (:mod:`node.dicom.sealed_file`). This is all that the receiving
process needs of the store, so no library for DICOM or databases is needed here.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from node.db.keyring import DataKey, Purpose
from node.dicom.raw_file import RawFile
from node.dicom.sealed_file import Scratch, Sealer
from node.errors import InvalidInput, Retryable

_LOG = logging.getLogger(__name__)
_LOCATION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{3,63}(\.[a-z0-9]{1,8})?")
_SHARD = re.compile(r"[0-9a-f]{2}")  # of ids; made all at once
#: The folder of unfinished files; its name is longer than a shard's, so no object lies in it.
_PARTS = "parts"
#: A part older than this belongs to nobody any more (the longest association is far shorter).
_STALE_PART_S = 3600.0
#: So many parts' memory for sealing (1.3 MB each) is kept for the next ones.
_MOST_SPARE = 2


class Part(Protocol):
    """An object that is being written: there after :meth:`finish`, nowhere after `discard`."""

    size_bytes: int
    storage_key: str

    def write(self, data: bytes | memoryview) -> int:
        """Append; raise Retryable when the disk is full or away."""

    def write_all(self, pieces: Sequence[memoryview]) -> int:
        """Append several pieces at once; raises as :meth:`write`."""

    def finish(self) -> None:
        """Make the object durable under its name; raise Retryable when that cannot be."""

    def discard(self) -> None:
        """Leave nothing behind, unless it was finished; may be called twice."""


class _FilePart:
    """A part in the folder of unfinished files."""

    def __init__(self, path: str, final: str, storage_key: str) -> None:
        self._file = RawFile(path)
        self._path = path
        self._final = final
        self._is_finished = False
        self.storage_key = storage_key
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        return self.write_all([memoryview(data)])

    def write_all(self, pieces: Sequence[memoryview]) -> int:
        try:
            count = self._put(pieces)
        except OSError as error:
            raise retryable(error) from None
        self.size_bytes += count
        return count

    def finish(self) -> None:
        try:
            self._end()
            self._file.flush()
            self._file.close()
            os.replace(self._path, self._final)
            self._path = self._final
            _flush_folder(os.path.dirname(self._final))
        except OSError as error:
            raise retryable(error) from None
        self._is_finished = True

    def discard(self) -> None:
        self._file.close()
        if not self._is_finished:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _put(self, pieces: Sequence[memoryview]) -> int:
        return self._file.write_all(pieces)

    def _end(self) -> None:
        """Write what belongs behind the last byte."""


class _SealedPart(_FilePart):
    """A part that is sealed as it is written; `spare` is where memory for that is taken from."""

    def __init__(
        self, path: str, final: str, storage_key: str, key: DataKey, spare: list[Scratch]
    ) -> None:
        super().__init__(path, final, storage_key)
        self._spare = spare
        try:
            self._scratch: Scratch | None = spare.pop()
        except IndexError:
            self._scratch = Scratch()
        self._sealer = Sealer(self._file, storage_key, key, self._scratch)

    def discard(self) -> None:
        super().discard()
        self._give_back()

    def _put(self, pieces: Sequence[memoryview]) -> int:
        return self._sealer.write_all(pieces)

    def _end(self) -> None:
        self._sealer.finish()
        self._give_back()

    def _give_back(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None and len(self._spare) < _MOST_SPARE:
            self._spare.append(scratch)


class PartFolder:
    """Writes objects as files ``<folder>/<location>/<2 digits>/<name>``, mode 0600.

    A file is written in ``<folder>/<location>/parts`` and moved when it is whole and on the disk.
    `min_free_mb` megabytes (10^6 bytes) always stay free on the disk. What is written is sealed
    with the data key that `current_key` gives; sizes are those of the plain bytes everywhere.
    """

    def __init__(
        self,
        folder: Path,
        min_free_mb: int = 0,
        current_key: Callable[[], DataKey | None] = lambda: None,
    ) -> None:
        self._folder = folder.absolute()
        self._min_free_bytes = min_free_mb * 1_000_000
        self._current_key = current_key
        self._spare: list[Scratch] = []

    def settings(self) -> dict[str, object]:
        """Say what another process needs to write into the same folder; secret where sealed."""
        settings: dict[str, object] = {
            "folder": str(self._folder),
            "min_free_mb": self._min_free_bytes // 1_000_000,
        }
        key = self._current_key()
        if key is not None:
            settings["key_id"] = key.key_id
            settings["key"] = base64.b64encode(key.secret).decode("ascii")
        return settings

    def prepare(self, location_id: str) -> None:
        """Make a location's folders, so that its first object need not wait for them."""
        folder = (self._folder / storage_key_of(location_id, "0000")).parent.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # all at once, so that later objects need not flush new ones; the last says that all are
        for shard in (*(f"{number:02x}" for number in range(256)), _PARTS):
            (folder / shard).mkdir(exist_ok=True, mode=0o700)
        for parent in (folder, self._folder):
            _flush_folder(parent)

    def require_room(self, size_bytes: int) -> None:
        """Raise Retryable when `size_bytes` more would pass the free-space watermark."""
        try:
            free = _free_bytes(self._folder)
        except OSError as error:
            raise Retryable(f"the image store is away ({_name_of(error)})", 30.0) from None
        if free - size_bytes < self._min_free_bytes:
            raise Retryable("the image store is full", 60.0)

    def begin(self, location_id: str, name: str) -> Part:
        """Open a part; finishing it flushes it, renames it, flushes the folder."""
        storage_key = storage_key_of(location_id, name)
        final = f"{self._folder}/{storage_key}"
        part = f"{self._folder}/{location_id}/{_PARTS}/{name}.{secrets.token_hex(4)}.part"
        try:
            try:
                return self._open(part, final, storage_key)
            except FileNotFoundError:  # the location's first object
                self.prepare(location_id)
                return self._open(part, final, storage_key)
        except OSError as error:
            raise retryable(error) from None

    def _open(self, part: str, final: str, storage_key: str) -> Part:
        shard = os.path.dirname(final)
        if not _SHARD.fullmatch(os.path.basename(shard)) and not os.path.isdir(shard):
            os.makedirs(shard, 0o700, exist_ok=True)  # a name that says what it is, a lab's package
            _flush_folder(os.path.dirname(shard))
        key = self._current_key()
        if key is None:
            return _FilePart(part, final, storage_key)
        return _SealedPart(part, final, storage_key, key, self._spare)

    def sweep(self, older_than_s: float = _STALE_PART_S) -> int:
        """Remove parts that a killed process left; return how many."""
        limit = time.time() - older_than_s
        removed = 0
        for part in self._folder.glob(f"*/{_PARTS}/*"):
            try:
                if part.stat().st_mtime < limit:
                    part.unlink()
                    removed += 1
            except FileNotFoundError:  # its writer finished it meanwhile
                continue
        if removed:
            _LOG.info("removed %d unfinished files from the image store", removed)
        return removed


def part_folder_of(settings: Mapping[str, object]) -> PartFolder:
    """Open the folder that :meth:`PartFolder.settings` describes."""
    folder, min_free_mb = Path(str(settings["folder"])), int(str(settings["min_free_mb"]))
    if "key" not in settings:
        return PartFolder(folder, min_free_mb)
    secret = base64.b64decode(str(settings["key"]))
    key = DataKey(str(settings["key_id"]), Purpose.DATA, secret)
    return PartFolder(folder, min_free_mb, lambda: key)


def storage_key_of(location_id: str, name: str) -> str:
    """Name the place of an object. Raises InvalidInput for what is no name of ours."""
    if not _LOCATION.fullmatch(location_id) or not _NAME.fullmatch(name):
        raise InvalidInput("not a name for the image store")
    return f"{location_id}/{name[:2]}/{name}"


def _flush_folder(folder: str | Path) -> None:
    """Make a rename in `folder` survive a power cut (POSIX; other systems do so themselves)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    if not hasattr(os, "statvfs"):  # Windows
        return shutil.disk_usage(folder).free
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def retryable(error: OSError) -> Retryable:
    """Say of a failing disk that it may be asked again, without its paths."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retryable("the image store is full", 60.0)
    return Retryable(f"the image store did not take the object ({_name_of(error)})", 30.0)


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")
