"""A stored object as its readers see it: something that opens, be it plain or sealed."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from node.dicom.distant_file import DistantFile
from node.dicom.sealed_file import SealedFile

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_CHUNK_BYTES = 1 << 18


class ObjectFile(Protocol):
    """A stored object that can be opened for reading: a file, or a sealed one."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open for reading from the first byte on."""

    def read_bytes(self) -> bytes:
        """Read all of it."""

    def is_file(self) -> bool:
        """Whether it is there."""

    def exists(self) -> bool:
        """Whether anything is there."""


def read_dataset(
    file: ObjectFile,
    *,
    stop_before_pixels: bool = False,
    specific_tags: Sequence[str] | None = None,
) -> FileDataset:
    """Read a stored object's data set; raises as pydicom does, and as the file's ``open``."""
    from pydicom import dcmread  # the receiving process does without

    with file.open("rb") as opened:
        return dcmread(
            opened,
            stop_before_pixels=stop_before_pixels,
            specific_tags=None if specific_tags is None else list(specific_tags),
        )


def chunks_of(file: ObjectFile) -> Iterator[bytes]:
    """Open a stored object now, and read it piece by piece; raises as the file's ``open``."""
    return _chunks(file.open("rb"))


def _chunks(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


def size_of(file: ObjectFile) -> int:
    """Count a stored object's plain bytes; raises as the file's ``open``."""
    with file.open("rb") as opened:
        return opened.seek(0, 2)


def file_to_json(file: ObjectFile) -> dict[str, str]:
    """Name a file to a process that has no key ring: with the key of this file alone.

    One that lies elsewhere is fetched; raises as its ``open``.
    """
    if isinstance(file, DistantFile):
        file = file.bring()
    if isinstance(file, SealedFile):
        key = base64.b64encode(file.key_of_file()).decode("ascii")
        return {"path": str(file.path), "storage_key": file.storage_key, "key": key}
    return {"path": str(file)}


def file_from_json(data: Mapping[str, str]) -> ObjectFile:
    """Read what :func:`file_to_json` wrote."""
    path = Path(data["path"])
    if not data.get("key"):
        return path
    return SealedFile(path, data["storage_key"], file_key=base64.b64decode(data["key"]))
