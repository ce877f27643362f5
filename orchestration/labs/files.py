"""Files of a case: taken from the folder where scanners and cameras export, by patient number.

A file is copied into our store as it is taken: what a dentist signs for is what is sent. Its kind
is guessed from its name and confirmed with the signature. Older files are left alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node.dicom.instances import InstanceStore
from node.errors import ConfigError, InvalidInput
from orchestration.labs.package import Open, describe_file
from orchestration.labs.prescription import FileKind, FileRef

_KINDS = (
    (r"scan.?body", FileKind.SCAN_BODY),
    (r"oppos|antag", FileKind.OPPOSING_SCAN),
    (r"bite|occlu|buccal", FileKind.BITE_SCAN),
)
_PHOTOS = ("jpg", "jpeg", "png")
_SCANS = ("stl", "ply", "dcm")
_MOST = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """Files that were taken: entries for the prescription, keys of the store, and what was not."""

    refs: tuple[FileRef, ...]
    keys: Mapping[str, str]
    refused: tuple[str, ...]


def take_files(
    store: InstanceStore,
    location_id: str,
    case_number: str,
    folder: Path,
    since: datetime,
    known: Mapping[str, str],
) -> Taken:
    """Take the files of a patient's folder that came since a moment and are not `known` yet.

    What is no scan or photograph is not taken, with the reason; reasons name no file.
    """
    refs: list[FileRef] = []
    keys: dict[str, str] = {}
    refused: list[str] = []
    for path in sorted(folder.iterdir())[:_MOST] if folder.is_dir() else []:
        kind = kind_of(path.name)
        if path.name in known or kind is None or not _is_fresh(path, since):
            continue
        try:
            with path.open("rb") as file:
                ref = describe_file(path.name, kind, file)
                name = f"lab-{case_number}-{ref.sha256[:24]}"
                stored = store.put(location_id, name, lambda out: shutil.copyfileobj(file, out))
        except InvalidInput as error:
            refused.append(str(error))
            continue
        if stored.sha256 != ref.sha256:  # it changed while it was copied; it is taken next time
            continue
        refs.append(ref)
        keys[path.name] = stored.storage_key
    return Taken(tuple(refs), keys, tuple(refused))


def patient_folder(root: str, patient_key: str) -> Path | None:
    """Find a patient's folder; None where none is configured.

    Raises ConfigError for a number that could lead out of the root.
    """
    if not root:
        return None
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", patient_key):
        raise ConfigError("labs.scans_dir needs patient numbers of letters and digits")
    return Path(root) / patient_key


def kind_of(name: str) -> FileKind | None:
    """Guess what a file shows from its name; None for what is neither scan nor photograph."""
    ending = name.rpartition(".")[2].lower()
    if ending in _PHOTOS:
        return FileKind.PHOTO
    if ending not in _SCANS:
        return None
    found = (kind for pattern, kind in _KINDS if re.search(pattern, name, re.IGNORECASE))
    return next(found, FileKind.SCAN)


def openers(store: InstanceStore, keys: Mapping[str, str]) -> dict[str, Open]:
    """Give what opens each stored file."""
    return {name: _opener(store, key) for name, key in keys.items()}


def _opener(store: InstanceStore, key: str) -> Open:
    return lambda: store.open(key)


def _is_fresh(path: Path, since: datetime) -> bool:
    """A plain file of its own, no link, written since."""
    if path.is_symlink() or not path.is_file():
        return False
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) >= since
