"""A node's tables beside a sandbox practice: what the workflow tests stand on."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import Actor, begin, new_id, read
from node.db.tables import (
    appointment,
    instance,
    patient,
    pms_command,
    review,
    study,
    user_account,
    workflow_case,
)
from node.dicom.instances import FolderStore
from node.dicom.store import Incoming, receive
from node.domain import jobs
from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
)
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.study import MatchState, StudyState
from node.domain.teeth import Surface, Tooth
from node.engine import WORKFLOWS, DurableEngine
from orchestration.workflows import chart_findings, flag_study
from pms_writeback import outbox
from pms_writeback.pms import Pms
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import SandboxHandle
from pms_writeback.sync import ScheduleSync
from sample_studies import catalog
from tests.roll_out import acknowledge

ACTOR = Actor("test", "main")
MODEL = ModelVersion("intraoral", "1", "c" * 64)


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


class Practice:
    """A node's tables beside a sandbox practice, with one study of a patient ready to sign."""

    patient_key = "2"

    def __init__(
        self,
        db: sa.Engine,
        engine: DurableEngine,
        folder: Path,
        sandbox: SandboxHandle,
        **node: str,
    ) -> None:
        self.sandbox = sandbox
        config = read_config(
            environment={},
            overrides={
                "node": {"data_dir": folder, "time_zone": "America/New_York", **node},
                "pms": {
                    "kind": "open_dental",
                    "base_url": sandbox.url,
                    "developer_key": sandbox.developer_key,
                    "customer_key": sandbox.customer_key,
                },
            },
        )
        pms = open_pms(config)
        assert pms is not None
        self._set_up(db, engine, folder, config, pms)
        if node.get("mode") == "assist":
            acknowledge(db)

    def _set_up(
        self, db: sa.Engine, engine: DurableEngine, folder: Path, config: Config, pms: Pms
    ) -> None:
        self.db, self.engine, self.config = db, engine, config
        self.store = FolderStore(folder / "images")
        outbox.register(engine, db, self.store, pms, self.config)
        self.charting = chart_findings.register(engine, db, self.store, self.config)
        ScheduleSync(db, pms, self.config).run_once(datetime.now(UTC))
        self.study_id, self.image_id, self.sop_uid = self._receive(folder)
        self.user_id = self._user()

    def sign(
        self,
        *findings: SignedFinding,
        version: int = 1,
        reason: str = "",
        models: tuple[ModelVersion, ...] = (MODEL,),
    ) -> SignedReview:
        signed = SignedReview(
            study_id=self.study_id,
            study_instance_uid="1.2.3",
            version=version,
            signer_id=self.user_id,
            signer_name="Dr Test",
            signer_role="dentist",
            signed_at=datetime.now(UTC),
            statement="mine",
            reason=reason,
            software_version="0",
            instances=((self.image_id, self.sop_uid),),
            findings=findings,
            models=models,
            counts=DecisionCounts(len(findings), len(findings), 0, 0, 0),
        )
        owner = self.patient_id
        with begin(self.db, ACTOR, "test.signed") as tx:
            tx.conn.execute(
                review.insert().values(
                    id=new_id(),
                    location_id="main",
                    study_id=self.study_id,
                    version=version,
                    signed_by=self.user_id,
                    signer_name="Dr Test",
                    signer_role="dentist",
                    statement="mine",
                    reason=reason,
                    content_hash="0" * 64,
                    content={**signed.to_json(), "patient_id": owner},
                    software_version="0",
                    signed_at=signed.signed_at,
                )
            )
            self.engine.enqueue(
                tx.conn,
                WORKFLOWS,
                jobs.CHART_FINDINGS,
                jobs.chart_key(self.study_id, version),
                self.study_id,
                version,
            )
        return signed

    def mark(self, kind: FindingKind, tooth: str, disposition: Disposition | None) -> SignedFinding:
        line = Line(((100.0, 100.0), (102.0, 160.0)))
        value = Finding(
            kind,
            line if kind is FindingKind.BONE_LEVEL else Box(100.0, 100.0, 160.0, 170.0),
            Tooth(tooth),
            (Surface.MESIAL,),
            CariesDepth.D1 if kind is FindingKind.CARIES else None,
            value_mm=3.2 if kind is FindingKind.BONE_LEVEL else None,
            probability=0.9,
            model=MODEL,
        )
        state = DecisionState.ACCEPTED
        return SignedFinding(new_id(), self.image_id, self.sop_uid, "ai", state, value, disposition)

    @property
    def patient_id(self) -> str | None:
        with read(self.db) as conn:
            return conn.execute(sa.select(study.c.patient_id)).scalar()

    def states(self) -> set[str]:
        with read(self.db) as conn:
            return set(conn.execute(sa.select(pms_command.c.state)).scalars())

    def states_of_kind(self, kind: str) -> list[str]:
        with read(self.db) as conn:
            query = sa.select(pms_command.c.state).where(pms_command.c.kind == kind)
            return list(conn.execute(query).scalars())

    def is_delivered(self) -> bool:
        with read(self.db) as conn:
            done = conn.execute(sa.select(workflow_case.c.state)).scalars().all()
        return "queued" in done and self.states() == {"done"}

    def sweep(self) -> int:
        return flag_study.sweep(self.db, self.engine, self.store, ACTOR, self.config)

    def spoil_image(self) -> None:
        """Cut the stored film short, as a failing disk would."""
        with read(self.db) as conn:
            key = conn.execute(sa.select(instance.c.storage_key)).scalar_one()
        path = self.store.path(key)
        path.write_bytes(path.read_bytes()[:-5000])

    def set_study(self, **values: object) -> None:
        with begin(self.db, ACTOR, "test") as tx:
            tx.conn.execute(study.update().where(study.c.id == self.study_id).values(**values))

    def _receive(self, folder: Path) -> tuple[str, str, str]:
        sample = next(sample for sample in catalog() if sample.key == "bitewing-1")
        (path,) = sample.write(
            folder / "film",
            accession="",
            study_instance_uid="1.2.3",
            study_date=datetime.now(UTC).date(),
        )
        ds = pydicom.dcmread(path)
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        meta_end = _data_set_start(buffer.getvalue())
        outcome = receive(
            self.db,
            self.store,
            self.engine,
            Incoming(
                memoryview(buffer.getvalue()[meta_end:]),
                str(ds.SOPClassUID),
                str(ds.SOPInstanceUID),
                str(ds.file_meta.TransferSyntaxUID),
                "SENSOR",
            ),
            location_id="main",
        )
        with begin(self.db, ACTOR, "test.matched") as tx:
            visit = tx.conn.execute(
                sa.select(patient.c.id, appointment.c.id.label("visit"))
                .join(appointment, appointment.c.patient_id == patient.c.id)
                .where(patient.c.pms_key == self.patient_key)
                .order_by(
                    sa.func.abs(
                        sa.func.julianday(appointment.c.start_at) - sa.func.julianday("now")
                    )
                )
                .limit(1)
            ).one()
            tx.conn.execute(
                study.update().values(
                    patient_id=visit.id,
                    appointment_id=visit.visit,
                    match_state=MatchState.MATCHED.value,
                    state=StudyState.READY.value,
                )
            )
            tx.conn.execute(instance.update().values(state="analysed"))
        return outcome.study_id, outcome.instance_id, str(ds.SOPInstanceUID)

    def _user(self) -> str:
        user_id = new_id()
        with begin(self.db, ACTOR, "test.user") as tx:
            tx.conn.execute(
                user_account.insert().values(
                    id=user_id,
                    location_id="main",
                    username="d",
                    display_name="Dr Test",
                    role="dentist",
                    password_hash="-",
                )
            )
        return user_id


def _data_set_start(file: bytes) -> int:
    """Where the data set begins: behind preamble, DICM and the file meta group (PS3.10 7.1)."""
    return 144 + int.from_bytes(file[140:144], "little")
