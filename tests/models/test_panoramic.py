"""Panoramic decoding: from maps to numbered teeth and findings on the film."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import itertools

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import panoramic
from models.backbone import DenseNet, fused
from models.panoramic import PanoramicFindings, PanoramicTeeth
from node.domain.findings import Box, FindingKind, ModelVersion, ToothMark
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Tooth
from node.errors import ConfigError

VERSION = ModelVersion("panoramic_teeth", "1.0.0", "0" * 64)
ROWS, COLS = 28, 48


def maps_with(teeth):
    """Make the maps of a network that is sure: (index in TEETH, row, column) per tooth."""
    centre = np.zeros((2, ROWS, COLS), np.float32)
    tooth = np.zeros((33, ROWS, COLS), np.float32)
    tooth[0] = 5.0
    for index, row, column in teeth:
        centre[index // 16, row, column] = 0.9
        tooth[:, row - 1 : row + 2, column - 1 : column + 2] = 0.0
        tooth[index + 1, row - 1 : row + 2, column - 1 : column + 2] = 9.0
    sides = np.full((4, ROWS, COLS), 0.25, np.float32)
    return {"centre": centre, "box": sides, "tooth": tooth}


def test_teeth_come_out_where_and_as_what_the_maps_say():
    places = [(0, 5, 4), (5, 5, 14), (15, 5, 44), (16, 20, 4), (24, 20, 30)]
    found = panoramic.decode_teeth(maps_with(places))
    assert [tooth for tooth, _, _ in found] == [panoramic.TEETH[index] for index, _, _ in places]
    _, peak, probability = found[0]
    assert (peak.row, peak.column) == (5, 4)
    assert peak.box == pytest.approx((14.0, 18.0, 22.0, 26.0))
    assert 0.8 < probability <= 1.0


def test_two_centres_in_one_tooth_are_one_tooth():
    maps = maps_with([(3, 10, 20)])
    maps["centre"][0, 12, 20] = 0.5
    maps["box"][:] = 3.0
    assert len(panoramic.decode_teeth(maps)) == 1


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (2, 12, 24), elements=st.floats(0, 1, width=32)),
    st.integers(0, 2**31),
)
def test_numbers_run_along_the_arch_and_occur_once_whatever_the_maps_say(centre, seed):
    rng = np.random.default_rng(seed)
    maps = {
        "centre": centre,
        "box": rng.uniform(0.1, 1.5, (4, 12, 24)).astype(np.float32),
        "tooth": rng.normal(0, 3, (33, 12, 24)).astype(np.float32),
    }
    found = panoramic.decode_teeth(maps)
    codes = [tooth for tooth, _, _ in found]
    assert len(set(codes)) == len(codes)
    for order in (UPPER_ARCH, LOWER_ARCH):
        row = [(peak.box[0] + peak.box[2], order.index(t)) for t, peak, _ in found if t in order]
        for (x, place), (next_x, next_place) in itertools.pairwise(row):
            assert x <= next_x
            assert place < next_place
    assert all(0.0 <= probability <= 1.0 for _, _, probability in found)


@pytest.fixture(scope="module")
def film():
    rng = np.random.default_rng(11)
    grain = rng.normal(0.45, 0.2, (27, 50)).astype(np.float32)
    return np.clip(np.kron(grain, np.ones((20, 20), np.float32)), 0, 1)


def state_of(heads, thresholds, seed=5):
    torch.manual_seed(seed)
    return dict(DenseNet(heads).state_dict()) | {"thresholds": torch.tensor(thresholds)}


def test_marks_lie_on_the_film_and_repeat_exactly(film):
    model = PanoramicTeeth.from_state(state_of(panoramic.TEETH_HEADS, [0.0]), VERSION)
    first, second = model.find(film), model.find(film)
    assert first == second
    assert first
    for mark in first:
        assert 0 <= mark.box.x0 < mark.box.x1 <= film.shape[1]
        assert 0 <= mark.box.y0 < mark.box.y1 <= film.shape[0]


def test_findings_have_the_kinds_a_panoramic_may_show_and_borrow_the_tooth(film):
    state = state_of(panoramic.FINDING_HEADS, [0.0] * 4)
    model = PanoramicFindings.from_state(state, VERSION)
    findings = model.find(film)
    assert findings
    allowed = {FindingKind.CARIES, FindingKind.RESTORATION, FindingKind.IMPACTED_TOOTH}
    assert {finding.kind for finding in findings} <= allowed
    assert all(finding.tooth is None and finding.depth is None for finding in findings)
    teeth = [ToothMark(Tooth("36"), finding.geometry, 0.9, VERSION) for finding in findings[:1]]
    assert model.find(film, teeth)[0].tooth == Tooth("36")


def test_thresholds_of_the_weights_decide_what_is_reported(film):
    state = state_of(panoramic.FINDING_HEADS, [1.1] * 4)
    assert PanoramicFindings.from_state(state, VERSION).find(film) == ()


@pytest.mark.parametrize("damage", ["thresholds", "heads.box.bias"])
def test_weights_of_another_architecture_are_refused(damage):
    state = state_of(panoramic.TEETH_HEADS, [0.5])
    del state[damage]
    with pytest.raises(ConfigError):
        PanoramicTeeth.from_state(state, VERSION)


def test_folding_normalisation_changes_nothing():
    torch.manual_seed(1)
    net = DenseNet({"centre": 2}).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    batch = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        before = net(batch)["centre"]
        after = fused(net)(batch)["centre"]
    assert torch.allclose(before, after, atol=1e-4)


def test_boxes_overlap_as_areas_do():
    assert panoramic.iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert panoramic.iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0.0
    assert Box(0, 0, 1, 1).points
