"""A running DICOM listener for tests, and films to send to it."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.config import Config, read_config
from node.db.session import read
from node.dicom.instances import FolderStore
from node.dicom.peers import Peer
from node.dicom.scp import DicomListener
from node.engine import DurableEngine
from tests.node.dicom.conftest import Practice

IO = "1.2.840.10008.5.1.4.1.1.1.3"


def missing(what: str) -> NoReturn:
    """Skip a test on a laptop that lacks its peer; in CI the peer must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not available")
    pytest.skip(f"{what} is not available")


def tool(name: str) -> str:
    """Find a DCMTK program; by full path, for the environment has programs of the same names."""
    path = Path("/usr/bin") / name
    if not path.exists():
        missing(f"DCMTK's {name}")
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


HELPER = Path(__file__).with_name("private_orthanc.py")
spec = importlib.util.spec_from_file_location("private_orthanc", HELPER)
private_orthanc = importlib.util.module_from_spec(spec)
spec.loader.exec_module(private_orthanc)


def program(name: str, *known: str) -> str:
    found = next((path for path in known if Path(path).exists()), None) or shutil.which(name)
    if found is None:
        missing(name)
    return found


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.05)


CONFIG = {
    "DicomAet": "ORTHANC",
    "DicomPort": 4242,
    "HttpPort": 8042,
    "RemoteAccessAllowed": False,
    "AuthenticationEnabled": True,
    "RegisteredUsers": {"test": "test"},
    "DicomAlwaysAllowStore": True,
    "DicomAlwaysAllowFind": True,
    "DicomAlwaysAllowGet": True,
    "DicomAlwaysAllowMove": True,
    "DicomCheckModalityHost": False,
    "DicomModalities": {"node": {"AET": "BITEWING", "Host": "127.0.0.1", "Port": 11112}},
    "Plugins": [],
}


class Orthanc:
    """A running Orthanc, reached through loopback ports of our own."""

    def __init__(self, dicom_port: int, http_port: int) -> None:
        self.peer = Peer("ORTHANC", "127.0.0.1", dicom_port)
        self.node_port = 0  # where the AE title BITEWING is found, as far as Orthanc knows
        self._url = f"http://127.0.0.1:{http_port}"

    def get(self, path: str) -> bytes:
        return self._ask(path)

    def post(self, path: str, body: object) -> object:
        return json.loads(self._ask(path, json.dumps(body).encode()))

    def delete(self, path: str) -> None:
        self._ask(path, method="DELETE")

    def _ask(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        token = base64.b64encode(b"test:test").decode()
        request = urllib.request.Request(
            self._url + path,
            data=body,
            headers={"Authorization": f"Basic {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.get("/system"))
        return False

    def json(self, path: str):
        return json.loads(self.get(path))

    def files(self) -> list[bytes]:
        return [self.get(f"/instances/{one}/file") for one in self.json("/instances")]


@pytest.fixture
def orthanc(tmp_path):
    """Orthanc in a private network, with a configuration and storage of its own."""
    orthanc_path = program("Orthanc", "/usr/sbin/Orthanc", "/usr/bin/Orthanc")
    unshare = program("unshare")
    if subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode:
        missing("a private network for Orthanc (unshare -rn)")
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps(CONFIG | {
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
    }))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # short: a Unix socket has 107 characters
        process = subprocess.Popen(
            [
                *(unshare, "-rn", sys.executable, HELPER),
                orthanc_path,
                config,
                folder,
                "4242",
                "8042",
                ">11112",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        listeners = []
        for port in ("4242", "8042"):
            listener = socket.create_server(("127.0.0.1", 0))
            path = Path(folder) / port
            private_orthanc.relay(listener, lambda path=path: private_orthanc.connect_unix(path))
            listeners.append(listener)
        server = Orthanc(*(one.getsockname()[1] for one in listeners))
        listeners.append(private_orthanc.listen_unix(Path(folder) / "11112"))
        private_orthanc.relay(
            listeners[-1], lambda: socket.create_connection(("127.0.0.1", server.node_port))
        )
        try:
            wait_until(lambda: server.is_up() or process.poll() is not None)
            assert process.poll() is None, "Orthanc ended at once"
            yield server
        finally:
            process.stdin.close()
            process.wait(30)
            for listener in listeners:
                listener.close()
