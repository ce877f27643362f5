"""Signed calls back: who sent them, and when. One scheme for every partner that we agree one with.

``X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timedelta

from node.errors import Forbidden

#: A call back signed longer ago is refused, so that a recorded one cannot be played again.
TOLERANCE = timedelta(minutes=10)


def sign(secret: str, body: bytes, at: datetime) -> str:
    """Make the signature header of a call back."""
    stamp = str(int(at.timestamp()))
    return f"t={stamp},v1={_digest(secret, stamp, body)}"


def verify(secret: str, body: bytes, header: str, now: datetime) -> None:
    """Refuse a call back that the partner did not sign, or signed long ago. Raises Forbidden."""
    found = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", header.strip())
    if not secret or found is None:
        raise Forbidden("the call back is not signed")
    if not hmac.compare_digest(found[2], _digest(secret, found[1], body)):
        raise Forbidden("the call back's signature is wrong")
    if abs(now.timestamp() - int(found[1])) > TOLERANCE.total_seconds():
        raise Forbidden("the call back was signed too long ago")


def _digest(secret: str, stamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
