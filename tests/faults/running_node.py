"""A real node in its own process beside a sandbox practice, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import httpx2
import sqlalchemy as sa

from node.config import read_config
from node.db.keys import attach_keys_if_there
from node.db.migrate import migrate
from node.db.sealed import keys_of
from node.db.session import Actor, open_database, read
from node.db.tables import study
from node.dicom.instances import FolderStore
from node.dicom.peers import Peer
from node.dicom.send import send_paths
from node.dicom.worklist_scu import ScheduledStep, query_worklist
from node.rollout import acknowledgements
from node.web.accounts import create_user
from pms_writeback.sandbox.server import SandboxHandle
from sample_studies import SampleStudy, catalog
from tests.roll_out import acknowledge

PASSWORD = "a-long-test-password"
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Find a free TCP port on the loopback interface."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "it") -> None:
    """Wait for a condition, or fail with its name."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.05)


@dataclass
class NodeProcess:
    """`bitewing serve` as a process; `kill` is SIGKILL to it and its inference child."""

    folder: Path
    sandbox: SandboxHandle
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    quiet_s: float = 1.0
    extra: str = ""
    process: subprocess.Popen[bytes] | None = None
    only: str = ""
    location_id: str = "main"
    shared_database: str = ""
    program: str = "node"

    @property
    def peer(self) -> Peer:
        return Peer("BITEWING", "127.0.0.1", self.dicom_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def database_url(self) -> str:
        if self.shared_database:
            return self.shared_database
        return f"sqlite:///{self.folder / 'data' / 'bitewing.sqlite'}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def write_config(self) -> Path:
        path = self.folder / "bitewing.toml"
        path.write_text(
            f"""
[node]
location_id = "{self.location_id}"
data_dir = "{self.folder / "data"}"
mode = "assist"
time_zone = "America/New_York"
[database]
url = "{self.shared_database}"
[dicom]
host = "127.0.0.1"
port = {self.dicom_port}
study_quiet_s = {self.quiet_s}
worklist_days_after = 7
[web]
port = {self.http_port}
[pms]
kind = "open_dental"
base_url = "{self.sandbox.url}"
developer_key = "{self.sandbox.developer_key}"
customer_key = "{self.sandbox.customer_key}"
poll_s = 2
{self.extra}
"""
        )
        return path

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", self.program, "serve", "--config"]
        command.append(str(self.write_config()))
        if self.only:
            command += ["--only", self.only]
        self.process = subprocess.Popen(
            command, env=environment, stderr=self.log.open("ab"), cwd=self.folder
        )
        until(self._is_up, 90, "the node's start")
        self.let_suggestions_in()

    def let_suggestions_in(self) -> None:
        """Acknowledge as a clinical lead would, once; the node's models are known by now."""
        db = self.database()
        try:
            with read(db) as conn:
                is_done = acknowledgements.standing(conn, self.location_id) is not None
            if not is_done:
                acknowledge(db, self.location_id)
        finally:
            db.dispose()

    def kill(self) -> None:
        """End the process as a power cut would, its child too."""
        assert self.process is not None
        children = self.children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def stop(self) -> int:
        """End the process as Ctrl-C does; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def children(self) -> list[int]:
        """The process ids of the inference process."""
        assert self.process is not None
        return _children(self.process.pid)

    def database(self) -> sa.Engine:
        """Open the node's database with the node's keys."""
        db = open_database(self.database_url)
        attach_keys_if_there(db, read_config(self.write_config(), environment={}))
        return db

    def store(self) -> FolderStore:
        """Open the node's store of objects with the node's keys."""
        db = self.database()
        db.dispose()
        return FolderStore(self.folder / "data" / "images", ring=keys_of(db))

    def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        db = self.database()
        try:
            with read(db) as conn:
                query = sa.select(sa.func.count()).select_from(table).where(*where)
                return int(conn.execute(query).scalar_one())
        finally:
            db.dispose()

    def rows(self, query: sa.Select[tuple[object, ...]]) -> list[sa.Row]:  # type: ignore[type-arg]
        db = self.database()
        try:
            with read(db) as conn:
                return list(conn.execute(query).all())
        finally:
            db.dispose()

    def add_dentist(self) -> None:
        db = self.database()
        migrate(db)
        create_user(
            db,
            Actor("test", self.location_id),
            username="dentist",
            display_name="Dr Test",
            role="dentist",
            password=PASSWORD,
        )
        db.dispose()

    def scheduled(self, patient_id: str) -> ScheduledStep:
        """Ask the worklist for a patient's step, waiting for the sync to bring it."""
        found: list[ScheduledStep] = []

        def ask() -> bool:
            found[:] = query_worklist(self.peer, patient_id=patient_id)
            return bool(found)

        until(ask, 60, "the patient's worklist item")
        return found[0]

    def send(self, key: str) -> ScheduledStep:
        """Send a sample study under its patient's worklist item."""
        return self.send_study(sample_study(key))

    def send_study(self, sample: SampleStudy) -> ScheduledStep:
        """Send images under their patient's worklist item."""
        step = self.scheduled(sample.patient.id)
        folder = self.folder / f"send-{sample.key}"
        folder.mkdir(exist_ok=True)
        paths = sample.write(
            folder,
            accession=step.accession_number,
            study_instance_uid=step.study_instance_uid,
            study_date=date.today(),  # noqa: DTZ011 - a sensor's own clock
        )
        report = send_paths(paths, self.peer, calling_ae="SENSOR")
        assert not report.failed, report
        return step

    def study_state(self, study_instance_uid: str) -> str:
        rows = self.rows(
            sa.select(study.c.state).where(study.c.study_instance_uid == study_instance_uid)
        )
        return str(rows[0].state) if rows else ""

    def sign_in(self) -> Reviewer:
        return Reviewer(self.url)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/healthz", timeout=2).status_code == 200
        return False


class Reviewer:
    """A dentist at the API, as the page speaks to it."""

    def __init__(self, url: str, username: str = "dentist", password: str = PASSWORD) -> None:
        self._http = httpx2.Client(base_url=url, timeout=30)
        me = self._post("/api/login", {"username": username, "password": password})
        self._http.headers["X-CSRF-Token"] = me["csrf_token"]

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self._http.cookies)

    def get(self, path: str) -> httpx2.Response:
        return self._http.get(path)

    def study(self, study_id: str) -> dict:
        answer = self._http.get(f"/api/studies/{study_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ops(self, study_id: str, operations: list[dict]) -> dict:
        return self._post(f"/api/studies/{study_id}/ops", {"operations": operations})

    def decide_everything(self, study_id: str) -> None:
        """See every image, accept every suggestion."""
        answer = self.study(study_id)
        operations = [
            {"kind": "seen_image", "data": {"image_id": image["id"]}} for image in answer["images"]
        ]
        operations += [
            {"kind": "accept", "finding_id": mark["id"], "base_rev": mark["rev"]}
            for mark in answer["findings"]
            if mark["state"] == "suggested"
        ]
        for operation in operations:
            operation["op_id"] = str(uuid.uuid4())
        for start in range(0, len(operations), 50):
            self.ops(study_id, operations[start : start + 50])

    def try_sign(self, study_id: str) -> httpx2.Response:
        answer = self.study(study_id)
        return self._http.post(
            f"/api/studies/{study_id}/sign",
            json={
                "content_hash": answer["content_hash"],
                "version": answer["sign"]["next_version"],
                "password": PASSWORD,
            },
        )

    def sign(self, study_id: str) -> dict:
        answer = self.try_sign(study_id)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def link(self, study_id: str, patient_id: str) -> None:
        self._post(f"/api/studies/{study_id}/link", {"patient_id": patient_id})

    def _post(self, path: str, body: dict) -> dict:
        answer = self._http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def sample_study(key: str) -> SampleStudy:
    """Find a sample study by its key."""
    return next(sample for sample in catalog() if sample.key == key)


def _children(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return [int(word) for word in listing.stdout.split()]
