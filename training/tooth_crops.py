"""Train the networks that look at one tooth at a time: ``python -m training.tooth_crops --help``.

Masks come from tooth outlines (UFBA form). Tags come from any mix of box sets: a set teaches only
the tags its words cover (:data:`WORDS`); what it leaves unsaid does not count. Which teeth stand
on a film besides the annotated ones is asked of the dense networks once and kept beside the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import panoramic, panoramic_findings, tooth_crops
from models.panoramic import PanoramicTeeth
from models.tooth_crops import CROP, FRAME, TAGS, BoxPx
from node.domain.findings import ModelVersion
from node.errors import BitewingError, ConfigError, InvalidInput, outcome
from training import augment, train
from training.datasets import Film, Mark, Splits, divide, read_coco, split
from training.panoramic import pretrained_backbone
from training.train import Batch

_BATCH = 32
#: The share of crops whose grey values are left alone.
_AS_IT_IS = 0.25
#: How far the tooth network's boxes are off the annotated ones, a side, in shares of their size:
#: 0.06 to 0.08 on the tuning films. A mask network that was taught with better boxes trusts them.
_MASK_SIDE_ERROR = 0.07
#: How often tag crops are blended with another of the batch, and the beta distribution's numbers.
_BLENDED, _BLEND = 0.5, 0.4

#: What a word of a data set says about the tags: 1 present, 0 absent; a tag not named is unknown.
#: A broken-down tooth is carious as a rule, so it teaches both.
WORDS: dict[str, dict[str, int]] = {
    "cavity": {"caries": 1, "impacted": 0, "implant": 0},
    "filling": {"caries": 0, "filling": 1, "impacted": 0},
    "implant": {"caries": 0, "implant": 1, "impacted": 0},
    "impacted tooth": {"caries": 0, "impacted": 1, "filling": 0, "implant": 0},
    "caries": {"caries": 1, "broken": 0, "impacted": 0, "periapical": 0},
    "broken-down crown or root": {"caries": 1, "broken": 1, "impacted": 0},
    "fractured tooth": {"broken": 1, "impacted": 0},
    "infection": {"periapical": 1, "impacted": 0},
    "impacted": {"caries": 0, "broken": 0, "impacted": 1, "periapical": 0},
    "healthy tooth": {"caries": 0, "broken": 0, "impacted": 0, "periapical": 0},
}

#: A found tooth is the annotated one from this overlap on.
_SAME_IOU = 0.4
#: What share of a batch shows which tag, where the set has it; the rest is any tooth.
_SHARES = (("caries", 0.4), ("broken", 0.1), ("impacted", 0.07), ("filling", 0.08))
#: A pixel belongs to the tooth from this probability on; chosen on the tuning films.
_MASK_THRESHOLD = 0.5
_RARE = (("implant", 0.05), ("periapical", 0.04))


@dataclass(frozen=True, slots=True)
class Tooth:
    """One tooth of a film to learn from: boxes that fit it, in :data:`FRAME` pixels, and tags.

    ``tags`` has one number per tag: 1, 0, or NaN where the set does not say.
    """

    film: int
    boxes: tuple[BoxPx, ...]
    is_lower: bool
    tags: tuple[float, ...]
    outline: np.ndarray | None = None


class Films:
    """The pixels of films, read once, with the grey range of each."""

    def __init__(self, films: Sequence[Film]) -> None:
        self._films = films
        self._pixels: dict[int, np.ndarray] = {}

    def read(self, index: int) -> np.ndarray:
        """Give a film as uint8 with its grey range stretched, as the product stretches it."""
        if index not in self._pixels:
            pixels = self._films[index].read()
            low, high = np.percentile(pixels, (0.5, 99.5))
            grey = np.clip((pixels - low) * (255.0 / max(high - low, 1.0)), 0, 255)
            self._pixels[index] = grey.astype(np.uint8)
        return self._pixels[index]


def draw(
    rng: np.random.Generator,
    pixels: np.ndarray,
    tooth: Tooth,
    strength: float = 1.0,
    side_error: float = 0.035,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut one augmented crop; gives (2, rows, cols) and the matrix from the film's pixels to it.

    The sides of the box that is shown are off by `side_error` of its size (standard deviation).
    """
    box = np.array(tooth.boxes[int(rng.integers(0, len(tooth.boxes)))], float)
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    turn = _turn(rng, strength)
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2
    fit = np.diag([FRAME[1] / pixels.shape[1], FRAME[0] / pixels.shape[0]])
    if tooth.outline is not None:
        points = (tooth.outline @ fit.T - centre) @ turn.T
        low, high = points.min(axis=0), points.max(axis=0)
    else:
        low, high = -half * abs(np.diag(turn)), half * abs(np.diag(turn))
    size = high - low
    low = low + rng.normal(0, side_error, 2) * size * strength
    high = high + rng.normal(0, side_error, 2) * size * strength
    placed = tooth_crops.placement((*low, *high), tooth.is_lower)
    if rng.random() < 0.5:
        placed[0] = -placed[0] + [0, 0, CROP[1]]
    matrix = np.zeros((2, 3))
    linear = placed[:, :2] @ turn
    matrix[:, :2] = linear @ fit
    matrix[:, 2] = placed[:, 2] - linear @ centre
    image = _appearance(rng, tooth_crops.warp(pixels, matrix))
    corners = np.stack([low, high]) @ placed[:, :2].T + placed[:, 2]
    shown = tooth_crops.indicator(corners.ravel().tolist())
    return np.stack([tooth_crops.stretch(image), shown]), matrix


def _turn(rng: np.random.Generator, strength: float) -> np.ndarray:
    angle = np.deg2rad(rng.normal(0, 4) * strength)
    aspect = np.exp(rng.normal(0, 0.07) * strength)
    shear = rng.normal(0, 0.02) * strength
    rotation = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    turned: np.ndarray = rotation @ np.diag([aspect, 1 / aspect])
    return turned


def _appearance(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """Show the crop as another archive would: coarser, photographed, sharpened, compressed."""
    rows, cols = crop.shape
    if rng.random() < _AS_IT_IS:
        return crop.astype(np.float32) / 255.0
    if rng.random() < 0.35:
        across, down = rng.uniform(0.25, 0.8), rng.uniform(0.25, 0.8)
        how = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        small = (max(8, int(cols * across)), max(8, int(rows * down)))
        crop = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
        crop = cv2.resize(crop, (cols, rows), interpolation=how)
    if rng.random() < 0.1:
        wave = rng.normal(0, 0.9, 2)
        ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
        stripes = np.sin(wave[0] * xs + wave[1] * ys + rng.uniform(0, 6)) * rng.uniform(2, 12)
        crop = np.clip(crop + stripes, 0, 255).astype(np.uint8)
    return augment.appearance(rng, crop, may_mask=False)


class MaskTask:
    """The outline of the tooth in the middle of a crop."""

    def __init__(self, films: Splits, start: Path) -> None:
        if not films.train:
            raise InvalidInput("the data set has no training films")
        self._splits = films
        self._start = start
        self._films = Films(films.train)
        self._teeth = [
            _outlined(number, film, mark)
            for number, film in enumerate(films.train)
            for mark in film.marks
            if len(mark.outline) > 2
        ]

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        return (*self._splits.train, *self._splits.tune)

    def network(self) -> nn.Module:
        """Start from the masks of the tooth weights if they have any, else from ImageNet."""
        net = tooth_crops.MaskNet()
        if known := _part_of(_floats(self._start), panoramic.MASK_PREFIX):
            return tooth_crops.loaded(net, known)
        net.backbone.load_state_dict(pretrained_backbone(), strict=False)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw teeth at random, whatever film they are on."""
        images, masks = [], []
        for pick in rng.integers(0, len(self._teeth), _BATCH):
            tooth = self._teeth[pick]
            pixels = self._films.read(tooth.film)
            image, matrix = draw(rng, pixels, tooth, side_error=_MASK_SIDE_ERROR)
            assert tooth.outline is not None
            images.append(image)
            masks.append(rasterised(tooth.outline @ matrix[:, :2].T + matrix[:, 2]))
        return {
            "image": torch.from_numpy(np.stack(images)),
            "mask": torch.from_numpy(np.stack(masks)),
        }

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Sum the cross entropy and 1 − Dice of the mask."""
        logits, mask = outputs["mask"], batch["mask"]
        p = torch.sigmoid(logits)
        both = (p * mask).sum(dim=(1, 2))
        dice = (2 * both + 1) / (p.sum(dim=(1, 2)) + mask.sum(dim=(1, 2)) + 1)
        return {
            "cross": functional.binary_cross_entropy_with_logits(logits, mask) * 2,
            "dice": (1 - dice).mean(),
        }

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Put the mask network beside the tooth network it was trained for."""
        state: dict[str, torch.Tensor] = torch.load(self._start, weights_only=True)
        own = {f"{panoramic.MASK_PREFIX}{name}": t for name, t in net.state_dict().items()}
        kept = {k: t for k, t in state.items() if not k.startswith(panoramic.MASK_PREFIX)}
        thresholds = torch.stack([kept["thresholds"][0].float(), torch.tensor(_MASK_THRESHOLD)])
        return kept | own | {"thresholds": thresholds}


def _outlined(number: int, film: Film, mark: Mark) -> Tooth:
    outline = np.asarray(mark.outline, float)
    low = outline.min(axis=0) * (FRAME[1] / film.width, FRAME[0] / film.height)
    high = outline.max(axis=0) * (FRAME[1] / film.width, FRAME[0] / film.height)
    return Tooth(number, ((*low, *high),), mark.label[0] in "34", (), outline)


def rasterised(points: np.ndarray) -> np.ndarray:
    """Give the share of every mask cell that an outline in crop pixels covers."""
    fine = 2
    canvas = np.zeros((CROP[0] * fine, CROP[1] * fine), np.uint8)
    placed = np.round((points * fine - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [placed], 255, shift=4)
    size = (CROP[1] // tooth_crops.MASK_CELL, CROP[0] // tooth_crops.MASK_CELL)
    shares: np.ndarray = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    return shares


class TagTask:
    """What single teeth show, from one or more box sets."""

    def __init__(
        self, sets: Sequence[Splits], standing: Standing, teeth: Path, start: Path | None = None
    ) -> None:
        if not sets or not all(films.train for films in sets):
            raise InvalidInput("a data set has no training films")
        self._sets = sets
        self._teeth = teeth
        self._start = start
        self._known = standing
        self._films = [Films(films.train) for films in sets]
        self._pools = [self._pool(films.train) for films in sets]

    def _pool(self, films: Sequence[Film]) -> dict[str, list[Tooth]]:
        labels = {mark.label for film in films for mark in film.marks}
        teeth = [
            tooth
            for number, film in enumerate(films)
            for tooth in teeth_of(number, film, self._known.teeth(film), labels)
        ]
        pools = {
            tag: [tooth for tooth in teeth if tooth.tags[TAGS.index(tag)] == 1.0] for tag in TAGS
        }
        return pools | {"any": teeth}

    def films(self) -> Sequence[Film]:
        """List the films learnt from and tuned on."""
        return tuple(film for films in self._sets for film in (*films.train, *films.tune))

    def network(self) -> nn.Module:
        """Start from earlier weights, the mask network, which knows teeth, or ImageNet."""
        net = tooth_crops.TagNet()
        if self._start is not None:
            known = _part_of(_floats(self._start), panoramic_findings.CROP_PREFIX)
            return tooth_crops.loaded(net, known)
        net.backbone.load_state_dict(pretrained_backbone(), strict=False)
        masks = _part_of(_floats(self._teeth), panoramic.MASK_PREFIX)
        own = {k: t for k, t in masks.items() if k.startswith("backbone.")}
        net.load_state_dict(own, strict=False)
        with torch.no_grad():
            net.head.bias.fill_(-1.0)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw teeth from the sets in turn, those that show something more often.

        Half of the batches are blended: what is learnt from few annotated films travels better so.
        """
        images, tags = [], []
        for number in range(_BATCH):
            source = number % len(self._sets)
            tooth = _pick(rng, self._pools[source])
            image, _ = draw(rng, self._films[source].read(tooth.film), tooth)
            image[0] = shaded(rng, image[0])
            images.append(image)
            tags.append(tooth.tags)
        drawn, said = np.stack(images), np.array(tags, np.float32)
        if rng.random() < _BLENDED:
            drawn, said = blended(rng, drawn, said)
        return {"image": torch.from_numpy(drawn), "tags": torch.from_numpy(said)}

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Give the cross entropy of every tag that the teeth's sets speak of."""
        known = torch.isfinite(batch["tags"])
        truth = torch.nan_to_num(batch["tags"]) * 0.96 + 0.02
        each = functional.binary_cross_entropy_with_logits(outputs["tags"], truth, reduction="none")
        each = each * known
        caries = each[:, 0].sum() / known[:, 0].sum().clamp(min=1)
        return {"caries": 2 * caries, "rest": each[:, 1:].sum() / known[:, 1:].sum().clamp(min=1)}

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Give the network alone; :mod:`training.panoramic_freeze` adds what is reported."""
        return dict(net.state_dict())


def shaded(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """Light a 0..1 crop unevenly and blank a patch of it, each now and then."""
    rows, cols = crop.shape
    if rng.random() < 0.35:
        coarse = rng.uniform(-0.25, 0.25, (3, 2)).astype(np.float32)
        crop = crop + cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.2:
        height, width = int(rows * rng.uniform(0.1, 0.3)), int(cols * rng.uniform(0.1, 0.4))
        top, left = int(rng.integers(0, rows - height)), int(rng.integers(0, cols - width))
        crop = crop.copy()
        crop[top : top + height, left : left + width] = rng.uniform(0, 1)
    return tooth_crops.stretch(crop)


def blended(
    rng: np.random.Generator, images: np.ndarray, tags: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lay every crop over another of the batch, with what is said of both in the same shares.

    A tag that one of the two does not know stays unknown. Source: mixup, Zhang et al. 2018.
    """
    other = rng.permutation(len(images))
    share = rng.beta(_BLEND, _BLEND, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    laid = share[:, None, None, None]
    said = share[:, None] * tags + (1 - share[:, None]) * tags[other]
    return laid * images + (1 - laid) * images[other], said


def _pick(rng: np.random.Generator, pools: Mapping[str, list[Tooth]]) -> Tooth:
    draw_ = rng.random()
    for tag, share in (*_SHARES, *_RARE):
        if draw_ < share and pools[tag]:
            return pools[tag][int(rng.integers(0, len(pools[tag])))]
        draw_ -= share
    return pools["any"][int(rng.integers(0, len(pools["any"])))]


class Standing:
    """Where teeth stand on films, by the dense networks; kept in a JSON file.

    A tooth is (is_lower, box in :data:`FRAME` pixels).
    """

    def __init__(self, path: Path) -> None:
        self._teeth = json.loads(path.read_text(encoding="utf-8"))

    def teeth(self, film: Film) -> list[tuple[bool, BoxPx]]:
        """List the teeth of `film`; raises InvalidInput for one the file does not know."""
        key = _key(film)
        if key not in self._teeth:
            raise InvalidInput(f"the file of boxes lacks {key}; delete it to have it made again")
        return [(bool(is_lower), tuple(box)) for is_lower, box in self._teeth[key]]


def _key(film: Film) -> str:
    return f"{film.path.parent.parent.name}/{film.path.name}"


def stand(films: Sequence[Film], teeth: Path, dense: Path, out: Path) -> Standing:
    """Ask the tooth network and the dense findings network where teeth stand, once per film."""
    if not out.exists():
        version = ModelVersion("training", "0.0.0", "0" * 64)
        tooth_model = PanoramicTeeth.from_state(_floats(teeth), version)
        net, _ = panoramic.build(
            {k: t for k, t in _floats(dense).items() if not _is_added(k)}, panoramic_findings.HEADS
        )
        rows = {}
        for film in films:
            image = film.read() / np.float32(255)
            maps = panoramic.run(net, panoramic.prepare(image))
            proposals = panoramic_findings.proposals(maps)
            found = panoramic_findings.candidates(proposals, tooth_model.find(image), image.shape)
            rows[_key(film)] = [[c.is_lower, list(panoramic.on_frame(c.box))] for c in found]
        part = out.with_suffix(".part")
        part.write_text(json.dumps(rows), encoding="utf-8")
        part.replace(out)
    return Standing(out)


def _floats(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return {k: t.float() if t.is_floating_point() else t for k, t in state.items()}


def _part_of(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}


def _is_added(name: str) -> bool:
    return name == "mix" or name.startswith(panoramic_findings.CROP_PREFIX)


def teeth_of(
    number: int,
    film: Film,
    standing: Sequence[tuple[bool, BoxPx]],
    labels: set[str],
) -> list[Tooth]:
    """List the teeth to learn from: the annotated, then those seen besides as bearing nothing.

    A tooth nobody annotated is taken as free of what the set's words name; it is so mostly.
    """
    fx, fy = FRAME[1] / film.width, FRAME[0] / film.height
    teeth, used = [], set()
    absent = {tag for word in labels for tag, state in WORDS.get(word, {}).items() if state}
    for mark in film.marks:
        if mark.label not in WORDS:
            continue
        box = (mark.box[0] * fx, mark.box[1] * fy, mark.box[2] * fx, mark.box[3] * fy)
        overlap = [panoramic.iou(box, other) for _, other in standing]
        best = int(np.argmax(overlap)) if overlap else -1
        boxes: tuple[BoxPx, ...] = (box,)
        if best >= 0 and overlap[best] >= _SAME_IOU:
            used.add(best)
            boxes = (box, standing[best][1])
        said = WORDS[mark.label]
        tags = tuple(float(said[tag]) if tag in said else float("nan") for tag in TAGS)
        teeth.append(Tooth(number, boxes, _is_lower(box, standing), tags))
    plain = tuple(0.0 if tag in absent else float("nan") for tag in TAGS)
    for index, (is_lower, box) in enumerate(standing):
        near = max((panoramic.iou(box, t.boxes[0]) for t in teeth), default=0.0)
        if index not in used and near < _SAME_IOU / 2:
            teeth.append(Tooth(number, (box,), is_lower, plain))
    return teeth


def _is_lower(box: BoxPx, standing: Sequence[tuple[bool, BoxPx]]) -> bool:
    near = [(other, is_lower) for is_lower, other in standing]
    return panoramic_findings.is_lower(box, near, FRAME[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and train; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.tooth_crops", description=__doc__)
    parser.add_argument("--part", required=True, choices=["masks", "tags"])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="COCO folders")
    parser.add_argument(
        "--teeth", type=Path, required=True, help="weights of panoramic_teeth, with masks for tags"
    )
    parser.add_argument("--dense", type=Path, help="weights with the dense findings network")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    parser.add_argument("--start", type=Path, help="panoramic_caries weights to start tags from")
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes to spend")
    parser.add_argument("--steps", type=int, help="train for this many steps instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = train.Settings(options.out, options.minutes, options.steps, options.seed)
    try:
        train.fit(_task(options), settings)
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    return 0


def _task(options: argparse.Namespace) -> MaskTask | TagTask:
    sets = [parts(folder) for folder in options.data]
    if options.part == "masks":
        return MaskTask(sets[0], options.teeth)
    if options.dense is None:
        raise ConfigError("tags need --dense, to know where teeth stand")
    films = [film for one in sets for film in one.train]
    boxes = options.out.with_suffix(".boxes.json")
    known = stand(films, options.teeth, options.dense, boxes)
    return TagTask(sets, known, options.teeth, options.start)


def parts(folder: Path) -> Splits:
    """Divide a COCO folder, by its own parts where it has any."""
    films = read_coco(folder)
    return split(films) if any(film.split == "train" for film in films) else divide(films)


if __name__ == "__main__":
    sys.exit(main())
