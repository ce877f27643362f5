"""Is a prescription complete and sensible? Every failed check names its field and what to do.

Three layers: fields wanted by the restoration and by the laboratory's pack, words that a coded
field may hold, and `checks` that compare several fields with each other and with the chart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from enum import StrEnum

from node.domain.teeth import Tooth
from orchestration.labs.conditions import CONDITIONS
from orchestration.labs.prescription import FileKind, LabRx
from orchestration.labs.rulebook import FieldRule, LabPack, Rulebook


class Verdict(StrEnum):
    """What a prescription's validation came to."""

    VALID = "valid"
    INCOMPLETE = "incomplete"  # something is missing
    INVALID = "invalid"  # something contradicts


class Level(StrEnum):
    """How one check went; a remark never stops a case."""

    PASSED = "passed"
    REMARK = "remark"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the patient's plan says about the procedure; percent None where it says nothing.

    ``again_from`` is the first day on which the plan pays for this tooth again.
    """

    percent: float | None = None
    again_from: date | None = None


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What the chart, the schedule and the plan say beside the prescription.

    ``missing_teeth`` None when the chart says nothing about missing teeth. ``turnaround_days`` are
    the laboratory's working days, from the practice's system if it has them.
    """

    today: date
    zone: tzinfo
    turnaround_days: int
    missing_teeth: frozenset[Tooth] | None = None
    coverage: Coverage = Coverage()


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``name`` is stable, ``field`` a path into the prescription."""

    name: str
    field: str
    level: Level
    words: str = ""

    @property
    def is_failed(self) -> bool:
        """Whether it must be mended before the case may go out."""
        return self.level in (Level.MISSING, Level.WRONG)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The outcome as it goes into the order: status, names of checks passed, notes in words."""

    checks: tuple[Check, ...]

    @property
    def status(self) -> Verdict:
        """A contradiction outweighs a gap."""
        levels = {check.level for check in self.checks}
        if Level.WRONG in levels:
            return Verdict.INVALID
        return Verdict.INCOMPLETE if Level.MISSING in levels else Verdict.VALID

    @property
    def checks_passed(self) -> tuple[str, ...]:
        """Names of the checks that passed, in order, each once."""
        failed = {check.name for check in self.checks if check.is_failed}
        names = (check.name for check in self.checks if check.name not in failed)
        return tuple(dict.fromkeys(names))

    @property
    def failed(self) -> tuple[Check, ...]:
        """What must be mended."""
        return tuple(check for check in self.checks if check.is_failed)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for everything that failed or is worth knowing."""
        return tuple(f"{c.field}: {c.words}" for c in self.checks if c.level is not Level.PASSED)

    def to_json(self) -> dict[str, object]:
        """Encode as the order carries it."""
        return {
            "status": self.status.value,
            "checks_passed": list(self.checks_passed),
            "notes": list(self.notes),
            "failed": [
                {"check": c.name, "field": c.field, "level": c.level.value, "words": c.words}
                for c in self.failed
            ],
        }


#: A check of several fields; gives what it found, one entry at least.
CrossCheck = Callable[[LabRx, CaseFacts, Rulebook, LabPack], Sequence[Check]]


def validate(
    rx: LabRx,
    facts: CaseFacts,
    book: Rulebook,
    pack: LabPack,
    cross_checks: Sequence[CrossCheck],
) -> ValidationResult:
    """Check a prescription; `cross_checks` are normally ``checks.ALL``."""
    found = [*_fields(rx, book, pack), *_words(rx, book)]
    for check in cross_checks:
        found += check(rx, facts, book, pack)
    return ValidationResult(tuple(found))


def value_at(rx: LabRx, path: str) -> object:
    """Read a field by its path, ``attachments.photo`` and ``units.surfaces`` included.

    None, "" and () are what is missing; a measure of 0 is there.
    """
    head, _, rest = path.partition(".")
    if head == "attachments" and rest:
        kind = FileKind(rest)
        return tuple(each for each in rx.attachments if each.kind is kind)
    if path == "units.surfaces":
        surfaces = [unit.surfaces for unit in rx.units]
        return tuple(surfaces) if all(surfaces) else ()
    value: object = rx
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


def is_missing(value: object) -> bool:
    """Whether a field holds nothing; a question left at no counts as unanswered."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or value is False or value == ()


def wanted(rx: LabRx, book: Rulebook, pack: LabPack) -> Iterator[FieldRule]:
    """Give the field rules that hold for this prescription, each field once."""
    family = book.family(rx.material)
    of_pack = (rule for restoration, rule in pack.extra if restoration is rx.restoration)
    seen: set[str] = set()
    for rule in (*book.every, *book.restorations[rx.restoration].rules, *of_pack):
        if rule.field in seen:
            continue
        if not rule.condition or CONDITIONS[rule.condition](rx, family):
            seen.add(rule.field)
            yield rule


def _fields(rx: LabRx, book: Rulebook, pack: LabPack) -> Iterator[Check]:
    for rule in wanted(rx, book, pack):
        name = f"field:{rule.field}"
        if is_missing(value_at(rx, rule.field)):
            words = (
                f"the {book.name_of(rule.field)} is missing. {rule.do or book.advice(rule.field)}"
            )
            yield Check(name, rule.field, Level.MISSING, words)
        else:
            yield Check(name, rule.field, Level.PASSED)


def _words(rx: LabRx, book: Rulebook) -> Iterator[Check]:
    for field_name, allowed in book.choices.items():
        value = value_at(rx, field_name)
        if is_missing(value):
            continue
        if value in allowed:
            yield Check(f"word:{field_name}", field_name, Level.PASSED)
        else:
            words = f"the {book.name_of(field_name)} is none of {', '.join(allowed)}. Choose one."
            yield Check(f"word:{field_name}", field_name, Level.WRONG, words)
