"""A prescription to a dental laboratory: every field a laboratory asks for, as one frozen value.

A draft may lack anything; what is needed for which restoration say the rules (`validation`). Teeth
are ISO 3950 inside and in JSON; slips show Universal numbers too. Coded texts ("chamfer") are those
listed in ``rules/restorations.toml``; materials are keys of ``rules/materials.toml``.

The JSON form is ``lab_rx.v1.schema.json`` beside this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import cast

from node.domain.plain_json import decode, encode
from node.domain.teeth import Arch, Tooth
from node.errors import InvalidInput

#: Version of the JSON form; raised when a field changes its meaning or goes.
SCHEMA_VERSION = 1

#: What may stand before a signature; a laboratory never gets an unsigned prescription.
UNSIGNED = "Draft. Not a prescription until a licensed dentist has signed it."


class Restoration(StrEnum):
    """What is to be made; the value is stored and sent."""

    CROWN = "crown"
    BRIDGE = "bridge"
    VENEER = "veneer"
    INLAY_ONLAY = "inlay_onlay"
    IMPLANT_CROWN = "implant_crown"
    FULL_DENTURE = "full_denture"
    PARTIAL_DENTURE = "partial_denture"
    NIGHT_GUARD = "night_guard"


class Part(StrEnum):
    """What one tooth is in the work."""

    SINGLE = "single"
    RETAINER = "retainer"
    PONTIC = "pontic"
    SITE = "site"  # of an implant
    REPLACED = "replaced"  # by a denture


class FileKind(StrEnum):
    """What an attached file shows."""

    SCAN = "scan"
    OPPOSING_SCAN = "opposing_scan"
    BITE_SCAN = "bite_scan"
    SCAN_BODY = "scan_body"
    PHOTO = "photo"
    RADIOGRAPH = "radiograph"
    OTHER = "other"


class Source(StrEnum):
    """Who or what filled a field."""

    PROCEDURE = "procedure"
    HISTORY = "history"
    SIGNED_FINDING = "signed_finding"
    APPOINTMENT = "appointment"
    SETTINGS = "settings"
    SUGGESTION = "suggestion"
    CLINICIAN = "clinician"


@dataclass(frozen=True, slots=True)
class Office:
    """The ordering practice."""

    name: str = ""
    address: str = ""
    telephone: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Prescriber:
    """The dentist in charge; the licence is the one that stands on the slip."""

    provider_key: str = ""
    name: str = ""
    licence_number: str = ""
    licence_state: str = ""


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Who makes it: our configured name of the laboratory and its own."""

    key: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Wearer:
    """The patient: a number, and the name where the practice sends names."""

    number: str = ""
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Unit:
    """One tooth of the work; ``surfaces`` as letters in claim order, for inlays and onlays."""

    tooth: Tooth
    part: Part = Part.SINGLE
    surfaces: str = ""
    work: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[MODBLIFV]{0,5}", self.surfaces):
            raise InvalidInput("surfaces are the letters M O D B L I F V")


@dataclass(frozen=True, slots=True)
class Shade:
    """Colour; ``guide`` is vita_classical, vita_3d_master or bleach."""

    guide: str = ""
    value: str = ""
    stump: str = ""
    gingiva: str = ""
    is_prep_dark: bool = False


@dataclass(frozen=True, slots=True)
class Margin:
    """Preparation margin; ``depth_mm`` below the gingiva, negative above it."""

    design: str = ""
    level: str = ""
    depth_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Occlusion:
    """Contact with the other jaw; ``clearance_um`` is the relief wanted, 0 or more."""

    scheme: str = ""
    contact: str = ""
    clearance_um: float | None = None
    guidance: str = ""
    opening_mm: float | None = None
    vertical_dimension_mm: float | None = None
    centric_relation: str = ""


@dataclass(frozen=True, slots=True)
class Proximal:
    """Contact with the neighbours."""

    contact: str = ""
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Pontic:
    """How a pontic meets the ridge."""

    design: str = ""
    tissue_pressure: str = ""


@dataclass(frozen=True, slots=True)
class Joining:
    """How units hang together."""

    connector: str = ""
    is_cantilever: bool = False
    is_splinted: bool = False


@dataclass(frozen=True, slots=True)
class Implant:
    """Implant data. Nothing here is ever filled by an image finding: a guess costs a remake."""

    maker: str = ""
    line: str = ""
    platform: str = ""
    platform_mm: float | None = None
    connection: str = ""
    scan_body: str = ""
    scan_body_library: str = ""
    retention: str = ""  # screw | cement
    is_access_checked: bool = False
    is_channel_angled: bool = False
    torque_ncm: float | None = None
    tissue_height_mm: float | None = None
    emergence_depth_mm: float | None = None
    parts_supplied_by: str = ""
    is_abutment_approval_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Denture:
    """Full denture, or the teeth and base of a partial one."""

    base: str = ""
    tooth_mould: str = ""
    midline: str = ""
    smile_line: str = ""
    post_dam: str = ""
    attachments: str = ""
    has_implants: bool = False


@dataclass(frozen=True, slots=True)
class Clasp:
    """One clasp on one tooth."""

    tooth: Tooth
    design: str = ""


@dataclass(frozen=True, slots=True)
class Framework:
    """Frame of a partial denture."""

    kennedy_class: str = ""
    major_connector: str = ""
    clasps: tuple[Clasp, ...] = ()
    rests: tuple[Tooth, ...] = ()
    path_of_insertion: str = ""


@dataclass(frozen=True, slots=True)
class Records:
    """What was recorded in the mouth and how it comes: scan, pvs, model … or empty."""

    impression: str = ""
    opposing: str = ""
    bite: str = ""
    wax_up: str = ""
    cast: str = ""
    rims: str = ""


@dataclass(frozen=True, slots=True)
class Remake:
    """Which case is made again, and why."""

    original_case: str
    reason: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class FileRef:
    """One attached file as it lies in the package."""

    name: str
    kind: FileKind
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.size_bytes <= 0:
            raise InvalidInput("an attached file has a size and a SHA-256 digest")


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Where a field's value comes from; ``detail`` names the record, never a person."""

    field: str
    source: Source
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """The licensed dentist's signature; its statement is what was shown when signing."""

    name: str
    licence_number: str
    licence_state: str
    signed_at: datetime
    statement: str
    user_id: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.licence_number.strip():
            raise InvalidInput("a prescription is signed with name and licence number")
        if self.signed_at.tzinfo is None:
            raise InvalidInput("a signature has a time with a zone")


@dataclass(frozen=True, slots=True)
class LabRx:
    """A prescription, draft or signed.

    ``case_number`` is ours and opaque. ``due_at`` is when the work must be here; ``seat_at`` when
    the patient comes for it. Lengths mm, relief µm, torque N·cm.
    """

    case_number: str
    written_on: date
    restoration: Restoration
    schema_version: int = SCHEMA_VERSION
    office: Office = Office()
    dentist: Prescriber = Prescriber()
    lab: Laboratory = Laboratory()
    patient: Wearer = Wearer()
    procedure_codes: tuple[str, ...] = ()
    stage: str = ""
    units: tuple[Unit, ...] = ()
    arch: Arch | None = None
    material: str = ""
    abutment_material: str = ""
    alloy: str = ""
    thickness_mm: float | None = None
    shade: Shade = Shade()
    margin: Margin = Margin()
    occlusion: Occlusion = Occlusion()
    proximal: Proximal = Proximal()
    pontic: Pontic = Pontic()
    joining: Joining = Joining()
    implant: Implant | None = None
    denture: Denture | None = None
    framework: Framework | None = None
    records: Records = Records()
    allergies: tuple[str, ...] = ()
    parafunction: str = ""
    due_at: datetime | None = None
    seat_at: datetime | None = None
    seat_appointment_key: str = ""
    shipping: str = ""
    infection_control: str = ""
    instructions: str = ""
    observations: tuple[str, ...] = ()
    remake: Remake | None = None
    attachments: tuple[FileRef, ...] = ()
    sources: tuple[FieldSource, ...] = ()
    signature: Signature | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{3,39}", self.case_number):
            raise InvalidInput("a case number has 4 to 40 letters, digits and hyphens")
        if self.schema_version != SCHEMA_VERSION:
            raise InvalidInput(f"prescriptions of version {self.schema_version} cannot be read")
        for moment in (self.due_at, self.seat_at):
            if moment is not None and moment.tzinfo is None:
                raise InvalidInput("due and seat times have a zone")
        if any(not math.isfinite(number) for number in _numbers(self)):
            raise InvalidInput("a measure in a prescription is not a number")
        teeth = [unit.tooth for unit in self.units]
        if len(set(teeth)) != len(teeth):
            raise InvalidInput("a tooth stands twice among the units")

    @property
    def teeth(self) -> tuple[Tooth, ...]:
        """The teeth of all units."""
        return tuple(unit.tooth for unit in self.units)

    def teeth_of(self, part: Part) -> tuple[Tooth, ...]:
        """The teeth of the units that are this part of the work."""
        return tuple(unit.tooth for unit in self.units if unit.part is part)

    def source_of(self, field_name: str) -> FieldSource | None:
        """Who filled a field; None for one that nobody filled."""
        return next((each for each in self.sources if each.field == field_name), None)

    def signed(self, signature: Signature) -> LabRx:
        """Give the signed prescription, the licence of its signer on it."""
        return replace(
            self,
            signature=signature,
            dentist=replace(
                self.dentist,
                name=signature.name,
                licence_number=signature.licence_number,
                licence_state=signature.licence_state,
            ),
        )


def rx_to_json(rx: LabRx) -> dict[str, object]:
    """Encode a prescription."""
    return cast("dict[str, object]", encode(rx))


def rx_from_json(data: object) -> LabRx:
    """Decode a prescription.

    Raises InvalidInput when it is none, or has a field that no prescription has: what a person
    typed is never dropped.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput("not a prescription")
    rx = decode(LabRx, data)
    unknown = next(_unknown(data, encode(rx), ""), None)
    if unknown is not None:
        raise InvalidInput(f"a prescription has no field {unknown[:80]!r}")
    return rx


def _unknown(data: object, known: object, path: str) -> Iterator[str]:
    if isinstance(data, Mapping) and isinstance(known, Mapping):
        for key, value in data.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from _unknown(value, known[key], f"{path}{key}.")
    elif isinstance(data, list) and isinstance(known, list):
        for value, twin in zip(data, known, strict=True):
            yield from _unknown(value, twin, path)


def _numbers(value: object) -> Iterator[float]:
    """Every measure of a value and of those inside it."""
    if isinstance(value, float):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _numbers(getattr(value, each.name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _numbers(item)
