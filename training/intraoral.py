"""Train the network for bitewings and periapicals on synthetic films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import geometry, intraoral
from models.backbone import DenseNet
from models.panoramic import BOX_UNIT, CELL, TEETH
from node.domain.findings import Point
from node.domain.teeth import Surface
from training import augment, panoramic
from training.datasets import Film
from training.layouts import read_part
from training.panoramic import Drawn, box_loss, heat_loss
from training.synthetic import SyntheticFilm
from training.train import Batch

_BATCH = 4
#: Most of the run is at a small size; the last part sees films as the product will.
_SMALL = 0.75
_SMALL_UNTIL = 0.5
#: This many of the backbone's sixteen blocks stay as ImageNet left them: they cost most.
_KEPT_BLOCKS = 5
#: Half-width of a point's and a lesion's spot on the heat maps, in cells.
_POINT_SIGMA = 1.1
_LESION_SIGMA = 1.2
_MIRROR = {"1": "2", "2": "1", "3": "4", "4": "3"}
#: What may be unannotated on a film, in the order of the batch's ``annotated``.
_PARTS = ("teeth", "numbers", "sites", "caries")


@dataclass(frozen=True, slots=True)
class Labels:
    """What an augmented film shows, in input pixels; ``parent`` counts teeth as drawn."""

    teeth: list[Drawn]
    points: list[tuple[int, int, Point]]  # parent tooth, channel of the point maps, place
    lesions: list[tuple[np.ndarray, int]]  # outline, place of the depth


class IntraoralTask:
    """Everything the intraoral network learns, from a folder of synthetic films."""

    def __init__(self, data: Path) -> None:
        self._data = data
        films = read_part(data, "train")
        shapes = {film.path: film.read() for film in films}
        self._pixels = shapes
        # One batch has one orientation.
        lying = [f for f in films if shapes[f.path].shape[1] >= shapes[f.path].shape[0]]
        standing = [f for f in films if shapes[f.path].shape[1] < shapes[f.path].shape[0]]
        self._pools = [(geometry.LYING, lying), (geometry.STANDING, standing)]
        self._share = len(lying) / len(films)

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        parts = [(part, read_part(self._data, part)) for part in ("train", "tune")]
        return [
            Film(film.path, 0, 0, part, film.group or film.path.stem, (), film.origin, film.source)
            for part, films in parts
            for film in films
        ]

    def network(self) -> nn.Module:
        """Start from the ImageNet backbone, its first layers kept, expecting few spots."""
        net = panoramic.pretrained(intraoral.HEADS)
        first = (net.backbone._conv_stem, net.backbone._bn0, *net.backbone._blocks[:_KEPT_BLOCKS])
        for layer in first:
            layer.requires_grad_(False)
        with torch.no_grad():
            for name in ("points", "caries", "outline"):
                net.heads[name].bias.fill_(-3.0)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw films of one orientation, half of them with caries."""
        size, pool = self._pools[0 if rng.random() < self._share else 1]
        if progress < _SMALL_UNTIL:
            size = (round(size[0] * _SMALL), round(size[1] * _SMALL))
        ill = [film for film in pool if film.lesions]
        drawn = []
        for number in range(_BATCH):
            choice = ill if number % 2 and ill else pool
            film = choice[int(rng.integers(0, len(choice)))]
            image, labels = draw(film, self._pixels[film.path], rng, size)
            told = torch.tensor([part in film.annotated for part in _PARTS])
            drawn.append((image, targets(labels, size) | {"annotated": told}))
        images = torch.from_numpy(np.stack([image for image, _ in drawn]))[:, None]
        names = drawn[0][1].keys()
        return {"image": images} | {
            name: torch.stack([t[name] for _, t in drawn]) for name in names
        }

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Sum the losses of all heads, each over the films that are annotated for it."""
        weight = torch.ones(intraoral.HEADS["tooth"])
        weight[0] = 0.3
        told = dict(zip(_PARTS, batch["annotated"].unbind(1), strict=True))
        teeth = {name: batch[name][told["teeth"]] for name in ("sides", "weight")}
        sites = {name: batch[name][told["sites"]] for name in ("offsets", "known")}

        def of(part: str, name: str, target: str) -> tuple[torch.Tensor, torch.Tensor]:
            return outputs[name][told[part]], batch[target][told[part]]

        caries = of("caries", "outline", "depth")
        return {
            "centre": heat_loss(*of("teeth", "centre", "heat")),
            "box": box_loss(outputs["box"][told["teeth"]], teeth),
            "tooth": _class_loss(*of("numbers", "tooth", "tooth"), weight),
            "points": heat_loss(*of("sites", "points", "points")),
            "offsets": _offset_loss(outputs["offsets"][told["sites"]], sites),
            "caries": heat_loss(*of("caries", "caries", "caries")),
            "outline": _outline_loss(caries[0][:, 0], caries[1]),
            "depth": _depth_loss(*of("caries", "depth", "depth")),
        }

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Freeze the thresholds on the tuning films (see :mod:`training.intraoral_report`)."""
        from training import intraoral_report

        assert isinstance(net, DenseNet)
        thresholds = intraoral_report.choose_thresholds(net, read_part(self._data, "tune"))
        values = [thresholds[name] for name in intraoral.THRESHOLDS]
        return dict(net.state_dict()) | {"thresholds": torch.tensor(values)}


def draw(
    film: SyntheticFilm, pixels: np.ndarray, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, Labels]:
    """Augment `film` to `size` (rows, cols) and move its truth along; mirrored films renumber."""
    flip = bool(rng.random() < 0.5)
    matrix = augment.affine(rng, pixels.shape, size, 1.0, flip)  # type: ignore[arg-type]
    warped = augment.warp(rng, pixels, matrix, size)
    image = augment.appearance(rng, _shaded(rng, warped), may_mask=False)
    return image, _moved(film, pixels.shape, matrix, size, flip)


def _shaded(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Brighten one side, as uneven tissue and plates do."""
    rows, cols = pixels.shape
    lean = rng.normal(0, 0.18, 2)
    ramp = (
        lean[0] * np.linspace(-0.5, 0.5, cols)[None]
        + lean[1] * np.linspace(-0.5, 0.5, rows)[:, None]
    )
    shaded: np.ndarray = np.clip(pixels * (1 + ramp), 0, 255).astype(np.uint8)
    return shaded


def _moved(
    film: SyntheticFilm,
    shape: tuple[int, ...],
    matrix: np.ndarray,
    size: tuple[int, int],
    flip: bool,
) -> Labels:
    def move(points: Sequence[Point]) -> np.ndarray:
        moved: np.ndarray = np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]
        return moved

    teeth: list[Drawn] = []
    places: dict[str, int] = {}
    for truth in film.teeth:
        outline = move(truth.outline)
        (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, size[1] * 1.0), min(y1, size[0] * 1.0))
        seen = (box[2] - box[0]) * (box[3] - box[1])
        if box[2] > box[0] and box[3] > box[1] and seen > 0.3 * (x1 - x0) * (y1 - y0):
            code = mirrored(truth.tooth.code) if flip else truth.tooth.code
            places[truth.tooth.code] = len(teeth)
            place = NUMBER[code]
            corners = tuple(float(v) for v in box)
            teeth.append(Drawn(place // 16, place + 1, corners, outline))  # type: ignore[arg-type]
    points = []
    for site in film.sites:
        if site.tooth.code not in places:
            continue
        at_right = ((site.surface is Surface.MESIAL) == site.tooth.is_patient_right) != flip
        for kind, point in enumerate((site.cej, site.crest, site.apex)):
            x, y = move([point])[0]
            is_exposed = 0 <= point[0] < shape[1] and 0 <= point[1] < shape[0]
            if is_exposed and 0 <= x < size[1] and 0 <= y < size[0]:
                channel = kind * 2 + int(at_right)
                points.append((places[site.tooth.code], channel, (float(x), float(y))))
    lesions = []
    for lesion in film.lesions:
        outline = move(lesion.outline)
        x, y = outline.mean(axis=0)
        if 0 <= x < size[1] and 0 <= y < size[0]:
            lesions.append((outline, intraoral.DEPTHS.index(lesion.depth)))
    return Labels(teeth, points, lesions)


NUMBER = {tooth.code: index for index, tooth in enumerate(TEETH)}


def mirrored(code: str) -> str:
    """Give the number of the tooth at the same place on the other side."""
    return _MIRROR[code[0]] + code[1]


def targets(labels: Labels, size: tuple[int, int]) -> Batch:
    """Make the maps the network should give for an augmented film."""
    batch = panoramic.targets(labels.teeth, size, 2)
    rows, cols = size[0] // CELL, size[1] // CELL
    count = intraoral.HEADS["points"]
    heat = np.zeros((count, rows, cols), np.float32)
    offsets = np.zeros((2 * count, rows, cols), np.float32)
    known = np.zeros((count, rows, cols), np.float32)
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32) + 0.5
    for parent, channel, (x, y) in labels.points:
        _spot(heat[channel], x / CELL, y / CELL, _POINT_SIGMA)
        x0, y0, x1, y1 = (v / CELL for v in labels.teeth[parent].box)
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        near = (np.abs(xs - cx) < 0.16 * (x1 - x0) + 1) & (np.abs(ys - cy) < 0.12 * (y1 - y0) + 1)
        offsets[2 * channel][near] = (x - xs[near] * CELL) / BOX_UNIT
        offsets[2 * channel + 1][near] = (y - ys[near] * CELL) / BOX_UNIT
        known[channel][near] = 1.0
    caries = np.zeros((1, rows, cols), np.float32)
    depth = np.zeros((rows, cols), np.uint8)
    for outline, place in labels.lesions:
        moments = outline.mean(axis=0) / CELL
        _spot(caries[0], float(moments[0]), float(moments[1]), _LESION_SIGMA)
        ring = np.round(outline / CELL * 16 - 8).astype(np.int32)
        cv2.fillPoly(depth, [ring], place + 1, shift=4)
    return batch | {
        "points": torch.from_numpy(heat),
        "offsets": torch.from_numpy(offsets),
        "known": torch.from_numpy(known),
        "caries": torch.from_numpy(caries),
        "depth": torch.from_numpy(depth.astype(np.int64)),
    }


def _spot(heat: np.ndarray, x: float, y: float, sigma: float) -> None:
    """Draw a Gaussian spot round (x, y) cells, its own cell being 1."""
    rows, cols = heat.shape
    row, col = min(int(y), rows - 1), min(int(x), cols - 1)
    top, left = max(row - 5, 0), max(col - 5, 0)
    part = heat[top : row + 6, left : col + 6]
    ys, xs = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]] + 0.5
    blob = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    np.maximum(part, blob, out=part, casting="same_kind")
    heat[row, col] = 1.0


def _class_loss(logits: torch.Tensor, tooth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give the cross entropy of tooth classes; nothing to learn costs nothing."""
    if not len(logits):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits, tooth, weight)


def _offset_loss(offsets: torch.Tensor, batch: Batch) -> torch.Tensor:
    known = batch["known"].repeat_interleave(2, dim=1)
    distance = functional.smooth_l1_loss(offsets, batch["offsets"], reduction="none", beta=0.2)
    return (distance * known).sum() / known.sum().clamp(min=1.0)


def _outline_loss(logits: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Give weighted cross entropy plus Dice over lesion cells."""
    inside = (depth > 0).float()
    cross = functional.binary_cross_entropy_with_logits(
        logits, inside, pos_weight=torch.tensor(4.0), reduction="sum"
    ) / (50.0 + inside.sum() * 5)
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * inside).sum() + 20) / (p.sum() + inside.sum() + 20)
    return 0.3 * cross + dice


def _depth_loss(logits: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Give the cross entropy of "deeper than" at lesion cells."""
    at = depth > 0
    if not bool(at.any()):
        return logits.sum() * 0.0
    place = depth[at] - 1
    deeper = place[:, None] > torch.arange(logits.shape[1])[None]
    return functional.binary_cross_entropy_with_logits(
        logits.permute(0, 2, 3, 1)[at], deeper.float()
    )
