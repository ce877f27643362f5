"""SHA-256 of what arrives, in a thread beside the one that receives.

The digest is half of what an image costs. hashlib lets go of the interpreter meanwhile, so on a
second processor it takes no time: sealing, writing and the next read go on beside it. When as many
objects arrive as there are processors, none is free, and each is digested by its own receiver.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from queue import SimpleQueue

#: Less is digested at once: handing it over would take longer.
_LEAST_BYTES = 64 * 1024


class Digester:
    """Digests objects, one after another; for one thread to use.

    What is given must stay as it is until the next call. `crowd` holds those that have an object
    at the moment; `processors` may be used.
    """

    def __init__(self, crowd: set[Digester], processors: int) -> None:
        self._crowd = crowd
        self._processors = processors
        self._digest = hashlib.sha256()
        self._todo: SimpleQueue[Sequence[memoryview] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._is_busy = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin an object, whatever became of the one before."""
        self._wait()
        self._crowd.add(self)
        self._digest = hashlib.sha256()

    def update(self, pieces: Sequence[memoryview]) -> None:
        """Take the next bytes of the object."""
        self._wait()
        has_room = len(self._crowd) < self._processors
        if not has_room or sum(piece.nbytes for piece in pieces) < _LEAST_BYTES:
            self._take(pieces)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="digester", daemon=True)
            self._thread.start()
        self._is_busy = True
        self._todo.put(pieces)

    def hexdigest(self) -> str:
        """Give the digest of all that was taken, as 64 hex digits."""
        self._wait()
        self._crowd.discard(self)
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        self._crowd.discard(self)
        self._todo.put(None)

    def _wait(self) -> None:
        if self._is_busy:
            self._is_busy = False
            error = self._done.get()
            if error is not None:
                raise error

    def _take(self, pieces: Sequence[memoryview]) -> None:
        for piece in pieces:
            self._digest.update(piece)

    def _run(self) -> None:
        while (pieces := self._todo.get()) is not None:
            try:
                self._take(pieces)
            except BaseException as error:  # noqa: BLE001 - given to the one who waits for it
                self._done.put(error)
            else:
                self._done.put(None)
