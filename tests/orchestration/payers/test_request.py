"""Who has something planned, and which cases wait: the questions that hooks and sweeps ask."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from node.config import read_config
from node.db.session import begin, new_id
from node.db.tables import workflow_case
from node.dicom.instances import FolderStore
from orchestration.access import Chart
from orchestration.payers.request import (
    READS,
    claim_id_of,
    patients_of_records,
    planning_patients,
    submission_id_of,
    waiting_cases,
)
from orchestration.workflow import Workflow
from pms_writeback.records import RecordKind
from tests.orchestration.clockwork import ACTOR
from tests.orchestration.payers.test_policy import add, add_person

K = RecordKind


def whole_chart(db: sa.Engine, folder: Path) -> Chart:
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    flow = Workflow("preauthorisation", "Test", reads=READS)
    now = datetime(2026, 3, 2, tzinfo=UTC)
    return Chart(db, config, FolderStore(folder / "images"), flow, now)


def test_planned_procedures_name_their_patients(database: sa.Engine, tmp_path: Path) -> None:
    planning = add_person(database, "1", "Jane", date(1980, 1, 2))
    add_person(database, "2", "Max", date(2015, 5, 5))
    add(database, K.PROCEDURE, "70", "1", status="TP", cdt_code="D2740")
    add(database, K.PROCEDURE, "71", "2", status="C", cdt_code="D2740")
    add(database, K.DOCUMENT, "5", "2", image_type="Radiograph")
    chart = whole_chart(database, tmp_path)
    assert planning_patients(chart) == [planning]
    assert planning_patients(chart, ["70", "71"]) == [planning]
    assert planning_patients(chart, ["71"]) == []
    assert len(patients_of_records(chart, K.DOCUMENT, ["5"])) == 1
    assert patients_of_records(chart, K.DOCUMENT, ["6"]) == []


def test_only_cases_that_wait_for_this_patient_are_woken(
    database: sa.Engine, tmp_path: Path
) -> None:
    jane = add_person(database, "1", "Jane", date(1980, 1, 2))
    max_ = add_person(database, "2", "Max", date(2015, 5, 5))
    with begin(database, ACTOR, "test") as tx:
        for key, whose, state, stage in (
            ("a", jane, "waiting", "gather"),
            ("b", jane, "waiting", "late"),
            ("c", jane, "done", "gather"),
            ("d", max_, "waiting", "gather"),
        ):
            tx.conn.execute(
                workflow_case.insert().values(
                    id=new_id(), location_id="main", workflow="preauthorisation", key=key,
                    patient_id=whose, state=state, stage=stage, data={}, created_at=tx.now,
                    updated_at=tx.now,
                )
            )  # fmt: skip
    assert waiting_cases(whole_chart(database, tmp_path), [jane], "gather") == ["a"]


def test_ids_of_an_attempt_fit_the_claim_and_differ() -> None:
    ids = {claim_id_of(case, n) for case in ("a" * 32, "b" * 32) for n in (1, 2)}
    assert len(ids) == 4
    assert all(len(each) == 20 and each.isalnum() for each in ids)
    assert submission_id_of("a" * 32, 2) == "a" * 32 + "-2"
