"""A practice, a payer and the pre-authorisation workflows on one clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pydicom
import sqlalchemy as sa

from node.config import read_config
from node.db.session import begin, new_id, read
from node.db.tables import (
    analysis_run,
    approval,
    patient,
    payer_mail,
    pms_command,
    review,
    study,
    tooth_mark,
    user_account,
    workflow_case,
)
from node.dicom.store import Incoming, receive
from node.domain.events import EventKind
from node.domain.findings import Box, CariesDepth, DecisionState, Disposition, Finding, FindingKind
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.study import MatchState, StudyState
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from orchestration.payers.mail import Mailbox
from orchestration.payers.office import PayerOffice
from orchestration.payers.sandbox.desk import FaultKind
from orchestration.payers.sandbox.server import PayerHandle, running_payer
from orchestration.workflow import Draft, Workflow
from orchestration.workflows import eligibility, preauthorisation
from pms_writeback import outbox
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.sandbox.server import SandboxHandle, running
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse
from sample_studies import catalog
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until

ANSWERS = {
    "sound_structure": "40",
    "placement": "initial",
    "why_not_filling": "distolingual cusp undermined",
    "prognosis": "good",
    "bleeding": "generalised",
}


@dataclass
class World:
    """Everything at hand; `pull` reads the practice, `hours` and `days` move all clocks."""

    work: Clockwork
    flow: Workflow
    office: SandboxHandle
    payer: PayerHandle
    sync: ScheduleSync
    records: Warehouse
    mailbox: Mailbox
    key: int  # of the insured patient in the practice
    sections: dict[str, dict[str, object]]

    def pull(self) -> None:
        """Read the practice as the node does once all writes landed, and tell the workflows."""
        self.written()
        assert self.sync.run_once(self.work.now).is_ok
        self.records.reconcile(self.work.now)
        self.work.hooks.run_once()
        self.work.settle()

    def hours(self, hours: float) -> None:
        """Let time pass; then the payer's mail is read."""
        self.work.pass_time(hours=hours)
        self.poll()

    def days(self, days: int) -> None:
        for _ in range(days):
            self.hours(24)

    def poll(self) -> int:
        count = self.mailbox.poll()
        self.work.settle()
        return count

    def plan_crown(self, tooth: str = "30", fee: str = "1450.00") -> str:
        """Plan a crown in the chart, as the dentist's program would."""
        return self.plan("D2740", fee, ToothNum=tooth)

    def plan(self, code: str, fee: str, **values: str) -> str:
        codes = {r["ProcCode"]: r["CodeNum"] for r in self.office.rows("procedurecodes")}
        day = f"{self.work.now:%Y-%m-%d}"
        row = self.office.add(
            "procedurelogs", PatNum=self.key, ProcStatus="TP", CodeNum=codes[code], ProvNum=1,
            ProcDate=day, DateTP=day, ProcFee=fee, **values,
        )  # fmt: skip
        return str(row["ProcNum"])

    @property
    def patient_id(self) -> str:
        with read(self.work.db) as conn:
            return conn.execute(
                sa.select(patient.c.id).where(patient.c.pms_key == str(self.key))
            ).scalar_one()

    def sign_film(
        self,
        teeth: tuple[str, ...] = ("46", "47"),
        disposition: Disposition = Disposition.RESTORE,
        day: date | None = None,
    ) -> str:
        """Receive a bitewing of the patient, analyse it, sign one caries; returns the study."""
        taken = day or self.work.now.date()
        uid = "1.2.826.0.1." + str(int(new_id()[:12], 16))
        study_id, image_id, sop_uid = self._receive(uid, taken)
        finding = Finding(
            FindingKind.CARIES, Box(100.0, 100.0, 160.0, 170.0), Tooth(teeth[0]),
            (Surface.DISTAL, Surface.OCCLUSAL), CariesDepth.D3,
        )  # fmt: skip
        signed = SignedFinding(
            new_id(), image_id, sop_uid, "human", DecisionState.ACCEPTED, finding, disposition
        )
        whole = SignedReview(
            study_id, uid, 1, self._user(), "Dr Test", "dentist", self.work.now, "mine", "", "0",
            ((image_id, sop_uid),), (signed,), (), DecisionCounts(0, 0, 0, 0, 1),
        )  # fmt: skip
        with begin(self.work.db, ACTOR, "test.signed") as tx:
            tx.conn.execute(
                study.update().where(study.c.id == study_id).values(
                    patient_id=self.patient_id, match_state=MatchState.MATCHED.value,
                    state=StudyState.SIGNED.value, review_version=1, study_date=f"{taken:%Y%m%d}",
                )
            )  # fmt: skip
            run_id = new_id()
            tx.conn.execute(
                analysis_run.insert().values(
                    id=run_id, location_id="main", instance_id=image_id, pipeline="test",
                    view="bitewing", view_probability=0.99, models=[], absent=[], notes=[],
                    side="R", started_at=tx.now, finished_at=tx.now,
                )
            )  # fmt: skip
            for tooth in teeth:
                tx.conn.execute(
                    tooth_mark.insert().values(
                        id=new_id(), location_id="main", run_id=run_id, instance_id=image_id,
                        tooth=tooth, box=[[1.0, 1.0], [9.0, 9.0]], probability=0.9,
                    )
                )  # fmt: skip
            tx.conn.execute(
                review.insert().values(
                    id=new_id(), location_id="main", study_id=study_id, version=1,
                    signed_by=whole.signer_id, signer_name="Dr Test", signer_role="dentist",
                    statement="mine", reason="", content_hash="0" * 64,
                    content={**whole.to_json(), "patient_id": self.patient_id},
                    software_version="0", signed_at=whole.signed_at,
                )
            )  # fmt: skip
            tx.append_event(EventKind.REVIEW_SIGNED, study_id, f"signed:{study_id}:1", {})
        self.work.hooks.run_once()
        self.work.settle()
        return study_id

    # --- the case ---

    def cases(self) -> list[sa.Row]:  # type: ignore[type-arg]
        with read(self.work.db) as conn:
            return list(
                conn.execute(
                    sa.select(workflow_case)
                    .where(workflow_case.c.workflow == self.flow.name)
                    .order_by(workflow_case.c.created_at)
                )
            )

    @property
    def case_id(self) -> str:
        (only,) = self.cases()
        return str(only.id)

    @property
    def result(self) -> str:
        row = self.work.case(self.case_id)
        return str(row.stage) if row.state == "done" else ""

    def asked(self) -> str:
        """Name what the case asks, empty when nothing."""
        self.work.settle()
        with read(self.work.db) as conn:
            found = conn.execute(
                sa.select(approval.c.kind).where(
                    approval.c.case_id == self.case_id, approval.c.state == "waiting"
                )
            ).scalar()
        return str(found or "")

    def answer_questions(self) -> None:
        """Answer as the dentist, whatever is asked."""
        draft: Draft = dict(self.work.question(self.case_id).draft)
        questions = draft["questions"]
        assert isinstance(questions, list)
        draft["answers"] = {
            str(q["id"]): ANSWERS[str(q["id"]).partition(":")[0]]
            for q in questions
            if isinstance(q, dict)
        }
        self.work.decide(self.case_id, "edited", draft=draft, reason="examined")

    def approve(self) -> None:
        self.work.decide(self.case_id)

    def send(self, fault: FaultKind | None = None) -> None:
        """Walk from a planned crown with its film to a claim at the payer.

        `fault` is armed right before the approval.
        """
        self.sign_film()
        self.plan_crown()
        self.pull()
        self.answer_questions()
        if fault is not None:
            self.payer.fault(fault)
        self.approve()

    # --- what is written ---

    def written(self) -> None:
        """Wait until every command has landed."""

        def is_done() -> bool:
            with read(self.work.db) as conn:
                states = set(conn.execute(sa.select(pms_command.c.state)).scalars())
            return states <= {"done"}

        until(is_done)

    def notes(self, resource: str, field: str) -> list[str]:
        self.written()
        return [str(row[field]) for row in self.office.rows(resource)]

    def mails(self) -> list[str]:
        with read(self.work.db) as conn:
            return list(
                conn.execute(sa.select(payer_mail.c.state).order_by(payer_mail.c.at)).scalars()
            )

    def _user(self) -> str:
        with begin(self.work.db, ACTOR, "test.user") as tx:
            known = tx.conn.execute(sa.select(user_account.c.id)).scalar()
            if known is not None:
                return str(known)
            user_id = new_id()
            tx.conn.execute(
                user_account.insert().values(
                    id=user_id, location_id="main", username="d", display_name="Dr Test",
                    role="dentist", password_hash="-",
                )
            )  # fmt: skip
        return user_id

    def _receive(self, uid: str, day: date) -> tuple[str, str, str]:
        sample = next(sample for sample in catalog() if sample.key == "bitewing-1")
        (path,) = sample.write(
            self.work.config.node.data_dir / f"film-{uid}", accession="", study_instance_uid=uid,
            study_date=day,
        )  # fmt: skip
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1"
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        content = buffer.getvalue()
        # behind preamble, DICM and the file meta group (PS3.10 7.1)
        begin_at = 144 + int.from_bytes(content[140:144], "little")
        outcome = receive(
            self.work.db, self.work.store, self.work.engine,
            Incoming(
                memoryview(content[begin_at:]), str(ds.SOPClassUID), str(ds.SOPInstanceUID),
                str(ds.file_meta.TransferSyntaxUID), "SENSOR",
            ),
            location_id="main",
        )  # fmt: skip
        return outcome.study_id, outcome.instance_id, str(ds.SOPInstanceUID)


@contextmanager
def preauth_world(
    db: sa.Engine,
    engine: DurableEngine,
    folder: Path,
    now: datetime = NINE,
    mode: str = "assist",
    gateway: dict[str, object] | None = None,
) -> Iterator[World]:
    made: list[Clockwork] = []

    def clock() -> datetime:
        return made[0].now if made else now

    with (
        running_payer(folder, clock=clock, answer_after=timedelta(days=3)) as payer,
        running(folder / "pms.sqlite", clock=clock, seed_patients=30) as office,
    ):
        sections: dict[str, dict[str, object]] = {
            "node": {"data_dir": folder, "practice_name": "Main Street Dental"},
            "payers": payer.settings(),
            "gateway": gateway or {},
            "workflows": {"modes": {"preauthorisation": mode, "eligibility": mode}},
            "pms": {
                "kind": "open_dental",
                "base_url": office.url,
                "developer_key": office.developer_key,
                "customer_key": office.customer_key,
            },
        }
        node = {"time_zone": "America/New_York", **sections["node"]}
        config = read_config(environment={}, overrides={**sections, "node": node})
        payers = PayerOffice(config, db)
        flow, evening = preauthorisation.make(payers), eligibility.make(payers)
        work = Clockwork(db, engine, folder, flow, evening, now=now, **sections)
        made.append(work)
        pms = OpenDental(
            OpenDentalSettings(
                base_url=office.url, developer_key=office.developer_key,
                customer_key=office.customer_key, time_zone="America/New_York",
                task_list="AI Imaging Review", task_user="bitewing",
            ),
            clock,
        )  # fmt: skip
        outbox.register(engine, db, work.store, pms, work.config)
        world = World(
            work, flow, office, payer, ScheduleSync(db, pms, work.config),
            Warehouse(db, pms, work.config),
            Mailbox(db, engine, payers.house, flow.name, "main"),
            _insured(office), sections,
        )  # fmt: skip
        for row in office.rows("procedurelogs"):  # nobody else's plan starts a case
            if row["ProcStatus"] in ("TP", "TPi"):
                office.change("procedurelogs", int(row["ProcNum"]), ProcStatus="C")
        assert world.sync.run_once(now).is_ok
        world.records.reconcile(now)
        work.hooks.run_once()
        yield world
        payers.house.close()
        pms.close()


def _insured(office: SandboxHandle) -> int:
    """Find a patient whose plan the sandbox payer's own rule pack is about."""
    ours = {row["InsSubNum"] for row in office.rows("inssubs") if row["PlanNum"] == 1}
    return next(int(row["PatNum"]) for row in office.rows("patplans") if row["InsSubNum"] in ours)
