"""Calibration from the practice's own decisions: proposed, approved, applied, rolled back."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from node.analysis.findings import store_analysis
from node.analysis.recalibrating import propose_content
from node.db.session import Actor, begin, read
from node.db.tables import analysis_run, finding, study
from node.domain.findings import Box, Finding, FindingKind, ImageAnalysis, ModelVersion, View
from node.domain.recalibration import (
    ApprovedCalibration,
    CalibrationContent,
    KindCalibration,
    Measured,
    recalibrate,
)
from node.errors import InvalidInput, NotFound, Rejected
from node.rollout import calibrations
from tests.node.analysis.test_pilot import MODEL, hold

ACTOR = Actor("lead", "main")
FLAT = Measured(0.1, 0.0, 0.2, 0.1, 0.0, 0.2)


def mark(probability: float, kind: FindingKind = FindingKind.CARIES) -> Finding:
    return Finding(kind, Box(1, 1, 9, 9), probability=probability, model=MODEL)


def decided(db: sa.Engine, studies: int, trust: float, kind: FindingKind) -> None:
    """Sign studies whose suggestions are kept as often as `trust` times their probability."""
    random = np.random.default_rng(3)
    for number in range(studies):
        said = random.uniform(0.2, 0.95, 4)
        study_id = hold(db, f"{kind.value}-{number}", tuple(mark(float(p), kind) for p in said))
        with begin(db, ACTOR, "test.decided") as tx:
            rows = tx.conn.execute(sa.select(finding).where(finding.c.study_id == study_id)).all()
            for row in rows:
                is_kept = random.random() < trust * row.probability
                state = "accepted" if is_kept else "rejected"
                tx.conn.execute(finding.update().where(finding.c.id == row.id).values(state=state))
            tx.conn.execute(study.update().where(study.c.id == study_id).values(state="signed"))


def content(temperature: float = 2.0, bias: float = -0.5, review: float = 0.3):
    one = KindCalibration(
        str(MODEL), FindingKind.CARIES, 100, 40, 20, temperature, bias, review, 0.8, FLAT, FLAT
    )
    return CalibrationContent((one,))


def test_overconfident_probabilities_are_brought_down_and_measured(sqlite_database):
    decided(sqlite_database, 60, 0.6, FindingKind.CARIES)
    decided(sqlite_database, 4, 1.0, FindingKind.CALCULUS)
    found = propose_content(sqlite_database, "main")
    (one,) = found.kinds
    assert (one.model, one.kind, one.count, one.patients) == (
        "intraoral 1.0", FindingKind.CARIES, 240, 60,
    )  # fmt: skip
    assert one.apply(0.9) < 0.75, "kept six times in ten, said nine times in ten"
    assert one.after.error < one.before.error
    assert one.after.brier < one.before.brier
    assert one.before.error_low <= one.before.error <= one.before.error_high
    assert 0 <= one.review <= one.high_specificity <= 1
    assert sum(count for count, _, _ in one.after.bins) == 240
    assert one.undo(one.apply(0.4)) == pytest.approx(0.4, abs=1e-6)
    assert "calculus" in found.left[0]
    assert "are needed" in found.left[0]


def test_a_second_proposal_stands_on_the_networks_own_probabilities(sqlite_database):
    decided(sqlite_database, 40, 0.6, FindingKind.CARIES)
    before = propose_content(sqlite_database, "main").kinds[0]
    with begin(sqlite_database, ACTOR, "calibration.proposed") as tx:
        version = calibrations.propose(tx, CalibrationContent((before,)))
    with begin(sqlite_database, ACTOR, "test.moved") as tx:
        for row in tx.conn.execute(sa.select(finding)).all():
            tx.conn.execute(
                finding.update()
                .where(finding.c.id == row.id)
                .values(probability=before.apply(row.probability), calibration=version)
            )
        points = {"caries": {"review": before.review, "high_specificity": 0.99}}
        tx.conn.execute(analysis_run.update().values(operating_points=points))
    again = propose_content(sqlite_database, "main").kinds[0]
    assert again.temperature == pytest.approx(before.temperature, rel=0.02)
    assert again.bias == pytest.approx(before.bias, abs=0.02)
    assert again.review == pytest.approx(before.review, abs=0.01)


def test_a_proposal_changes_nothing_until_it_is_approved_and_can_be_rolled_back(database):
    def holds() -> int | None:
        with read(database) as conn:
            found = calibrations.approved(conn, "main")
        return found.version if found else None

    def act(name: str, *arguments: object) -> None:
        with begin(database, ACTOR, f"calibration.{name}") as tx:
            getattr(calibrations, name)(tx, *arguments)

    act("propose", content())
    act("propose", content(3.0))
    act("propose", CalibrationContent((), ("too few",)))
    assert holds() is None
    act("approve", 1, "looks right")
    assert holds() == 1
    act("approve", 2, "more data")
    assert holds() == 2
    act("approve", 1, "back to the first")
    assert holds() == 1
    act("end", "the networks' own")
    assert holds() is None
    for name, arguments, error in (
        ("approve", (3, ""), Rejected),
        ("approve", (9, ""), NotFound),
        ("refuse", (1, ""), Rejected),
    ):
        with pytest.raises(error):
            act(name, *arguments)
    act("refuse", 3, "says nothing")
    with pytest.raises(Rejected, match="refused"):
        act("approve", 3, "")
    with read(database) as conn:
        first = calibrations.versions(conn, "main")[-1]
        assert (first.version, first.decided_by, first.reason) == (1, "lead", "the networks' own")
        assert calibrations.versions(conn, "elsewhere") == []


def test_it_moves_only_what_it_was_fitted_on_and_drops_what_is_too_weak():
    other = ModelVersion("intraoral", "2.0", "e" * 64)
    analysis = ImageAnalysis(
        View.BITEWING,
        0.9,
        findings=(
            mark(0.9),
            mark(0.3),
            mark(0.9, FindingKind.CALCULUS),
            Finding(FindingKind.CARIES, Box(1, 1, 9, 9), probability=0.9, model=other),
        ),
        models=(MODEL,),
    )
    moved = recalibrate(analysis, ApprovedCalibration(4, content()))
    said = [round(found.probability, 3) for found in moved.findings]
    assert said == [0.645, 0.9, 0.9], "0.3 fell below the review point of 0.3"
    point = moved.operating_points[FindingKind.CARIES]
    assert (point.review, point.high_specificity) == (0.3, 0.8)


def test_each_finding_and_analysis_says_which_version_moved_it(sqlite_database):
    study_id = hold(sqlite_database, "1", ())
    with read(sqlite_database) as conn:
        image_id = conn.execute(
            sa.text("SELECT id FROM instance WHERE study_id = :id"), {"id": study_id}
        ).scalar_one()
    analysis = ImageAnalysis(View.BITEWING, 0.9, findings=(mark(0.9),), models=(MODEL,))
    moved = recalibrate(analysis, ApprovedCalibration(4, content()))
    now = datetime.now(UTC)
    assert store_analysis(sqlite_database, ACTOR, image_id, moved, now, 4)
    assert not store_analysis(sqlite_database, ACTOR, image_id, moved, now, 4)
    assert store_analysis(sqlite_database, ACTOR, image_id, analysis, now, 5), "another version"
    with read(sqlite_database) as conn:
        standing = conn.execute(
            sa.select(finding.c.calibration, finding.c.is_removed).order_by(finding.c.calibration)
        ).all()
    assert [tuple(row) for row in standing] == [(4, True), (5, False)]


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"bias": float("nan")}, {"review": 0.9}])
def test_numbers_that_make_no_calibration_are_refused(change):
    with pytest.raises(InvalidInput):
        content(**change)
