"""Train one network: ``python -m training.train --task NAME --data DIR --out FILE.pt``.

A run writes the weights (``FILE.pt``, a float16 state dict), ``FILE.manifest.json`` (every film
with its hash and what it was used for), ``FILE.metrics.json`` (figures on the tuning films; test
films are left alone), ``FILE.card.md`` (a model card to fill in) and ``FILE.csv`` (losses). It can
be stopped with Ctrl-C at any time: the same command goes on from ``FILE.checkpoint``, and with
``--steps`` ends at the same weights. The learning rate follows the steps, or the time spent when
``--minutes`` is given.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from models import weights
from node.errors import BitewingError, ConfigError, InvalidInput, outcome
from training import datasets, layouts, manifest
from training.runlog import RunLog

#: The smoothing of the averaged weights that are kept in the end.
_AVERAGE = 0.995
#: Steps of one run share a seed without ever meeting those of another.
_SEED_STRIDE = 10_000_019

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
    """How long, how fast and where to train; ``device`` is ``auto``, ``cpu`` or ``cuda``."""

    out: Path
    minutes: float
    steps: int | None
    seed: int
    rate: float = 1.0e-3
    save_every_s: float = 120.0
    device: str = "cpu"


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


@dataclass(slots=True)
class _Run:
    """A run under way: the networks, the optimizer, and how far it is."""

    net: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    step: int = 0
    spent_s: float = 0.0


def fit(task: Task, settings: Settings) -> None:
    """Train `task` to the end of its budget, going on from a checkpoint when there is one.

    Raises Stopped after Ctrl-C or SIGTERM, ConfigError when the device is not there.
    """
    torch.manual_seed(settings.seed)
    device = choose_device(settings.device)
    net = task.network().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(net), lr=settings.rate, weight_decay=1e-2)
    run = _Run(net, copy.deepcopy(net), optimizer, device)
    _resume(settings, run)
    saved = time.monotonic()
    with RunLog(settings.out, run.step) as log, _stop_signals() as stop:
        while (progress := _progress(settings, run)) < 1.0:
            parts = _step(task, run, settings, progress)
            log.step(run.step, _progress(settings, run), run.spent_s, parts)
            if time.monotonic() - saved > settings.save_every_s or stop:
                _save(settings, run)
                saved = time.monotonic()
            if stop:
                raise Stopped
    _save(settings, run)
    _export(task, run, settings)


def choose_device(name: str) -> torch.device:
    """Give the device to train on; ``auto`` takes a CUDA device when there is one.

    Raises ConfigError when ``cuda`` is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is available; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a step is finished before the run stops."""
    caught: list[int] = []
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, lambda n, _: caught.append(n))
    except ValueError:  # not the main thread: signals cannot be taken here
        pass
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _progress(settings: Settings, run: _Run) -> float:
    if settings.steps is not None:
        return run.step / settings.steps
    return run.spent_s / (60.0 * settings.minutes)


def _groups(net: nn.Module) -> list[dict[str, object]]:
    """Let the pretrained backbone learn slower than the new layers."""
    backbone = [p for name, p in net.named_parameters() if name.startswith("backbone.")]
    rest = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    return [{"params": backbone, "scale": 0.3}, {"params": rest, "scale": 1.0}]


def _step(task: Task, run: _Run, settings: Settings, progress: float) -> dict[str, float]:
    """Take one step and follow it with the average; the CPU's time counts, on CUDA the clock's."""
    clock = time.perf_counter if run.device.type == "cuda" else time.process_time
    start = clock()
    warm = min(1.0, (run.step + 1) / 50)
    for group in run.optimizer.param_groups:
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
        group["lr"] = settings.rate * group["scale"] * warm * (0.01 + 0.99 * cosine)
    # Generators per step make a resumed run see and drop what the unbroken one would have.
    torch.manual_seed(settings.seed * _SEED_STRIDE + run.step)
    drawn = task.batch(np.random.default_rng((settings.seed, run.step)), progress)
    batch = {name: tensor.to(run.device, non_blocking=True) for name, tensor in drawn.items()}
    run.net.train()
    mixed = torch.autocast("cuda", torch.bfloat16, enabled=run.device.type == "cuda")
    with run.device:  # what a loss makes anew lies beside the batch
        with mixed:
            outputs = run.net(batch["image"].to(memory_format=torch.channels_last))
        parts = task.loss({name: maps.float() for name, maps in outputs.items()}, batch)
        total = torch.stack(list(parts.values())).sum()
        run.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(run.net.parameters(), 5.0)
        run.optimizer.step()
    _follow(run.average, run.net, min(_AVERAGE, run.step / (run.step + 10)))
    values = {name: float(part.detach()) for name, part in parts.items()}
    run.step, run.spent_s = run.step + 1, run.spent_s + clock() - start
    return values


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    for mine, other in zip(average.parameters(), net.parameters(), strict=True):
        mine.lerp_(other, 1.0 - keep)
    for kept, seen in zip(average.buffers(), net.buffers(), strict=True):
        kept.copy_(seen)


def checkpoint(out: Path) -> Path:
    """Name the file a broken run goes on from."""
    return out.with_suffix(".checkpoint")


def _save(settings: Settings, run: _Run) -> None:
    path = checkpoint(settings.out)
    part = path.with_suffix(".part")
    torch.save(
        {
            "net": run.net.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "step": run.step,
            "spent": run.spent_s,
        },
        part,
    )
    part.replace(path)


def _resume(settings: Settings, run: _Run) -> None:
    path = checkpoint(settings.out)
    if not path.exists():
        return
    try:
        saved = torch.load(path, weights_only=True, map_location=run.device)
        run.net.load_state_dict(saved["net"])
        run.average.load_state_dict(saved["average"])
        run.optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is of another network; delete it to begin anew") from error
    run.step, run.spent_s = int(saved["step"]), float(saved["spent"])


def _export(task: Task, run: _Run, settings: Settings) -> None:
    state = task.finish(run.average.cpu().eval())
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    part = settings.out.with_suffix(".part")
    torch.save({name: t.contiguous() for name, t in half.items()}, part)
    part.replace(settings.out)
    manifest.write(settings.out.with_suffix(".manifest.json"), task.films())


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and train; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--task", required=True, choices=weights.TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set(s)")
    parser.add_argument("--out", type=Path, required=True, help="weight file to write")
    parser.add_argument("--minutes", type=float, default=45.0, help="time to spend (CPU, or GPU)")
    parser.add_argument("--steps", type=int, help="train for this many steps instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--start", type=Path, help="weights of another task to start from")
    parser.add_argument(
        "--no-figures", action="store_true", help="skip the figures on the tuning films"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    command = " ".join(["python -m training.train", *(arguments or sys.argv[1:])])
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            options.out, options.minutes, options.steps, options.seed, device=options.device
        )
        fit(make_task(options.task, options.data, options.start), settings)
        if not options.no_figures:
            _describe(options.task, options.data, options.out, command)
    except Stopped:
        sys.stderr.write("\nstopped; the same command goes on from the checkpoint\n")
        return 130
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    return 0


def make_task(name: str, data: Path, start: Path | None = None) -> Task:
    """Make the task called `name` from the films under `data`.

    Raises InvalidInput when the folder does not hold what the task needs.
    """
    if name == "triage":
        from training.triage import TriageTask

        return TriageTask(data)
    sys.stderr.write(f"{data}: {layouts.describe(data)}\n")
    if name == "intraoral":
        from training.intraoral import IntraoralTask

        return IntraoralTask(data, start)
    from training.panoramic import FindingsTask, TeethTask

    films = datasets.split(layouts.read_panoramics(data, name))
    if name == "panoramic_teeth":
        return TeethTask(films)
    return FindingsTask(films, start)


def _describe(task: str, data: Path, out: Path, command: str) -> None:
    """Measure the new weights on the tuning films and write figures and card skeleton."""
    from training import card, evaluate, report

    reports: tuple[report.Report, ...] = ()
    try:
        found = evaluate.measure_file(task, data, out, part="tune")
        out.with_suffix(".metrics.json").write_text(evaluate.as_json(found), encoding="utf-8")
        reports = found.reports
    except InvalidInput as error:
        sys.stderr.write(f"no figures: {error}\n")
    listed = manifest.read_digest(out.with_suffix(".manifest.json"))
    path = out.with_suffix(".card.md")
    path.write_text(card.skeleton(task, out, command, reports, listed), encoding="utf-8")
    sys.stderr.write(f"wrote {out}, its manifest, metrics and {path}\n")


if __name__ == "__main__":
    sys.exit(main())
