"""What a messenger takes and gives back: a message, a receipt, and how sending can fail.

Besides the four families: `OutcomeUnknown` says that a message may have gone out and its answer
was lost: look with `Messenger.find` and, where that is `Unsupported`, do not send it again.
`RecipientRefused` says that this address will not take messages (it opted out, or is no address).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from node.errors import InvalidInput, Rejected
from pms_writeback.pms import OutcomeUnknown

__all__ = [
    "Channel",
    "Message",
    "Messenger",
    "OutcomeUnknown",
    "Receipt",
    "RecipientRefused",
    "address_digest",
    "email_address",
    "mobile_number",
]

_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}"
)
_MAX_TEXT = 10_000


class Channel(StrEnum):
    """How somebody is reached; the value is stored."""

    EMAIL = "email"
    SMS = "sms"
    CHAT = "chat"


class RecipientRefused(Rejected):
    """An address that takes no message from us; another address or channel may.

    ``is_opt_out`` says that the person asked the provider for no more messages.
    """

    def __init__(self, message: str, *, is_opt_out: bool = False) -> None:
        super().__init__(message)
        self.is_opt_out = is_opt_out


@dataclass(frozen=True, slots=True)
class Message:
    """One text to one address.

    ``to`` is an e-mail address, a number like +12125550123, our id of the patient for a task, and
    empty for a chat, which has one room. ``stop_url`` is where the recipient ends such messages.
    """

    to: str = field(repr=False)
    text: str = field(repr=False)
    subject: str = field(default="", repr=False)
    stop_url: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > _MAX_TEXT:
            raise InvalidInput(f"a message has between 1 and {_MAX_TEXT} characters")
        if any(not each.isprintable() for each in (self.to, self.subject, self.stop_url)):
            raise InvalidInput("an address or subject holds characters that it cannot have")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the other side said: its own id; ``already_there`` when nothing was sent now."""

    channel: Channel
    provider_id: str
    already_there: bool = False


class Messenger(Protocol):
    """One way to send; calls block and may raise any error above."""

    @property
    def channel(self) -> Channel:
        """What kind of address it sends to."""
        ...

    def send(self, message: Message, key: str) -> Receipt:
        """Send once; the same `key` again is the same message for a provider that can tell."""
        ...

    def find(self, key: str) -> Receipt | None:
        """Look for what an earlier attempt under `key` sent; raises Unsupported where it cannot."""
        ...


def email_address(text: str) -> str | None:
    """Read an e-mail address; None when it is none."""
    plain = text.strip()
    return plain if len(plain) <= 254 and _EMAIL.fullmatch(plain) else None


def mobile_number(text: str) -> str | None:
    """Read a telephone number as E.164; one without a country is North American.

    None when it cannot be dialled: too short, an extension, an impossible area code.
    """
    plain = re.sub(r"[\s().\-/]", "", text)
    if plain.startswith("+"):
        return plain if re.fullmatch(r"\+[1-9]\d{7,14}", plain) else None
    # NANP: area and exchange codes begin with 2 to 9
    found = re.fullmatch(r"1?([2-9]\d{2}[2-9]\d{6})", plain)
    return f"+1{found[1]}" if found else None


def address_digest(address: str) -> str:
    """Name an address in rows that must not show it."""
    return hashlib.sha256(address.strip().casefold().encode()).hexdigest()[:32]
