"""Commands as JSON rows, and their documents as files beside the rows.

The bytes of a document are never in the row: the row carries the file's storage key and SHA-256,
and the file is written before the row commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime
from typing import BinaryIO, Protocol, cast, get_args, get_type_hints

from node.errors import InvalidInput, NotFound
from pms_writeback.pms import Command, ImageType, UploadDocument

Json = Mapping[str, object]


class StoredDocument(Protocol):
    """Where a document was put."""

    @property
    def storage_key(self) -> str:
        """The key that opens it again."""

    @property
    def sha256(self) -> str:
        """The digest of its bytes, hex."""


class DocumentStore(Protocol):
    """What the outbox needs of a store of files, such as the image store."""

    def put(self, location_id: str, name: str, write: Callable[[BinaryIO], None]) -> StoredDocument:
        """Store durably what `write` writes; raises Retryable when there is no room."""

    def open(self, storage_key: str) -> BinaryIO:
        """Open a stored file; raises NotFound."""


def command_to_json(
    command: Command, store: DocumentStore, location_id: str, key: str
) -> dict[str, object]:
    """Encode a command; the content of a document is put into the store first.

    The file's name follows from `location_id` and `key`: doing it again replaces the same file.
    """
    if isinstance(command, UploadDocument):
        return _document_to_json(command, store, location_id, key)
    return {each.name: _plain(getattr(command, each.name)) for each in fields(command)}


def command_from_json(kind: str, data: Json, store: DocumentStore) -> Command:
    """Decode a command, its document read back and its digest checked.

    Raises InvalidInput when the row or the file is not what was queued.
    """
    if kind == UploadDocument.__name__:
        return _read_command(kind, lambda: _document_from_json(data, store))
    made = _KINDS.get(kind)
    if made is None:
        raise InvalidInput(f"no such command: {kind[:32]!r}")
    hints = get_type_hints(made)
    return _read_command(
        kind,
        # A row from before a field was added leaves it at its default.
        lambda: made(
            **{name: _value(hint, data[name]) for name, hint in hints.items() if name in data}
        ),
    )


#: Kinds by name; each is made from its own fields, which check themselves.
_KINDS: dict[str, Callable[..., Command]] = {each.__name__: each for each in get_args(Command)}


def _read_command(kind: str, make: Callable[[], Command]) -> Command:
    try:
        return make()
    except (KeyError, ValueError, TypeError):
        raise InvalidInput(f"the queued {kind} cannot be read") from None


def _plain(value: object) -> object:
    """Encode one field: moments and days as ISO texts, tuples as lists."""
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _value(hint: object, value: object) -> object:
    """Decode one field by its declared type."""
    if value is None:
        return None
    if hint is datetime or datetime in get_args(hint):
        return datetime.fromisoformat(str(value))
    if hint is date:
        return date.fromisoformat(str(value))
    if hint is int:
        return int(str(value))
    if isinstance(value, list):
        return tuple(str(each) for each in value)
    return str(value)


def _document_to_json(
    command: UploadDocument, store: DocumentStore, location_id: str, key: str
) -> dict[str, object]:
    digest = hashlib.sha256(f"{location_id} {key}".encode()).hexdigest()
    name = digest[:32] + command.extension
    stored = store.put(location_id, name, lambda file: _write(file, command.content))
    return {
        "patient_key": command.patient_key,
        "filename": command.filename,
        "extension": command.extension,
        "storage_key": stored.storage_key,
        "sha256": stored.sha256,
        "description": command.description,
        "category": command.category,
        "image_type": command.image_type,
        "tooth_numbers": list(command.tooth_numbers),
        "created": command.created.isoformat(),
        "ref": command.ref,
    }


def _document_from_json(data: Json, store: DocumentStore) -> UploadDocument:
    return UploadDocument(
        patient_key=str(data["patient_key"]),
        filename=str(data["filename"]),
        extension=str(data["extension"]),
        content=_read(store, str(data["storage_key"]), str(data["sha256"])),
        description=str(data["description"]),
        category=str(data["category"]),
        image_type=cast(ImageType, str(data["image_type"])),
        tooth_numbers=tuple(str(tooth) for tooth in cast(Sequence[object], data["tooth_numbers"])),
        created=datetime.fromisoformat(str(data["created"])),
        ref=str(data["ref"]),
    )


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _read(store: DocumentStore, storage_key: str, sha256: str) -> bytes:
    try:
        with store.open(storage_key) as file:
            content = file.read()
    except NotFound:
        raise InvalidInput("the document to be filed is no longer in the store") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InvalidInput("the document to be filed was changed after it was queued")
    return content
