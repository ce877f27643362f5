"""When a study counts as complete: the device's word, the schedule's count, quiet time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.analysis.arrivals import CompleteBy, Patience, complete_by
from node.db.session import read
from node.db.tables import instance, performed_step, study
from tests.node.dicom.conftest import Practice

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
PATIENCE = Patience(30.0, 900.0)


class Visit:
    """Jane's visit: what is planned, what the devices said, and what arrived."""

    def __init__(self, db: sa.Engine) -> None:
        self.practice = Practice(db)
        self.patient_id = self.practice.patient()
        self.appointment_id = self.practice.appointment(self.patient_id)
        self.count = 0

    def plan(self, images: int | None, modality: str = "IO", **more: object) -> None:
        self.practice.item(
            self.patient_id,
            self.appointment_id,
            modality=modality,
            expected_images=images,
            **more,
        )

    def study(self, uid: str = "2.25.7", generation: int = 0, match_state: str = "matched") -> str:
        is_certain = match_state == "matched"
        return self.practice.insert(
            study,
            study_instance_uid=uid,
            state="receiving",
            match_state=match_state,
            patient_id=self.patient_id if is_certain else None,
            appointment_id=self.appointment_id if is_certain else None,
            generation=generation,
            received_at=NOW,
            last_image_at=NOW,
        )

    def image(self, study_id: str, uid: str = "", **more: object) -> None:
        self.count += 1
        values: dict[str, object] = {
            "study_id": study_id,
            "sop_instance_uid": uid or f"1.2.{self.count}",
            "sop_class_uid": "1.2.3",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "rows": 100,
            "columns": 100,
            "sha256": str(self.count),
            "size_bytes": 1,
            "storage_key": "main/ab/abcd",
            "state": "analysed",
            "received_at": NOW,
        }
        self.practice.insert(instance, **(values | more))

    def step(self, state: str, images: tuple[str, ...] = (), uid: str = "2.25.7") -> None:
        self.count += 1
        self.practice.insert(
            performed_step,
            sop_instance_uid=f"1.9.{self.count}",
            state=state,
            study_instance_uid=uid,
            image_uids=list(images),
            match_state="matched",
            appointment_id=self.appointment_id,
            messages=[],
            started_at=NOW,
        )

    def judge(self, study_id: str, after_s: float) -> CompleteBy | None:
        with read(self.practice.db) as conn:
            row = conn.execute(sa.select(study).where(study.c.id == study_id)).one()
            return complete_by(conn, row, PATIENCE, NOW + timedelta(seconds=after_s))


@pytest.fixture
def visit(sqlite_database: sa.Engine) -> Visit:
    return Visit(sqlite_database)


def test_without_any_word_quiet_time_decides(visit):
    study_id = visit.study()
    visit.image(study_id)
    assert visit.judge(study_id, 29) is None
    assert visit.judge(study_id, 30) is CompleteBy.QUIET


def test_a_clock_that_was_set_back_holds_no_study_for_ever(visit):
    study_id = visit.study()
    visit.image(study_id)
    assert visit.judge(study_id, -120) is None  # two machines, two clocks
    assert visit.judge(study_id, -86_400) is CompleteBy.QUIET


def test_a_step_that_ended_decides_once_its_images_are_here(visit):
    visit.plan(4, performed="completed")
    study_id = visit.study()
    visit.step("completed", ("1.2.100", "1.2.101"))
    visit.image(study_id, "1.2.100")
    assert visit.judge(study_id, 1) is None
    visit.image(study_id, "1.2.101")
    assert visit.judge(study_id, 1) is CompleteBy.STEPS


def test_a_step_in_progress_holds_the_study_open_but_not_for_ever(visit):
    visit.plan(1)
    study_id = visit.study()
    visit.image(study_id)
    visit.step("started")
    assert visit.judge(study_id, 600) is None
    assert visit.judge(study_id, 900) is CompleteBy.QUIET


def test_a_second_device_of_the_visit_is_waited_for(visit):
    visit.plan(4, performed="completed")
    visit.plan(1, "PX")
    study_id = visit.study()
    visit.step("completed", ("1.2.100",))
    visit.image(study_id, "1.2.100")
    assert visit.judge(study_id, 1) is None
    assert visit.judge(study_id, 30) is CompleteBy.QUIET


def test_as_many_images_as_planned_decide(visit):
    visit.plan(2)
    visit.plan(1, "PX")
    study_id = visit.study()
    for _ in range(2):
        visit.image(study_id)
    visit.image(study_id, rows=None, state="not_an_image")
    assert visit.judge(study_id, 1) is None
    visit.image(study_id)
    assert visit.judge(study_id, 1) is CompleteBy.COUNT


def test_one_study_an_image_is_counted_over_the_visit(visit):
    visit.plan(2)
    first, second = visit.study("2.25.1"), visit.study("2.25.2")
    visit.image(first)
    assert visit.judge(first, 1) is None
    visit.image(second)
    assert visit.judge(first, 1) is CompleteBy.COUNT
    assert visit.judge(second, 1) is CompleteBy.COUNT


@pytest.mark.parametrize(("images", "match_state"), [(None, "matched"), (1, "suggested")])
def test_no_fixed_number_or_a_doubtful_patient_leaves_it_to_quiet_time(visit, images, match_state):
    visit.plan(images)
    study_id = visit.study(match_state=match_state)
    visit.image(study_id)
    assert visit.judge(study_id, 1) is None
    assert visit.judge(study_id, 30) is CompleteBy.QUIET


def test_what_a_late_image_opened_again_waits_for_quiet(visit):
    visit.plan(1)
    study_id = visit.study(generation=1)
    visit.image(study_id)
    visit.image(study_id)
    assert visit.judge(study_id, 1) is None
    assert visit.judge(study_id, 30) is CompleteBy.QUIET
