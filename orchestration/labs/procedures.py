"""Procedures of the chart that are work for a laboratory, and how they group into cases."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from node.domain.teeth import Arch, Tooth
from node.errors import InvalidInput
from orchestration.labs.prescription import Part, Restoration
from orchestration.labs.rulebook import RULES, read_table
from pms_writeback.records import PmsRecord

#: States of a procedure as the PMS writes them.
PLANNED, COMPLETED, DELETED = "TP", "C", "D"


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """What one procedure code says for certain."""

    restoration: Restoration
    part: Part
    material: str = ""
    arch: Arch | None = None


@dataclass(frozen=True, slots=True)
class ChartProcedure:
    """One procedure row of the chart; the tooth is None where it names none, or no known one."""

    key: str
    cdt_code: str
    status: str
    tooth: Tooth | None
    surfaces: str
    tooth_range: tuple[Tooth, ...]
    provider_key: str
    appointment_key: str
    day: date | None
    planned_on: date | None


_PARTS = {
    Restoration.IMPLANT_CROWN: Part.SITE,
    Restoration.PARTIAL_DENTURE: Part.REPLACED,
    Restoration.FULL_DENTURE: Part.REPLACED,
}


def load_codes() -> dict[str, CodeMeaning]:
    """Read the shipped table of codes; raises ConfigError."""
    return read_table(RULES / "procedures.toml", _codes)


def _codes(raw: Mapping[str, object]) -> dict[str, CodeMeaning]:
    rows = raw["code"]
    if not isinstance(rows, list):
        raise TypeError("code is a list")
    found: dict[str, CodeMeaning] = {}
    for row in rows:
        restoration = Restoration(row["restoration"])
        part = Part(row["part"]) if "part" in row else _PARTS.get(restoration, Part.SINGLE)
        arch = Arch(row["arch"]) if "arch" in row else None
        meaning = CodeMeaning(restoration, part, str(row.get("material", "")), arch)
        for code in row["codes"]:
            if not re.fullmatch(r"D\d{4}", code) or code in found:
                raise ValueError(f"{code} is no code or stands twice")
            found[code] = meaning
    return found


def read_procedure(record: PmsRecord) -> ChartProcedure:
    """Read a procedure record."""
    values = record.values
    return ChartProcedure(
        key=record.key,
        cdt_code=str(values.get("cdt_code") or ""),
        status=str(values.get("status") or ""),
        tooth=_tooth(str(values.get("tooth") or "")),
        surfaces=re.sub(r"[^MODBLIFV]", "", str(values.get("surfaces") or "").upper())[:5],
        tooth_range=tuple(
            tooth
            for text in str(values.get("tooth_range") or "").split(",")
            if (tooth := _tooth(text)) is not None
        ),
        provider_key=str(values.get("provider_key") or ""),
        appointment_key=str(values.get("appointment_key") or ""),
        day=_day(values.get("day")),
        planned_on=_day(values.get("planned_on")),
    )


def case_number(location_id: str, patient_key: str, group_name: str) -> str:
    """Name the case of a group of procedures: the same for ever, and it tells nothing."""
    text = f"{location_id} {patient_key} {group_name}"
    return f"LC-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def group_of(procedure: ChartProcedure, codes: Mapping[str, CodeMeaning]) -> str:
    """Name what a procedure belongs to: itself, or the bridge of its jaw and day of planning."""
    meaning = codes[procedure.cdt_code]
    if meaning.restoration is not Restoration.BRIDGE or procedure.tooth is None:
        return f"procedure {procedure.key}"
    planned = procedure.planned_on or procedure.day
    return f"bridge {procedure.tooth.arch.value} {planned}"


def group(
    procedures: Iterable[ChartProcedure], codes: Mapping[str, CodeMeaning]
) -> list[tuple[ChartProcedure, ...]]:
    """Group procedures that the laboratory makes as one piece, in the order of their keys."""
    groups: dict[str, list[ChartProcedure]] = {}
    for each in sorted(procedures, key=lambda p: (len(p.key), p.key)):
        if each.cdt_code in codes:
            groups.setdefault(group_of(each, codes), []).append(each)
    return [tuple(found) for found in groups.values()]


def _tooth(text: str) -> Tooth | None:
    try:
        return Tooth.from_universal(text) if text.strip() else None
    except InvalidInput:
        return None


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10]) if value else None
    except ValueError:
        return None
