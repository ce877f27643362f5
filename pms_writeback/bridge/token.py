"""The enrolment token: a secret for one use, and the digest by which the node is known."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from node.errors import InvalidInput

_PREFIX = "BWE1"


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What a person carries from the node to the clinic's machine, as one word."""

    secret: str = field(repr=False)
    authority_sha256: bytes

    def __str__(self) -> str:
        digest = base64.urlsafe_b64encode(self.authority_sha256).decode().rstrip("=")
        return f"{_PREFIX}.{self.secret}.{digest}"

    @classmethod
    def parse(cls, words: str) -> EnrolmentToken:
        """Read it; raises InvalidInput, without the token's text."""
        parts = words.strip().split(".")
        try:
            prefix, secret, digest = parts
            sha256 = base64.b64decode(digest + "=" * (-len(digest) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise InvalidInput("not an enrolment token (BWE1.….…)") from None
        if prefix != _PREFIX or not secret or len(sha256) != 32:
            raise InvalidInput("not an enrolment token (BWE1.….…)")
        return cls(secret, sha256)
