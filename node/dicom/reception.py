"""One object that arrives piece by piece: to the disk as it comes, rows at the end.

The bytes go from the network's buffer into the part file and through SHA-256; they never stand in
memory as a whole. The header is read from the part through the page cache.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from node.db.session import new_id
from node.dicom.arrival import Arrived
from node.dicom.committer import Committer
from node.dicom.header import parse_data_set
from node.dicom.incoming import Incoming, write_part_10
from node.dicom.instances import Part
from node.dicom.place import RECEIVED, Place
from node.dicom.store import log_failure

#: How often the room on the disk is looked at while a large object arrives.
_ROOM_EVERY_BYTES = 64 << 20


class Receiver:
    """Keeps what several associations bring; their rows are committed in groups."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.committer = Committer(place.db, place.actor, RECEIVED)

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str
    ) -> Reception:
        """Begin to receive an object; what is wrong is said by :meth:`Reception.finish`."""
        reception = Reception(self)
        with reception.failing():
            incoming = Incoming(
                memoryview(b""), sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_ae
            )
            reception.open(incoming)
        return reception


class Reception:
    """One object on its way; nothing of it stays unless :meth:`finish` gave Success or a warning.

    A failure does not end the message: the peer sends the rest, and then gets its answer.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._object_id = new_id()
        self._digest = hashlib.sha256()
        self._failure: Exception | None = None
        self._incoming: Incoming | None = None
        self._part: Part | None = None
        self._offset = 0
        self._looked_at = 0

    def open(self, incoming: Incoming) -> None:
        """Make the part and write its file meta information."""
        place = self._receiver.place
        place.store.require_room(0)
        self._incoming = incoming
        self._part = place.store.begin(place.location_id, f"{self._object_id}.dcm")
        write_part_10(self._part, incoming)
        self._offset = self._looked_at = self._part.size_bytes

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set."""
        if self._failure is not None or self._part is None:
            return
        with self.failing():
            self._part.write(data)
            self._digest.update(data)
            if self._part.size_bytes - self._looked_at > _ROOM_EVERY_BYTES:
                self._looked_at = self._part.size_bytes
                self._receiver.place.store.require_room(0)

    def fail(self, error: Exception) -> None:
        """Keep nothing of the object; `error` will be its answer."""
        self._failure = error
        self.discard()

    def finish(self) -> int:
        """Keep the object; return the status of its answer once everything is on the disk."""
        status = 0
        try:
            status = self._keep()
        except Exception as error:  # noqa: BLE001 - the DIMSE edge
            status = log_failure("C-STORE", error).store_status
        finally:
            self.discard()
        return status

    def discard(self) -> None:
        """Leave nothing behind, unless it was kept."""
        if self._part is not None:
            self._part.discard()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Keep what goes wrong inside for the answer."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the DIMSE edge
            self.fail(error)

    def _keep(self) -> int:
        if self._failure is not None:
            raise self._failure
        assert self._part is not None
        assert self._incoming is not None
        incoming, place = self._incoming, self._receiver.place
        data = memoryview(self._part.map())[self._offset :]
        arrived = Arrived(
            self._object_id,
            incoming.sop_class_uid,
            incoming.sop_instance_uid,
            incoming.transfer_syntax_uid,
            incoming.calling_ae,
            parse_data_set(data, incoming.transfer_syntax_uid, place.fallback_charset),
            self._digest.hexdigest(),
            data.nbytes,
        )
        return place.keep(arrived, self._put, self._receiver.committer.run).status

    def _put(self) -> str:
        assert self._part is not None
        self._receiver.place.store.require_room(0)
        self._part.finish()
        return self._part.storage_key
