"""What a data set says about itself, read leniently and without ever touching the pixels.

Values are taken as raw bytes: none is validated, warned about or logged. Reading is bounded:
groups beyond 0028 are not looked at, and endless tiny elements or a deflate bomb end as an
unreadable header, not as a stalled receiver.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from node.dicom import charset
from node.dicom.elements import begins_beyond, read_flat
from node.dicom.object_file import ObjectFile
from node.dicom.uid import is_uid
from node.domain.findings import NO_SPACING, Spacing
from node.errors import InvalidInput

#: As much of a data set as is looked at; pixels follow the header.
_MAX_HEADER_BYTES = 4 << 20
_META_BYTES = 65_536
_LAST_GROUP = 0x0028

_TAGS = {
    "specific_character_set": 0x00080005,
    "image_type": 0x00080008,
    "sop_class_uid": 0x00080016,
    "sop_instance_uid": 0x00080018,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "accession_number": 0x00080050,
    "modality": 0x00080060,
    "patient_name": 0x00100010,
    "patient_id": 0x00100020,
    "issuer_of_patient_id": 0x00100021,
    "birth_date": 0x00100030,
    "sex": 0x00100040,
    "estimated_magnification": 0x00181114,
    "imager_pixel_spacing": 0x00181164,
    "study_instance_uid": 0x0020000D,
    "series_instance_uid": 0x0020000E,
    "instance_number": 0x00200013,
    "samples_per_pixel": 0x00280002,
    "photometric_interpretation": 0x00280004,
    "number_of_frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "pixel_spacing": 0x00280030,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "pixel_representation": 0x00280103,
    "calibration_type": 0x00280A02,
}
_NAMES = {tag: name for name, tag in _TAGS.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """The attributes the node needs; text verbatim, "" or None where absent.

    ``problem`` is empty, or says why the data set could not be read (no patient data in it).
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    modality: str = ""
    image_type: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    patient_name: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    instance_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    samples_per_pixel: int = 1
    photometric_interpretation: str = ""
    bits_allocated: int | None = None
    bits_stored: int | None = None
    is_signed: bool = False
    spacing: Spacing = NO_SPACING
    problem: str = ""


def read_header(path: ObjectFile) -> Header:
    """Read the header of a stored file; text of no declared character set is read as Latin-1.

    Raises
    ------
    InvalidInput
        The file is not a DICOM file; what can be read of a damaged one is returned.
    """
    with path.open("rb") as file:
        syntax = read_transfer_syntax(file)
        return parse_header(file, syntax, "ISO_IR 100")


def read_transfer_syntax(file: BinaryIO) -> str:
    """Read preamble and file meta information; leave `file` at the start of the data set.

    Raises InvalidInput when they are not there.
    """
    # PS3.10 7.1: group 0002 is explicit little endian
    head = file.read(_META_BYTES)
    if head[128:132] != b"DICM":
        raise InvalidInput("not a DICOM file")
    syntax, end = "", 0
    for element, after in read_flat(head[132:], False, True, last_group=0x0002):
        end = after
        if element.tag == 0x00020010:
            syntax = element.value.decode("ascii", "replace").strip("\0 ")
    if not is_uid(syntax):
        raise InvalidInput("the file does not say its transfer syntax")
    file.seek(132 + end)
    return syntax


def parse_header(file: BinaryIO, transfer_syntax_uid: str, fallback_charset: str) -> Header:
    """Read a header from the start of a data set; whatever is wrong ends up in ``problem``."""
    data = memoryview(file.read(_MAX_HEADER_BYTES))
    return parse_data_set(data, transfer_syntax_uid, fallback_charset)


def parse_data_set(data: memoryview, transfer_syntax_uid: str, fallback_charset: str) -> Header:
    """Read the header of a data set in memory; whatever is wrong ends up in ``problem``."""
    return parse_start(data, transfer_syntax_uid, fallback_charset)[0]


def parse_start(
    data: memoryview, transfer_syntax_uid: str, fallback_charset: str
) -> tuple[Header, bool]:
    """Read the header of a data set whose start is in memory; say whether it ends in there."""
    data = data[:_MAX_HEADER_BYTES]
    try:
        if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
            data = memoryview(inflate(io.BytesIO(data), _MAX_HEADER_BYTES, is_whole=False))
        is_implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        is_little = transfer_syntax_uid != ExplicitVRBigEndian
        elements, beyond = _elements(data, is_implicit, is_little)
        if not _is_plausible(elements) and is_little:  # encoded otherwise than negotiated: seen
            other, _ = _elements(data, not is_implicit, is_little)
            elements, beyond = other if _is_plausible(other) else elements, False
    except InvalidInput as error:
        return Header(transfer_syntax_uid=transfer_syntax_uid, problem=str(error)), False
    if not elements:
        problem = "no data elements" if data.nbytes else "the data set is empty"
        return Header(transfer_syntax_uid=transfer_syntax_uid, problem=problem), False
    return _header(elements, transfer_syntax_uid, fallback_charset, is_little), beyond


def inflate(file: BinaryIO, limit_bytes: int, is_whole: bool = True) -> bytes:
    """Inflate a deflated data set up to `limit_bytes`.

    Raises InvalidInput when it is not deflate, or (`is_whole`) longer than the limit or cut off.
    """
    # PS3.5 A.5: raw deflate (RFC 1951), no zlib header
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    try:
        while len(out) <= limit_bytes and (chunk := inflater.unconsumed_tail or file.read(65_536)):
            out += inflater.decompress(chunk, limit_bytes + 1 - len(out))
    except zlib.error:
        if is_whole or not out:
            raise InvalidInput("the deflated data set is damaged") from None
    if is_whole and len(out) > limit_bytes:
        raise InvalidInput("the deflated data set is too large when inflated")
    if is_whole and not inflater.eof:
        raise InvalidInput("the deflated data set is cut off")
    return bytes(out)


def _elements(
    data: memoryview, is_implicit: bool, is_little: bool
) -> tuple[dict[int, bytes], bool]:
    """Read what the header needs; say whether an element beyond it follows."""
    found, end = dict[int, bytes](), 0
    for element, after in read_flat(data, is_implicit, is_little, _LAST_GROUP):
        end = after
        if element.tag in _NAMES:
            found[element.tag] = element.value
    return found, begins_beyond(data[end:], is_implicit, is_little, _LAST_GROUP)


def _is_plausible(elements: Mapping[int, bytes]) -> bool:
    return is_uid(_text(elements, _TAGS["sop_class_uid"])) or is_uid(
        _text(elements, _TAGS["study_instance_uid"])
    )


def _header(
    elements: Mapping[int, bytes], transfer_syntax_uid: str, fallback: str, is_little: bool
) -> Header:
    terms = charset.parse_terms(elements.get(_TAGS["specific_character_set"]))

    def text(name: str, limit: int) -> str:
        value = charset.decode(elements.get(_TAGS[name]), terms, fallback)
        return "".join(c for c in value if c.isprintable())[:limit]

    def word(name: str) -> int | None:
        raw = elements.get(_TAGS[name], b"")
        return int.from_bytes(raw[:2], "little" if is_little else "big") if len(raw) >= 2 else None

    def uid(name: str) -> str:
        value = _text(elements, _TAGS[name])
        return value if is_uid(value) else ""

    return Header(
        sop_class_uid=uid("sop_class_uid"),
        sop_instance_uid=uid("sop_instance_uid"),
        transfer_syntax_uid=transfer_syntax_uid,
        study_instance_uid=uid("study_instance_uid"),
        series_instance_uid=uid("series_instance_uid"),
        modality=text("modality", 16),
        image_type=text("image_type", 64),
        accession_number=text("accession_number", 64),
        study_date=_date(text("study_date", 10)),
        study_time=text("study_time", 16),
        patient_name=text("patient_name", 324),
        patient_id=text("patient_id", 64),
        issuer_of_patient_id=text("issuer_of_patient_id", 64),
        birth_date=_date(text("birth_date", 10)),
        sex=text("sex", 1).upper(),
        instance_number=_integer(_text(elements, _TAGS["instance_number"])),
        rows=word("rows"),
        columns=word("columns"),
        frames=_integer(_text(elements, _TAGS["number_of_frames"])) or 1,
        samples_per_pixel=word("samples_per_pixel") or 1,
        photometric_interpretation=text("photometric_interpretation", 16).upper(),
        bits_allocated=word("bits_allocated"),
        bits_stored=word("bits_stored"),
        is_signed=word("pixel_representation") == 1,
        spacing=_spacing(elements),
    )


def _spacing(elements: Mapping[int, bytes]) -> Spacing:
    """Apply the millimetre rule: what the numbers may be trusted for.

    PS3.3 10.7.1.3: Pixel Spacing of a projection image is at the patient only when Calibration
    Type is given; Imager Pixel Spacing is at the detector's face (PS3.3 C.8.11.3).
    """
    calibrated = _pair(_text(elements, _TAGS["pixel_spacing"]))
    if calibrated and _text(elements, _TAGS["calibration_type"]).upper() in (
        "GEOMETRY",
        "FIDUCIAL",
    ):
        return Spacing(*calibrated, "calibrated")
    imager = _pair(_text(elements, _TAGS["imager_pixel_spacing"]))
    if imager is None:
        return NO_SPACING
    factor = _decimal(_text(elements, _TAGS["estimated_magnification"])) or 1.0
    if not 1.0 <= factor <= 10.0:
        factor = 1.0
    return Spacing(imager[0] / factor, imager[1] / factor, "detector")


def _pair(text: str) -> tuple[float, float] | None:
    values = [_decimal(part) for part in text.split("\\")]
    if len(values) != 2 or values[0] is None or values[1] is None:
        return None
    row, col = values[0], values[1]
    return (row, col) if 0.001 <= row <= 10.0 and 0.001 <= col <= 10.0 else None


def _text(elements: Mapping[int, bytes], tag: int) -> str:
    return elements.get(tag, b"").decode("ascii", "replace").strip("\0 ")


def _date(text: str) -> str:
    digits = text.replace(".", "").replace("-", "").strip()  # ACR-NEMA dots, ISO dashes: seen
    return digits[:8] if len(digits) >= 8 and digits[:8].isdigit() else ""


def _integer(text: str) -> int | None:
    try:
        value = int(text.split("\\")[0])
    except ValueError:
        return None
    return value if -(2**31) <= value < 2**31 else None


def _decimal(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value < 1e9 else None
