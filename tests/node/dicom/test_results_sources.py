"""Annotated copies of films as they really arrive: compressed, inverted, 12 bit."""

from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.dicom.derived import Composer, derived_uid, encode
from node.dicom.greyscale import render8
from node.dicom.pixels import decode
from node.dicom.results import compose_annotated
from node.domain.findings import Box, DecisionState, Finding, FindingKind
from node.domain.review import DecisionCounts, SignedFinding, SignedReview

STUDY = "1.2.826.0.1.3680043.10.8.1"
COMPOSER = Composer(derived_uid("device", "sources"), "Practice", "0.1.0")
ROWS, COLUMNS = 200, 300
CARIES = Finding(FindingKind.CARIES, Box(20, 60, 60, 90))


def film(path, syntax, photometric="MONOCHROME2", bits=12):
    """A film whose left half is stored as 0 and whose right half is the largest value."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = (
        syntax if syntax == ImplicitVRLittleEndian else ExplicitVRLittleEndian
    )
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.3"
    ds.SOPInstanceUID = f"{STUDY}.1.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    ds.Modality = "IO"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = 8 if bits == 8 else 16
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits
    pixels = np.zeros((ROWS, COLUMNS), dtype=np.uint8 if bits == 8 else np.uint16)
    pixels[:, COLUMNS // 2 :] = 2**bits - 1
    ds.PixelData = pixels.tobytes()
    if syntax.is_encapsulated:
        ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


def annotated(path) -> Dataset:
    signed = SignedFinding(
        "f1", "i1", f"{STUDY}.1.1", "ai", DecisionState.ACCEPTED, CARIES, None
    )  # fmt: skip
    review = SignedReview(
        "s1", STUDY, 1, "u1", "Anna Lin", "dentist", datetime(2026, 3, 4, tzinfo=UTC), "read", "",
        "0.1.0", (("i1", f"{STUDY}.1.1"),), (signed,), (), DecisionCounts(1, 1, 0, 0, 0),
    )  # fmt: skip
    header = dcmread(path, stop_before_pixels=True)
    made = compose_annotated(header, render8(decode(path)), review, composer=COMPOSER)
    return dcmread(BytesIO(encode(made)))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name,
)
def test_the_copy_looks_as_the_film_is_shown(syntax, photometric, bits, tmp_path):
    path = tmp_path / "film.dcm"
    film(path, syntax, photometric, bits)
    ds = annotated(path)
    shown = ds.pixel_array
    dark, bright = (-1, 0) if photometric == "MONOCHROME1" else (0, -1)
    assert shown[ROWS - 1, :COLUMNS][dark].max() < 10
    assert shown[ROWS - 1, :COLUMNS][bright].min() > 245
    assert (shown[55:95, 15:65] == (0xF2, 0x8E, 0x00)).all(axis=-1).any()
    assert ds.LossyImageCompression == "00"
