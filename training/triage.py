"""Train the triage network: view, orientation, negatives, faults and region of an image.

No annotated real bitewings or periapicals could be had. Intraoral films come from the generator
and, to show real texture, from close crops of panoramics with known teeth. Cephalograms, occlusal
films and CBCT slices are drawn (:mod:`training.drawn_views`). Folders named after a view are used
as well when there are any (:func:`training.datasets.read_views`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.triage import FAULTS, READ_VIEWS, THRESHOLDS, VIEWS, TriageNet, prepare
from node.domain.findings import View
from node.domain.teeth import Tooth
from node.errors import InvalidInput
from training import augment, close_crops, drawn_views, film_faults, synthetic
from training.close_crops import Cut, Region, region
from training.datasets import Film, read_coco, read_views, split
from training.panoramic import pretrained_backbone
from training.synthetic import SyntheticFilm
from training.train import Batch

_BATCH = 16
#: How often each view is drawn.
_SHARES = {
    View.BITEWING: 0.16,
    View.PERIAPICAL: 0.26,
    View.PANORAMIC: 0.30,
    View.OCCLUSAL: 0.05,
    View.CEPHALOMETRIC: 0.04,
    View.PHOTO: 0.06,
    View.OTHER: 0.13,
}
#: How many intraoral draws are close crops of panoramics, the rest being synthetic.
_CLOSE_SHARE = 0.5
_TURNED_SHARE, _INVERTED_SHARE = 0.5, 0.33
#: The longer side of training pixels; more than the input so that crops stay sharp.
_STORED = 420
#: At most this share of faultless tuning draws may be called faulty.
_FALSE_ALARMS = 0.03
_UNKNOWN = -1
_FROZEN = ("_conv_stem", "_bn0", "_blocks.0.", "_blocks.1.", "_blocks.2.")

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Sources:
    """The films of one part of the data: to learn from, or to tune on.

    ``upright`` are the panoramics whose numbered teeth show which way is up. Sets without numbers
    may hold copies turned upside down (Dental Radiography does): they teach nothing about that.
    """

    panoramics: tuple[tuple[Film, ...], ...]
    toothed: tuple[Film, ...]
    upright: frozenset[Path]
    synthetic: dict[View, tuple[SyntheticFilm, ...]]
    folders: dict[View, tuple[np.ndarray, ...]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One prepared image with the answers of all heads; -1 where there is none."""

    pixels: np.ndarray
    view: int
    turns: int
    inverted: int
    region: Region
    faults: np.ndarray


class TriageTask:
    """Views of films under one folder (see :func:`training.datasets.read_views`)."""

    def __init__(self, data: Path) -> None:
        views, toothed = (
            split(read_views(data)),
            [f for s in sorted(data.iterdir()) for f in _coco(s)],
        )
        numbered = split(toothed)
        made = [s for s in sorted(data.iterdir()) if any(s.glob("train/**/*.truth.json"))]
        if not any(film.marks[0].label == "panoramic" for film in views.train):
            raise InvalidInput("triage needs a folder of panoramic training films")
        self._films = (*views.train, *views.tune)
        self._train = _sources(views.train, numbered.train, made, "train")
        self._tune = _sources(views.tune, numbered.tune, made, "tune")

    def films(self) -> Sequence[Film]:
        """List the annotated films learnt from and tuned on; synthetic films have none."""
        return self._films

    def network(self) -> nn.Module:
        """Start from the ImageNet backbone."""
        net = TriageNet()
        net.backbone.load_state_dict(pretrained_backbone(), strict=False)
        # The finest blocks know edges already and cost most of the time to learn.
        for name, parameter in net.backbone.named_parameters():
            if name.startswith(_FROZEN):
                parameter.requires_grad_(False)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw views by their shares."""
        return _batch(self._train, rng)

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Give the cross entropies; a film that has no answer to a question does not count."""
        losses = {
            "view": functional.cross_entropy(outputs["view"], batch["view"], label_smoothing=0.03)
        }
        for name, weight in (("turns", 1.5), ("inverted", 0.7)):
            losses[name] = weight * _known(outputs[name], batch[name])
        for name in ("jaw", "place", "side"):
            losses[name] = 0.3 * _known(outputs[name], batch[name])
        has = batch["faults"]
        each = functional.binary_cross_entropy_with_logits(
            outputs["faults"], has.clamp(min=0), reduction="none"
        )
        known = (has >= 0).float()
        losses["faults"] = (each * known).sum() / known.sum().clamp(min=1.0)
        return losses

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Fit temperatures and fault thresholds on draws from the tuning films."""
        rng = np.random.default_rng(99)
        outputs: dict[str, list[torch.Tensor]] = {}
        truth: dict[str, list[torch.Tensor]] = {}
        for _ in range(30):
            batch = _batch(self._tune, rng)
            with torch.inference_mode():
                for name, logits in net(batch["image"]).items():
                    outputs.setdefault(name, []).append(logits)
            for name, answers in batch.items():
                truth.setdefault(name, []).append(answers)
        values = [
            _temperature(torch.cat(outputs[name]), torch.cat(truth[name]))
            for name in ("view", "turns", "inverted")
        ]
        scores, has = torch.sigmoid(torch.cat(outputs["faults"])), torch.cat(truth["faults"])
        for index in range(len(FAULTS)):
            clean = scores[has[:, index] == 0, index]
            values.append(float(torch.quantile(clean, 1 - _FALSE_ALARMS)))
        assert len(values) == len(THRESHOLDS)
        return dict(net.state_dict()) | {"thresholds": torch.tensor(values)}


def _known(logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    if not bool((answers >= 0).any()):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits, answers, ignore_index=_UNKNOWN)


def _temperature(logits: torch.Tensor, answers: torch.Tensor) -> float:
    known = answers >= 0
    grid = torch.linspace(0.5, 3.0, 51)
    losses = [functional.cross_entropy(logits[known] / t, answers[known]) for t in grid]
    return float(grid[int(torch.stack(losses).argmin())])


def _batch(sources: _Sources, rng: np.random.Generator) -> Batch:
    views = rng.choice(len(_SHARES), _BATCH, p=list(_SHARES.values()))
    drawn = [draw(sources, tuple(_SHARES)[view], rng) for view in views]

    def column(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64)

    jaw, side = {"": _UNKNOWN, "U": 0, "L": 1}, {"": _UNKNOWN, "R": 0, "L": 1}
    return {
        "image": torch.from_numpy(np.stack([d.pixels for d in drawn]))[:, None],
        "view": column([d.view for d in drawn]),
        "turns": column([d.turns for d in drawn]),
        "inverted": column([d.inverted for d in drawn]),
        "jaw": column([jaw[d.region.jaw] for d in drawn]),
        "place": column([_UNKNOWN if d.region.place is None else d.region.place for d in drawn]),
        "side": column([side[d.region.side] for d in drawn]),
        "faults": torch.from_numpy(np.stack([d.faults for d in drawn])),
    }


def draw(sources: _Sources, view: View, rng: np.random.Generator) -> Drawn:
    """Draw one augmented, prepared image of `view`, turned and inverted at times."""
    where, faults = Region("", None, ""), np.full(len(FAULTS), _UNKNOWN, np.float32)
    is_upright = True
    if view in (View.BITEWING, View.PERIAPICAL):
        pixels, where, faults = _intraoral(sources, view, rng)
    elif view is View.PANORAMIC:
        film = _panoramic_film(sources, rng)
        is_upright = film.path in sources.upright
        pixels = _jitter(_stored(film.read()), rng, 0.6)
        pixels = _reshaped(pixels, rng.uniform(1.5, 2.25))
        if rng.random() < 0.5:
            pixels = np.fliplr(pixels)
    else:
        pixels = _rest(sources, view, rng)
    turns = inverted = _UNKNOWN
    is_film = view not in (View.PHOTO, View.OTHER)
    pixels = np.ascontiguousarray(pixels)
    if is_film:
        inverted = int(rng.random() < _INVERTED_SHARE)
        pixels = 255 - pixels if inverted else pixels
    if view in (View.BITEWING, View.PERIAPICAL):
        pixels = _framed(pixels, rng)
    image = augment.appearance(rng, pixels, view is View.PANORAMIC)
    if is_film and is_upright and view is not View.OCCLUSAL:
        turns = int(rng.integers(1, 4)) if rng.random() < _TURNED_SHARE else 0
        image = np.rot90(image, turns)  # counter-clockwise, so as many clockwise put it upright
    if turns > 0:
        where = Region("", None, "")
    return Drawn(
        prepare(np.ascontiguousarray(image)), VIEWS.index(view), turns, inverted, where, faults
    )


def _intraoral(
    sources: _Sources, view: View, rng: np.random.Generator
) -> tuple[np.ndarray, Region, np.ndarray]:
    shown = _shown(sources, view, rng)
    pixels, where = shown.pixels, region(view, shown.teeth)
    if rng.random() < 0.5:
        pixels, where = np.fliplr(pixels), where.mirrored()
    pixels = _jitter(np.ascontiguousarray(pixels), rng, 0.5)
    faults = np.zeros(len(FAULTS), np.float32)
    if rng.random() < 0.7:
        pixels, faults = film_faults.spoil(rng, pixels, _shown(sources, view, rng).pixels)
    return pixels, where, faults


def _shown(sources: _Sources, view: View, rng: np.random.Generator) -> Cut:
    own = sources.folders.get(view, ())
    if own and rng.random() < 0.3:
        return Cut(_pick(rng, own), ())
    if sources.toothed and rng.random() < _CLOSE_SHARE:
        found = close_crops.cut(_pick(rng, sources.toothed), view, rng)
        if found is not None:
            return Cut(_stored(found.pixels), found.teeth)
    film = _pick(rng, sources.synthetic[view])
    pixels = film.read()
    middle = pixels.shape[1] / 2
    teeth: list[Tooth] = [
        t.tooth for t in sorted(film.teeth, key=lambda t: abs((t.box[0] + t.box[2]) / 2 - middle))
    ]
    return Cut(_stored(pixels), tuple(teeth))


def _panoramic_film(sources: _Sources, rng: np.random.Generator) -> Film:
    """Draw a set first, so that a large one does not drown the others."""
    return _pick(rng, _pick(rng, sources.panoramics))


def _panoramic(sources: _Sources, rng: np.random.Generator) -> np.ndarray:
    return _stored(_panoramic_film(sources, rng).read())


def _rest(sources: _Sources, view: View, rng: np.random.Generator) -> np.ndarray:
    own = sources.folders.get(view, ())
    if own and rng.random() < 0.5:
        return _part(_pick(rng, own), rng, may_invert=view is View.OTHER)
    match view:
        case View.CEPHALOMETRIC:
            return _jitter(drawn_views.cephalogram(rng, _panoramic(sources, rng)), rng, 0.6)
        case View.OCCLUSAL:
            return _jitter(drawn_views.occlusal(rng, _panoramic(sources, rng)), rng, 0.6)
        case View.PHOTO:
            return drawn_views.mouth_photo(rng)
        case _:
            makers: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
                drawn_views.cbct_slice,
                drawn_views.cbct_slice,
                drawn_views.render,
                drawn_views.noise,
                drawn_views.page,
                drawn_views.shapes,
                lambda rng: _mount(sources, rng),
            )
            return makers[int(rng.integers(0, len(makers)))](rng)


def _mount(sources: _Sources, rng: np.random.Generator) -> np.ndarray:
    """Several films in one image, as a scanned mount or a screen shot."""
    rows, cols = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    canvas = np.full((rows * 130, cols * 150), int(rng.choice([0, 20, 200, 255])), np.uint8)
    for row in range(rows):
        for col in range(cols):
            if rng.random() < 0.9:
                view = READ_VIEWS[int(rng.integers(0, 2))]
                film = _shown(sources, view, rng).pixels
                tile = cv2.resize(film, (140, 120), interpolation=cv2.INTER_AREA)
                canvas[row * 130 + 5 :][:120, col * 150 + 5 :][:, :140] = tile
    return canvas


def _part(pixels: np.ndarray, rng: np.random.Generator, may_invert: bool) -> np.ndarray:
    rows, cols = pixels.shape
    height, width = (int(side * rng.uniform(0.35, 1.0)) for side in (rows, cols))
    top, left = rng.integers(0, rows - height + 1), rng.integers(0, cols - width + 1)
    crop = np.rot90(pixels[top : top + height, left : left + width], int(rng.integers(0, 4)))
    return np.ascontiguousarray(255 - crop if may_invert and rng.random() < 0.3 else crop)


def _pick(rng: np.random.Generator, items: Sequence[_Item]) -> _Item:
    return items[int(rng.integers(0, len(items)))]


def _coco(folder: Path) -> list[Film]:
    """List films whose marks are numbered tooth outlines."""
    if not (folder / "annotations.coco.json").exists():
        return []
    return [f for f in read_coco(folder) if sum(m.label.isdigit() for m in f.marks) >= 12]


def is_upright(film: Film) -> bool:
    """Whether the upper teeth of a numbered panoramic stand above the lower ones."""
    heights = {
        jaw: [m.box[1] + m.box[3] for m in film.marks if m.label[:1] in jaw] for jaw in ("12", "34")
    }
    return all(heights.values()) and bool(np.mean(heights["12"]) < np.mean(heights["34"]))


def _sources(
    films: Sequence[Film], toothed: Sequence[Film], made: Sequence[Path], part: str
) -> _Sources:
    panoramics = [f for f in films if f.marks[0].label == "panoramic"]
    folders = sorted({film.path.parent for film in panoramics})
    drawn = [film for folder in made for film in synthetic.read_part(folder, part)]
    own: dict[View, list[np.ndarray]] = {}
    for film in films:
        if film.marks[0].label != "panoramic":
            own.setdefault(View(film.marks[0].label), []).append(_stored(film.read()))
    return _Sources(
        tuple(tuple(f for f in panoramics if f.path.parent == folder) for folder in folders),
        tuple(toothed),
        frozenset(film.path for film in toothed if is_upright(film)),
        {v: tuple(f for f in drawn if f.view is v) for v in READ_VIEWS[:2]},
        {view: tuple(pixels) for view, pixels in own.items()},
    )


def _stored(pixels: np.ndarray) -> np.ndarray:
    scale = _STORED / max(pixels.shape)
    if scale >= 1:
        return pixels
    size = (max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale)))
    smaller: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return smaller


def _jitter(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    size = pixels.shape[:2]
    matrix = augment.affine(rng, size, size, strength)
    return augment.warp(rng, pixels, matrix, size)


def _reshaped(pixels: np.ndarray, aspect: float) -> np.ndarray:
    size = (int(240 * aspect), 240)
    reshaped: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return reshaped


def _framed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give a film the shape and rounded corners of a sensor or plate."""
    rows, cols = pixels.shape
    if rng.random() < 0.5:
        keep = rng.uniform(0.8, 1.0, 2)
        top = int(rows * (1 - keep[0]) * rng.random())
        left = int(cols * (1 - keep[1]) * rng.random())
        pixels = pixels[top : top + int(rows * keep[0]), left : left + int(cols * keep[1])]
    if rng.random() < 0.4:
        rows, cols = pixels.shape
        radius = int(min(rows, cols) * rng.uniform(0.03, 0.2))
        inside = np.zeros((rows, cols), np.uint8)
        cv2.rectangle(inside, (radius, 0), (cols - radius, rows), 1, -1)
        cv2.rectangle(inside, (0, radius), (cols, rows - radius), 1, -1)
        for x in (radius, cols - radius - 1):
            for y in (radius, rows - radius - 1):
                cv2.circle(inside, (x, y), radius, 1, -1)
        pixels = np.where(inside > 0, pixels, np.uint8(rng.choice([0, 0, 255])))
    return np.ascontiguousarray(pixels)
