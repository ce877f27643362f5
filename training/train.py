"""Train one network: ``python -m training.train --task NAME --data DIR --out FILE --minutes M``.

The run is resumable (``FILE.checkpoint``), logs to ``FILE.csv``, and writes the weights (float16
state dict) and ``FILE.manifest.json`` with every training file's hash. The learning rate follows
the spent CPU minutes, or the steps when ``--steps`` is given, which makes a run repeatable.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from training import datasets

#: The smoothing of the averaged weights that are kept in the end.
_AVERAGE = 0.995

Batch = dict[str, torch.Tensor]


class Task(Protocol):
    """What the loop needs to know about a task."""

    def network(self) -> nn.Module:
        """Build the network to start from."""

    def batch(self, rng: np.random.Generator, progress: float) -> Batch:
        """Draw an augmented batch; `progress` goes from 0 to 1 over the run."""

    def loss(self, outputs: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Give the named parts of the loss."""

    def finish(self, net: nn.Module) -> dict[str, torch.Tensor]:
        """Choose thresholds on the tuning films and give the state dict to keep."""

    def films(self) -> Sequence[datasets.Film]:
        """List the annotated films the task learns from."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast to train."""

    out: Path
    minutes: float
    steps: int | None
    seed: int
    rate: float = 1.0e-3
    save_every_s: float = 120.0


def fit(task: Task, settings: Settings) -> None:
    """Train `task` to the end of its budget, going on from a checkpoint when there is one."""
    torch.manual_seed(settings.seed)
    net = task.network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(_groups(net), lr=settings.rate, weight_decay=1e-2)
    step, spent = _resume(settings, net, average, optimizer)
    saved = time.monotonic()
    while (progress := _progress(settings, step, spent)) < 1.0:
        start = time.process_time()
        parts = _step(task, net, optimizer, settings, step, progress)
        _follow(average, net, min(_AVERAGE, step / (step + 10)))
        step, spent = step + 1, spent + time.process_time() - start
        if step % 20 == 0:
            _log(settings, step, spent, parts)
        if time.monotonic() - saved > settings.save_every_s:
            _save(settings, net, average, optimizer, step, spent)
            saved = time.monotonic()
    _save(settings, net, average, optimizer, step, spent)
    _export(task, average, settings)


def _progress(settings: Settings, step: int, spent: float) -> float:
    if settings.steps is not None:
        return step / settings.steps
    return spent / (60.0 * settings.minutes)


def _groups(net: nn.Module) -> list[dict[str, object]]:
    """Let the pretrained backbone learn slower than the new layers."""
    backbone = [p for name, p in net.named_parameters() if name.startswith("backbone.")]
    rest = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    return [{"params": backbone, "scale": 0.3}, {"params": rest, "scale": 1.0}]


def _step(
    task: Task,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    step: int,
    progress: float,
) -> dict[str, float]:
    warm = min(1.0, (step + 1) / 50)
    for group in optimizer.param_groups:
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
        group["lr"] = settings.rate * group["scale"] * warm * (0.01 + 0.99 * cosine)
    # A generator per step makes a resumed run see the films the unbroken one would have seen.
    batch = task.batch(np.random.default_rng((settings.seed, step)), progress)
    net.train()
    parts = task.loss(net(batch["image"].to(memory_format=torch.channels_last)), batch)
    total = torch.stack(list(parts.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return {name: float(part.detach()) for name, part in parts.items()}


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    for mine, other in zip(average.parameters(), net.parameters(), strict=True):
        mine.lerp_(other, 1.0 - keep)


def _checkpoint(settings: Settings) -> Path:
    return settings.out.with_suffix(".checkpoint")


def _save(
    settings: Settings,
    net: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: float,
) -> None:
    path = _checkpoint(settings)
    part = path.with_suffix(".part")
    torch.save(
        {
            "net": net.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "spent": spent,
        },
        part,
    )
    part.replace(path)


def _resume(
    settings: Settings, net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    path = _checkpoint(settings)
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path, weights_only=True)
    net.load_state_dict(saved["net"])
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"]), float(saved["spent"])


def _log(settings: Settings, step: int, spent: float, parts: dict[str, float]) -> None:
    path = settings.out.with_suffix(".csv")
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["step", "cpu_s", *parts])
        writer.writerow([step, f"{spent:.0f}", *(f"{value:.4f}" for value in parts.values())])
    if step % 100 == 0:
        text = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
        sys.stderr.write(f"step {step} cpu {spent / 60:.1f} min {text}\n")


def _export(task: Task, net: nn.Module, settings: Settings) -> None:
    state = task.finish(net.eval())
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    torch.save({name: t.contiguous() for name, t in half.items()}, settings.out)
    settings.out.with_suffix(".manifest.json").write_text(
        json.dumps(datasets.manifest(task.films()), indent=1), encoding="utf-8"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    tasks = ["triage", "panoramic_teeth", "panoramic_caries", "intraoral"]
    parser.add_argument("--task", required=True, choices=tasks)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set(s)")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    parser.add_argument("--minutes", type=float, default=45.0, help="CPU minutes to spend")
    parser.add_argument("--steps", type=int, help="train for this many steps instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights of another task to start from")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = Settings(options.out, options.minutes, options.steps, options.seed)
    fit(_task(options.task, options.data, options.start), settings)


def _task(name: str, data: Path, start: Path | None) -> Task:
    if name == "triage":
        from training.triage import TriageTask

        return TriageTask(data)
    if name == "intraoral":
        from training.intraoral import IntraoralTask

        return IntraoralTask(data)
    from training.panoramic import FindingsTask, TeethTask

    films = datasets.split(datasets.read_coco(data))
    if name == "panoramic_teeth":
        return TeethTask(films)
    return FindingsTask(films, start)


if __name__ == "__main__":
    main()
