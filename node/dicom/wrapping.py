"""Files that are not DICOM, put into objects that are: pictures, intraoral scans.

Where it came from is said in the object: the SHA-256 of the file, that it was imported, by what. A
JPEG stream is kept byte for byte; other pictures keep every sample. Without a sidecar the patient
stays empty, and a person must say whose it is.
"""

from __future__ import annotations

import hashlib
import io
from datetime import datetime

import numpy as np
from PIL import Image as Raster
from PIL import UnidentifiedImageError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from node import __version__
from node.dicom.derived import derived_uid
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.sidecar import Sidecar
from node.errors import InvalidInput

ENCAPSULATED_STL = "1.2.840.10008.5.1.4.1.1.104.3"
RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"
#: Where a PLY scan stands in a Raw Data object: no DICOM class takes one.
PLY_CREATOR = "BITEWING SCAN"
_MAX_SAMPLES = 100_000_000
_MAX_SIDE = 65_535  # Rows and Columns are US
_BASELINE = 0xC0


def wrap_picture(data: bytes, told: Sidecar, at: datetime) -> Dataset:
    """Make a Secondary Capture of a JPEG, PNG or TIFF picture.

    Raises InvalidInput when it cannot be read or is too large.
    """
    try:
        with Raster.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > _MAX_SAMPLES or max(opened.size) > _MAX_SIDE:
                raise InvalidInput("the picture is too large")
            is_jpeg, mode = opened.format == "JPEG", opened.mode
            opened.load()
            samples = _samples(opened)
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Raster.DecompressionBombError,
    ):
        raise InvalidInput("the picture is damaged or of a kind that is not read") from None
    ds = _object(data, SecondaryCaptureImageStorage, told.modality or "OT", told, at)
    ds.ConversionType = "DI"
    ds.Rows, ds.Columns = samples.shape[:2]
    ds.SamplesPerPixel = 3 if samples.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if samples.ndim == 3 else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = samples.dtype.itemsize * 8
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    if samples.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.LossyImageCompression = "01" if is_jpeg else "00"
    if is_jpeg:
        ds.LossyImageCompressionMethod = "ISO_10918_1"
        ds.LossyImageCompressionRatio = f"{samples.nbytes / len(data):.2f}"
    if is_jpeg and mode in ("L", "RGB") and _frame_marker(data) == _BASELINE:
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        if samples.ndim == 3:
            ds.PhotometricInterpretation = "YBR_FULL_422"
        ds.PixelData = encapsulate([data])
        ds["PixelData"].is_undefined_length = True
    else:
        ds.PixelData = samples.tobytes() + b"\0" * (samples.nbytes % 2)
    return ds


def wrap_scan(data: bytes, suffix: str, told: Sidecar, at: datetime) -> Dataset:
    """Make an object of an intraoral scan: Encapsulated STL, or Raw Data that holds a PLY.

    Raises InvalidInput when it is neither.
    """
    if suffix == ".stl" and _is_stl(data):
        ds = _object(data, ENCAPSULATED_STL, "M3D", told, at)
        ds.BurnedInAnnotation = "NO"
        ds.AcquisitionDateTime = ""
        ds.DocumentTitle = "Intraoral scan"
        ds.ConceptNameCodeSequence = []
        ds.MIMETypeOfEncapsulatedDocument = "model/stl"
        unit = Dataset()
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mm", "UCUM", "mm"
        ds.MeasurementUnitsCodeSequence = [unit]
        ds.EncapsulatedDocumentLength = len(data)
        ds.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
        return ds
    if suffix == ".ply" and data[:4] in (b"ply\n", b"ply\r") and b"end_header" in data[:65_536]:
        ds = _object(data, RAW_DATA, "OT", told, at)
        ds.CreatorVersionUID = derived_uid("creator", __version__)
        block = ds.private_block(0x0099, PLY_CREATOR, create=True)
        block.add_new(0x01, "LO", "model/ply")
        block.add_new(0x02, "UL", len(data))
        block.add_new(0x03, "OB", data + b"\0" * (len(data) % 2))
        return ds
    raise InvalidInput("the scan is no STL or PLY file, or is cut off")


def scan_of(path: ObjectFile) -> bytes:
    """Take the scan out of an object that :func:`wrap_scan` made.

    Raises InvalidInput when there is none in it.
    """
    ds = read_dataset(path)
    if ds.get("SOPClassUID") == ENCAPSULATED_STL:
        return bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    try:
        block = ds.private_block(0x0099, PLY_CREATOR)
        return bytes(block[0x03].value[: int(block[0x02].value)])
    except KeyError:
        raise InvalidInput("the object holds no scan") from None


def _samples(picture: Raster.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]]:
    if picture.mode in ("I;16", "I;16L", "I;16B", "I"):
        wide = np.asarray(picture).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65_535:
            raise InvalidInput("the picture has samples of more than 16 bits")
        return wide.astype("<u2")
    if picture.mode in ("1", "L", "LA", "P") and _is_grey(picture):
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.convert("RGB"))


def _is_grey(picture: Raster.Image) -> bool:
    if picture.mode != "P":
        return True
    rgb = np.asarray(picture.convert("RGB"))
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())


def _frame_marker(data: bytes) -> int:
    """Return the kind of a JPEG stream, the second byte of its start-of-frame marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _is_stl(data: bytes) -> bool:
    if len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little"):
        return True
    return (
        data.lstrip()[:5] == b"solid" and b"facet" in data[:65_536] and b"endsolid" in data[-256:]
    )


def _object(data: bytes, sop_class: str, modality: str, told: Sidecar, at: datetime) -> Dataset:
    digest = hashlib.sha256(data).hexdigest()
    person = (told.patient_id, told.patient_name, told.birth_date)
    day = told.taken or f"{at:%Y%m%d}"
    # without a patient each file is a study of its own: two people never share one
    whose = (*person, day) if any(person) else (digest,)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = UID(sop_class)
    ds.SOPInstanceUID = derived_uid("import", digest)
    ds.StudyInstanceUID = derived_uid("import study", *whose)
    ds.SeriesInstanceUID = derived_uid("import series", *whose, sop_class, modality)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientName, ds.PatientID = told.patient_name, told.patient_id
    ds.PatientBirthDate, ds.PatientSex = told.birth_date, told.sex
    ds.StudyDate, ds.StudyTime, ds.StudyID = day, "", ""
    ds.AccessionNumber, ds.ReferringPhysicianName = told.accession_number, ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, 1, 1
    ds.ContentDate, ds.ContentTime = f"{at:%Y%m%d}", f"{at:%H%M%S}"
    ds.Manufacturer, ds.ManufacturerModelName = "Bitewing", "Bitewing import"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "", __version__
    ds.DerivationDescription = f"Imported from a file; SHA-256 {digest}"
    if told.tooth:
        ds.ImageComments = f"Tooth {told.tooth}"
    return ds
