"""Where image bytes live: one small interface, a folder behind it.

With a key ring every object is sealed on its way to the disk and opened on its way back
(:mod:`node.dicom.sealed_file`); nothing else in the program knows.

A name is one of our own opaque ids, never anything that came over the network, and the location
stands first in every key, so that two practices can never share a path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import mmap
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from node.db.keyring import KeyRing
from node.dicom.object_file import ObjectFile
from node.dicom.sealed_file import SealedFile, Sealer
from node.errors import InvalidInput, NotFound, Retryable

_LOG = logging.getLogger(__name__)
_LOCATION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{3,63}(\.[a-z0-9]{1,8})?")
#: The folder of unfinished files; its name is longer than a shard's, so no object lies in it.
_PARTS = "parts"
#: As much of a sealed object as :meth:`Part.map` shows: more than a header is read of.
MAPPED_BYTES = (4 << 20) + 65_536
#: A part older than this belongs to nobody any more (the longest association is far shorter).
_STALE_PART_S = 3600.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored object: its key in the store, the SHA-256 of its bytes and how many."""

    storage_key: str
    sha256: str
    size_bytes: int


class Part(Protocol):
    """An object that is being written: there after :meth:`finish`, nowhere after `discard`."""

    size_bytes: int
    storage_key: str

    def write(self, data: bytes | memoryview) -> int:
        """Append; raise Retryable when the disk is full or away."""

    def map(self) -> mmap.mmap:
        """Look at what was written so far, without reading it into memory.

        Of a sealed object the first `MAPPED_BYTES` are there; the rest is its length in zeros.
        """

    def finish(self) -> None:
        """Make the object durable under its name; raise Retryable when that cannot be."""

    def discard(self) -> None:
        """Leave nothing behind, unless it was finished; may be called twice."""


class InstanceStore(Protocol):
    """What the node needs from a place for image bytes; a folder today, object storage later."""

    def settings(self) -> dict[str, object]:
        """Say what another process needs to write into the same place."""

    def require_room(self, size_bytes: int) -> None:
        """Raise Retryable when `size_bytes` more would pass the free-space watermark."""

    def begin(self, location_id: str, name: str) -> Part:
        """Open an object to be written piece by piece; raise Retryable when that cannot be."""

    def put(
        self, location_id: str, name: str, write: Callable[[BinaryIO], None], sha256: str = ""
    ) -> StoredObject:
        """Store what `write` writes, durably and whole or not at all; the same name again replaces.

        Pass `sha256` where the caller already knows the digest that counts; it is computed
        otherwise. Raises Retryable when the disk is full or away; nothing is left behind then.
        """

    def open(self, storage_key: str) -> BinaryIO:
        """Open a stored object for reading; raise NotFound when there is none."""

    def holds(self, storage_key: str) -> bool:
        """Whether the object is really there."""

    def file(self, storage_key: str) -> ObjectFile:
        """Return the object as a file that can be opened, whether or not it is there."""

    def discard(self, storage_key: str) -> None:
        """Remove an object that no row refers to."""


class _Digesting:
    """A writable file that counts, and unless it is known digests, what passes through it."""

    def __init__(self, file: Part, sha256: str) -> None:
        self._file = file
        self._known = sha256
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._known or self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        if not self._known:
            self._digest.update(data)
        return self._file.write(data)


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
            raise _retryable(error) from None
        self.size_bytes += count
        return count

    def map(self) -> mmap.mmap:
        try:
            self._file.flush()
            with self._path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _retryable(error) from None

    def finish(self) -> None:
        try:
            self._file.flush()
            _flush(self._file.fileno())
            self._file.close()
            self._path.rename(self._final)
            _flush_folder(self._final.parent)
        except OSError as error:
            raise _retryable(error) from None
        self._is_finished = True

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
            self._file.close()
        if not self._is_finished:
            self._path.unlink(missing_ok=True)


class _SealedPart(_FilePart):
    """A part that is sealed as it is written; its plain beginning stays in memory."""

    def __init__(self, path: Path, final: Path, storage_key: str, ring: KeyRing) -> None:
        super().__init__(path, final, storage_key)
        self._sealer = Sealer(self._file, storage_key, ring)
        self._start = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        if len(self._start) < MAPPED_BYTES:
            self._start += memoryview(data)[: MAPPED_BYTES - len(self._start)]
        try:
            count = self._sealer.write(data)
        except OSError as error:
            raise _retryable(error) from None
        self.size_bytes += count
        return count

    def map(self) -> mmap.mmap:
        mapped = mmap.mmap(-1, max(self.size_bytes, 1))  # pages not written take no memory
        mapped[: len(self._start)] = bytes(self._start)
        return mapped

    def finish(self) -> None:
        self._start.clear()
        try:
            self._sealer.finish()
        except OSError as error:
            raise _retryable(error) from None
        super().finish()


class FolderStore:
    """Objects as files ``<folder>/<location>/<2 digits>/<name>``, mode 0600, never executable.

    A file is written in ``<folder>/<location>/parts`` and moved when it is whole and on the disk.
    `min_free_mb` megabytes (10^6 bytes) always stay free on the disk. With a `ring` what is written
    is sealed; sizes are those of the plain bytes everywhere.
    """

    def __init__(self, folder: Path, min_free_mb: int = 0, ring: KeyRing | None = None) -> None:
        self._folder = folder.absolute()
        self._ring = ring
        self._min_free_bytes = min_free_mb * 1_000_000
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sweep()

    def settings(self) -> dict[str, object]:
        """Say what another process needs to write into the same folder."""
        return {"folder": str(self._folder), "min_free_mb": self._min_free_bytes // 1_000_000}

    def prepare(self, location_id: str) -> None:
        """Make a location's folders, so that its first object need not wait for them."""
        self._make_folder((self._folder / _key(location_id, "0000")).parent)

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
        storage_key = _key(location_id, name)
        final = self._folder / storage_key
        part = final.parent.parent / _PARTS / f"{final.name}.{secrets.token_hex(4)}.part"
        try:
            self._make_folder(final.parent)
            if self._ring is None:
                return _FilePart(part, final, storage_key)
            return _SealedPart(part, final, storage_key, self._ring)
        except OSError as error:
            raise _retryable(error) from None

    def put(
        self, location_id: str, name: str, write: Callable[[BinaryIO], None], sha256: str = ""
    ) -> StoredObject:
        """Write a part and finish it."""
        part = self.begin(location_id, name)
        try:
            digesting = _Digesting(part, sha256)
            write(cast(BinaryIO, digesting))
            part.finish()
        except OSError as error:
            raise _retryable(error) from None
        finally:
            part.discard()
        return StoredObject(part.storage_key, digesting.sha256, part.size_bytes)

    def open(self, storage_key: str) -> BinaryIO:
        """Open a stored object for reading; raise NotFound when there is none."""
        try:
            return self.file(storage_key).open("rb")
        except FileNotFoundError:
            raise NotFound("the image store has no such object") from None
        except OSError as error:
            raise _retryable(error) from None

    def holds(self, storage_key: str) -> bool:
        """Whether the object's file is really there."""
        return self.path(storage_key).is_file()

    def path(self, storage_key: str) -> Path:
        """Return where the object's bytes lie, sealed or not, whether or not they are there."""
        location_id, _, rest = storage_key.partition("/")
        name = rest.rpartition("/")[2]
        if storage_key != _key(location_id, name):
            raise InvalidInput("not a key of the image store")
        return self._folder / storage_key

    def file(self, storage_key: str) -> ObjectFile:
        """Return the object as a file that can be opened, whether or not it is there."""
        path = self.path(storage_key)
        return path if self._ring is None else SealedFile(path, storage_key, self._ring)

    def discard(self, storage_key: str) -> None:
        """Remove an object that no row refers to."""
        self.path(storage_key).unlink(missing_ok=True)

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


def _key(location_id: str, name: str) -> str:
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


def _retryable(error: OSError) -> Retryable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retryable("the image store is full", 60.0)
    return Retryable(f"the image store did not take the object ({_name_of(error)})", 30.0)


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")
