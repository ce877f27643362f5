"""A practice, an inbox and the recall workflow on one clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI

from node.config import read_config
from node.db.session import begin, new_id, read
from node.db.tables import (
    approval,
    message,
    patient,
    pms_command,
    review,
    study,
    workflow_case,
)
from node.domain.events import EventKind
from node.domain.findings import Box, CariesDepth, DecisionState, Finding, FindingKind
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.study import MatchState, StudyState
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from node.web.accounts import create_user
from orchestration import webhooks
from orchestration.cases import OPEN, CaseState
from orchestration.messengers import stop_page
from orchestration.messengers.office import link_key
from orchestration.messengers.sandbox.server import InboxHandle, running_inbox
from orchestration.recall import policy, templates
from orchestration.recall.segments import Segment
from orchestration.workflow import Workflow
from orchestration.workflows import open_sources, recall
from pms_writeback import outbox
from pms_writeback.opendental import OpenDental
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import SandboxHandle, running, serving
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until

#: Patients of the sandbox practice that the tests use, and their numbers.
ADA, BEN = 21, 22
NUMBERS = {ADA: "+12125550121", BEN: "+12125550122"}


@dataclass
class World:
    """Everything at hand; `pull` reads the practice, `pass_time` moves all clocks."""

    work: Clockwork
    flow: Workflow
    office: SandboxHandle
    inbox: InboxHandle
    sync: ScheduleSync
    records: Warehouse
    url: str
    sections: dict[str, dict[str, object]]

    @property
    def now(self) -> datetime:
        return self.work.now

    def due(
        self, key: int, day: date, *, type_key: int = 1, mobile: str = "", **patient_values: str
    ) -> None:
        """Make one patient of the practice due on a day, with no visit and no other recall."""
        for row in self.office.rows("appointments"):
            if row["PatNum"] == key:
                self.office.delete_appointment(int(row["AptNum"]))
        for row in self.office.rows("procedurelogs"):
            if row["PatNum"] == key:  # long ago, so that the chart's due day holds
                self.office.change("procedurelogs", row["ProcNum"], ProcDate="2024-02-01")
        for row in self.office.rows("recalls"):
            if row["PatNum"] == key:
                mine = row["RecallTypeNum"] == type_key
                values = {"IsDisabled": "false" if mine else "true", "DateDue": day.isoformat()}
                previous = (day - timedelta(days=183)).isoformat()
                self.office.change("recalls", row["RecallNum"], **values, DatePrevious=previous)
        number = mobile or NUMBERS.get(key, f"+12125551{key:03}")
        values = {"WirelessPhone": number, "TxtMsgOk": "Yes", "Email": ""}
        self.office.change("patients", key, **{**values, **patient_values})

    def low_risk(self, key: int) -> None:
        """Give a patient that was pulled signed images without a finding and calm gums."""
        for row in self.office.rows("perioexams"):
            if row["PatNum"] == key:
                self.office.change("perioexams", row["PerioExamNum"], ExamDate="2015-01-01")
        day = (self.now - timedelta(days=60)).date().isoformat()
        exam = self.office.add("perioexams", PatNum=key, ProvNum=3, ExamDate=day)
        self.office.add(
            "periomeasures", PerioExamNum=exam["PerioExamNum"], SequenceType="Probing",
            IntTooth=3, ToothValue=-1, MBvalue=2, Bvalue=3, DBvalue=2, MLvalue=3, Lvalue=2,
            DLvalue=3,
        )  # fmt: skip
        self.sign(key)

    def sign(self, key: int, *teeth: str) -> str:
        """Sign a review of a patient's images with caries into dentine on these teeth."""
        findings = tuple(
            SignedFinding(
                new_id(), "i", "1.2", "ai", DecisionState.ACCEPTED,
                Finding(
                    FindingKind.CARIES, Box(0, 0, 9, 9), Tooth(tooth), (Surface.MESIAL,),
                    depth=CariesDepth.D2,
                ),
                None,
            )
            for tooth in teeth
        )  # fmt: skip
        study_id, user_id = new_id(), self.add_user()
        signed = SignedReview(
            study_id, "1.2.3", 1, user_id, "Dr Test", "dentist", self.now, "mine", "", "0", (),
            findings, (), DecisionCounts(len(findings), len(findings), 0, 0, 0),
        )  # fmt: skip
        with begin(self.work.db, ACTOR, "test.signed") as tx:
            tx.conn.execute(
                study.insert().values(
                    id=study_id, location_id="main",
                    study_instance_uid=f"2.25.{int(study_id, 16)}",
                    state=StudyState.SIGNED.value, match_state=MatchState.MATCHED.value,
                    patient_id=self.patient_id(key), received_at=self.now, last_image_at=self.now,
                )
            )  # fmt: skip
            tx.conn.execute(
                review.insert().values(
                    id=new_id(), location_id="main", study_id=study_id, version=1,
                    signed_by=user_id, signer_name="Dr Test", signer_role="dentist",
                    statement="mine", content_hash="0" * 64, content=signed.to_json(),
                    software_version="0", signed_at=self.now,
                )
            )  # fmt: skip
            tx.append_event(EventKind.REVIEW_SIGNED, study_id, f"signed:{study_id}:1")
        return study_id

    def book(self, key: int, day: str) -> None:
        """Book the patient's living recall, as the front desk does."""
        for row in self.office.rows("recalls"):
            if row["PatNum"] == key and row["IsDisabled"] == "false":
                self.office.change("recalls", row["RecallNum"], DateScheduled=day)

    def nobody_else_due(self) -> None:
        """Switch every recall of the practice off."""
        for row in self.office.rows("recalls"):
            self.office.change("recalls", row["RecallNum"], IsDisabled="true")

    def pull(self) -> None:
        """Read the practice as the node does, and tell the workflows."""
        report = self.sync.run_once(self.now)
        assert report.is_ok, report.error
        self.records.reconcile(self.now)
        self.tell()

    def tell(self) -> None:
        self.work.hooks.run_once()
        self.work.settle()

    def sweep(self) -> None:
        self.work.hooks.run_daily()
        self.work.settle()

    def pass_days(self, days: int) -> None:
        """Let days pass, each with its sweep."""
        for _ in range(days):
            self.work.pass_time(days=1)

    def patient_id(self, key: int) -> str:
        with read(self.work.db) as conn:
            return conn.execute(
                sa.select(patient.c.id).where(patient.c.pms_key == str(key))
            ).scalar_one()

    def cases(self, key: int | None = None) -> list[sa.Row]:  # type: ignore[type-arg]
        query = sa.select(workflow_case).where(workflow_case.c.workflow == "recall")
        if key is not None:
            query = query.where(workflow_case.c.patient_id == self.patient_id(key))
        with read(self.work.db) as conn:
            return list(conn.execute(query.order_by(workflow_case.c.created_at)))

    def case(self, key: int) -> sa.Row:  # type: ignore[type-arg]
        (only,) = self.cases(key)
        return only

    def result(self, key: int) -> str:
        """Give the word with which a patient's case ended; empty while it is open."""
        row = self.case(key)
        return row.stage if CaseState(row.state) not in OPEN else ""

    def approve_all(self) -> int:
        """Approve whatever is asked, as the front desk in the morning."""
        self.work.settle()
        with read(self.work.db) as conn:
            asked = conn.execute(
                sa.select(approval.c.case_id).where(approval.c.state == "waiting")
            ).scalars().all()  # fmt: skip
        for case_id in asked:
            self.work.decide(case_id)
        return len(asked)

    def texts(self, key: int) -> list[str]:
        return [each.text for each in self.inbox.messages("sms", NUMBERS[key])]

    def rows(self, table: sa.Table) -> list[sa.Row]:  # type: ignore[type-arg]
        with read(self.work.db) as conn:
            return list(conn.execute(sa.select(table)))

    def entries(self, key: int) -> list[str]:
        """Read the patient's communication log in the practice, once all writes have landed."""
        self.written()
        return [str(row["Note"]) for row in self.office.rows("commlogs") if row["PatNum"] == key]

    def status(self, key: int) -> str:
        """Read the status of the patient's living recall in the practice."""
        self.written()
        names = {row["DefNum"]: str(row["ItemName"]) for row in self.office.rows("definitions")}
        (row,) = [
            row for row in self.office.rows("recalls")
            if row["PatNum"] == key and row["IsDisabled"] == "false"
        ]  # fmt: skip
        return names.get(row["RecallStatus"], "")

    def tasks(self, key: int) -> list[str]:
        self.written()
        return [str(row["Descript"]) for row in self.office.rows("tasks") if row["KeyNum"] == key]

    def written(self) -> None:
        until(lambda: all(row.state == "done" for row in self.rows(pms_command)))

    def approve_policy(self, segment: str, *names: str) -> None:
        user_id = self.add_user()
        for template in templates.load().texts.values():
            if template.name in names:
                with begin(self.work.db, ACTOR, "test.policy") as tx:
                    policy.approve(
                        tx, Segment(segment), template, by=user_id, reason="read and fine",
                        ends_at=tx.now + timedelta(days=300),
                    )  # fmt: skip

    def add_user(self) -> str:
        return create_user(
            self.work.db, ACTOR, username=f"desk-{new_id()[:8]}",
            display_name="Front Desk", role="front_desk", password="a long password 1",
        )  # fmt: skip

    def sent(self) -> list[str]:
        return [row.state for row in self.rows(message)]


@contextmanager
def recall_world(
    db: sa.Engine,
    engine: DurableEngine,
    folder: Path,
    now: datetime = NINE,
    modes: dict[str, str] | None = None,
    **section: object,
) -> Iterator[World]:
    made: list[Clockwork] = []

    def clock() -> datetime:
        return made[0].now if made else now

    app = FastAPI()
    with (
        running_inbox(folder) as inbox,
        serving(app) as url,
        running(folder / "pms.sqlite", clock=clock, seed_patients=30) as office,
    ):
        sections: dict[str, dict[str, object]] = {
            "node": {"data_dir": folder, "practice_name": "Main Street Dental"},
            "messengers": inbox.settings(url),
            "recall": {"phone": "212-555-0100", "status_texted": "Texted", **section},
            "workflows": {"modes": modes or {"recall": "assist"}},
            "pms": {
                "kind": "open_dental",
                "base_url": office.url,
                "developer_key": office.developer_key,
                "customer_key": office.customer_key,
            },
        }
        node = {"time_zone": "America/New_York", **sections["node"]}
        config = read_config(environment={}, overrides={**sections, "node": node})
        flow = recall.make(config, link_key(config))
        work = Clockwork(db, engine, folder, flow, now=now, **sections)
        made.append(work)
        inbox.web.clock = clock
        pms = open_pms(work.config)
        assert isinstance(pms, OpenDental)
        outbox.register(engine, db, work.store, pms, work.config)
        app.include_router(webhooks.make_router(work.runner, open_sources(work.config, db)))
        app.include_router(stop_page.make_router(work.runner, link_key(work.config)))
        world = World(
            work, flow, office, inbox, ScheduleSync(db, pms, work.config),
            Warehouse(db, pms, work.config), url, sections,
        )  # fmt: skip
        world.nobody_else_due()
        yield world
        pms.close()
