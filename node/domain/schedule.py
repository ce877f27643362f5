"""From an appointment to what the worklist offers: Scheduled Procedure Steps, ids and counts.

Pure rules. One appointment gives one step per modality; they share the accession number, the
requested procedure and the Study Instance UID, which follow from the location and the PMS's key
of the appointment alone: moving the appointment or changing its procedures keeps them.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from node.errors import InvalidInput

_NAMESPACE = uuid.UUID("6f2f4a53-6f4e-5b0e-9a6c-1d7be8a4c0f2")
_DESCRIPTION_LENGTH = 64  # LO, PS3.5 table 6.2-1
AS_NEEDED = "Imaging as needed"


@dataclass(frozen=True, slots=True)
class ImagingCode:
    """What one imaging procedure code asks for.

    ``images`` is how many images complete it, None when the code fixes no number. ``label`` is
    our own short text.
    """

    modality: str
    images: int | None
    label: str


#: CDT numbers; the labels are ours. Intraoral IO, panoramic PX, cephalometric and other
#: extraoral projections DX, cone beam CT, photographs XC (PS3.3 C.7.3.1.1.1).
IMAGING_CODES: dict[str, ImagingCode] = {
    "D0210": ImagingCode("IO", 18, "Full-mouth series"),
    "D0220": ImagingCode("IO", 1, "Periapical"),
    "D0230": ImagingCode("IO", 1, "Further periapical"),
    "D0240": ImagingCode("IO", 1, "Occlusal image"),
    "D0250": ImagingCode("DX", 1, "Extraoral image"),
    "D0251": ImagingCode("DX", 1, "Extraoral posterior image"),
    "D0270": ImagingCode("IO", 1, "1 bitewing"),
    "D0272": ImagingCode("IO", 2, "2 bitewings"),
    "D0273": ImagingCode("IO", 3, "3 bitewings"),
    "D0274": ImagingCode("IO", 4, "4 bitewings"),
    "D0277": ImagingCode("IO", 7, "7-8 vertical bitewings"),
    "D0330": ImagingCode("PX", 1, "Panoramic"),
    "D0340": ImagingCode("DX", 1, "Cephalometric"),
    "D0350": ImagingCode("XC", None, "Photographs"),
    "D0364": ImagingCode("CT", None, "Cone beam, less than one jaw"),
    "D0365": ImagingCode("CT", None, "Cone beam, lower jaw"),
    "D0366": ImagingCode("CT", None, "Cone beam, upper jaw"),
    "D0367": ImagingCode("CT", None, "Cone beam, both jaws"),
    "D0368": ImagingCode("CT", None, "Cone beam, joints"),
    "D0701": ImagingCode("PX", 1, "Panoramic, capture only"),
    "D0702": ImagingCode("DX", 1, "Cephalometric, capture only"),
    "D0703": ImagingCode("XC", None, "Photographs, capture only"),
    "D0705": ImagingCode("DX", 1, "Extraoral posterior, capture only"),
    "D0706": ImagingCode("IO", 1, "Occlusal, capture only"),
    "D0707": ImagingCode("IO", 1, "Periapical, capture only"),
    "D0708": ImagingCode("IO", 1, "Bitewing, capture only"),
    "D0709": ImagingCode("IO", 18, "Full-mouth series, capture only"),
}


@dataclass(frozen=True, slots=True)
class Station:
    """A device in an operatory, named there by the operatory's PMS key, name or abbreviation."""

    operatory: str
    ae_title: str
    modality: str


@dataclass(frozen=True, slots=True)
class Visit:
    """What the worklist needs to know of one appointment.

    ``operatory`` holds every name of the room; ``cdt_codes`` the open or done procedures attached
    to the appointment, repeated as often as they are charted.
    """

    location_id: str
    appointment_key: str
    start_at: datetime
    operatory: tuple[str, ...]
    cdt_codes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.start_at.tzinfo is None:
            raise InvalidInput("an appointment without a time zone cannot be scheduled")
        if not self.appointment_key:
            raise InvalidInput("an appointment needs a key")


@dataclass(frozen=True, slots=True)
class Step:
    """One Scheduled Procedure Step; every text obeys the length of its DICOM attribute."""

    modality: str
    station_ae_title: str
    start_date: str
    start_time: str
    scheduled_procedure_step_id: str
    requested_procedure_id: str
    description: str
    cdt_code: str
    expected_images: int | None


def imaging_code(cdt_code: str) -> ImagingCode | None:
    """Look up a procedure code; None when it makes no image."""
    return IMAGING_CODES.get(cdt_code.strip().upper())


def accession_number(location_id: str, appointment_key: str) -> str:
    """Derive the accession number: 14 letters and digits, the same for ever (SH, 16 at most)."""
    return "BW" + _token(12, "accession", location_id, appointment_key)


def requested_procedure_id(location_id: str, appointment_key: str) -> str:
    """Derive the Requested Procedure ID of an appointment (SH, 16 at most)."""
    return "RP" + _token(12, "requested procedure", location_id, appointment_key)


def scheduled_procedure_step_id(location_id: str, appointment_key: str, modality: str) -> str:
    """Derive the Scheduled Procedure Step ID, one per appointment and modality (SH)."""
    return "SP" + _token(12, "step", location_id, appointment_key, modality)


def study_instance_uid(location_id: str, appointment_key: str) -> str:
    """Derive the Study Instance UID under ``2.25.`` (PS3.5 B.2) from a name-based UUID."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, _joined('study', location_id, appointment_key)).int}"


def local_date_time(moment: datetime, zone: tzinfo) -> tuple[str, str]:
    """Split an instant into the practice's day and wall-clock time (DA ``YYYYMMDD``, TM)."""
    local = moment.astimezone(zone)
    return f"{local:%Y%m%d}", f"{local:%H%M%S}"


def steps_of(
    visit: Visit, stations: Sequence[Station], default_station_ae_title: str, zone: tzinfo
) -> tuple[Step, ...]:
    """Plan the steps of one appointment, one per modality, in the order of its procedures.

    Without an imaging code there is one IO step: the chairside sensor may still be used.
    """
    day, time = local_date_time(visit.start_at, zone)
    ids = (visit.location_id, visit.appointment_key)
    return tuple(
        Step(
            modality=modality,
            station_ae_title=_station(visit, modality, stations, default_station_ae_title),
            start_date=day,
            start_time=time,
            scheduled_procedure_step_id=scheduled_procedure_step_id(*ids, modality),
            requested_procedure_id=requested_procedure_id(*ids),
            description=_describe(codes),
            cdt_code=codes[0] if codes else "",
            expected_images=expected_images(codes),
        )
        for modality, codes in _by_modality(visit.cdt_codes).items()
    )


def expected_images(cdt_codes: Iterable[str]) -> int | None:
    """Add up how many images these codes ask for; None when a code fixes no number."""
    counts = [code.images for code in map(imaging_code, cdt_codes) if code is not None]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _by_modality(cdt_codes: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for cdt_code in cdt_codes:
        code = imaging_code(cdt_code)
        if code is not None:
            grouped.setdefault(code.modality, []).append(cdt_code.strip().upper())
    return grouped or {"IO": []}


def _station(visit: Visit, modality: str, stations: Sequence[Station], default: str) -> str:
    """Take the room's own device of this modality, else the practice's only one, else default."""
    able = [station for station in stations if station.modality == modality]
    names = {name.strip().casefold() for name in visit.operatory if name.strip()}
    here = [station for station in able if station.operatory.strip().casefold() in names]
    if here:
        return here[0].ae_title
    titles = {station.ae_title for station in able}
    return titles.pop() if modality != "IO" and len(titles) == 1 else default


def _describe(cdt_codes: Sequence[str]) -> str:
    """Name the procedures once each; what does not fit is counted, not cut."""
    labels: list[str] = []
    for label in (IMAGING_CODES[cdt_code].label for cdt_code in cdt_codes):
        if label not in labels:
            labels.append(label)
    for shown in range(len(labels), 0, -1):
        rest = f" + {len(labels) - shown} more" if shown < len(labels) else ""
        text = ", ".join(labels[:shown]) + rest
        if len(text) <= _DESCRIPTION_LENGTH:
            return text
    return AS_NEEDED


def _token(length: int, *parts: str) -> str:
    """Digest to Base32 letters and digits 2-7; 12 of them hold 60 bits."""
    digest = hashlib.sha256(_joined(*parts).encode()).digest()
    return base64.b32encode(digest).decode()[:length]


def _joined(*parts: str) -> str:
    """Join unambiguously: lengths keep ("a", "bc") apart from ("ab", "c")."""
    return "".join(f"{len(part)}:{part}" for part in parts)
