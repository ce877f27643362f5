"""Results that are kept for whoever asks next: the ones used last, within a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The results used last, each made once even when several threads ask for it.

    Parameters
    ----------
    budget
        What all kept values may weigh together; the one asked for last is kept in any case.
    weigh
        What one value weighs; each counts as 1 unless told.
    """

    def __init__(self, budget: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._budget = budget
        self._weigh = weigh
        self._weight = 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, threading.Lock] = {}
        self._guard = threading.Lock()

    def peek(self, key: K) -> V | None:
        """What is kept under `key`, or None; this is not a use."""
        with self._guard:
            return self._values.get(key)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under `key`, made now if it is not; what `make` raises is not kept."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._guard:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
                with self._guard:
                    self._keep(key, value)
            finally:
                with self._guard:
                    self._making.pop(key, None)
            return value

    def _keep(self, key: K, value: V) -> None:
        self._values[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._budget and len(self._values) > 1:
            _, oldest = self._values.popitem(last=False)
            self._weight -= self._weigh(oldest)
