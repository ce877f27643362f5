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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from node.db.keyring import DataKey, Purpose
from node.dicom.sealed_file import Sealer
from node.errors import InvalidInput, Retryable

_LOG = logging.getLogger(__name__)
_LOCATION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{3,63}(\.[a-z0-9]{1,8})?")
#: The folder of unfinished files; its name is longer than a shard's, so no object lies in it.
_PARTS = "parts"
#: A part older than this belongs to nobody any more (the longest association is far shorter).
_STALE_PART_S = 3600.0


class Part(Protocol):
    """An object that is being written: there after :meth:`finish`, nowhere after `discard`."""

    size_bytes: int
    storage_key: str

    def write(self, data: bytes | memoryview) -> int:
        """Append; raise Retryable when the disk is full or away."""

    def finish(self) -> None:
        """Make the object durable under its name; raise Retryable when that cannot be."""

    def discard(self) -> None:
        """Leave nothing behind, unless it was finished; may be called twice."""


class _FilePart:
    """A part in the folder of unfinished files."""

    def __init__(self, path: Path, final: Path, storage_key: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._path = path
        self._final = final
        self._is_finished = False
        self.storage_key = storage_key
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        try:
            count = self._file.write(data)
        except OSError as error:
            raise retryable(error) from None
        self.size_bytes += count
        return count

    def finish(self) -> None:
        try:
            self._file.flush()
            _flush(self._file.fileno())
            self._file.close()
            self._path.rename(self._final)
            _flush_folder(self._final.parent)
        except OSError as error:
            raise retryable(error) from None
        self._is_finished = True

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
            self._file.close()
        if not self._is_finished:
            self._path.unlink(missing_ok=True)


class _SealedPart(_FilePart):
    """A part that is sealed as it is written."""

    def __init__(self, path: Path, final: Path, storage_key: str, key: DataKey) -> None:
        super().__init__(path, final, storage_key)
        self._sealer = Sealer(self._file, storage_key, key)

    def write(self, data: bytes | memoryview) -> int:
        try:
            count = self._sealer.write(data)
        except OSError as error:
            raise retryable(error) from None
        self.size_bytes += count
        return count

    def finish(self) -> None:
        try:
            self._sealer.finish()
        except OSError as error:
            raise retryable(error) from None
        super().finish()


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
        self._make_folder((self._folder / storage_key_of(location_id, "0000")).parent)

    def require_room(self, size_bytes: int) -> None:
        """Raise Retryable when `size_bytes` more would pass the free-space watermark."""
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise Retryable(f"the image store is away ({_name_of(error)})", 30.0) from None
        if free - size_bytes < self._min_free_bytes:
            raise Retryable("the image store is full", 60.0)

    def begin(self, location_id: str, name: str) -> Part:
        """Open a part; finishing it flushes it, renames it, flushes the folder."""
        storage_key = storage_key_of(location_id, name)
        final = self._folder / storage_key
        part = final.parent.parent / _PARTS / f"{final.name}.{secrets.token_hex(4)}.part"
        key = self._current_key()
        try:
            self._make_folder(final.parent)
            if key is None:
                return _FilePart(part, final, storage_key)
            return _SealedPart(part, final, storage_key, key)
        except OSError as error:
            raise retryable(error) from None

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

    def _make_folder(self, folder: Path) -> None:
        """Make a location's folders all at once, so that later images need not flush new ones."""
        if folder.is_dir() and folder.with_name(_PARTS).is_dir():
            return
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for shard in (folder.name, _PARTS, *(f"{number:02x}" for number in range(256))):
            folder.with_name(shard).mkdir(exist_ok=True, mode=0o700)
        for parent in (folder.parent, self._folder):
            _flush_folder(parent)


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


def _flush(descriptor: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # macOS, Windows
        os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (POSIX; other systems do so themselves)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def retryable(error: OSError) -> Retryable:
    """Say of a failing disk that it may be asked again, without its paths."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retryable("the image store is full", 60.0)
    return Retryable(f"the image store did not take the object ({_name_of(error)})", 30.0)


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")
