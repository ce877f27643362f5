"""A practice behind the real web server: accounts of every role, studies with generated images."""

from __future__ import annotations

import io
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import httpx2
import numpy as np
import pytest
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.analysis.findings import store_analysis, store_failure
from node.config import read_config
from node.db.session import Actor, begin, new_id, open_database
from node.db.tables import (
    instance,
    patient,
    patient_identity,
    pms_command,
    study,
    study_identity,
)
from node.dicom.instances import FolderStore
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    ImageAnalysis,
    Line,
    ModelVersion,
    ToothMark,
    View,
)
from node.domain.rights import Role
from node.domain.study import InstanceState, name_key
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from node.web.accounts import create_user
from node.web.app import create_web, end_streams
from tests.roll_out import acknowledge

PASSWORD = "correct horse battery"
MODEL = ModelVersion("intraoral", "1.0", "d" * 64)
ROWS, COLUMNS = 120, 160
INTRAORAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.3"


@dataclass
class Browser:
    """One signed-in person, speaking as the page does."""

    http: httpx2.Client
    me: dict

    def get(self, path: str, **kwargs) -> httpx2.Response:
        return self.http.get(path, **kwargs)

    def post(self, path: str, body: dict | None = None) -> httpx2.Response:
        return self.http.post(path, json=body)

    def study(self, study_id: str) -> dict:
        answer = self.get(f"/api/studies/{study_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ops(self, study_id: str, *operations: dict) -> httpx2.Response:
        listed = [{"op_id": str(uuid.uuid4()), **operation} for operation in operations]
        return self.post(f"/api/studies/{study_id}/ops", {"operations": listed})

    def see_all(self, study_id: str) -> None:
        images = self.study(study_id)["images"]
        seen = [{"kind": "seen_image", "data": {"image_id": image["id"]}} for image in images]
        assert self.ops(study_id, *seen).status_code == 200

    def accept_all(self, study_id: str) -> None:
        for mark in self.study(study_id)["findings"]:
            if mark["state"] == "suggested":
                accept = {"kind": "accept", "finding_id": mark["id"], "base_rev": mark["rev"]}
                assert self.ops(study_id, accept).status_code == 200

    def sign(self, study_id: str, **changes) -> httpx2.Response:
        shown = self.study(study_id)
        body = {
            "version": shown["sign"]["next_version"],
            "content_hash": shown["content_hash"],
            **changes,
        }
        return self.post(f"/api/studies/{study_id}/sign", body)


@dataclass
class Practice:
    """A node's web part on loopback, and what a test needs to fill its tables."""

    url: str
    db: sa.Engine
    store: FolderStore
    location_id: str
    probes: dict
    app: FastAPI
    browsers: list[httpx2.Client] = field(default_factory=list)
    people: set[str] = field(default_factory=set)

    @property
    def actor(self) -> Actor:
        return Actor("test", self.location_id)

    def client(self) -> httpx2.Client:
        client = httpx2.Client(base_url=self.url, timeout=30)
        self.browsers.append(client)
        return client

    def sign_in(self, username: str, password: str = PASSWORD) -> Browser:
        """Sign in; somebody named like a role is hired when needed."""
        if username in set(Role) and username not in self.people:
            self.add_user(username, username)
        client = self.client()
        answer = client.post("/api/login", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return Browser(client, answer.json())

    def add_user(self, username: str, role: str) -> str:
        self.people.add(username)
        return create_user(
            self.db,
            self.actor,
            username=username,
            display_name=f"The {username} of {self.location_id}",
            role=role,
            password=PASSWORD,
        )

    def add_patient(self, family: str = "Doe", given: str = "Jane") -> str:
        patient_id = new_id()
        with begin(self.db, self.actor, "test.patient") as tx:
            common = {"location_id": self.location_id}
            tx.conn.execute(
                patient.insert().values(
                    id=patient_id, pms_key=new_id()[:8], synced_at=tx.now, **common
                )
            )
            tx.conn.execute(
                patient_identity.insert().values(
                    patient_id=patient_id,
                    family_name=family,
                    given_name=given,
                    birth_date=date(1981, 5, 17),
                    sex="F",
                    name_key=name_key(family, given),
                    **common,
                )
            )
        return patient_id

    def add_study(
        self, images: int = 1, state: str = "ready", patient_id: str | None = "new"
    ) -> str:
        """A study of generated bitewings; by default matched to a new patient."""
        study_id = new_id()
        linked = self.add_patient() if patient_id == "new" else patient_id
        with begin(self.db, self.actor, "test.study") as tx:
            tx.conn.execute(
                study.insert().values(
                    id=study_id,
                    location_id=self.location_id,
                    study_instance_uid=generate_uid(),
                    study_date="20260105",
                    state=state,
                    match_state="matched" if linked else "unmatched",
                    match_reason="" if linked else "no patient has this name and birth date",
                    patient_id=linked,
                    received_at=tx.now,
                    last_image_at=tx.now,
                )
            )
            tx.conn.execute(
                study_identity.insert().values(
                    study_id=study_id,
                    location_id=self.location_id,
                    patient_name="Doe^Jane",
                    birth_date="19810517",
                    sex="F",
                )
            )
        for number in range(images):
            self.add_image(study_id, number + 1)
        return study_id

    def add_image(
        self, study_id: str, number: int = 1, state: str = "analysed", ds: Dataset | None = None
    ) -> str:
        image_id = new_id()
        ds = ds if ds is not None else bitewing()
        whole = io.BytesIO()
        ds.save_as(whole, enforce_file_format=True)
        stored = self.store.put(
            self.location_id, image_id, lambda file: file.write(whole.getvalue()) and None
        )
        with begin(self.db, self.actor, "test.image") as tx:
            tx.conn.execute(
                instance.insert().values(
                    id=image_id,
                    location_id=self.location_id,
                    study_id=study_id,
                    sop_instance_uid=ds.SOPInstanceUID,
                    sop_class_uid=ds.SOPClassUID,
                    transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
                    modality="IO",
                    instance_number=number,
                    rows=ds.Rows,
                    columns=ds.Columns,
                    spacing_mm_row=0.02,
                    spacing_mm_col=0.02,
                    spacing_kind="detector",
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    storage_key=stored.storage_key,
                    state=state,
                    received_at=tx.now,
                )
            )
        return image_id

    def analyse(self, image_id: str, findings: Sequence[Finding] | None = None) -> None:
        """Store what the models would say: by default caries and a bone level."""
        said = ImageAnalysis(
            view=View.BITEWING,
            view_probability=0.97,
            teeth=(ToothMark(Tooth("46"), Box(20, 20, 60, 90), 0.9, MODEL),),
            findings=tuple(default_findings() if findings is None else findings),
            models=(MODEL,),
            notes=("Caries marks on this view are suggestions.",),
        )
        store_analysis(self.db, self.actor, image_id, said, datetime.now(UTC))

    def fail(self, image_id: str, reason: str) -> None:
        """Store that the models failed on an image."""
        store_failure(self.db, self.actor, image_id, InstanceState.FAILED, reason)

    def add_failed_write(self, study_id: str, error: str) -> str:
        """A command to the PMS that was given up after three tries."""
        command_id = new_id()
        with begin(self.db, self.actor, "test.command") as tx:
            query = sa.select(study.c.patient_id).where(study.c.id == study_id)
            tx.conn.execute(
                pms_command.insert().values(
                    id=command_id,
                    location_id=self.location_id,
                    key=f"note:{study_id}:1",
                    ref="BW-1",
                    study_id=study_id,
                    patient_id=tx.conn.execute(query).scalar_one(),
                    review_version=1,
                    kind="note",
                    payload={"command": {}},
                    state="failed",
                    attempts=3,
                    error=error,
                    created_at=tx.now,
                    updated_at=tx.now,
                )
            )
        return command_id

    def analysed_study(self, images: int = 1, **kwargs) -> str:
        study_id = self.add_study(images, **kwargs)
        for image_id in self.image_ids(study_id):
            self.analyse(image_id)
        return study_id

    def image_ids(self, study_id: str) -> list[str]:
        query = sa.select(instance.c.id).where(instance.c.study_id == study_id)
        return list(self.rows(query.order_by(instance.c.instance_number), scalars=True))

    def rows(self, query: sa.Select, scalars: bool = False) -> Sequence:
        with self.db.connect() as conn:
            answer = conn.execute(query)
            return answer.scalars().all() if scalars else answer.all()


def default_findings() -> list[Finding]:
    return [
        Finding(
            FindingKind.CARIES,
            Box(30, 30, 50, 50),
            tooth=Tooth("46"),
            surfaces=(Surface.DISTAL,),
            probability=0.93,
            model=MODEL,
        ),
        Finding(
            FindingKind.BONE_LEVEL,
            Line(((70, 60), (70, 80))),
            tooth=Tooth("46"),
            surfaces=(Surface.MESIAL,),
            value_mm=0.4,
            probability=0.41,
            model=MODEL,
        ),
    ]


def bitewing(**attributes: object) -> Dataset:
    """A small 12-bit MONOCHROME2 image with a window, as a sensor would send it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = INTRAORAL_X_RAY
    ds.SOPClassUID = INTRAORAL_X_RAY
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientName = "Doe^Jane"
    ds.Modality = "IO"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ramp = np.linspace(0, 4095, COLUMNS).astype("<u2")
    ds.PixelData = np.tile(ramp, (ROWS, 1)).tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


@dataclass(frozen=True)
class Verdict:
    is_ok: bool
    words: str
    is_ours: bool = True


OpenPractice = Callable[..., Practice]


@pytest.fixture
def open_practice(database_path: str, tmp_path: Path) -> Iterator[OpenPractice]:
    """Open one or more practices, each a real server on loopback, on one database.

    ``mode`` is ``assist`` (all is let in), ``silent`` (by configuration) or ``fresh``: nobody has
    let anything in. ``dicom`` and ``node`` are the sections of those names.
    """
    closers: list[Callable[[], None]] = []

    def start(location_id: str = "main", mode: str = "assist", **web: object) -> Practice:
        practice, close = _serve(database_path, tmp_path, location_id, mode, web)
        closers.append(close)
        return practice

    yield start
    for close in reversed(closers):
        close()


@pytest.fixture
def database_path(sqlite_database: sa.Engine) -> str:
    """The URL of an empty SQLite database (the tables are tested on both databases elsewhere)."""
    return sqlite_database.url.render_as_string(hide_password=False)


@pytest.fixture
def practice(open_practice: OpenPractice) -> Practice:
    """One practice in assist mode."""
    return open_practice()


@pytest.fixture
def make_bitewing() -> Callable[..., Dataset]:
    """Make a small image; attributes given replace the usual ones."""
    return bitewing


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    """Make what a probe says."""
    return Verdict


def _serve(
    url: str, folder: Path, location_id: str, mode: str, web: dict
) -> tuple[Practice, Callable[[], None]]:
    limit = "assist" if mode == "fresh" else mode
    dicom, node = web.pop("dicom", {}), web.pop("node", {})
    config = read_config(
        None,
        {},
        {
            "node": {"location_id": location_id, "mode": limit, "data_dir": folder, **node},
            "database": {"url": url},
            "dicom": dicom,
            "web": web,
        },
    )
    db = open_database(url)
    if mode == "assist":
        acknowledge(db, location_id)
    store = FolderStore(folder / "images")
    engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1", location_id)
    engine.connect()
    registry = CollectorRegistry()
    Gauge("bitewing_studies", "Studies by state", registry=registry).set(0)
    probes = {"database": Verdict(True, "answers")}
    app = create_web(config, db, store, engine, probes=lambda: probes, metrics_registry=registry)
    # With the protocol named, asyncio switches Nagle's delay off, as node.app does.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        thread.join(0.01)
    port = sock.getsockname()[1]
    practice = Practice(f"http://127.0.0.1:{port}", db, store, location_id, probes, app)

    def close() -> None:
        end_streams(app)
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
        for client in practice.browsers:
            client.close()
        engine.close()
        db.dispose()

    return practice, close
