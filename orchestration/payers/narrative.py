"""The narrative of a pre-authorisation: sentences from signed facts only, each with its sources.

A fact is a signed finding, a charted probing or a chart entry; what only a clinician knows stays an
open slot, and a narrative with open slots is not complete. :func:`objections` judges any other
wording, a person's edit or a language model's draft: a number, tooth, surface or condition that
stands in no fact is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation

from node.domain.findings import FindingKind, View
from node.domain.teeth import Tooth
from node.errors import InvalidInput, Rejected
from orchestration.payers.chart import ChartFacts, Mark, Planned
from orchestration.payers.claim import MAX_NARRATIVE, QUADRANTS, quadrant_of
from orchestration.payers.rules import EvidenceKind, Rule, Slot
from pms_writeback import notes

#: Longest answer to a question for the clinician.
MAX_ANSWER = 120
_PERIO_RULES = frozenset({"scaling", "scaling-few", "osseous", "inflammation", "maintenance"})
_VIEWS = {
    View.BITEWING: "bitewing",
    View.PERIAPICAL: "periapical",
    View.PANORAMIC: "panoramic",
    View.OCCLUSAL: "occlusal film",
    View.PHOTO: "photo",
}
_QUADRANT_NAMES = {1: "upper right", 2: "upper left", 3: "lower left", 4: "lower right"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, short for the claim and long for the attachment, and what it rests on.

    ``sources`` are ``finding:``, ``perio:``, ``procedure:``, ``tooth_state:`` or ``slot:`` with
    their ids. The lower the ``rank``, the later it is dropped where room is short.
    """

    short: str = field(repr=False)
    long: str = field(repr=False)
    sources: tuple[str, ...]
    rank: int


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A question that a clinician has yet to answer for one procedure."""

    key: str
    procedure_key: str
    question: str
    options: tuple[str, ...]
    unit: str

    @property
    def id(self) -> str:
        """Key of the answer: the slot and the procedure."""
        return f"{self.key}:{self.procedure_key}"


@dataclass(frozen=True, slots=True)
class Narrative:
    """What is said of one or more procedures, and what is still open."""

    sentences: tuple[Sentence, ...]
    open_slots: tuple[OpenSlot, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left for a clinician to say."""
        return not self.open_slots

    def claim_text(self) -> str:
        """Give the claim's version of at most 400 characters.

        Whole sentences are left out, the least important first, and said to be in the attachment.

        Raises
        ------
        Rejected
            Slots are open.
        """
        self._demand_complete()
        ending = "See attached narrative."
        kept = list(self.sentences)
        text = " ".join(each.short for each in kept)
        while len(text) > MAX_NARRATIVE and kept:
            kept.remove(max(reversed(kept), key=lambda each: each.rank))
            text = " ".join([*(each.short for each in kept), ending])
        return text

    def long_text(self) -> str:
        """Give every sentence, one a line; raises Rejected when slots are open."""
        self._demand_complete()
        return "\n".join(each.long for each in self.sentences)

    def _demand_complete(self) -> None:
        if self.open_slots:
            names = ", ".join(dict.fromkeys(slot.key for slot in self.open_slots))
            raise Rejected(f"the narrative waits for a clinician's answers: {names}")


def compose(
    wishes: Sequence[tuple[Rule, Planned]],
    facts: ChartFacts,
    slots: Mapping[str, Slot],
    answers: Mapping[str, str],
) -> Narrative:
    """Compose from facts and a clinician's answers (by ``slot:procedure key``).

    Raises
    ------
    InvalidInput
        An answer is not one of its options, no number, or too long.
    """
    sentences: list[Sentence] = []
    still_open: list[OpenSlot] = []
    for rule, planned in wishes:
        sentences += _head(rule, planned)
        sentences += _findings(rule, planned, facts)
        sentences += _perio(rule, planned, facts)
        sentences += _history(planned, facts)
        said, left = _answers(rule, planned, slots, answers)
        sentences += said
        still_open += left
    if any(EvidenceKind.MISSING_TEETH in e.kinds for rule, _ in wishes for e in rule.evidence):
        sentences += _missing(facts)
    return Narrative(tuple(dict.fromkeys(sentences)), tuple(still_open))


def check_answer(slot: Slot, text: str) -> str:
    """Give an answer in its clean form.

    Raises InvalidInput when it is not one of the options, no number where one is asked, or too
    long.
    """
    words = " ".join(text.split()).rstrip(".")
    if slot.options:
        if words not in slot.options:
            raise InvalidInput(f"{slot.key}: one of {', '.join(slot.options)}")
        return words
    if slot.unit:
        return _number(slot, words)
    if slot.key == "prior_date":
        try:
            return date.fromisoformat(words).isoformat()
        except ValueError:
            raise InvalidInput("prior_date: a day like 2016-05-31") from None
    if not 1 <= len(words) <= MAX_ANSWER:
        raise InvalidInput(f"{slot.key}: 1 to {MAX_ANSWER} characters")
    return words


def _number(slot: Slot, words: str) -> str:
    try:
        value = Decimal(words.removesuffix(slot.unit).strip())
    except InvalidOperation:
        raise InvalidInput(f"{slot.key}: a number in {slot.unit}") from None
    if not value.is_finite() or not 0 <= value <= 100:
        raise InvalidInput(f"{slot.key}: a number from 0 to 100")
    return f"{value.normalize():f}"


# --- sentences ------------------------------------------------------------------------------------


def place_words(planned: Planned) -> str:
    """Name where a procedure is to be done: ``#30``, ``#3, #4`` or a quadrant."""
    if planned.tooth is not None:
        return f"#{planned.tooth.universal}"
    if planned.teeth:
        return ", ".join(f"#{tooth.universal}" for tooth in planned.teeth)
    for quadrant, area in QUADRANTS.items():
        if planned.area is area:
            return _QUADRANT_NAMES[quadrant]
    return ""


def _head(rule: Rule, planned: Planned) -> Iterator[Sentence]:
    place = place_words(planned)
    words = f"{place}: {rule.label}." if place else f"{rule.label}.".capitalize()
    when = f" planned on {planned.planned_on}" if planned.planned_on else ""
    long = f"{place}: {rule.label} ({planned.cdt_code}){when}." if place else words
    yield Sentence(words, long, (f"procedure:{planned.key}",), 0)


def _findings(rule: Rule, planned: Planned, facts: ChartFacts) -> Iterator[Sentence]:
    """Say each signed finding of the place; what says the same on two films is said once."""
    seen: dict[str, list[Mark]] = {}
    for mark in facts.marks:
        is_bone = mark.signed.finding.kind in _BONE
        if _is_here(mark.tooth, planned) and (rule.key not in _PERIO_RULES or is_bone):
            seen.setdefault(_mark_words(mark), []).append(mark)
    for words, marks in seen.items():
        mark = marks[-1]
        view = _VIEWS.get(mark.view, "image") if mark.view else "image"
        taken = f" {mark.taken_on}" if mark.taken_on else ""
        ids = tuple(f"finding:{each.signed.id}" for each in marks)
        short = f"{words} on {view}{taken}, confirmed by {mark.signer}."
        long = f"{words}, radiographic finding on {view}{taken}, confirmed by {mark.signer} on "
        yield Sentence(short, f"{long}{mark.signed_on}.", ids, 1)


_BONE = frozenset(
    {FindingKind.BONE_LEVEL, FindingKind.ANGULAR_DEFECT, FindingKind.FURCATION,
     FindingKind.CALCULUS}
)  # fmt: skip


def _mark_words(mark: Mark) -> str:
    signed = mark.signed
    parts = [
        notes.kind_name(signed).lower(), notes.surface_names(signed), notes.measure(signed),
    ]  # fmt: skip
    words = ", ".join(part for part in parts if part)
    return f"#{mark.tooth.universal} {words}" if mark.tooth else words.capitalize()


def _perio(rule: Rule, planned: Planned, facts: ChartFacts) -> Iterator[Sentence]:
    exam = facts.latest_exam
    if exam is None:
        return
    here = [each for each in exam.teeth if _is_here(each.tooth, planned)]
    probed = [each for each in here if each.deepest_mm is not None]
    if rule.key in _PERIO_RULES:
        probed = [each for each in probed if (each.deepest_mm or 0) >= 4]
    if not probed:
        return
    probed.sort(key=lambda each: (len(each.tooth.universal), each.tooth.universal))
    listed = ", ".join(f"#{each.tooth.universal} {each.deepest_mm} mm" for each in probed)
    ids = tuple(f"perio:{each.key}" for each in probed)
    bled = [each for each in probed if any(each.bleeding)]
    blood = ""
    if bled:
        blood = " Bleeding: " + ", ".join(f"#{each.tooth.universal}" for each in bled) + "."
    sites = "; ".join(
        f"#{each.tooth.universal} " + "-".join("x" if d is None else str(d) for d in each.depths_mm)
        for each in probed
    )
    long = f"Probing depths charted on {exam.day} (mm, MB-B-DB-ML-L-DL): {sites}.{blood}"
    yield Sentence(f"Deepest probing {exam.day}: {listed}.{blood}", long, ids, 2)


def _history(planned: Planned, facts: ChartFacts) -> Iterator[Sentence]:
    if planned.replaces_on:
        words = f"Replaces one placed {planned.replaces_on}."
        yield Sentence(words, words, (f"procedure:{planned.key}",), 2)
    if planned.tooth is None:
        return
    earlier = sorted((d for d in facts.done if d.tooth == planned.tooth), key=lambda d: d.day)
    if earlier:
        listed = ", ".join(f"{each.cdt_code} {each.day}" for each in earlier[-3:])
        words = f"Charted before: {listed}."
        yield Sentence(words, words, tuple(f"procedure:{d.key}" for d in earlier[-3:]), 5)


def _missing(facts: ChartFacts) -> Iterator[Sentence]:
    if facts.missing:
        ordered = sorted(facts.missing)
        words = "Missing: " + ", ".join(f"#{tooth.universal}" for tooth in ordered) + "."
        yield Sentence(words, words, tuple(f"tooth_state:{tooth}" for tooth in ordered), 3)


def _answers(
    rule: Rule, planned: Planned, slots: Mapping[str, Slot], answers: Mapping[str, str]
) -> tuple[list[Sentence], list[OpenSlot]]:
    said: list[Sentence] = []
    still_open: list[OpenSlot] = []
    for name in rule.slots:
        slot = slots[name]
        if slot.needs and answers.get(f"{slot.needs[0]}:{planned.key}", "") != slot.needs[1]:
            continue
        if name == "prior_date" and planned.replaces_on:
            continue
        text = answers.get(f"{name}:{planned.key}", "")
        if not text.strip():
            asked = (slot.question, slot.options, slot.unit)
            still_open.append(OpenSlot(name, planned.key, *asked))
            continue
        words = slot.sentence.format(value=check_answer(slot, text))
        words = words[:1].upper() + words[1:]
        place = place_words(planned)
        long = f"{place}: {words}" if place else words
        said.append(Sentence(words, long, (f"slot:{name}:{planned.key}",), 3))
    return said, still_open


def _is_here(tooth: Tooth | None, planned: Planned) -> bool:
    if tooth is None:
        return False
    if planned.tooth is not None:
        return tooth == planned.tooth
    if planned.teeth:
        return tooth in planned.teeth
    return planned.area in QUADRANTS.values() and quadrant_of(tooth) is planned.area


# --- judging another wording ----------------------------------------------------------------------

_DAY = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_CODE = re.compile(r"\b[Dd]\d{4}\b")
_TOOTH = re.compile(
    r"#\s*(\d{1,2}|[A-Ta-t]S?\b)|\b(?:[Tt]ooth|[Tt]eeth|[Nn]o\.)\s+(?:number\s+)?(\d{1,2}|[A-T]S?\b)"
)
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)(?:\s*(mm|%|percent))?")
_NUMBER_WORDS = frozenset(
    {
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
        *("eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "dozen", "several"),
        *("half", "third", "thirds", "quarter", "twice", "double", "triple"),
    }
)
#: Surfaces and conditions that a wording may state only if a fact does.
_CONDITIONS = frozenset(
    {
        *("mesial", "distal", "occlusal", "incisal", "buccal", "lingual", "facial", "palatal"),
        *("caries", "decay", "carious", "fracture", "fractured", "crack", "cracked", "abscess"),
        *("mobility", "mobile", "bleeding", "suppuration", "pus", "swelling", "pain", "painful"),
        *("necrotic", "necrosis", "pulpitis", "furcation", "perforation", "resorption", "endo"),
        *("calculus", "recurrent", "defective", "periapical", "radiolucency", "impacted", "bone"),
        *("missing", "severe", "generalised", "generalized", "localised", "localized", "vital"),
        *("loss", "cusp", "cusps", "infection", "infected", "exposure", "symptoms", "wear"),
        *("erosion", "mandibular", "maxillary", "urgent", "emergency", "left", "right"),
    }
)
_SAME = {
    "decay": "caries", "carious": "caries", "fractured": "fracture", "cracked": "crack",
    "generalized": "generalised", "localized": "localised", "painful": "pain",
    "infected": "infection", "cusps": "cusp", "mobile": "mobility", "thirds": "third",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Said:
    """What a text states that can be wrong."""

    teeth: frozenset[str]
    numbers: frozenset[str]
    measures: frozenset[str]
    days: frozenset[str]
    words: frozenset[str]

    @classmethod
    def in_text(cls, text: str) -> _Said:
        days = frozenset(_DAY.findall(text))
        rest = _DAY.sub(" ", text)
        codes = frozenset(code.upper() for code in _CODE.findall(rest))
        rest = _CODE.sub(" ", rest)
        teeth = frozenset((a or b).upper() for a, b in _TOOTH.findall(rest))
        rest = _TOOTH.sub(" ", rest)
        found = [(_clean(number), unit) for number, unit in _NUMBER.findall(rest)]
        units = {"percent": "%"}
        measures = frozenset(f"{n} {units.get(u, u)}" for n, u in found if u)
        words = frozenset(
            _SAME.get(word, word)
            for word in re.findall(r"[a-z]+", rest.lower())
            if word in _CONDITIONS or word in _NUMBER_WORDS
        )
        return cls(teeth, frozenset(n for n, u in found if not u), measures, days, words | codes)


def objections(text: str, narrative: Narrative, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Say why a wording may not stand for these facts; empty when it may.

    Teeth, numbers with and without their unit, days, procedure codes, surfaces and conditions must
    each stand in a fact; ``extra`` are further texts that count as facts.
    """
    known = _Said.in_text(" ".join([*(f"{s.short} {s.long}" for s in narrative.sentences), *extra]))
    said = _Said.in_text(text)
    bare = said.numbers - known.numbers - {m.split()[0] for m in known.measures}
    return (
        *(f"tooth #{tooth} stands in no fact" for tooth in sorted(said.teeth - known.teeth)),
        *(f"the number {number} stands in no fact" for number in sorted(bare)),
        *(f"the measure {m} stands in no fact" for m in sorted(said.measures - known.measures)),
        *(f"the day {day} stands in no fact" for day in sorted(said.days - known.days)),
        *(f"{word!r} stands in no fact" for word in sorted(said.words - known.words)),
    )


def _clean(number: str) -> str:
    value = Decimal(number.replace(",", "."))
    return f"{value.normalize():f}"


def narrative_for_claim(text: str, room: int) -> str:
    """Shorten an approved narrative to `room` characters at the end of a sentence, or of a word."""
    if len(text) <= room:
        return text
    cut = text[:room]
    end = cut.rfind(". ")
    return cut[: end + 1] if end > room // 2 else cut[: cut.rfind(" ")].rstrip()
