"""Answers to C-FIND: which keys of a query match, and the data set that goes back.

What is answered from is anything with readers by tag: a scheduled step, a stored study.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from node.dicom import charset, matching
from node.dicom.query import Keys, vr_of

_CHARSET = 0x00080005

T = TypeVar("T")
#: A text, or the items of a sequence by tag.
Value = str | tuple[Mapping[int, str], ...]
Reader = Callable[[T], Value]


def level_matches(
    keys: Keys, readers: Mapping[int, Reader[T]], thing: T, skipped: Sequence[int] = ()
) -> bool:
    """Whether every key of one level that has a reader matches; `skipped` tags are not asked."""
    for tag, key in keys.texts.items():
        if key and tag in readers and tag not in skipped:
            value = readers[tag](thing)
            if not matching.matches(keys.vrs[tag], key, value if isinstance(value, str) else ""):
                return False
    return all(
        tag not in readers or tag in skipped or _sequence_matches(items, readers[tag](thing))
        for tag, items in keys.sequences.items()
    )


def _sequence_matches(asked: tuple[Keys, ...], items: Value) -> bool:
    """Sequence matching (C.2.2.2.6): one item of ours matches every key of the item asked for."""
    if not asked or not asked[0].has_any:
        return True
    return any(
        all(
            matching.matches(asked[0].vrs[tag], key, item.get(tag, ""))
            for tag, key in asked[0].texts.items()
        )
        for item in items
        if not isinstance(item, str)
    )


@dataclass(frozen=True, slots=True)
class Field:
    """One attribute of an answer: its text, or the items of a sequence."""

    tag: int
    vr: str
    own: tuple[str, ...] = ()
    items: tuple[tuple[Field, ...], ...] = ()

    @property
    def texts(self) -> Iterator[str]:
        """Every text in it, at any depth."""
        yield from self.own
        for item in self.items:
            for field in item:
                yield from field.texts


def answered(tag: int, keys: Keys, readers: Mapping[int, Reader[T]], thing: T) -> Field:
    """Answer one key; an unknown one is answered empty."""
    vr = keys.vrs.get(tag) or vr_of(tag)
    value = readers[tag](thing) if tag in readers else ""
    if vr != "SQ":
        return Field(tag, vr, (value,) if isinstance(value, str) else ("",))
    asked = keys.sequences.get(tag, ())
    wanted = asked[0].tags if asked else ()
    items = () if isinstance(value, str) else value
    return Field(
        tag,
        "SQ",
        items=tuple(
            tuple(
                Field(inner, vr_of(inner), (item.get(inner, ""),))
                for inner in wanted or tuple(item)
            )
            for item in items
        ),
    )


def compose(
    fields: Sequence[Field],
    asked: Sequence[str],
    is_implicit: bool = True,
    is_little: bool = True,
    charsets: Sequence[str] = (),
) -> Dataset:
    """Put an answer together in the charset `asked` for, or in `charsets` whatever was asked.

    The values are encoded here already, so that pynetdicom has only to copy them; ask for the
    encoding of the association. What `charsets` lack is written as ``?``.
    """
    texts = [text for field in fields for text in field.texts]
    terms = tuple(charsets) or charset.answer_in(asked, texts)
    dataset = Dataset()
    for field in (*fields, Field(_CHARSET, "CS", ("\\".join(terms),))):
        value = _encoded(field, terms, is_implicit, is_little)
        dataset._dict[BaseTag(field.tag)] = RawDataElement(
            BaseTag(field.tag), field.vr, len(value), value, 0, is_implicit, is_little
        )
    dataset.set_original_encoding(is_implicit, is_little, convert_encodings(list(terms)))
    return dataset


def _encoded(field: Field, terms: Sequence[str], is_implicit: bool, is_little: bool) -> bytes:
    if field.vr == "US":
        number = field.own[0]
        return struct.pack(("<" if is_little else ">") + "H", int(number)) if number else b""
    if field.vr != "SQ":
        value = charset.encode(field.own[0], terms)
        return value + (b"\0" if field.vr == "UI" else b" ") * (len(value) % 2)
    order = "<" if is_little else ">"
    out = bytearray()
    for item in field.items:
        body = b"".join(_element(inner, terms, is_implicit, is_little) for inner in item)
        out += struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(body)) + body
    return bytes(out)


def _element(field: Field, terms: Sequence[str], is_implicit: bool, is_little: bool) -> bytes:
    # PS3.5 7.1: tag, VR and its length's size, value
    value = _encoded(field, terms, is_implicit, is_little)
    order = "<" if is_little else ">"
    head = struct.pack(f"{order}HH", field.tag >> 16, field.tag & 0xFFFF)
    if is_implicit:
        return head + struct.pack(f"{order}L", len(value)) + value
    vr = field.vr.encode()
    if field.vr in EXPLICIT_VR_LENGTH_32:
        return head + vr + struct.pack(f"{order}HL", 0, len(value)) + value
    return head + vr + struct.pack(f"{order}H", len(value)) + value
