"""What the patient's chart says beside the image, and only when it is certain whose chart it is."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from node.db.session import begin
from node.db.tables import patient, study
from pms_writeback.record_rows import compare_records, write_records
from pms_writeback.records import PmsRecord, RecordKind

KIND = RecordKind


def chart(practice, study_id: str, *records: tuple[RecordKind, dict]) -> None:
    with begin(practice.db, practice.actor, "test.records") as tx:
        key = tx.conn.execute(
            sa.select(patient.c.pms_key)
            .join(study, study.c.patient_id == patient.c.id)
            .where(study.c.id == study_id)
        ).scalar()
        for number, (kind, values) in enumerate(records):
            record = PmsRecord(kind, f"{number}", key, "", None, values)
            seen = compare_records(tx.conn, practice.location_id, [record])
            write_records(tx.conn, seen, datetime.now(UTC))


def test_alerts_conditions_today_and_earlier_films_stand_beside_the_image(practice):
    owner = practice.add_patient()
    earlier = practice.analysed_study(patient_id=owner)
    browser = practice.sign_in("dentist")
    browser.see_all(earlier)
    browser.accept_all(earlier)
    assert browser.sign(earlier).status_code == 200
    study_id = practice.add_study(patient_id=owner)
    today = datetime.now(UTC).date().isoformat()
    chart(
        practice,
        study_id,
        (KIND.ALLERGY, {"name": "Latex", "reaction": "rash", "is_active": True}),
        (KIND.ALLERGY, {"name": "Nothing now", "is_active": False}),
        (KIND.PROBLEM, {"name": "Diabetes", "end": ""}),
        (KIND.MEDICATION, {"name": "Alendronate", "end": ""}),
        (KIND.TOOTH_STATE, {"tooth": "17", "state": "Missing"}),
        (KIND.PROCEDURE, {"cdt_code": "D0274", "status": "TP", "day": today, "description": "4BW"}),
        (KIND.PROCEDURE, {"cdt_code": "D2740", "status": "EO", "tooth": "30", "day": "2020-01-01"}),
        (KIND.PROCEDURE, {"cdt_code": "D9999", "status": "D", "day": "2020-01-01"}),
    )
    said = browser.get(f"/api/studies/{study_id}/chart").json()
    assert said["alerts"] == ["Latex: rash"]
    assert said["problems"] == ["Diabetes"]
    assert said["medications"] == ["Alendronate"]
    assert said["missing"] == ["17"]
    assert [line["cdt_code"] for line in said["today"]] == ["D0274"]
    (crown,) = said["charted"]
    assert (crown["tooth"], crown["state"]) == ("30", "existing, made elsewhere")
    (film,) = said["earlier"]
    assert film["study_id"] == earlier
    assert film["findings"]


def test_in_doubt_there_is_no_chart(practice):
    study_id = practice.add_study(patient_id=None)
    said = practice.sign_in("dentist").get(f"/api/studies/{study_id}/chart").json()
    assert said["is_known"] is False


def test_who_may_not_see_patients_gets_no_chart(practice):
    study_id = practice.add_study()
    assert practice.sign_in("office_manager").get(f"/api/studies/{study_id}/chart").is_error
