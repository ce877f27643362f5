"""Queued writes to the sandbox of Open Dental, with things going wrong at chosen ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.dicom.instances import FolderStore
from node.engine import DurableEngine
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.pms import AppendCommlog, Command, CreateTask, Pms, Receipt, UploadDocument
from pms_writeback.sandbox.server import SandboxHandle, running
from tests.faults.storm import WHEN, Killed, Writes

SLOW_S = 1.5
"""Longer than the adapter waits for an answer here."""
READ_TIMEOUT_S = 1.0

#: What befalls one write: the wire's faults by the sandbox's names, and the node's own death.
WIRE_FAULTS: dict[str, tuple[dict[str, object], ...]] = {
    "429": ({"kind": "status", "status": 429},),
    "504 before the commit": ({"kind": "status", "status": 504},),
    "504 after the commit": ({"kind": "status_after_commit", "status": 504},),
    "400 of the eConnector": ({"kind": "status", "status": 400},),
    "committed, no answer": ({"kind": "commit_then_drop"},),
    "committed, shows late": (
        {"kind": "commit_then_drop"},
        {"kind": "hide_newest", "methods": ("GET",)},
    ),
    "no answer, nothing done": ({"kind": "drop_before_commit"},),
    "answer cut": ({"kind": "cut_answer"},),
    "locked": ({"kind": "status", "status": 423},),
    "slow to answer": ({"kind": "delay_after_commit", "seconds": SLOW_S},),
    "slow to begin": ({"kind": "delay", "seconds": SLOW_S},),
}
FAULTS = (*WIRE_FAULTS, "away", "node killed before the send", "node killed after the answer")


class OfficeStorm(Writes):
    """Contact entries, tasks and documents, as they come."""

    def __init__(
        self,
        office: SandboxHandle,
        db: sa.Engine,
        pms: Pms,
        engine: DurableEngine,
        store: FolderStore,
    ) -> None:
        super().__init__(db, pms, engine, store)
        self.office = office

    def compose(self, patient_key: str, ref: str) -> Command:
        """Compose one of three kinds of write."""
        match self.chance.randrange(3):
            case 0:
                return CreateTask(patient_key, "Please review.", ref)
            case 1:
                return UploadDocument(
                    patient_key, "report.pdf", ".pdf", b"%PDF-1.4 report", "Signed report",
                    "AI Imaging", "Document", ("3",), WHEN, ref,
                )  # fmt: skip
            case _:
                return AppendCommlog(patient_key, "Signed.", WHEN, ref)

    def meet(self, fault: str, command: Command) -> Receipt:
        match fault:
            case "node killed before the send":
                raise Killed
            case "node killed after the answer":
                self.pms.execute(command)
                raise Killed
            case "away":
                self.office.fault("offline")
            case _:
                where = {"methods": ("POST",), "path": _PATHS[type(command)]}
                for each in WIRE_FAULTS[fault]:
                    self.office.fault(**{**where, **each})  # type: ignore[arg-type]
        before = len(self.landed())
        try:
            return self.pms.execute(command)
        finally:
            if fault == "slow to begin":  # the office still works on it
                _until(lambda: len(self.landed()) > before)
            if fault != "committed, shows late":
                self.office.fault("clear")

    def landed(self) -> list[tuple[str, str]]:
        """Give the records in the order in which they were made; the office's clock ticks a row."""
        made = [
            (str(row[stamp]), str(row[owner]), str(row[text]))
            for resource, stamp, owner, text in _RECORDS
            for row in self.office.rows(resource)
        ]
        return [(owner, text.rsplit(" ", 1)[-1]) for _, owner, text in sorted(made)]


_RECORDS = (
    ("commlogs", "DateTStamp", "PatNum", "Note"),
    ("tasks", "DateTimeOriginal", "KeyNum", "Descript"),
    ("documents", "DateTStamp", "PatNum", "Description"),
)


_PATHS = {AppendCommlog: "/commlogs", CreateTask: "/tasks", UploadDocument: "/documents"}


class TickingClock:
    """A clock that shows another second at each look, so that all rows have an order."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            self._now += timedelta(seconds=1)
            return self._now


@contextmanager
def office_storm(
    folder: Path, db: sa.Engine, engine: DurableEngine, patients: int = 40
) -> Iterator[OfficeStorm]:
    """Run a sandbox practice of so many patients, and a storm that writes to it."""
    with running(folder / "pms.sqlite", clock=TickingClock(), seed_patients=patients) as office:
        settings = OpenDentalSettings(
            base_url=office.url,
            developer_key=office.developer_key,
            customer_key=office.customer_key,
            time_zone="America/New_York",
            task_list="AI Imaging Review",
            task_user="bitewing",
            read_timeout_s=READ_TIMEOUT_S,
        )
        with closing(OpenDental(settings)) as pms:
            storm = OfficeStorm(office, db, pms, engine, FolderStore(folder / "images"))
            storm.grace_s = 6.0 * patients  # some rounds over all patients, of 2 s each
            yield storm


def _until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the office did not finish in time"
        time.sleep(0.02)
