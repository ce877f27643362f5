"""What bridge programs write beside an exported picture: INI and text files about the patient.

Seen: ``[Patient]`` sections, ``Key=Value`` and ``Key: Value`` lines, German and English names,
UTF-8 and Windows-1252. A value that cannot be read is left out; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

_MAX_BYTES = 65_536
SUFFIXES = (".ini", ".txt")

_KEYS = {
    "patient_id": "patientid patid patientno patientnumber patnum chartnumber chart id nr",
    "family_name": "lastname surname familyname nachname patientlastname patnachname",
    "given_name": "firstname givenname vorname patientfirstname patvorname",
    "name": "name patientname patname",
    "birth_date": "birthdate dob birthday dateofbirth geburtsdatum patientbirthdate gebdat",
    "sex": "sex gender geschlecht patientsex",
    "taken": "date imagedate acquisitiondate studydate datum aufnahmedatum exposuredate",
    "tooth": "tooth teeth zahn toothnumber object region",
    "modality": "modality imagetype type bildtyp",
    "accession_number": "accession accessionnumber orderid",
}
_BY_KEY = {key: name for name, keys in _KEYS.items() for key in keys.split()}
_DATES = ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y/%m/%d")
_MODALITIES = {
    "IO": "io intraoral periapical bitewing bw pa zahnfilm einzelbild",
    "PX": "px pan panoramic opg panorama pano",
    "DX": "dx ceph cephalometric fernroentgen",
    "XC": "xc photo foto camera",
}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What was said of a picture; empty where nothing was. Dates are YYYYMMDD."""

    patient_id: str = ""
    patient_name: str = ""  # PN
    birth_date: str = ""
    sex: str = ""
    taken: str = ""
    tooth: str = ""
    modality: str = ""
    accession_number: str = ""


def told_of(picture: Path) -> Sidecar:
    """Read what was said of a picture: by a file of its name, else by the folder's only one.

    A file that a folder shares may be left from the patient before: it gives a name and a birth
    date to suggest, never a number that would make it certain.
    """
    for suffix in SUFFIXES:
        for own in (picture.with_suffix(suffix), picture.with_name(picture.name + suffix)):
            if own.is_file():
                return read_sidecar(own)
    beside = [p for p in picture.parent.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    stems = {p.stem for p in picture.parent.iterdir() if p.suffix.lower() not in SUFFIXES}
    shared = [p for p in beside if p.stem not in stems]
    if len(shared) != 1:
        return Sidecar()
    return replace(read_sidecar(shared[0]), patient_id="", accession_number="")


def read_sidecar(path: Path) -> Sidecar:
    """Read one; what is not understood is left out."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"\s*([^=:;#\[]+?)\s*[=:]\s*(.*?)\s*$", line)
        if match is None:
            continue
        name = _BY_KEY.get(re.sub(r"[\W_]+", "", match[1].casefold()))
        value = "".join(c for c in match[2].strip("\"'") if c.isprintable())
        if name and value:
            found.setdefault(name, value[:64])
    return Sidecar(
        patient_id=found.get("patient_id", ""),
        patient_name=_name(found),
        birth_date=_date(found.get("birth_date", "")),
        sex=_sex(found.get("sex", "")),
        taken=_date(found.get("taken", "")),
        tooth=found.get("tooth", "")[:16],
        modality=_modality(found.get("modality", "")),
        accession_number=found.get("accession_number", "")[:16],
    )


def _name(found: dict[str, str]) -> str:
    family, given = found.get("family_name", ""), found.get("given_name", "")
    if not family and "name" in found:
        family, _, given = found["name"].partition("^" if "^" in found["name"] else ",")
    parts = [re.sub(r"[\\^=]+", " ", part).strip() for part in (family, given)]
    return "^".join(parts) if parts[0] else ""


def _date(text: str) -> str:
    for form in _DATES:
        try:
            return datetime.strptime(text.split(" ")[0], form).strftime("%Y%m%d")  # noqa: DTZ007 - a calendar day, no zone
        except ValueError:
            continue
    return ""


def _sex(text: str) -> str:
    first = text[:1].upper()
    return {"M": "M", "F": "F", "W": "F"}.get(first, "")


def _modality(text: str) -> str:
    word = re.sub(r"[\W_]+", "", text.casefold())
    return next((name for name, words in _MODALITIES.items() if word in words.split()), "")
