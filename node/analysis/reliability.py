"""How well the networks' probabilities fit the practice's own decisions.

Everything rests on signed reviews and stays in the practice. Nothing here changes a threshold: a
person reads the report and decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from models import calibration
from models.calibration import Bin
from node.analysis.agreement import FEW
from node.db.session import read
from node.db.tables import finding, study
from node.domain.findings import DecisionState
from node.domain.study import StudyState
from node.rollout.reports import Share

_RESAMPLES = 500
_UNITS_A_BIN = 10
KEPT = (DecisionState.ACCEPTED.value, DecisionState.EDITED.value)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How the probabilities of one network's kind of finding fit the practice's decisions."""

    model: str
    kind: str
    count: int
    kept: int
    patients: int
    bins: tuple[Bin, ...]
    expected_error: Share
    brier: Share
    is_few: bool


def reliability(
    db: sa.Engine, location_id: str, since: datetime | None = None
) -> tuple[Reliability, ...]:
    """Report for each network and kind how often suggestions of each probability were kept.

    Only decisions of signed studies count; an edited suggestion counts as kept.
    """
    query = sa.select(
        finding.c.kind, finding.c.model, finding.c.probability, finding.c.state,
        sa.func.coalesce(study.c.patient_id, study.c.id).label("patient"),
    ).join(study, study.c.id == finding.c.study_id)  # fmt: skip
    query = query.where(
        finding.c.location_id == location_id,
        finding.c.origin == "ai",
        finding.c.probability.is_not(None),
        finding.c.state.in_((*KEPT, DecisionState.REJECTED.value)),
        sa.not_(finding.c.is_removed),
        study.c.state == StudyState.SIGNED.value,
    )
    if since is not None:
        query = query.where(finding.c.decided_at >= since)
    groups: dict[tuple[str, str], list[tuple[str, float, bool]]] = defaultdict(list)
    with read(db) as conn:
        for row in conn.execute(query.order_by(finding.c.id)):
            model = f"{row.model['name']} {row.model['version']}" if row.model else "unknown"
            unit = (row.patient, row.probability, row.state in KEPT)
            groups[(model, row.kind)].append(unit)
    return tuple(_reliability(*key, units) for key, units in sorted(groups.items()))


def _reliability(model: str, kind: str, units: Sequence[tuple[str, float, bool]]) -> Reliability:
    patients = [patient for patient, _, _ in units]
    said = np.array([probability for _, probability, _ in units])
    kept = np.array([is_kept for _, _, is_kept in units])
    count = max(1, min(15, len(units) // _UNITS_A_BIN))

    def error(chosen: np.ndarray) -> float:
        bins = calibration.reliability(said[chosen], kept[chosen], count)
        return calibration.expected_error(bins)

    return Reliability(
        model=model,
        kind=kind,
        count=len(units),
        kept=int(kept.sum()),
        patients=len(set(patients)),
        bins=calibration.reliability(said, kept, count),
        expected_error=interval(patients, error),
        brier=interval(patients, lambda chosen: calibration.brier(said[chosen], kept[chosen])),
        is_few=min(int(kept.sum()), len(units) - int(kept.sum())) < FEW,
    )


def interval(patients: Sequence[str], figure: Callable[[np.ndarray], float]) -> Share:
    """Give a figure of chosen units with its interval, patients resampled with all their units."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, patient in enumerate(patients):
        members[patient].append(number)
    groups = [np.array(numbers) for numbers in members.values()]
    random = np.random.default_rng(0)
    drawn = [
        figure(np.concatenate([groups[g] for g in random.integers(0, len(groups), len(groups))]))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Share(figure(np.arange(len(patients))), float(low), float(high))
