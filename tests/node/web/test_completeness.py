"""The page says when fewer or more images arrived than the visit's procedures ask for."""

import pytest

from node.db.session import begin, new_id
from node.db.tables import appointment, study, worklist_item


def _visit(practice, study_id: str, *expected: int | None) -> None:
    """Give the study a visit with one worklist item per expected number."""
    visit_id = new_id()
    patient_id = practice.rows(study.select().where(study.c.id == study_id))[0].patient_id
    with begin(practice.db, practice.actor, "test.visit") as tx:
        tx.conn.execute(
            appointment.insert().values(
                id=visit_id,
                location_id="main",
                pms_key="9",
                patient_id=patient_id,
                start_at=tx.now,
                duration_min=30,
                status="scheduled",
                accession_number="A9",
                study_instance_uid="1.2.9",
                synced_at=tx.now,
            )
        )
        for number, count in enumerate(expected):
            tx.conn.execute(
                worklist_item.insert().values(
                    id=new_id(),
                    location_id="main",
                    appointment_id=visit_id,
                    patient_id=patient_id,
                    modality=("IO", "PX")[number],
                    station_ae_title="SENSOR",
                    start_date="20260105",
                    start_time="090000",
                    scheduled_procedure_step_id=f"S{number}",
                    requested_procedure_id="R9",
                    description="Imaging",
                    expected_images=count,
                )
            )
        tx.conn.execute(
            study.update().where(study.c.id == study_id).values(appointment_id=visit_id)
        )


@pytest.mark.parametrize(
    ("images", "expected", "words"),
    [
        (3, (4,), "3 readable images of the 4"),
        (1, (2, 1), "1 readable image of the 3"),
        (5, (4,), "is one a retake?"),
        (4, (4,), ""),
        (2, (None,), ""),
        (2, (4, None), ""),
    ],
)
def test_the_count_is_told(practice, images: int, expected: tuple, words: str) -> None:
    study_id = practice.analysed_study(images)
    _visit(practice, study_id, *expected)
    notes = practice.sign_in("dentist").study(study_id)["notes"]
    told = [note for note in notes if "readable image" in note]
    assert [words in note for note in told] == ([True] if words else [])


def test_nothing_is_counted_while_images_arrive_or_in_doubt(practice) -> None:
    study_id = practice.analysed_study(1)
    _visit(practice, study_id, 4)
    reader = practice.sign_in("dentist")
    for values in ({"state": "receiving"}, {"state": "ready", "match_state": "ambiguous"}):
        with begin(practice.db, practice.actor, "test.change") as tx:
            tx.conn.execute(study.update().where(study.c.id == study_id).values(**values))
        assert not [n for n in reader.study(study_id)["notes"] if "readable image" in n]
