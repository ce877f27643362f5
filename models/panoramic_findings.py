"""Panoramic findings: gross caries, root remnants, restorations and impacted teeth.

Two looks at a film. A dense network over the whole film proposes boxes; together with the teeth
that the tooth network numbered they are the candidates. A second network looks at every candidate
in a crop of its own, at more than the dense network's resolution. Both opinions are weighed by
logistic regression, frozen on tuning films. Every mark is the box of a whole tooth: no set that
taught these networks says where on a tooth a lesion lies. Limits and figures:
models/cards/panoramic_caries.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models import panoramic, tooth_crops
from models.backbone import DenseNet
from models.panoramic import INPUT, Peak
from models.tooth_crops import FRAME, TAGS, BoxPx, TagNet
from models.weights import NO_SETTINGS, Settings
from node.domain.findings import Finding, FindingKind, ModelVersion, ToothMark
from node.domain.teeth import LOWER_ARCH
from node.errors import ConfigError

#: What the dense network's centre maps mean, in the words of its training set.
LABELS = ("cavity", "filling", "impacted tooth", "implant")
HEADS = {"centre": len(LABELS), "box": 4}
#: What is reported, in the order of ``mix`` and ``thresholds`` in the weights. "Implant" mixes
#: implants with root fillings in the training set, so it helps to tell the others and is no
#: finding.
KINDS: tuple[FindingKind, ...] = (
    FindingKind.CARIES,
    FindingKind.ROOT_REMNANT,
    FindingKind.IMPACTED_TOOTH,
    FindingKind.RESTORATION,
)
#: The crop network's parameters stand under this prefix.
CROP_PREFIX = "crop."
#: How many numbers a kind weighs: a constant, the crop network's logits, the dense network's.
WEIGHED = 1 + len(TAGS) + len(LABELS)

_LEAST_SCORE = 0.05
_SAME_LABEL_IOU = 0.45
_SAME_TOOTH_IOU = 0.5
_SAME_MARK_IOU = 0.3
#: Logits are kept within this range, so that one sure opinion does not drown the other.
_SUREST = 6.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place to look at: a box in the dense network's input pixels and the scores it got there.

    ``dense`` has the best score per label of :data:`LABELS` of the proposals that overlap it.
    """

    box: BoxPx
    is_lower: bool
    dense: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PanoramicFindings:
    """Both findings networks, how they are weighed, and from where on each kind is reported."""

    net: DenseNet
    crops: TagNet
    mix: np.ndarray
    thresholds: tuple[float, ...]
    version: ModelVersion
    settings: Settings = NO_SETTINGS

    @classmethod
    def from_state(
        cls, state: dict[str, torch.Tensor], version: ModelVersion, settings: Settings = NO_SETTINGS
    ) -> PanoramicFindings:
        """Build from a state dict with ``mix`` (kinds, weighed) and ``thresholds`` (kinds).

        Raises ConfigError when the state dict is of another architecture.
        """
        weights = dict(state)
        mix = weights.pop("mix", torch.empty(0)).numpy()
        crop = {k: weights.pop(k) for k in list(weights) if k.startswith(CROP_PREFIX)}
        net, thresholds = panoramic.build(weights, HEADS)
        if mix.shape != (len(KINDS), WEIGHED) or len(thresholds) != len(KINDS):
            raise ConfigError("the findings weights carry other kinds than this program's")
        tags = tooth_crops.build(
            TagNet(), {k.removeprefix(CROP_PREFIX): t for k, t in crop.items()}
        )
        return cls(net, tags, mix, tuple(float(t) for t in thresholds), version, settings)

    def warm_up(self) -> None:
        """Run both networks once, the crop network on crops."""
        panoramic.run(self.net, np.zeros(INPUT, np.float32))
        tooth_crops.warm_up(self.crops, "tags")

    def find(self, image: np.ndarray, teeth: Sequence[ToothMark] = ()) -> tuple[Finding, ...]:
        """Find what is there on a panoramic (rows, cols), 0..1.

        `teeth` are those of the tooth network: they are looked at too and lend their numbers.
        Without them only the dense network's proposals are.
        """
        boxes, opinions = self.opinions(image, teeth)
        scores = self.scores(opinions)
        found = []
        for number, kind in enumerate(KINDS):
            for index in distinct(boxes, scores[:, number]):
                score = float(scores[index, number])
                chance = self.settings.suggested(kind, score, self.thresholds[number])
                box = panoramic.on_film(boxes[index], image.shape)
                if chance is not None and box is not None:
                    tooth = panoramic.overlapping(box, teeth)
                    found.append(Finding(kind, box, tooth, probability=chance, model=self.version))
        return tuple(found)

    def opinions(
        self, image: np.ndarray, teeth: Sequence[ToothMark]
    ) -> tuple[list[BoxPx], np.ndarray]:
        """Give the candidates' boxes and what is weighed about each, (n, weighed).

        Boxes are in the dense network's input pixels.
        """
        maps = panoramic.run(self.net, panoramic.prepare(image))
        found = candidates(proposals(maps), teeth, image.shape)
        if not found:
            return [], np.zeros((0, WEIGHED))
        boxes = [panoramic.on_frame(candidate.box) for candidate in found]
        frame = panoramic.prepare(image, FRAME)
        crops = tooth_crops.cut(frame, boxes, [candidate.is_lower for candidate in found])
        logits = tooth_crops.run_both_ways(self.crops, crops, "tags")
        return [candidate.box for candidate in found], weighed(found, logits)

    def scores(self, opinions: np.ndarray) -> np.ndarray:
        """Weigh (n, weighed) opinions into a score per kind, (n, kinds), 0..1."""
        result: np.ndarray = 1.0 / (1.0 + np.exp(-(opinions @ self.mix.T)))
        return result


def proposals(maps: dict[str, np.ndarray]) -> list[Peak]:
    """Read the dense network's maps: what it sees, and where."""
    return panoramic.peaks(maps, _LEAST_SCORE, _SAME_LABEL_IOU)


def candidates(
    proposed: Sequence[Peak], teeth: Sequence[ToothMark], shape: tuple[int, ...]
) -> list[Candidate]:
    """Join the numbered teeth of a film of `shape` with the dense network's proposals."""
    fx, fy = INPUT[1] / shape[1], INPUT[0] / shape[0]
    found = [
        ((t.box.x0 * fx, t.box.y0 * fy, t.box.x1 * fx, t.box.y1 * fy), t.tooth in LOWER_ARCH)
        for t in teeth
    ]
    standing = tuple(found)
    for peak in sorted(proposed, key=lambda p: -p.score):
        if all(panoramic.iou(peak.box, box) < _SAME_TOOTH_IOU for box, _ in found):
            found.append((peak.box, is_lower(peak.box, standing, INPUT[0])))
    return [Candidate(box, low, _dense(box, proposed)) for box, low in found]


def is_lower(box: BoxPx, standing: Sequence[tuple[BoxPx, bool]], rows: int) -> bool:
    """Decide the jaw by the nearest of known teeth; without any, by the middle of the film."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    near = [(abs((b[0] + b[2]) / 2 - x) + abs((b[1] + b[3]) / 2 - y), low) for b, low in standing]
    return min(near)[1] if near else y > rows / 2


def _dense(box: BoxPx, proposed: Sequence[Peak]) -> tuple[float, ...]:
    best = [0.0] * len(LABELS)
    for peak in proposed:
        if peak.score > best[peak.channel] and panoramic.iou(box, peak.box) >= _SAME_TOOTH_IOU:
            best[peak.channel] = peak.score
    return tuple(best)


def weighed(found: Sequence[Candidate], tags: np.ndarray) -> np.ndarray:
    """Put a constant, the crops' `tags` logits (n, tags) and the dense logits side by side."""
    dense = np.clip(np.array([c.dense for c in found]).reshape(-1, len(LABELS)), 1e-3, 1 - 1e-3)
    both = np.concatenate([tags, np.log(dense / (1 - dense))], axis=1)
    return np.concatenate([np.ones((len(found), 1)), np.clip(both, -_SUREST, _SUREST)], axis=1)


def distinct(boxes: Sequence[BoxPx], scores: np.ndarray, floor: float = 0.005) -> list[int]:
    """Choose the best of boxes that overlap, down to the score `floor`; best first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        clear = all(panoramic.iou(boxes[index], boxes[other]) < _SAME_MARK_IOU for other in kept)
        if clear and scores[index] >= floor:
            kept.append(int(index))
    return kept
