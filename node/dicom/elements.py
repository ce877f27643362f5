"""Reading raw data elements from bytes that a stranger sent.

pydicom reads data sets well, but recursively, with warnings that quote values, and as long as there
is data. At the network's edge nothing may be quoted, and an element count and a depth bound the
work. Values are given as the bytes they are. Source: PS3.5 chapter 7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from node.errors import InvalidInput

_MAX_ELEMENTS = 20_000
_MAX_DEPTH = 8
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: Readers of a tag, a short and a long number.
_LITTLE = tuple(struct.Struct(f"<{kind}").unpack_from for kind in ("HH", "H", "L"))
_BIG = tuple(struct.Struct(f">{kind}").unpack_from for kind in ("HH", "H", "L"))
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


@dataclass(frozen=True, slots=True)
class Element:
    """One data element; ``vr`` is "" where the encoding does not say it.

    ``value`` is empty for sequences, whose ``items`` are read only by :func:`read_nested`.
    """

    tag: int
    vr: str
    value: bytes
    items: tuple[tuple[Element, ...], ...] = ()


@dataclass(slots=True)
class _Reader:
    data: memoryview
    is_implicit: bool
    is_little: bool
    count: int = 0

    def head(self, at: int) -> tuple[int, str, int, int]:
        """Read tag, VR, length and where the value starts."""
        self.count += 1
        if self.count > _MAX_ELEMENTS:
            raise InvalidInput("the data set has too many elements")
        tag_of, short, long = _LITTLE if self.is_little else _BIG
        group, number = tag_of(self.data, at)
        tag = group << 16 | number
        vr = bytes(self.data[at + 4 : at + 6])
        is_plain = self.is_implicit or tag in (_ITEM, _ITEM_END, _SEQUENCE_END)
        if not is_plain and vr in _LONG_VRS:
            length = long(self.data, at + 8)[0]
            return tag, vr.decode(), length, at + 12
        if not is_plain and vr.isalpha() and vr.isupper():
            return tag, vr.decode(), short(self.data, at + 6)[0], at + 8
        # implicit, or a writer that changed to implicit inside a sequence (seen)
        return tag, "", long(self.data, at + 4)[0], at + 8

    def skip_undefined(self, at: int) -> int:
        """Find the end of a value of undefined length, without recursion."""
        open_parts = 1
        while open_parts:
            tag, _, length, start = self.head(at)
            if tag in (_ITEM_END, _SEQUENCE_END):
                open_parts -= 1
                at = start
            elif length == _UNDEFINED:
                open_parts += 1
                at = start
            else:
                at = start + length
        return at

    def items(self, at: int, length: int, depth: int) -> tuple[list[tuple[Element, ...]], int]:
        """Read a sequence's items; return them and where the sequence ends."""
        if depth > _MAX_DEPTH:
            raise InvalidInput("sequences are nested too deeply")
        end = len(self.data) if length == _UNDEFINED else at + length
        found: list[tuple[Element, ...]] = []
        while at < end:
            tag, _, size, start = self.head(at)
            if tag == _SEQUENCE_END:
                return found, start
            if tag != _ITEM:
                raise InvalidInput("a sequence holds something that is no item")
            elements, at = self.elements(start, size, depth)
            found.append(tuple(elements))
        return found, end

    def elements(self, at: int, length: int, depth: int) -> tuple[list[Element], int]:
        """Read a data set or item with its sequences; return where it ends."""
        end = len(self.data) if length == _UNDEFINED else at + length
        found: list[Element] = []
        while at < end:
            tag, vr, size, start = self.head(at)
            if tag == _ITEM_END:
                return found, start
            if vr == "SQ" or size == _UNDEFINED or (not vr and _known_vr(tag) == "SQ"):
                items, at = self.items(start, size, depth + 1)
                found.append(Element(tag, "SQ", b"", tuple(items)))
            else:
                at = start + size
                if at > len(self.data):
                    raise InvalidInput("the data set is cut off")
                found.append(Element(tag, vr, bytes(self.data[start:at])))
        return found, end


def read_nested(data: bytes, is_implicit: bool, is_little: bool) -> tuple[Element, ...]:
    """Read a small data set whole, sequences included.

    Raises InvalidInput when it is damaged, cut off, too deep or too long.
    """
    try:
        elements, _ = _Reader(memoryview(data), is_implicit, is_little).elements(0, len(data), 0)
    except struct.error:
        raise InvalidInput("the data set is cut off") from None
    return tuple(elements)


def read_flat(
    data: bytes | memoryview, is_implicit: bool, is_little: bool, last_group: int
) -> Iterator[tuple[Element, int]]:
    """Yield the elements up to `last_group` and where each ends; sequences are passed over.

    Values beyond the end of `data` are not yielded. Raises InvalidInput when there are too many
    elements.
    """
    view = memoryview(data)
    reader = _Reader(view, is_implicit, is_little)
    at = 0
    try:
        while at < len(view):
            tag, vr, length, start = reader.head(at)
            if tag >> 16 > last_group:
                return
            if length == _UNDEFINED:
                at = reader.skip_undefined(start)
                continue
            at = start + length
            if at <= len(view):
                yield Element(tag, vr, bytes(view[start:at]) if length <= 65_536 else b""), at
    except struct.error:  # cut off: what came before counts
        return


def begins_beyond(data: memoryview, is_implicit: bool, is_little: bool, last_group: int) -> bool:
    """Whether the first element of `data` is there and lies beyond `last_group`."""
    if data.nbytes < 12:
        return False
    return _Reader(data, is_implicit, is_little).head(0)[0] >> 16 > last_group


def _known_vr(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""
