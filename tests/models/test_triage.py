"""Triage: shape kept, flat images refused, weak answers withheld, lies confirmed."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import pytest

torch = pytest.importorskip("torch")

import numpy as np

from models import triage
from models.triage import Triage, TriageNet
from node.domain.findings import UPRIGHT, ModelVersion, View
from node.errors import ConfigError

VERSION = ModelVersion("triage", "2.0.0", "0" * 64)


def made(**sure):
    """Build a network that is untrained but for the heads in `sure`: head=(output, logit)."""
    torch.manual_seed(2)
    net = TriageNet()
    for name, (output, logit) in sure.items():
        with torch.no_grad():
            net.heads[name].weight.zero_()
            net.heads[name].bias.zero_()
            net.heads[name].bias[output] = logit
    thresholds = torch.tensor([1.0] * 3 + [0.9] * len(triage.FAULTS))
    return Triage.from_state(dict(net.state_dict()) | {"thresholds": thresholds}, VERSION)


def noise(shape=(90, 120)):
    return np.random.default_rng(1).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(300, 600), (600, 300), (40, 40), (1, 900)])
def test_letterboxing_keeps_the_shape(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    square = triage.prepare(image)
    assert square.shape == (triage.SIDE, triage.SIDE)
    rows, cols = (np.flatnonzero(square.any(axis=axis)) for axis in (1, 0))
    assert np.ptp(cols) + 1 == pytest.approx(triage.SIDE * min(1, shape[1] / shape[0]), abs=2)
    assert np.ptp(rows) + 1 == pytest.approx(triage.SIDE * min(1, shape[0] / shape[1]), abs=2)


def test_a_flat_image_is_not_a_radiograph():
    assert made().view(np.full((90, 120), 0.4, np.float32)) == (View.OTHER, 1.0)


def view_head(view, logit):
    return {"view": (triage.VIEWS.index(view), logit)}


@pytest.mark.parametrize("view", [View.PANORAMIC, View.PHOTO])
def test_a_weak_answer_is_withheld(view):
    assert made(**view_head(view, 8.0)).view(noise())[0] is view
    weak, probability = made(**view_head(view, 0.5)).view(noise())
    assert weak is None
    assert 1 / len(triage.VIEWS) <= probability <= 0.5


def test_refusing_takes_more_than_reading():
    assert made(**view_head(View.PERIAPICAL, 2.3)).look(noise()).view is View.PERIAPICAL
    assert made(**view_head(View.OTHER, 2.3)).look(noise()).view is None


@pytest.mark.parametrize("head", ["turns", "inverted"])
def test_a_lie_that_its_upright_copy_does_not_confirm_is_not_believed(head):
    """A head that says the same however the image is turned has told nothing."""
    look = made(**view_head(View.BITEWING, 9.0), **{head: (1, 12.0)}).look(noise())
    assert look.orientation == UPRIGHT
    assert look.is_lie_sure


def test_faults_and_region_need_confidence():
    network = made(**view_head(View.PERIAPICAL, 9.0), faults=(1, 6.0), jaw=(1, 6.0), side=(0, 0.1))
    look = network.look(noise())
    assert set(look.faults) == {"receptor"}
    assert (look.jaw, look.side) == ("lower", "")
    assert look.region.startswith("lower")
    assert made(**view_head(View.PANORAMIC, 9.0), faults=(1, 6.0)).look(noise()).faults == {}


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ConfigError):
        Triage.from_state({"thresholds": torch.tensor([1.0] * 7)}, VERSION)
    with pytest.raises(ConfigError):
        Triage.from_state(dict(TriageNet().state_dict()), VERSION)
    few = dict(TriageNet().state_dict()) | {"thresholds": torch.tensor([1.0, 0.6])}
    with pytest.raises(ConfigError):
        Triage.from_state(few, VERSION)
