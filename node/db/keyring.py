"""The keys of one location, opened: sealing and opening of values, and keyed look-ups.

A data key is never used itself: what seals a column, an object or a look-up is derived from it
(HKDF-SHA-256), so that no two uses can meet. Source: NIST SP 800-38D (GCM), RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from node.errors import ConfigError, InvalidInput

KEY_BYTES = 32
NONCE_BYTES = 12
#: How a sealed text begins; a plain one that begins so is kept behind `_PLAIN`.
MARK = "bw1:"
_PLAIN = "bw1:plain:"
_ID_CHARS = 16


class Purpose(StrEnum):
    """What a data key is for; ``data`` keys are rotated while the node runs, others while not."""

    DATA = "data"  # columns and objects
    LOOKUP = "lookup"  # columns that are looked up: the same value gives the same text


@dataclass(frozen=True, slots=True)
class DataKey:
    """An opened key: its id (16 hex digits, stands before what it sealed), use and 32 bytes."""

    key_id: str
    purpose: Purpose
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES or len(self.key_id) != _ID_CHARS:
            raise InvalidInput("not a data key")

    def derive(self, use: str, salt: bytes | None = None) -> bytes:
        """Derive the 32-byte key of one use."""
        kdf = HKDF(hashes.SHA256(), KEY_BYTES, salt, f"bitewing {use}".encode())
        return kdf.derive(self.secret)

    @property
    def proof(self) -> str:
        """A value that only this key gives: shows that it was unwrapped rightly (32 hex digits)."""
        return hmac.new(self.derive("proof"), b"known value", hashlib.sha256).hexdigest()[:32]


def new_key(purpose: Purpose) -> DataKey:
    """Make a key from the system's randomness."""
    return DataKey(os.urandom(_ID_CHARS // 2).hex(), purpose, os.urandom(KEY_BYTES))


class KeyRing:
    """All keys of one location; new values are sealed with the first key of each purpose.

    `reload` gives the keys anew, for those that another process has made since.

    `about` names the column: it and the location are authenticated, so that a sealed text opens
    nowhere else. With `is_strict` what is not sealed is an error, not old data.
    """

    def __init__(
        self,
        location_id: str,
        keys: Iterable[DataKey],
        is_strict: bool = False,
        reload: Callable[[], Iterable[DataKey]] | None = None,
    ) -> None:
        self.location_id = location_id
        self.is_strict = is_strict
        self._reload = reload
        self._take(keys)

    def lenient(self) -> KeyRing:
        """Return a ring of the same keys that also reads what is not sealed."""
        return KeyRing(self.location_id, self._keys.values(), False, self._reload)

    def with_key(self, key: DataKey) -> KeyRing:
        """Return a ring that seals with `key` what it is for, and opens all that this one does."""
        return KeyRing(self.location_id, [key, *self._keys.values()], self.is_strict)

    def refresh(self) -> None:
        """Look for keys that were made since; new values are sealed with the newest."""
        if self._reload is not None:
            self._take(self._reload())

    def _take(self, keys: Iterable[DataKey]) -> None:
        known = {key.key_id: key for key in keys}
        current = {key.purpose: key for key in reversed(known.values())}
        missing = [purpose for purpose in Purpose if purpose not in current]
        if missing:
            raise ConfigError(f"the key ring has no key for {', '.join(missing)}")
        self._columns = {key.key_id: AESGCM(key.derive("column")) for key in known.values()}
        self._lookup_mac = current[Purpose.LOOKUP].derive("look-up")
        self._keys, self._current = known, current

    def current(self, purpose: Purpose) -> DataKey:
        """Give the key that new things of this purpose are sealed with."""
        return self._current[purpose]

    def key(self, key_id: str) -> DataKey:
        """Find a key; raises ConfigError when this ring has none of that id."""
        found = self._keys.get(key_id)
        if found is None:
            self.refresh()  # another process may have made it a moment ago
            found = self._keys.get(key_id)
        if found is None:
            raise ConfigError(f"data is sealed with the key {key_id[:16]}, which is not here")
        return found

    def seal(self, value: str, about: str) -> str:
        """Seal a text; the same again gives another one."""
        return self._seal(Purpose.DATA, os.urandom(NONCE_BYTES), value, about)

    def seal_for_lookup(self, value: str, about: str) -> str:
        """Seal a text so that the same value, about the same, gives the same: equality shows.

        The nonce is a keyed hash of the value (HMAC-SHA-256, 96 bits of it), so that it is used
        for no other.
        """
        text = self._about(about) + b"\0" + value.encode()
        nonce = hmac.digest(self._lookup_mac, text, "sha256")[:NONCE_BYTES]
        return self._seal(Purpose.LOOKUP, nonce, value, about)

    def open(self, text: str, about: str) -> str:
        """Open what was sealed; give old plain text as it is, unless the ring is strict.

        Raises InvalidInput for a text that was changed or moved, ConfigError for an unknown key.
        """
        if not text.startswith(MARK):
            if self.is_strict:
                raise InvalidInput(f"{about} holds text that is not sealed")
            return text
        if text.startswith(_PLAIN) and not self.is_strict:
            return text[len(_PLAIN) :]
        key_id, _, sealed = text[len(MARK) :].partition(":")
        if key_id not in self._columns:
            self.key(key_id)  # may find it with another look
        cipher = self._columns[key_id]
        try:
            raw = base64.b64decode(sealed, validate=True)
            plain = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], self._about(about))
        except (InvalidTag, ValueError):
            raise InvalidInput(f"a sealed value of {about} was changed or moved") from None
        return plain.decode()

    def is_current(self, text: str) -> bool:
        """Whether a stored text is sealed with a key that new ones are sealed with."""
        key_id = key_id_of(text)
        return any(key.key_id == key_id for key in self._current.values())

    def _seal(self, purpose: Purpose, nonce: bytes, value: str, about: str) -> str:
        key_id = self._current[purpose].key_id
        sealed = self._columns[key_id].encrypt(nonce, value.encode(), self._about(about))
        return f"{MARK}{key_id}:{base64.b64encode(nonce + sealed).decode('ascii')}"

    def _about(self, about: str) -> bytes:
        return f"{self.location_id}|{about}".encode()


def key_id_of(text: str) -> str:
    """Give the id of the key that sealed a stored text; "" for a plain one."""
    if not text.startswith(MARK) or text.startswith(_PLAIN):
        return ""
    return text[len(MARK) :].partition(":")[0]


def as_plain(value: str) -> str:
    """Write a text where there is no key ring, so that it can never pass for a sealed one."""
    return _PLAIN + value if value.startswith(MARK) else value


def read_plain(text: str, about: str) -> str:
    """Read a text where there is no key ring. Raises ConfigError when it is sealed."""
    if not text.startswith(MARK):
        return text
    if text.startswith(_PLAIN):
        return text[len(_PLAIN) :]
    raise ConfigError(f"{about} is sealed, and this program was given no keys")
