"""Train the network for bitewings and periapicals.

The folder holds synthetic films or another set that :mod:`training.layouts` knows, or several sets
in sub-folders. A COCO set among them holds panoramics with numbered tooth masks: pieces of its
training part lend real texture to numbering and masks (:mod:`training.close_films`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import geometry, intraoral_maps
from models.backbone import DenseNet
from models.intraoral_maps import BOX_HEADS
from node.domain.findings import View
from node.domain.teeth import Tooth
from node.errors import ConfigError
from training import augment, close_films, layouts, looks, panoramic
from training.datasets import Film, read_coco, split
from training.intraoral_targets import TOLD, UNTOLD, Labels, moved, targets
from training.panoramic import box_loss
from training.synthetic import SyntheticFilm, ToothTruth
from training.train import Batch

#: Sets in this layout are panoramics to cut pieces from.
_PANORAMICS = "COCO"
_BATCH = 4
#: Most of the run is at a small size; the last part sees films as the product will.
_SMALL = 0.75
_SMALL_UNTIL = 0.5
#: How often a film is a piece of a panoramic, where there are any.
_CLOSE_SHARE = 0.2
#: This many of the backbone's sixteen blocks stay as ImageNet left them: they cost most.
_KEPT_BLOCKS = 5
#: Distances of kinds that are rare or small count more.
_WEIGHTS = {"caries": 1.5, "marks": 1.5, "mark_box": 0.5, "overlap": 0.5}


class IntraoralTask:
    """Everything the intraoral network learns; `start` gives weights to go on from."""

    def __init__(self, data: Path, start: Path | None = None) -> None:
        self._data, self._start = data, start
        films = layouts.read_part(data, "train")
        self._pixels = {film.path: film.read() for film in films}
        shapes = {path: pixels.shape for path, pixels in self._pixels.items()}
        # One batch has one orientation.
        lying = [f for f in films if shapes[f.path][1] >= shapes[f.path][0]]
        standing = [f for f in films if shapes[f.path][1] < shapes[f.path][0]]
        self._pools = [(geometry.LYING, lying), (geometry.STANDING, standing)]
        self._share = len(lying) / len(films)
        sets = [path for name, path in layouts.sets(data) if name == _PANORAMICS]
        self._close = [film for path in sets for film in split(read_coco(path)).train]
        self._close_pixels = {film.path: film.read() for film in self._close}

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        parts = [(part, layouts.read_part(self._data, part)) for part in ("train", "tune")]
        made = [
            Film(film.path, 0, 0, part, film.group or film.path.stem, (), film.origin, film.source)
            for part, films in parts
            for film in films
        ]
        return made + self._close

    def network(self) -> nn.Module:
        """Start from the ImageNet backbone or `start`, its first layers kept, expecting little."""
        net = panoramic.pretrained(intraoral_maps.HEADS)
        with torch.no_grad():
            for name in ("points", "caries", "outline", "overlap", "marks"):
                _bias(net, name, -3.0)
            _bias(net, "mark_box", 1.0)
        if self._start is not None:
            _load_fitting(net, self._start)
        first = (net.backbone._conv_stem, net.backbone._bn0, *net.backbone._blocks[:_KEPT_BLOCKS])
        for layer in first:
            layer.requires_grad_(False)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw films of one orientation, half of them with caries, some pieces of panoramics."""
        size, pool = self._pools[0 if rng.random() < self._share else 1]
        if progress < _SMALL_UNTIL:
            size = (round(size[0] * _SMALL), round(size[1] * _SMALL))
        ill = [film for film in pool if film.lesions]
        drawn = []
        for number in range(_BATCH):
            made = None
            if self._close and rng.random() < _CLOSE_SHARE:
                made = self._piece(rng, size)
            if made is None:
                choice = ill if number % 2 and ill else pool
                film = choice[int(rng.integers(0, len(choice)))]
                made = draw(film, self._pixels[film.path], rng, size)
            drawn.append((made[0], targets(made[1], size)))
        images = torch.from_numpy(np.stack([image for image, _ in drawn]))[:, None]
        names = drawn[0][1].keys()
        return {"image": images} | {
            name: torch.stack([t[name] for _, t in drawn]) for name in names
        }

    def _piece(
        self, rng: np.random.Generator, size: tuple[int, int]
    ) -> tuple[np.ndarray, Labels] | None:
        """Draw a piece of a panoramic; None when the one chosen lacks the teeth."""
        film = self._close[int(rng.integers(0, len(self._close)))]
        is_standing = size[0] > size[1]
        view = View.BITEWING if not is_standing and rng.random() < 0.4 else View.PERIAPICAL
        boxes = close_films.boxes_of(film)
        cut = close_films.window(boxes, view, is_standing, rng)
        if cut is None:
            return None
        pixels = self._close_pixels[film.path]
        high = float(np.median([box[3] - box[1] for box in boxes.values()]))
        share = close_films.tooth_share(is_standing, rng)
        fit = close_films.fit(cut, high, pixels.shape, size, share)
        return draw(as_close(film, view), pixels, rng, size, fit)

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Sum the losses of all heads; what a film does not tell teaches nothing."""
        told = {name: batch["told"][:, i] for i, name in enumerate(TOLD)}
        weight = torch.ones(intraoral_maps.HEADS["tooth"])
        weight[0] = 0.3
        number = functional.cross_entropy(
            outputs["tooth"], batch["tooth"], weight, ignore_index=UNTOLD
        )
        parts = {
            "centre": heat_loss(outputs["centre"], batch["heat"], told["teeth"]),
            "box": box_loss(outputs["box"], batch),
            "tooth": torch.nan_to_num(number),
            "points": heat_loss(outputs["points"], batch["points"], told["sites"]),
            "offsets": offset_loss(outputs["offsets"], batch),
            "caries": heat_loss(outputs["caries"], batch["caries"], told["caries"]),
            "outline": outline_loss(outputs["outline"][:, 0], batch["inside"], told["caries"]),
            "depth": depth_loss(outputs["depth"], batch["depth"]),
            "overlap": double_loss(outputs["overlap"], batch["overlap"], told["teeth"]),
            "marks": heat_loss(outputs["marks"], batch["marks"], told["marks"]),
            "mark_box": mark_box_loss(outputs["mark_box"], batch),
        }
        return {name: part * _WEIGHTS.get(name, 1.0) for name, part in parts.items()}

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Freeze the thresholds on the tuning films (see :mod:`training.intraoral_freeze`)."""
        from models.intraoral import THRESHOLDS
        from training import intraoral_freeze

        assert isinstance(net, DenseNet)
        thresholds = intraoral_freeze.choose_thresholds(net, layouts.read_part(self._data, "tune"))
        values = [thresholds[name] for name in THRESHOLDS]
        return dict(net.state_dict()) | {"thresholds": torch.tensor(values)}


def _bias(net: DenseNet, head: str, value: float) -> None:
    """Let a head begin near one value everywhere, else the first steps are spent on unlearning."""
    layer = net.heads[head]
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    layer.weight.mul_(0.1)
    layer.bias.fill_(value)


def _load_fitting(net: nn.Module, start: Path) -> None:
    """Load what fits of the weights in `start`; a head that grew keeps its first channels.

    Raises ConfigError when nothing fits.
    """
    state = torch.load(start, map_location="cpu", weights_only=True)
    state = state.get("average", state)
    own = net.state_dict()
    fitting = 0
    for name, tensor in state.items():
        if name not in own or tensor.shape[1:] != own[name].shape[1:]:
            continue
        count = min(tensor.shape[0], own[name].shape[0]) if tensor.ndim else 0
        if tensor.ndim:
            own[name][:count] = tensor[:count].float()
        else:
            own[name] = tensor
        fitting += 1
    if not fitting:
        raise ConfigError(f"nothing in {start} fits the intraoral network")
    net.load_state_dict(own)


def draw(
    film: SyntheticFilm,
    pixels: np.ndarray,
    rng: np.random.Generator,
    size: tuple[int, int],
    fit: np.ndarray | None = None,
) -> tuple[np.ndarray, Labels]:
    """Augment `film` to `size` (rows, cols) and move its truth along; mirrored films renumber.

    `fit` lays the film on the input before the changes; without it the film is fitted whole.
    """
    flip = bool(rng.random() < 0.5)
    matrix = _placed(rng, pixels.shape, size, fit, flip)
    warped = augment.warp(rng, pixels, matrix, size)
    image = intraoral_maps.stretch(looks.change(rng, warped))
    return image, moved(film, pixels.shape, matrix, size, flip)


def _placed(
    rng: np.random.Generator,
    stored: tuple[int, ...],
    size: tuple[int, int],
    fit: np.ndarray | None,
    flip: bool,
) -> np.ndarray:
    """Lay a film on the input keeping its proportions, then shake it."""
    if fit is None:
        scale = min(size[0] / stored[0], size[1] / stored[1])
        left, top = (size[1] - stored[1] * scale) / 2, (size[0] - stored[0] * scale) / 2
        fit = np.array([[scale, 0.0, left], [0.0, scale, top]])
    shake = augment.affine(rng, size, size, 0.9, flip)
    matrix: np.ndarray = np.zeros((2, 3))
    matrix[:, :2] = shake[:, :2] @ fit[:, :2]
    matrix[:, 2] = shake[:, :2] @ fit[:, 2] + shake[:, 2]
    return matrix


def as_close(film: Film, view: View) -> SyntheticFilm:
    """Give a panoramic as an intraoral film of which teeth, numbers and masks are told."""
    teeth = tuple(
        ToothTruth(Tooth(mark.label), mark.box, mark.outline or _corners(mark.box))
        for mark in film.marks
        if mark.label[:1] in "1234" and len(mark.label) == 2
    )
    return SyntheticFilm(
        path=film.path,
        view=view,
        bits_stored=8,
        spacing_mm=0.0,
        teeth=teeth,
        sites=(),
        lesions=(),
        origin="real",
        annotated=frozenset({"teeth", "numbers"}),
    )


def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    x0, y0, x1, y1 = box
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def heat_loss(logits: torch.Tensor, heat: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Give the penalty-reduced focal loss of centre maps over films that tell them.

    Source: Zhou et al. 2019, CenterNet, eq. 1.
    """
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    is_centre = heat >= 1.0
    at = torch.log(p) * (1 - p) ** 2 * is_centre
    off = torch.log1p(-p) * p**2 * (1 - heat) ** 4 * ~is_centre
    sums = ((at + off).sum(dim=(1, 2, 3)) * told).sum()
    return -sums / (is_centre.sum(dim=(1, 2, 3)) * told).sum().clamp(min=1)


def offset_loss(offsets: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Give the distance of the expected points from the true ones, near the centres."""
    known = batch["known"].repeat_interleave(2, dim=1)
    distance = functional.smooth_l1_loss(offsets, batch["offsets"], reduction="none", beta=0.2)
    return (distance * known).sum() / known.sum().clamp(min=1.0)


def outline_loss(logits: torch.Tensor, inside: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Give weighted cross entropy plus Dice over lesion cells."""
    known = told[:, None, None]
    inside = inside * known
    cross = functional.binary_cross_entropy_with_logits(
        logits, inside, pos_weight=torch.tensor(4.0), reduction="none"
    )
    entropy = (cross * known).sum() / (50.0 + inside.sum() * 5)
    p = torch.sigmoid(logits) * known
    dice = 1 - (2 * (p * inside).sum() + 20) / (p.sum() + inside.sum() + 20)
    return 0.3 * entropy + dice


def depth_loss(logits: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Give the cross entropy of "deeper than" at lesion cells."""
    at = depth > 0
    if not bool(at.any()):
        return logits.sum() * 0.0
    place = depth[at] - 1
    deeper = place[:, None] > torch.arange(logits.shape[1], device=depth.device)[None]
    return functional.binary_cross_entropy_with_logits(
        logits.permute(0, 2, 3, 1)[at], deeper.float()
    )


def double_loss(logits: torch.Tensor, share: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Give weighted cross entropy of cells covered by two teeth, plus Dice."""
    known = told[:, None, None, None]
    cross = functional.binary_cross_entropy_with_logits(
        logits, share, pos_weight=torch.tensor(3.0), reduction="none"
    )
    p, share = torch.sigmoid(logits) * known, share * known
    dice = 1 - (2 * (p * share).sum() + 20) / (p.sum() + share.sum() + 20)
    return (cross * known).sum() / (100.0 + share.sum() * 5) + dice


def mark_box_loss(sides: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum :func:`training.panoramic.box_loss` over the box heads."""
    total = sides.sum() * 0.0
    for head in range(BOX_HEADS):
        four = slice(4 * head, 4 * head + 4)
        own = {"weight": batch["mark_weight"][:, head], "sides": batch["mark_sides"][:, four]}
        if bool((own["weight"] > 0).any()):
            total = total + box_loss(sides[:, four], own)
    return total
