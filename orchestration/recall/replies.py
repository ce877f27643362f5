"""What an answer to a message means. Only plain cases are decided; the rest is for a person."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum


class Meaning(StrEnum):
    """The value is stored."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    YES = "yes"
    NO = "no"
    BOOK = "book"
    UNCLEAR = "unclear"


#: Whole answers, in capitals without accents and signs.
_WHOLE = {
    Meaning.STOP: {
        "STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT",
        "OPT OUT", "ARRET", "ALTO", "PARAR", "PARE", "BAJA", "CANCELAR", "DETENER",
    },
    Meaning.START: {"START", "UNSTOP", "RESUME", "INICIAR", "EMPEZAR", "COMENZAR"},
    Meaning.HELP: {"HELP", "INFO", "AYUDA"},
    Meaning.YES: {
        "YES", "Y", "YES PLEASE", "YEP", "YEAH", "OK", "OKAY", "SURE", "CONFIRM", "C", "1",
        "SI", "SI POR FAVOR", "CLARO", "CONFIRMAR", "CONFIRMO", "VALE",
    },
    Meaning.NO: {"NO", "N", "NO THANKS", "NO THANK YOU", "NOPE", "NO GRACIAS", "2"},
}  # fmt: skip
#: Wishes to end messages within a sentence.
_STOPS = re.compile(
    r"\b(STOP (TEXTING|MESSAGING|SENDING|CONTACTING|EMAILING|WRITING|THESE|THIS|IT|PLEASE)"
    r"|UNSUBSCRIBE|OPT ?OUT|REMOVE ME|TAKE ME OFF"
    r"|(DO NOT|DONT|NEVER) (TEXT|MESSAGE|CONTACT|EMAIL|WRITE)"
    r"|NO MORE (TEXTS?|MESSAGES?|EMAILS?)|LEAVE ME ALONE|NO (ME )?ENVI(EN?|E) MAS|NO MAS MENSAJES"
    r"|DEJ(EN?|E) DE (ENVIAR|ESCRIBIR|MANDAR)|DARME DE BAJA)\b"
)
#: Wishes for a visit; only when nothing in the answer turns it round.
_BOOKS = re.compile(
    r"\b(BOOK|SCHEDULE|APPOINTMENT|COME IN|CALL ME|MAKE AN? (APPT|VISIT)|APPT"
    r"|CITA|AGENDAR|RESERVAR|LLAMEN?ME)\b"
)
_TURNS = re.compile(
    r"\b(NO|NOT|DONT|CANT|CANNOT|CANCEL|ALREADY|NEVER|YA|STOP|WHY|WRONG|MOVED|DIED)\b"
)


def parse(text: str) -> Meaning:
    """Read an answer; a wish to stop wins over everything else in it."""
    plain = _plain(text)
    if plain in _WHOLE[Meaning.STOP] or _STOPS.search(plain) or plain.startswith("STOP "):
        return Meaning.STOP
    for meaning, words in _WHOLE.items():
        if plain in words:
            return meaning
    if _BOOKS.search(plain) and not _TURNS.search(plain) and len(plain) <= 160:
        return Meaning.BOOK
    return Meaning.UNCLEAR


def _plain(text: str) -> str:
    """Fold to capitals without accents, signs or doubled blanks; an apostrophe joins its word."""
    folded = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("'", ""))
    letters = "".join(char for char in folded if not unicodedata.combining(char)).upper()
    return " ".join(re.sub(r"[^A-Z0-9]+", " ", letters).split())
