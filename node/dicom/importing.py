"""The folder that is watched: what stands still in it is taken in, what cannot be is set aside.

A file is taken out of the folder once it is durably kept. A file that cannot be taken goes to
``quarantine`` below the folder, with its reason beside it. Names of files may be names of people:
they are neither logged nor stored. A DICOMDIR is never opened; what it lists lies beside it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from node.config import Config
from node.db.session import Actor, begin, insert_once, new_id
from node.db.tables import import_file
from node.dicom.files import FoundObject, find_objects
from node.dicom.instances import InstanceStore
from node.dicom.sidecar import SUFFIXES, Sidecar, told_of
from node.dicom.store import Incoming, receive
from node.dicom.wrapping import wrap_picture, wrap_scan
from node.engine import DurableEngine
from node.errors import InvalidInput, Retryable

_LOG = logging.getLogger(__name__)

QUARANTINE = "quarantine"
_SENDER = "IMPORT"
_MAX_BYTES = 1 << 30
_MAX_FILES = 1_000
_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", "~")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"II*\0", b"MM\0*", b"BM")
_SCANS = (".stl", ".ply")


class Kind(StrEnum):
    """What a file turned out to be."""

    DICOM = "dicom"
    PICTURE = "picture"
    SCAN = "scan"
    INDEX = "index"  # a DICOMDIR
    UNKNOWN = "unknown"


@dataclass(slots=True)
class ImportFolder:
    """The watched folder of one location."""

    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    config: Config
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def run_once(self) -> int:
        """Take in what has not changed since the look before; returns how many files were taken.

        Raises Retryable when the folder, the disk or the database is away; the rest waits there.
        """
        folder = Path(self.config.dicom.import_dir)
        if not folder.is_dir():
            raise Retryable("the import folder is away")
        try:
            found = {path: _stamp(path) for path in _files(folder)}
        except OSError as error:
            raise Retryable(f"the import folder is away ({error.strerror})") from None
        still = [path for path, stamp in found.items() if self._seen.get(path) == stamp]
        self._seen = found
        pictures = [path for path in still if path.suffix.lower() not in SUFFIXES]
        taken = sum(self._take(folder, path, found[path]) for path in pictures)
        self._clear_sidecars(folder)
        return taken

    def _take(self, folder: Path, path: Path, stamp: tuple[int, int]) -> bool:
        """Take one file in or set it aside: none holds up those behind it."""
        try:
            return self._take_in(folder, path, stamp)
        except Retryable:
            raise
        except Exception as error:  # noqa: BLE001 - an edge: whatever lies in a folder
            error_id = new_id()[:8]
            _LOG.error("a file cannot be imported, error %s: %s", error_id, type(error).__name__)
            self._quarantine(folder, path, "", Kind.UNKNOWN, f"Internal error {error_id}.")
            return False

    def _take_in(self, folder: Path, path: Path, stamp: tuple[int, int]) -> bool:
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise InvalidInput("the file is larger than a gigabyte")
            data = path.read_bytes()
        except OSError:  # taken away, or locked by its writer
            return False
        except InvalidInput as error:
            self._quarantine(folder, path, "", Kind.UNKNOWN, str(error))
            return False
        digest = hashlib.sha256(data).hexdigest()
        kind = _kind_of(path, data)
        try:
            instance_id = self._keep(path, data, kind)
        except InvalidInput as error:
            self._quarantine(folder, path, digest, kind, str(error))
            return False
        self._note(digest, kind, "imported", "", instance_id)
        return self._take_out(path, stamp)

    def _take_out(self, path: Path, stamp: tuple[int, int]) -> bool:
        """Remove what was kept, unless its writer went on meanwhile: then it comes again."""
        try:
            is_same = _stamp(path) == stamp
            if is_same:
                path.unlink()
        except OSError as error:  # gone already, or held by another program
            is_same = isinstance(error, FileNotFoundError)
        if is_same:
            self._seen.pop(path, None)
        return is_same

    def _keep(self, path: Path, data: bytes, kind: Kind) -> str | None:
        if kind is Kind.INDEX:
            return None
        if kind is Kind.DICOM:
            (found,) = find_objects([path])
            if not isinstance(found, FoundObject):
                raise InvalidInput(found.reason)
            incoming = Incoming(
                memoryview(data)[found.offset :],
                found.sop_class_uid,
                found.sop_instance_uid,
                found.transfer_syntax_uid,
                _SENDER,
            )
        elif kind is Kind.PICTURE:
            incoming = encoded(wrap_picture(data, _told(path), datetime.now(self.config.zone)))
        elif kind is Kind.SCAN:
            at = datetime.now(self.config.zone)
            incoming = encoded(wrap_scan(data, path.suffix.lower(), _told(path), at))
        else:
            raise InvalidInput("not a DICOM file, a picture (JPEG, PNG, TIFF) or a scan (STL, PLY)")
        return receive(
            self.db,
            self.store,
            self.engine,
            incoming,
            location_id=self.config.node.location_id,
            fallback_charset=self.config.dicom.fallback_charset,
        ).instance_id

    def _quarantine(self, folder: Path, path: Path, digest: str, kind: Kind, reason: str) -> None:
        """Set a file aside under its own name, with the reason beside it."""
        target = folder / QUARANTINE
        name = re.sub(r"[^\w.-]", "_", path.name)[-80:]
        try:
            target.mkdir(exist_ok=True)
            aside = target / name
            if aside.exists():
                aside = target / f"{new_id()[:8]}-{name}"
            path.rename(aside)
            aside.with_name(aside.name + ".reason.txt").write_text(f"{reason}\n", encoding="utf-8")
        except OSError as error:
            raise Retryable(f"a file cannot be set aside ({error.strerror})") from None
        self._seen.pop(path, None)
        self._note(digest or new_id(), kind, "quarantined", reason, None)
        _LOG.warning("a file of the import folder was set aside: %s", reason)

    def _note(
        self, digest: str, kind: Kind, state: str, reason: str, instance_id: str | None
    ) -> None:
        with begin(self.db, Actor("import", self.config.node.location_id), f"file.{state}") as tx:
            insert_once(
                tx.conn,
                import_file,
                {
                    "id": new_id(),
                    "location_id": tx.location_id,
                    "sha256": digest,
                    "kind": kind.value,
                    "state": state,
                    "reason": reason[:255],
                    "instance_id": instance_id,
                    "at": tx.now,
                },
            )
            tx.record(f"import:{digest[:16]}", kind=kind.value, state=state)

    def _clear_sidecars(self, folder: Path) -> None:
        """Remove sidecars whose pictures were all taken, once they are as still as a picture."""
        for path in [path for path in self._seen if path.suffix.lower() in SUFFIXES]:
            others = [
                each
                for each in self._seen
                if each.parent == path.parent and each.suffix.lower() not in SUFFIXES
            ]
            age_s = datetime.now(UTC).timestamp() - path.stat().st_mtime if path.exists() else 0.0
            if not others and age_s > self.config.dicom.import_sidecar_s:
                path.unlink(missing_ok=True)
                self._seen.pop(path, None)


def _files(folder: Path) -> Iterator[Path]:
    """List regular files below a folder, no links, no hidden ones, none that was set aside."""
    count = 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] == QUARANTINE or any(part.startswith(".") for part in parts):
            continue
        if path.is_symlink() or not path.is_file():
            continue
        if path.name.lower().endswith(_UNFINISHED) or count == _MAX_FILES:
            continue
        count += 1
        yield path


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _kind_of(path: Path, data: bytes) -> Kind:
    if path.name.upper() == "DICOMDIR":
        return Kind.INDEX
    if path.suffix.lower() in _SCANS:
        return Kind.SCAN
    if data.startswith(_PICTURES) and data[128:132] != b"DICM":
        return Kind.PICTURE
    if data[128:132] == b"DICM" or data[:2] in (b"\x08\0", b"\0\x08", b"\x02\0"):
        return Kind.DICOM
    return Kind.UNKNOWN


def _told(path: Path) -> Sidecar:
    try:
        return told_of(path)
    except OSError as error:
        raise Retryable(f"a sidecar cannot be read ({error.strerror})") from None


def encoded(ds: Dataset) -> Incoming:
    """Write a data set as it would come over the network, from this node itself."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    meta = ds.file_meta
    ds.set_original_encoding(False, True, "utf-8")
    write_dataset(out, ds)
    data = io.BytesIO(out.getvalue()).getbuffer()
    return Incoming(
        data,
        str(ds.SOPClassUID),
        str(ds.SOPInstanceUID),
        str(meta.TransferSyntaxUID),
        _SENDER,
    )
