"""What a data folder keeps for its bucket, in ``objects/``: fetched copies, and notes to the mover.

``cache/`` has fetched copies, ``damaged/`` what was fetched and is not what was put there (each
with a note in ``reported/``), ``removed/`` a note for every object that was discarded, ``aside/``
files that are being let go, and ``id`` the folder's own name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from node.db.session import new_id
from node.dicom.parts import storage_key_of
from node.errors import InvalidInput, NotFound, Retryable
from node.objects.copies import Copy

if TYPE_CHECKING:
    from node.objects.bucket import Bucket

#: The folder in the data folder.
NAME = "objects"
_STALE_PART_S = 3600.0


class Damaged(Retryable):
    """The bucket has lost or changed an object; some node may have its bytes and put them anew."""


class Shelf:
    """One data folder's ``objects/``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        for name in ("cache", "damaged", "reported", "removed", "aside", "parts"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder_id = self._read_id()

    @property
    def aside(self) -> Path:
        """Where files lie that are being let go."""
        return self._folder / "aside"

    def cached(self, copy: Copy) -> Path:
        """Tell where a fetched copy lies, whether or not it is there."""
        return self._folder / "cache" / copy.name

    def fetch(self, copy: Copy, bucket: Bucket) -> Path:
        """Fetch a copy whole or not at all.

        Raises
        ------
        Damaged
            The bucket has none, or one with other bytes, which is put aside and reported.
        Retryable
            The bucket is away or the disk is full.
        """
        part = self._folder / "parts" / f"{secrets.token_hex(8)}.part"
        try:
            try:
                with part.open("xb") as file:
                    os.chmod(part, 0o600)
                    sha256 = bucket.fetch(copy.name, file)
            except NotFound:
                self._report(copy)
                raise Damaged("the object store has lost this object", 60.0) from None
            if sha256 != copy.sha256:
                self._report(copy, part)
                raise Damaged("the object store gave other bytes than were put into it", 60.0)
            os.utime(part, ns=(part.stat().st_atime_ns, copy.mtime_ns))
            final = self.cached(copy)
            final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.replace(final)
        except OSError as error:
            raise Retryable(f"the cache did not take an object ({error.strerror})", 30.0) from None
        finally:
            part.unlink(missing_ok=True)
        return final

    def cached_names(self, location_id: str) -> Iterator[tuple[str, str, Path]]:
        """List what was fetched: storage key, digest and file."""
        for path in (self._folder / "cache" / location_id).glob("??/*"):
            name, _, sha256 = path.name.rpartition(".")
            with contextlib.suppress(InvalidInput):
                yield storage_key_of(location_id, name), sha256, path

    def note_removed(self, storage_key: str) -> None:
        """Note durably that an object was discarded."""
        path = self._folder / "removed" / storage_key.rpartition("/")[2]
        with path.open("w", encoding="utf-8") as file:
            file.write(storage_key)
            file.flush()
            os.fsync(file.fileno())

    def is_removed(self, storage_key: str) -> bool:
        """Whether an object was discarded here, and the mover has not yet taken the note."""
        return (self._folder / "removed" / storage_key.rpartition("/")[2]).exists()

    def removed(self) -> list[tuple[str, Path]]:
        """List the notes of discarded objects."""
        return _notes(self._folder / "removed")

    def damaged(self) -> list[tuple[str, Path]]:
        """List the reports of damaged copies: their names in the bucket."""
        return _notes(self._folder / "reported")

    def sweep(self) -> None:
        """Remove what a killed process left half fetched."""
        for part in (self._folder / "parts").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - _STALE_PART_S:
                    part.unlink()

    def _report(self, copy: Copy, part: Path | None = None) -> None:
        """Tell the mover of a damaged copy; a note, as the caller may be in a transaction."""
        name = copy.name.rpartition("/")[2]
        if part is not None:
            part.replace(self._folder / "damaged" / name)
        (self._folder / "reported" / name).write_text(copy.name, encoding="utf-8")

    def _read_id(self) -> str:
        path = self._folder / "id"
        if not path.exists():
            part = path.with_name(f"id.{secrets.token_hex(4)}.part")
            part.write_text(new_id(), encoding="ascii")
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(part, path)
            part.unlink()
        return path.read_text(encoding="ascii")


def _notes(folder: Path) -> list[tuple[str, Path]]:
    return [(path.read_text(encoding="utf-8"), path) for path in sorted(folder.iterdir())]
