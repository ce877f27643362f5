"""Films for the DICOM tests: small, invented, written by pydicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.engine import DurableEngine

Film = Callable[..., Dataset]


def make_film(pixels: np.ndarray | None = None, **attributes: object) -> Dataset:
    """Make an intraoral data set with file meta; a keyword sets an attribute, None drops it."""
    if pixels is None:
        pixels = (np.arange(40 * 30, dtype=np.uint16).reshape(40, 30) * 3) % 4096
    pixels = np.asarray(pixels)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.3"
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.StudyDate, ds.StudyTime = "20261122", "101500"
    ds.AccessionNumber, ds.Modality = "", "IO"
    ds.PatientName, ds.PatientID = "Doe^Jane", "17"
    ds.PatientBirthDate, ds.PatientSex = "19800102", "F"
    ds.InstanceNumber = 1
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = 12 if ds.BitsAllocated == 16 else 8
    ds.PixelRepresentation = 1 if pixels.dtype.kind == "i" else 0
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in attributes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.HighBit = ds.BitsStored - 1
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@pytest.fixture
def film() -> Film:
    """Give the maker of films."""
    return make_film


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Dataset], Path]:
    """Give a function that writes a data set as a file."""

    def write(ds: Dataset, name: str = "film.dcm") -> Path:
        path = tmp_path / name
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def enqueuer(request: pytest.FixtureRequest) -> Iterator[DurableEngine]:
    """Enqueue into the test's database without running anything."""
    wants_both = "database" in request.fixturenames
    opened = request.getfixturevalue("database" if wants_both else "sqlite_database")
    url = opened.url.render_as_string(hide_password=False)
    engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
    engine.connect()
    yield engine
    engine.close(wait_s=0)
