"""A practice, an inbox, a sandbox laboratory and the lab case workflow on one clock."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI

from node.config import read_config
from node.db.session import read
from node.db.tables import approval, case_entry, patient, pms_command, workflow_case
from node.engine import DurableEngine
from node.web.accounts import create_user
from orchestration import webhooks
from orchestration.cases import OPEN, CaseState
from orchestration.labs import fetching
from orchestration.labs.sandbox.server import LabHandle, running_lab
from orchestration.messengers.office import link_key
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.workflow import Workflow
from orchestration.workflows import lab_case, open_sources
from pms_writeback import outbox
from pms_writeback.opendental import OpenDental
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import SandboxHandle, running, serving
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until

#: A patient of the sandbox practice, and the number under which texts arrive.
ADA, NUMBER = 21, "+12125550121"
#: What the chart cannot say of a crown; a person fills it in.
MISSING: dict[str, Any] = {
    "stage": "final",
    "material": "zirconia_monolithic",
    "thickness_mm": 1.5,
    "shade": {"guide": "vita_classical", "value": "A2"},
    "margin": {"design": "chamfer", "level": "equigingival"},
    "occlusion": {"contact": "light"},
    "proximal": {"contact": "normal"},
    "records": {"impression": "scan", "opposing": "scan", "bite": "scan"},
}


@dataclass
class LabWorld:
    """Everything at hand; `day` lets a day pass for the practice, the laboratory and the node."""

    work: Clockwork
    flow: Workflow
    office: SandboxHandle
    inbox: InboxHandle
    lab: LabHandle
    sync: ScheduleSync
    records: Warehouse
    folder: Path
    dentist: str
    visit: int = 0

    # --- the practice ---

    def prepare_crown(self, *, days_to_seat: int = 17, tooth: str = "19") -> int:
        """Complete a crown preparation today, with the seat visit booked; returns its key."""
        office = self.office
        for row in office.rows("appointments"):
            if row["PatNum"] == ADA:
                office.delete_appointment(int(row["AptNum"]))
        office.change("patients", ADA, WirelessPhone=NUMBER, TxtMsgOk="Yes", Email="")
        today = self.today
        self.visit = int(str(self.book(today + timedelta(days=days_to_seat))["AptNum"]))
        codes = {row["ProcCode"]: row["CodeNum"] for row in office.rows("procedurecodes")}
        self.pull()
        row = office.add(
            "procedurelogs", PatNum=ADA, ProcStatus="C", CodeNum=codes["D2740"], ToothNum=tooth,
            ProvNum=1, ProcDate=today.isoformat(), DateTP=today.isoformat(),
        )  # fmt: skip
        return int(str(row["ProcNum"]))

    def book(self, day: date, hour: int = 10) -> Mapping[str, object]:
        return self.office.add(
            "appointments", PatNum=ADA, AptStatus="Scheduled", Op=1, ProvNum=1, Pattern="X" * 12,
            AptDateTime=f"{day.isoformat()} {hour:02d}:00:00",
        )  # fmt: skip

    def scan(self, *names: str) -> None:
        """Export files from the scanner into the patient's folder."""
        folder = self.folder / "scans" / str(ADA)
        folder.mkdir(parents=True, exist_ok=True)
        stamp = self.work.now.timestamp()
        for number, name in enumerate(names or ("prep.stl", "opposing.stl", "bite.stl")):
            facets = 4 + number + self.work.now.day
            path = folder / name
            path.write_bytes(bytes(80) + struct.pack("<I", facets) + bytes(50 * facets))
            os.utime(path, (stamp, stamp))

    def pull(self) -> None:
        """Read the practice as the node does, tell the workflows, and write what they queued."""
        report = self.sync.run_once(self.work.now)
        assert report.is_ok, report.error
        self.records.reconcile(self.work.now)
        self.work.hooks.run_once()
        self.settle()

    def settle(self) -> None:
        self.work.settle()
        until(lambda: all(row.state in ("done", "failed") for row in self.rows(pms_command)))

    @property
    def today(self) -> date:
        return self.work.now.astimezone(self.work.config.zone).date()

    # --- time ---

    def hours(self, count: float) -> None:
        """Let hours pass for the laboratory, then for the node, a day at most at once."""
        left = count
        while left > 0:
            step = min(24.0, left)
            self.work.pass_time(hours=step)
            self.lab.work()
            self.settle()
            left -= step
        self.pull()

    def days(self, count: int) -> None:
        self.hours(24 * count)

    # --- the case ---

    def rows(self, table: sa.Table) -> list[sa.Row]:  # type: ignore[type-arg]
        with read(self.work.db) as conn:
            return list(conn.execute(sa.select(table)))

    @property
    def case(self) -> sa.Row:  # type: ignore[type-arg]
        (only,) = self.rows_of_cases()
        return only

    def rows_of_cases(self) -> list[sa.Row]:  # type: ignore[type-arg]
        return [row for row in self.rows(workflow_case) if row.workflow == "lab_case"]

    @property
    def state(self) -> str:
        """The laboratory state of the case."""
        return str(self.case.data.get("standing", {}).get("state", "draft"))

    @property
    def result(self) -> str:
        row = self.case
        return row.stage if CaseState(row.state) not in OPEN else ""

    @property
    def asked(self) -> str:
        """The kind of the one question that waits; empty for none."""
        self.work.settle()
        kinds = [row.kind for row in self.rows(approval) if row.state == "waiting"]
        assert len(kinds) <= 1, kinds
        return kinds[0] if kinds else ""

    def decide(self, verdict: str = "approved", **change: Any) -> None:
        """Decide what is asked; `change` edits the prescription, `choice` and others the draft."""
        question = self.work.question(self.case.id)
        draft, reason = None, ""
        if verdict != "approved":
            reason = "because I say so"
        if verdict == "edited":
            draft = dict(question.draft)
            if "rx" in change:
                draft["rx"] = merged(draft["rx"], change.pop("rx"))
            draft |= change
        self.work.decide(self.case.id, verdict, draft=draft, reason=reason, by=self.dentist)
        self.settle()

    def prescribe(self) -> None:
        """Walk from the preparation to a package that lies at the laboratory."""
        self.scan()
        self.prepare_crown()
        self.pull()
        assert self.asked == "complete_prescription", self.explain()
        self.decide("edited", rx=MISSING)
        assert self.asked == "sign_prescription", self.explain()
        self.decide()

    def explain(self) -> str:
        row = self.case
        words = [(r.kind, r.stage, r.detail) for r in self.rows(case_entry)][-4:]
        return f"{row.state} {row.stage} {row.error} {row.data.get('check')} {words}"

    # --- what others see ---

    def log(self) -> list[str]:
        return [str(row["Note"]) for row in self.office.rows("commlogs") if row["PatNum"] == ADA]

    def tasks(self) -> list[str]:
        return [str(row["Descript"]) for row in self.office.rows("tasks") if row["KeyNum"] == ADA]

    def lab_cases(self) -> list[Mapping[str, object]]:
        return [row for row in self.office.rows("labcases") if row["PatNum"] == ADA]

    def texts(self) -> list[str]:
        return [each.text for each in self.inbox.messages("sms", NUMBER)]

    def patient_id(self) -> str:
        with read(self.work.db) as conn:
            return conn.execute(
                sa.select(patient.c.id).where(patient.c.pms_key == str(ADA))
            ).scalar_one()


def merged(before: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Edit a prescription's JSON, field within field."""
    found = dict(before)
    for name, value in change.items():
        is_deep = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if is_deep else value
    return found


@contextmanager
def lab_world(
    db: sa.Engine,
    engine: DurableEngine,
    folder: Path,
    *,
    transport: str = "api",
    mode: str = "assist",
    now: datetime = NINE,
    **section: object,
) -> Iterator[LabWorld]:
    made: list[Clockwork] = []

    def clock() -> datetime:
        return made[0].now if made else now

    app = FastAPI()
    with (
        running_inbox(folder) as inbox,
        serving(app) as url,
        running_lab(folder / "lab", clock=clock, callback_url=f"{url}/hooks/lab-sandbox") as lab,
        running(folder / "pms.sqlite", clock=clock, seed_patients=30) as office,
    ):
        mailed = {"key": "mail", "name": "Mail Lab", "transport": "email",
                  "email": "cases@lab.example", "email_form": "link",
                  "is_sandbox": True}  # fmt: skip
        way = mailed if transport == "email" else lab.settings(transport)
        entry = {**way, "pms_key": "2", "prices": {"crown": 185.0}}
        if transport != "api":
            lab.caller.url = ""
        sections: dict[str, dict[str, object]] = {
            "node": {"data_dir": folder, "practice_name": "Main Street Dental"},
            "messengers": inbox.settings(url),
            "workflows": {"modes": {"lab_case": mode}},
            "pms": {
                "kind": "open_dental",
                "days_after": 60,
                "base_url": office.url,
                "developer_key": office.developer_key,
                "customer_key": office.customer_key,
            },
            "labs": {
                "practice_address": "1 Main Street",
                "contact": "Pat",
                "infection_control": "disinfected",
                "scans_dir": str(folder / "scans"),
                "tell_patients": True,
                "poll_hours": 24,
                "partners": [entry],
                "prescribers": [
                    {"user": "marsh", "provider": "1", "name": "Ada Marsh DDS",
                     "licence_number": "12345", "licence_state": "NY"},
                ],
                **section,
            },
        }  # fmt: skip
        node = {"time_zone": "America/New_York", **sections["node"]}
        config = read_config(environment={}, overrides={**sections, "node": node})
        flow = lab_case.make(config)
        work = Clockwork(db, engine, folder, flow, now=now, **sections)
        made.append(work)
        inbox.web.clock = clock  # type: ignore[attr-defined]
        pms = open_pms(work.config)
        assert isinstance(pms, OpenDental)
        outbox.register(engine, db, work.store, pms, work.config)
        app.include_router(webhooks.make_router(work.runner, open_sources(work.config, db)))
        app.include_router(fetching.make_router(work.runner, link_key(work.config)))
        dentist = create_user(
            db, ACTOR, username="marsh", display_name="Ada Marsh", role="dentist",
            password="a long password 1",
        )  # fmt: skip
        world = LabWorld(
            work, flow, office, inbox, lab, ScheduleSync(db, pms, work.config),
            Warehouse(db, pms, work.config), folder, dentist,
        )  # fmt: skip
        yield world
        pms.close()
