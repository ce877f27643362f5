"""Panoramic decoding: from maps to numbered teeth and findings on the film."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import dataclasses
import itertools

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import (
    panoramic,
    panoramic_findings,
    runtime,
    runtime_batching,
    tooth_crops,
    tooth_masks,
)
from models.backbone import DenseNet, fused
from models.calibration import Temperature
from models.panoramic import PanoramicTeeth, Peak
from models.panoramic_findings import PanoramicFindings
from models.weights import Settings
from node.domain.findings import Box, FindingKind, ModelVersion, OperatingPoint, ToothMark
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


def prefixed(prefix, net):
    return {prefix + name: tensor for name, tensor in net.state_dict().items()}


@pytest.fixture(scope="module")
def teeth_state():
    state = state_of(panoramic.TEETH_HEADS, [0.0, 0.5])
    return state | prefixed(panoramic.MASK_PREFIX, tooth_crops.MaskNet())


@pytest.fixture(scope="module")
def teeth_model(teeth_state):
    return PanoramicTeeth.from_state(teeth_state, VERSION)


@pytest.fixture(scope="module")
def findings_state():
    state = state_of(panoramic_findings.HEADS, [0.0] * len(panoramic_findings.KINDS))
    mix = torch.randn(len(panoramic_findings.KINDS), panoramic_findings.WEIGHED)
    return state | prefixed(panoramic_findings.CROP_PREFIX, tooth_crops.TagNet()) | {"mix": mix}


@pytest.fixture(scope="module")
def findings_model(findings_state):
    return PanoramicFindings.from_state(findings_state, VERSION)


def test_marks_lie_on_the_film_and_repeat_exactly(film, teeth_model):
    first, second = teeth_model.find(film), teeth_model.find(film)
    assert first == second
    assert first
    for mark in first:
        assert 0 <= mark.box.x0 < mark.box.x1 <= film.shape[1]
        assert 0 <= mark.box.y0 < mark.box.y1 <= film.shape[0]
        assert len(mark.outline) <= tooth_masks.MAX_VERTICES
        assert all(0 <= x <= film.shape[1] and 0 <= y <= film.shape[0] for x, y in mark.outline)
    assert any(mark.outline for mark in first)


def test_a_tooths_probability_is_calibrated_and_the_threshold_stands_on_the_score(
    film, teeth_model
):
    raw = teeth_model.find(film)
    curve = Temperature(0.5, 1.2)
    settings = Settings(calibration={panoramic.TOOTH: curve})
    least = sorted(mark.probability for mark in raw)[len(raw) // 2]
    model = dataclasses.replace(teeth_model, settings=settings, threshold=least)
    expected = [curve.apply(np.array([m.probability]))[0] for m in raw if m.probability >= least]
    assert [mark.probability for mark in model.find(film)] == pytest.approx(expected)


def test_weights_without_a_mask_network_give_teeth_without_outlines(film):
    marks = PanoramicTeeth.from_state(state_of(panoramic.TEETH_HEADS, [0.0]), VERSION).find(film)
    assert marks
    assert all(mark.outline == () for mark in marks)


def test_several_films_at_once_give_what_each_gives_alone(film, teeth_model, findings_model):
    films = [film, film[:, ::-1].copy(), film[40:300, 100:900]]
    options = runtime.Options(runtime="torch", device="cpu")
    teeth, findings = (runtime.prepare(m, options) for m in (teeth_model, findings_model))

    def both(image):
        marks = teeth.find(image)
        return marks, findings.find(image, marks)

    together = runtime_batching.together(both, films)
    for (marks, found), (marks_alone, found_alone) in zip(together, map(both, films), strict=True):
        assert [m.tooth for m in marks] == [m.tooth for m in marks_alone]
        for mine, other in zip(marks, marks_alone, strict=True):
            assert np.ravel(mine.box.points) == pytest.approx(np.ravel(other.box.points), abs=1.0)
        assert [f.kind for f in found] == [f.kind for f in found_alone]
        assert [f.probability for f in found] == pytest.approx(
            [f.probability for f in found_alone], abs=1e-3
        )


@pytest.mark.parametrize(
    ("shape", "fill"),
    [((32, 32), "black"), ((900, 200), "white"), ((150, 1200), "noise"), ((256, 512), "ellipse")],
    ids=["black", "white", "noise", "ellipse"],
)
def test_strange_films_are_read_without_complaint(shape, fill, teeth_model, findings_model):
    rng = np.random.default_rng(3)
    image = np.zeros(shape, np.float32)
    if fill == "white":
        image[:] = 1.0
    elif fill == "noise":
        image[:] = rng.random(shape)
    elif fill == "ellipse":
        ys, xs = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
        image[:] = np.where(xs**2 + ys**2 < 1, rng.random(shape), 1.0)
    marks = teeth_model.find(image)
    for finding in findings_model.find(image, marks[:8]):
        assert 0 <= finding.geometry.x0 < finding.geometry.x1 <= shape[1]
        assert 0.0 <= finding.probability <= 1.0


def test_a_film_without_teeth_or_proposals_has_no_findings(film, findings_model):
    state = state_of(panoramic_findings.HEADS, [0.0] * 4)
    state["heads.centre.weight"] = torch.zeros_like(state["heads.centre.weight"])
    state["heads.centre.bias"] = torch.full((len(panoramic_findings.LABELS),), -9.0)
    net, _ = panoramic.build(state, panoramic_findings.HEADS)
    assert dataclasses.replace(findings_model, net=net).find(film) == ()


def test_findings_have_the_kinds_a_panoramic_may_show_and_borrow_the_tooth(film, findings_model):
    findings = findings_model.find(film)
    assert findings
    assert {finding.kind for finding in findings} <= set(panoramic_findings.KINDS)
    assert all(finding.tooth is None and finding.depth is None for finding in findings)
    teeth = [ToothMark(Tooth("36"), findings[0].geometry, 0.9, VERSION)]
    box = findings[0].geometry
    near = [f for f in findings_model.find(film, teeth) if f.geometry == box]
    assert {finding.tooth for finding in near} <= {Tooth("36")}


def test_thresholds_of_the_weights_decide_what_is_reported(film, findings_model):
    strict = (1.1,) * len(panoramic_findings.KINDS)
    assert dataclasses.replace(findings_model, thresholds=strict).find(film) == ()


def test_the_operating_point_decides_on_the_calibrated_probability(film, findings_model):
    kind = FindingKind.CARIES
    raw = [f.probability for f in findings_model.find(film) if f.kind is kind]
    point = OperatingPoint(0.3, 0.6)
    curve = Temperature(2.0, -0.5)
    settings = Settings({kind: point}, {kind.value: curve})
    model = dataclasses.replace(findings_model, settings=settings)
    said = [f.probability for f in model.find(film) if f.kind is kind]
    expected = [p for p in curve.apply(np.array(raw)) if p >= point.review]
    assert said == pytest.approx(expected)


def test_candidates_are_the_numbered_teeth_and_what_else_is_proposed():
    teeth = [ToothMark(Tooth("46"), Box(100, 300, 160, 400), 0.9, VERSION)]
    over = Peak(0, 0, 0, 0.8, (102.0, 302.0, 158.0, 398.0))
    apart = Peak(2, 0, 0, 0.4, (300.0, 60.0, 350.0, 150.0))
    found = panoramic_findings.candidates([apart, over], teeth, panoramic.INPUT)
    assert [c.box for c in found] == [(100, 300, 160, 400), apart.box]
    assert [c.is_lower for c in found] == [True, True]
    assert found[0].dense == (0.8, 0.0, 0.0, 0.0)
    assert found[1].dense == (0.0, 0.0, 0.4, 0.0)


@pytest.mark.parametrize("is_lower", [False, True])
def test_an_outline_comes_back_where_it_was_cut(is_lower):
    box = (200.0, 300.0, 260.0, 450.0)
    placement = tooth_crops.placement(box, is_lower)
    rows, cols = (side // tooth_crops.MASK_CELL for side in tooth_crops.CROP)
    ys, xs = (np.mgrid[0:rows, 0:cols] + 0.5) * tooth_crops.MASK_CELL
    crop = np.stack([xs, ys], axis=-1)
    on_film = (crop - placement[:, 2]) @ np.linalg.inv(placement[:, :2]).T
    away = ((on_film[..., 0] - 230) / 28) ** 2 + ((on_film[..., 1] - 370) / 70) ** 2
    outline = tooth_masks.trace((20 * (1 - away)).astype(np.float32), placement, 0.5)
    assert 3 <= len(outline) <= tooth_masks.MAX_VERTICES
    points = np.array(outline)
    assert points.min(axis=0) == pytest.approx([202, 300], abs=1.0)
    assert points.max(axis=0) == pytest.approx([258, 440], abs=1.0)


class Bright(torch.nn.Module):
    """Take what is bright in a crop for the tooth."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, crops):
        cells = torch.nn.functional.avg_pool2d(crops[:, 0], tooth_crops.MASK_CELL)
        return {"mask": self.gain * (cells - 0.5)}


def test_a_box_that_cuts_a_tooth_off_is_put_right_by_the_first_outline():
    frame = np.full(tooth_crops.FRAME, 0.1, np.float32)
    frame[300:460, 500:560] = 0.9
    cut_off = (498.0, 298.0, 562.0, 425.0)  # the root ends beyond what its crop shows
    (outline,) = tooth_masks.outlines(Bright(), 0.5, frame, [cut_off], [False])
    points = np.array(outline)
    assert points.min(axis=0) == pytest.approx([500, 300], abs=2.0)
    assert points.max(axis=0) == pytest.approx([560, 460], abs=2.0)


def test_a_mask_of_nothing_has_no_outline():
    placement = tooth_crops.placement((0.0, 0.0, 40.0, 100.0), False)
    shape = tuple(side // tooth_crops.MASK_CELL for side in tooth_crops.CROP)
    assert tooth_masks.trace(np.full(shape, -5, np.float32), placement, 0.5) == ()


def test_a_ragged_mask_has_few_vertices():
    rng = np.random.default_rng(1)
    shape = tuple(side // tooth_crops.MASK_CELL for side in tooth_crops.CROP)
    logits = rng.normal(0.8, 1.5, shape).astype(np.float32)
    placement = tooth_crops.placement((0.0, 0.0, 40.0, 100.0), False)
    assert 3 <= len(tooth_masks.trace(logits, placement, 0.5)) <= tooth_masks.MAX_VERTICES


def test_lower_teeth_are_shown_crown_down():
    frame = np.tile(np.linspace(0, 1, tooth_crops.FRAME[0])[:, None], (1, tooth_crops.FRAME[1]))
    box = (500.0, 300.0, 560.0, 450.0)
    upper, lower = tooth_crops.cut(frame.astype(np.float32), [box, box], [False, True])
    assert upper[0, 0, 48] < upper[0, -1, 48]
    assert lower[0] == pytest.approx(upper[0, ::-1], abs=1e-3)
    assert lower[1].sum() == upper[1].sum() > 0


@pytest.mark.parametrize("damage", ["thresholds", "heads.box.bias", "mask.head.bias"])
def test_weights_of_another_architecture_are_refused(damage, teeth_state):
    state = {name: tensor for name, tensor in teeth_state.items() if name != damage}
    with pytest.raises(ConfigError):
        PanoramicTeeth.from_state(state, VERSION)


@pytest.mark.parametrize("damage", ["thresholds", "mix", "crop.head.bias", "heads.box.bias"])
def test_findings_weights_of_another_architecture_are_refused(damage, findings_state):
    state = {name: tensor for name, tensor in findings_state.items() if name != damage}
    with pytest.raises(ConfigError):
        PanoramicFindings.from_state(state, VERSION)


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
