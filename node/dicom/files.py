"""Finding DICOM objects among files and folders, without decoding them.

Files from folders of sensors and exports are read leniently: without preamble, without file meta
information, or with meta information that disagrees with the data set. What is no DICOM object is
left out with a reason that carries no patient data.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from node.dicom.header import parse_header, read_transfer_syntax
from node.dicom.object_file import ObjectFile
from node.errors import InvalidInput

_PREAMBLE = bytes(128) + b"DICM"
_MAX_META_BYTES = 65_536
_FIRST_GROUPS = {b"\x08\x00": "little", b"\x00\x08": "big"}


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object in a file; its data set is the bytes from ``offset`` on, as they are."""

    path: ObjectFile
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    has_preamble: bool

    def write(self, file: BinaryIO) -> None:
        """Write preamble and file meta information of our own, then the data set as it is."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(self.sop_class_uid)
        meta.MediaStorageSOPInstanceUID = UID(self.sop_instance_uid)
        meta.TransferSyntaxUID = UID(self.transfer_syntax_uid)
        head = DicomBytesIO()
        write_file_meta_info(head, meta)
        file.write(_PREAMBLE + head.getvalue())
        with self.path.open("rb") as source:
            source.seek(self.offset)
            while chunk := source.read(1 << 20):
                file.write(chunk)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that holds no object that could be sent, and why."""

    path: ObjectFile
    reason: str


def find_objects(paths: Iterable[ObjectFile]) -> Iterator[FoundObject | Skipped]:
    """Look at each file, and at each file in each folder and below, in the order of names."""
    for path in paths:
        if isinstance(path, Path) and path.is_dir():
            for folder, subfolders, names in os.walk(path):
                subfolders.sort()
                for name in sorted(names):
                    yield _look_at(Path(folder) / name)
        else:
            yield _look_at(path)


def _look_at(path: ObjectFile) -> FoundObject | Skipped:
    try:
        return _read(path)
    except FileNotFoundError:
        return Skipped(path, "there is no such file")
    except OSError as error:
        return Skipped(path, f"the file cannot be read ({type(error).__name__})")
    except InvalidInput as error:
        return Skipped(path, str(error))


def _read(path: ObjectFile) -> FoundObject:
    if not path.is_file() and path.exists():
        raise InvalidInput("not a regular file")
    with path.open("rb") as file:
        syntax, offset, has_preamble = _read_start(file)
        file.seek(0, os.SEEK_END)
        if file.tell() == offset:
            raise InvalidInput("the file holds no data set")
        file.seek(offset)
        header = parse_header(file, syntax, "ISO_IR 100")
    if header.sop_class_uid == MediaStorageDirectoryStorage:
        raise InvalidInput("a DICOMDIR is an index of files, not an object")
    if not header.sop_class_uid or not header.sop_instance_uid:
        raise InvalidInput(header.problem or "the data set names no SOP class and instance")
    return FoundObject(
        path, header.sop_class_uid, header.sop_instance_uid, syntax, offset, has_preamble
    )


def _read_start(file: BinaryIO) -> tuple[str, int, bool]:
    """Return transfer syntax, offset of the data set and whether the file begins as it should."""
    head = file.read(132)
    if head[128:] == b"DICM":
        file.seek(0)
        return read_transfer_syntax(file), file.tell(), True
    if head[:4] == b"\x02\x00\x00\x00":  # file meta information without preamble
        file.seek(0)
        start = io.BytesIO(_PREAMBLE + file.read(_MAX_META_BYTES))
        return read_transfer_syntax(start), start.tell() - len(_PREAMBLE), False
    order = _FIRST_GROUPS.get(head[:2])
    if order is None:
        raise InvalidInput("not a DICOM file")
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    if order == "big":
        if not is_explicit:
            raise InvalidInput("not a DICOM file")
        return ExplicitVRBigEndian, 0, False
    return (ExplicitVRLittleEndian if is_explicit else ImplicitVRLittleEndian), 0, False
