"""A running DICOM listener for tests, and films to send to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.config import Config, read_config
from node.db.session import read
from node.dicom.instances import FolderStore
from node.dicom.scp import DicomListener
from node.engine import DurableEngine
from tests.node.dicom.conftest import Practice

IO = "1.2.840.10008.5.1.4.1.1.1.3"


def tool(name: str) -> str:
    """Find a DCMTK program; by full path, for the environment has programs of the same names."""
    path = Path("/usr/bin") / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"DCMTK's {name} is not installed")
        pytest.skip(f"DCMTK's {name} is not installed")
    return str(path)


def make_film(**attributes: object) -> Dataset:
    pixels = np.arange(200 * 100, dtype=np.uint16).reshape(200, 100) % 4096
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = IO, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.StudyDate, ds.Modality = "20261122", "IO"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Doe^Jane", "17", "19800102"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def write(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def data_set_of(path: Path) -> bytes:
    """Cut preamble and file meta information off."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


class Node:
    """A running listener with its database and store."""

    def __init__(self, db: sa.Engine, folder: Path, engine: DurableEngine, **dicom: object) -> None:
        self.db, self.folder, self.engine = db, folder, engine
        self.config: Config = read_config(
            None,
            {},
            {"dicom": {"host": "127.0.0.1", "port": 0, "min_free_mb": 0, **dicom}},
        )
        store = FolderStore(folder, self.config.dicom.min_free_mb)
        self.listener = DicomListener(self.config, db, store, engine)
        self.listener.start()
        self.port = self.listener.port

    def rows(self, table: sa.Table) -> list:
        with read(self.db) as conn:
            return list(conn.execute(sa.select(table)))

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def storescu(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
        command = [tool("storescu"), "-v", "127.0.0.1", str(self.port), *map(str, arguments)]
        return subprocess.run(
            command,
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TCP_NODELAY": "1"},
        )


@pytest.fixture
def engine(sqlite_database: sa.Engine) -> Iterator[DurableEngine]:
    url = sqlite_database.url.render_as_string(hide_password=False)
    running = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
    running.connect()
    yield running
    running.close(wait_s=0)


@pytest.fixture
def start(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def begin(folder: Path | None = None, **dicom: object) -> Node:
        nodes.append(Node(sqlite_database, folder or tmp_path / "images", engine, **dicom))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.listener.stop()


@pytest.fixture
def practice(sqlite_database: sa.Engine) -> Practice:
    """Give the schedule of the location "main", to be filled by hand."""
    return Practice(sqlite_database)
