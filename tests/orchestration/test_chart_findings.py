"""A signed review reaches the chart of the sandbox practice; nothing unsigned does."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pypdf
import pytest
import sqlalchemy as sa

from node.config import Mode
from node.db.session import begin, new_id, read
from node.db.tables import finding, patient, pms_command, study
from node.domain import jobs
from node.domain.findings import Disposition, FindingKind
from node.domain.review import finding_to_json
from node.domain.study import MatchState
from node.engine import DurableEngine
from orchestration.workflows import flag_study
from pms_writeback.sandbox.server import running
from tests.orchestration.practice import ACTOR, Practice, until


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        yield Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")


def test_note_report_images_and_plan_reach_the_chart(practice: Practice) -> None:
    assert practice.sweep() == 1
    practice.sign(
        practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE),
        practice.mark(FindingKind.BONE_LEVEL, "37", Disposition.WATCH),
    )
    until(practice.is_delivered)
    (note,) = practice.sandbox.rows("procnotes")
    assert "AI-assisted" in note["Note"]
    assert "intraoral 1" in note["Note"]
    assert "Dr Test" in note["Note"]
    assert "#19" in note["Note"]  # Universal
    assert "#36" not in note["Note"]
    documents = practice.sandbox.rows("documents")
    assert [row["ImgType"] for row in documents].count("Radiograph") == 2
    assert {row["ToothNumbers"] for row in documents} == {"18,19"}
    pdf = next(row for row in documents if row["ImgType"] == "Document")
    content = practice.sandbox.document(int(pdf["DocNum"]))
    text = "".join(page.extract_text() for page in pypdf.PdfReader(BytesIO(content)).pages)
    assert "AI-assisted" in text
    assert "Sandbox" in text
    flag, plan = practice.sandbox.rows("tasks")[-2:]
    assert flag["TaskStatus"] == "Done"
    assert "#19" in plan["Descript"]
    assert "#18" not in plan["Descript"]


def test_the_flag_says_no_finding_and_no_name(practice: Practice) -> None:
    with begin(practice.db, ACTOR, "test") as tx:
        tx.conn.execute(
            finding.insert().values(
                id=new_id(),
                location_id="main",
                study_id=practice.study_id,
                instance_id=practice.image_id,
                origin="ai",
                state="suggested",
                created_at=tx.now,
                **finding_to_json(practice.mark(FindingKind.CARIES, "36", None).finding),
            )
        )
    before = len(practice.sandbox.rows("tasks"))
    assert practice.sweep() == 1
    assert practice.sweep() == 0
    until(lambda: practice.states() == {"done"})
    task = practice.sandbox.rows("tasks")[before]
    for word in ("caries", "#19", "36", "Boris", "1971"):
        assert word not in task["Descript"]
    assert not practice.sandbox.rows("procnotes")
    assert not practice.sandbox.rows("documents")


def test_nothing_is_flagged_in_silent_mode_or_in_doubt(practice: Practice) -> None:
    practice.set_study(match_state=MatchState.SUGGESTED.value)
    assert practice.sweep() == 0
    practice.set_study(match_state=MatchState.MATCHED.value)
    silent = practice.config.model_copy(
        update={"node": practice.config.node.model_copy(update={"mode": Mode.SILENT})}
    )
    assert flag_study.sweep(practice.db, practice.engine, practice.store, ACTOR, silent) == 0


def test_without_a_visit_the_note_is_a_commlog(practice: Practice) -> None:
    practice.set_study(appointment_id=None)
    practice.sign()
    until(practice.is_delivered)
    assert not practice.sandbox.rows("procnotes")
    (entry,) = [row for row in practice.sandbox.rows("commlogs") if "ref:BW-" in str(row["Note"])]
    assert "No findings recorded" in entry["Note"]


def test_an_amendment_adds_and_never_repeats(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    until(practice.is_delivered)
    first = len(practice.sandbox.rows("documents"))
    practice.sign(version=2, reason="Second look")
    until(lambda: len(practice.sandbox.rows("procnotes")) == 2 and practice.is_delivered())
    newest = practice.sandbox.rows("procnotes")[-1]["Note"]
    assert "amendment" in newest
    assert "Second look" in newest
    assert len(practice.sandbox.rows("documents")) == first + 1  # only the new report


def test_composing_twice_queues_once(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.REFER))
    until(practice.is_delivered)
    with read(practice.db) as conn:
        count = conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar_one()
    assert practice.charting.compose(practice.study_id, 1) == "queued"
    with read(practice.db) as conn:
        again = conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar_one()
    assert again == count


def test_a_patient_in_doubt_gets_nothing(practice: Practice) -> None:
    practice.set_study(match_state=MatchState.AMBIGUOUS.value)
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    key = jobs.chart_key(practice.study_id, 1)
    until(lambda: practice.engine.status(key) == "SUCCESS")
    assert practice.states() == set()
    assert not practice.sandbox.rows("procnotes")


def test_what_waited_for_its_patient_is_charted_once_that_is_certain(practice: Practice) -> None:
    practice.set_study(match_state=MatchState.AMBIGUOUS.value)
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(lambda: practice.engine.status(jobs.chart_key(practice.study_id, 1)) == "SUCCESS")
    assert practice.charting.resume() == 0
    practice.set_study(match_state=MatchState.LINKED.value)
    assert practice.charting.resume() == 1
    until(practice.is_delivered)
    assert practice.sandbox.rows("procnotes")
    assert practice.charting.resume() == 0


def test_what_was_signed_for_one_patient_never_reaches_another(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(practice.is_delivered)
    with read(practice.db) as conn:
        other = conn.execute(
            sa.select(patient.c.id).where(patient.c.id != practice.patient_id).limit(1)
        ).scalar_one()
    practice.set_study(patient_id=other)
    assert practice.charting.compose(practice.study_id, 1) == "waits_for_patient"
    with read(practice.db) as conn:
        owners = set(conn.execute(sa.select(pms_command.c.patient_id)).scalars())
    assert other not in owners


def test_a_flag_is_closed_in_the_chart_where_it_stands(practice: Practice) -> None:
    assert practice.sweep() == 1
    until(lambda: practice.states() == {"done"})
    with read(practice.db) as conn:
        other = conn.execute(
            sa.select(patient.c.id).where(patient.c.id != practice.patient_id).limit(1)
        ).scalar_one()
    practice.set_study(patient_id=other, appointment_id=None, match_state=MatchState.LINKED.value)
    practice.sign()
    until(practice.is_delivered)
    flag = practice.sandbox.rows("tasks")[-1]
    assert "waiting for review" in flag["Descript"]
    assert flag["TaskStatus"] == "Done"


def test_a_study_linked_elsewhere_moves_its_flag(practice: Practice) -> None:
    assert practice.sweep() == 1
    until(lambda: practice.states() == {"done"})
    with read(practice.db) as conn:
        other = conn.execute(sa.select(patient.c.id).where(patient.c.pms_key == "3")).scalar_one()
    practice.set_study(patient_id=other, match_state=MatchState.LINKED.value, appointment_id=None)
    assert practice.sweep() == 1
    until(lambda: practice.states() == {"done"})
    flags = {
        row["KeyNum"]: row["TaskStatus"]
        for row in practice.sandbox.rows("tasks")
        if "not signed" in str(row["Descript"])
    }
    assert flags[2] == "Done"
    assert flags[3] != "Done"


def _entries(practice: Practice, resource: str, column: str) -> list[str]:
    return [str(row[column]) for row in practice.sandbox.rows(resource) if "ref:BW-" in row[column]]


def test_every_version_goes_on_in_the_same_contact_entry(practice: Practice) -> None:
    """Also when the visit was found meanwhile; what the office wrote into it stays."""
    with read(practice.db) as conn:
        visit = conn.execute(sa.select(study.c.appointment_id)).scalar_one()
    practice.set_study(appointment_id=None)
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    until(practice.is_delivered)
    (first,) = [r for r in practice.sandbox.rows("commlogs") if "ref:BW-" in str(r["Note"])]
    note = f"{first['Note']}\nCalled the patient."
    practice.sandbox.change("commlogs", int(first["CommlogNum"]), Note=note)
    practice.set_study(appointment_id=visit)
    practice.sign(version=2, reason="Second look")
    until(lambda: len(practice.states_of_kind("AppendCommlog")) == 2 and practice.is_delivered())
    (entry,) = _entries(practice, "commlogs", "Note")
    assert entry.index("#19") < entry.index("Called the patient.") < entry.index("Second look")
    assert not practice.sandbox.rows("procnotes")


def test_an_amended_plan_changes_the_task_and_opens_it_again(practice: Practice) -> None:
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(practice.is_delivered)
    (task,) = [r for r in practice.sandbox.rows("tasks") if "Planned from" in str(r["Descript"])]
    practice.sandbox.change("tasks", int(task["TaskNum"]), TaskStatus="Done")
    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.WATCH), version=2)
    until(lambda: len(practice.states_of_kind("CreateTask")) == 2 and practice.is_delivered())
    (again,) = [r for r in practice.sandbox.rows("tasks") if "Planned from" in str(r["Descript"])]
    assert again["TaskNum"] == task["TaskNum"]
    assert str(again["Descript"]).startswith(str(task["Descript"]))
    assert "Nothing is planned." in again["Descript"]
    assert again["TaskStatus"] != "Done"


def test_an_older_office_gets_an_entry_for_each_version(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    with running(tmp_path / "sandbox.sqlite", od_version="24.2.30") as sandbox:
        practice = Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")
        practice.set_study(appointment_id=None)
        practice.sign()
        until(practice.is_delivered)
        practice.sign(version=2, reason="Second look")
        until(lambda: len(_entries(practice, "commlogs", "Note")) == 2)
        assert "replaces version 1" in _entries(practice, "commlogs", "Note")[1]
