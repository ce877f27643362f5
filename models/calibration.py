"""Make a network's score mean what it says, and measure whether it does.

Calibration is frozen on tuning films and travels in the weights manifest. Two methods: temperature
scaling (one number and an offset) and isotonic regression (a rising piecewise-linear curve).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from node.errors import ConfigError

Array = np.ndarray
_TINY = 1e-6
#: A slope as flat as this says that scores mean nothing.
_FLATTEST = 0.05
#: Source: clinical reference, "Detection metrics": bins of equal mass.
_BINS = 15


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide the logit by ``temperature`` and add ``bias``.

    Source: Guo et al. 2017 (temperature); Platt 1999 (with the offset, for rare positives).
    """

    temperature: float
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0 and np.isfinite(self.bias)):
            raise ConfigError("a temperature is a number above 0, its bias a finite number")

    def apply(self, probability: Array) -> Array:
        """Calibrate an array of probabilities of "yes"."""
        p = np.clip(np.asarray(probability, dtype=np.float64), _TINY, 1 - _TINY)
        scaled: Array = 1 / (1 + np.exp(-(np.log(p / (1 - p)) / self.temperature + self.bias)))
        return scaled

    def apply_classes(self, probability: Array, axis: int = -1) -> Array:
        """Calibrate probabilities that sum to 1 along `axis`; the bias plays no part."""
        logits = np.log(np.maximum(np.asarray(probability, np.float64), 1e-12)) / self.temperature
        exp = np.exp(logits - logits.max(axis=axis, keepdims=True))
        shares: Array = exp / exp.sum(axis=axis, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A curve through (``scores``, ``probabilities``): straight between, flat beyond its ends."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        scores, chances = np.array(self.scores), np.array(self.probabilities)
        if len(scores) < 2 or scores.shape != chances.shape:
            raise ConfigError("an isotonic curve has two or more scores, each with a probability")
        if not np.isfinite([*scores, *chances]).all() or (np.diff(scores) <= 0).any():
            raise ConfigError("the scores of an isotonic curve rise strictly")
        if (np.diff(chances) < 0).any() or chances[0] < 0 or chances[-1] > 1:
            raise ConfigError("the probabilities of an isotonic curve never fall and stay in 0..1")

    def apply(self, probability: Array) -> Array:
        """Calibrate an array of scores."""
        return np.interp(np.asarray(probability, np.float64), self.scores, self.probabilities)


Calibration = Temperature | Isotonic


def from_json(name: str, data: object) -> Calibration:
    """Read one calibration of the manifest; `name` is the head or kind, for the error's words."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"weights manifest: the calibration of {name} must be an object")
    values = {key: value for key, value in data.items() if key != "method"}
    method = data.get("method")
    try:
        if method == "temperature":
            return Temperature(**{key: float(value) for key, value in values.items()})
        if method == "isotonic":
            return Isotonic(**{key: tuple(map(float, value)) for key, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"weights manifest: calibration of {name}: {error}") from None
    except (TypeError, ValueError):
        raise ConfigError(
            f"weights manifest: the calibration of {name} lacks or mistakes a number of {method}"
        ) from None
    raise ConfigError(
        f"weights manifest: the calibration of {name} is {method!r}; "
        "known methods: temperature, isotonic"
    )


def to_json(calibration: Calibration) -> dict[str, object]:
    """Write one calibration for the manifest."""
    match calibration:
        case Temperature(temperature, bias):
            return {"method": "temperature", "temperature": temperature, "bias": bias}
        case Isotonic(scores, probabilities):
            return {
                "method": "isotonic",
                "scores": list(scores),
                "probabilities": list(probabilities),
            }


@dataclass(frozen=True, slots=True)
class Bin:
    """Units whose probability is alike: how many, what was said, what was true."""

    count: int
    said: float
    true: float


def reliability(
    probability: Sequence[float] | Array, is_true: Sequence[bool] | Array, bins: int = _BINS
) -> tuple[Bin, ...]:
    """Sort units by probability into `bins` groups of equal size; fewer when units are few."""
    said, true = np.asarray(probability, float), np.asarray(is_true, float)
    order = np.argsort(said, kind="stable")
    groups = [part for part in np.array_split(order, max(1, bins)) if len(part)]
    return tuple(Bin(len(g), float(said[g].mean()), float(true[g].mean())) for g in groups)


def expected_error(bins: Sequence[Bin]) -> float:
    """Give the expected calibration error (ECE): the mean gap between said and true, 0..1."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.said - one.true) for one in bins) / total if total else 0.0


def brier(probability: Sequence[float] | Array, is_true: Sequence[bool] | Array) -> float:
    """Give the mean squared difference between probability and truth, 0..1."""
    return float(np.mean((np.asarray(probability, float) - np.asarray(is_true, float)) ** 2))


def platt(score: Array, is_true: Array) -> Temperature | None:
    """Fit a logistic regression on the logit by Newton's method; None where scores say nothing.

    Targets are softened as Platt 1999 does, so that a few clean marks do not make certainty.
    """
    p = np.clip(score, 1e-6, 1 - 1e-6)
    x = np.stack([np.log(p / (1 - p)), np.ones(len(p))], axis=1)
    hits, misses = int(is_true.sum()), int((~is_true).sum())
    y = np.where(is_true, (hits + 1) / (hits + 2), 1 / (misses + 2))
    line = np.array([1.0, 0.0])
    for _ in range(50):
        said = 1 / (1 + np.exp(-np.clip(x @ line, -30, 30)))
        slope = x.T @ (said - y) + 1e-6 * line
        curvature = (x * (said * (1 - said))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        line = line - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    if line[0] < _FLATTEST:
        return None
    return Temperature(float(1 / line[0]), float(line[1]))
