"""A stored object that may lie elsewhere: brought to this disk when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from node.dicom.sealed_file import SealedFile
from node.errors import Retryable

_TRIES = 3


@dataclass(frozen=True, slots=True)
class DistantFile:
    """An object by its storage key.

    `bring` gives its file on this disk and raises FileNotFoundError when there is none anywhere;
    `is_known` says whether there is one, without fetching it.
    """

    storage_key: str
    bring: Callable[[], SealedFile] = field(repr=False, compare=False)
    is_known: Callable[[], bool] = field(repr=False, compare=False)

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Open for reading; raises as :meth:`SealedFile.open`, and Retryable as `bring`."""
        for _ in range(_TRIES):
            here = self.bring()
            try:
                return here.open(mode)
            except FileNotFoundError:  # it made room between the two
                continue
        raise Retryable("the image store has no room to keep an object that is read")

    def read_bytes(self) -> bytes:
        """Read all of it. Raises as :meth:`open`."""
        with self.open("rb") as file:
            return file.read()

    def is_file(self) -> bool:
        """Whether it is here or elsewhere."""
        return self.is_known()

    def exists(self) -> bool:
        """Whether it is here or elsewhere."""
        return self.is_known()
