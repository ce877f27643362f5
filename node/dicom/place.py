"""Where the objects of one location are kept: file and rows, both or neither."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, read
from node.db.tables import instance, instance_duplicate
from node.dicom.arrival import Arrival, Arrived, find_known
from node.dicom.instances import InstanceStore
from node.dicom.kept import Kept, StoreOutcome
from node.engine import DurableEngine
from node.errors import Retryable

#: What the audit calls the arrival of an object.
RECEIVED = "image.received"

#: Runs a write in a transaction, alone or with others; returns once it is committed.
Transact = Callable[[Callable[[Tx], StoreOutcome]], StoreOutcome]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of one location are kept."""

    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    location_id: str
    fallback_charset: str

    def keep(self, arrived: Arrived, put: Callable[[], str]) -> StoreOutcome:
        """Keep one object: the file that `put` makes, and its rows; all of it or nothing.

        `put` makes the file durable and returns its storage key; it is not called for bytes that
        are here already.

        Raises
        ------
        Retryable
            The disk is full or the database is away; nothing is left behind.
        """
        with _reading(), read(self.db) as conn:
            known = find_known(conn, self.location_id, arrived)
        if known is not None and self.store.holds(known.storage_key):
            return known.outcome
        return self.keep_stored(arrived, put(), self.alone)

    def keep_stored(self, arrived: Arrived, storage_key: str, transact: Transact) -> StoreOutcome:
        """Write the rows of an object whose file is in the store; else remove the file again.

        Raises Retryable as :meth:`keep`.
        """

        def work(tx: Tx) -> StoreOutcome:
            return Arrival(tx, self.engine, arrived, storage_key).keep(self.store.holds)

        try:
            with _reading():
                result = transact(work)
        except BaseException:
            self._discard_if_unused(storage_key)
            raise
        if result.kept is Kept.SAME_AGAIN:  # these bytes were here already
            self.store.discard(storage_key)
        return result

    def alone(self, work: Callable[[Tx], StoreOutcome]) -> StoreOutcome:
        """Write the rows of one object in a transaction of its own."""
        with begin(self.db, self.actor, RECEIVED) as tx:
            return work(tx)

    @property
    def actor(self) -> Actor:
        """Who writes what arrives here."""
        return Actor("dicom", self.location_id)

    def _discard_if_unused(self, storage_key: str) -> None:
        """Remove a file unless its row may be there: a commit can succeed, its answer be lost."""
        with contextlib.suppress(sa.exc.SQLAlchemyError, OSError), read(self.db) as conn:
            rows = sa.union_all(
                *(
                    sa.select(table.c.id).where(table.c.storage_key == storage_key)
                    for table in (instance, instance_duplicate)
                )
            )
            if conn.execute(rows).first() is None:
                self.store.discard(storage_key)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Say of a database that cannot be read what `begin` says of one that takes no writes."""
    try:
        yield
    except sa.exc.OperationalError as error:
        raise Retryable(f"the database is away ({type(error.orig).__name__})") from None
