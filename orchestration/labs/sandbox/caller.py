"""Telling the practice: signed calls, tried again until they are taken, with their faults."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass

import httpx2

from orchestration.labs.callbacks import update_to_json
from orchestration.labs.partner import LabUpdate
from orchestration.labs.sandbox.bench import Bench
from orchestration.signatures import sign


@dataclass(frozen=True, slots=True)
class Call:
    """One webhook call that was made: which word, and the answer's status (0 for none)."""

    delivery_id: str
    status: int


class Caller:
    """Calls `url` with every word that the bench has to tell; no url, no calls."""

    def __init__(self, bench: Bench, secret: str, url: str = "") -> None:
        self._bench = bench
        self._secret = secret
        self._lock = threading.Lock()
        self._late: deque[LabUpdate] = deque()
        self.url = url
        self.calls: list[Call] = []

    def run_once(self) -> int:
        """Tell what there is to tell; returns how many calls were taken."""
        with self._lock:
            return self._tell_all() if self.url and not self._bench.is_down else 0

    def _tell_all(self) -> int:
        taken = 0
        waiting = self._bench.to_tell
        while waiting:
            update = waiting[0]
            if self._bench.met("silent"):
                waiting.popleft()
            elif len(waiting) > 1 and self._bench.met("out_of_order"):
                self._late.append(waiting.popleft())
            elif self._call(update):
                waiting.popleft()
                taken += 1
                taken += sum(self._call(late) for late in self._late)
                self._late.clear()
            else:
                return taken
        return taken

    def _call(self, update: LabUpdate) -> bool:
        """Make one call, twice if told to; True when the practice took it."""
        body = json.dumps(update_to_json(update)).encode()
        if self._bench.met("bad_signature"):
            self._post(update, body, "not the secret")
        status = self._post(update, body, self._secret)
        if self._bench.met("duplicate"):
            self._post(update, body, self._secret)
        return 200 <= status < 300

    def _post(self, update: LabUpdate, body: bytes, secret: str) -> int:
        headers = {
            "Content-Type": "application/json",
            "X-Signature": sign(secret, body, self._bench.now()),
            "X-Delivery": update.delivery_id,
        }
        try:
            status = httpx2.post(
                self.url, content=body, headers=headers, timeout=10.0, trust_env=False
            ).status_code
        except httpx2.RequestError:
            status = 0
        self.calls.append(Call(update.delivery_id, status))
        return status
