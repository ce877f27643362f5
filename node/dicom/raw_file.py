"""A new file that takes bytes as they are: no buffer of its own, many pieces in one system call.

The disk begins to write while the rest still comes (Linux), so that :meth:`RawFile.flush` has
little left to wait for.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
#: As many pieces as Linux takes in one call (IOV_MAX).
_MOST_PIECES = 1024
#: The disk is told to begin after so many bytes.
_BEGIN_EVERY_BYTES = 512 * 1024
_WHOLE_BYTES = 64 * 1024
_SYNC_FILE_RANGE_WRITE = 2
_begin = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
if _begin is not None:
    _begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class RawFile:
    """A file that is made, written from its first byte to its last, and flushed. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, _FLAGS, 0o600)
        self._is_open = True
        self._written = self._begun = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Append all of `data`."""
        rest = memoryview(data)
        count = rest.nbytes
        while rest.nbytes:
            rest = rest[os.write(self._descriptor, rest) :]
        self._begin_after(count)
        return count

    def write_all(self, pieces: Sequence[memoryview]) -> int:
        """Append all of several pieces, which are bytes each."""
        count = sum(piece.nbytes for piece in pieces)
        if not count:
            return 0
        if len(pieces) == 1 or len(pieces) > _MOST_PIECES or not hasattr(os, "writev"):
            return sum(self.write(piece) for piece in pieces)
        written = os.writev(self._descriptor, pieces)
        self._begin_after(written)
        if written < count:  # the disk is nearly full: the next one says so
            for piece in pieces:
                taken = min(written, piece.nbytes)
                written -= taken
                self.write(piece[taken:])
        return count

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(self._descriptor)
        else:  # macOS, Windows
            os.fsync(self._descriptor)

    def _begin_after(self, count: int) -> None:
        """Let the disk begin with what is written; errors are told by :meth:`flush`."""
        self._written += count
        # not the end, which would have to be written again with what follows
        waiting = self._written - self._written % _WHOLE_BYTES - self._begun
        if _begin is not None and waiting >= _BEGIN_EVERY_BYTES:
            _begin(self._descriptor, self._begun, waiting, _SYNC_FILE_RANGE_WRITE)
            self._begun += waiting

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)
