"""A pilot: what the chart says of films, and what comes out of setting the models against it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from node.analysis.agreement_paper import write_report
from node.analysis.charted import MISSING, read_charted
from node.analysis.findings import store_analysis
from node.analysis.pilot import Skipped, held_studies, pilot_report
from node.db.session import Actor, begin, new_id, read
from node.db.tables import finding, instance, patient, patient_identity, study
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from pms_writeback.record_rows import compare_records, write_records
from pms_writeback.records import PmsRecord, RecordKind

ACTOR = Actor("test", "main")
MODEL = ModelVersion("intraoral", "1.0", "d" * 64)
DAY = date(2026, 3, 2)


def chart(db: sa.Engine, key: str, *records: tuple[RecordKind, dict]) -> None:
    """Put records into our copy of the practice's system."""
    kinds = {kind for kind, _ in records}
    with begin(db, ACTOR, "test.records") as tx:
        for kind in kinds:
            rows = [
                PmsRecord(kind, f"{key}-{number}", key, "", None, values)
                for number, (each, values) in enumerate(records)
                if each is kind
            ]
            write_records(tx.conn, compare_records(tx.conn, "main", rows), tx.now)


def procedure(code: str, status: str, tooth: str, day: str, **more: str) -> tuple:
    values = {"cdt_code": code, "status": status, "tooth": tooth, "day": day, **more}
    return RecordKind.PROCEDURE, values


def told(db: sa.Engine, key: str) -> set[tuple[str, str, str, str]]:
    with read(db) as conn:
        return {
            (one.kind, one.tooth, one.surfaces, one.source)
            for one in read_charted(conn, "main", key, DAY)
        }


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (procedure("D2392", "TP", "30", "2026-03-02", planned_on="2026-03-02", surfaces="MO"),
         ("caries", "46", "MO", "procedure")),
        (procedure("D2330", "C", "8", "2026-06-01", surfaces="MF"),
         ("caries", "11", "MB", "procedure")),
        (procedure("D2150", "EO", "19", "2020-01-01", surfaces="DO"),
         ("restoration", "36", "DO", "procedure")),
        (procedure("D2740", "EC", "19", "2020-01-01"), ("crown", "36", "", "procedure")),
        (procedure("D3330", "C", "3", "2021-01-01"), ("root_filling", "16", "", "procedure")),
        (procedure("D3330", "TP", "3", "2026-03-05", planned_on="2026-03-05"),
         ("periapical_radiolucency", "16", "", "procedure")),
        (procedure("D7140", "C", "14", "2019-01-01"), (MISSING, "26", "", "procedure")),
        (procedure("D6010", "EC", "14", "2019-01-01"), ("implant", "26", "", "procedure")),
        ((RecordKind.TOOTH_STATE, {"tooth": "1", "state": "Missing"}),
         (MISSING, "18", "", "tooth_state")),
        ((RecordKind.PROCEDURE_NOTE,
          {"text": "Recurrent decay #30 DO seen.", "written_at": "2026-03-03T10:00:00+00:00"}),
         ("caries", "46", "DO", "note")),
    ],
)  # fmt: skip
def test_what_an_entry_of_the_chart_stands_for(sqlite_database, record, expected):
    chart(sqlite_database, "7", record)
    assert told(sqlite_database, "7") == {expected}


@pytest.mark.parametrize(
    "record",
    [
        procedure("D2392", "TP", "30", "2026-03-02", planned_on="2025-11-01"),  # known before
        procedure("D2392", "C", "30", "2028-01-01"),  # too late to answer these films
        procedure("D2392", "D", "30", "2026-03-02"),  # deleted
        procedure("D0274", "C", "", "2026-03-02"),
        procedure("D2740", "TP", "30", "2026-03-02", planned_on="2026-03-02"),  # many reasons
        procedure("D2392", "TP", "99", "2026-03-02", planned_on="2026-03-02"),
        (RecordKind.TOOTH_STATE, {"tooth": "1", "state": "Primary"}),
        (
            RecordKind.PROCEDURE_NOTE,
            {"text": "No caries #30. Patient 14 years old, decay.", "written_at": "2026-03-03"},
        ),
        (RecordKind.PROCEDURE_NOTE, {"text": "decay #30", "written_at": "2024-03-03"}),
        (RecordKind.PROCEDURE_NOTE, {"text": "decay #30", "written_at": ""}),
    ],
)
def test_what_says_nothing_of_the_films(sqlite_database, record):
    chart(sqlite_database, "7", record)
    assert told(sqlite_database, "7") == set()


def caries(tooth: str, surface: Surface) -> Finding:
    return Finding(
        FindingKind.CARIES,
        Box(1, 1, 9, 9),
        tooth=Tooth(tooth),
        surfaces=(surface,),
        probability=0.8,
        model=MODEL,
    )


def hold(db: sa.Engine, pms_key: str, findings: tuple[Finding, ...], match: str = "matched") -> str:
    """Hold an analysed bitewing of the patient, showing teeth 45 to 47."""
    study_id, image_id, patient_id = new_id(), new_id(), new_id()
    here = {"location_id": "main"}
    with begin(db, ACTOR, "test.study") as tx:
        tx.conn.execute(
            patient.insert().values(id=patient_id, pms_key=pms_key, synced_at=tx.now, **here)
        )
        tx.conn.execute(
            patient_identity.insert().values(
                patient_id=patient_id,
                family_name="Doe",
                given_name="Jane",
                name_key=f"DOE^{pms_key}",
                **here,
            )
        )
        tx.conn.execute(
            study.insert().values(
                id=study_id,
                study_instance_uid=f"1.2.{pms_key}",
                study_date="20260302",
                state="ready",
                match_state=match,
                patient_id=patient_id,
                received_at=tx.now,
                last_image_at=tx.now,
                **here,
            )
        )
        tx.conn.execute(
            instance.insert().values(
                id=image_id,
                study_id=study_id,
                sop_instance_uid=f"1.3.{pms_key}",
                sop_class_uid="1.2",
                transfer_syntax_uid="1.2",
                sha256="0" * 64,
                size_bytes=1,
                storage_key=pms_key,
                state="analysed",
                received_at=tx.now,
                **here,
            )
        )
    teeth = tuple(
        ToothMark(Tooth(code), Box(1, 1, 9, 9), 0.9, MODEL) for code in ("45", "46", "47")
    )
    said = ImageAnalysis(View.BITEWING, 0.9, teeth, findings, (MODEL,))
    store_analysis(db, ACTOR, image_id, said, datetime.now(UTC))
    return study_id


def run(db: sa.Engine):
    skipped = Skipped(Counter())
    return pilot_report(db, "main", held_studies(db, "main", skipped), skipped)


def test_the_models_are_set_against_the_chart_tooth_by_tooth(database):
    planned = procedure("D2392", "TP", "30", "2026-03-02", planned_on="2026-03-02", surfaces="DO")
    for key in ("1", "2", "3"):
        hold(database, key, (caries("46", Surface.DISTAL), caries("47", Surface.MESIAL)))
        elsewhere = procedure("D2392", "C", "8", "2026-05-02", surfaces="M")
        chart(database, key, planned, elsewhere)
    report = run(database)
    assert (report.source, report.studies, report.patients) == ("pilot", 3, 3)
    rows = {(row.view, row.kind, row.level): row for row in report.rows}
    tooth = rows[("bitewing", "caries", "tooth")]
    assert (tooth.signed, tooth.said, tooth.both) == (3, 6, 3)
    assert (tooth.sensitivity.value, tooth.precision.value) == (1.0, 0.5)
    low, high = tooth.sensitivity.low, tooth.sensitivity.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high, "three of three is no certainty"
    surface = rows[("bitewing", "caries", "surface")]
    assert (surface.signed, surface.said, surface.both) == (6, 6, 3)
    assert tooth.is_few
    assert any("3 charted entries were about teeth" in note for note in report.notes)
    assert report.models == ("intraoral 1.0",)


def test_what_cannot_be_compared_is_left_out_and_counted(sqlite_database):
    hold(sqlite_database, "1", ())
    doubted = hold(sqlite_database, "2", (), match="suggested")
    seen = hold(sqlite_database, "3", (caries("46", Surface.DISTAL),))
    with begin(sqlite_database, ACTOR, "test.decided") as tx:
        tx.conn.execute(finding.update().where(finding.c.study_id == seen).values(state="accepted"))
    report = run(sqlite_database)
    assert report.studies == 0
    words = " ".join(report.notes)
    assert "1 left out: the patient is not certain" in words
    assert "1 left out: somebody saw and decided" in words
    assert "1 left out: nothing is charted" in words
    assert doubted not in words


def test_the_paper_names_nobody_and_says_what_it_is(sqlite_database, tmp_path):
    hold(sqlite_database, "1", (caries("46", Surface.DISTAL),))
    chart(
        sqlite_database,
        "1",
        procedure("D2392", "TP", "30", "2026-03-02", planned_on="2026-03-02", surfaces="DO"),
    )
    report = replace(run(sqlite_database), notes=("<b>&",))
    files = write_report(
        report, tmp_path / "out", "Sandbox Dental", datetime(2026, 4, 1, tzinfo=UTC)
    )
    assert [path.name for path in files] == ["agreement.json", "agreement.html", "agreement.pdf"]
    assert json.loads(files[0].read_text())["format"] == "bitewing-rollout-report/1"
    page = files[1].read_text()
    assert "Not cleared as a medical device" in page
    assert "too few to say" in page
    assert "&lt;b&gt;&amp;" in page
    assert "Doe" not in page
    assert files[2].read_bytes().startswith(b"%PDF")
