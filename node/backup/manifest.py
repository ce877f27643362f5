"""What one backup holds, and proof of it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from node.domain.plain_json import decode, encode
from node.errors import InvalidInput

NAME = "manifest.json"
#: The form of a backup; a program refuses forms that it does not know.
FORM = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the data folder: its path there, its bytes' digest, their number, its time."""

    path: str
    sha256: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """The database's dump: what kind, its schema's revision, rows and where its audit ended."""

    kind: str
    name: str
    sha256: str
    size_bytes: int
    revision: str
    rows: dict[str, int]
    audit_seq: int
    audit_hash: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One run of a backup."""

    form: int
    release: str
    made_at: datetime
    location_id: str
    database: DatabaseEntry
    files: tuple[FileEntry, ...]

    @property
    def size_bytes(self) -> int:
        """How much it takes to bring it back."""
        return self.database.size_bytes + sum(each.size_bytes for each in self.files)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it durably: a run counts from here on."""
    part = folder / f"{NAME}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(encode(manifest), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / NAME)


def read_manifest(folder: Path) -> Manifest:
    """Read it; raises InvalidInput when there is none, or one of another form."""
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{folder} is no whole backup: it has no {NAME}") from None
    except (OSError, ValueError):
        raise InvalidInput(f"{folder / NAME} cannot be read") from None
    if not isinstance(data, dict) or data.get("form") != FORM:
        raise InvalidInput(f"{folder} has a form that this release does not know")
    return decode(Manifest, data)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
