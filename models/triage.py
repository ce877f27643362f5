"""What kind of image is this: bitewing, periapical, panoramic or something else.

A small classifier on the whole image, letterboxed so that its shape stays visible. Below the
frozen confidence it abstains. Limits and figures: models/cards/triage.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from models import runtime
from models.backbone import Lite0, fused
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import ModelVersion, View
from node.errors import ConfigError

#: The network's input is a square of this many pixels.
SIDE = 224
#: The views in the order of the classifier's outputs.
VIEWS: tuple[View, ...] = (View.BITEWING, View.PERIAPICAL, View.PANORAMIC, View.OTHER)


class TriageNet(nn.Module):
    """Lite0, average and maximum over the image, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Lite0()
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(640, len(VIEWS))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map an (n, 1, 224, 224) batch of 0..1 pixels to ``view`` logits (n, 4)."""
        features = self.backbone(((x - 0.45) / 0.25).expand(-1, 3, -1, -1))[-1]
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return {"view": self.head(self.drop(pooled))}


def prepare(image: np.ndarray) -> np.ndarray:
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
class Triage:
    """The view classifier with its temperature and its least confidence."""

    net: TriageNet
    temperature: float
    least: float
    version: ModelVersion
    settings: Settings = NO_SETTINGS

    @classmethod
    def from_state(
        cls, state: dict[str, torch.Tensor], version: ModelVersion, settings: Settings = NO_SETTINGS
    ) -> Triage:
        """Build from a state dict with ``thresholds``: temperature, least probability.

        The temperature of the calibration "view", where the entry has one, takes the former's
        place.

        Raises ConfigError when the state dict is of another architecture.
        """
        weights = dict(state)
        try:
            temperature, least = (float(v) for v in weights.pop("thresholds"))
            net = TriageNet()
            net.load_state_dict(weights)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ConfigError("the triage weights do not fit this program") from error
        fused(net).to(runtime.device())
        return cls(net, settings.temperature("view", temperature), least, version, settings)

    def view(self, image: np.ndarray) -> tuple[View | None, float]:
        """Name the view of `image` (rows, cols), 0..1; None when not confident enough.

        The probability is that of the most likely view, also when it is too low to name it.
        """
        if float(image.max() - image.min()) < 1e-3:
            return View.OTHER, 1.0
        batch = torch.from_numpy(prepare(image))[None, None]
        batch = batch.to(runtime.device_of(self.net))
        with torch.inference_mode():
            logits = self.net(batch)["view"][0] / self.temperature
        probabilities = torch.softmax(logits.float(), dim=0).cpu().numpy()
        best = int(np.argmax(probabilities))
        probability = min(1.0, float(probabilities[best]))
        return (VIEWS[best] if probability >= self.least else None), probability
