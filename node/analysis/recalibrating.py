"""Fits a calibration to the decisions of signed studies: a proposal, with its measured effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from models import calibration
from models.calibration import Temperature
from node.analysis.agreement import FEW
from node.analysis.reliability import KEPT, interval
from node.db.session import read
from node.db.tables import analysis_run, finding, study
from node.domain.findings import USUAL_POINT, DecisionState, FindingKind
from node.domain.recalibration import CalibrationContent, KindCalibration, Measured
from node.domain.study import StudyState
from node.rollout.calibrations import versions

#: From a probability at which this share of what lay above was kept, a suggestion is strong.
_STRONG = 0.9
_STRONG_LEAST = 10
_PARTS = 5
_BINS = 10


@dataclass(frozen=True, slots=True)
class _Unit:
    """One decided suggestion: whose, what the network itself said, whether it was kept."""

    patient: str
    said: float
    is_kept: bool


def propose_content(db: sa.Engine, location_id: str) -> CalibrationContent:
    """Fit every kind of every network that has enough decisions; others are left as they are."""
    kinds, left = [], []
    for (model, kind), (units, points) in sorted(_units(db, location_id).items()):
        kept = sum(unit.is_kept for unit in units)
        if min(kept, len(units) - kept) < FEW:
            left.append(
                f"{model}, {kind}: {kept} of {len(units)} kept; at least {FEW} kept and {FEW} "
                "rejected are needed"
            )
            continue
        fitted = _fit(units)
        if fitted is None:
            left.append(f"{model}, {kind}: its probabilities say nothing about what is kept")
            continue
        kinds.append(_kind(model, FindingKind(kind), units, fitted, points))
    return CalibrationContent(tuple(kinds), tuple(left))


def _units(
    db: sa.Engine, location_id: str
) -> dict[tuple[str, str], tuple[list[_Unit], tuple[float, float]]]:
    """Read decided suggestions with the network's own probability and its operating points."""
    query = (
        sa.select(
            finding.c.kind, finding.c.model, finding.c.probability, finding.c.original,
            finding.c.calibration, finding.c.state, analysis_run.c.operating_points,
            sa.func.coalesce(study.c.patient_id, study.c.id).label("patient"),
        )
        .join(study, study.c.id == finding.c.study_id)
        .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
        .where(
            finding.c.location_id == location_id,
            finding.c.origin == "ai",
            finding.c.probability.is_not(None),
            finding.c.state.in_((*KEPT, DecisionState.REJECTED.value)),
            sa.not_(finding.c.is_removed),
            study.c.state == StudyState.SIGNED.value,
        )
        .order_by(finding.c.id)
    )  # fmt: skip
    found: dict[tuple[str, str], tuple[list[_Unit], tuple[float, float]]] = {}
    with read(db) as conn:
        known = {each.version: each.content for each in versions(conn, location_id)}
        for row in conn.execute(query):
            if not row.model:
                continue
            model = f"{row.model['name']} {row.model['version']}"
            said, point = row.probability, (row.operating_points or {}).get(row.kind)
            points = (
                (point["review"], point["high_specificity"])
                if point
                else (USUAL_POINT.review, USUAL_POINT.high_specificity)
            )
            if row.calibration is not None:
                one = known[row.calibration].of(model, FindingKind(row.kind))
                if one is not None:
                    said = one.undo(said)
                    points = (one.undo(points[0]), one.undo(points[1]))
            units, _ = found.setdefault((model, row.kind), ([], points))
            units.append(_Unit(row.patient, said, row.state in KEPT))
    return found


def _fit(units: Sequence[_Unit]) -> Temperature | None:
    said = np.array([unit.said for unit in units])
    kept = np.array([unit.is_kept for unit in units])
    return calibration.platt(said, kept)


def _kind(
    model: str,
    kind: FindingKind,
    units: Sequence[_Unit],
    fitted: Temperature,
    points: tuple[float, float],
) -> KindCalibration:
    said = np.array([unit.said for unit in units])
    kept = np.array([unit.is_kept for unit in units])
    moved = fitted.apply(said)
    review, strong = (float(value) for value in fitted.apply(np.array(points)))
    found = _strong_from(moved, kept)
    strong = max(review, strong if found is None else found)
    return KindCalibration(
        model=model,
        kind=kind,
        count=len(units),
        kept=int(kept.sum()),
        patients=len({unit.patient for unit in units}),
        temperature=round(fitted.temperature, 4),
        bias=round(fitted.bias, 4),
        review=round(review, 4),
        high_specificity=round(max(review, strong), 4),
        before=_measure(units, said),
        after=_measure(units, _crossed(units, fitted)),
    )


def _strong_from(moved: np.ndarray, kept: np.ndarray) -> float | None:
    """Find the lowest probability from which on nine of ten suggestions were kept."""
    order = np.argsort(-moved, kind="stable")
    share = np.cumsum(kept[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero((share >= _STRONG) & (np.arange(1, len(order) + 1) >= _STRONG_LEAST))
    return float(moved[order][good[-1]]) if len(good) else None


def _crossed(units: Sequence[_Unit], whole: Temperature) -> np.ndarray:
    """Calibrate each patient's units by a fit on the other patients, in five parts."""
    patients = sorted({unit.patient for unit in units})
    part = {patient: number % _PARTS for number, patient in enumerate(patients)}
    said = np.array([unit.said for unit in units])
    moved = whole.apply(said)
    for number in range(_PARTS):
        mine = np.array([part[unit.patient] == number for unit in units])
        others = [unit for unit, is_mine in zip(units, mine, strict=True) if not is_mine]
        fitted = _fit(others) if others and mine.any() else None
        if fitted is not None:
            moved[mine] = fitted.apply(said[mine])
    return moved


def _measure(units: Sequence[_Unit], said: np.ndarray) -> Measured:
    kept = np.array([unit.is_kept for unit in units])
    patients = [unit.patient for unit in units]

    def error(chosen: np.ndarray) -> float:
        return calibration.expected_error(
            calibration.reliability(said[chosen], kept[chosen], _BINS)
        )

    found = interval(patients, error)
    brier = interval(patients, lambda chosen: calibration.brier(said[chosen], kept[chosen]))
    bins = calibration.reliability(said, kept, _BINS)
    return Measured(
        float(found.value or 0.0), float(found.low or 0.0), float(found.high or 0.0),
        float(brier.value or 0.0), float(brier.low or 0.0), float(brier.high or 0.0),
        tuple((one.count, one.said, one.true) for one in bins),
    )  # fmt: skip
