"""What the receiving process tells the node of one object: a line of JSON and its first bytes."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass

from node.errors import BitewingError, InvalidInput, Retryable

#: As much of a data set as is told; the header of a film is a few kilobytes.
START_BYTES = 65_536
#: No report is longer.
MOST_BYTES = START_BYTES + 8_192
_FAMILIES = {family.__name__: family for family in (InvalidInput, Retryable)}


class ReceivingFault(Exception):
    """A fault of the receiving process itself; the text is where, never what was sent."""


@dataclass(frozen=True, slots=True)
class Report:
    """An object that lies in the store, durably and under its name; or why it does not.

    ``start`` is the beginning of the data set, of which ``size_bytes`` are in the store.
    ``failure`` is the name of the error's family, and ``said`` its words.
    """

    object_id: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    storage_key: str = ""
    sha256: str = ""
    size_bytes: int = 0
    failure: str = ""
    said: str = ""
    start: bytes = b""

    def to_bytes(self) -> bytes:
        """Write the report as one message."""
        names = (name for name in self.__slots__ if name != "start")
        return (
            json.dumps({name: getattr(self, name) for name in names}).encode() + b"\n" + self.start
        )

    def require_object(self) -> None:
        """Raise what kept the object from being stored."""
        if self.failure:
            raise _FAMILIES.get(self.failure, ReceivingFault)(self.said)


def read_report(message: bytes) -> Report:
    """Read what :meth:`Report.to_bytes` wrote."""
    head, _, start = message.partition(b"\n")
    return Report(**json.loads(head), start=start)


def failed(object_id: str, error: Exception) -> Report:
    """Report an object that was not stored."""
    if isinstance(error, BitewingError):
        return Report(object_id, failure=type(error).__name__, said=str(error))
    where = "".join(traceback.format_tb(error.__traceback__)[-2:])
    return Report(object_id, failure="fault", said=f"{type(error).__name__}\n{where}")
