"""Panoramic radiographs: teeth with their numbers and outlines.

A dense network on the film resized to :data:`INPUT` predicts centre heat maps and, at every cell,
the distances to the sides of the box and which of 32 permanent teeth the cell shows. Numbers are
decided for a whole arch at once (:func:`models.arch.number`). A second network then traces every
tooth in a crop of its own (:mod:`models.tooth_masks`). What teeth show is asked of other networks
(:mod:`models.panoramic_findings`). Limits and figures: models/cards/panoramic_teeth.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from models import arch, runtime, tooth_crops, tooth_masks
from models.backbone import DenseNet, fused
from models.tooth_crops import FRAME, BoxPx, MaskNet
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import Box, ModelVersion, Point, ToothMark
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Tooth
from node.errors import ConfigError

#: Rows and columns of the networks' input; the film is stretched to it.
INPUT = (448, 768)
#: Cells of the output are this many input pixels wide.
CELL = 4
#: The unit of the box head in input pixels.
BOX_UNIT = 16.0

#: The 32 permanent teeth in the order of the class head (0 is background).
TEETH: tuple[Tooth, ...] = UPPER_ARCH + LOWER_ARCH
TEETH_HEADS = {"centre": 2, "box": 4, "tooth": 1 + len(TEETH)}

#: The mask network's parameters stand in the tooth network's file under this prefix.
MASK_PREFIX = "mask."

#: What calibrates a tooth's probability: that it is there and bears this number.
TOOTH = "tooth"

_SAME_TOOTH_IOU = 0.6
_MAX_PEAKS = 60


@dataclass(frozen=True, slots=True)
class Peak:
    """A local maximum of a centre map: its channel, cell, score and box in input pixels."""

    channel: int
    row: int
    column: int
    score: float
    box: tuple[float, float, float, float]


#: A numbered tooth: the tooth, where it is, and how probable it is that both are right.
_Seen = tuple[Tooth, Peak, float]


def prepare(image: np.ndarray, size: tuple[int, int] = INPUT) -> np.ndarray:
    """Resize `image` to `size` (rows, cols) and stretch its grey range to 0..1, as float32."""
    shrinks = image.shape[0] > size[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image.astype(np.float32), size[::-1], interpolation=how)
    low, high = np.percentile(resized, (0.5, 99.5))
    stretched: np.ndarray = np.clip((resized - low) / max(high - low, 1e-3), 0.0, 1.0)
    return stretched.astype(np.float32)


def build(state: dict[str, torch.Tensor], heads: dict[str, int]) -> tuple[DenseNet, np.ndarray]:
    """Build the network of a state dict and give it with the thresholds frozen in it.

    Raises ConfigError when the state dict is of another architecture.
    """
    weights = dict(state)
    thresholds = weights.pop("thresholds", None)
    net = DenseNet(heads)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError("the weights do not fit this program's architecture") from error
    if thresholds is None:
        raise ConfigError("the weights carry no thresholds; train them again")
    # PyTorch's stub forgets that memory_format stands alone for modules.
    fused(net).to(runtime.device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net, thresholds.numpy()


def run(net: DenseNet, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Run `net` on one prepared image and give its maps as (channels, rows, cols)."""
    batch = torch.from_numpy(pixels)[None, None].to(runtime.device_of(net))
    with torch.inference_mode():
        maps = net(batch)
        maps["centre"] = torch.sigmoid(maps["centre"])
    return {name: map_[0].float().cpu().numpy() for name, map_ in maps.items()}


def peaks(maps: dict[str, np.ndarray], floor: float, same_iou: float) -> list[Peak]:
    """Find local maxima of every centre map above `floor`, best first, without near-duplicates."""
    centre = maps["centre"]
    tensor = torch.from_numpy(centre)[None]
    top = functional.max_pool2d(tensor, 3, stride=1, padding=1)[0].numpy()
    where = np.argwhere((centre == top) & (centre > floor))
    scores = centre[tuple(where.T)]
    kept: list[Peak] = []
    seen = [0] * centre.shape[0]
    for index in np.argsort(-scores, kind="stable"):
        channel, row, column = (int(v) for v in where[index])
        seen[channel] += 1
        if seen[channel] > _MAX_PEAKS:
            continue
        box = _box(maps["box"], centre[channel], row, column)
        peak = Peak(channel, row, column, float(scores[index]), box)
        if all(p.channel != channel or iou(p.box, box) < same_iou for p in kept):
            kept.append(peak)
    return kept


def _box(
    sides: np.ndarray, weight: np.ndarray, row: int, column: int
) -> tuple[float, float, float, float]:
    """Average the boxes that the cells around a peak vote for, weighted by their heat."""
    rows = slice(max(row - 1, 0), row + 2)
    cols = slice(max(column - 1, 0), column + 2)
    ys, xs = np.mgrid[rows, cols][:, : weight[rows, cols].shape[0], : weight[rows, cols].shape[1]]
    w = weight[rows, cols] / max(float(weight[rows, cols].sum()), 1e-9)
    left, top, right, bottom = np.maximum(sides[:, rows, cols], 0.05) * BOX_UNIT
    x, y = (xs + 0.5) * CELL, (ys + 0.5) * CELL
    votes = (x - left, y - top, x + right, y + bottom)
    x0, y0, x1, y1 = (float((vote * w).sum()) for vote in votes)
    return x0, y0, x1, y1


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the intersection over union of two (x0, y0, x1, y1) boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def on_frame(box: BoxPx) -> BoxPx:
    """Scale a box from the network's input to :data:`models.tooth_crops.FRAME`."""
    fx, fy = FRAME[1] / INPUT[1], FRAME[0] / INPUT[0]
    return box[0] * fx, box[1] * fy, box[2] * fx, box[3] * fy


def on_film(box: Sequence[float], shape: tuple[int, ...]) -> Box | None:
    """Scale a box from the network's input to the film and clip it; None if nothing is left."""
    fx, fy = shape[1] / INPUT[1], shape[0] / INPUT[0]
    x0, x1 = (min(max(v * fx, 0.0), float(shape[1])) for v in (box[0], box[2]))
    y0, y1 = (min(max(v * fy, 0.0), float(shape[0])) for v in (box[1], box[3]))
    return Box(x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


@dataclass(frozen=True, slots=True)
class PanoramicTeeth:
    """The tooth network, and the mask network if installed: teeth, numbered and outlined.

    ``threshold`` is of the score before its calibration by the head :data:`TOOTH`.
    """

    net: DenseNet
    masks: MaskNet | None
    threshold: float
    mask_threshold: float
    version: ModelVersion
    settings: Settings = NO_SETTINGS

    @classmethod
    def from_state(
        cls, state: dict[str, torch.Tensor], version: ModelVersion, settings: Settings = NO_SETTINGS
    ) -> PanoramicTeeth:
        """Build from a state dict with its ``thresholds``: of a tooth, then of a mask's pixels.

        A state dict without the mask network gives teeth without outlines. Raises ConfigError
        when it is of another architecture.
        """
        dense = {k: t for k, t in state.items() if not k.startswith(MASK_PREFIX)}
        mask = {k.removeprefix(MASK_PREFIX): t for k, t in state.items() if k not in dense}
        net, thresholds = build(dense, TEETH_HEADS)
        if len(thresholds) != (2 if mask else 1):
            raise ConfigError("the tooth weights carry other thresholds than this program's")
        masks = tooth_crops.build(MaskNet(), mask) if mask else None
        return cls(net, masks, float(thresholds[0]), float(thresholds[-1]), version, settings)

    def warm_up(self) -> None:
        """Run both networks once, the mask network on crops."""
        run(self.net, np.zeros(INPUT, np.float32))
        if self.masks:
            tooth_crops.warm_up(self.masks, "mask")

    def find(self, image: np.ndarray) -> tuple[ToothMark, ...]:
        """Find the teeth on a panoramic (rows, cols), 0..1; each number at most once."""
        found = [
            seen
            for seen in decode_teeth(run(self.net, prepare(image)))
            if seen[2] >= self.threshold and on_film(seen[1].box, image.shape) is not None
        ]
        traced = self._traced(image, found) if self.masks else [()] * len(found)
        return tuple(
            self._mark(seen, outline, image.shape)
            for seen, outline in zip(found, traced, strict=True)
        )

    def _traced(self, image: np.ndarray, found: Sequence[_Seen]) -> list[tuple[Point, ...]]:
        assert self.masks is not None
        boxes = [on_frame(peak.box) for _, peak, _ in found]
        lower = [tooth in LOWER_ARCH for tooth, _, _ in found]
        frame = prepare(image, FRAME)
        return tooth_masks.outlines(self.masks, self.mask_threshold, frame, boxes, lower)

    def _mark(self, seen: _Seen, outline: Sequence[Point], shape: tuple[int, ...]) -> ToothMark:
        tooth, peak, score = seen
        probability = min(1.0, max(0.0, self.settings.calibrate(TOOTH, score)))
        fx, fy = shape[1] / FRAME[1], shape[0] / FRAME[0]
        points = tuple(
            (min(max(x * fx, 0.0), float(shape[1])), min(max(y * fy, 0.0), float(shape[0])))
            for x, y in outline
        )
        box = _bounds(points) or on_film(peak.box, shape)
        assert box is not None
        return ToothMark(tooth, box, probability, self.version, points)


def _bounds(points: Sequence[Point]) -> Box | None:
    """Give the box of an outline, None when it has no extent."""
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    return Box(x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def decode_teeth(maps: dict[str, np.ndarray], floor: float = 0.1) -> list[_Seen]:
    """Turn the maps of the tooth network into numbered teeth, upper arch first, left to right.

    The probability is that of the tooth being there with this number.
    """
    found = peaks(maps, floor, _SAME_TOOTH_IOU)
    teeth: list[_Seen] = []
    for channel, order in enumerate((UPPER_ARCH, LOWER_ARCH)):
        row = sorted((p for p in found if p.channel == channel), key=_middle)
        if not row:
            continue
        first = 1 + channel * len(order)
        posterior = np.stack([_posterior(maps["tooth"], peak) for peak in row])
        posterior = posterior[:, first : first + len(order)]
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-9)
        joint = posterior * np.array([[peak.score] for peak in row])
        labels = arch.number(np.log(np.maximum(joint, 1e-12)))
        for index, (peak, label) in enumerate(zip(row, labels, strict=True)):
            if label is not None:
                # The order constraint may overrule the cell's own best label, so the tooth's
                # probability is the centre's, shaded by how far the label was from its best.
                teeth.append((order[label], peak, float(np.sqrt(peak.score * joint[index, label]))))
    return teeth


def _middle(peak: Peak) -> float:
    return (peak.box[0] + peak.box[2]) / 2


def _posterior(logits: np.ndarray, peak: Peak) -> np.ndarray:
    """Average the class probabilities of the cells in the middle of a peak's box."""
    half_w = (peak.box[2] - peak.box[0]) / CELL * 0.2
    half_h = (peak.box[3] - peak.box[1]) / CELL * 0.2
    rows = slice(max(int(peak.row - half_h), 0), int(peak.row + half_h) + 1)
    cols = slice(max(int(peak.column - half_w), 0), int(peak.column + half_w) + 1)
    cells = logits[:, rows, cols].reshape(logits.shape[0], -1)
    exp = np.exp(cells - cells.max(axis=0, keepdims=True))
    mean: np.ndarray = (exp / exp.sum(axis=0, keepdims=True)).mean(axis=1)
    return mean


def overlapping(box: Box, teeth: Sequence[ToothMark], least: float = 0.3) -> Tooth | None:
    """Give the tooth whose box overlaps `box` most, if by `least` IoU at least."""
    corners = (box.x0, box.y0, box.x1, box.y1)
    scored = [
        (iou(corners, (t.box.x0, t.box.y0, t.box.x1, t.box.y1)), index)
        for index, t in enumerate(teeth)
    ]
    best, index = max(scored, default=(0.0, -1))
    return teeth[index].tooth if best >= least else None
