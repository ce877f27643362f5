"""Column types that are sealed in the database and plain in the program.

The key ring stands on the engine's dialect (:func:`give_keys`); where there is none, values are
written and read plain, as releases up to 0.1 wrote all of them. Empty texts stay empty.
"""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from collections.abc import Iterator
from datetime import date
from typing import Generic, TypeVar, cast

import sqlalchemy as sa

from node.db.keyring import KeyRing, as_plain, read_plain

T = TypeVar("T")

_RING = "bitewing_keys"


class _AsStored:
    """In place of a key ring: values pass as they lie in the database."""


def give_keys(db: sa.Engine, ring: KeyRing | None) -> None:
    """Let every connection of `db` seal and open with `ring`; None takes the keys away."""
    setattr(db.dialect, _RING, ring)


def pass_as_stored(db: sa.Engine) -> None:
    """Let sealed values of `db` be read and written as they are, for copying rows."""
    setattr(db.dialect, _RING, _AsStored())


def keys_of(db: sa.Engine | sa.Connection) -> KeyRing | None:
    """Return the key ring that a database was given."""
    ring = getattr(db.dialect, _RING, None)
    return ring if isinstance(ring, KeyRing) else None


class Sealed(sa.types.TypeDecorator[T], Generic[T]):
    """A column whose values are sealed; `about` is ``table.column`` (or a name several share).

    A column `for_lookup` may be compared for equality: the same value gives the same text.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, about: str, for_lookup: bool = False) -> None:
        super().__init__()
        self.about = about
        self.for_lookup = for_lookup

    @abstractmethod
    def encode(self, value: T) -> str:
        """Write a value as text."""

    @abstractmethod
    def decode(self, text: str) -> T:
        """Read what :meth:`encode` wrote."""

    def process_bind_param(self, value: T | None, dialect: sa.Dialect) -> str | None:
        """Seal a value on its way into the database."""
        if value is None:
            return None
        ring: KeyRing | _AsStored | None = getattr(dialect, _RING, None)
        if isinstance(ring, _AsStored):
            return str(value)
        text = self.encode(value)
        if not text or ring is None:
            return as_plain(text)
        if self.for_lookup:
            return ring.seal_for_lookup(text, self.about)
        return ring.seal(text, self.about)

    def process_result_value(self, value: str | float | None, dialect: sa.Dialect) -> T | None:
        """Open a value on its way out."""
        if value is None:
            return None
        if isinstance(value, int | float):  # SQLite's JSON columns turn texts that are numbers
            value = json.dumps(value)
        ring: KeyRing | _AsStored | None = getattr(dialect, _RING, None)
        if isinstance(ring, _AsStored):
            return cast("T", value)
        if not value:
            return self.decode(value)
        text = read_plain(value, self.about) if ring is None else ring.open(value, self.about)
        return self.decode(text)


class SealedText(Sealed[str]):
    """A text, at most `length` characters when plain."""

    cache_ok = True

    def encode(self, value: str) -> str:
        """Write a text as it is."""
        return value

    def decode(self, text: str) -> str:
        """Read a text as it is."""
        return text


class SealedDate(Sealed[date]):
    """A calendar day."""

    cache_ok = True

    def encode(self, value: date) -> str:
        """Write ``YYYY-MM-DD``."""
        return value.isoformat()

    def decode(self, text: str) -> date:
        """Read ``YYYY-MM-DD``, which is also how SQLite kept days before."""
        return date.fromisoformat(text[:10])


class SealedJson(Sealed[object]):
    """A JSON value; None is SQL's NULL, as with ``JSON(none_as_null=True)``."""

    cache_ok = True

    def encode(self, value: object) -> str:
        """Write JSON."""
        return json.dumps(value)

    def decode(self, text: str) -> object:
        """Read JSON."""
        return json.loads(text)


class SealedBytes(Sealed[bytes]):
    """Bytes, as text in base 64."""

    cache_ok = True

    def encode(self, value: bytes) -> str:
        """Write base 64."""
        return base64.b64encode(value).decode("ascii")

    def decode(self, text: str) -> bytes:
        """Read base 64."""
        return base64.b64decode(text)


def sealed_columns(metadata: sa.MetaData) -> Iterator[tuple[sa.Column[object], Sealed[object]]]:
    """List every sealed column of the product, with its type."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Sealed):
                yield column, column.type
