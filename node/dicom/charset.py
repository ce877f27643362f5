"""Text of a data set as people meant it: declared, undeclared and wrongly declared charsets.

Sensors send Latin-1 or UTF-8 bytes without Specific Character Set, or declare one and send
another. Nothing here ever fails: bytes that fit nothing become replacement characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.charset import decode_bytes, python_encoding

#: What we answer in unless the peer asked for something else.
DEFAULT = "ISO_IR 192"
_UNDECLARED = ("", "ISO_IR 6", "ISO 2022 IR 6")
#: PN and text delimiters after which ISO 2022 escapes fall back to the first charset.
_DELIMITERS = {0x5C, 0x5E, 0x3D, 0x0D, 0x0A, 0x09, 0x0C}


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


def answer_in(asked: Sequence[str], texts: Sequence[str]) -> str:
    """Choose the charset of an answer: the one asked for if it can hold every text, else UTF-8."""
    for term in asked:
        if not is_known(term) or term.startswith("ISO 2022"):
            continue
        try:
            for text in texts:
                text.encode(python_encoding[term])
        except UnicodeEncodeError:
            continue
        return term
    return DEFAULT


def _by_declaration(data: bytes, terms: Sequence[str]) -> str | None:
    try:
        if list(terms) == ["ISO_IR 100"] and _is_utf_8(data):
            return data.decode("utf-8")  # declared Latin-1, sent UTF-8: no name reads "MÃ¼ller"
        if len(terms) == 1 and b"\x1b" not in data:
            return data.decode(python_encoding[terms[0]])
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
