"""``bitewing demo``: an invented practice, the node, and sample studies sent as a sensor would.

The schedule is asked for by Modality Worklist and the images come by C-STORE, through the same
ports as in a practice. A second start goes on where the first left off.
"""

from __future__ import annotations

import logging
import signal
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress

from node import logs
from node.analysis import installed
from node.app import Node
from node.config import Config, Mode, read_config
from node.db.migrate import migrate
from node.db.session import Actor, open_database, read
from node.db.tables import study, user_account, worklist_item
from node.dicom.peers import Peer
from node.dicom.send import send_paths
from node.dicom.worklist_scu import ScheduledStep, query_worklist
from node.domain.rights import Role
from node.domain.study import StudyState
from node.errors import Retryable
from node.rollout import acknowledgements
from node.rollout.opening import let_everything_in
from node.rollout.reports import Report
from node.web.accounts import create_user
from orchestration.sandbox_partners import SandboxPartners, running_partners
from pms_writeback.sandbox.server import SandboxHandle, running
from sample_studies import SampleStudy, catalog

if TYPE_CHECKING:
    from types import FrameType

USERNAME = "demo"
PASSWORD = "bitewing-demo"
_USERS = (
    (USERNAME, "Dr Demo Dentist", Role.DENTIST),
    ("manager", "Pat Office Manager", Role.OFFICE_MANAGER),
)
_STAFF_MAIL = {name: f"{name}@sandbox-dental.example" for name, *_ in _USERS}
_WORKFLOWS = ("preauthorisation", "eligibility", "lab_case", "recall", "recall_interval")
ZONE = "America/New_York"
_CROWN, _CROWN_FEE = "D2740", "1450.00"
_SYNC_WAIT_S = 60.0
_ANALYSIS_WAIT_S = 240.0
#: The one earlier study of a patient of the cast, the same at every start.
_EARLIER_UID = "2.25.41027336109148552093158461710285{:04d}"


@dataclass(frozen=True, slots=True)
class _Ports:
    dicom: int
    http: int


def run_demo(data_dir: Path, *, dicom_port: int, http_port: int, open_browser: bool) -> None:
    """Start everything, send what has not been sent, and wait for Ctrl-C."""
    logs.configure("WARNING")
    console = Console()
    data_dir.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    _on_signal(stop)
    console.print("[bold]Bitewing demo[/] – invented patients; not a medical device, not for care.")
    http_port = http_port or _free_port()
    web_url = f"http://127.0.0.1:{http_port}"
    with (
        running(data_dir / "sandbox-pms.sqlite", time_zone=ZONE) as sandbox,
        running_partners(data_dir, web_url, USERNAME, _STAFF_MAIL) as partners,
    ):
        console.print(f"Sandbox practice (Open Dental API) runs: {sandbox.page_url}")
        config = demo_config(data_dir, sandbox, _Ports(dicom_port, http_port), partners)
        _ensure_users(config)
        _acknowledge(config)
        node = Node(config)
        node.start()
        try:
            _fill(node, console, stop)
            _plan_crowns(sandbox, config)
            _invite(node, sandbox, partners, console, open_browser and not stop.is_set())
            stop.wait()
            console.print("Stopping …")
        finally:
            node.stop()
    console.print("Stopped. The next start goes on from here.")


def demo_config(
    data_dir: Path, sandbox: SandboxHandle, ports: _Ports, partners: SandboxPartners
) -> Config:
    """Configure a node for the sandboxes: loopback only, suggestions shown, short quiet time."""
    return read_config(
        environment={},
        overrides={
            **partners.sections,
            "workflows": {"modes": dict.fromkeys(_WORKFLOWS, "assist")},
            "node": {
                "data_dir": data_dir,
                "practice_name": "Sandbox Dental",
                "time_zone": ZONE,
                "mode": Mode.ASSIST,
                "log_level": "WARNING",
            },
            "dicom": {
                "host": "127.0.0.1",
                "port": ports.dicom,
                "study_quiet_s": 5.0,
                "worklist_days_after": 7,
            },
            "web": {"host": "127.0.0.1", "port": ports.http},
            "pms": {
                "kind": "open_dental",
                "base_url": sandbox.url,
                "developer_key": sandbox.developer_key,
                "customer_key": sandbox.customer_key,
                "poll_s": 15.0,
                "records_s": 15.0,
                "days_after": 45,  # seat visits of lab cases are booked weeks ahead
            },
        },
    )


def _ensure_users(config: Config) -> None:
    """Let a dentist and an office manager in, both with the password of the demo."""
    db = open_database(config.database_url)
    try:
        migrate(db)
        with read(db) as conn:
            known = set(conn.execute(sa.select(user_account.c.username)).scalars())
        for username, name, role in _USERS:
            if username not in known:
                create_user(
                    db,
                    Actor("demo", config.node.location_id),
                    username=username,
                    display_name=name,
                    role=role.value,
                    password=PASSWORD,
                )
    finally:
        db.dispose()


def _acknowledge(config: Config) -> None:
    """Let suggestions in, once: the demo's dentist acknowledges, on a report that compared none.

    In a practice a person reads the cards and the comparison first; here everybody is invented.
    """
    db = open_database(config.database_url)
    try:
        location_id = config.node.location_id
        cards = installed.record(db, Actor("demo", location_id), config.analysis)
        with read(db) as conn:
            is_done = acknowledgements.standing(conn, location_id) is not None or not cards
            user_id = conn.execute(
                sa.select(user_account.c.id).where(
                    user_account.c.location_id == location_id, user_account.c.username == USERNAME
                )
            ).scalar_one()
        if not is_done:
            words = "The demo: nothing was compared, all patients are invented."
            report = Report("silent", 0, 0, 0, notes=(words,))
            let_everything_in(db, Actor(user_id, location_id), cards, report, words)
    finally:
        db.dispose()


def _plan_crowns(sandbox: SandboxHandle, config: Config) -> None:
    """Chart two crowns as the practice would: one planned and costly, one prepared today.

    The next look at the records finds them: the first starts a pre-authorisation, the second a
    lab case. Done once per practice.
    """
    rows = sandbox.rows("procedurelogs")
    codes = {row["ProcCode"]: row["CodeNum"] for row in sandbox.rows("procedurecodes")}
    if any(row["CodeNum"] == codes[_CROWN] and row["ProcFee"] == _CROWN_FEE for row in rows):
        return
    subscriptions = {row["InsSubNum"] for row in sandbox.rows("inssubs") if row["PlanNum"] == 1}
    insured = [p["PatNum"] for p in sandbox.rows("patplans") if p["InsSubNum"] in subscriptions]
    today = datetime.now(config.zone).date().isoformat()
    for patient_key, status, tooth in zip(insured, ("TP", "C"), ("30", "14"), strict=False):
        sandbox.add(
            "procedurelogs",
            PatNum=patient_key,
            ProcStatus=status,
            CodeNum=codes[_CROWN],
            ToothNum=tooth,
            ProvNum=1,
            ProcDate=today,
            DateTP=today,
            ProcFee=_CROWN_FEE,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fill(node: Node, console: Console, stop: threading.Event) -> None:
    """Wait for the schedule, send the studies that are not here yet, wait for their analysis."""
    assert node.listener is not None
    db = open_database(node.config.database_url)
    peer = Peer(node.config.dicom.ae_title, "127.0.0.1", node.listener.port)
    try:
        with Progress(console=console) as bar:
            scheduled = bar.add_task("Pulling today's schedule from the PMS", total=None)
            _until(lambda: _count(db, worklist_item) > 0, _SYNC_WAIT_S, stop)
            bar.update(scheduled, total=1, completed=1)
            studies = catalog()
            sending = bar.add_task("Sending sample studies by C-STORE", total=len(studies))
            for sample in studies:
                if stop.is_set():
                    return
                _send_once(sample, db, peer, node.config)
                bar.advance(sending)
            total = _count(db, study)
            analysing = bar.add_task("Analysing", total=total)

            def is_done() -> bool:
                done = _count(db, study, study.c.state.in_([StudyState.READY, StudyState.SIGNED]))
                bar.update(analysing, completed=done)
                return done >= total

            _until(is_done, _ANALYSIS_WAIT_S, stop)
    finally:
        db.dispose()


def _send_once(sample: SampleStudy, db: sa.Engine, peer: Peer, config: Config) -> None:
    """Ask the worklist as a sensor does, take the patient's item, send the images under it.

    An earlier study is on no schedule: it comes as an archive would send it.
    """
    day = datetime.now(config.zone).date() - timedelta(days=sample.days_ago)
    if sample.days_ago:
        accession, uid = "", _EARLIER_UID.format(int(sample.patient.id))
    else:
        items = query_worklist(peer, patient_id=sample.patient.id)
        item = _item_for(items, sample.modality)
        if item is None:
            return
        accession, uid = item.accession_number, item.study_instance_uid
    if _count(db, study, study.c.study_instance_uid == uid):
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = sample.write(
            Path(folder), accession=accession, study_instance_uid=uid, study_date=day
        )
        report = send_paths(paths, peer, calling_ae="DEMO-SENSOR")
    if report.failed:
        raise Retryable(f"the node refused a sample image: {report.failed[0][1]}")


def _item_for(items: list[ScheduledStep], modality: str) -> ScheduledStep | None:
    exact = [item for item in items if item.modality == modality]
    return next(iter(exact or items), None)


def _invite(
    node: Node,
    sandbox: SandboxHandle,
    partners: SandboxPartners,
    console: Console,
    open_browser: bool,
) -> None:
    url = f"http://127.0.0.1:{node.web_port}/"
    port = node.listener.port if node.listener else 0
    console.print()
    console.print(f"  Review page   [bold]{url}[/]   sign in: [bold]{USERNAME}[/] / {PASSWORD}")
    console.print(f"  Workflows     {url}workflows   (manager / {PASSWORD})")
    console.print(f"  Practice      {sandbox.page_url}   (what was written to the chart)")
    for name, page in partners.pages.items():
        console.print(f"  {name:<13} {page}   (invented)")
    console.print(f"  DICOM         {node.config.dicom.ae_title}@127.0.0.1:{port}   (C-STORE, MWL)")
    console.print("  Ctrl-C ends everything.")
    if open_browser:
        with suppress(webbrowser.Error):
            webbrowser.open(url)


def _count(db: sa.Engine, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    with read(db) as conn:
        query = sa.select(sa.func.count()).select_from(table).where(*where)
        return int(conn.execute(query).scalar_one())


def _until(condition: Callable[[], bool], timeout_s: float, stop: threading.Event) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and not stop.wait(0.25):
        if time.monotonic() > deadline:
            logging.getLogger("bitewing").warning("the demo goes on without waiting any longer")
            return


def _on_signal(stop: threading.Event) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
