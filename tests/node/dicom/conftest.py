"""Films for the DICOM tests: small, invented, written by pydicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.db import tables
from node.db.session import Actor, begin, new_id
from node.domain.study import name_key
from node.engine import DurableEngine

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)

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


class Practice:
    """A location's warehouse, filled by hand as the PMS sync would."""

    def __init__(self, db: sa.Engine, location_id: str = "main") -> None:
        self.db = db
        self.location_id = location_id
        self._count = 0

    def insert(self, table: sa.Table, **values: object) -> str:
        values.setdefault("location_id", self.location_id)
        with begin(self.db, Actor("test", self.location_id), "test") as tx:
            if "id" in table.c:
                values.setdefault("id", new_id())
            tx.conn.execute(table.insert().values(**values))
        return str(values.get("id", ""))

    def patient(
        self,
        family: str = "Doe",
        given: str = "Jane",
        born: date | None = date(1980, 1, 2),
        number: str = "17",
        **more: object,
    ) -> str:
        patient_id = self.insert(
            tables.patient, pms_key=number, synced_at=NOW, tombstoned_at=more.pop("gone", None)
        )
        self.insert(
            tables.patient_identity,
            patient_id=patient_id,
            family_name=family,
            given_name=given,
            birth_date=born,
            name_key=name_key(family, given),
            sex=more.pop("sex", "F"),
            **more,
        )
        return patient_id

    def appointment(self, patient_id: str, start: datetime | None = None, **more: object) -> str:
        self._count += 1
        number = f"{self.location_id[:4]}{self._count}"
        values: dict[str, object] = {
            "pms_key": number,
            "patient_id": patient_id,
            "start_at": start or NOW,
            "duration_min": 30,
            "status": "scheduled",
            "accession_number": f"A{number}",
            "study_instance_uid": f"2.25.{self._count}{len(self.location_id)}",
            "synced_at": NOW,
        }
        return self.insert(tables.appointment, **(values | more))

    def item(self, patient_id: str, appointment_id: str, **more: object) -> str:
        self._count += 1
        values: dict[str, object] = {
            "appointment_id": appointment_id,
            "patient_id": patient_id,
            "modality": "IO",
            "station_ae_title": "SENSOR",
            "start_date": "20261122",
            "start_time": "101500",
            "scheduled_procedure_step_id": f"S{self._count}",
            "requested_procedure_id": f"R{self._count}",
            "description": "Bitewings - four films",
            "cdt_code": "D0274",
        }
        return self.insert(tables.worklist_item, **(values | more))


@pytest.fixture
def practice(request: pytest.FixtureRequest) -> Practice:
    """Give the warehouse of the location "main"."""
    wants_both = "database" in request.fixturenames
    return Practice(request.getfixturevalue("database" if wants_both else "sqlite_database"))


@pytest.fixture
def other_practice(practice: Practice) -> Practice:
    """Give the warehouse of another location in the same database."""
    return Practice(practice.db, "north")
