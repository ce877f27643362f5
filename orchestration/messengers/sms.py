"""Text messages through a provider's REST service, and its signed calls back to us.

The wire is the common form: ``POST /messages`` with to, from, body and a status callback, under an
``Idempotency-Key``; ``GET /messages?idempotency_key=`` finds what an earlier attempt sent. The
provider calls back with ``message.status`` and ``message.received`` events (docs/messengers.md),
signed ``X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import ConfigError, InvalidInput
from orchestration.messengers.message import (
    Channel,
    Message,
    OutcomeUnknown,
    Receipt,
    RecipientRefused,
    mobile_number,
)
from orchestration.messengers.wire import Service, fields_of

_MAX_TEXT = 1_600  # ten segments, where providers cut off


class SmsState(StrEnum):
    """What the provider says became of a message."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """One account at one provider, which calls back to `callback_url`."""

    url: str
    key: str = field(repr=False)
    sender: str
    callback_url: str = ""
    hosts: Collection[str] = ()
    timeout_s: float = 20.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        check_destination(self.url, "messengers.sms_url", self.hosts)
        if not self.key or not self.key.isascii() or not self.key.isprintable():
            raise ConfigError("messengers.sms_key is empty or no key")
        if mobile_number(self.sender) is None:
            raise ConfigError("messengers.sms_from must be a telephone number like +12125550100")


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """The provider tells what became of a message; ``event_id`` is the same when told again."""

    event_id: str
    provider_id: str
    state: SmsState
    is_opt_out: bool


@dataclass(frozen=True, slots=True)
class ReplyEvent:
    """Somebody answered; ``sender`` is E.164."""

    event_id: str
    sender: str = field(repr=False)
    text: str = field(repr=False)


class SmsMessenger:
    """Sends text messages from one number."""

    channel = Channel.SMS

    def __init__(self, settings: SmsSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.key}"}
        self._service = Service("text message service", headers, settings.timeout_s, settings.reach)
        self._url = settings.url.rstrip("/") + "/messages"

    def close(self) -> None:
        """Close the pooled connections."""
        self._service.close()

    def send(self, message: Message, key: str) -> Receipt:
        """Send one text message; the provider knows `key` again.

        Raises
        ------
        RecipientRefused
            The number opted out at the provider, or is no mobile number.
        """
        number = mobile_number(message.to)
        if number is None:
            raise InvalidInput("the message has no telephone number")
        if len(message.text) > _MAX_TEXT:
            raise InvalidInput(f"a text message has at most {_MAX_TEXT} characters")
        body = {"to": number, "from": self._settings.sender, "body": message.text}
        if self._settings.callback_url:
            body["status_callback"] = self._settings.callback_url
        answer = self._service.post(self._url, body, {"Idempotency-Key": key})
        fields = fields_of(answer)
        if answer.status_code in (200, 201, 202):
            provider_id = fields.get("id")
            if not isinstance(provider_id, str) or not provider_id:
                raise OutcomeUnknown("the text message service's answer cannot be read")
            return Receipt(self.channel, provider_id, answer.status_code == 200)
        if fields.get("code") in ("opted_out", "invalid_number"):
            is_opt_out = fields["code"] == "opted_out"
            raise RecipientRefused("the number takes no text messages", is_opt_out=is_opt_out)
        raise self._service.failure(answer)

    def find(self, key: str) -> Receipt | None:
        """Ask the provider for the message under `key`."""
        answer = self._service.get(self._url, {"idempotency_key": key})
        if answer.status_code != 200:
            raise self._service.failure(answer)
        rows = fields_of(answer).get("messages")
        if not isinstance(rows, list):
            raise OutcomeUnknown("the text message service's answer cannot be read")
        found = [row["id"] for row in rows if isinstance(row, dict) and row.get("id")]
        return Receipt(self.channel, str(found[0]), True) if found else None


def read_event(body: bytes) -> StatusEvent | ReplyEvent | None:
    """Read a verified call back; None for an event of another kind. Raises InvalidInput."""
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the call back is not JSON") from None
    if not isinstance(fields, dict):
        raise InvalidInput("the call back is not an object")
    match fields.get("type"):
        case "message.status":
            state = _text(fields, "status")
            if state not in list(SmsState):
                return None
            return StatusEvent(
                _text(fields, "event_id"),
                _text(fields, "id"),
                SmsState(state),
                fields.get("code") == "opted_out",
            )
        case "message.received":
            sender = mobile_number(_text(fields, "from"))
            if sender is None:
                raise InvalidInput("the call back names no telephone number")
            return ReplyEvent(_text(fields, "event_id"), sender, _text(fields, "body", 1_600))
        case _:
            return None


def _text(fields: Mapping[str, object], name: str, longest: int = 128) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or (not value and name != "body"):
        raise InvalidInput(f"the call back lacks {name}")
    if len(value) > longest and name != "body":
        raise InvalidInput(f"the call back's {name} is too long")
    return value[:longest]
