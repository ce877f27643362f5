"""The files of all runs, each once, under the digest of its bytes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from node.backup.manifest import FileEntry, digest
from node.disk import RESERVE
from node.errors import InvalidInput

_CHUNK = 1 << 20
_DATABASE = "bitewing.sqlite"
_PARTS = "parts"
#: At the top of the data folder and no data: the database is copied for itself, and what the
#: bucket has (`objects`) is asked of the bucket.
_LEFT_OUT = (_DATABASE, "sandbox", RESERVE, "objects")


def data_files(data_dir: Path) -> Iterator[Path]:
    """Walk what a backup keeps of the data folder: no database, locks, sandboxes or parts."""
    for path in sorted(data_dir.rglob("*")):
        inside = path.relative_to(data_dir)
        is_left_out = (
            inside.parts[0].startswith(_LEFT_OUT)
            or path.suffix in (".lock", ".part")
            or _PARTS in inside.parts
        )
        if not is_left_out and path.is_file() and not path.is_symlink():
            yield path


class Pool:
    """The pool of one backup folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Tell where the bytes with a digest lie, whether or not they are there."""
        return self._folder / sha256[:2] / sha256

    def keep(self, path: Path, name: str, known: FileEntry | None) -> FileEntry:
        """Keep a file; `known` is what the last run said, true while size and time are the same."""
        stat = path.stat()
        if (
            known is not None
            and (known.size_bytes, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
            and self.path(known.sha256).exists()
        ):
            return known
        part = self._folder / f"{secrets.token_hex(8)}.part"
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sha256, size = _copy(path, part)
        final = self.path(sha256)
        final.parent.mkdir(exist_ok=True, mode=0o700)
        part.replace(final)
        return FileEntry(name, sha256, size, stat.st_mtime_ns)

    def keep_fetched(
        self, name: str, sha256: str, mtime_ns: int, fetch: Callable[[BinaryIO], str]
    ) -> FileEntry:
        """Keep bytes that `fetch` writes and digests, unless they are here already.

        Raises InvalidInput when they are others than `sha256` says, and as `fetch`.
        """
        final = self.path(sha256)
        if not final.exists():
            part = self._folder / f"{secrets.token_hex(8)}.part"
            part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if fetch(file) != sha256:
                        raise InvalidInput(f"{name} was changed in the object store")
                    file.flush()
                    os.fsync(file.fileno())
                final.parent.mkdir(exist_ok=True, mode=0o700)
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
        return FileEntry(name, sha256, final.stat().st_size, mtime_ns)

    def bring(self, entry: FileEntry, data_dir: Path) -> None:
        """Bring a file back; raises InvalidInput when its bytes are not what they were."""
        target = data_dir / entry.path
        if not target.resolve().is_relative_to(data_dir.resolve()):
            raise InvalidInput("the backup names a file outside the data folder")
        for folder in reversed(Path(entry.path).parents):
            (data_dir / folder).mkdir(exist_ok=True, mode=0o700)
        try:
            sha256, _ = _copy(self.path(entry.sha256), target)
        except FileNotFoundError:
            raise InvalidInput(f"{entry.path} is missing in the backup") from None
        if sha256 != entry.sha256:
            raise InvalidInput(f"{entry.path} was changed in the backup")
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))

    def problem(self, entry: FileEntry) -> str:
        """Say what is wrong with a file in the pool; empty when it is whole."""
        path = self.path(entry.sha256)
        if not path.exists():
            return f"{entry.path} is missing"
        return "" if digest(path) == entry.sha256 else f"{entry.path} was changed"

    def prune(self, kept: Collection[str]) -> int:
        """Remove bytes that no run names any more; returns how many files."""
        removed = 0
        for path in list(self._folder.glob("??/*")):
            if path.name not in kept:
                path.unlink()
                removed += 1
        return removed

    def make_room(self, data_dir: Path, last: Collection[FileEntry]) -> None:
        """Raise InvalidInput when what is new would not fit."""
        known = {entry.path: entry.size_bytes for entry in last}
        new = sum(
            path.stat().st_size
            for path in data_files(data_dir)
            if known.get(path.relative_to(data_dir).as_posix()) != path.stat().st_size
        )
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if new > shutil.disk_usage(self._folder).free:
            raise InvalidInput(f"the backup's disk has no room for {new // 1_000_000 + 1} MB more")


def _copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy bytes durably, mode 0600; return their SHA-256 and number."""
    found, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with source.open("rb") as there, os.fdopen(descriptor, "wb") as here:
        while chunk := there.read(_CHUNK):
            found.update(chunk)
            size += here.write(chunk)
        here.flush()
        os.fsync(here.fileno())
    return found.hexdigest(), size
