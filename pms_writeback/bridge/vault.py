"""The bridge's folder: sealed values (AES-256-GCM), private files, one process at a time."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.errors import ConfigError
from node.private_file import write_private

_NONCE_BYTES = 12


class Vault:
    """Seals values under the key in a file, made (mode 0600) when it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        key = _read_key(path)
        self._cipher = AESGCM(key)
        self._digest_key = hashlib.sha256(b"digest" + key).digest()

    def digest(self, value: bytes) -> bytes:
        """Digest a value so that only who holds the key can try guesses."""
        return hmac.digest(self._digest_key, value, "sha256")

    def seal(self, value: Mapping[str, object], about: str) -> bytes:
        """Seal a JSON object; `about` must be the same to open it."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = json.dumps(dict(value), separators=(",", ":")).encode()
        return nonce + self._cipher.encrypt(nonce, plain, about.encode())

    def open(self, sealed: bytes, about: str) -> Mapping[str, object]:
        """Open what was sealed; raises ConfigError when it was made under another key."""
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher.decrypt(nonce, body, about.encode())
        except InvalidTag:
            raise ConfigError(
                f"{self._path} is not the key of this bridge's files; restore it, or move the"
                " folder's database away and start afresh"
            ) from None
        return cast(Mapping[str, object], json.loads(plain))


def lock_folder(folder: Path) -> Callable[[], None]:
    """Hold a folder for this process alone; gives what lets it go again.

    Raises ConfigError when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "bridge.lock").open("a+")
    try:
        _lock(file)
    except OSError:
        file.close()
        raise ConfigError(f"another bridge already runs in the folder {folder}") from None
    return file.close


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read_key(path: Path) -> bytes:
    if not path.exists():
        write_private(path, AESGCM.generate_key(256))
    key = path.read_bytes()
    if len(key) != 32:
        raise ConfigError(f"{path} is not a 32-byte key; restore it from the backup")
    return key
