"""An object as it came over the network, and the file that is made of it.

The data set is kept byte for byte as sent, behind a preamble of zeros and file meta information of
our own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.uid import is_uid
from node.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Incoming:
    """One object as it came: the bytes and what the network said about them."""

    data: memoryview
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str

    def __post_init__(self) -> None:
        for uid in (self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid):
            if not is_uid(uid):
                raise InvalidInput("a UID of the C-STORE request is not a UID")

    @property
    def digest(self) -> str:
        """SHA-256 of the data set as sent."""
        return hashlib.sha256(self.data).hexdigest()


class Writable(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Append."""


def write_part_10(file: Writable, incoming: Incoming) -> None:
    """Write the bytes behind a preamble of zeros and file meta information of our own."""
    # PS3.10 7.1: the preamble is zeros, so that a stored file is never anything but DICOM
    meta = b"".join(
        (
            b"\2\0\1\0OB\0\0\2\0\0\0\0\1",
            _meta_element(0x02, b"UI", incoming.sop_class_uid),
            _meta_element(0x03, b"UI", incoming.sop_instance_uid),
            _meta_element(0x10, b"UI", incoming.transfer_syntax_uid),
            _meta_element(0x12, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta_element(0x13, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    length = b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
    file.write(bytes(128) + b"DICM" + length + meta)
    file.write(incoming.data)


def _meta_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    tag = b"\2\0" + element.to_bytes(2, "little")
    return tag + vr + len(value).to_bytes(2, "little") + value
