"""One scheduled procedure step: what may be asked about it, and its answer's data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from node.dicom.answers import Field, Reader, Value, answered, compose
from node.dicom.query import STEP_SEQUENCE, Query

PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
ACCESSION = 0x00080050
STUDY_UID = 0x0020000D
MODALITY = 0x00080060
STATION = 0x00400001
START_DATE = 0x00400002
START_TIME = 0x00400003
STEP_ID = 0x00400009
PROCEDURE_ID = 0x00401001


@dataclass(frozen=True, slots=True)
class Entry:
    """One scheduled procedure step with everything a modality may ask about it."""

    patient_name: str
    patient_id: str
    issuer_of_patient_id: str
    birth_date: str
    sex: str
    accession_number: str
    study_instance_uid: str
    requested_procedure_id: str
    step_id: str
    description: str
    cdt_code: str
    modality: str
    station_ae_title: str
    start_date: str
    start_time: str
    provider_name: str
    operatory_name: str
    is_started: bool = False


def _nothing(entry: Entry) -> Value:
    return ""


def _no_items(entry: Entry) -> Value:
    return ()


def _procedure_code(entry: Entry) -> Value:
    """The PMS's procedure code under a local scheme: CDT as such needs a licence."""
    if not entry.cdt_code:
        return ()
    return ({0x00080100: entry.cdt_code, 0x00080102: "99PMS", 0x00080104: entry.description[:64]},)


#: PS3.4 Table K.6-1, inside the Scheduled Procedure Step Sequence.
STEP_READERS: dict[int, Reader[Entry]] = {
    MODALITY: lambda e: e.modality,
    0x00321070: _nothing,  # Requested Contrast Agent
    STATION: lambda e: e.station_ae_title,
    START_DATE: lambda e: e.start_date,
    START_TIME: lambda e: e.start_time,
    0x00400006: lambda e: e.provider_name,
    0x00400007: lambda e: e.description,
    0x00400008: _procedure_code,
    STEP_ID: lambda e: e.step_id,
    0x00400010: lambda e: e.operatory_name[:16],  # Scheduled Station Name, SH
    0x00400011: lambda e: e.operatory_name[:16],  # Scheduled Procedure Step Location, SH
    0x00400012: _nothing,  # Pre-Medication
    0x00400020: lambda e: "STARTED" if e.is_started else "SCHEDULED",
    0x00400400: _nothing,  # Comments
}
#: PS3.4 Table K.6-1, at the root. Empty ones are known and have no value here.
_ROOT: dict[int, Reader[Entry]] = {
    ACCESSION: lambda e: e.accession_number,
    0x00080090: _nothing,  # Referring Physician's Name
    0x00081110: _no_items,  # Referenced Study Sequence
    0x00081120: _no_items,  # Referenced Patient Sequence
    PATIENT_NAME: lambda e: e.patient_name,
    PATIENT_ID: lambda e: e.patient_id,
    0x00100021: lambda e: e.issuer_of_patient_id,
    0x00100030: lambda e: e.birth_date,
    0x00100040: lambda e: e.sex,
    0x00101000: _nothing,  # Other Patient IDs (retired)
    0x00101002: _no_items,  # Other Patient IDs Sequence
    0x00101030: _nothing,  # Patient's Weight
    0x00102000: _nothing,  # Medical Alerts
    0x00102110: _nothing,  # Allergies
    0x001021C0: _nothing,  # Pregnancy Status: not asked, so never "not pregnant"
    0x00104000: _nothing,  # Patient Comments
    STUDY_UID: lambda e: e.study_instance_uid,
    0x00321032: lambda e: e.provider_name,  # Requesting Physician
    0x00321033: _nothing,  # Requesting Service
    0x00321060: lambda e: e.description,
    0x00321064: _procedure_code,
    0x00380010: _nothing,  # Admission ID
    0x00380050: _nothing,  # Special Needs
    0x00380300: _nothing,  # Current Patient Location
    0x00380500: _nothing,  # Patient State
    PROCEDURE_ID: lambda e: e.requested_procedure_id,
    0x00401003: lambda e: "ROUTINE",
    0x00401004: _nothing,  # Patient Transport Arrangements
    0x00403001: _nothing,  # Confidentiality Constraint
}
#: Some modalities send step attributes at the root; they are matched and answered there too.
ROOT_READERS = {**STEP_READERS, **_ROOT}


def answer(
    query: Query,
    entry: Entry,
    is_implicit: bool = True,
    is_little: bool = True,
    charsets: Sequence[str] = (),
) -> Dataset:
    """Compose the answer: the keys asked for and no others, unknown ones empty.

    `charsets` are what this peer can read, whatever it asked for.
    """
    fields = [_field(tag, query, entry) for tag in query.keys.tags]
    return compose(fields, query.charsets, is_implicit, is_little, charsets)


def is_fully_supported(query: Query) -> bool:
    """Whether every key asked for is one we know (else answers carry FF01)."""
    return all(tag in ROOT_READERS or tag == STEP_SEQUENCE for tag in query.keys.tags) and all(
        tag in STEP_READERS for tag in query.step.tags
    )


def _field(tag: int, query: Query, entry: Entry) -> Field:
    if tag != STEP_SEQUENCE:
        return answered(tag, query.keys, ROOT_READERS, entry)
    step = query.step
    wanted = step.tags or tuple(STEP_READERS)  # no item, or an empty one, asks for all of it
    inside = tuple(answered(inner, step, STEP_READERS, entry) for inner in wanted)
    return Field(tag, "SQ", items=(inside,))
