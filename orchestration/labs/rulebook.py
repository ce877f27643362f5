"""The rules of prescriptions, read from TOML: fields by restoration, materials, implants, packs.

Every file is dated and names its sources. A practice may point to its own laboratory packs and its
own implant library; the shipped ones lie in ``rules/``.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import TypeVar

from node.errors import ConfigError
from orchestration.labs.conditions import CONDITIONS
from orchestration.labs.prescription import Restoration

T = TypeVar("T")
RULES = Path(__file__).with_name("rules")
#: What a laboratory's pattern for package names may hold.
NAME_PARTS = frozenset({"case", "restoration", "teeth", "date", "office"})


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One field that is wanted; ``condition`` empty is always."""

    field: str
    condition: str = ""
    do: str = ""


@dataclass(frozen=True, slots=True)
class RestorationRules:
    """What one restoration wants."""

    label: str
    rules: tuple[FieldRule, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """One material; thicknesses in millimetres (front, back teeth)."""

    key: str
    label: str
    family: str
    fits: frozenset[Restoration] = frozenset()
    min_mm: tuple[float, float] = (0.0, 0.0)
    note_below_mm: float = 0.0
    allergens: tuple[str, ...] = ()
    longest_bridge: int = 0
    no_molar_pontic: bool = False
    front_crowns_only: bool = False
    only_stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Platform:
    """One implant platform of the library."""

    maker: str
    line: str
    platform: str
    connection: str
    diameters_mm: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Everything that holds for every laboratory."""

    dated: date
    every: tuple[FieldRule, ...]
    restorations: Mapping[Restoration, RestorationRules]
    choices: Mapping[str, tuple[str, ...]]
    words: Mapping[str, tuple[str, str]]
    materials: Mapping[str, Material]
    abutments: Mapping[str, Material]
    platforms: tuple[Platform, ...]

    def name_of(self, field_name: str) -> str:
        """How a person reads a field."""
        return self.words.get(field_name, (field_name, ""))[0]

    def advice(self, field_name: str) -> str:
        """What to do when a field is missing."""
        return self.words.get(field_name, ("", "Complete this field."))[1]

    def family(self, material: str) -> str:
        """The family of a material; empty for one that is not in the table."""
        known = self.materials.get(material)
        return known.family if known else ""

    def label(self, material: str) -> str:
        """How a person reads a material or an abutment."""
        known = self.materials.get(material) or self.abutments.get(material)
        return known.label if known else material


@dataclass(frozen=True, slots=True)
class LabPack:
    """What one laboratory wants beyond that."""

    key: str
    label: str
    dated: date
    sources: tuple[str, ...]
    package_name: str = "{case}"
    scan_formats: tuple[str, ...] = ("stl", "ply", "dcm")
    largest_file_mb: float = 200.0
    largest_package_mb: float = 500.0
    shade_guides: tuple[str, ...] = ()
    materials: tuple[str, ...] = ()
    holidays: frozenset[date] = frozenset()
    turnaround_days: Mapping[Restoration, int] = field(default_factory=dict)
    extra: tuple[tuple[Restoration, FieldRule], ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()


def load_rulebook(implants: Path | None = None) -> Rulebook:
    """Read the shipped rules, with the practice's implant library in addition if it has one.

    Raises ConfigError naming the file and the rule that is wrong.
    """
    book = _shipped()
    if implants is None:
        return book
    own = read_table(implants, _platforms)
    return Rulebook(
        **{name: getattr(book, name) for name in Rulebook.__slots__ if name != "platforms"},
        platforms=(*own, *book.platforms),
    )


def load_pack(key: str, path: Path | None = None) -> LabPack:
    """Read a laboratory's pack; without `path` the shipped one of that name, if there is one.

    A laboratory without any pack gets the general rules alone. Raises ConfigError.
    """
    shipped = RULES / "labs" / f"{key}.toml"
    file = path or shipped
    if path is None and not shipped.exists():
        return LabPack(key, key, _shipped().dated, ("no pack of its own",))
    return read_table(file, lambda raw: _pack(key, raw))


@cache
def _shipped() -> Rulebook:
    def fields_of(raw: Mapping[str, object]) -> Rulebook:
        materials = _read(RULES / "materials.toml")
        return Rulebook(
            dated=_date(raw["dated"]),
            every=_field_rules(raw["every"]),
            restorations={
                Restoration(name): RestorationRules(str(each["label"]), _field_rules(each))
                for name, each in _table(raw["restoration"]).items()
            },
            choices={name: _texts(each) for name, each in _mapping(raw["choices"]).items()},
            words={
                name: (_texts(each)[0], _texts(each)[1])
                for name, each in _mapping(raw["fields"]).items()
            },
            materials=_materials(_table(materials["material"])),
            abutments=_materials(_table(materials["abutment"])),
            platforms=read_table(RULES / "implants.toml", _platforms),
        )

    return read_table(RULES / "restorations.toml", fields_of)


def read_table(file: Path, make: Callable[[Mapping[str, object]], T]) -> T:
    """Read a dated rule file and make something of it; raises ConfigError naming the file."""
    try:
        return make(_read(file))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{file}: {type(error).__name__} at {str(error)[:120]}") from None


def _read(file: Path) -> dict[str, object]:
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the rules {file} ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    if raw.get("version") != 1 or not raw.get("sources") or not isinstance(raw.get("dated"), date):
        raise ConfigError(f"{file}: rules have version = 1, a date and their sources")
    return raw


def _field_rules(raw: object) -> tuple[FieldRule, ...]:
    table = _mapping(raw)
    always = [FieldRule(name) for name in _texts(table["required"])]
    return (*always, *(_when(each) for each in _list(table.get("when", []))))


def _when(raw: object) -> FieldRule:
    table = _mapping(raw)
    condition = str(table.get("condition", ""))
    if condition and condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}")
    return FieldRule(str(table["field"]), condition, str(table.get("do", "")))


def _materials(raw: Mapping[str, Mapping[str, object]]) -> dict[str, Material]:
    return {key: _material(key, each) for key, each in raw.items()}


def _material(key: str, raw: Mapping[str, object]) -> Material:
    front, back = _numbers(raw.get("min_mm", [0, 0]))
    return Material(
        key=key,
        label=str(raw["label"]),
        family=str(raw.get("family", "abutment")),
        fits=frozenset(Restoration(name) for name in _texts(raw.get("fits", []))),
        min_mm=(front, back),
        note_below_mm=_number(raw.get("note_below_mm", 0)),
        allergens=_texts(raw.get("allergens", [])),
        longest_bridge=int(_number(raw.get("longest_bridge", 0))),
        no_molar_pontic=bool(raw.get("no_molar_pontic", False)),
        front_crowns_only=bool(raw.get("front_crowns_only", False)),
        only_stages=_texts(raw.get("only_stages", [])),
    )


def _platforms(raw: Mapping[str, object]) -> tuple[Platform, ...]:
    return tuple(
        Platform(
            str(row["maker"]),
            str(row["line"]),
            str(row["platform"]),
            str(row["connection"]),
            tuple(_numbers(row["diameters_mm"])),
        )
        for row in map(_mapping, _list(raw["platform"]))
    )


def _pack(key: str, raw: Mapping[str, object]) -> LabPack:
    known = {"version", "dated", "sources", "label", "package_name", "scan_formats", "holidays",
             "largest_file_mb", "largest_package_mb", "shade_guides", "materials", "extra",
             "turnaround_days", "remark"}  # fmt: skip
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"unknown key {unknown[0]!r}")
    days = _mapping(raw.get("turnaround_days", {}))
    return LabPack(
        key=key,
        label=str(raw.get("label", key)),
        dated=_date(raw["dated"]),
        sources=_texts(raw["sources"]),
        package_name=_pattern(str(raw.get("package_name", "{case}"))),
        scan_formats=_texts(raw.get("scan_formats", ["stl", "ply", "dcm"])),
        largest_file_mb=_number(raw.get("largest_file_mb", 200)),
        largest_package_mb=_number(raw.get("largest_package_mb", 500)),
        shade_guides=_texts(raw.get("shade_guides", [])),
        materials=_known(_texts(raw.get("materials", []))),
        holidays=frozenset(_date(each) for each in _list(raw.get("holidays", []))),
        turnaround_days={Restoration(name): int(_number(n)) for name, n in days.items()},
        extra=tuple(_extra(each) for each in _list(raw.get("extra", []))),
        remarks=tuple(
            (str(each["material"]), str(each["text"]))
            for each in map(_mapping, _list(raw.get("remark", [])))
        ),
    )


def _known(materials: tuple[str, ...]) -> tuple[str, ...]:
    for each in materials:
        if each not in _shipped().materials:
            raise ValueError(f"unknown material {each!r}")
    return materials


def _extra(raw: object) -> tuple[Restoration, FieldRule]:
    return Restoration(str(_mapping(raw)["restoration"])), _when(raw)


def _pattern(text: str) -> str:
    names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    if "case" not in names or not names <= NAME_PARTS:
        raise ValueError(f"package_name holds {{case}} and may hold {sorted(NAME_PARTS)}")
    return text


def _mapping(raw: object) -> Mapping[str, object]:
    if not isinstance(raw, Mapping):
        raise TypeError("a table was expected")
    return raw


def _table(raw: object) -> Mapping[str, Mapping[str, object]]:
    return {name: _mapping(each) for name, each in _mapping(raw).items()}


def _list(raw: object) -> list[object]:
    if not isinstance(raw, list):
        raise TypeError("a list was expected")
    return raw


def _texts(raw: object) -> tuple[str, ...]:
    return tuple(str(each) for each in _list(raw))


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise TypeError("a number was expected")
    return float(raw)


def _numbers(raw: object) -> list[float]:
    return [_number(each) for each in _list(raw)]


def _date(raw: object) -> date:
    if not isinstance(raw, date):
        raise TypeError("a date was expected")
    return raw
