"""X12 envelopes and segments: read tolerantly, written strictly.

The delimiters of a file stand in its ISA segment, which alone has fixed places: element separator
at 3, repetition separator ISA11, component separator ISA16, terminator behind it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from node.errors import InvalidInput

#: Length of an ISA segment without its terminator.
_ISA_LENGTH = 105
#: Places and widths of ISA01..ISA16 for writing.
_ISA_WIDTHS = (2, 10, 2, 10, 2, 15, 2, 15, 6, 4, 1, 5, 9, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The four characters with which a file is cut."""

    element: str = "*"
    repetition: str = "^"
    component: str = ":"
    segment: str = "~"

    def __post_init__(self) -> None:
        if len({self.element, self.component, self.segment}) < 3:
            raise InvalidInput("X12 delimiters must differ")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; elements are counted from 1 and empty where absent."""

    id: str
    elements: tuple[str, ...] = field(repr=False)
    delimiters: Delimiters = field(default=Delimiters(), repr=False)

    def raw(self, number: int) -> str:
        """Give an element as it came."""
        return self.elements[number - 1] if number <= len(self.elements) else ""

    def repeats(self, number: int) -> tuple[str, ...]:
        """Give the repetitions of an element, each with its components."""
        text = self.raw(number)
        if not text:
            return ()
        mark = self.delimiters.repetition
        return tuple(text.split(mark)) if mark and not mark.isalnum() else (text,)

    def parts(self, number: int) -> tuple[str, ...]:
        """Give the components of an element's first repetition."""
        first = next(iter(self.repeats(number)), "")
        return tuple(part.strip() for part in first.split(self.delimiters.component))

    def value(self, number: int) -> str:
        """Give the first component of an element."""
        return self.parts(number)[0]

    def part(self, number: int, place: int) -> str:
        """Give one component of an element, counted from 1."""
        parts = self.parts(number)
        return parts[place - 1] if place <= len(parts) else ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What stands between ST and SE, both included."""

    set_id: str
    control: str
    version: str
    segments: tuple[Segment, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """A functional group."""

    functional_id: str
    control: str
    version: str
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Interchange:
    """One ISA–IEA; ``problems`` are envelope counts and controls that do not fit."""

    sender: str
    receiver: str
    control: str
    is_test: bool
    groups: tuple[Group, ...]
    problems: tuple[str, ...] = ()

    def transactions(self, set_id: str = "") -> tuple[Transaction, ...]:
        """Give all transaction sets, or those of one kind."""
        found = (each for group in self.groups for each in group.transactions)
        return tuple(each for each in found if set_id in ("", each.set_id))


def read_interchanges(content: str | bytes) -> tuple[Interchange, ...]:
    """Read every interchange of a file.

    Line ends and blanks between segments, a byte order mark and lower-case identifiers are borne;
    counts that do not fit are kept as problems for the reader to judge.

    Raises
    ------
    InvalidInput
        There is no ISA, or an envelope is not closed: the file was cut off.
    """
    text = _text(content)
    found: list[Interchange] = []
    while text.strip():
        interchange, text = _read_one(text)
        found.append(interchange)
    if not found:
        raise InvalidInput("an empty file is no X12")
    return tuple(found)


def read_transactions(content: str | bytes, set_id: str) -> tuple[tuple[Transaction, ...], bool]:
    """Read the sets of one kind; the flag says that every envelope fits.

    Raises InvalidInput when there is no such set.
    """
    interchanges = read_interchanges(content)
    found = tuple(each for one in interchanges for each in one.transactions(set_id))
    if not found:
        raise InvalidInput(f"the file holds no {set_id}")
    return found, not any(one.problems for one in interchanges)


def transaction_kinds(content: str | bytes) -> tuple[str, ...]:
    """Name the kinds of sets in a file, "277CA" apart from other 277."""
    kinds = []
    for interchange in read_interchanges(content):
        for each in interchange.transactions():
            is_ca = each.set_id == "277" and "X214" in each.version
            kinds.append("277CA" if is_ca else each.set_id)
    return tuple(dict.fromkeys(kinds))


def _text(content: str | bytes) -> str:
    if isinstance(content, str):
        return content.lstrip("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _read_one(text: str) -> tuple[Interchange, str]:
    start = text.find("ISA")
    if start < 0 or text[:start].strip():
        raise InvalidInput("an X12 file begins with ISA")
    head = text[start : start + _ISA_LENGTH + 1]
    if len(head) <= _ISA_LENGTH:
        raise InvalidInput("the ISA segment is cut off")
    fields = head[:_ISA_LENGTH].split(head[3])
    if len(fields) != 17:
        raise InvalidInput("the ISA segment has not 16 elements at their places")
    repetition = fields[11] if not fields[11].isalnum() else ""  # "U" until 4010
    delimiters = Delimiters(head[3], repetition, fields[16], head[_ISA_LENGTH])
    segments = _split(text[start + _ISA_LENGTH + 1 :], delimiters)
    body: list[Segment] = []
    for segment, end in segments:
        body.append(segment)
        if segment.id == "IEA":
            rest = text[start + _ISA_LENGTH + 1 + end :]
            return _interchange(fields, body), rest
        if segment.id == "ISA":
            break
    raise InvalidInput("the interchange has no IEA: the file is cut off")


def _split(text: str, delimiters: Delimiters) -> Iterator[tuple[Segment, int]]:
    place = 0
    while place < len(text):
        end = text.find(delimiters.segment, place)
        if end < 0:
            if text[place:].strip():
                raise InvalidInput("the last segment has no end: the file is cut off")
            return
        raw = text[place:end].strip("\r\n\t ")
        place = end + 1
        if raw:
            name, *elements = raw.split(delimiters.element)
            yield Segment(name.strip().upper(), tuple(elements), delimiters), place


def _interchange(isa: Sequence[str], body: Sequence[Segment]) -> Interchange:
    problems: list[str] = []
    groups: list[Group] = []
    opened: list[Segment] = []
    for segment in body[:-1]:
        opened.append(segment)
        if segment.id == "GE":
            groups.append(_group(opened, problems))
            opened = []
    if opened:
        raise InvalidInput("a functional group has no GE: the file is cut off")
    trailer = body[-1]
    if _number(trailer.raw(1)) != len(groups):
        problems.append("IEA01 counts other groups than there are")
    if trailer.raw(2).strip() != isa[13].strip():
        problems.append("IEA02 is not the control number of ISA13")
    return Interchange(
        isa[6].strip(), isa[8].strip(), isa[13].strip(), isa[15] == "T", tuple(groups),
        tuple(problems),
    )  # fmt: skip


def _group(segments: Sequence[Segment], problems: list[str]) -> Group:
    head, trailer = segments[0], segments[-1]
    if head.id != "GS":
        raise InvalidInput("a functional group begins with GS")
    version = head.raw(8)
    sets: list[Transaction] = []
    opened: list[Segment] = []
    for segment in segments[1:-1]:
        opened.append(segment)
        if segment.id == "SE":
            sets.append(_transaction(opened, version, problems))
            opened = []
    if opened:
        raise InvalidInput("a transaction set has no SE: the file is cut off")
    if _number(trailer.raw(1)) != len(sets):
        problems.append("GE01 counts other sets than there are")
    if trailer.raw(2) != head.raw(6):
        problems.append("GE02 is not the control number of GS06")
    return Group(head.raw(1), head.raw(6), version, tuple(sets))


def _transaction(segments: Sequence[Segment], version: str, problems: list[str]) -> Transaction:
    head, trailer = segments[0], segments[-1]
    if head.id != "ST":
        raise InvalidInput("a transaction set begins with ST")
    if _number(trailer.raw(1)) != len(segments):
        problems.append(f"SE01 counts other segments than there are in set {head.raw(2)[:9]}")
    if trailer.raw(2) != head.raw(2):
        problems.append("SE02 is not the control number of ST02")
    return Transaction(head.raw(1), head.raw(2), head.raw(3) or version, tuple(segments))


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*\d{1,18}\s*", text, re.ASCII) else -1


def amount_of(text: str) -> Decimal | None:
    """Read a number of type R (X12 5010 B.1.1.3.1.2: at most 18 digits); None when it is none.

    An exponent, which R allows, is taken for none: no amount of money needs one.
    """
    if not re.fullmatch(r"\s*[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})\s*", text, re.ASCII):
        return None
    return Decimal(text.strip())


# --- writing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends to whom, under which number; ``at`` is the sender's local time.

    ``control`` is 1–999,999,999 and never used twice between the two.
    """

    sender: str
    receiver: str
    control: int
    at: datetime
    is_test: bool = False
    sender_qualifier: str = "ZZ"
    receiver_qualifier: str = "ZZ"

    def __post_init__(self) -> None:
        for name in (self.sender, self.receiver):
            if not re.fullmatch(r"[A-Za-z0-9 .\-]{2,15}", name):
                raise InvalidInput("X12 sender and receiver are 2 to 15 letters and digits")
        if not 1 <= self.control <= 999_999_999:
            raise InvalidInput("an X12 control number has at most nine digits")


Elements = tuple[str, ...]


def segment(name: str, *elements: str) -> Elements:
    """Make a segment; empty elements at the end are left out."""
    kept = list(elements)
    while kept and not kept[-1]:
        kept.pop()
    return (name, *kept)


def plain(text: str, limit: int) -> str:
    """Make text safe for an element: upper-case ASCII, no delimiters, one line, at most `limit`."""
    folded = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("–", "-"))
    ascii_text = folded.encode("ascii", "ignore").decode().upper()
    kept = re.sub(r"[*~:^]", " ", ascii_text)
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", kept).split())[:limit].strip()


def money(amount: object) -> str:
    """Write an amount as X12 does: no needless zeros, at most two decimals."""
    text = f"{amount:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def write_interchange(
    envelope: Envelope,
    functional_id: str,
    version: str,
    set_id: str,
    bodies: Sequence[Sequence[Elements]],
    *,
    set_version: bool = True,
) -> str:
    """Write one interchange of one group; each body is a set without its ST and SE.

    Raises
    ------
    InvalidInput
        An element holds a delimiter or a character outside ASCII.
    """
    at = envelope.at
    control = f"{envelope.control:09d}"
    isa = (
        "00", "", "00", "", envelope.sender_qualifier, envelope.sender,
        envelope.receiver_qualifier, envelope.receiver, f"{at:%y%m%d}", f"{at:%H%M}", "^", "00501",
        control, "0", "T" if envelope.is_test else "P", ":",
    )  # fmt: skip
    lines = ["ISA*" + "*".join(v.ljust(w) for v, w in zip(isa, _ISA_WIDTHS, strict=True))]
    group = str(envelope.control)
    lines.append(
        _line(
            segment(
                "GS", functional_id, envelope.sender.strip(), envelope.receiver.strip(),
                f"{at:%Y%m%d}", f"{at:%H%M}", group, "X", version,
            )
        )
    )  # fmt: skip
    for number, body in enumerate(bodies, start=1):
        name = f"{number:04d}"
        head = segment("ST", set_id, name, version if set_version else "")
        rows = [head, *body, segment("SE", str(len(body) + 2), name)]
        lines += [_line(row) for row in rows]
    lines.append(_line(segment("GE", str(len(bodies)), group)))
    lines.append(_line(segment("IEA", "1", control)))
    return "".join(f"{line}~\n" for line in lines)


def _line(elements: Elements) -> str:
    for each in elements:
        if "*" in each or "~" in each or not each.isascii() or not each.isprintable():
            raise InvalidInput(f"an element of {elements[0]} holds a character X12 cannot carry")
    return "*".join(elements)
