"""Wrapping a film as DICOM.

A synthetic film becomes a Digital Intra-Oral X-Ray image (PS3.3 A.27), whose Imager Pixel Spacing
is known exactly. The real and the AI-generated films came without a spacing, which that object and
the panoramic's Digital X-Ray object both demand: inventing one would invent millimetres. They
become Computed Radiography images (PS3.3 A.2), which need none, as much imaging software sends
them; Modality says IO or PX all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import cast

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from node.dicom.codes import tooth_code
from node.domain.findings import View
from node.domain.teeth import Arch, Tooth
from sample_studies.catalog import SampleImage, SampleStudy

_NAMESPACE = uuid.UUID("0c9a7b6e-0b64-5df2-9d0b-1f4be31c3a52")
_REGIONS = {  # CID 4016
    "both": ("661005", "Jaw region"),
    Arch.UPPER: ("70925003", "Maxilla"),
    Arch.LOWER: ("91609006", "Mandible"),
}


def wrap(
    study: SampleStudy,
    image: SampleImage,
    number: int,
    *,
    accession: str,
    study_instance_uid: str | None,
    study_date: date,
) -> Dataset:
    """Make the DICOM image number `number` (from 1) of a sample study."""
    truth = image.truth()
    samples = _samples(image)
    study_uid = study_instance_uid or _uid(study.key, accession, study_date.isoformat())
    ds = Dataset()
    _identify(ds, study, number, study_uid, accession, study_date)
    _describe(ds, study)
    _set_pixels(ds, samples, int(str(truth.get("bits_stored", samples.dtype.itemsize * 8))))
    _set_compression(ds, study, image)
    if truth:
        _as_intraoral(ds, image, truth)
    else:
        _as_computed_radiography(ds, image)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _uid(*parts: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


def _samples(image: SampleImage) -> np.ndarray:
    with Image.open(image.path) as picture:
        grey = picture if picture.mode in ("L", "I;16", "I") else picture.convert("L")
        array = np.asarray(grey)
    return array if array.dtype == np.uint8 else array.astype(np.uint16)


def _identify(
    ds: Dataset,
    study: SampleStudy,
    number: int,
    study_uid: str,
    accession: str,
    study_date: date,
) -> None:
    patient = study.patient
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPInstanceUID = _uid(study_uid, study.key, str(number))
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = _uid(study_uid, study.key, "series")
    ds.PatientName = f"{patient.family}^{patient.given}"
    ds.PatientID = patient.id
    ds.PatientBirthDate = patient.birth_date.strftime("%Y%m%d")
    ds.PatientSex = patient.sex
    day = study_date.strftime("%Y%m%d")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    clock = f"1200{number:02d}"
    ds.StudyTime, ds.SeriesTime = "120000", "120000"
    ds.AcquisitionTime = ds.ContentTime = clock
    ds.AccessionNumber = accession
    ds.StudyID = "1"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = study.description


def _describe(ds: Dataset, study: SampleStudy) -> None:
    ds.Modality = study.modality
    ds.Manufacturer = "Bitewing sample studies"
    ds.ManufacturerModelName = study.source
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.BurnedInAnnotation = "YES" if study.source == "ai-generated" else "NO"
    ds.ImageComments = {
        "synthetic": "Synthetic film, no patient",
        "real": "Film of an unknown person under an open licence, under an invented name",
        "ai-generated": "Made by an image model and stamped so, no patient",
    }[study.source]


def _set_pixels(ds: Dataset, samples: np.ndarray, bits_stored: int) -> None:
    ds.Rows, ds.Columns = samples.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = samples.dtype.itemsize * 8
    ds.BitsStored = bits_stored
    ds.HighBit = bits_stored - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter = 2 ** (bits_stored - 1)
    ds.WindowWidth = 2**bits_stored
    data = samples.astype("<u2" if ds.BitsAllocated == 16 else "u1").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)


def _set_compression(ds: Dataset, study: SampleStudy, image: SampleImage) -> None:
    # PS3.3 C.7.6.1.1.5: once compressed with loss, always marked so. What the authors of the other
    # films did before they published them is not known: nothing is said.
    if image.path.suffix == ".jpg":
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = round(len(ds.PixelData) / image.path.stat().st_size, 1)
        ds.LossyImageCompressionMethod = "ISO_10918_1"
    elif study.source == "synthetic":
        ds.LossyImageCompression = "00"


def _as_intraoral(ds: Dataset, image: SampleImage, truth: Mapping[str, object]) -> None:
    teeth = _teeth(truth)
    ds.SOPClassUID = DigitalIntraOralXRayImageStorageForPresentation
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]  # PS3.3 C.8.11.7: the third value is empty
    ds.PositionerType = "NONE"
    ds.ImageLaterality = str(truth["side"])
    ds.PatientOrientation = _orientation(teeth)
    spacing = cast("Sequence[float]", truth["spacing_mm"])
    ds.ImagerPixelSpacing = [round(float(value), 5) for value in spacing]
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.DetectorType = "SCINTILLATOR"
    ds.AcquisitionContextSequence = []
    arches = {tooth.arch for tooth in teeth}
    region = _REGIONS["both"] if image.view is View.BITEWING else _REGIONS[min(arches, key=str)]
    ds.AnatomicRegionSequence = [_code(*region)]
    ds.PrimaryAnatomicStructureSequence = [_tooth(tooth) for tooth in teeth]


def _as_computed_radiography(ds: Dataset, image: SampleImage) -> None:
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BodyPartExamined = "JAW"
    ds.ViewPosition = ""
    if image.view is View.PANORAMIC:
        ds.PatientOrientation = ["L", "F"]
    else:  # empty where neither a marker nor a tooth list says which side this is
        ds.PatientOrientation = _orientation(image.teeth)
    if image.teeth:
        ds.AnatomicRegionSequence = [_code(*_REGIONS[image.teeth[0].arch])]
        ds.PrimaryAnatomicStructureSequence = [_tooth(tooth) for tooth in image.teeth]


def _orientation(teeth: Sequence[Tooth]) -> list[str]:
    """Say where the rows and columns of a mounted film run; empty when no tooth is named."""
    # PS3.3 C.7.6.1.1.1: direction of the rows, then of the columns
    if not teeth:
        return []
    sides = {tooth.is_patient_right for tooth in teeth}
    if len(sides) == 2 or not any(tooth.is_posterior for tooth in teeth):
        return ["L", "F"]
    return ["A", "F"] if sides == {True} else ["P", "F"]


def _teeth(truth: Mapping[str, object]) -> list[Tooth]:
    rows = cast("Sequence[Mapping[str, object]]", truth["teeth"])
    return sorted({Tooth(str(row["tooth"])) for row in rows})


def _tooth(tooth: Tooth) -> Dataset:
    code = tooth_code(tooth)
    return _code(code.value, code.meaning)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item
