"""Calls to a network from several images at once, run as one batch.

Each image is read by its own thread as if it were alone. Where a thread comes to a network it
waits until every other thread waits too (or has ended), then all calls of one size run together.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Maps = dict[str, torch.Tensor]
T = TypeVar("T")
R = TypeVar("R")

_CURRENT: contextvars.ContextVar[Gathering | None] = contextvars.ContextVar("gathering")


class _Call:
    """One waiting call and what came of it."""

    def __init__(self, owner: object, pixels: torch.Tensor, run: Callable[..., Maps]) -> None:
        self.owner, self.pixels, self.run = owner, pixels, run
        self.maps: Maps | None = None
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.maps is not None or self.error is not None


class Gathering:
    """The threads that read images together, and their calls that wait."""

    def __init__(self, members: int) -> None:
        self._members = members
        self._waiting: list[_Call] = []
        self._turn = threading.Condition()

    @staticmethod
    def current() -> Gathering | None:
        """Give the gathering that this thread reads in, if any."""
        return _CURRENT.get(None)

    def run(self, owner: object, pixels: torch.Tensor, run: Callable[..., Maps]) -> Maps:
        """Run `pixels` through the network `owner` with whoever comes to one of its size."""
        call = _Call(owner, pixels, run)
        with self._turn:
            self._waiting.append(call)
            self._flush_when_all_wait()
            self._turn.wait_for(lambda: call.is_done)
        if call.error is not None:
            raise call.error
        assert call.maps is not None
        return call.maps

    def leave(self) -> None:
        """Say that one thread has ended: the others wait for it no more."""
        with self._turn:
            self._members -= 1
            self._flush_when_all_wait()

    def _flush_when_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._members:
            return
        calls, self._waiting = self._waiting, []
        groups: dict[tuple[object, ...], list[_Call]] = {}
        for call in calls:
            key = (id(call.owner), call.pixels.device, *call.pixels.shape[1:])
            groups.setdefault(key, []).append(call)
        for group in groups.values():
            _run_together(group)
        self._turn.notify_all()


def _run_together(group: Sequence[_Call]) -> None:
    """Run calls as one batch; when that fails (memory, say), each by itself."""
    start = 0
    try:
        with torch.inference_mode():
            maps = group[0].run(torch.cat([call.pixels for call in group]))
    except Exception as error:  # noqa: BLE001 - the thread that waits must hear of it
        if len(group) == 1:
            group[0].error = error
            return
        for call in group:
            _run_together([call])
        return
    for call in group:
        rows = slice(start, start + len(call.pixels))
        call.maps = {name: map_[rows] for name, map_ in maps.items()}
        start = rows.stop


def together(function: Callable[[T], R], items: Sequence[T]) -> list[R | Exception]:
    """Call `function` on every item at once, its network calls in batches.

    An item whose call raises gives its exception; the others are not touched by it.
    """
    if len(items) < 2:
        return [_outcome(function, item) for item in items]
    gathering = Gathering(len(items))

    def one(item: T) -> R | Exception:
        token = _CURRENT.set(gathering)
        try:
            return _outcome(function, item)
        finally:
            _CURRENT.reset(token)
            gathering.leave()

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def _outcome(function: Callable[[T], R], item: T) -> R | Exception:
    try:
        return function(item)
    except Exception as error:  # noqa: BLE001 - the caller sorts the outcomes
        return error
