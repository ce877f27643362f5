"""Signed links in messages: a one-time link to an approval, and the link that ends messages.

A token says its purpose, what it is bound to, for whom, and until when, under an HMAC by a key
derived from the engine key; it names nobody. Looking at one uses nothing up, as mail programs look
at links by themselves; `redeem` does, once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import sqlalchemy as sa

from node.db.session import Tx, insert_once
from node.db.tables import link_use
from node.errors import Conflict, Forbidden, InvalidInput

_FIELD = re.compile(r"[A-Za-z0-9_-]{0,64}")


class Purpose(StrEnum):
    """What a link is good for."""

    APPROVE = "approve"
    STOP = "stop"
    PACKAGE = "package"  # a laboratory fetches what it was mailed about


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says: bound to `subject` (an approval's id), held by `holder` (a user's id)."""

    purpose: Purpose
    subject: str
    holder: str
    expires_at: datetime

    def __post_init__(self) -> None:
        if not self.subject or not all(map(_FIELD.fullmatch, (self.subject, self.holder))):
            raise InvalidInput("a link is bound to an opaque id")
        if self.expires_at.tzinfo is None:
            raise InvalidInput("a link's end has a time zone")


class LinkKey:
    """Makes and verifies tokens of one location."""

    def __init__(self, engine_key: bytes, location_id: str) -> None:
        words = f"bitewing message links {location_id}".encode()
        self._key = hmac.new(engine_key, words, hashlib.sha256).digest()

    def make(self, link: Link) -> str:
        """Make the token of a link; the same link makes the same token."""
        until = int(link.expires_at.timestamp())
        said = f"{link.purpose.value}.{link.subject}.{link.holder}.{until}"
        return f"{_encode(said.encode())}.{_encode(self._sign(said))}"

    def look(self, token: str, purpose: Purpose, now: datetime) -> Link:
        """Read a token without using it up. Raises Forbidden when it is not good (any more)."""
        said = self._verified(token)
        word, subject, holder, until = said.split(".")
        if word != purpose.value:
            raise Forbidden("this link is for something else")
        expires_at = datetime.fromtimestamp(int(until), UTC)
        if now >= expires_at:
            raise Forbidden("this link has expired")
        return Link(purpose, subject, holder, expires_at)

    def redeem(self, tx: Tx, token: str, purpose: Purpose) -> Link:
        """Use a token up within the caller's transaction.

        Raises
        ------
        Conflict
            It was used before.
        Forbidden
            It is not good (any more).
        """
        link = self.look(token, purpose, tx.now)
        row = {
            "digest": hashlib.sha256(token.encode()).hexdigest(),
            "location_id": tx.location_id,
            "purpose": purpose.value,
            "subject": link.subject,
            "used_at": tx.now,
        }
        if not insert_once(tx.conn, link_use, row):
            raise Conflict("this link was used before")
        return link

    def _verified(self, token: str) -> str:
        found = re.fullmatch(r"([A-Za-z0-9_-]{8,400})\.([A-Za-z0-9_-]{43})", token)
        if found is None:
            raise Forbidden("this link is not one of ours")
        try:
            said = _decode(found[1]).decode("ascii")
            signature = _decode(found[2])
        except (binascii.Error, UnicodeDecodeError):
            raise Forbidden("this link is not one of ours") from None
        # one text has one token: trailing bits of Base64 are not a second spelling of a used link
        if _encode(said.encode()) != found[1] or _encode(signature) != found[2]:
            raise Forbidden("this link is not one of ours")
        if not hmac.compare_digest(signature, self._sign(said)):
            raise Forbidden("this link is not one of ours")
        return said

    def _sign(self, said: str) -> bytes:
        return hmac.new(self._key, said.encode(), hashlib.sha256).digest()


def was_used(conn: sa.Connection, token: str) -> bool:
    """Tell whether a token was redeemed, for the page that shows what it would do."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    query = sa.select(link_use.c.digest).where(link_use.c.digest == digest)
    return conn.execute(query).first() is not None


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
