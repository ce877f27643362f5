"""A new file that takes bytes as they are: no buffer of its own, many pieces in one system call."""

from __future__ import annotations

import os
from collections.abc import Sequence

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
#: As many pieces as Linux takes in one call (IOV_MAX).
_MOST_PIECES = 1024


class RawFile:
    """A file that is made, written from its first byte to its last, and flushed. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, _FLAGS, 0o600)
        self._is_open = True

    def write(self, data: bytes | memoryview, /) -> int:
        """Append all of `data`."""
        rest = memoryview(data)
        count = rest.nbytes
        while rest.nbytes:
            rest = rest[os.write(self._descriptor, rest) :]
        return count

    def write_all(self, pieces: Sequence[memoryview]) -> int:
        """Append all of several pieces, which are bytes each."""
        count = sum(piece.nbytes for piece in pieces)
        if len(pieces) == 1 or len(pieces) > _MOST_PIECES or not hasattr(os, "writev"):
            return sum(self.write(piece) for piece in pieces)
        written = os.writev(self._descriptor, pieces)
        if written < count:  # the disk is nearly full: the next one says so
            for piece in pieces:
                self.write(piece[min(written, piece.nbytes) :])
                written -= min(written, piece.nbytes)
        return count

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(self._descriptor)
        else:  # macOS, Windows
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)
