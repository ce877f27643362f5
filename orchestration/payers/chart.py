"""What the practice's records, signed reviews and images hold about one patient, as plain values.

Read from PMS records under their neutral names (docs/pms-records.md); nothing is guessed: what a
record leaves empty stays ``None``. Only signed findings come in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from node.domain.findings import View
from node.domain.review import SignedFinding
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput
from orchestration.payers.claim import QUADRANTS, Area, quadrant_of, read_surfaces
from pms_writeback.records import PmsRecord, RecordKind

#: Order of the six sites of a probing.
SITES = ("mesiobuccal", "buccal", "distobuccal", "mesiolingual", "lingual", "distolingual")
_AREAS = {"UR": 1, "UL": 2, "LL": 3, "LR": 4}
_ARCHES = {"U": Area.MAXILLA, "L": Area.MANDIBLE}
#: States of a procedure that is planned, as Open Dental calls them.
PLANNED = frozenset({"TP", "TPi"})
_BLEEDING = 1  # bit of the sequence BleedSupPlaqCalc


@dataclass(frozen=True, slots=True)
class Planned:
    """A procedure that is planned, not done; ``replaces_on`` is when the earlier one was placed."""

    key: str
    cdt_code: str
    fee: Decimal
    tooth: Tooth | None = None
    surfaces: tuple[Surface, ...] = ()
    teeth: tuple[Tooth, ...] = ()
    area: Area | None = None
    provider_key: str = ""
    appointment_key: str = ""
    planned_on: date | None = None
    replaces_on: date | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A procedure that was completed."""

    key: str
    cdt_code: str
    day: date
    tooth: Tooth | None = None
    area: Area | None = None


@dataclass(frozen=True, slots=True)
class Pockets:
    """Probing depths of one tooth in the order of `SITES`, mm; None where not probed."""

    key: str
    tooth: Tooth
    depths_mm: tuple[int | None, ...]
    bleeding: tuple[bool | None, ...] = (None,) * 6

    @property
    def deepest_mm(self) -> int | None:
        """The deepest pocket; None when nothing was probed."""
        return max((d for d in self.depths_mm if d is not None), default=None)


@dataclass(frozen=True, slots=True)
class PerioExam:
    """One periodontal charting."""

    key: str
    day: date
    teeth: tuple[Pockets, ...]

    def deep(self, area: Area | None, least_mm: int) -> tuple[Pockets, ...]:
        """Give the teeth of a quadrant (or of the mouth) with a pocket of at least `least_mm`."""
        return tuple(
            each
            for each in self.teeth
            if (area not in QUADRANTS.values() or quadrant_of(each.tooth) is area)
            and (each.deepest_mm or 0) >= least_mm
        )


@dataclass(frozen=True, slots=True)
class ImageFact:
    """One picture that could be shown; ``id`` is our instance, or ``pms:`` and a document's key.

    ``teeth`` are those known to be on it, empty for unknown.
    """

    id: str
    view: View | None
    taken_on: date | None
    teeth: tuple[Tooth, ...] = ()
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """A signed finding with what its picture and its signature are."""

    signed: SignedFinding
    signer: str
    signed_on: date
    taken_on: date | None = None
    view: View | None = None

    @property
    def tooth(self) -> Tooth | None:
        """The tooth."""
        return self.signed.finding.tooth


@dataclass(frozen=True, slots=True)
class ChartFacts:
    """All of it, for one patient."""

    planned: tuple[Planned, ...] = ()
    done: tuple[Done, ...] = ()
    exams: tuple[PerioExam, ...] = ()
    images: tuple[ImageFact, ...] = ()
    marks: tuple[Mark, ...] = field(default=(), repr=False)
    missing: frozenset[Tooth] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def latest_exam(self) -> PerioExam | None:
        """The newest charting with at least one depth."""
        probed = [e for e in self.exams if any(t.deepest_mm is not None for t in e.teeth)]
        return max(probed, key=lambda e: (e.day, e.key), default=None)


def read_chart(
    records: Mapping[RecordKind, Sequence[PmsRecord]],
    images: Sequence[ImageFact] = (),
    marks: Sequence[Mark] = (),
) -> ChartFacts:
    """Put together what the records of one patient say; unreadable rows are named as problems."""
    problems: list[str] = []
    procedures = records.get(RecordKind.PROCEDURE, ())
    planned = [p for r in procedures for p in _planned(r, problems)]
    done = [d for r in procedures for d in _done(r, problems)]
    missing = frozenset(
        tooth
        for r in records.get(RecordKind.TOOTH_STATE, ())
        if _text(r, "state") in ("Missing", "Extracted")
        for tooth in _tooth(_text(r, "tooth"), r, problems)
    )
    documents = [f for r in records.get(RecordKind.DOCUMENT, ()) for f in _document(r)]
    return ChartFacts(
        planned=tuple(planned),
        done=tuple(done),
        exams=tuple(_exams(records, problems)),
        images=(*images, *documents),
        marks=tuple(marks),
        missing=missing,
        problems=tuple(problems),
    )


def _planned(record: PmsRecord, problems: list[str]) -> Iterator[Planned]:
    if _text(record, "status") not in PLANNED:
        return
    teeth = tuple(t for name in _text(record, "tooth_range").split(",") if name.strip()
                  for t in _tooth(name, record, problems))  # fmt: skip
    tooth = next(_tooth(_text(record, "tooth"), record, problems), None)
    surfaces: tuple[Surface, ...] = ()
    area = _area(_text(record, "surfaces"))
    if area is None and _text(record, "surfaces"):
        try:
            surfaces = read_surfaces(_text(record, "surfaces"))
        except InvalidInput:
            problems.append(f"procedure {record.key}: surfaces that we cannot read")
    yield Planned(
        key=record.key,
        cdt_code=_text(record, "cdt_code"),
        fee=_money(record, "fee"),
        tooth=tooth,
        surfaces=surfaces,
        teeth=teeth,
        area=area,
        provider_key=_text(record, "provider_key"),
        appointment_key=_text(record, "appointment_key"),
        planned_on=_day(record, "planned_on"),
        replaces_on=_day(record, "original_prosthesis_on"),
    )


def _done(record: PmsRecord, problems: list[str]) -> Iterator[Done]:
    day = _day(record, "day")
    if _text(record, "status") != "C" or day is None:
        return
    tooth = next(_tooth(_text(record, "tooth"), record, problems), None)
    yield Done(record.key, _text(record, "cdt_code"), day, tooth, _area(_text(record, "surfaces")))


def _exams(
    records: Mapping[RecordKind, Sequence[PmsRecord]], problems: list[str]
) -> Iterator[PerioExam]:
    rows: dict[tuple[str, str], list[PmsRecord]] = {}
    for each in records.get(RecordKind.PERIO_MEASURE, ()):
        key = (_text(each, "exam_key"), _text(each, "sequence"))
        rows.setdefault(key, []).append(each)
    for exam in records.get(RecordKind.PERIO_EXAM, ()):
        day = _day(exam, "day")
        if day is None:
            problems.append(f"perio exam {exam.key}: no date")
            continue
        blood = {
            _text(r, "tooth"): _sites(r)
            for name in ("BleedSupPlaqCalc", "Bleeding")
            for r in rows.get((exam.key, name), ())
        }
        teeth = []
        for row in rows.get((exam.key, "Probing"), ()):
            for tooth in _tooth(_text(row, "tooth"), row, problems):
                bits = blood.get(_text(row, "tooth"), (None,) * 6)
                bled = tuple(None if b is None else bool(b & _BLEEDING) for b in bits)
                depths = tuple(d if d is not None and 0 <= d <= 19 else None for d in _sites(row))
                teeth.append(Pockets(row.key, tooth, depths, bled))
        yield PerioExam(exam.key, day, tuple(sorted(teeth, key=lambda t: t.tooth)))


def _sites(record: PmsRecord) -> tuple[int | None, ...]:
    values = (record.values.get(name) for name in SITES)
    return tuple(int(v) if isinstance(v, int | float) and v >= 0 else None for v in values)


def _document(record: PmsRecord) -> Iterator[ImageFact]:
    """Read a document of the PMS as a picture where its category or type says that it is one."""
    kind, category = _text(record, "image_type"), _text(record, "category").lower()
    words = f"{category} {_text(record, 'description').lower()}"
    view = None
    for word, known in (
        ("bitewing", View.BITEWING),
        ("periapical", View.PERIAPICAL),
        ("pano", View.PANORAMIC),
        ("photo", View.PHOTO),
    ):
        if word in words:
            view = known
    if kind == "Photo":
        view = View.PHOTO
    if kind not in ("Radiograph", "Photo") or "[ref:bw-" in words or "ref:bw-" in words:
        return  # no picture, or a copy of ours
    stamp = _text(record, "created_at")[:10]
    teeth = tuple(
        t for name in _text(record, "teeth").split(",") if name.strip()
        for t in _tooth(name, record, [])
    )  # fmt: skip
    yield ImageFact(f"pms:{record.key}", view, _iso(stamp), teeth, is_ours=False)


def _tooth(name: str, record: PmsRecord, problems: list[str]) -> Iterator[Tooth]:
    if not name.strip() or name.strip() in ("0", "-1"):
        return
    try:
        yield Tooth.from_universal(name)
    except InvalidInput:
        problems.append(f"{record.kind.value} {record.key}: a tooth that we cannot read")


def _area(text: str) -> Area | None:
    """Read UR UL LL LR, or U and L for a jaw; anything else is none."""
    if text in _AREAS:
        return QUADRANTS[_AREAS[text]]
    return _ARCHES.get(text)


def _text(record: PmsRecord, name: str) -> str:
    value = record.values.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _money(record: PmsRecord, name: str) -> Decimal:
    value = record.values.get(name)
    return round(Decimal(str(value)), 2) if isinstance(value, int | float) else Decimal(0)


def _day(record: PmsRecord, name: str) -> date | None:
    return _iso(_text(record, name))


def _iso(text: str) -> date | None:
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        return None
    return day if day.year > 1880 else None
