"""Train the view classifier: real panoramics, synthetic intraoral films, all sorts of others.

No annotated real bitewings or periapicals could be had. Intraoral films come from the generator
and, to show real texture, from close crops of panoramics with known teeth that are framed like a
bitewing or a periapical. Folders called ``bitewing`` or ``periapical`` under ``--data`` are used
as well when there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.triage import VIEWS, TriageNet, prepare
from node.domain.findings import View
from node.errors import InvalidInput
from training import augment
from training.datasets import Film, read_coco, read_views, split
from training.panoramic import pretrained_backbone
from training.train import Batch

_BATCH = 16
_POOL = 300
#: How often each view is drawn: bitewing, periapical, panoramic, other.
_SHARES = (0.25, 0.25, 0.25, 0.25)
#: How many intraoral draws are close crops of panoramics, the rest being synthetic.
_CLOSE_SHARE = 0.5
#: The longer side of stored training pixels; more than the input so that crops stay sharp.
_STORED = 640

_Item = TypeVar("_Item")


class TriageTask:
    """Views of films under one folder (see :func:`training.datasets.read_views`)."""

    def __init__(self, data: Path, pool: int = _POOL, seed: int = 7) -> None:
        self._films = split(read_views(data))
        train = (*self._films.train, *self._films.tune)
        films = [f for f in train if f.marks[0].label == "panoramic"]
        if not films:
            raise InvalidInput("triage needs a folder of panoramic training films")
        sets = sorted({film.path.parent for film in films})
        self._panoramics = [[f for f in films if f.path.parent == folder] for folder in sets]
        self._toothed = [f for sub in sorted(data.iterdir()) for f in _toothed(sub)]
        self._synthetic = {view: _pool(view, pool, seed) for view in VIEWS[:2]}
        self._photos = [_stored(f.read()) for f in train if f.marks[0].label == "other"]

    def films(self) -> Sequence[Film]:
        """List the annotated films learnt from and tuned on; synthetic films have none."""
        return (*self._films.train, *self._films.tune)

    def network(self) -> nn.Module:
        """Start from the ImageNet backbone."""
        net = TriageNet()
        net.backbone.load_state_dict(pretrained_backbone(), strict=False)
        return net

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw views by their shares."""
        views = rng.choice(len(VIEWS), _BATCH, p=_SHARES)
        images = [self.draw(VIEWS[view], rng) for view in views]
        return {
            "image": torch.from_numpy(np.stack(images))[:, None],
            "view": torch.from_numpy(views.astype(np.int64)),
        }

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Give the cross entropy with a little label smoothing."""
        loss = functional.cross_entropy(outputs["view"], batch["view"], label_smoothing=0.05)
        return {"view": loss}

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Fit the temperature on unseen draws; abstain below 0.6."""
        rng = np.random.default_rng(99)
        logits, views = [], []
        for _ in range(20):
            batch = self.batch(rng, 1.0)
            with torch.inference_mode():
                logits.append(net(batch["image"])["view"])
            views.append(batch["view"])
        grid = torch.linspace(0.3, 3.0, 55)
        losses = [functional.cross_entropy(torch.cat(logits) / t, torch.cat(views)) for t in grid]
        best = float(grid[int(torch.stack(losses).argmin())])
        return dict(net.state_dict()) | {"thresholds": torch.tensor([best, 0.6])}

    def draw(self, view: View, rng: np.random.Generator) -> np.ndarray:
        """Draw one augmented, prepared image of `view`."""
        match view:
            case View.PANORAMIC:
                pixels = _jitter(self._panoramic(rng), rng, 0.6)
                pixels = _reshaped(pixels, rng.uniform(1.5, 2.25))
            case View.BITEWING | View.PERIAPICAL:
                pixels = self._intraoral(view, rng)
            case View.OTHER:
                pixels = self._other(rng)
        may_mask = view is View.PANORAMIC
        return prepare(augment.appearance(rng, np.ascontiguousarray(pixels), may_mask))

    def _panoramic(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a set first, so that a large one does not drown the others."""
        return _stored(_pick(rng, _pick(rng, self._panoramics)).read())

    def _intraoral(self, view: View, rng: np.random.Generator) -> np.ndarray:
        if self._toothed and rng.random() < _CLOSE_SHARE:
            pixels = close_crop(_pick(rng, self._toothed), view, rng)
        else:
            pixels = _pick(rng, self._synthetic[view])
        if rng.random() < 0.5:
            pixels = np.fliplr(pixels)
        if rng.random() < 0.08:
            pixels = np.rot90(pixels, int(rng.integers(1, 4)))
        return _framed(_jitter(np.ascontiguousarray(pixels), rng, 0.5), rng)

    def _other(self, rng: np.random.Generator) -> np.ndarray:
        makers: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
            noise,
            page,
            shapes,
            self._photo,
            self._photo,
            self._negative,
            self._mount,
            self._detail,
        )
        return makers[int(rng.integers(0, len(makers)))](rng)

    def _photo(self, rng: np.random.Generator) -> np.ndarray:
        if not self._photos:
            return shapes(rng)
        pixels = _pick(rng, self._photos)
        rows, cols = pixels.shape
        side = rng.uniform(0.35, 1.0)
        height, width = int(rows * side), int(cols * rng.uniform(0.35, 1.0))
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, cols - width + 1)
        crop = np.rot90(pixels[top : top + height, left : left + width], int(rng.integers(0, 4)))
        return np.ascontiguousarray(255 - crop if rng.random() < 0.3 else crop)

    def _film(self, rng: np.random.Generator) -> np.ndarray:
        view = VIEWS[int(rng.integers(0, 3))]
        if view is View.PANORAMIC:
            return self._panoramic(rng)
        return _pick(rng, self._synthetic[view])

    def _negative(self, rng: np.random.Generator) -> np.ndarray:
        return 255 - self._film(rng)

    def _mount(self, rng: np.random.Generator) -> np.ndarray:
        """Several films in one image, as a scanned mount or a screen shot."""
        rows, cols = int(rng.integers(1, 4)), int(rng.integers(2, 6))
        canvas = np.full((rows * 130, cols * 150), int(rng.choice([0, 20, 200, 255])), np.uint8)
        for row in range(rows):
            for col in range(cols):
                if rng.random() < 0.9:
                    tile = cv2.resize(self._film(rng), (140, 120), interpolation=cv2.INTER_AREA)
                    canvas[row * 130 + 5 :][:120, col * 150 + 5 :][:, :140] = tile
        return canvas

    def _detail(self, rng: np.random.Generator) -> np.ndarray:
        """A piece of a panoramic away from the teeth."""
        pixels = self._panoramic(rng)
        rows, cols = pixels.shape
        height, width = int(rows * rng.uniform(0.15, 0.28)), int(cols * rng.uniform(0.12, 0.3))
        top = 0 if rng.random() < 0.5 else rows - height
        left = int(rng.integers(0, cols - width))
        return cv2.resize(pixels[top : top + height, left : left + width], (width * 3, height * 3))


def _pick(rng: np.random.Generator, items: Sequence[_Item]) -> _Item:
    return items[int(rng.integers(0, len(items)))]


def _toothed(folder: Path) -> list[Film]:
    """List training films whose marks are numbered tooth outlines."""
    if not (folder / "annotations.coco.json").exists():
        return []
    films = split(read_coco(folder)).train
    return [f for f in films if sum(m.label.isdigit() for m in f.marks) >= 12]


def _pool(view: View, count: int, seed: int) -> list[np.ndarray]:
    from sample_studies import phantoms

    make = phantoms.bitewing if view is View.BITEWING else phantoms.periapical
    rng = np.random.default_rng((seed, VIEWS.index(view)))
    return [_stored(_as_bytes(make(rng).pixels)) for _ in range(count)]


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    high = 1.0 if np.issubdtype(pixels.dtype, np.floating) else float(max(pixels.max(), 1))
    scaled: np.ndarray = (np.clip(pixels / high, 0, 1) * 255).astype(np.uint8)
    return scaled


def _stored(pixels: np.ndarray) -> np.ndarray:
    scale = _STORED / max(pixels.shape)
    if scale >= 1:
        return pixels
    size = (max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _jitter(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    size = pixels.shape[:2]
    matrix = augment.affine(rng, size, size, strength)
    return augment.warp(rng, pixels, matrix, size)


def _reshaped(pixels: np.ndarray, aspect: float) -> np.ndarray:
    return cv2.resize(pixels, (int(300 * aspect), 300), interpolation=cv2.INTER_AREA)


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


def close_crop(film: Film, view: View, rng: np.random.Generator) -> np.ndarray:
    """Cut a panoramic with numbered teeth so that it is framed like an intraoral film."""
    boxes = {mark.label: mark.box for mark in film.marks}
    pixels = film.read()
    if view is View.BITEWING:
        window = _bitewing_window(boxes, rng)
    else:
        window = _periapical_window(boxes, rng)
    if window is None:
        return close_crop_fallback(pixels, rng)
    x0, y0, x1, y1 = window
    rows, cols = pixels.shape
    x0, x1 = max(0, int(x0)), min(cols, int(x1))
    y0, y1 = max(0, int(y0)), min(rows, int(y1))
    # Stored films may be squashed; UFBA's are square but were about 1991 x 1127.
    widen = 1.766 * rows / cols
    size = (int((x1 - x0) * widen * 3), (y1 - y0) * 3)
    if min(size) < 60:
        return close_crop_fallback(pixels, rng)
    return cv2.resize(pixels[y0:y1, x0:x1], size, interpolation=cv2.INTER_CUBIC)


def close_crop_fallback(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut the middle of a panoramic where the teeth asked for are missing."""
    rows, cols = pixels.shape
    left = int(cols * rng.uniform(0.3, 0.5))
    return cv2.resize(pixels[rows // 3 : rows * 2 // 3, left : left + cols // 6], (400, 300))


def _bitewing_window(
    boxes: dict[str, tuple[float, float, float, float]], rng: np.random.Generator
) -> tuple[float, float, float, float] | None:
    upper, lower = (("1", "4"), ("2", "3"))[int(rng.integers(0, 2))]
    first = int(rng.integers(3, 6))
    places = range(first, min(first + int(rng.integers(3, 5)), 9))
    tops = [boxes[f"{upper}{p}"] for p in places if f"{upper}{p}" in boxes]
    lows = [boxes[f"{lower}{p}"] for p in places if f"{lower}{p}" in boxes]
    if len(tops) < 2 or len(lows) < 2:
        return None
    reach = rng.uniform(0.55, 0.8)
    y0 = min(b[3] - reach * (b[3] - b[1]) for b in tops)
    y1 = max(b[1] + reach * (b[3] - b[1]) for b in lows)
    x0, x1 = min(b[0] for b in tops + lows), max(b[2] for b in tops + lows)
    return x0, y0, x1, y1


def _periapical_window(
    boxes: dict[str, tuple[float, float, float, float]], rng: np.random.Generator
) -> tuple[float, float, float, float] | None:
    order = [*(f"1{p}" for p in range(8, 0, -1)), *(f"2{p}" for p in range(1, 9))]
    if is_lower := rng.random() < 0.5:
        order = [*(f"4{p}" for p in range(8, 0, -1)), *(f"3{p}" for p in range(1, 9))]
    start = int(rng.integers(0, 13))
    teeth = [boxes[c] for c in order[start : start + int(rng.integers(2, 5))] if c in boxes]
    if len(teeth) < 2:
        return None
    x0, x1 = min(b[0] for b in teeth), max(b[2] for b in teeth)
    y0, y1 = min(b[1] for b in teeth), max(b[3] for b in teeth)
    height = y1 - y0
    beyond, crown = rng.uniform(0.1, 0.45) * height, rng.uniform(0.0, 0.08) * height
    above, below = (crown, beyond) if is_lower else (beyond, crown)
    return x0, y0 - above, x1, y1 + below


def noise(rng: np.random.Generator) -> np.ndarray:
    """Draw noise of a random grain, sometimes on a gradient."""
    rows, cols = (int(v) for v in rng.integers(120, 400, 2))
    grain = int(rng.choice([1, 2, 6, 20, 60]))
    field = rng.normal(0, 1, (rows // grain + 2, cols // grain + 2)).astype(np.float32)
    field = cv2.resize(field, (cols, rows), interpolation=cv2.INTER_CUBIC)
    ramp = np.linspace(0, rng.uniform(0, 4), cols, dtype=np.float32)[None]
    scaled = cv2.normalize(field + ramp, np.zeros_like(field), 0, 255, cv2.NORM_MINMAX)
    return scaled.astype(np.uint8)


def page(rng: np.random.Generator) -> np.ndarray:
    """Draw a page or a form with lines of text."""
    rows, cols = int(rng.integers(250, 600)), int(rng.integers(250, 600))
    paper = int(rng.integers(180, 256))
    canvas = np.full((rows, cols), paper, np.uint8)
    y = 20
    while y < rows - 10:
        text = "".join(rng.choice(list("abcdefghijklmnop rstuvw 0123456789")) for _ in range(60))
        cv2.putText(canvas, text, (10, y), int(rng.integers(0, 4)), rng.uniform(0.3, 0.7), 20, 1)
        y += int(rng.integers(12, 40))
    if rng.random() < 0.5:
        cv2.rectangle(canvas, (5, 5), (cols - 8, rows // 3), 60, 2)
    return 255 - canvas if rng.random() < 0.4 else canvas


def shapes(rng: np.random.Generator) -> np.ndarray:
    """Draw soft and hard geometric shapes: test patterns, phantoms, collimators."""
    rows, cols = (int(v) for v in rng.integers(150, 500, 2))
    canvas = np.full((rows, cols), int(rng.integers(0, 120)), np.uint8)
    for _ in range(int(rng.integers(1, 12))):
        at = (int(rng.integers(0, cols)), int(rng.integers(0, rows)))
        grey = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            axes = (int(rng.integers(5, cols // 2)), int(rng.integers(5, rows // 2)))
            cv2.ellipse(canvas, at, axes, float(rng.uniform(0, 180)), 0, 360, grey, -1)
        else:
            end = (int(rng.integers(0, cols)), int(rng.integers(0, rows)))
            cv2.rectangle(canvas, at, end, grey, int(rng.choice([-1, 1, 4])))
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(1, 12))
    return canvas
