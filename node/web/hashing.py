"""Passwords and PINs as Argon2 hashes, a few at a time."""

from __future__ import annotations

import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

_HASHER = PasswordHasher()
#: Each hash takes 64 MB of memory: a flood of sign-ins must not take it all.
_HASHING = threading.BoundedSemaphore(4)
#: Checked when a name is unknown, so that the answer takes as long as for a known one.
NOBODY = _HASHER.hash(secrets.token_hex(16))


def hashed(secret: str) -> str:
    """Hash a password or a PIN for keeping."""
    return _HASHER.hash(secret)


def fits(kept: str, secret: str) -> bool:
    """Whether `secret` is what was hashed; always false for an empty `kept`, as slowly."""
    with _HASHING:
        try:
            return _HASHER.verify(kept or NOBODY, secret) and bool(kept)
        except VerificationError:
            return False
