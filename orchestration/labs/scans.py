"""Are attached files what their endings say? Heads and lengths are read, contents are not shown.

Sources: STL (3D Systems, binary: 80 bytes of header, 32-bit count, 50 bytes a facet), PLY (Turk,
header of lines up to ``end_header``), DICOM PS3.10 7.1 (128 bytes, then ``DICM``).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from node.errors import InvalidInput
from orchestration.labs.prescription import FileKind

_FACET_BYTES = 50
_STL_HEAD = 84
#: A header longer than this is no PLY file of a scanner.
_PLY_HEAD = 64 * 1024
#: An export ends with blank space at most this long.
_TAIL = 4096
_PLY_FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
_PLY_SIZES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8,
    "float64": 8,
}  # fmt: skip

#: Endings that a file of each kind may have.
ENDINGS: dict[FileKind, tuple[str, ...]] = {
    FileKind.SCAN: ("stl", "ply", "dcm"),
    FileKind.OPPOSING_SCAN: ("stl", "ply", "dcm"),
    FileKind.BITE_SCAN: ("stl", "ply", "dcm"),
    FileKind.SCAN_BODY: ("stl", "ply", "dcm"),
    FileKind.PHOTO: ("jpg", "jpeg", "png"),
    FileKind.RADIOGRAPH: ("dcm", "jpg", "jpeg", "png"),
    FileKind.OTHER: ("pdf", "stl", "ply", "dcm", "jpg", "jpeg", "png"),
}


def check_file(name: str, kind: FileKind, file: BinaryIO) -> None:
    """Refuse a file whose ending its kind does not have, or that is not what its ending says.

    ``file`` is seekable and left at its begin.

    Raises
    ------
    InvalidInput
        The reason, without the file's name.
    """
    ending = name.rpartition(".")[2].lower()
    if ending not in ENDINGS[kind]:
        raise InvalidInput(f"a {kind.value} is a file of type {', '.join(ENDINGS[kind])}")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    _CHECKS[ending](file, size)
    file.seek(0)


def _check_stl(file: BinaryIO, size: int) -> None:
    head = file.read(_STL_HEAD)
    if len(head) == _STL_HEAD:
        (facets,) = struct.unpack("<I", head[80:])
        if size == _STL_HEAD + facets * _FACET_BYTES:  # a binary file may begin with "solid" too
            if not facets:
                raise InvalidInput("the STL file holds no surface; export it again")
            return
    if not head.lstrip().startswith(b"solid"):
        raise InvalidInput("the STL file is cut short or no STL; export it again")
    file.seek(0)
    begin = file.read(_TAIL)
    file.seek(max(0, size - _TAIL))
    if b"facet" not in begin or b"endsolid" not in file.read():
        raise InvalidInput("the STL text file is cut short or empty; export it again")


def _check_ply(file: BinaryIO, size: int) -> None:
    raw = file.read(_PLY_HEAD)
    found = re.match(rb"ply\r?\n(.*?)end_header\r?\n", raw, re.DOTALL)
    if found is None:
        raise InvalidInput("the PLY file has no head; export it again")
    try:
        lines = [line.split() for line in found[1].decode("ascii").splitlines() if line.strip()]
        least = _least_body(lines)
    except (UnicodeDecodeError, KeyError, ValueError, IndexError):
        raise InvalidInput("the head of the PLY file cannot be read; export it again") from None
    if size - found.end() < least:
        raise InvalidInput("the PLY file is cut short; export it again")


def _least_body(lines: list[list[str]]) -> int:
    """Give the least length of the body; a list property counts as its length byte."""
    form = next(words[1] for words in lines if words[0] == "format")
    if form not in _PLY_FORMATS:
        raise ValueError(form)
    count, total, vertices = 0, 0, 0
    for words in lines:
        if words[0] == "element":
            count = int(words[2])
            vertices += count if words[1] == "vertex" else 0
            if count < 0:
                raise ValueError(count)
        elif words[0] == "property":
            # In text a value takes a digit and a space at least.
            total += count * (
                2 if form == "ascii" else _PLY_SIZES[words[2 if words[1] == "list" else 1]]
            )
    if vertices == 0:
        raise ValueError("no vertices")
    return total


def _check_dicom(file: BinaryIO, _size: int) -> None:
    if file.read(132)[128:] != b"DICM":
        raise InvalidInput("the file is no DICOM file; export it again")


def _check_magic(magic: bytes, what: str) -> Callable[[BinaryIO, int], None]:
    def check(file: BinaryIO, _size: int) -> None:
        if not file.read(len(magic)) == magic:
            raise InvalidInput(f"the file is no {what}; export it again")

    return check


_CHECKS: dict[str, Callable[[BinaryIO, int], None]] = {
    "stl": _check_stl,
    "ply": _check_ply,
    "dcm": _check_dicom,
    "jpg": _check_magic(b"\xff\xd8\xff", "JPEG"),
    "jpeg": _check_magic(b"\xff\xd8\xff", "JPEG"),
    "png": _check_magic(b"\x89PNG\r\n\x1a\n", "PNG"),
    "pdf": _check_magic(b"%PDF-", "PDF"),
}
