"""Teeth one by one: a crop round each box, at one scale, crown down, for networks that look close.

A film is first resized to :data:`FRAME`, one and a half times the input of the panoramic networks.
A crop shows the tooth's box with a margin, keeps its proportions, and shows lower teeth upside
down, so that every crown points the same way. A second channel marks the box, which tells the
network which of the teeth it sees is meant.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import runtime
from models.backbone import Lite0, Separable, fused
from node.errors import ConfigError

#: Rows and columns of the film when crops are cut from it.
FRAME = (672, 1152)
#: Rows and columns of a crop.
CROP = (160, 96)
#: How much more than the box a crop shows, at least.
CONTEXT = 1.3
#: Cells of the mask are this many crop pixels wide.
MASK_CELL = 2

#: Crops that run in one pass, which bounds memory.
_AT_ONCE = 32

#: What a crop can show, in the order of the tag head.
TAGS = ("caries", "broken", "impacted", "filling", "implant", "periapical")

#: Block numbers of the backbone whose outputs have strides 2, 4, 8 and 16, and their channels.
_TAPS = {0: 16, 2: 24, 4: 40, 10: 112}

BoxPx = tuple[float, float, float, float]


def placement(box: Sequence[float], is_lower: bool) -> np.ndarray:
    """Give the 2x3 matrix from :data:`FRAME` pixels to the pixels of the crop round `box`.

    Both frames have their origin at the corner of the corner pixel.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    scale = CROP[0] / (CONTEXT * max(height, width * CROP[0] / CROP[1], 4.0))
    up = -scale if is_lower else scale
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return np.array([[scale, 0.0, CROP[1] / 2 - scale * x], [0.0, up, CROP[0] / 2 - up * y]])


def warp(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Cut the crop that `matrix` (corner-origin frames) places out of `pixels`."""
    shifted = matrix.copy()
    # OpenCV counts from pixel centres.
    shifted[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    crop: np.ndarray = cv2.warpAffine(
        pixels, shifted, CROP[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return crop


def stretch(crop: np.ndarray) -> np.ndarray:
    """Stretch the grey range of a crop to 0..1: what counts is the contrast near by."""
    low, high = np.percentile(crop, (1.0, 99.0))
    result: np.ndarray = np.clip((crop - low) / max(high - low, 0.05), 0.0, 1.0)
    return result.astype(np.float32)


def indicator(corners: Sequence[float]) -> np.ndarray:
    """Draw the box (x0, y0, x1, y1 in crop pixels) as ones."""
    x0, x1 = sorted((corners[0], corners[2]))
    y0, y1 = sorted((corners[1], corners[3]))
    drawn = np.zeros(CROP, np.float32)
    drawn[max(round(y0), 0) : max(round(y1), 0), max(round(x0), 0) : max(round(x1), 0)] = 1.0
    return drawn


def cut(frame: np.ndarray, boxes: Sequence[BoxPx], lower: Sequence[bool]) -> np.ndarray:
    """Cut (n, 2, rows, cols) crops out of a 0..1 film of size :data:`FRAME`; boxes in its pixels.

    `lower` says per box whether the tooth stands in the lower jaw.
    """
    crops = np.zeros((len(boxes), 2, *CROP), np.float32)
    for index, (box, is_lower) in enumerate(zip(boxes, lower, strict=True)):
        matrix = placement(box, is_lower)
        crops[index, 0] = stretch(warp(frame, matrix))
        corners = np.reshape(box, (2, 2)) @ matrix[:, :2].T + matrix[:, 2]
        crops[index, 1] = indicator(corners.ravel().tolist())
    return crops


Net = TypeVar("Net", bound=nn.Module)


def loaded(net: Net, state: dict[str, torch.Tensor]) -> Net:
    """Load `state` into `net` and return it; raises ConfigError when they do not fit."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError("the weights do not fit this program's architecture") from error
    return net


def build(net: Net, state: dict[str, torch.Tensor]) -> Net:
    """Load `state` into `net`, ready to run; raises ConfigError when they do not fit."""
    loaded(net, state)
    # PyTorch's stub forgets that memory_format stands alone for modules.
    fused(net).to(runtime.device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def run(net: nn.Module, crops: np.ndarray, name: str) -> np.ndarray:
    """Run `net` over (n, 2, rows, cols) crops, some at a time, and give its output `name`."""
    device = runtime.device_of(net)
    parts: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(crops), _AT_ONCE):
            batch = torch.from_numpy(crops[start : start + _AT_ONCE]).to(device)
            parts.append(net(batch)[name].float().cpu().numpy())
    return np.concatenate(parts)


def run_both_ways(net: nn.Module, crops: np.ndarray, name: str) -> np.ndarray:
    """Average the output `name` over (n, 2, rows, cols) crops and their mirror images.

    For outputs that say nothing of place: a mirrored tooth shows the same things.
    """
    mirrored = np.ascontiguousarray(crops[..., ::-1])
    mean: np.ndarray = (run(net, crops, name) + run(net, mirrored, name)) / 2
    return mean


def warm_up(net: nn.Module, name: str) -> None:
    """Run `net` once on as many empty crops as go together."""
    run(net, np.zeros((_AT_ONCE, 2, *CROP), np.float32), name)


class _Levels(nn.Module):
    """The first eleven blocks of the backbone and a way back up to the stride of `widths`' end."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.backbone = Lite0(tuple(_TAPS))
        channels = list(_TAPS.values())[::-1][: len(widths)]
        self.laterals = nn.ModuleList(
            nn.Conv2d(c, width, 1) for c, width in zip(channels, widths, strict=True)
        )
        self.climbs = nn.ModuleList(
            nn.Identity() if a == b else nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths)
        )
        self.mixers = nn.ModuleList(
            nn.Sequential(Separable(width, 5), Separable(width, 5)) for width in widths
        )

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give the mixed features of an (n, 2, rows, cols) batch, the coarsest first."""
        grey, box = (x[:, :1] - 0.45) / 0.25, 2.0 * x[:, 1:] - 1.0
        taps = self.backbone(torch.cat([grey, grey, box], dim=1))[::-1]
        levels: list[torch.Tensor] = []
        for number, (lateral, mixer) in enumerate(zip(self.laterals, self.mixers, strict=True)):
            y = lateral(taps[number])
            if levels:
                climbed = self.climbs[number - 1](levels[-1])
                y = y + functional.interpolate(climbed, scale_factor=2.0, mode="bilinear")
            levels.append(mixer(y))
        return levels


class MaskNet(_Levels):
    """Which pixels of a crop belong to the tooth that is meant."""

    def __init__(self) -> None:
        super().__init__((48, 48, 32, 24))
        self.head = nn.Conv2d(24, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map crops to ``mask`` logits (n, rows / 2, cols / 2)."""
        return {"mask": self.head(self.features(x)[-1])[:, 0]}


class TagNet(_Levels):
    """What the tooth of a crop shows: one logit per entry of :data:`TAGS`.

    A small lesion decides by the strongest cells inside the box; what concerns the whole tooth by
    averages. ``map`` says where in the crop caries is suspected; no set taught it places.
    """

    def __init__(self) -> None:
        super().__init__((64, 64))
        self.drop = nn.Dropout(0.2)
        self.map = nn.Conv2d(64, len(TAGS), 1)
        self.head = nn.Linear(64 * 3, len(TAGS))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map crops to ``tags`` logits (n, tags) and the ``map`` (n, tags, rows / 8, cols / 8)."""
        coarse, fine = self.features(x)
        box = functional.avg_pool2d(x[:, 1:], 8)
        inside = (fine * box).sum(dim=(2, 3)) / box.sum(dim=(2, 3)).clamp(min=1.0)
        pooled = torch.cat([inside, fine.amax(dim=(2, 3)), coarse.mean(dim=(2, 3))], dim=1)
        cells = self.map(fine)
        # The box is soft: cells outside it count less, by the logarithm of their share.
        near = cells + torch.log(functional.avg_pool2d(box, 3, 1, 1) + 1e-2)
        strongest = torch.logsumexp(near.flatten(2), dim=2) - np.log(cells[0, 0].numel() / 4)
        return {"tags": self.head(self.drop(pooled)) + strongest, "map": cells}
