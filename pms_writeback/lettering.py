"""Letters for reports: one font, the same on every machine, and what it can write."""

from __future__ import annotations

import unicodedata
from functools import cache
from xml.sax.saxutils import escape

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

#: Bitstream Vera comes with reportlab.
REGULAR, BOLD, ITALIC = "Vera", "VeraBd", "VeraIt"


def register_fonts() -> None:
    """Make the faces known to reportlab; doing it again has no effect."""
    if ITALIC in pdfmetrics.getRegisteredFontNames():
        return
    for name in (REGULAR, BOLD, ITALIC):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    pdfmetrics.registerFontFamily(REGULAR, REGULAR, BOLD, ITALIC, BOLD)


def writable(text: str, otherwise: str = "?") -> str:
    """Return `text` in letters the font has, without accents if need be.

    A text that cannot be written so becomes `otherwise`: half a name would mislead.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    letters = _letters()
    for wording in (unicodedata.normalize("NFC", text), plain):
        if all(ord(character) in letters for character in wording):
            return wording
    return otherwise


def markup(words: str) -> str:
    """Make a person's words safe for reportlab's markup and the font."""
    return escape(" ".join(writable(word) for word in words.split()))


@cache
def _letters() -> frozenset[int]:
    return frozenset(TTFont(REGULAR, f"{REGULAR}.ttf").face.charToGlyph)
