"""A message to the team's chat room by its incoming webhook: JSON ``{"text": …}``.

The webhook's address is the whole secret. It knows no keys and cannot be asked: a lost answer
stays unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import Unsupported
from orchestration.messengers.message import Channel, Message, Receipt
from orchestration.messengers.wire import Service


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """One room's incoming webhook."""

    url: str = field(repr=False)
    hosts: Collection[str] = ()
    timeout_s: float = 20.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        check_destination(self.url, "messengers.chat_url", self.hosts)


class ChatMessenger:
    """Posts into one room."""

    channel = Channel.CHAT

    def __init__(self, settings: ChatSettings) -> None:
        self._url = settings.url
        self._service = Service("chat", {}, settings.timeout_s, settings.reach)

    def close(self) -> None:
        """Close the pooled connections."""
        self._service.close()

    def send(self, message: Message, key: str) -> Receipt:
        """Post one message; `key` is the only id there is."""
        lines = [message.subject, message.text] if message.subject else [message.text]
        answer = self._service.post(self._url, {"text": "\n".join(lines)}, {})
        if not answer.is_success:
            raise self._service.failure(answer)
        return Receipt(self.channel, key)

    def find(self, key: str) -> Receipt | None:
        """Refuse: a chat's webhook can only be written to."""
        raise Unsupported("a chat message cannot be looked for; whether it is there stays unknown")
