"""The receiving process as the node sees it: started, handed associations, started again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.dicom.intake import STATUS
from node.dicom.report import MOST_BYTES
from node.errors import Retryable

_LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]
#: How long the process may take to end when it is told to.
_END_S = 5.0


@dataclass(slots=True)
class _Running:
    child: subprocess.Popen[bytes]
    control: socket.socket


class IntakeProcess:
    """One child process that receives; one that died is replaced at the next association."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: _Running | None = None
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        running = self._running
        return None if running is None else running.child.pid

    def start(self) -> None:
        """Start the process unless it runs."""
        with self._guard:
            self._ensure()

    def stop(self) -> None:
        """End the process; what it was answered is kept."""
        with self._guard:
            self._is_stopped = True
            self._discard()

    def converse(
        self, sock: socket.socket, terms: Mapping[str, object], answer: Callable[[bytes], int]
    ) -> None:
        """Hand an association over; answer its reports until it has ended.

        Raises Retryable when there is no process to take it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._hand_over(json.dumps(terms).encode(), [sock.fileno(), theirs.fileno()])
            with contextlib.suppress(ConnectionError):  # it died: its associations are over
                while report := ours.recv(MOST_BYTES):
                    ours.send(STATUS.pack(answer(report)))

    def _hand_over(self, message: bytes, descriptors: list[int]) -> None:
        for _ in range(2):  # it may have died since the last time
            with self._guard:
                control = self._ensure().control
                try:
                    socket.send_fds(control, [message], descriptors)
                except OSError:
                    self._discard()
                else:
                    return
        raise Retryable("the receiving process does not stay up")

    def _ensure(self) -> _Running:
        if self._is_stopped:
            raise Retryable("the node is stopping")
        running = self._running
        if running is not None and running.child.poll() is None:
            return running
        if running is not None:
            _LOG.warning("the receiving process ended; starting another")
            self._discard()
        self._running = _start()
        return self._running

    def _discard(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.control.close()
        try:
            running.child.wait(_END_S)
        except subprocess.TimeoutExpired:
            running.child.kill()
            running.child.wait()


def _start() -> _Running:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "node.dicom.intake", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    return _Running(child, ours)
