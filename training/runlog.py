"""What a training run says while it runs: one line on the screen, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol


class _Writer(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


class RunLog:
    """Writes the losses of a run; rows past the step a run goes on from are dropped.

    ``OUT.csv`` gets a row every `every` steps. TensorBoard gets the same under ``OUT.events`` when
    the package ``tensorboard`` is installed.
    """

    def __init__(self, out: Path, first_step: int, every: int = 20) -> None:
        self._path = out.with_suffix(".csv")
        self._every = every
        self._started = time.monotonic()
        self._shown = 0.0
        self._first_progress: float | None = None
        _trim(self._path, first_step)
        self._board = _tensorboard(out.with_suffix(".events"))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\n")

    def step(self, step: int, progress: float, spent_s: float, parts: Mapping[str, float]) -> None:
        """Note a finished step; `progress` is 0..1 of the whole run, `spent_s` its time so far."""
        if self._first_progress is None:
            self._first_progress, self._started = progress, time.monotonic()
        if step % self._every == 0:
            self._row(step, spent_s, parts)
            if self._board is not None:
                for name, value in parts.items():
                    self._board.add_scalar(f"loss/{name}", value, step)
        now = time.monotonic()
        if now - self._shown >= (1.0 if sys.stderr.isatty() else 30.0) or progress >= 1.0:
            self._shown = now
            self._show(step, progress, parts)

    def _row(self, step: int, spent_s: float, parts: Mapping[str, float]) -> None:
        is_new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", "seconds", *parts])
            writer.writerow([step, f"{spent_s:.0f}", *(f"{value:.4f}" for value in parts.values())])

    def _show(self, step: int, progress: float, parts: Mapping[str, float]) -> None:
        losses = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
        left = self._left(progress)
        line = f"step {step}  {100 * min(progress, 1.0):5.1f} %  {left}  {losses}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{line[:150]}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _left(self, progress: float) -> str:
        assert self._first_progress is not None
        done = progress - self._first_progress
        if done <= 0:
            return "ETA –"
        seconds = (time.monotonic() - self._started) * max(1.0 - progress, 0.0) / done
        return f"ETA {int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"


def _trim(path: Path, last_step: int) -> None:
    """Drop the rows of steps that will be made again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if row and int(row[0]) <= last_step]
    if last_step == 0 or len(kept) < 2:
        path.unlink()
    elif len(kept) < len(rows):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(kept)


def _tensorboard(folder: Path) -> _Writer | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer: _Writer = SummaryWriter(str(folder))
    return writer
