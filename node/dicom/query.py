"""A worklist query as it was sent: keys by tag, with undeclared character sets repaired."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import UID

from node.dicom import charset
from node.dicom.elements import Element, read_nested
from node.dicom.header import inflate
from node.errors import InvalidInput

#: Scheduled Procedure Step Sequence.
STEP_SEQUENCE = 0x00400100
_CHARSET = 0x00080005
_MAX_QUERY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Keys:
    """One level of a query: attributes by tag with their keys ("" = universal), and sequences."""

    texts: Mapping[int, str] = field(default_factory=dict)
    sequences: Mapping[int, tuple[Keys, ...]] = field(default_factory=dict)
    vrs: Mapping[int, str] = field(default_factory=dict)

    @property
    def tags(self) -> tuple[int, ...]:
        """Every attribute asked for, in tag order."""
        return tuple(sorted({*self.texts, *self.sequences}))

    @property
    def has_any(self) -> bool:
        """Whether some key narrows the answer."""
        return any(text.strip("* ") for text in self.texts.values()) or any(
            item.has_any for items in self.sequences.values() for item in items
        )


@dataclass(frozen=True, slots=True)
class Query:
    """A decoded worklist query."""

    keys: Keys
    charsets: tuple[str, ...] = ()

    @property
    def step(self) -> Keys:
        """The keys inside the Scheduled Procedure Step Sequence; none when there is no item."""
        items = self.keys.sequences.get(STEP_SEQUENCE, ())
        return items[0] if items else Keys()

    def key(self, tag: int) -> str:
        """Return a step attribute's key; at the root is where some modalities put it."""
        return self.step.texts.get(tag, "") or self.keys.texts.get(tag, "")


def parse_query(data: bytes, transfer_syntax_uid: str, fallback_charset: str) -> Query:
    """Decode the identifier of a C-FIND request, repairing undeclared character sets.

    Raises
    ------
    InvalidInput
        It is not a data set.
    """
    syntax = UID(transfer_syntax_uid)
    if len(data) > _MAX_QUERY_BYTES:
        raise InvalidInput("the query is too long")
    if syntax.is_deflated:
        data = inflate(io.BytesIO(data), _MAX_QUERY_BYTES)
    elements = read_nested(data, syntax.is_implicit_VR, syntax.is_little_endian)
    terms = next((charset.parse_terms(e.value) for e in elements if e.tag == _CHARSET), ())
    return Query(_keys(elements, terms, fallback_charset), terms)


def _keys(elements: Sequence[Element], terms: Sequence[str], fallback: str) -> Keys:
    texts: dict[int, str] = {}
    sequences: dict[int, tuple[Keys, ...]] = {}
    vrs: dict[int, str] = {}
    for element in elements:
        tag = element.tag
        if tag == _CHARSET or tag & 0xFFFF == 0:  # group lengths ask for nothing
            continue
        vrs[tag] = "SQ" if element.vr == "SQ" else vr_of(tag, element.vr)
        if vrs[tag] == "SQ":
            sequences[tag] = tuple(_keys(item, terms, fallback) for item in element.items)
        else:
            texts[tag] = charset.decode(element.value, terms, fallback)
    return Keys(texts, sequences, vrs)


def vr_of(tag: int, sent: str = "") -> str:
    """The dictionary's VR, which a peer's wrong one must not override; UN when nobody knows."""
    if dictionary_has_tag(tag):
        return dictionary_VR(tag).split(" ")[0]
    return sent or "UN"
