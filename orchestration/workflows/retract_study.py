"""What was signed is taken back: in the chart, at the archive, and in every case that rests on it.

Started by: a retraction on the review page (`node.web.retractions`), key ``retract:<id>``. Entries
that never left are withdrawn. For those that landed, or may have, a correction is written beside
them, tasks are closed, and what no command can remove is put on a task for the office, each with
its receipt. Objects at DICOM peers are taken back by a rejection note. Open cases of the study are
cancelled. Approved by: the dentist who retracted, with a fresh proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import sqlalchemy as sa

from node import __version__
from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once
from node.db.tables import (
    dicom_delivery,
    dicom_result,
    instance,
    patient,
    pms_command,
    retraction,
    user_account,
    workflow_case,
)
from node.dicom.derived import Composer, encode
from node.dicom.instances import InstanceStore
from node.dicom.object_file import read_dataset
from node.dicom.rejection import Rejected, Title, compose_rejection
from node.domain import jobs
from node.domain.events import EventKind
from node.engine import DurableEngine
from node.errors import InvalidInput
from orchestration import cases
from orchestration.cases import OPEN, CaseState
from orchestration.workflows import send_results
from orchestration.workflows.send_results import WAITING
from pms_writeback import outbox
from pms_writeback.command_rows import OPEN as OPEN_COMMANDS
from pms_writeback.command_rows import CommandState
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    CloseTask,
    Command,
    CreateTask,
)
from pms_writeback.task_users import authored

Row = sa.Row[Any]

#: Kinds whose entries no command of ours can take out of a chart again.
_REMAINS = {
    "UploadDocument": "document",
    "PlanProcedure": "planned procedure",
    "CreatePreauthorization": "pre-authorisation",
    "CreateReferral": "referral",
    "CreateLabCase": "lab case",
    "MarkToothMissing": "missing-tooth mark",
}


@dataclass(frozen=True, slots=True)
class Retracting:
    """What the workflow needs."""

    db: sa.Engine
    engine: DurableEngine
    store: InstanceStore
    config: Config
    composer: Composer

    @property
    def _actor(self) -> Actor:
        return Actor("retraction", self.config.node.location_id)

    def run(self, retraction_id: str) -> str:
        """Take everything back in one transaction; safe to repeat. Returns what was done."""
        with begin(self.db, self._actor, "review.retraction_carried_out") as tx:
            row = tx.conn.execute(
                sa.select(retraction, user_account.c.display_name)
                .join(user_account, user_account.c.id == retraction.c.retracted_by)
                .where(retraction.c.id == retraction_id)
            ).one()
            if row.steps:
                return "done"
            steps = [*self._chart(tx, row), *self._archive(tx, row), *self._cases(tx, row)]
            steps = steps or ["Nothing had left this node."]
            tx.conn.execute(
                retraction.update().where(retraction.c.id == retraction_id).values(steps=steps)
            )
            data = {"study_id": row.study_id}
            tx.append_event(
                EventKind.REVIEW_RETRACTED, row.study_id, f"retracted:{retraction_id}", data
            )
            tx.record(f"study:{row.study_id}", retraction=retraction_id, steps=len(steps))
        return "done"

    def _chart(self, tx: Tx, row: Row) -> Iterator[str]:
        """Withdraw what never left; correct what landed or may have."""
        commands = tx.conn.execute(
            sa.select(pms_command, patient.c.pms_key)
            .join(patient, patient.c.id == pms_command.c.patient_id)
            .where(
                pms_command.c.study_id == row.study_id,
                pms_command.c.review_version.is_not(None),
                pms_command.c.state != CommandState.WITHDRAWN.value,
                pms_command.c.kind != CloseTask.__name__,
            )
            .order_by(pms_command.c.created_at, pms_command.c.id)
        ).all()
        pictures = f"chart:{row.study_id}:image:"  # the radiographs themselves stay right
        if row.kind == "findings":
            commands = [each for each in commands if not each.key.startswith(pictures)]
        waiting = [each for each in commands if not _may_have_landed(each)]
        landed = [each for each in commands if _may_have_landed(each)]
        if waiting:
            tx.conn.execute(
                pms_command.update()
                .where(pms_command.c.id.in_([each.id for each in waiting]))
                .values(
                    state=CommandState.WITHDRAWN.value,
                    error="Withdrawn: what was signed was taken back.",
                    updated_at=tx.now,
                )
            )
            yield f"{_count(len(waiting), 'entry', 'entries')} for the chart withdrawn unsent."
        if row.kind == "findings":
            if landed:
                yield "What stands in the chart is replaced by the amendment once it is signed."
            return
        for each in landed:
            if (undone := self._undo(tx, row, each)) is not None:
                yield undone
        yield from self._office_task(tx, row, landed)

    def _undo(self, tx: Tx, row: Row, each: Row) -> str | None:
        """Queue what corrects one entry in the chart where it stands; None when nothing can."""
        wanted = cast(Mapping[str, object], each.payload["command"])
        key = f"retract:{row.id}:{each.id}"
        ref = outbox.ref_for(tx.location_id, key)
        command: Command
        match each.kind:
            case "CreateTask":
                command = CloseTask(each.pms_key, each.ref)
                words = "Task: being closed."
            case "AppendProcedureNote":
                text = self._correction(tx, row, each)
                procedure_key = str(wanted["procedure_key"])
                command = AppendProcedureNote(each.pms_key, procedure_key, text, ref)
                words = "Note on the procedure: a correction is being written beside it."
            case "AppendCommlog":
                text = self._correction(tx, row, each)
                command = AppendCommlog(each.pms_key, text, row.at, ref)
                words = "Note in the log: a correction is being written beside it."
            case _:
                return None
        self._queue(tx, key, command, each.patient_id)
        return words

    def _office_task(self, tx: Tx, row: Row, landed: Sequence[Row]) -> Iterator[str]:
        """Ask the office to remove by hand what no command can; one task for each chart."""
        charts: dict[tuple[str, str], list[Row]] = {}
        for each in landed:
            if each.kind in _REMAINS:
                charts.setdefault((each.patient_id, each.pms_key), []).append(each)
        for (patient_id, pms_key), entries in charts.items():
            key = f"retract:{row.id}:office:{patient_id}"
            lines = [
                f"Remove from this chart: entered in error on review version {row.version}, the "
                "radiographs are another patient's.",
                *(f"{_REMAINS[each.kind]} {_place(each)}, {each.ref}" for each in entries),
            ]
            ref = outbox.ref_for(tx.location_id, key)
            task = CreateTask(pms_key, "\n".join(lines), ref)
            command = authored(task, tx.conn, tx.location_id, str(row.retracted_by))
            self._queue(tx, key, command, patient_id)
            yield (
                f"{_count(len(entries), 'document or plan', 'documents and plans')}: "
                "no command can remove them; a task for the office lists them."
            )

    def _correction(self, tx: Tx, row: Row, each: Row) -> str:
        """Say in the wrong chart that it is wrong, without a word about whose it is."""
        when = row.at.astimezone(self.config.zone).strftime("%Y-%m-%d %H:%M")
        return (
            f"CORRECTION. The radiograph findings marked {each.ref} were entered in this chart in "
            "error. They are not this patient's; disregard them. "
            f"Taken back by {row.display_name} on {when}."
        )

    def _queue(self, tx: Tx, key: str, command: Command, patient_id: str) -> None:
        """Queue without naming the study: it may be another patient's by now."""
        outbox.queue(tx, self.engine, self.store, key=key, command=command, patient_id=patient_id)

    def _archive(self, tx: Tx, row: Row) -> Iterator[str]:
        """Stop what is still on its way, and reject at each peer what it has."""
        sent = tx.conn.execute(
            sa.select(
                dicom_result,
                dicom_delivery.c.id.label("delivery_id"),
                dicom_delivery.c.peer,
                dicom_delivery.c.state.label("delivery_state"),
            )
            .join(dicom_delivery, dicom_delivery.c.result_id == dicom_result.c.id)
            .where(
                dicom_result.c.study_id == row.study_id,
                dicom_result.c.id.not_in(sa.select(retraction.c.id)),  # earlier rejection notes
            )
            .order_by(dicom_result.c.created_at, dicom_result.c.id)
        ).all()
        queued = [each.delivery_id for each in sent if each.delivery_state in WAITING]
        if queued:
            tx.conn.execute(
                dicom_delivery.update()
                .where(dicom_delivery.c.id.in_(queued))
                .values(
                    state="withdrawn", error="what was signed was taken back", updated_at=tx.now
                )
            )
            yield f"{_count(len(queued), 'object', 'objects')} for the archive withdrawn unsent."
        # A queued one may be on the wire at this moment: it is listed too.
        peers = sorted({each.peer for each in sent if each.delivery_state in ("done", *WAITING)})
        if not peers:
            return
        listed = {
            each.id: each for each in sent if each.delivery_state in ("done", *WAITING)
        }.values()
        try:
            note_id = self._note(tx, row, list(listed))
        except InvalidInput as error:
            yield f"No rejection note could be made: {error}."
            return
        for peer in peers:
            send_results.queue(tx, self.engine, note_id, peer)
        objects = _count(len(listed), "object", "objects")
        yield f"Rejection note for {objects} on its way to {', '.join(peers)}."

    def _note(self, tx: Tx, row: Row, listed: Sequence[Row]) -> str:
        source = tx.conn.execute(
            sa.select(instance.c.storage_key)
            .where(instance.c.study_id == row.study_id, instance.c.rows.is_not(None))
            .order_by(instance.c.instance_number, instance.c.id)
            .limit(1)
        ).scalar_one()
        header = read_dataset(self.store.file(source), stop_before_pixels=True)
        objects = []
        for each in listed:
            known = read_dataset(self.store.file(each.storage_key), stop_before_pixels=True)
            objects.append(
                Rejected(str(known.SeriesInstanceUID), each.sop_class_uid, each.sop_instance_uid)
            )
        title = Title.PATIENT_SAFETY if row.kind == "patient" else Title.QUALITY
        ds = compose_rejection(
            header, objects, title=title, key=row.id, at=row.at, composer=self.composer
        )
        note_id = str(row.id)
        content = encode(ds)
        stored = self.store.put(
            tx.location_id, f"{note_id}-ko.dcm", lambda file: _write(file, content)
        )
        insert_once(
            tx.conn,
            dicom_result,
            {
                "id": note_id,
                "location_id": tx.location_id,
                "study_id": row.study_id,
                "review_version": row.version,
                "kind": "KO",
                "sop_instance_uid": str(ds.SOPInstanceUID),
                "sop_class_uid": str(ds.SOPClassUID),
                "storage_key": stored.storage_key,
                "created_at": tx.now,
            },
        )
        return note_id

    def _cases(self, tx: Tx, row: Row) -> Iterator[str]:
        """Cancel the open cases that rest on this study."""
        is_open = workflow_case.c.state.in_(
            [state.value for state in OPEN - {CaseState.CANCELLING}]
        )
        found = tx.conn.execute(
            sa.select(workflow_case.c.id, workflow_case.c.workflow, workflow_case.c.data).where(
                workflow_case.c.location_id == tx.location_id, is_open
            )
        ).all()
        mine = [each for each in found if _rests_on(each.data, row.study_id)]
        for each in mine:
            cases.cancel(tx, self.engine, each.id, "what was signed was taken back")
        if mine:
            yield f"{_count(len(mine), 'open case', 'open cases')} cancelled."


def register(
    engine: DurableEngine, db: sa.Engine, store: InstanceStore, config: Config, device_uid: str
) -> Retracting:
    """Register the workflow; returns what it runs."""
    composer = Composer(
        device_uid,
        config.node.practice_name,
        __version__,
        config.zone,
        config.dicom.fallback_charset,
    )
    retracting = Retracting(db, engine, store, config, composer)

    @engine.workflow(jobs.RETRACT_STUDY)
    def retract_study(retraction_id: str) -> str:
        return engine.step_until_done("retract", retracting.run, retraction_id)

    return retracting


def _may_have_landed(each: Row) -> bool:
    """Whether an entry is in the chart, or was given to the wire without an answer."""
    if each.state == CommandState.DONE.value:
        return True
    delivery = each.payload.get("delivery", {})
    is_open = each.state in {state.value for state in OPEN_COMMANDS}
    return each.state == CommandState.SENDING.value or (
        bool(delivery.get("sent_at")) and (is_open or each.state == CommandState.FAILED.value)
    )


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _place(each: Row) -> str:
    receipt = each.receipt or {}
    return f"number {receipt['key']}" if receipt.get("key") else "(number unknown)"


def _rests_on(data: object, study_id: str) -> bool:
    """Whether a case's data names the study, at whatever depth."""
    if isinstance(data, dict):
        return any(_rests_on(value, study_id) for value in data.values())
    if isinstance(data, list):
        return any(_rests_on(value, study_id) for value in data)
    return data == study_id


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
