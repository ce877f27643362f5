"""`export-findings`: what models and people say, with no name in it."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from node.analysis.findings import store_analysis
from node.config import read_config
from node.db.session import Actor, read
from node.dicom.instances import FolderStore
from node.dicom.store import Incoming, receive
from node.domain.findings import (
    Box,
    CariesDepth,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from node.errors import NotFound
from node.export import describe, export_study
from node.rollout.showing import read_showing
from sample_studies import catalog
from tests.roll_out import acknowledge

MODEL = ModelVersion("intraoral", "1", "a" * 64)
DAY = datetime(2026, 1, 5, tzinfo=UTC).date()


@pytest.fixture
def stored(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> sa.Engine:
    sample = next(sample for sample in catalog() if sample.key == "bitewing-1")
    (path,) = sample.write(
        tmp_path / "film", accession="ACC7", study_instance_uid="1.2.7", study_date=DAY
    )
    content = path.read_bytes()
    ds = pydicom.dcmread(BytesIO(content))
    start = 144 + int.from_bytes(content[140:144], "little")  # PS3.10 7.1
    outcome = receive(
        sqlite_database,
        FolderStore(tmp_path / "images"),
        engine,
        Incoming(
            memoryview(content[start:]),
            str(ds.SOPClassUID),
            str(ds.SOPInstanceUID),
            str(ds.file_meta.TransferSyntaxUID),
            "SENSOR",
        ),
        location_id="main",
    )
    analysis = ImageAnalysis(
        View.BITEWING,
        0.97,
        (ToothMark(Tooth("26"), Box(10.0, 20.0, 90.0, 200.0), 0.9, MODEL),),
        (
            Finding(
                FindingKind.CARIES,
                Box(15.0, 30.0, 40.0, 60.0),
                Tooth("26"),
                (Surface.MESIAL,),
                CariesDepth.D1,
                probability=0.81,
                model=MODEL,
            ),
        ),
        (MODEL,),
        ("panoramic_teeth",),
    )
    actor = Actor("test", "main")
    store_analysis(sqlite_database, actor, outcome.instance_id, analysis, datetime.now(UTC))
    return sqlite_database


@pytest.mark.parametrize("name", ["1.2.7", "ACC7"])
def test_a_study_is_found_by_uid_and_accession_number(stored: sa.Engine, name: str) -> None:
    exported = export_study(stored, "main", name, includes_silent=True)
    (image,) = exported["images"]
    assert exported["format"] == "bitewing-findings/1"
    assert "top-left corner" in exported["frame"]
    assert 0 < image["rows"] < image["columns"]
    assert (image["view"], image["absent"]) == ("bitewing", ["panoramic_teeth"])
    (tooth,) = image["teeth"]
    assert (tooth["tooth"], tooth["box"], tooth["probability"]) == (
        "26", [10.0, 20.0, 90.0, 200.0], 0.9,
    )  # fmt: skip
    (mark,) = image["findings"]
    assert (mark["kind"], mark["tooth"], mark["surfaces"], mark["depth"]) == (
        "caries", "26", "M", "D1",
    )  # fmt: skip
    assert mark["geometry"] == {"type": "box", "points": [[15.0, 30.0], [40.0, 60.0]]}
    assert mark["state"] == "suggested"
    text = json.dumps(exported)
    assert "Boris" not in text
    assert "1971" not in text


def test_a_person_reads_the_same_in_lines(stored: sa.Engine) -> None:
    text = describe(export_study(stored, "main", "1.2.7", includes_silent=True))
    assert "view bitewing, 1 teeth, 1 findings" in text
    assert "caries 26M D1 0.81 – suggested (ai)" in text


@pytest.mark.parametrize(("place", "name"), [("main", "9.9"), ("other", "1.2.7"), ("main", "")])
def test_nothing_is_found_elsewhere(stored: sa.Engine, place: str, name: str) -> None:
    with pytest.raises(NotFound):
        export_study(stored, place, name)


def test_what_is_silent_is_left_out_or_marked(stored: sa.Engine) -> None:
    marked = export_study(stored, "main", "1.2.7", includes_silent=True)
    assert [mark["is_shown"] for mark in marked["images"][0]["findings"]] == [False]
    left = export_study(stored, "main", "1.2.7")
    (image,) = left["images"]
    assert (image["findings"], image["teeth"], image["view"]) == ([], [], None)
    assert left["reading"] is None
    assert "caries" not in json.dumps(left)
    acknowledge(stored)
    with read(stored) as conn:
        showing = read_showing(conn, read_config(environment={}))
    for silent_too in (False, True):
        shown = export_study(stored, "main", "1.2.7", showing=showing, includes_silent=silent_too)
        assert [mark["is_shown"] for mark in shown["images"][0]["findings"]] == [True]
        assert shown["images"][0]["view"] == "bitewing"
