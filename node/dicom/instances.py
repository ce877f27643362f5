"""Where image bytes live: one small interface, a folder behind it.

With a key ring every object is sealed on its way to the disk and opened on its way back
(:mod:`node.dicom.sealed_file`); nothing else in the program knows. How objects are written is in
:mod:`node.dicom.parts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from node.db.keyring import KeyRing, Purpose
from node.dicom.object_file import ObjectFile
from node.dicom.parts import Part, PartFolder, retryable, storage_key_of
from node.dicom.sealed_file import SealedFile
from node.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored object: its key in the store, the SHA-256 of its bytes and how many."""

    storage_key: str
    sha256: str
    size_bytes: int


class InstanceStore(Protocol):
    """What the node needs from a place for image bytes: a folder, maybe with a bucket behind it."""

    def settings(self) -> dict[str, object]:
        """Say what another process needs to write into the same place; may be secret."""

    def prepare(self, location_id: str) -> None:
        """Make ready for a location's first object."""

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


class FolderStore(PartFolder):
    """The folder of objects, written as :class:`PartFolder` does, and read.

    With a `ring` what is written is sealed with its current data key.
    """

    def __init__(self, folder: Path, min_free_mb: int = 0, ring: KeyRing | None = None) -> None:
        super().__init__(
            folder, min_free_mb, lambda: None if ring is None else ring.current(Purpose.DATA)
        )
        self._ring = ring
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sweep()

    @property
    def folder(self) -> Path:
        """Where the objects' files lie."""
        return self._folder

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
            raise retryable(error) from None
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
            raise retryable(error) from None

    def holds(self, storage_key: str) -> bool:
        """Whether the object's file is really there."""
        return self.path(storage_key).is_file()

    def path(self, storage_key: str) -> Path:
        """Return where the object's bytes lie, sealed or not, whether or not they are there."""
        location_id, _, rest = storage_key.partition("/")
        name = rest.rpartition("/")[2]
        if storage_key != storage_key_of(location_id, name):
            raise InvalidInput("not a key of the image store")
        return self._folder / storage_key

    def file(self, storage_key: str) -> ObjectFile:
        """Return the object as a file that can be opened, whether or not it is there."""
        path = self.path(storage_key)
        return path if self._ring is None else SealedFile(path, storage_key, self._ring)

    def discard(self, storage_key: str) -> None:
        """Remove an object that no row refers to."""
        self.path(storage_key).unlink(missing_ok=True)
