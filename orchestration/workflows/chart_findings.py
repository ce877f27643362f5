"""A signed review flows into the chart.

Started by: a signature (`node.web`), key ``chart:<study>:<version>``. Writes to the PMS: the
chart note (on the visit's imaging procedure, else as a commlog), the report as PDF, each original
image (once, whatever the version) and each annotated image as documents with their teeth, one task
for what is planned; closes the tasks that flagged the study while it was unsigned. An amended
version goes on in the same note and the same task. Approved by: the signature itself; nothing here
adds to it. What could not be charted, as no PMS was configured or the patient was in doubt again,
is charted once that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import (
    appointment,
    instance,
    patient,
    patient_identity,
    pms_command,
    procedure,
    retraction,
    review,
    study,
    workflow_case,
)
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile
from node.dicom.pixels import decode, render8
from node.domain import jobs
from node.domain.findings import Disposition
from node.domain.review import SignedFinding, SignedReview
from node.domain.schedule import IMAGING_CODES
from node.domain.study import MatchState
from node.engine import DurableEngine
from node.errors import InvalidInput
from orchestration.annotated import annotated_png, encode_png
from orchestration.flags import closing_commands
from pms_writeback import notes, outbox, report
from pms_writeback.command_rows import OPEN, CommandState
from pms_writeback.merging import current_patient
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    Command,
    CreateTask,
    UploadDocument,
)
from pms_writeback.task_users import authored

_WORKFLOW = "chart_findings"
#: States of a case that goes on once its patient is certain and there is a PMS.
_WAITING = ("no_pms", "waits_for_patient")
_PLANNED = (Disposition.RESTORE, Disposition.REFER)


@dataclass(frozen=True, slots=True)
class _Visit:
    """Whose chart it is and where in it the note belongs."""

    patient_id: str
    patient_key: str
    procedure_key: str | None
    study_date: str
    accession_number: str


@dataclass(frozen=True, slots=True)
class _Earlier:
    """Where an earlier version stands: its token, and its procedure unless it is no note."""

    ref: str
    procedure_key: str


@dataclass(frozen=True, slots=True)
class Charting:
    """What the workflow needs."""

    db: sa.Engine
    engine: DurableEngine
    store: InstanceStore
    config: Config

    @property
    def _actor(self) -> Actor:
        return Actor("chart-findings", self.config.node.location_id)

    def compose(self, study_id: str, version: int) -> str:
        """Compose every command and queue them in one transaction; returns the case's state.

        Repeating it queues nothing twice: every command has its key.
        """
        if self.config.pms.kind == "none":
            return self._close_case(study_id, version, "no_pms")
        signed, visit = self._read(study_id, version)
        if visit is None:
            return self._close_case(study_id, version, "waits_for_patient")
        commands = [(visit.patient_id, *each) for each in self._commands(signed, visit)]
        commands += self._closed_flags(study_id)
        with begin(self.db, self._actor, "chart.queued") as tx:
            for patient_id, key, command in commands:
                outbox.queue(
                    tx,
                    self.engine,
                    self.store,
                    key=key,
                    command=authored(command, tx.conn, tx.location_id, signed.signer_id),
                    patient_id=patient_id,
                    study_id=study_id,
                    review_version=version,
                )
            self._set_case(tx, study_id, version, "queued")
            tx.record(f"study:{study_id}", version=version, commands=len(commands))
        return "queued"

    def resume(self) -> int:
        """Chart what waited for a PMS or for its patient; returns how many versions were.

        Versions of a study go in their order; none that was taken back, nor one whose patient still
        is in doubt.
        """
        if self.config.pms.kind == "none":
            return 0
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(workflow_case.c.data).where(
                    workflow_case.c.location_id == self.config.node.location_id,
                    workflow_case.c.workflow == _WORKFLOW,
                    workflow_case.c.state.in_(_WAITING),
                )
            ).scalars()
            waiting = sorted((str(data["study_id"]), int(data["version"])) for data in rows)
            taken_back = self._taken_back(conn, {study_id for study_id, _ in waiting})
        standing = [each for each in waiting if each[1] > taken_back.get(each[0], 0)]
        ready = [each for each in standing if self._read(*each)[1] is not None]
        return sum(self.compose(*each) == "queued" for each in ready)

    def _taken_back(self, conn: sa.Connection, study_ids: set[str]) -> dict[str, int]:
        """Read the last version of each study that somebody took back."""
        rows = conn.execute(
            sa.select(retraction.c.study_id, sa.func.max(retraction.c.version).label("version"))
            .where(retraction.c.study_id.in_(study_ids))
            .group_by(retraction.c.study_id)
        )
        return {row.study_id: row.version for row in rows}

    def _commands(self, signed: SignedReview, visit: _Visit) -> list[tuple[str, Command]]:
        commands = [self._note(signed, visit), *self._documents(signed, visit)]
        earlier = self._earlier(signed, visit, "plan")
        if earlier is not None or any(f.disposition in _PLANNED for f in signed.findings):
            commands.append(self._plan(signed, visit, earlier))
        return commands

    def _note(self, signed: SignedReview, visit: _Visit) -> tuple[str, Command]:
        """Compose the note; every version of a study goes on where its first one stands."""
        key, ref = self._key(signed, "note")
        text = notes.chart_note(signed, zone=self.config.zone, ref=ref)
        earlier = self._earlier(signed, visit, "note")
        if earlier is not None and earlier.procedure_key:
            return key, AppendProcedureNote(visit.patient_key, earlier.procedure_key, text, ref)
        if earlier is not None or visit.procedure_key is None:
            follows = earlier.ref if earlier else ""
            return key, AppendCommlog(visit.patient_key, text, signed.signed_at, ref, follows)
        return key, AppendProcedureNote(visit.patient_key, visit.procedure_key, text, ref)

    def _plan(
        self, signed: SignedReview, visit: _Visit, earlier: _Earlier | None
    ) -> tuple[str, Command]:
        key, ref = self._key(signed, "plan")
        amends = earlier is not None
        text = notes.plan_task(signed, zone=self.config.zone, ref=ref, amends=amends)
        return key, CreateTask(visit.patient_key, text, ref, earlier.ref if earlier else "")

    def _earlier(self, signed: SignedReview, visit: _Visit, name: str) -> _Earlier | None:
        """Find the study's summary of an earlier version in this patient's chart."""
        versions = range(signed.version - 1, 0, -1)
        keys = [f"chart:{signed.study_id}:{version}:{name}" for version in versions]
        written = [state.value for state in (*OPEN, CommandState.DONE)]
        with read(self.db) as conn:
            found = conn.execute(
                sa.select(pms_command.c.ref, pms_command.c.payload)
                .where(
                    pms_command.c.location_id == self.config.node.location_id,
                    pms_command.c.patient_id == visit.patient_id,
                    pms_command.c.key.in_(keys),
                    pms_command.c.state.in_(written),
                )
                .order_by(pms_command.c.review_version.desc())
                .limit(1)
            ).first()
            if found is None:
                return None
            procedure_key = str(found.payload["command"].get("procedure_key", ""))
            if procedure_key and not _is_in_chart(conn, self.config, visit, procedure_key):
                return None
        return _Earlier(found.ref, procedure_key)

    def _closed_flags(self, study_id: str) -> list[tuple[str, str, Command]]:
        """Close the tasks that flagged the study, each in the chart where it was made.

        The study may have been linked to another patient since.
        """
        with read(self.db) as conn:
            return [*closing_commands(conn, study_id)]

    def _documents(self, signed: SignedReview, visit: _Visit) -> list[tuple[str, Command]]:
        originals, annotated, pages = [], [], []
        for number, (image_id, path) in enumerate(self._files(signed), start=1):
            try:
                grey = render8(decode(path))
            except InvalidInput:
                continue  # no picture could be shown either; the review says so
            marks = [f for f in signed.findings if f.instance_id == image_id]
            teeth = _universal(marks)
            originals.append(
                self._document(
                    signed, visit, f"image:{image_id}", ".png", encode_png(grey), "Radiograph",
                    teeth, f"Radiograph {number}",
                )
            )  # fmt: skip
            if marks:
                drawn = annotated_png(grey, image_id, signed, self.config.zone)
                pages.append((f"Image {number}", drawn))
                annotated.append(
                    self._document(
                        signed, visit, f"annotated-{number}", ".png", drawn, "Radiograph", teeth,
                        f"Radiograph {number}, AI-assisted, signed findings drawn",
                    )
                )  # fmt: skip
        pdf = report.compose_report(
            signed,
            self._chart_header(visit),
            self.config.node.practice_name,
            self.config.zone,
            pages,
        )
        whole = _universal(signed.findings)
        summary = self._document(
            signed, visit, "report", ".pdf", pdf, "Document", whole,
            f"AI-assisted imaging report, version {signed.version}",
        )  # fmt: skip
        return [summary, *originals, *annotated]

    def _document(
        self,
        signed: SignedReview,
        visit: _Visit,
        name: str,
        extension: str,
        content: bytes,
        image_type: str,
        teeth: tuple[str, ...],
        description: str,
    ) -> tuple[str, Command]:
        key, ref = self._key(signed, name)
        return key, UploadDocument(
            patient_key=visit.patient_key,
            filename=f"{visit.accession_number or 'study'}-{name.split(':')[0]}{extension}",
            extension=extension,
            content=content,
            description=f"{description} {ref}",
            category=self.config.pms.document_category,
            image_type="Document" if image_type == "Document" else "Radiograph",
            tooth_numbers=teeth,
            created=signed.signed_at,
            ref=ref,
        )

    def _key(self, signed: SignedReview, name: str) -> tuple[str, str]:
        version = "" if name.startswith("image:") else f"{signed.version}:"
        key = f"chart:{signed.study_id}:{version}{name}"
        if name.startswith("image:") and (times := self._moved(signed.study_id)):
            key += f":moved-{times}"  # the chart that has it was another patient's
        return key, outbox.ref_for(self.config.node.location_id, key)

    def _moved(self, study_id: str) -> int:
        """How often the study was taken back from a wrong patient's chart."""
        with read(self.db) as conn:
            return int(
                conn.execute(
                    sa.select(sa.func.count()).where(
                        retraction.c.study_id == study_id, retraction.c.kind == "patient"
                    )
                ).scalar_one()
            )

    def _read(self, study_id: str, version: int) -> tuple[SignedReview, _Visit | None]:
        with read(self.db) as conn:
            content = conn.execute(
                sa.select(review.c.content).where(
                    review.c.study_id == study_id, review.c.version == version
                )
            ).scalar_one()
            row = conn.execute(
                sa.select(
                    study.c.match_state,
                    study.c.patient_id,
                    study.c.study_date,
                    study.c.accession_number,
                    patient.c.pms_key,
                    appointment.c.pms_key.label("appointment_key"),
                )
                .outerjoin(patient, patient.c.id == study.c.patient_id)
                .outerjoin(appointment, appointment.c.id == study.c.appointment_id)
                .where(study.c.id == study_id)
            ).one()
            is_certain = MatchState(row.match_state).is_certain and row.pms_key is not None
            location_id = self.config.node.location_id
            signed_for = current_patient(conn, location_id, content["patient_id"])
            if not is_certain or signed_for != row.patient_id:
                return SignedReview.from_json(content), None
            procedure_key = _imaging_procedure(
                conn, location_id, row.patient_id, row.appointment_key
            )
        return SignedReview.from_json(content), _Visit(
            row.patient_id, row.pms_key, procedure_key, row.study_date, row.accession_number
        )

    def _files(self, signed: SignedReview) -> list[tuple[str, ObjectFile]]:
        order = [image_id for image_id, _ in signed.instances]
        with read(self.db) as conn:
            keys = {
                row.id: row.storage_key
                for row in conn.execute(
                    sa.select(instance.c.id, instance.c.storage_key).where(
                        instance.c.id.in_(order), instance.c.rows.is_not(None)
                    )
                )
            }
        return [(i, self.store.file(keys[i])) for i in order if i in keys]

    def _chart_header(self, visit: _Visit) -> report.ChartPatient:
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(patient_identity).where(patient_identity.c.patient_id == visit.patient_id)
            ).one()
        return report.ChartPatient(
            family_name=row.family_name,
            given_name=row.given_name,
            birth_date=row.birth_date,
            patient_key=visit.patient_key,
            study_date=visit.study_date,
        )

    def _close_case(self, study_id: str, version: int, state: str) -> str:
        with begin(self.db, self._actor, "chart.not_queued") as tx:
            self._set_case(tx, study_id, version, state)
            tx.record(f"study:{study_id}", version=version, state=state)
        return state

    def _set_case(self, tx: Tx, study_id: str, version: int, state: str) -> None:
        key = f"{study_id}:{version}"
        values: dict[str, object] = {
            "id": new_id(),
            "location_id": tx.location_id,
            "workflow": _WORKFLOW,
            "key": key,
            "state": state,
            "data": {"study_id": study_id, "version": version},
            "created_at": tx.now,
            "updated_at": tx.now,
        }
        if not insert_once(tx.conn, workflow_case, values):
            tx.conn.execute(
                workflow_case.update()
                .where(
                    workflow_case.c.location_id == tx.location_id,
                    workflow_case.c.workflow == _WORKFLOW,
                    workflow_case.c.key == key,
                )
                .values(state=state, updated_at=tx.now)
            )


def register(
    engine: DurableEngine, db: sa.Engine, store: InstanceStore, config: Config
) -> Charting:
    """Register the workflow."""
    charting = Charting(db, engine, store, config)

    @engine.workflow(jobs.CHART_FINDINGS)
    def chart_findings(study_id: str, version: int) -> str:
        return engine.step_until_done("compose", charting.compose, study_id, version)

    return charting


def _imaging_procedure(
    conn: sa.Connection, location_id: str, patient_id: str, appointment_key: str | None
) -> str | None:
    """Find the visit's imaging procedure in the chart; the lowest code when there are several."""
    if not appointment_key:
        return None
    return conn.execute(
        sa.select(procedure.c.pms_key)
        .where(
            procedure.c.location_id == location_id,
            procedure.c.patient_id == patient_id,
            procedure.c.appointment_key == appointment_key,
            procedure.c.cdt_code.in_(list(IMAGING_CODES)),
            procedure.c.tombstoned_at.is_(None),
        )
        .order_by(procedure.c.cdt_code, procedure.c.pms_key)
        .limit(1)
    ).scalar()


def _is_in_chart(conn: sa.Connection, config: Config, visit: _Visit, procedure_key: str) -> bool:
    return bool(
        conn.execute(
            sa.select(procedure.c.pms_key).where(
                procedure.c.location_id == config.node.location_id,
                procedure.c.patient_id == visit.patient_id,
                procedure.c.pms_key == procedure_key,
                procedure.c.tombstoned_at.is_(None),
            )
        ).first()
    )


def _universal(findings: Sequence[SignedFinding]) -> tuple[str, ...]:
    teeth = {f.finding.tooth for f in findings if f.finding.tooth is not None}
    numbers = (tooth.universal for tooth in teeth)
    return tuple(sorted(numbers, key=lambda number: (not number.isdigit(), len(number), number)))
