"""Per-payer rule packs: which procedures need a pre-authorisation, and with what evidence.

Packs are dated TOML files in ``rules/`` beside this file and in the office's own folder
(``[payers] rules_dir``), whose packs go before ours. A pack holds rule keys with our own short
labels, never a code set's texts. Payers change their rules every year: every pack names its
sources and who checked it, and a pack that is out of date is said to be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Literal, cast

from node.errors import ConfigError

SHIPPED = Path(__file__).with_name("rules")
#: Payer id of the pack for every payer without one.
ANY_PAYER = "*"
_RULE_KEYS = {"key", "label", "codes", "preauth", "service_type", "placement", "criteria",
              "evidence", "frequency", "slots", "note"}  # fmt: skip
_PACK_KEYS = {"version", "name", "payer_ids", "valid_from", "valid_to", "checked_by", "sources",
              "rule"}  # fmt: skip


class EvidenceKind(StrEnum):
    """What a payer may want to see."""

    PERIAPICAL = "periapical"
    BITEWING = "bitewing"
    PANORAMIC = "panoramic"
    FULL_SERIES = "full_series"
    RADIOGRAPH = "radiograph"  # any of the tooth or area
    PHOTO = "photo"
    PERIO_CHART = "perio_chart"
    MISSING_TEETH = "missing_teeth"
    PRIOR_DATE = "prior_date"  # of what is replaced
    PRIOR_THERAPY = "prior_therapy"  # dates of active periodontal therapy
    NARRATIVE = "narrative"


class Preauth(StrEnum):
    """Whether a payer wants to be asked before treatment."""

    REQUIRED = "required"
    ADVISED = "advised"
    NO = "no"
    UNKNOWN = "unknown"


#: Where a payer is asked before treatment.
ASKED = frozenset({Preauth.REQUIRED, Preauth.ADVISED})


@dataclass(frozen=True, slots=True)
class EvidenceRule:
    """One thing to show: any one of `kinds`, not older than `max_age_days` (0: of any age).

    ``min_depth_mm`` and ``min_teeth`` say what a perio chart must show: so many teeth of the area
    with a pocket of at least that depth.
    """

    kinds: tuple[EvidenceKind, ...]
    max_age_days: int = 0
    is_optional: bool = False
    min_depth_mm: int = 0
    min_teeth: int = 0


@dataclass(frozen=True, slots=True)
class Frequency:
    """At most `count` in `months` per tooth, quadrant, arch or person."""

    count: int
    months: int
    per: Literal["tooth", "quadrant", "arch", "person"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Something that only a clinician knows; a narrative is not complete without it.

    ``options`` are the words to choose from, empty for free text or a number in `unit`.
    ``sentence`` says the answer, in the place of ``{value}``. ``needs`` is another slot and the
    answer to it without which this one is not asked.
    """

    key: str
    question: str
    sentence: str
    options: tuple[str, ...] = ()
    unit: str = ""
    needs: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What one payer says about a few procedures."""

    key: str
    label: str
    codes: tuple[str, ...]
    preauth: Preauth
    service_type: str
    has_placement: bool
    criteria: tuple[str, ...]
    evidence: tuple[EvidenceRule, ...]
    frequency: tuple[Frequency, ...]
    slots: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class RulePack:
    """The rules of some payers for some time."""

    name: str
    payer_ids: tuple[str, ...]
    valid_from: date
    valid_to: date | None
    checked_by: str
    sources: tuple[str, ...]
    rules: tuple[Rule, ...]

    def is_valid(self, on: date) -> bool:
        """Tell whether the pack is in force on a day."""
        return self.valid_from <= on and (self.valid_to is None or on <= self.valid_to)


@dataclass(frozen=True, slots=True)
class FoundRule:
    """A rule with the pack it stands in, and what to know about it."""

    rule: Rule
    pack: RulePack
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All packs, the office's own first, and the questions behind the slots."""

    packs: tuple[RulePack, ...]
    slots: Mapping[str, Slot]

    @property
    def asked_codes(self) -> frozenset[str]:
        """Every code that some payer wants to be asked about."""
        rules = (rule for pack in self.packs for rule in pack.rules if rule.preauth in ASKED)
        return frozenset(code for rule in rules for code in rule.codes)

    def find(self, payer_id: str, cdt_code: str, on: date) -> FoundRule | None:
        """Find the rule of a payer for a procedure on a day; None where no pack knows it.

        The payer's own pack counts before the general one, an outdated one before none.
        """
        for wanted in (payer_id, ANY_PAYER):
            mine = [pack for pack in self.packs if wanted in pack.payer_ids]
            current = [p for p in mine if p.is_valid(on)]
            past = sorted(
                (p for p in mine if p not in current and p.valid_from <= on),
                key=lambda p: p.valid_from,
                reverse=True,
            )
            for pack in (*current, *past):
                for rule in pack.rules:
                    if cdt_code in rule.codes:
                        return FoundRule(rule, pack, _warnings(pack, wanted, on))
        return None


def load_rules(folder: Path | None = None) -> RuleBook:
    """Read the shipped packs and those of the office's folder.

    Raises ConfigError naming the file, the rule and what is wrong with it.
    """
    own = sorted(folder.glob("*.toml")) if folder else []
    if folder and not folder.is_dir():
        raise ConfigError(f"there is no folder of rule packs at {folder}")
    shipped = sorted(SHIPPED.glob("*.toml"))
    slots: dict[str, Slot] = {}
    packs: list[RulePack] = []
    for file in (*own, *shipped):
        raw = _read(file)
        if file.stem == "slots":
            slots = {**_slots(file, raw), **slots}
        else:
            packs.append(_pack(file, raw))
    known = RuleBook(tuple(packs), slots)
    for pack in packs:
        for rule in pack.rules:
            for name in rule.slots:
                if name not in slots:
                    raise ConfigError(f"{pack.name}, rule {rule.key}: no slot is called {name}")
    return known


def _warnings(pack: RulePack, wanted: str, on: date) -> tuple[str, ...]:
    found = []
    if wanted == ANY_PAYER:
        found.append("no rule pack for this payer: the general one was used")
    if not pack.is_valid(on):
        found.append(f"the rule pack {pack.name} is out of date")
    if not pack.checked_by:
        found.append(f"the rule pack {pack.name} has been checked by nobody in this office")
    return tuple(found)


def _read(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def _slots(file: Path, raw: Mapping[str, object]) -> dict[str, Slot]:
    found = {}
    for key, row in raw.items():
        if key == "version":
            continue
        try:
            values = cast("Mapping[str, object]", row)
            options = tuple(str(o) for o in cast("Sequence[str]", values.get("options", [])))
            needs = cast("Sequence[str]", values.get("needs", []))
            found[key] = Slot(
                key,
                str(values["question"]),
                str(values["sentence"]),
                options,
                str(values.get("unit", "")),
                (str(needs[0]), str(needs[1])) if needs else None,
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file}, {key}: {error}") from None
        if "{value}" not in found[key].sentence:
            raise ConfigError(f"{file}, {key}: the sentence has no {{value}}")
    return found


def _pack(file: Path, raw: Mapping[str, object]) -> RulePack:
    _refuse_unknown(f"{file}", raw, _PACK_KEYS)
    rows = raw.get("rule", [])
    valid_from, valid_to = raw.get("valid_from"), raw.get("valid_to")
    if raw.get("version") != 1 or not isinstance(rows, list) or not isinstance(valid_from, date):
        raise ConfigError(f"{file}: a rule pack has version = 1, valid_from and [[rule]] entries")
    if valid_to is not None and not isinstance(valid_to, date):
        raise ConfigError(f"{file}: valid_to is a day")
    sources = _texts(raw.get("sources", []))
    if not sources:
        raise ConfigError(f"{file}: a rule pack names its sources")
    rules = tuple(_rule(f"{file}, rule {n}", row) for n, row in enumerate(rows, start=1))
    codes = [code for rule in rules for code in rule.codes]
    doubled = next((code for code in codes if codes.count(code) > 1), "")
    if doubled:
        raise ConfigError(f"{file}: {doubled} stands in two rules")
    return RulePack(
        name=str(raw.get("name", file.stem)),
        payer_ids=_texts(raw.get("payer_ids", [])),
        valid_from=valid_from,
        valid_to=valid_to,
        checked_by=str(raw.get("checked_by", "")),
        sources=sources,
        rules=rules,
    )


def _rule(where: str, row: object) -> Rule:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is not a table")
    _refuse_unknown(where, row, _RULE_KEYS)
    try:
        rule = Rule(
            key=str(row["key"]),
            label=str(row["label"]),
            codes=_texts(row["codes"]),
            preauth=Preauth(str(row.get("preauth", "unknown"))),
            service_type=str(row.get("service_type", "35")),
            has_placement=bool(row.get("placement", False)),
            criteria=_texts(row.get("criteria", [])),
            evidence=tuple(_evidence(where, each) for each in row.get("evidence", [])),
            frequency=tuple(_frequency(where, each) for each in row.get("frequency", [])),
            slots=_texts(row.get("slots", [])),
            note=str(row.get("note", "")),
        )
    except KeyError as error:
        raise ConfigError(f"{where}: the key {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if not rule.codes or any(not re.fullmatch(r"D\d{4}", code) for code in rule.codes):
        raise ConfigError(f"{where}: a procedure code is D and four digits")
    return rule


def _evidence(where: str, row: object) -> EvidenceRule:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: an evidence entry is a table")
    known = {"kinds", "max_age_days", "optional", "min_depth_mm", "min_teeth"}
    _refuse_unknown(where, row, known)
    kinds = tuple(EvidenceKind(str(kind)) for kind in row["kinds"])
    return EvidenceRule(
        kinds,
        int(row.get("max_age_days", 0)),
        bool(row.get("optional", False)),
        int(row.get("min_depth_mm", 0)),
        int(row.get("min_teeth", 0)),
    )


def _frequency(where: str, row: object) -> Frequency:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: a frequency is a table")
    _refuse_unknown(where, row, {"count", "months", "per"})
    per = str(row["per"])
    if per not in ("tooth", "quadrant", "arch", "person"):
        raise ValueError("a frequency is per tooth, quadrant, arch or person")
    return Frequency(
        int(row["count"]),
        int(row["months"]),
        cast("Literal['tooth', 'quadrant', 'arch', 'person']", per),
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError("a rule pack's lists are lists")
    return tuple(str(each) for each in cast("Iterable[object]", value))


def _refuse_unknown(where: str, row: Mapping[str, object], known: set[str]) -> None:
    unknown = sorted(set(row) - known)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]}")
