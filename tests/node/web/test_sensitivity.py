"""The stops of the sensitivity control follow the operating points of each analysis."""

from datetime import UTC, datetime

import pytest

from node.analysis.findings import store_analysis
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    OperatingPoint,
    View,
)

MODEL = ModelVersion("intraoral", "1.0.0", "d" * 64)
POINTS = {
    FindingKind.CARIES: OperatingPoint(0.1, 0.3),
    FindingKind.CALCULUS: OperatingPoint(0.5, 0.95),
}
SAID = [
    (FindingKind.CARIES, 0.2),
    (FindingKind.CARIES, 0.35),
    (FindingKind.CALCULUS, 0.9),
    (FindingKind.CROWN, 0.9),  # no point of its own: the fixed line
    (FindingKind.CROWN, 0.1),
]


@pytest.fixture
def study_id(practice):
    study_id = practice.add_study(1)
    (image_id,) = practice.image_ids(study_id)
    findings = [
        Finding(kind, Box(10 * n, 10, 10 * n + 8, 20), probability=p, model=MODEL)
        for n, (kind, p) in enumerate(SAID)
    ]
    said = ImageAnalysis(
        View.BITEWING,
        0.9,
        findings=tuple(findings),
        models=(MODEL,),
        operating_points=POINTS,
    )
    store_analysis(practice.db, practice.actor, image_id, said, datetime.now(UTC))
    return study_id


def stops(study):
    marks = sorted(study["findings"], key=lambda mark: mark["geometry"]["points"][0])
    return [mark["stop"] for mark in marks]


def test_each_kind_has_its_own_line(practice, study_id):
    dentist = practice.sign_in("dentist")
    assert stops(dentist.study(study_id)) == ["default", "strict", "default", "strict", "wide"]


def test_an_answer_to_an_operation_keeps_the_line(practice, study_id):
    dentist = practice.sign_in("dentist")
    mark = next(m for m in dentist.study(study_id)["findings"] if m["stop"] == "wide")
    answer = dentist.ops(
        study_id,
        {"kind": "comment", "finding_id": mark["id"], "base_rev": 1, "data": {"text": "hm"}},
    )
    assert answer.json()["results"][0]["finding"]["stop"] == "wide"


def test_a_mark_of_a_person_is_always_shown(practice, study_id):
    dentist = practice.sign_in("dentist")
    (image_id,) = practice.image_ids(study_id)
    box = {"type": "box", "points": [[1, 1], [9, 9]]}
    data = {"image_id": image_id, "kind": "caries", "geometry": box}
    answer = dentist.ops(study_id, {"kind": "add", "data": data})
    assert answer.json()["results"][0]["finding"]["stop"] == "strict"


def test_what_the_strict_stop_hides_may_be_left_unreviewed(practice, study_id):
    dentist = practice.sign_in("dentist")
    dentist.see_all(study_id)
    marks = dentist.study(study_id)["findings"]
    strong = {mark["id"] for mark in marks if mark["stop"] == "strict"}
    refused = dentist.sign(study_id, left_unreviewed=[mark["id"] for mark in marks])
    assert set(refused.json()["blockers"][0]["ids"]) == strong
    for mark in strong:
        dentist.ops(study_id, {"kind": "reject", "finding_id": mark, "base_rev": 1})
    left = [mark["id"] for mark in marks if mark["id"] not in strong]
    assert dentist.sign(study_id, left_unreviewed=left).status_code == 200


def test_the_worklist_counts_what_the_default_stop_shows(practice, study_id):
    dentist = practice.sign_in("dentist")
    (row,) = dentist.get("/api/worklist?filter=to_review").json()["rows"]
    assert row["suggestions"] == {"C": 2, "K": 1, "R": 1}
    assert row["undecided"] == 5
