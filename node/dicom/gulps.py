"""A connection read in large gulps: many PDUs a system call, into one buffer that is used again."""

from __future__ import annotations

import socket
from collections.abc import Callable

_BUFFER_BYTES = 1 << 20
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class HungUp(Exception):
    """The peer closed the connection, or was silent for too long."""


class Gulps:
    """Reads a blocking socket.

    What :meth:`at_most` gives is valid until `before_reuse` was called twice, all else until the
    next call. There are two buffers: while one is still worked on, the other one is filled.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.before_reuse: Callable[[], None] = _nothing
        self._socket = sock
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._other = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0

    def exactly(self, count: int) -> memoryview:
        """Give the next `count` bytes, no more than the buffer holds."""
        if self._view.nbytes - self._start < count:
            self.before_reuse()
            self._turn()
        while self._end - self._start < count:
            self._read()
        return self._take(count)

    def at_most(self, count: int) -> memoryview:
        """Give what is there of the next `count` bytes, at least one; waits for it."""
        if self._start == self._end:
            self._read()
        return self._take(min(count, self._end - self._start))

    def _take(self, count: int) -> memoryview:
        taken = self._view[self._start : self._start + count]
        self._start += count
        return taken

    def _read(self) -> None:
        self.before_reuse()
        if self._start == self._end:
            self._turn()
        try:
            count = self._socket.recv_into(self._view[self._end :])
        except OSError as error:  # timed out, reset, or closed by us
            raise HungUp from error
        if count == 0:
            raise HungUp
        self._end += count
        if _QUICKACK is not None:  # not sticky: Linux clears it again by itself
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _turn(self) -> None:
        """Go on in the other buffer, with what was not taken yet."""
        rest = self._end - self._start
        self._other[:rest] = self._view[self._start : self._end]
        self._view, self._other = self._other, self._view
        self._start, self._end = 0, rest


def _nothing() -> None:
    """Do nothing."""
