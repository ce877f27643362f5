"""What was signed is taken back: the wrong chart says so, and the right one gets everything."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from node.db.session import begin, new_id, read
from node.db.tables import (
    dicom_delivery,
    dicom_result,
    patient,
    pms_command,
    retraction,
    workflow_case,
)
from node.dicom.derived import derived_uid
from node.domain import jobs
from node.domain.findings import Disposition, FindingKind
from node.domain.study import MatchState, StudyState
from node.engine import WORKFLOWS, DurableEngine
from orchestration.workflows import retract_study
from pms_writeback.sandbox.server import running
from tests.orchestration.practice import ACTOR, Practice, until

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        made = Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")
        uid = derived_uid("device", "test")
        retract_study.register(engine, sqlite_database, made.store, made.config, uid)
        yield made


def other_patient(practice: Practice) -> tuple[str, str]:
    with read(practice.db) as conn:
        row = conn.execute(
            sa.select(patient.c.id, patient.c.pms_key)
            .where(patient.c.id != practice.patient_id)
            .order_by(patient.c.pms_key)
        ).first()
    assert row is not None
    return row.id, row.pms_key


def retract(practice: Practice, kind: str, to: str | None = None) -> str:
    """What the review page does in one transaction."""
    retraction_id = new_id()
    before = practice.patient_id
    with begin(practice.db, ACTOR, "test.retracted") as tx:
        tx.conn.execute(
            retraction.insert().values(
                id=retraction_id,
                location_id="main",
                study_id=practice.study_id,
                kind=kind,
                version=1,
                reason="belongs to Petra Muster",
                finding_ids=[],
                patient_id=before,
                new_patient_id=to,
                steps=[],
                retracted_by=practice.user_id,
                at=tx.now,
            )
        )
        practice.engine.enqueue(
            tx.conn,
            WORKFLOWS,
            jobs.RETRACT_STUDY,
            jobs.retract_key(retraction_id),
            retraction_id,
        )
    if kind == "patient":
        match = MatchState.LINKED if to else MatchState.UNMATCHED
        practice.set_study(
            patient_id=to,
            appointment_id=None,
            match_state=match.value,
            state=StudyState.READY.value,
        )
    until(lambda: practice.engine.status(jobs.retract_key(retraction_id)) == "SUCCESS")
    return retraction_id


def steps(practice: Practice, retraction_id: str) -> list[str]:
    with read(practice.db) as conn:
        query = sa.select(retraction.c.steps).where(retraction.c.id == retraction_id)
        return list(conn.execute(query).scalar_one())


def settled(practice: Practice) -> bool:
    return practice.states() <= {"done", "withdrawn"}


def test_a_wrong_patient_is_put_right_in_both_charts(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(practice.is_delivered)
    wrong = practice.sandbox.rows("procnotes")[0]
    wrong_chart = practice.sandbox.rows("documents")[0]["PatNum"]
    to, number = other_patient(practice)
    done = retract(practice, "patient", to)
    until(lambda: settled(practice))
    # beside the wrong note stands its correction, without a word of whose it is
    correction = practice.sandbox.rows("procnotes")[-1]
    assert correction["ProcNum"] == wrong["ProcNum"]
    assert "CORRECTION. The radiograph findings" in correction["Note"]
    assert "Muster" not in correction["Note"]
    # the plan's task is closed, and a task names what only a person can remove
    *_, plan, office = practice.sandbox.rows("tasks")
    assert plan["TaskStatus"] == "Done"
    assert office["Descript"].count("document number") == 3
    assert len(steps(practice, done)) == 3
    # signed again, everything goes to the right chart, the radiograph too
    practice.sign(
        practice.mark(FindingKind.CARIES, "36", None), version=2, reason="right patient now"
    )
    until(lambda: len(practice.sandbox.rows("documents")) == 6 and settled(practice))
    right = [row for row in practice.sandbox.rows("documents") if row["PatNum"] != wrong_chart]
    assert {str(row["PatNum"]) for row in right} == {number}
    assert sorted(row["ImgType"] for row in right) == ["Document", "Radiograph", "Radiograph"]


def test_what_never_left_is_withdrawn_and_stays_so(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(practice.is_delivered)
    before = len(practice.sandbox.rows("documents"))
    with begin(practice.db, ACTOR, "test.held") as tx:
        row = tx.conn.execute(
            sa.select(pms_command).where(pms_command.c.kind == "UploadDocument")
        ).first()
        assert row is not None
        held = {**row._mapping, "id": new_id(), "key": "chart:held", "state": "held"}
        held |= {"receipt": None, "payload": {"command": row.payload["command"]}}
        tx.conn.execute(pms_command.insert().values(**held))
    done = retract(practice, "patient")
    until(lambda: settled(practice))
    with read(practice.db) as conn:
        query = sa.select(pms_command.c.state).where(pms_command.c.id == held["id"])
        assert conn.execute(query).scalar() == "withdrawn"
    assert len(practice.sandbox.rows("documents")) == before
    assert "1 entry for the chart withdrawn unsent." in steps(practice, done)


def test_carrying_it_out_twice_has_one_effect(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    until(practice.is_delivered)
    done = retract(practice, "patient")
    until(lambda: settled(practice))
    with read(practice.db) as conn:
        count = conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar_one()
    uid = derived_uid("device", "test")
    again = retract_study.Retracting(
        practice.db,
        practice.engine,
        practice.store,
        practice.config,
        retract_study.Composer(uid, "Practice", "0"),
    )
    assert again.run(done) == "done"
    with read(practice.db) as conn:
        now = conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar_one()
    assert now == count


def test_a_wrong_finding_leaves_the_chart_to_the_amendment(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    until(practice.is_delivered)
    notes = len(practice.sandbox.rows("procnotes"))
    done = retract(practice, "findings")
    assert "replaced by the amendment" in steps(practice, done)[0]
    assert len(practice.sandbox.rows("procnotes")) == notes
    practice.sign(version=2, reason="wrong finding")
    until(lambda: len(practice.sandbox.rows("procnotes")) == notes + 1)
    assert "replaces version 1" in practice.sandbox.rows("procnotes")[-1]["Note"]


def test_objects_at_the_archive_are_rejected_by_a_note(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    until(practice.is_delivered)
    result_id, uid = new_id(), derived_uid("SC", "sent")
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = CAPTURE, uid, derived_uid("series")
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CAPTURE
    ds.file_meta.MediaStorageSOPInstanceUID = uid
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    kept = practice.store.put("main", "sent.dcm", lambda out: _write(out, file.getvalue()))
    with begin(practice.db, ACTOR, "test.sent") as tx:
        tx.conn.execute(
            dicom_result.insert().values(
                id=result_id,
                location_id="main",
                study_id=practice.study_id,
                review_version=1,
                kind="SC",
                sop_instance_uid=uid,
                sop_class_uid=CAPTURE,
                storage_key=kept.storage_key,
                created_at=tx.now,
            )
        )
        for peer, state in (("pacs", "done"), ("vna", "queued")):
            tx.conn.execute(
                dicom_delivery.insert().values(
                    id=new_id(),
                    location_id="main",
                    result_id=result_id,
                    peer=peer,
                    state=state,
                    updated_at=datetime.now(UTC),
                )
            )
    done = retract(practice, "patient")
    with read(practice.db) as conn:
        note = conn.execute(sa.select(dicom_result).where(dicom_result.c.kind == "KO")).one()
        states = conn.execute(
            sa.select(dicom_delivery.c.peer, dicom_delivery.c.state).where(
                dicom_delivery.c.result_id == result_id
            )
        ).all()
        sent_to = conn.execute(
            sa.select(dicom_delivery.c.peer).where(dicom_delivery.c.result_id == note.id)
        ).scalars()
        assert set(sent_to) == {"pacs", "vna"}
    assert dict(map(tuple, states)) == {"pacs": "done", "vna": "withdrawn"}
    told = pydicom.dcmread(practice.store.path(note.storage_key))
    assert (told.SOPClassUID, told.Modality) == (KEY_OBJECT, "KO")
    assert told.ConceptNameCodeSequence[0].CodeValue == "113037"
    (study_item,) = told.CurrentRequestedProcedureEvidenceSequence
    listed = study_item.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == [uid]
    assert any("Rejection note for 1 object" in step for step in steps(practice, done))


def test_open_cases_of_the_study_are_cancelled(practice: Practice) -> None:
    case_id, other_id = new_id(), new_id()
    with begin(practice.db, ACTOR, "test.case") as tx:
        for known, study_id in ((case_id, practice.study_id), (other_id, new_id())):
            tx.conn.execute(
                workflow_case.insert().values(
                    id=known,
                    location_id="main",
                    workflow="preauth",
                    key=known,
                    state="waiting",
                    data={"about": {"study_id": study_id}},
                    created_at=tx.now,
                    updated_at=tx.now,
                )
            )
    done = retract(practice, "patient")
    with read(practice.db) as conn:
        states = dict(
            map(tuple, conn.execute(sa.select(workflow_case.c.id, workflow_case.c.state)).all())
        )
    assert states[case_id] == "cancelling"
    assert states[other_id] == "waiting"
    assert "1 open case cancelled." in steps(practice, done)


def _write(out: object, content: bytes) -> None:
    out.write(content)  # type: ignore[attr-defined]
