"""Probabilities fitted to a practice's own decisions: what was proposed, and how it is applied.

A calibration is a proposal until the clinical lead approves it. Applied, it moves the probability
of each suggestion of the networks it was fitted on and drops what falls below its review point; it
cannot bring back what a network never said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from node.domain.findings import Finding, FindingKind, ImageAnalysis, OperatingPoint
from node.errors import InvalidInput

_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Measured:
    """How well probabilities fit decisions, with 95 % intervals over patients.

    ``error`` is the expected calibration error, ``brier`` the mean squared difference, both 0..1;
    ``bins`` are (units, mean probability, share kept).
    """

    error: float
    error_low: float
    error_high: float
    brier: float
    brier_low: float
    brier_high: float
    bins: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class KindCalibration:
    """One kind of one network: the logit is divided by ``temperature``, then ``bias`` is added.

    ``after`` was measured on patients that took no part in the fit (five parts in turn).
    """

    model: str  # name and version
    kind: FindingKind
    count: int
    kept: int
    patients: int
    temperature: float
    bias: float
    review: float
    high_specificity: float
    before: Measured
    after: Measured

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InvalidInput("a temperature is a number above 0")
        if not math.isfinite(self.bias):
            raise InvalidInput("a bias is a finite number")
        OperatingPoint(self.review, self.high_specificity)

    def apply(self, probability: float) -> float:
        """Calibrate one probability."""
        return _share(_logit(probability) / self.temperature + self.bias)

    def undo(self, probability: float) -> float:
        """Give the network's own probability back."""
        return _share((_logit(probability) - self.bias) * self.temperature)


@dataclass(frozen=True, slots=True)
class CalibrationContent:
    """What one version says; ``left`` are kinds that stay as they are, with the reason."""

    kinds: tuple[KindCalibration, ...] = ()
    left: tuple[str, ...] = ()

    def of(self, model: str, kind: FindingKind) -> KindCalibration | None:
        """Find the calibration of a kind of a network (name and version)."""
        return next((k for k in self.kinds if k.model == model and k.kind is kind), None)


@dataclass(frozen=True, slots=True)
class ApprovedCalibration:
    """A version that a clinical lead approved and that holds now."""

    version: int
    content: CalibrationContent


def recalibrate(analysis: ImageAnalysis, approved: ApprovedCalibration) -> ImageAnalysis:
    """Move an analysis's probabilities and drop suggestions below the new review points."""
    content = approved.content
    names = {str(model) for model in analysis.models}
    points = {
        **analysis.operating_points,
        **{
            one.kind: OperatingPoint(one.review, one.high_specificity)
            for one in content.kinds
            if one.model in names
        },
    }
    moved = [_moved(finding, content) for finding in analysis.findings]
    kept = tuple(finding for finding in moved if finding is not None)
    return replace(analysis, findings=kept, operating_points=points)


def _moved(finding: Finding, content: CalibrationContent) -> Finding | None:
    one = content.of(str(finding.model), finding.kind) if finding.model else None
    if one is None or finding.probability is None:
        return finding
    probability = one.apply(finding.probability)
    return replace(finding, probability=probability) if probability >= one.review else None


def _logit(probability: float) -> float:
    clipped = min(1 - _TINY, max(_TINY, probability))
    return math.log(clipped / (1 - clipped))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
