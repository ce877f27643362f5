"""One object that arrives piece by piece, in the receiving process: to the disk as it comes.

The bytes go from the network's buffer into the part file and through SHA-256; they never stand in
memory as a whole. The node hears of the object when it lies in the store, durably; the node writes
its rows and says what the sender is told.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator

from node.dicom.digester import Digester
from node.dicom.incoming import Incoming, write_part_10
from node.dicom.parts import Part, PartFolder
from node.dicom.report import START_BYTES, Report, failed

#: How often the room on the disk is looked at while a large object arrives.
_ROOM_EVERY_BYTES = 64 << 20

#: So many fragments are written in one system call.
_MOST_WAITING = 512

#: The tag of Pixel Data in little endian, and as much as shows that an element begins with it.
_PIXEL_DATA, _HEAD_BYTES = b"\xe0\x7f\x10\x00", 16

#: Tells the node of an object; returns the status for its sender.
Tell = Callable[[Report], int]


class Reception:
    """One object on its way; nothing of it stays unless the node kept it.

    A failure does not end the message: the peer sends the rest, and then gets its answer.
    """

    def __init__(
        self, folder: PartFolder, location_id: str, digester: Digester, tell: Tell
    ) -> None:
        self._folder = folder
        self._location_id = location_id
        self._tell = tell
        self._object_id = secrets.token_hex(16)
        self._digester = digester
        self._start = bytearray()
        self._waiting: list[memoryview] = []
        self._size = self._looked_at = 0
        self._failure: Exception | None = None
        self._incoming: Incoming | None = None
        self._part: Part | None = None

    def open(self, class_uid: str, instance_uid: str, syntax_uid: str, calling_ae: str) -> None:
        """Make the part and its file meta information; what is wrong is said by :meth:`finish`."""
        with self._failing():
            self._digester.begin()
            incoming = Incoming(memoryview(b""), class_uid, instance_uid, syntax_uid, calling_ae)
            self._folder.require_room(0)
            self._part = self._folder.begin(self._location_id, f"{self._object_id}.dcm")
            write_part_10(self._part, incoming)
            self._incoming = incoming

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set; they are needed until the second `flush`."""
        self._waiting.append(data)
        if len(self._waiting) == _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Pass on what was taken: to the disk and through the digest."""
        pieces, self._waiting = self._waiting, []
        if self._failure is not None or self._part is None:
            return
        with self._failing():
            self._digester.update(pieces)  # also of nothing: it has then done with what came before
            count = self._part.write_all(pieces)
            for piece in pieces:
                if len(self._start) < START_BYTES:
                    self._start += piece[: START_BYTES - len(self._start)]
            self._size += count
            if self._size - self._looked_at > _ROOM_EVERY_BYTES:
                self._looked_at = self._size
                self._folder.require_room(0)

    def fail(self, error: Exception) -> None:
        """Keep nothing of the object; `error` will be its answer."""
        self._failure = error
        self.discard()

    def finish(self) -> int:
        """Make the object durable and tell the node; return the status for the sender."""
        self.flush()
        with self._failing():
            report = self._store_whole()
        if self._failure is not None:
            report = failed(self._object_id, self._failure)
        return self._tell(report)

    def discard(self) -> None:
        """Leave nothing behind of an object that did not come to its end."""
        if self._part is not None:
            self._part.discard()

    def _store_whole(self) -> Report:
        if self._failure is not None:
            raise self._failure
        assert self._part is not None
        assert self._incoming is not None
        self._folder.require_room(0)
        self._part.finish()
        return Report(
            self._object_id,
            self._incoming.sop_class_uid,
            self._incoming.sop_instance_uid,
            self._incoming.transfer_syntax_uid,
            self._part.storage_key,
            self._digester.hexdigest(),
            self._size,
            start=self._header(),
        )

    def _header(self) -> bytes:
        """Give the start up to the pixels; what only looks like them is read from the store."""
        at = self._start.find(_PIXEL_DATA)
        return bytes(self._start if at < 0 else self._start[: at + _HEAD_BYTES])

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep what goes wrong inside for the answer."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the DIMSE edge
            self.fail(error)
