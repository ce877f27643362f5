"""DIMSE messages as bytes: command sets read and written, and cut into PDUs.

A command set is always implicit little endian and flat (PS3.7 6.3.1), so it needs no data set
library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from node.errors import InvalidInput

#: Elements of group 0000 (PS3.7 E.1).
CLASS_UID = 0x0002
FIELD = 0x0100
MESSAGE_ID = 0x0110
RESPONDED_TO = 0x0120
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
INSTANCE_UID = 0x1000

#: Command Field values.
C_STORE_RQ = 0x0001
C_FIND_RQ = 0x0020
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000

NO_DATA_SET = 0x0101

#: Where a peer sets no limit of its own.
_PDU_BYTES = 131_072


def read_command(data: bytes) -> dict[int, bytes]:
    """Read a command set: element numbers of group 0000 and their values.

    Raises InvalidInput when it is damaged.
    """
    found, at = dict[int, bytes](), 0
    while at < len(data):
        if at + 8 > len(data):
            raise InvalidInput("a command set is cut off")
        group, number, length = struct.unpack_from("<HHL", data, at)
        at += 8
        if group or at + length > len(data):
            raise InvalidInput("a command set is damaged")
        found[number] = data[at : at + length]
        at += length
    return found


def word(command: Mapping[int, bytes], number: int) -> int | None:
    """Return an element of two bytes; None where it is missing or of another length."""
    value = command.get(number, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def text(command: Mapping[int, bytes], number: int) -> str:
    """Return an element as text without its padding; "" where it is missing."""
    return command.get(number, b"").decode("latin-1").strip("\0 ")


def write_command(elements: Mapping[int, int | str]) -> bytes:
    """Write a command set, its group length included; numbers become words."""
    body = b""
    for number, value in sorted(elements.items()):
        if isinstance(value, int):
            data = value.to_bytes(2, "little")
        else:
            data = value.encode("ascii")
            data += b"\0" * (len(data) % 2)
        body += struct.pack("<HHL", 0, number, len(data)) + data
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def cut(data: bytes, is_command: bool, context_id: int, size: int) -> Iterator[bytes]:
    """Cut a command or data set into P-DATA-TF PDUs of at most `size` bytes, 0 for no limit.

    Source: PS3.8 9.3.5 and E.2.
    """
    room = max((size or _PDU_BYTES) - 6, 1)
    for at in range(0, len(data), room):
        part = data[at : at + room]
        control = int(is_command) | (2 if at + room >= len(data) else 0)
        head = struct.pack(">BBLLBB", 4, 0, len(part) + 6, len(part) + 2, context_id, control)
        yield head + part
