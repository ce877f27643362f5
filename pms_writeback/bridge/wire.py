"""Commands and receipts on the bridge's wire: the outbox's own encoding, documents inline."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, get_args

from node.errors import InvalidInput, NotFound
from pms_writeback.payload import StoredDocument, command_from_json, command_to_json
from pms_writeback.pms import Command, Receipt

Json = Mapping[str, object]

COMMANDS: tuple[type[Command], ...] = get_args(Command)
"""Every kind of command that there is."""


@dataclass(frozen=True, slots=True)
class _Stored:
    storage_key: str
    sha256: str


@dataclass(slots=True)
class _Inline:
    """A store that holds the one document of a message."""

    content: bytes = b""
    opened: list[str] = field(default_factory=list)

    def put(self, location_id: str, name: str, write: Callable[[BinaryIO], None]) -> StoredDocument:
        """Keep the bytes."""
        file = io.BytesIO()
        write(file)
        self.content = file.getvalue()
        return _Stored("inline", hashlib.sha256(self.content).hexdigest())

    def open(self, storage_key: str) -> BinaryIO:
        """Give the bytes again."""
        if not self.content:
            raise NotFound("the message holds no document")
        return io.BytesIO(self.content)


def command_key(command: Command) -> str:
    """Name a command for ever: its kind and the token of its record."""
    return f"{type(command).__name__}:{command.ref}"


def encode_command(command: Command) -> dict[str, object]:
    """Encode a command and its document."""
    store = _Inline()
    data = command_to_json(command, store, "", "")
    message: dict[str, object] = {"kind": type(command).__name__, "fields": data}
    if store.content:
        message["content"] = base64.b64encode(store.content).decode("ascii")
    return message


def decode_command(message: Json) -> Command:
    """Decode a command; raises InvalidInput when it is not one or its document was damaged."""
    fields = message.get("fields")
    if not isinstance(fields, dict):
        raise InvalidInput("a command without fields")
    try:
        content = base64.b64decode(str(message.get("content", "")), validate=True)
    except binascii.Error:
        raise InvalidInput("a command's document cannot be read") from None
    return command_from_json(str(message.get("kind", "")), fields, _Inline(content))


def fingerprint(command: Command) -> str:
    """Digest what a command says, to notice another one under the same key."""
    digest = hashlib.sha256(type(command).__name__.encode())
    for name, each in sorted(command.__dataclass_fields__.items()):
        value = getattr(command, name)
        if value == each.default:
            continue  # a field that a later version adds changes nothing that was digested before
        digest.update(name.encode() + b"\0")
        digest.update(
            hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).digest()
        )
    return digest.hexdigest()


def receipt_to_json(receipt: Receipt) -> dict[str, object]:
    """Encode a receipt."""
    return {
        "resource": receipt.resource,
        "key": receipt.key,
        "already_there": receipt.already_there,
    }


def receipt_from_json(data: Json) -> Receipt:
    """Decode a receipt; raises InvalidInput."""
    resource, key = data.get("resource"), data.get("key")
    if not isinstance(resource, str) or not isinstance(key, str) or not key:
        raise InvalidInput("the bridge's receipt cannot be read")
    return Receipt(resource, key, data.get("already_there") is True)
