"""The part that every object we derive from received images has in common.

Patient and study are copied from the source image (a copy: the stored original stays untouched),
decoded with the source's own character set and written in UTF-8. What the source lacks stays
empty; what is not valid for its attribute is left empty, never corrected. UIDs and times come
from what is reported, not from a clock or a random source, so that composing twice makes the same
object.
"""

from __future__ import annotations

import io
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import cast

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from node.dicom import charset
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.uid import is_uid
from node.errors import InvalidInput

MANUFACTURER = "Bitewing"
MODEL_NAME = "Bitewing node"

_NAMESPACE = uuid.UUID("5f0f6c1e-2f5b-5f7c-9a55-7c1d0b1e4a21")

# Type 2 of the Patient, General Study and General Equipment modules: present, maybe empty.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_IF_PRESENT = ("IssuerOfPatientID", "StudyDescription")
_SENSOR = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class Composer:
    """The node that composes results, as the objects name it.

    ``device_uid`` never changes for one node. ``fallback_charset`` is the DICOM defined term
    assumed where an image declares no character set and its text is not UTF-8.
    """

    device_uid: str
    practice_name: str
    software_version: str
    time_zone: tzinfo = UTC
    fallback_charset: str = "ISO_IR 100"

    def __post_init__(self) -> None:
        if not UID(self.device_uid).is_valid:
            raise InvalidInput("the device UID of this node is not a valid UID")

    @property
    def organization(self) -> str:
        """The practice's name as LO can hold it (64 characters)."""
        clean = re.sub(r"[\x00-\x1f\x7f\\]+", " ", self.practice_name)
        return clean.strip()[:64] or "Dental practice"


@dataclass(frozen=True, slots=True)
class SourceImage:
    """What results need to know of one received image; text is decoded, pixels are not touched."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    rows: int
    columns: int
    text: dict[str, str] = field(repr=False)
    time_zone: timezone | None = None
    is_calibrated: bool = False  # Pixel Spacing holds in the patient (PS3.3 10.7.1.3)

    @property
    def patient(self) -> tuple[str, str]:
        """Issuer and patient ID: what makes two images one patient's."""
        return self.text.get("IssuerOfPatientID", ""), self.text["PatientID"]


def derived_uid(*parts: str) -> str:
    """Make the one UID of `parts`: ``2.25.`` and a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(parts)).int}"


def read_source(ds: Dataset, fallback_charset: str = "ISO_IR 100") -> SourceImage:
    """Read the header of a received image.

    Raises
    ------
    InvalidInput
        A UID of the image is missing or malformed, it has no rows and columns, or its patient ID
        cannot be copied as it is.
    """
    uids = {keyword: str(ds.get(keyword, "")) for keyword in _UIDS}
    for keyword, value in uids.items():
        if not is_uid(value):
            raise InvalidInput(f"the source image has no valid {keyword}")
    rows, columns = ds.get("Rows"), ds.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int) or rows < 1 or columns < 1:
        raise InvalidInput("the source object has no rows and columns: it is not an image")
    text = {keyword: _text(ds, keyword, fallback_charset) for keyword in _TYPE_2}
    for keyword in (*_IF_PRESENT, *_SENSOR):
        if value := _text(ds, keyword, fallback_charset):
            text[keyword] = value
    return SourceImage(
        uids["StudyInstanceUID"],
        uids["SeriesInstanceUID"],
        uids["SOPClassUID"],
        uids["SOPInstanceUID"],
        rows,
        columns,
        text,
        _offset(str(ds.get("TimezoneOffsetFromUTC", "") or "")),
        str(ds.get("PixelSpacingCalibrationType", "")) in ("GEOMETRY", "FIDUCIAL"),
    )


def new_object(
    source: SourceImage,
    composer: Composer,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    series_instance_uid: str,
    series_number: int,
    instance_number: int,
    modality: str,
    series_description: str,
    at: datetime,
) -> Dataset:
    """Make an object in the study of `source`; `at` becomes its creation and content time."""
    ds = Dataset()
    ds.file_meta = _file_meta(sop_class_uid, sop_instance_uid)
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TYPE_2:
        setattr(ds, keyword, source.text[keyword])
    for keyword in _IF_PRESENT:
        if keyword in source.text:
            setattr(ds, keyword, source.text[keyword])
    ds.StudyInstanceUID = source.study_instance_uid
    ds.SeriesInstanceUID = series_instance_uid
    ds.SeriesNumber = series_number
    ds.SeriesDescription = series_description
    ds.Modality = modality
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = sop_instance_uid
    ds.InstanceNumber = instance_number
    # PS3.3 C.12.1: content that is not certainly a product's is RESEARCH.
    ds.ContentQualification = "RESEARCH"
    _set_equipment(ds, source, composer)
    _set_times(ds, at, source.time_zone or composer.time_zone)
    return ds


def encode(ds: Dataset) -> bytes:
    """Return `ds` as a DICOM file; the same object gives the same bytes."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def code_item(code: Code) -> Dataset:
    """Return `code` as an item of a code sequence; values over 16 characters go in the long form.

    Source: PS3.3 8.1.
    """
    item = Dataset()
    setattr(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return a reference to one object."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def local_time(at: datetime, zone: tzinfo) -> datetime:
    """Return the aware time `at` in whole seconds of `zone`."""
    if at.tzinfo is None:
        raise InvalidInput("a result needs a time with its time zone")
    return at.astimezone(zone).replace(microsecond=0)


def person_name(text: str) -> str:
    """Write a person's display name as a DICOM PN.

    ``Dr. Anna Lin, DDS`` becomes ``Lin^Anna^^Dr.^DDS``, ``Lin`` alone becomes ``Lin^``; text
    that has carets already is kept.
    """
    clean = re.sub(r"[\x00-\x1f\\=]+", " ", text).strip()
    if "^" in clean:
        return clean[:64]
    name, _, suffix = clean.partition(",")
    words = name.split()
    prefix = []
    while len(words) > 1 and words[0].endswith("."):
        prefix.append(words.pop(0))
    family = words.pop() if words else "Unknown"
    parts = [family, " ".join(words), "", " ".join(prefix), suffix.strip()]
    while len(parts) > 2 and not parts[-1]:
        parts.pop()
    return "^".join(parts)[:64]


def _file_meta(sop_class_uid: str, sop_instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _set_equipment(ds: Dataset, source: SourceImage, composer: Composer) -> None:
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.DeviceSerialNumber = composer.device_uid
    ds.SoftwareVersions = composer.software_version
    ds.InstitutionName = composer.organization
    if "Manufacturer" not in source.text:
        return
    sensor = Dataset()
    sensor.PurposeOfReferenceCodeSequence = [
        code_item(Code("109101", "DCM", "Acquisition Equipment"))
    ]
    for keyword in _SENSOR:
        if keyword in source.text:
            setattr(sensor, keyword, source.text[keyword].split("\\"))
    ds.ContributingEquipmentSequence = [sensor]


def _set_times(ds: Dataset, at: datetime, zone: tzinfo) -> None:
    local = local_time(at, zone)
    ds.TimezoneOffsetFromUTC = local.strftime("%z")
    for date, time in (
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("SeriesDate", "SeriesTime"),
        ("ContentDate", "ContentTime"),
    ):
        setattr(ds, date, local.strftime("%Y%m%d"))
        setattr(ds, time, local.strftime("%H%M%S"))


def _offset(text: str) -> timezone | None:
    match = re.fullmatch(r"([+-])(\d{2})([0-5]\d)", text.strip())
    if match is None or int(match[2]) > 14:
        return None
    distance = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-distance if match[1] == "-" else distance)


def _text(ds: Dataset, keyword: str, fallback_charset: str) -> str:
    text = _decoded(ds, keyword, fallback_charset)
    text = re.sub(r"[\x00-\x1f\x7f]", "", text).strip()
    if dictionary_VR(keyword) == "DA":
        text = re.sub(r"[-.]", "", text)  # ISO dashes and ACR-NEMA dots are seen
    if text and not _is_valid(keyword, text):
        if keyword == "PatientID":
            raise InvalidInput("the patient ID of the source image is not a valid one")
        return ""
    return text


def _decoded(ds: Dataset, keyword: str, fallback_charset: str) -> str:
    element = cast("RawDataElement | DataElement | None", ds.get_item(keyword))
    if element is None or element.value is None:
        return ""
    declared = ds.get("SpecificCharacterSet") or ""
    terms = [declared] if isinstance(declared, str) else list(declared)
    if isinstance(element, RawDataElement):
        known = charset.parse_terms("\\".join(terms).encode("ascii", "ignore"))
        return charset.decode(element.value, known, fallback_charset)
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    text = "\\".join(str(value) for value in values)
    if text.isascii() or any(charset.is_known(term) for term in terms):
        return text
    try:  # pydicom reads undeclared bytes as Latin-1, which loses none of them
        return charset.decode(text.encode("iso8859-1"), (), fallback_charset)
    except UnicodeEncodeError:
        return text


def _is_valid(keyword: str, text: str) -> bool:
    vr = dictionary_VR(keyword)
    if keyword == "PatientSex":
        return text in ("M", "F", "O")
    if vr == "DA":
        return _is_date(text)
    if vr == "TM":
        return re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", text) is not None
    try:
        for part in text.split("\\") if keyword in _SENSOR else [text]:
            validate_value(vr, part, config.RAISE)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    if re.fullmatch(r"\d{8}", text) is None:
        return False
    try:
        datetime.strptime(text + "+0000", "%Y%m%d%z")
    except ValueError:
        return False
    return True
