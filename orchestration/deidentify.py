"""Taking out of a text what says who somebody is, and putting it back into an answer.

First the values that are known of the patient, then whatever has the form of an identifier
(45 CFR 164.514(b)(2)): addresses, telephone numbers, dates, numbers of charts and members, ages
over 89, and names: after a title or a relation, in a list of names, or a capitalised word that no
clinical note uses. It takes out too much rather than too little: what goes comes back.

How much it finds is measured: `benchmarks.deidentify`, docs/benchmarks.md. A text of which a name
in an unusual place would do harm must not go out at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources

from node.errors import Rejected

_KINDS = "name|email|link|number|date|phone|address|age"
PLACEHOLDER = re.compile(rf"\[(?:{_KINDS})-\d+\]")
_Patterns = tuple[tuple[str, re.Pattern[str]], ...]

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_STREET = (
    r"(?:street|str|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|way|place|pl|"
    r"terrace|ter|circle|cir|highway|hwy|parkway|pkwy|square|sq|trail|trl|alley|loop)"
)
_LONG_STREET = r"(?:street|avenue|road|boulevard|lane|drive|court|terrace|highway|parkway)"
_UNIT = r"(?:,?\s*(?i:apt|apartment|unit|suite|ste|#)\.?\s*#?[\w-]+)?"
_WORD = r"[A-Z][\w'’.-]*"
_ADDRESSES: _Patterns = (
    ("email", re.compile(r"[\w.+-]+\s?@\s?[\w-]+(?:\.[\w-]+)+")),
    ("link", re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)),
    (
        "address",
        re.compile(
            rf"\b\d{{1,6}}[A-Za-z]?\s+(?:[A-Z0-9][\w'’.-]*\s+){{1,5}}(?i:{_STREET})\b\.?{_UNIT}"
            rf"|\b\d{{1,6}}\s+(?:[a-z'’.-]+\s+){{1,3}}{_LONG_STREET}\b{_UNIT}"
        ),
    ),
    ("address", re.compile(r"\bp\.?\s?o\.?\s+box\s+\d+", re.IGNORECASE)),
    (
        "address",
        re.compile(rf"\b{_WORD}(?:\s+{_WORD}){{0,2}},?\s+[A-Z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b"),
    ),
)
_NUMBERS: _Patterns = (
    ("number", re.compile(r"\b\d{3}[- ]\d{2}[- ]\d{4}\b")),
    ("date", re.compile(r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}([-/.])\d{1,2}\1\d{2,4}\b")),
    (
        "date",
        re.compile(
            rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+(?:of\s+)?'?\d{{2,4}})?\b"
            rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\.?(?:,?\s+'?\d{{2,4}})?\b"
            rf"|\b{_MONTH}\.?,?\s+(?:of\s+)?(?:19|20)\d{{2}}\b",
            re.IGNORECASE,
        ),
    ),
    (
        "date",
        re.compile(r"(?i)(?:(?<=\bon )|(?<=\bsince )|(?<=\buntil )|(?<=\bby ))\d{1,2}/\d{1,2}\b"),
    ),
    (
        "phone",
        re.compile(
            r"(?:\+?1[\s.-]?)?\(?\b\d{3}\)?[\s.-]{0,2}\d{3}[\s.-]\d{4}\b(?:\s*(?:x|ext\.?)\s*\d+)?"
        ),
    ),
    ("phone", re.compile(r"(?<![\d-])\d{3}-\d{4}\b")),
    (
        "number",
        re.compile(
            r"\b(?=[A-Z0-9-]*\d)[A-Z]{1,5}-?\d{5,}[A-Z0-9-]*\b|\b\d{5,}\b|\b\d{3,}(?:-\d{3,})+\b"
        ),
    ),
    ("age", re.compile(r"\b(?:9\d|1[01]\d)(?=[\s-]*(?:years?|yrs?|y\.?o\b|y/o))", re.IGNORECASE)),
)
_LABELLED = re.compile(
    r"\b(?:chart|acct|account|member|mrn|policy|subscriber|claim|group|licen[sc]e|npi|record|"
    r"patient\s+id|id|ssn|ref(?:erence)?)\b\.?\s*(?:no\.?|number|num\.?|id|is)?\s*[:#]?\s*#?"
    r"([A-Z]{0,5}-?\d[\w-]*)",
    re.IGNORECASE,
)
_TITLES = r"(?:mr|mrs|ms|miss|mx|dr|doctor|prof|professor|rev|sir|madam)"
_RELATIONS = (
    r"(?:mother|father|mom|mum|dad|wife|husband|spouse|partner|daughter|son|sister|brother|aunt|"
    r"uncle|guardian|friend|caregiver|grandmother|grandfather|grandma|grandpa|nephew|niece|"
    r"hygienist|assistant|dentist|surgeon|employer|named|called|aka|attn|c/o|"
    r"name is|spoke (?:with|to)|referred (?:by|to)|seen by|signed by|per|from|with|by|dear)"
)
_NAME = (
    r"[A-Z][a-zA-Z'’-]+(?:\s+(?:[A-Z]\.?|van|von|de|der|la|del|di|da|bin|al|st\.?)){0,3}"
    r"(?:\s+[A-Z][a-zA-Z'’-]+){0,2}"
)
_TITLED = re.compile(rf"\b(?i:{_TITLES})\b\.?\s+({_NAME})")
_RELATED = re.compile(rf"\b(?i:{_RELATIONS})\b[,:]?\s+(?:is\s+|was\s+)?({_NAME})")
_LAST_FIRST = re.compile(
    r"\b([A-Z][a-zA-Z'’-]+,\s?(?:[A-Z][a-z'’-]+|[A-Z'’-]{4,})(?:\s+[A-Z]\b\.?)?)(?=\W|$)"
)
#: What stands before a family name and belongs to it.
_PARTICLES = re.compile(
    r"(?<![\w\[])((?i:van|von|de|der|den|la|del|di|da|dos|bin|al|st\.)"
    r"(?:\s+(?i:de|der|den|la))?)(?=\s+\[name-)"
)
_CAPITALISED = re.compile(r"(?<![\w\[])[A-Z][a-zA-Z'’-]+\b")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n]\s*|[-•]\s+)$")


@dataclass(frozen=True, slots=True)
class Stripped:
    """A text without identifiers, and what its placeholders stand for."""

    text: str
    originals: dict[str, str] = field(repr=False)

    def restore(self, answer: str) -> str:
        """Put the originals back into an answer.

        Raises Rejected when it holds a placeholder that was never given.
        """
        unknown = set(PLACEHOLDER.findall(answer)) - set(self.originals)
        if unknown:
            raise Rejected("the language model's answer names something it was not told")
        return PLACEHOLDER.sub(lambda found: self.originals[found.group()], answer)


def strip(text: str, known: Sequence[str]) -> Stripped:
    """Take out addresses, the known values as whole words in any case, numbers, dates and names."""
    # What already looks like a placeholder must not be taken for one of ours afterwards.
    text = PLACEHOLDER.sub(lambda found: f"({found.group()[1:-1]})", text)
    hider = _Hider()
    for kind, pattern in _ADDRESSES:
        text = hider.all(kind, pattern, text)
    for value in sorted({each.strip() for each in known if each.strip()}, key=len, reverse=True):
        text = hider.all("name", _whole(value), text)
    text = hider.group("number", _LABELLED, text)
    for kind, pattern in _NUMBERS:
        text = hider.all(kind, pattern, text)
    for pattern in (_TITLED, _RELATED, _LAST_FIRST):
        text = hider.group("name", pattern, text, _is_name)
    text = hider.words(text)
    text = hider.before_names(_PARTICLES, text)
    return Stripped(text, hider.originals)


def birth_date_words(day: date) -> tuple[str, ...]:
    """Give the usual spellings of a date of birth, to be taken out of a prompt."""
    return (
        day.isoformat(), f"{day:%m/%d/%Y}", f"{day.month}/{day.day}/{day.year}", f"{day:%Y%m%d}",
        f"{day:%B} {day.day}, {day.year}", f"{day:%b} {day.day}, {day.year}",
    )  # fmt: skip


def _whole(value: str) -> re.Pattern[str]:
    """Find a known value as a whole word; of a number also with other separators."""
    digits = re.sub(r"\D", "", value)
    if len(digits) >= 7 and not re.search(r"[A-Za-z]", value):
        spaced = r"[\s().-]{0,3}".join(digits)
        return re.compile(rf"(?<!\d)\(?{spaced}(?!\d)|(?<!\w){re.escape(value)}(?!\w)")
    spaced = r"\s+".join(re.escape(part) for part in value.split())
    return re.compile(rf"(?<!\w){spaced}(?!\w)", re.IGNORECASE)


class _Hider:
    """Gives placeholders, the same for the same value, and remembers what they stand for."""

    def __init__(self) -> None:
        self.originals: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def hide(self, kind: str, value: str) -> str:
        """Give the placeholder of a value."""
        key = f"{kind} {value.casefold()}"
        if key not in self._names:
            count = sum(1 for each in self._names if each.startswith(f"{kind} ")) + 1
            self._names[key] = f"[{kind}-{count}]"
            self.originals[self._names[key]] = value
        return self._names[key]

    def all(self, kind: str, pattern: re.Pattern[str], text: str) -> str:
        """Hide every match."""
        return self._outside(
            text, lambda part: pattern.sub(lambda found: self.hide(kind, found.group()), part)
        )

    def group(
        self,
        kind: str,
        pattern: re.Pattern[str],
        text: str,
        holds: Callable[[str], bool] = bool,
    ) -> str:
        """Hide the first group of every match where `holds`."""

        def replace(found: re.Match[str]) -> str:
            value = found.group(1)
            if not holds(value):
                return found.group()
            start, end = found.start(1) - found.start(), found.end(1) - found.start()
            whole = found.group()
            return whole[:start] + self.hide(kind, value) + whole[end:]

        return self._outside(text, lambda part: pattern.sub(replace, part))

    def before_names(self, pattern: re.Pattern[str], text: str) -> str:
        """Hide what a pattern finds before the placeholders of names."""
        return pattern.sub(lambda found: self.hide("name", found.group(1)), text)

    def words(self, text: str) -> str:
        """Hide single words that are names: of the list, or capitalised where none should be."""

        def one(part: str) -> str:
            def replace(found: re.Match[str]) -> str:
                word = found.group()
                begins = bool(_SENTENCE_START.search(part[: found.start()]))
                return self.hide("name", word) if _looks_named(word, begins) else word

            part = _CAPITALISED.sub(replace, part)
            return self._outside(
                part, lambda rest: re.sub(
                    r"(?<![\w'-])[a-z]{3,}(?![\w'-])",
                    lambda found: self.hide("name", found.group())
                    if found.group() in _sure_names() else found.group(),
                    rest,
                ),
            )  # fmt: skip

        return self._outside(text, one)

    @staticmethod
    def _outside(text: str, change: Callable[[str], str]) -> str:
        """Change what stands outside the placeholders that are there already."""
        kept = [*PLACEHOLDER.findall(text), ""]
        parts = [change(part) for part in PLACEHOLDER.split(text)]
        return "".join(part + mark for part, mark in zip(parts, kept, strict=True))


def _is_name(value: str) -> bool:
    """Whether a word after a title or relation is a name and not the note's next word."""
    words = [word.casefold() for word in re.findall(r"[A-Za-z'’-]+", value)]
    return any(word not in _vocabulary() for word in words)


def _looks_named(word: str, begins_sentence: bool) -> bool:
    folded = word.casefold().removesuffix("'s").removesuffix("’s")
    if folded in _sure_names() or folded in _possible_names():
        return not (begins_sentence and folded in _vocabulary())
    if word.isupper():  # an abbreviation, unless it is as long as a name
        return len(word) > 5 and folded not in _vocabulary()
    if folded in _vocabulary():
        return False
    plain = re.sub(r"(?:s|ed|ing|ly|es|al|ic)$", "", folded)
    return plain not in _vocabulary() and f"{plain}e" not in _vocabulary()


@cache
def _lists() -> dict[str, frozenset[str]]:
    """Read the word lists: names that are nothing else, names that are words too, plain words."""
    text = resources.files("orchestration").joinpath("deidentify_words.txt").read_text("utf-8")
    found: dict[str, frozenset[str]] = {}
    for part in text.split("## ")[1:]:
        name, _, words = part.partition("\n")
        found[name.strip()] = frozenset(words.split())
    return found


def _sure_names() -> frozenset[str]:
    return _lists()["names"]


def _possible_names() -> frozenset[str]:
    return _lists()["names that are words"]


def _vocabulary() -> frozenset[str]:
    return _lists()["words"]
