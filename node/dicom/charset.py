"""Text of a data set as people meant it: declared, undeclared and wrongly declared charsets.

Sensors send Latin-1 or UTF-8 bytes without Specific Character Set, or declare one and send
another. Nothing here ever fails: bytes that fit nothing become replacement characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.charset import decode_bytes, python_encoding

#: What we answer in unless the peer asked for something else.
DEFAULT = "ISO_IR 192"
#: Every defined term that text can be written in, the default repertoire included.
WRITABLE = frozenset(python_encoding)
_UNDECLARED = ("", "ISO_IR 6", "ISO 2022 IR 6")
#: PN and text delimiters after which ISO 2022 escapes fall back to the first charset.
_DELIMITERS = {0x5C, 0x5E, 0x3D, 0x0D, 0x0A, 0x09, 0x0C}
#: How a charset is made active (PS3.3 Tables C.12-3 and C.12-4).
_ESCAPES = {
    f"ISO 2022 IR {number}": b"\x1b" + sequence
    for number, sequence in (
        (13, b")I"),
        (58, b"$)A"),
        (87, b"$B"),
        (100, b"-A"),
        (101, b"-B"),
        (109, b"-C"),
        (110, b"-D"),
        (126, b"-F"),
        (127, b"-G"),
        (138, b"-H"),
        (144, b"-L"),
        (148, b"-M"),
        (149, b"$)C"),
        (159, b"$(D"),
        (166, b"-T"),
    )
}
#: Those that take the place of ASCII, so that it must be made active again.
_TWO_BYTE_ESCAPES = ("ISO 2022 IR 87", "ISO 2022 IR 159")
_ASCII = b"\x1b(B"


def parse_terms(raw: bytes | None) -> tuple[str, ...]:
    """Split the raw value of Specific Character Set into its defined terms, repaired.

    ``iso_ir_100``, ``ISO-IR 100`` and ``ISO IR 100`` are all read as ``ISO_IR 100`` (seen from
    several vendors; pydicom repairs the same).
    """
    text = (raw or b"").decode("ascii", "ignore").strip("\0 ")
    return tuple(_repair(term) for term in text.split("\\")) if text else ()


def is_known(term: str) -> bool:
    """Whether `term` is a charset that can be read and written."""
    return term in python_encoding and term not in _UNDECLARED


def decode(raw: bytes | None, terms: Sequence[str], fallback: str) -> str:
    """Decode one text value; padding is removed, nothing raises.

    A usable declaration wins. Without one (or when the bytes contradict it) UTF-8 is tried, which
    other encodings hardly ever satisfy by chance, then `fallback`.
    """
    data = (raw or b"").rstrip(b"\0 ")
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii").strip()
    declared = [term for term in terms if term in python_encoding]
    if any(is_known(term) for term in declared):
        text = _by_declaration(data, declared)
        if text is not None:
            return text.strip()
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        codec = python_encoding.get(fallback, "latin_1")
        return data.decode(codec, "replace").strip()


def answer_in(asked: Sequence[str], texts: Sequence[str]) -> tuple[str, ...]:
    """Choose the charset of an answer: the one asked for if it can hold every text, else UTF-8.

    Several terms with code extensions (ISO 2022) are taken together; of several without, the first
    that holds everything.
    """
    offers = [tuple(asked)] if any(_is_extension(term) for term in asked) else []
    offers += [(term,) for term in asked if is_known(term) and not _is_extension(term)]
    for terms in offers:
        if all(holds(terms, text) for text in texts):
            return terms
    return (DEFAULT,)


def holds(terms: Sequence[str], text: str) -> bool:
    """Whether every character of `text` can be written in `terms`."""
    try:
        encode(text, terms, "strict")
    except UnicodeEncodeError:
        return False
    return True


def encode(text: str, terms: Sequence[str], errors: str = "replace") -> bytes:
    """Write `text` in the charset `terms`, with escape sequences where it has code extensions.

    A character that the charset lacks becomes ``?``, or UnicodeEncodeError where `errors` is
    "strict".
    """
    if not any(_is_extension(term) for term in terms):
        return text.encode(_codec(terms[0] if terms else DEFAULT), errors)
    out, active = bytearray(), ""
    for char in text:
        # PS3.5 6.1.2.5.3: the first charset is active again at the start of each component
        if ord(char) in _DELIMITERS or (char.isascii() and active in _TWO_BYTE_ESCAPES):
            out += _ASCII if active in _TWO_BYTE_ESCAPES else b""
            active = ""
        written = _written(char, terms, errors)
        if written[0] not in ("", active):
            active = written[0]
            out += _ESCAPES[active]
        out += written[1]
    return bytes(out) + (_ASCII if active in _TWO_BYTE_ESCAPES else b"")


def _written(char: str, terms: Sequence[str], errors: str) -> tuple[str, bytes]:
    """Return the charset that must be active for `char` ("" = the first or any) and its bytes."""
    if char.isascii():
        return "", char.encode("ascii")
    for number, term in enumerate(terms):
        escape = _ESCAPES.get(term, b"")
        try:
            data = char.encode(_codec(term))
        except UnicodeEncodeError:
            continue
        if term in _TWO_BYTE_ESCAPES:  # Python writes the escape sequences itself
            if data.startswith(escape):
                return term, data[len(escape) : -len(_ASCII)]
        elif number == 0 or escape:
            return term if number else "", data
    if errors == "strict":
        raise UnicodeEncodeError("ISO 2022", char, 0, 1, "no charset asked for holds it")
    return "", b"?"


def _codec(term: str) -> str:
    # pydicom reads the default repertoire as Latin-1; what is written in it is ASCII only
    return "ascii" if term in _UNDECLARED else python_encoding.get(term, "utf-8")


def _is_extension(term: str) -> bool:
    return term.startswith("ISO 2022 ") and term not in _UNDECLARED and term in _ESCAPES


def _by_declaration(data: bytes, terms: Sequence[str]) -> str | None:
    try:
        if list(terms) == ["ISO_IR 100"] and _is_utf_8(data):
            return data.decode("utf-8")  # declared Latin-1, sent UTF-8: no name reads "MÃ¼ller"
        if len(terms) == 1 and b"\x1b" not in data:
            return data.decode(python_encoding[terms[0]])
        if "ISO 2022 IR 58" in terms:  # pydicom 3.0 takes Python's codec to know the escape
            return data.replace(_ESCAPES["ISO 2022 IR 58"], b"").decode("gb2312")
        encodings = [python_encoding[term] for term in terms]
        return str(decode_bytes(data, encodings, _DELIMITERS))
    except (UnicodeError, LookupError, Warning):
        return None


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _repair(term: str) -> str:
    cleaned = term.strip().upper().replace("-", " ").replace("_", " ")
    words = " ".join(cleaned.split())
    if words.startswith("ISO IR "):
        return "ISO_IR " + words[7:]
    return words if words in python_encoding else term.strip()
