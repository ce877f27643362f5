"""What dentists charted in the practice's system, as the kinds of finding it speaks for.

A chart is no truth about a film: it says what somebody treated or planned, on findings from mouth
and film together. What each entry stands for is the table below; what it cannot stand for (bone
level, calculus by tooth) is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from node.domain.findings import FindingKind
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from pms_writeback.record_rows import read_records
from pms_writeback.records import PmsRecord, RecordKind

#: A tooth that the chart says is gone; compared with teeth that no network found on a panoramic.
MISSING = "missing_tooth"
#: A plan made this long after the films still answers them; work is done this long after.
PLAN_DAYS, WORK_DAYS = 60, 365

_K = FindingKind
#: (first code, last code, what it says when it stood before the films, when it came after them).
#: Source: CDT 2026 categories D2000–D3999, D6000–D6199, D7000–D7999, by their numbers only.
_CODES: tuple[tuple[int, int, FindingKind | None, FindingKind | None], ...] = (
    (2140, 2394, _K.RESTORATION, _K.CARIES),
    (2510, 2664, _K.RESTORATION, _K.CARIES),
    (2710, 2799, _K.CROWN, None),  # crowns are made for more reasons than caries
    (2952, 2954, _K.POST, None),
    (3310, 3330, _K.ROOT_FILLING, _K.PERIAPICAL_RADIOLUCENCY),
    (3346, 3348, _K.ROOT_FILLING, _K.PERIAPICAL_RADIOLUCENCY),
    (3410, 3426, None, _K.PERIAPICAL_RADIOLUCENCY),
    (6010, 6013, _K.IMPLANT, None),
    (7220, 7241, None, _K.IMPACTED_TOOTH),
    (7250, 7250, None, _K.ROOT_REMNANT),
)
_EXTRACTED = (7140, 7250)
_DONE = frozenset({"C", "EC", "EO"})
_PLANNED = frozenset({"TP", "TPi"})
_WORDS: tuple[tuple[re.Pattern[str], FindingKind], ...] = (
    (re.compile(r"\b(caries|carious|decay|cavity|cavities)\b", re.I), _K.CARIES),
    (re.compile(r"\b(parl|periapical|apical (lesion|lucency|radiolucency))\b", re.I),
     _K.PERIAPICAL_RADIOLUCENCY),
    (re.compile(r"\b(root (tip|remnant)s?)\b", re.I), _K.ROOT_REMNANT),
    (re.compile(r"\bimpacted\b", re.I), _K.IMPACTED_TOOTH),
)  # fmt: skip
_DENIED = re.compile(r"\b(no|not|without|denies|negative|rule out|r/o|arrested)\b", re.I)
_TOOTH = re.compile(r"#\s?(\d{1,2})(?:\s?[- ]\s?([MODBLFI]{1,5})\b)?")
_SENTENCE = re.compile(r"[.;\n]+")


@dataclass(frozen=True, slots=True)
class Charted:
    """One thing that the chart says of a tooth; ``source`` is procedure, tooth_state or note."""

    kind: str
    tooth: str  # ISO 3950
    surfaces: str
    source: str


def read_charted(
    conn: sa.Connection, location_id: str, patient_key: str, day: date
) -> tuple[Charted, ...]:
    """Read what the chart of a patient says about films of `day`, without repeats."""
    found = [
        *_procedures(read_records(conn, location_id, RecordKind.PROCEDURE, patient_key), day),
        *_states(read_records(conn, location_id, RecordKind.TOOTH_STATE, patient_key)),
        *_notes(read_records(conn, location_id, RecordKind.PROCEDURE_NOTE, patient_key), day),
    ]
    return tuple(dict.fromkeys(found))


def _procedures(records: Sequence[PmsRecord], day: date) -> Iterator[Charted]:
    for record in records:
        code, status = _code(record), str(record.values.get("status") or "")
        tooth = _tooth(str(record.values.get("tooth") or ""))
        if code is None or tooth is None:
            continue
        done, planned = _day(record, "day"), _day(record, "planned_on")
        is_before = status in _DONE and (done is None or done < day)
        if is_before and _EXTRACTED[0] <= code <= _EXTRACTED[1]:
            yield Charted(MISSING, tooth, "", "procedure")
        kind = _says(code, is_before)
        if kind is None or not (is_before or _answers(status, done, planned, day)):
            continue
        surfaces = _surfaces(str(record.values.get("surfaces") or ""))
        yield Charted(kind.value, tooth, surfaces, "procedure")


def _says(code: int, is_before: bool) -> FindingKind | None:
    for first, last, before, after in _CODES:
        if first <= code <= last:
            return before if is_before else after
    return None


def _answers(status: str, done: date | None, planned: date | None, day: date) -> bool:
    """Whether an entry answers films of a day: planned soon after, or done within a year."""
    if planned is not None and planned < day:
        return False
    if status in _PLANNED:
        made = planned or done
        return made is not None and day <= made <= day + timedelta(days=PLAN_DAYS)
    return status == "C" and done is not None and day <= done <= day + timedelta(days=WORK_DAYS)


def _states(records: Iterable[PmsRecord]) -> Iterator[Charted]:
    for record in records:
        tooth = _tooth(str(record.values.get("tooth") or ""))
        if tooth is not None and str(record.values.get("state") or "").lower() == "missing":
            yield Charted(MISSING, tooth, "", "tooth_state")


def _notes(records: Iterable[PmsRecord], day: date) -> Iterator[Charted]:
    for record in records:
        written = str(record.values.get("written_at") or "")[:10]
        try:
            on = date.fromisoformat(written)
        except ValueError:
            continue
        if day <= on <= day + timedelta(days=PLAN_DAYS):
            yield from _told(str(record.values.get("text") or ""))


def _told(text: str) -> Iterator[Charted]:
    """Find teeth named beside a finding in one sentence; a sentence that denies says nothing."""
    for sentence in _SENTENCE.split(text):
        if _DENIED.search(sentence):
            continue
        for pattern, kind in _WORDS:
            if not pattern.search(sentence):
                continue
            for number, surfaces in _TOOTH.findall(sentence):
                tooth = _tooth(number)
                if tooth is not None:
                    yield Charted(kind.value, tooth, _surfaces(surfaces), "note")


def _code(record: PmsRecord) -> int | None:
    text = str(record.values.get("cdt_code") or "")
    return int(text[1:5]) if re.match(r"D\d{4}", text) else None


def _tooth(universal: str) -> str | None:
    try:
        return Tooth.from_universal(universal).code
    except InvalidInput:
        return None


def _surfaces(text: str) -> str:
    """Read surfaces as charted, with facial as buccal; what is none is left out."""
    return "".join(dict.fromkeys("B" if s in "FV" else s for s in text.upper() if s in "MODBLFVI"))


def _day(record: PmsRecord, name: str) -> date | None:
    try:
        found = date.fromisoformat(str(record.values.get(name) or "")[:10])
    except ValueError:
        return None
    return found if found.year > 1900 else None
