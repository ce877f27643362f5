"""Passwords and PINs as Argon2 hashes, a few at a time."""

from __future__ import annotations

import functools
import secrets
import threading
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from node.errors import InvalidInput

MIN_PASSWORD = 8
_COMMON = Path(__file__).parent / "common_passwords.txt"
_HASHER = PasswordHasher()
#: Each hash takes 64 MB of memory: a flood of sign-ins must not take it all.
_HASHING = threading.BoundedSemaphore(4)
#: Checked when a name is unknown, so that the answer takes as long as for a known one.
NOBODY = _HASHER.hash(secrets.token_hex(16))


def check_password(password: str, username: str) -> None:
    """Raise InvalidInput for a new password that is short, common or the person's own name."""
    if len(password) < MIN_PASSWORD:
        raise InvalidInput(f"A password has at least {MIN_PASSWORD} characters.")
    plain = password.lower()
    if plain in _common() or len(set(plain)) < 4 or (len(username) > 3 and plain == username * 2):
        raise InvalidInput("That password is one of the first that are tried. Take another.")
    if plain.strip("0123456789!?.") == username:
        raise InvalidInput("A password must not be the user name.")


@functools.cache
def _common() -> frozenset[str]:
    """Read what attackers try first: the heads of public lists, and what dental offices take."""
    return frozenset(_COMMON.read_text(encoding="utf-8").split())


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
