"""Procedure codes worth considering, from a table that the practice may edit.

Only ever proposals: shown unselected, with reason and evidence, never posted. The shipped table is
``cdt_suggestions.toml`` beside this file. What a table cannot change stands here: caries seen on
panoramics alone is no ground for a code, D4346 and D4341/D4342 exclude each other in one quadrant,
four bitewings with ten or more periapicals of one day are a full-mouth series, and a retake is not
billable. CDT numbers belong to the American Dental Association; labels are our own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from node.domain.findings import CariesDepth, FindingKind, View
from node.domain.reading import CodeSuggestion, Group, StudyFacts, StudyFinding
from node.domain.severity import LOSS_MM, LOSS_PERCENT
from node.domain.teeth import Tooth
from node.errors import ConfigError

SHIPPED = Path(__file__).with_name("cdt_suggestions.toml")
_CODE = re.compile(r"D\d{4}")
_KEYS = {"reason", "finding", "depth", "teeth", "surfaces", "views", "with", "without", "scope",
         "count", "codes", "evidence"}  # fmt: skip
_TEETH = ("anterior", "premolar", "molar", "posterior", "third_molar")
_QUADRANTS = {1: "upper right", 2: "upper left", 3: "lower left", 4: "lower right"}
_LOSS_CODES = frozenset({"D4341", "D4342"})
_NO_LOSS_CODE = "D4346"
#: From so many periapicals beside four bitewings on one day, D0210 is the fitting code.
_SERIES_PERIAPICALS = 10
PANORAMIC_CARIES = "Caries seen on a panoramic alone is no ground for a procedure code."
RETAKES = "A retake is not billable."


@dataclass(frozen=True, slots=True)
class CodeRule:
    """One row of the table: which groups it fits, and the (code, label) pairs it proposes."""

    reason: str
    kinds: frozenset[FindingKind]
    codes: tuple[tuple[str, str], ...]
    depths: frozenset[CariesDepth] = frozenset()
    teeth: str = ""
    surfaces: tuple[int, int] | None = None
    views: frozenset[View] = frozenset()
    needs: frozenset[FindingKind] = frozenset()
    excludes: frozenset[FindingKind] = frozenset()
    is_by_quadrant: bool = False
    count: tuple[int, int] = (1, 16)
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeTable:
    """The rules in the order of the file."""

    rules: tuple[CodeRule, ...] = ()


def load(path: Path | None = None) -> CodeTable:
    """Read a table, the shipped one without `path`.

    Raises ConfigError naming the rule that is wrong.
    """
    file = path or SHIPPED
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the code table {file} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    rows = raw.get("rule", [])
    if raw.get("version") != 1 or not isinstance(rows, list):
        raise ConfigError(f"{file}: a code table has version = 1 and [[rule]] entries")
    return CodeTable(tuple(_rule(file, number, row) for number, row in enumerate(rows, start=1)))


def suggest(
    table: CodeTable,
    groups: Sequence[Group],
    findings: Sequence[StudyFinding],
    facts: StudyFacts,
) -> tuple[tuple[CodeSuggestion, ...], tuple[str, ...]]:
    """Propose codes for groups of findings, and say in words what the fixed rules add."""
    notes: list[str] = []
    grounds = []
    for group in groups:
        if group.kind.is_caries and _views(group, findings, facts) == {View.PANORAMIC}:
            notes.append(PANORAMIC_CARIES)
        else:
            grounds.append(group)
    found: list[CodeSuggestion] = []
    for rule in table.rules:
        if rule.is_by_quadrant:
            found += _by_quadrant(rule, grounds)
        else:
            found += _by_tooth(rule, grounds, findings, facts)
    with_loss = {each.area for each in found if each.cdt_code in _LOSS_CODES}
    kept = [e for e in found if not (e.cdt_code == _NO_LOSS_CODE and e.area in with_loss)]
    kept += _imaging(facts)
    if facts.series is not None and facts.series.retakes:
        notes.append(RETAKES)
    return tuple(dict.fromkeys(kept)), tuple(dict.fromkeys(notes))


def _by_tooth(
    rule: CodeRule,
    groups: Sequence[Group],
    findings: Sequence[StudyFinding],
    facts: StudyFacts,
) -> Iterator[CodeSuggestion]:
    for tooth in dict.fromkeys(group.tooth for group in groups):
        of_tooth = [group for group in groups if group.tooth == tooth]
        kinds = {group.kind for group in of_tooth}
        fitting = [g for g in of_tooth if _fits(rule, g, findings, facts)]
        if not fitting or not rule.needs <= kinds or rule.excludes & kinds:
            continue
        surfaces = tuple(dict.fromkeys(s for group in fitting for s in group.surfaces))
        if rule.surfaces and not rule.surfaces[0] <= max(len(surfaces), 1) <= rule.surfaces[1]:
            continue
        lone = [g for g in fitting if not g.is_supported]
        evidence = (*rule.evidence, *(["seen on one image only: confirm first"] if lone else []))
        for code, label in rule.codes:
            yield CodeSuggestion(
                code, label, rule.reason, tooth, surfaces, "", tuple(evidence), _ids(fitting)
            )


def _by_quadrant(rule: CodeRule, groups: Sequence[Group]) -> Iterator[CodeSuggestion]:
    fitting = [g for g in groups if g.kind in rule.kinds and not _is_small(g)]
    for quadrant, name in _QUADRANTS.items():
        here = [group for group in fitting if group.tooth.quadrant == quadrant]
        teeth = {group.tooth for group in here}
        if not teeth or not rule.count[0] <= len(teeth) <= rule.count[1]:
            continue
        listed = ", ".join(f"#{tooth.universal}" for tooth in sorted(teeth))
        for code, label in rule.codes:
            yield CodeSuggestion(
                code,
                label,
                f"{rule.reason} ({listed})",
                area=name,
                evidence=rule.evidence,
                finding_ids=_ids(here),
            )


def _imaging(facts: StudyFacts) -> Iterator[CodeSuggestion]:
    retaken = {each.instance_id for each in facts.series.retakes} if facts.series else set()
    views = [image.view for image in facts.images if image.instance_id not in retaken]
    bitewings, periapicals = views.count(View.BITEWING), views.count(View.PERIAPICAL)
    if bitewings >= 4 and periapicals >= _SERIES_PERIAPICALS:
        reason = f"{bitewings} bitewings and {periapicals} periapicals of one day are a series"
        yield CodeSuggestion("D0210", "full-mouth series", reason)


def _fits(
    rule: CodeRule, group: Group, findings: Sequence[StudyFinding], facts: StudyFacts
) -> bool:
    if group.kind not in rule.kinds or not _is_such(rule.teeth, group.tooth):
        return False
    if rule.depths and group.depth not in rule.depths:
        return False
    return not rule.views or bool(rule.views & _views(group, findings, facts))


def _views(group: Group, findings: Sequence[StudyFinding], facts: StudyFacts) -> set[View | None]:
    images = {each.instance_id for each in findings if each.id in group.finding_ids}
    return {image.view for image in facts.images if image.instance_id in images}


def _is_such(teeth: str, tooth: Tooth) -> bool:
    match teeth:
        case "anterior":
            return not tooth.is_posterior
        case "posterior":
            return tooth.is_posterior
        case "premolar":
            return tooth.position in (4, 5) and not tooth.is_deciduous
        case "molar":
            return tooth.position >= 6
        case "third_molar":
            return tooth.position == 8
        case _:
            return True


def _is_small(group: Group) -> bool:
    """Whether a bone level lies below what counts as loss."""
    if group.kind is not FindingKind.BONE_LEVEL:
        return False
    if group.value_mm is not None:
        return group.value_mm < LOSS_MM
    return group.value_percent is not None and group.value_percent < LOSS_PERCENT


def _ids(groups: Sequence[Group]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(i for group in groups for i in group.finding_ids))


def _rule(file: Path, number: int, row: object) -> CodeRule:
    where = f"{file}, rule {number}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is not a table")
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]}")
    try:
        codes = tuple((str(code), str(label)) for code, label in row["codes"])
        rule = CodeRule(
            reason=str(row["reason"]),
            kinds=frozenset(FindingKind(name) for name in row["finding"]),
            codes=codes,
            depths=frozenset(CariesDepth(name) for name in row.get("depth", ())),
            teeth=str(row.get("teeth", "")),
            surfaces=_pair(row.get("surfaces")),
            views=frozenset(View(name) for name in row.get("views", ())),
            needs=frozenset(FindingKind(name) for name in row.get("with", ())),
            excludes=frozenset(FindingKind(name) for name in row.get("without", ())),
            is_by_quadrant=_scope(row.get("scope", "tooth")),
            count=_pair(row.get("count")) or (1, 16),
            evidence=tuple(str(text) for text in row.get("evidence", ())),
        )
    except KeyError as error:
        raise ConfigError(f"{where}: the key {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if rule.teeth and rule.teeth not in _TEETH:
        raise ConfigError(f"{where}: teeth is one of {', '.join(_TEETH)}")
    wrong = [code for code, _ in codes if not _CODE.fullmatch(code)]
    if wrong or not codes:
        raise ConfigError(f"{where}: a procedure code is D and four digits")
    return rule


def _pair(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    low, high = cast("Sequence[int]", value)
    if not (isinstance(low, int) and isinstance(high, int) and 0 < low <= high):
        raise ValueError("a range is [least, most]")
    return low, high


def _scope(value: object) -> bool:
    if value not in ("tooth", "quadrant"):
        raise ValueError("scope is tooth or quadrant")
    return value == "quadrant"
