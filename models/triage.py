"""What kind of image is this, how does it lie, is it a negative, is it spoilt, what does it show.

One small network on the whole image, letterboxed so that its shape stays visible, with a head per
question. A head that is not sure says nothing: the view is then unknown, the region empty, and an
image is never taken to lie otherwise than stored unless its upright copy confirms it. Limits and
figures: models/cards/triage.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import runtime
from models.backbone import Lite0, fused
from models.orientation import Turned
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import UPRIGHT, ModelVersion, Orientation, View
from node.errors import ConfigError

#: The network's input is a square of this many pixels.
SIDE = 224
#: The views in the order of the classifier's outputs.
VIEWS: tuple[View, ...] = tuple(View)
#: The views the finding networks read.
READ_VIEWS = (View.BITEWING, View.PERIAPICAL, View.PANORAMIC)
#: What can be wrong with an intraoral film as a whole, in the order of the head's outputs.
FAULTS = ("cone_cut", "receptor", "motion", "double")
#: The places of the jaw in the order of the head's outputs.
PLACES = ("incisor", "canine", "premolar", "molar")
#: Outputs of each head: ``turns`` clockwise quarter turns to upright, ``jaw`` upper or lower,
#: ``side`` the patient's right or left.
HEADS: Mapping[str, int] = {
    "view": len(VIEWS),
    "inverted": 2,
    "faults": len(FAULTS),
    "turns": 4,
    "jaw": 2,
    "place": len(PLACES),
    "side": 2,
}
_LAYOUT_HEADS = ("turns", "jaw", "place", "side")
#: Temperatures of the heads view, turns and inverted, then a threshold for each fault.
THRESHOLDS = ("view", "turns", "inverted", *FAULTS)

#: A view is named from this probability upwards; what is refused needs more, because refusing a
#: radiograph is worse than reading a picture that is none.
_LEAST_VIEW, _LEAST_REFUSAL = 0.5, 0.8
#: How often a stored image lies otherwise than upright, against how often it did in training.
_TURN_PRIOR = np.log(np.array([0.94, 0.02, 0.02, 0.02]) / np.array([0.5, 0.1667, 0.1667, 0.1667]))
_LEAST_TURN, _LEAST_INVERTED, _LEAST_REGION = 0.9, 0.9, 0.85
_LEAST_UPRIGHT, _SURELY_UPRIGHT = 0.5, 0.9

Pixels = np.ndarray


class TriageNet(nn.Module):
    """Lite0; what it is from the whole image, how it lies from a coarse grid of it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Lite0()
        self.drop = nn.Dropout(0.2)
        self.squeeze = nn.Conv2d(320, 64, 1)
        self.layout = nn.Linear(9 * 64, 128)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(128 if name in _LAYOUT_HEADS else 640, n) for name, n in HEADS.items()}
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an (n, 1, 224, 224) batch of 0..1 pixels to logits (n, outputs) per head."""
        features = self.backbone(((x - 0.45) / 0.25).expand(-1, 3, -1, -1))[-1]
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        grid = functional.avg_pool2d(functional.relu(self.squeeze(features)), 3, stride=2)
        layout = functional.relu(self.layout(grid.flatten(1)))
        whole, parts = self.drop(pooled), self.drop(layout)
        return {
            name: head(parts if name in _LAYOUT_HEADS else whole)
            for name, head in self.heads.items()
        }


def prepare(image: Pixels) -> Pixels:
    """Stretch the grey range and letterbox `image` into a black square, as float32 0..1."""
    rows, cols = image.shape
    scale = SIDE / max(rows, cols)
    size = (max(1, round(cols * scale)), max(1, round(rows * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image.astype(np.float32), size, interpolation=how)
    low, high = np.percentile(small, (0.5, 99.5))
    square = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    stretched = np.clip((small - low) / max(high - low, 1e-3), 0.0, 1.0)
    square[top : top + size[1], left : left + size[0]] = stretched
    return square


@dataclass(frozen=True, slots=True)
class Look:
    """What the network says of an image; what it is not sure of is None or empty.

    ``probability`` is that of the most likely view, also when it is too low to name it.
    ``is_lie_sure`` is False when the image seems turned but how could not be told. ``faults`` has
    those found, with their probability. ``jaw`` is upper or lower, ``place`` one of
    :data:`PLACES`, ``side`` R or L as the image stands upright.
    """

    view: View | None
    probability: float
    orientation: Orientation = UPRIGHT
    is_lie_sure: bool = True
    faults: Mapping[str, float] = field(default_factory=dict)
    jaw: str = ""
    place: str = ""
    side: str = ""

    @property
    def region(self) -> str:
        """The part of the mouth in words, as far as it is known: "upper right molar"."""
        side = {"R": "right", "L": "left"}.get(self.side, "")
        return " ".join(word for word in (self.jaw, side, self.place) if word)


@dataclass(frozen=True, slots=True)
class Triage:
    """The network with its temperatures and the thresholds of its faults."""

    net: nn.Module
    thresholds: Mapping[str, float]
    version: ModelVersion
    settings: Settings = NO_SETTINGS

    @classmethod
    def from_state(
        cls, state: dict[str, torch.Tensor], version: ModelVersion, settings: Settings = NO_SETTINGS
    ) -> Triage:
        """Build from a state dict with ``thresholds`` (see :data:`THRESHOLDS`).

        The temperature of the calibration "view", where the entry has one, takes the former's
        place. Raises ConfigError when the state dict is of another architecture.
        """
        weights = dict(state)
        try:
            numbers = [float(value) for value in weights.pop("thresholds")]
            thresholds = dict(zip(THRESHOLDS, numbers, strict=True))
            net = TriageNet()
            net.load_state_dict(weights)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ConfigError("the triage weights do not fit this program") from error
        thresholds["view"] = settings.temperature("view", thresholds["view"])
        fused(net).to(runtime.device())
        return cls(net, thresholds, version, settings)

    def view(self, image: Pixels) -> tuple[View | None, float]:
        """Name the view of `image` (rows, cols), 0..1; None when not confident enough."""
        look = self.look(image)
        return look.view, look.probability

    def look(self, image: Pixels) -> Look:
        """Say all that can be told of `image` (rows, cols), 0..1, as it is stored."""
        if float(image.max() - image.min()) < 1e-3:
            return Look(View.OTHER, 1.0)
        (first,) = self._ask([image])
        if VIEWS[int(np.argmax(first["view"]))] not in READ_VIEWS:
            return self._answer(first, UPRIGHT, is_lie_sure=True)
        turns = self._turns(image, first)
        orientation, said = self._put_right(image, first, turns)
        is_lie_sure = orientation.quarter_turns > 0 or bool(turns[0] >= _LEAST_UPRIGHT)
        return self._answer(said, orientation, is_lie_sure)

    def _turns(self, image: Pixels, first: Mapping[str, Pixels]) -> Pixels:
        """Give the probabilities of 0 to 3 turns; a doubtful image is asked lying four ways."""
        if first["turns"][0] >= _SURELY_UPRIGHT:
            return _with_prior(np.log(first["turns"]))
        others = self._ask([np.rot90(image, number) for number in (1, 2, 3)])
        # A copy turned counter-clockwise once more needs one clockwise turn more than the image.
        votes = [np.roll(np.log(o["turns"]), -n) for n, o in enumerate([first, *others])]
        return _with_prior(np.sum(votes, axis=0) / 2)  # four votes of one image are not four

    def _put_right(
        self, image: Pixels, first: Mapping[str, Pixels], turns: Pixels
    ) -> tuple[Orientation, Mapping[str, Pixels]]:
        """Turn and invert a copy as far as the copy then says that it lies well."""
        turned = int(np.argmax(turns))
        if turns[turned] < _LEAST_TURN:
            turned = 0
        is_inverted = bool(first["inverted"][1] >= _LEAST_INVERTED)
        for candidate in dict.fromkeys(
            (
                Orientation(turned, False, is_inverted),
                Orientation(0, False, is_inverted),
                Orientation(turned),
            )
        ):
            if candidate.is_usual:
                continue
            (copy,) = self._ask([Turned(candidate, *image.shape).upright(image)])
            stands = _with_prior(np.log(copy["turns"]))[0] >= _LEAST_UPRIGHT
            is_positive = copy["inverted"][1] < _LEAST_INVERTED
            if (stands or not candidate.quarter_turns) and (
                is_positive or not candidate.is_inverted
            ):
                return candidate, copy
        return UPRIGHT, first

    def _ask(self, images: Sequence[Pixels]) -> list[dict[str, Pixels]]:
        """Run the network and give each head's probabilities for each image."""
        batch = torch.from_numpy(np.stack([prepare(image) for image in images]))[:, None]
        with torch.inference_mode():
            maps = self.net(batch.to(runtime.device_of(self.net)))
        logits = {
            name: map_.float().cpu().numpy().astype(np.float64) for name, map_ in maps.items()
        }
        for name in ("view", "turns", "inverted"):
            logits[name] = logits[name] / self.thresholds[name]
        faults = 1.0 / (1.0 + np.exp(-np.clip(logits.pop("faults"), -30, 30)))
        return [
            {name: _softmax(rows[index]) for name, rows in logits.items()}
            | {"faults": faults[index]}
            for index in range(len(images))
        ]

    def _answer(
        self, said: Mapping[str, Pixels], orientation: Orientation, is_lie_sure: bool
    ) -> Look:
        best = int(np.argmax(said["view"]))
        view, probability = VIEWS[best], min(1.0, float(said["view"][best]))
        least = _LEAST_VIEW if view in READ_VIEWS else _LEAST_REFUSAL
        if probability < least:
            return Look(None, probability, orientation, is_lie_sure)
        if view not in (View.BITEWING, View.PERIAPICAL):
            return Look(view, probability, orientation, is_lie_sure)
        jaw = _confident(said["jaw"], ("upper", "lower")) if view is View.PERIAPICAL else ""
        place = _confident(said["place"], PLACES)
        side = _confident(said["side"], ("R", "L")) if place != "incisor" else ""
        faults = {
            name: float(said["faults"][index])
            for index, name in enumerate(FAULTS)
            if said["faults"][index] >= self.thresholds[name]
        }
        return Look(view, probability, orientation, is_lie_sure, faults, jaw, place, side)


def _confident(probabilities: Pixels, names: tuple[str, ...]) -> str:
    best = int(np.argmax(probabilities))
    return names[best] if probabilities[best] >= _LEAST_REGION else ""


def _with_prior(logarithms: Pixels) -> Pixels:
    return _softmax(logarithms + _TURN_PRIOR)


def _softmax(logits: Pixels) -> Pixels:
    powers = np.exp(logits - logits.max())
    result: Pixels = np.maximum(powers / powers.sum(), 1e-12)
    return result
