"""View triage: shape kept, flat images refused, weak answers withheld."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import pytest

torch = pytest.importorskip("torch")

import numpy as np

from models import triage
from models.triage import Triage, TriageNet
from node.domain.findings import ModelVersion, View
from node.errors import ConfigError

VERSION = ModelVersion("triage", "1.0.0", "0" * 64)


def made(least):
    torch.manual_seed(2)
    state = dict(TriageNet().state_dict()) | {"thresholds": torch.tensor([1.0, least])}
    return Triage.from_state(state, VERSION)


@pytest.mark.parametrize("shape", [(300, 600), (600, 300), (40, 40), (1, 900)])
def test_letterboxing_keeps_the_shape(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    square = triage.prepare(image)
    assert square.shape == (triage.SIDE, triage.SIDE)
    rows, cols = (np.flatnonzero(square.any(axis=axis)) for axis in (1, 0))
    assert np.ptp(cols) + 1 == pytest.approx(triage.SIDE * min(1, shape[1] / shape[0]), abs=2)
    assert np.ptp(rows) + 1 == pytest.approx(triage.SIDE * min(1, shape[0] / shape[1]), abs=2)


def test_a_flat_image_is_not_a_radiograph():
    assert made(0.0).view(np.full((90, 120), 0.4, np.float32)) == (View.OTHER, 1.0)


def test_a_weak_answer_is_withheld():
    image = np.random.default_rng(1).random((90, 120)).astype(np.float32)
    view, probability = made(0.0).view(image)
    assert view in triage.VIEWS
    assert 0.25 <= probability <= 1.0
    assert made(1.1).view(image) == (None, probability)


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ConfigError):
        Triage.from_state({"thresholds": torch.tensor([1.0, 0.6])}, VERSION)
    with pytest.raises(ConfigError):
        Triage.from_state(dict(TriageNet().state_dict()), VERSION)
