"""A sealed object in the store: frames of AES-256-GCM, written and read piece by piece.

Layout: 64 bytes of head (magic, key id, size of a frame, salt), then frames of 256 KiB and their
16-byte tags. Each file has a key of its own, derived from the data key, the salt and the object's
storage key, so that a file put under another name does not open. The nonce is the frame's number
and whether it is the last one (the STREAM construction; Hoang, Reyhanitabar, Rogaway and Vizár,
CRYPTO 2015), so that frames can be neither swapped nor cut off unnoticed.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.db.keyring import DataKey, KeyRing
from node.dicom.incoming import Writable
from node.errors import InvalidInput

MAGIC = b"\x93BWSEAL1"
FRAME_BYTES = 256 * 1024
HEAD_BYTES = 64
_TAG_BYTES = 16
_SALT_BYTES = 32
#: 8 MiB: a film of a sensor; what is larger is read through once.
_MOST_FRAMES = 32
_STEP = FRAME_BYTES + _TAG_BYTES
#: So many frames go to the disk at once: a gulp from the network (1 MiB) is one system call.
_FRAMES_A_WRITE = 4
_HEAD = struct.Struct(">8s8sL32s12x")


class Scratch:
    """What sealing needs of memory, to be used again: a frame as it fills, and frames sealed."""

    def __init__(self) -> None:
        self.frame = memoryview(bytearray(FRAME_BYTES))
        self.sealed = memoryview(bytearray(HEAD_BYTES + _FRAMES_A_WRITE * _STEP))


class Sealer:
    """Seals what is written and passes it on; :meth:`finish` writes the last frame.

    `scratch` is in use until then.
    """

    def __init__(self, file: Writable, storage_key: str, key: DataKey, scratch: Scratch) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._file = file
        self._head = _HEAD.pack(MAGIC, bytes.fromhex(key.key_id), FRAME_BYTES, salt)
        self._cipher = AESGCM(key.derive(f"object {storage_key}", salt))
        self._frame, self._sealed = scratch.frame, scratch.sealed
        self._sealed[:HEAD_BYTES] = self._head
        self._filled, self._ready = 0, HEAD_BYTES
        self._frames = 0

    def write_all(self, pieces: Sequence[memoryview]) -> int:
        """Take the next bytes; whole frames go on at once, except the one that may be the last."""
        size = 0
        for piece in pieces:
            rest = piece.cast("B")
            size += rest.nbytes
            while rest.nbytes:
                if self._filled == FRAME_BYTES:
                    self._seal(self._frame, is_last=False)
                    self._filled = 0
                while not self._filled and rest.nbytes > FRAME_BYTES:
                    self._seal(rest[:FRAME_BYTES], is_last=False)
                    rest = rest[FRAME_BYTES:]
                taken = rest[: FRAME_BYTES - self._filled]
                self._frame[self._filled : self._filled + taken.nbytes] = taken
                self._filled += taken.nbytes
                rest = rest[taken.nbytes :]
        if self._frames:
            self._pass_on()
        return size

    def finish(self) -> None:
        """Write the last frame; a file without it does not open."""
        self._seal(self._frame[: self._filled], is_last=True)
        self._pass_on()

    def _seal(self, frame: memoryview, is_last: bool) -> None:
        end = self._ready + frame.nbytes + _TAG_BYTES
        if end > self._sealed.nbytes:
            self._pass_on()
            end = frame.nbytes + _TAG_BYTES
        nonce, into = _nonce(self._frames, is_last), self._sealed[self._ready : end]
        self._cipher.encrypt_into(nonce, frame, self._head, into)
        self._ready = end
        self._frames += 1

    def _pass_on(self) -> None:
        if self._ready:
            self._file.write(self._sealed[: self._ready])
            self._ready = 0


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A stored object under a key ring; old plain files are read as they are.

    `file_key` is the key of this file alone, for a process that is not given the ring.
    """

    path: Path
    storage_key: str
    ring: KeyRing | None = field(default=None, repr=False, compare=False)
    file_key: bytes = field(default=b"", repr=False, compare=False)

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Open for reading, at any place.

        Raises InvalidInput when the file was changed, cut off or is another object's;
        ConfigError when its key is not here; FileNotFoundError when it is missing.
        """
        file = self.path.open(mode)
        try:
            head = file.read(HEAD_BYTES)
            if head[: len(MAGIC)] == MAGIC:
                raw = _Opened(file, head, self._key_for(head))
                return io.BufferedReader(raw, FRAME_BYTES)
            if self.ring is not None and self.ring.is_strict:
                raise InvalidInput("a stored object is not sealed")
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def read_bytes(self) -> bytes:
        """Read all of it. Raises as :meth:`open`."""
        with self.open("rb") as file:
            return file.read()

    def key_of_file(self) -> bytes:
        """Derive the key of this file alone; empty for a plain one. Raises as :meth:`open`."""
        with self.open("rb"), self.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        return self._key_for(head) if head[: len(MAGIC)] == MAGIC else b""

    def key_id(self) -> str:
        """Say which data key sealed the file; "" for a plain one."""
        with self.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        return head[8:16].hex() if head[: len(MAGIC)] == MAGIC else ""

    def is_file(self) -> bool:
        """Whether it is there."""
        return self.path.is_file()

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.exists()

    def _key_for(self, head: bytes) -> bytes:
        if self.file_key:
            return self.file_key
        if len(head) != HEAD_BYTES or self.ring is None:
            raise InvalidInput("a stored object is cut off")
        _, key_id, _, salt = _HEAD.unpack(head)
        return self.ring.key(key_id.hex()).derive(f"object {self.storage_key}", salt)


class _Opened(io.RawIOBase):
    """The plain bytes of a sealed file; a few frames are kept: a film is read more than once.

    The last frame is opened first: a file that was cut off or lengthened never opens.
    """

    name = ""  # pydicom asks every file for one

    def __init__(self, file: BinaryIO, head: bytes, key: bytes) -> None:
        if len(head) != HEAD_BYTES:
            raise InvalidInput("a stored object is cut off")
        self._file, self._head, self._cipher = file, head, AESGCM(key)
        self._frame_bytes = int(_HEAD.unpack(head)[2])
        sealed = file.seek(0, os.SEEK_END) - HEAD_BYTES
        step = self._frame_bytes + _TAG_BYTES
        if self._frame_bytes != FRAME_BYTES or sealed < _TAG_BYTES:
            raise InvalidInput("a stored object is cut off or was changed")
        self._last = (sealed - 1) // step
        self._frames: dict[int, bytes] = {}
        last = self._load(self._last)
        self._size = self._last * self._frame_bytes + len(last)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the first byte")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        into = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        number, offset = divmod(self._position, self._frame_bytes)
        if self._position >= self._size or not into.nbytes:
            return 0
        part = memoryview(self._load(number))[offset : offset + into.nbytes]
        into[: part.nbytes] = part
        self._position += part.nbytes
        return part.nbytes

    def close(self) -> None:
        self._file.close()
        super().close()

    def _load(self, number: int) -> bytes:
        frame = self._frames.get(number)
        if frame is None:
            self._file.seek(HEAD_BYTES + number * (self._frame_bytes + _TAG_BYTES))
            sealed = self._file.read(self._frame_bytes + _TAG_BYTES)
            try:
                frame = self._cipher.decrypt(
                    _nonce(number, number == self._last), sealed, self._head
                )
            except (InvalidTag, ValueError):
                raise InvalidInput("a stored object is cut off or was changed") from None
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            self._frames[number] = frame
        return frame


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((is_last,))
