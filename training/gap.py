"""How well a classifier tells synthetic from real films: ``python -m training.gap --help``.

Features of patches from the ImageNet backbone go into a logistic regression, cross-validated. An
area under the curve of 0.5 means that it cannot tell them apart, 1.0 that it always can: then a
network trained on the one has learnt at least something that is not true of the other. With fewer
than five real films whole films cannot be held out: patches of one film are then in all folds, and
the figure speaks of these films only; the report says so and names the counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from node.errors import BitewingError, InvalidInput, outcome
from training import card, layouts, metrics
from training.metrics import Array, Figure

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
#: The longer side films are brought to, and the side of a patch, pixels.
_LONG, _PATCH = 512, 128
#: A patch with less spread of grey than this is an unexposed edge.
_LEAST_SPREAD = 0.03
_FOLDS = 5
_LEAST_FILMS = 5
_MOST_FILMS = 60
#: How often synthetic films stand in for real ones.
_CONTROLS = 6


@dataclass(frozen=True, slots=True)
class Gap:
    """What a gap check found; ``by_film`` says whether whole films were held out.

    ``control`` is what as many synthetic films score when they stand in for the real ones: how
    far single films are told apart anyhow. None when whole films were held out.
    """

    auroc: Figure
    control: float | None
    real_films: int
    synthetic_films: int
    real_patches: int
    synthetic_patches: int
    by_film: bool


def measure(synthetic: Path, real: Path, seed: int = 0) -> Gap:
    """Tell the films of `synthetic` from those of `real` (folders, or single images).

    Raises InvalidInput when either has no readable films.
    """
    rng = np.random.default_rng(seed)
    made, true = (_films(path, rng) for path in (synthetic, real))
    patches = [_patches(path) for path in (*made, *true)]
    film_of = np.repeat(np.arange(len(patches)), [len(p) for p in patches])
    is_real = film_of >= len(made)
    if not is_real.any() or is_real.all():
        raise InvalidInput("neither side of a gap check may be without exposed patches")
    features = _features(np.concatenate([p for p in patches if len(p)]))
    by_film = min(len(made), len(true)) >= _LEAST_FILMS
    unit = film_of if by_film else np.arange(len(film_of))
    score = _cross_validated(features, is_real, unit, rng)
    return Gap(
        auroc=_auroc(score, is_real, unit),
        control=None if by_film else _control(features, film_of, len(made), len(true), rng),
        real_films=len(true),
        synthetic_films=len(made),
        real_patches=int(is_real.sum()),
        synthetic_patches=int((~is_real).sum()),
        by_film=by_film,
    )


def _films(path: Path, rng: np.random.Generator) -> list[Path]:
    """List the images of a folder of films, or the one image; at most a sample of many."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidInput(f"there is no folder or film {path}")
    found: list[Path] = []
    if {name for name, _ in layouts.sets(path)} & {"synthetic films", "DenPAR"}:
        for part in ("train", "tune", "test"):
            try:
                found += [film.path for film in layouts.read_part(path, part)]
            except InvalidInput:
                continue
    else:
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise InvalidInput(f"{path} has no films")
    if len(found) <= _MOST_FILMS:
        return found
    return [found[i] for i in sorted(rng.choice(len(found), _MOST_FILMS, replace=False))]


def _patches(path: Path) -> np.ndarray:
    """Cut a film into patches side by side, (n, rows, cols) 0..1; unexposed ones are left out."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InvalidInput(f"{path.name} is not a readable image")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    low, high = np.percentile(pixels, (0.5, 99.5))
    image = np.clip((pixels - low) / max(high - low, 1.0), 0.0, 1.0).astype(np.float32)
    scale = _LONG / max(image.shape)
    size = (max(_PATCH, round(image.shape[1] * scale)), max(_PATCH, round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    rows, cols = image.shape
    kept = [
        tile
        for top in range(0, rows - _PATCH + 1, _PATCH)
        for left in range(0, cols - _PATCH + 1, _PATCH)
        if (tile := image[top : top + _PATCH, left : left + _PATCH]).std() >= _LEAST_SPREAD
    ]
    return np.stack(kept) if kept else np.zeros((0, _PATCH, _PATCH), np.float32)


def _features(patches: np.ndarray) -> torch.Tensor:
    """Average the backbone's last features over each patch."""
    from models.backbone import Lite0
    from training.panoramic import pretrained_backbone

    net = Lite0()
    net.load_state_dict(pretrained_backbone(), strict=False)
    net.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(patches), 32):
            batch = torch.from_numpy(patches[start : start + 32])[:, None]
            maps = net(((batch - 0.45) / 0.25).expand(-1, 3, -1, -1))
            rows.append(torch.cat([maps[-2].mean((2, 3)), maps[-1].mean((2, 3))], dim=1))
    return torch.cat(rows).clone()


def _cross_validated(
    features: torch.Tensor, is_real: np.ndarray, unit: np.ndarray, rng: np.random.Generator
) -> Array:
    """Score every patch by a classifier that did not learn from its unit."""
    score = np.zeros(len(is_real))
    fold_of = np.zeros(int(unit.max()) + 1, int)
    for side in (False, True):
        own = rng.permutation(np.unique(unit[is_real == side]))
        fold_of[own] = np.arange(len(own)) % _FOLDS
    folds = fold_of[unit]
    for fold in range(_FOLDS):
        held = folds == fold
        if held.any() and len(set(is_real[~held])) == 2:
            score[held] = _fit(features[~held], is_real[~held], features[held])
    return score


def _control(
    features: torch.Tensor, film_of: np.ndarray, made: int, count: int, rng: np.random.Generator
) -> float | None:
    """Let synthetic films stand in for the real ones, several times, and average; None if few."""
    if made <= count + 1:
        return None
    values = []
    for _ in range(_CONTROLS):
        stand_ins = rng.choice(made, count, replace=False)
        own = film_of < made
        is_real = np.isin(film_of[own], stand_ins)
        unit = np.arange(int(own.sum()))
        if is_real.any() and not is_real.all():
            score = _cross_validated(features[own], is_real, unit, rng)
            values.append(float(metrics.auroc(score, is_real, np.ones((1, len(score))))[0]))
    return float(np.mean(values)) if values else None


def _fit(known: torch.Tensor, is_real: np.ndarray, asked: torch.Tensor) -> Array:
    """Fit a logistic regression, both sides weighing the same, and score what is `asked`."""
    middle, spread = known.mean(0), known.std(0) + 1e-6
    x, y = (known - middle) / spread, torch.from_numpy(is_real.astype(np.float32))
    weight = torch.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y).mean())
    torch.manual_seed(0)
    line = nn.Linear(x.shape[1], 1)
    nn.init.zeros_(line.weight)
    optimizer = torch.optim.LBFGS(line.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(line(x)[:, 0], y, weight)
        value = value + 0.01 * (line.weight**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        scores: Array = line((asked - middle) / spread)[:, 0].numpy().astype(float)
    return scores


def _auroc(score: Array, is_real: np.ndarray, unit: np.ndarray) -> Figure:
    """Compute the area under the curve of units, with an interval from resampling them."""
    names, index = np.unique(unit, return_inverse=True)
    mean = np.bincount(index, score) / np.bincount(index)
    sides = np.zeros(len(names), bool)
    sides[index] = is_real

    def figures(weight: Array) -> dict[str, Array]:
        return {"auroc": metrics.auroc(mean, sides, weight)}

    return metrics.bootstrap([str(name) for name in names], figures)["auroc"]


def describe(gap: Gap) -> str:
    """Say what was found, and how much it is worth."""
    figure = gap.auroc
    lines = [
        f"Told apart with an area under the curve of **{figure.value:.2f}** "
        f"({figure.low:.2f} – {figure.high:.2f}); 0.5 would be indistinguishable, 1.0 is always.",
        f"{gap.synthetic_films} synthetic films ({gap.synthetic_patches} patches) against "
        f"{gap.real_films} real ({gap.real_patches} patches).",
    ]
    if gap.by_film:
        lines.append("Whole films were held out; the interval comes from resampling films.")
    else:
        lines.append(
            f"**With {gap.real_films} real film{'s' if gap.real_films != 1 else ''} no whole film "
            "could be held out**: patches of the same film are in all folds, and the interval "
            "comes from resampling patches. This says how these films differ from ours, not how "
            "real films do."
        )
        if gap.control is not None:
            lines.append(
                f"For comparison: {gap.real_films} of our own in their place are told from the "
                f"others with {gap.control:.2f}; only what is above that speaks of a gap."
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure and say it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.gap", description=__doc__)
    parser.add_argument("--synthetic", type=Path, required=True, help="synthetic films")
    parser.add_argument("--real", type=Path, required=True, help="real films, or one image")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--card", type=Path, help="model card whose section `gap` to replace")
    options = parser.parse_args(arguments)
    try:
        gap = measure(options.synthetic, options.real)
        text = describe(gap)
        if options.out:
            options.out.write_text(_as_json(gap), encoding="utf-8")
        if options.card:
            card.replace_section(options.card, "gap", text)
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    sys.stdout.write(text)
    return 0


def _as_json(gap: Gap) -> str:
    figure = {name: round(getattr(gap.auroc, name), 4) for name in ("value", "low", "high")}
    counts = {
        name: getattr(gap, name)
        for name in (
            *("real_films", "synthetic_films", "real_patches", "synthetic_patches"),
            "by_film",
        )
    }
    control = None if gap.control is None else round(gap.control, 4)
    return json.dumps({"auroc": figure, "control": control, **counts}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
