"""A practice behind the real web server, and a real Chromium that watches for broken rules."""

from __future__ import annotations

import io
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import uvicorn
from axe_core_python.sync_playwright import Axe
from fastapi import APIRouter
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from prometheus_client import CollectorRegistry
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalIntraOralXRayImageStorageForPresentation as INTRAORAL
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.analysis.findings import store_analysis
from node.config import read_config
from node.db.session import Actor, begin, new_id, open_database
from node.db.tables import instance, patient, patient_identity, study, study_identity
from node.dicom.instances import FolderStore
from node.domain.findings import (
    Box,
    CariesDepth,
    Finding,
    FindingKind,
    ImageAnalysis,
    Line,
    ModelVersion,
    ToothMark,
    View,
)
from node.domain.rights import Role
from node.domain.study import name_key
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from node.web.accounts import create_user
from node.web.app import create_web, end_streams
from tests.roll_out import acknowledge

#: Machines that do other things at the same time are slow; what never happens is waited for longer.
expect.set_options(timeout=40_000)
PASSWORD = "correct horse battery"
SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
#: The screenshots that docs/review-page.md shows; `make screenshots` renews them.
IN_DOCS = {
    "worklist-busy": "worklist",
    "node-review": "review",
    **{name: name for name in ("people", "account", "emergency", "emergencies", "sign-in")},
    **{name: name for name in ("mount", "take-back", "patient-page", "search", "settings")},
    **{name: name for name in ("fleet", "versions")},
}
ROWS, COLUMNS = 900, 1200
MODEL = ModelVersion("intraoral", "1.0", "d" * 64)
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEETH = ("17", "16", "15", "14")
OPPOSITE = ("47", "46", "45", "44")


def phantom() -> np.ndarray:
    """Draw a 12-bit bitewing that looks like one: two rows of crowns with enamel caps, and bone."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
    film = 420 + 110 * np.sin(x / 190) + 70 * np.cos(y / 140)
    grain = np.random.default_rng(7)
    for is_upper in (True, False):
        depth = (ROWS * 0.46 - y) if is_upper else (y - ROWS * 0.54)
        tooth = np.zeros_like(film)
        for number in range(4):
            centre = 170 + 290 * number + (25 if is_upper else -15)
            narrowing = np.clip(depth - 170, 0, None) * 0.16
            waist = 12 * np.cos(np.clip(depth, 0, 200) / 32)
            across = np.abs(x - centre) / np.maximum(138 - waist - narrowing, 15)
            cusps = 14 * np.cos((x - centre) / 34)
            body = np.clip((1 - across) * 9, 0, 1) * np.clip((depth + cusps) / 12, 0, 1)
            shell = np.clip(1 - (depth - 20) / 190, 0, 1) * np.clip(
                (across - 0.72) * 5 + np.clip(1 - (depth - 30) / 40, 0, 1), 0, 1
            )
            pulp = np.clip(1 - np.abs(x - centre) / 26, 0, 1) * np.clip((depth - 130) / 40, 0, 1)
            tooth = np.maximum(tooth, body * (1150 + 850 * shell - 420 * pulp))
        bone = np.clip((depth - 235 - 18 * np.sin(x / 45)) / 18, 0, 1) * np.clip(
            1 - tooth / 500, 0, 1
        )
        trabeculae = 1 + 0.22 * np.sin(x / 6 + 3 * np.sin(y / 17)) * np.sin(
            y / 7 + 2 * np.cos(x / 13)
        )
        film += tooth + 780 * bone * trabeculae
    for cx, cy, rx, ry in ((296, 300, 20, 26), (575, 576, 16, 22), (1035, 280, 16, 20)):
        film -= 700 * np.exp(-(((x - cx) / rx) ** 2) - (((y - cy) / ry) ** 2))
    film += grain.normal(0, 38, film.shape)
    return np.clip(film, 0, 4095).astype("<u2")


def radiograph(pixels: np.ndarray, **attributes: object) -> Dataset:
    """Wrap samples as an intraoral image, as a sensor would send it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = INTRAORAL
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientName = "Sandbox^Ada"
    ds.Modality = "IO"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def suggestions() -> tuple[Finding, ...]:
    """What a model might say about the phantom, in reading order."""

    def caries(box: Box, tooth: str, surface: Surface, depth: CariesDepth, p: float) -> Finding:
        return Finding(
            FindingKind.CARIES, box, Tooth(tooth), (surface,), depth, probability=p, model=MODEL
        )

    return (
        caries(Box(262, 262, 322, 338), "17", Surface.MESIAL, CariesDepth.D1, 0.93),
        Finding(
            FindingKind.BONE_LEVEL,
            Line(((330, 590), (332, 700))),
            Tooth("46"),
            (Surface.DISTAL,),
            value_mm=2.2,
            probability=0.74,
            model=MODEL,
        ),
        caries(Box(560, 540, 620, 612), "46", Surface.MESIAL, CariesDepth.E2, 0.61),
        caries(Box(1010, 250, 1060, 310), "14", Surface.DISTAL, CariesDepth.E1, 0.86),
    )


def teeth() -> tuple[ToothMark, ...]:
    """Say where the phantom's teeth stand."""
    marks = []
    for row, codes in enumerate((TEETH, OPPOSITE)):
        for number, code in enumerate(codes):
            x0, y0 = 45 + 290 * number, 20 if row == 0 else 500
            marks.append(ToothMark(Tooth(code), Box(x0, y0, x0 + 250, y0 + 380), 0.95, MODEL))
    return tuple(marks)


@dataclass
class Clinic:
    """A node's web part on loopback with its tables and image store."""

    url: str
    db: sa.Engine
    store: FolderStore
    actor: Actor

    def add_user(self, username: str, name: str, role: Role = Role.DENTIST) -> None:
        """Let a person in, with the password of all tests."""
        create_user(
            self.db,
            self.actor,
            username=username,
            display_name=name,
            role=role.value,
            password=PASSWORD,
        )

    def add_patient(self, family: str, given: str, born: date = date(1984, 3, 12)) -> str:
        """Add a patient of the practice."""
        patient_id = new_id()
        common = {"location_id": self.actor.location_id, "patient_id": patient_id}
        with begin(self.db, self.actor, "test.patient") as tx:
            tx.conn.execute(
                patient.insert().values(
                    id=patient_id,
                    location_id=self.actor.location_id,
                    pms_key=str(int(patient_id[:6], 16)),
                    synced_at=tx.now,
                )
            )
            tx.conn.execute(
                patient_identity.insert().values(
                    family_name=family,
                    given_name=given,
                    birth_date=born,
                    sex="F",
                    name_key=name_key(family, given),
                    **common,
                )
            )
        return patient_id

    def add_study(self, patient_id: str | None, images: int = 1, **values: object) -> str:
        """Add a complete study of phantoms, matched when there is a patient."""
        study_id = new_id()
        with begin(self.db, self.actor, "test.study") as tx:
            row = {
                "state": "ready",
                "match_state": "matched" if patient_id else "unmatched",
                "match_reason": "" if patient_id else "No patient has this name and birth date.",
                **values,
            }
            tx.conn.execute(
                study.insert().values(
                    id=study_id,
                    location_id=self.actor.location_id,
                    study_instance_uid=generate_uid(),
                    study_date="20260105",
                    patient_id=patient_id,
                    received_at=tx.now,
                    last_image_at=tx.now,
                    **row,
                )
            )
            tx.conn.execute(
                study_identity.insert().values(
                    study_id=study_id,
                    location_id=self.actor.location_id,
                    patient_name="Sandbox^Ada",
                    birth_date="19840312",
                    sex="F",
                )
            )
        for number in range(images):
            self.add_image(study_id, number + 1)
        return study_id

    def add_image(
        self, study_id: str, number: int = 1, ds: Dataset | None = None, **values: object
    ) -> str:
        """Keep one image in the store and its row."""
        image_id = new_id()
        ds = ds or radiograph(phantom(), WindowCenter=1900, WindowWidth=3800)
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        stored = self.store.put(
            self.actor.location_id, image_id, lambda target: target.write(file.getvalue())
        )
        row = {
            "state": "analysed",
            "spacing_mm_row": 0.02,
            "spacing_mm_col": 0.02,
            "spacing_kind": "detector",
            **values,
        }
        with begin(self.db, self.actor, "test.image") as tx:
            tx.conn.execute(
                instance.insert().values(
                    id=image_id,
                    location_id=self.actor.location_id,
                    study_id=study_id,
                    sop_instance_uid=ds.SOPInstanceUID,
                    sop_class_uid=ds.SOPClassUID,
                    transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
                    modality="IO",
                    instance_number=number,
                    rows=ds.Rows,
                    columns=ds.Columns,
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    storage_key=stored.storage_key,
                    received_at=tx.now,
                    **row,
                )
            )
        return image_id

    def analyse(self, study_id: str, findings: tuple[Finding, ...] | None = None) -> None:
        """Store suggestions on the first image of a study, and none on the others."""
        for number, image_id in enumerate(self.image_ids(study_id)):
            said = suggestions() if findings is None else findings
            analysis = ImageAnalysis(
                View.BITEWING,
                0.97,
                teeth(),
                said if number == 0 else (),
                models=(MODEL,),
                absent=("periapical radiolucency",),
            )
            store_analysis(self.db, self.actor, image_id, analysis, datetime.now(UTC))

    def image_ids(self, study_id: str) -> list[str]:
        """Image ids in order."""
        query = sa.select(instance.c.id).where(instance.c.study_id == study_id)
        return [str(row[0]) for row in self.rows(query.order_by(instance.c.instance_number))]

    def rows(self, query: sa.Select) -> list:
        """Read rows."""
        with self.db.connect() as conn:
            return list(conn.execute(query))


class _Healthy:
    is_ok, words, is_ours = True, "answers", True


@dataclass
class _Server:
    app: object
    port: int
    stop: Callable[[], None] = field(repr=False)


def _serve(app: object, port: int = 0) -> _Server:
    sock = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        thread.join(0.01)

    def stop() -> None:
        end_streams(app)
        server.should_exit = True
        thread.join(60)

    return _Server(app, sock.getsockname()[1], stop)


@pytest.fixture
def open_clinic(sqlite_database: sa.Engine, tmp_path: Path) -> Iterator[Callable[..., Clinic]]:
    """Open a practice in a roll-out mode; it is closed after the test."""
    closers: list[Callable[[], object]] = []

    def start(
        mode: str = "assist",
        routers: Sequence[APIRouter] = (),
        payers: Mapping[str, object] | None = None,
        **web: object,
    ) -> Clinic:
        url = sqlite_database.url.render_as_string(hide_password=False)
        values = {
            "node": {
                "location_id": "main",
                "mode": "assist" if mode == "fresh" else mode,
                "data_dir": tmp_path,
                "practice_name": "Sandbox Dental",
            },
            "database": {"url": url},
            "dicom": web.pop("dicom", {}),
            "web": web,
            "payers": payers or {},
        }
        config = read_config(None, {}, values)
        db = open_database(url)
        if mode == "assist":
            acknowledge(db)
        store = FolderStore(tmp_path / "images")
        engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
        engine.connect()
        app = create_web(
            config,
            db,
            store,
            engine,
            probes=lambda: {"database": _Healthy()},
            metrics_registry=CollectorRegistry(),
        )
        for router in routers:
            app.include_router(router)
        served = _serve(app)
        closers.extend([db.dispose, engine.close, served.stop])
        clinic = Clinic(f"http://127.0.0.1:{served.port}", db, store, Actor("test", "main"))
        clinic.add_user("lin", "Dr. Mei Lin")
        return clinic

    yield start
    for close in reversed(closers):
        close()


@pytest.fixture
def clinic(open_clinic: Callable[..., Clinic]) -> Clinic:
    """One practice in assist mode with one dentist."""
    return open_clinic()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; a laptop without one skips, CI fails.

    Playwright leaves an event loop in the main thread while it lives; ended with each module, it
    does not disturb the tests that follow.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed, and CI must drive the pages")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def module_server(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the pages without any data, for tests of the page's own modules."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copyfile(sqlite_template, folder / "bitewing.sqlite")
    url = f"sqlite:///{folder / 'bitewing.sqlite'}"
    config = read_config(None, {}, {"node": {"data_dir": folder}, "database": {"url": url}})
    db = open_database(url)
    engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
    app = create_web(
        config,
        db,
        FolderStore(folder / "images"),
        engine,
        probes=dict,
        metrics_registry=CollectorRegistry(),
    )
    served = _serve(app)
    yield f"http://127.0.0.1:{served.port}"
    served.stop()
    db.dispose()


def keep_shot(page: Page, name: str) -> None:
    """Leave a screenshot to be looked at, and in the documentation where it is shown."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    if os.environ.get("DOC_IMAGES") and name in IN_DOCS:
        shutil.copyfile(path, SCREENSHOTS.parent / "docs" / "images" / f"{IN_DOCS[name]}.png")


@pytest.fixture
def serious() -> Callable[[Page], list[str]]:
    """Ask axe what on a page is a serious or critical barrier to somebody."""

    def ask(page: Page) -> list[str]:
        return [
            f"{item['id']}: {node['html'][:160]}"
            for item in Axe().run(page)["violations"]
            if item["impact"] in ("serious", "critical")
            for node in item["nodes"]
        ]

    return ask


@pytest.fixture
def keep() -> Callable[[Page, str], None]:
    """Keep screenshots of pages that no Reader drives."""
    return keep_shot


@dataclass
class Reader:
    """One person at one browser, and everything that went wrong on its pages."""

    page: Page
    context: BrowserContext
    clinic: Clinic
    problems: list[str] = field(default_factory=list)

    def sign_in(self, username: str = "lin") -> None:
        """Sign in through the page."""
        self.page.goto(f"{self.clinic.url}/login")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("tab", name="To review")).to_be_visible()

    def open(self, study_id: str) -> None:
        """Open a study and wait until its picture is drawn and everything is saved."""
        self.page.goto(f"{self.clinic.url}/review/{study_id}")
        self.settle()

    def settle(self) -> None:
        """Wait until the picture is in hand and nothing is on its way to the node."""
        expect(self.page.locator("#stage:not([aria-busy=true])")).to_be_visible()
        expect(self.page.locator("#saving")).to_have_text("Saved")

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def shot(self, name: str) -> None:
        """Leave a screenshot to be looked at."""
        keep_shot(self.page, name)


_WATCH = """
  // a module as the page itself has it, with the page's state
  window.fromPage = (name) => import(document.querySelector("script[type=module]").src
    .replace(/(.static.[0-9a-f]{16}.).*/, "$1") + name);
  document.addEventListener("securitypolicyviolation", (e) =>
    console.error("CSP " + e.violatedDirective + " " + e.blockedURI));
"""


@pytest.fixture
def open_reader(chromium: Browser) -> Iterator[Callable[..., Reader]]:
    """Open a browser for one person; script errors and CSP violations fail the test."""
    readers: list[Reader] = []

    def start(clinic: Clinic, width: int = 1600, height: int = 900) -> Reader:
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(15_000)
        context.add_init_script(_WATCH)
        reader = Reader(context.new_page(), context, clinic)
        reader.page.on("pageerror", lambda error: reader.problems.append(str(error)))
        reader.page.on(
            "console",
            lambda line: (
                reader.problems.append(line.text)
                if line.type == "error" and ("CSP" in line.text or "Security Policy" in line.text)
                else None
            ),
        )
        readers.append(reader)
        return reader

    yield start
    for reader in readers:
        reader.context.close()
        assert reader.problems == []


@pytest.fixture
def reader(clinic: Clinic, open_reader: Callable[..., Reader]) -> Reader:
    """Dr. Lin at a browser, signed in."""
    opened = open_reader(clinic)
    opened.sign_in()
    return opened
