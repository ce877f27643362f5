"""Where the objects of one location are kept: file and rows, both or neither."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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

    def keep(
        self, arrived: Arrived, put: Callable[[], str], transact: Transact | None = None
    ) -> StoreOutcome:
        """Keep one object: the file that `put` makes, and its rows; all of it or nothing.

        `put` makes the file durable and returns its storage key; it is not called for bytes that
        are here already.

        Raises
        ------
        Retryable
            The disk is full or the database is away; nothing is left behind.
        """
        try:
            return self._keep(arrived, put, transact or self.alone)
        except sa.exc.OperationalError as error:  # reading; `begin` speaks for writing
            raise Retryable(f"the database is away ({type(error.orig).__name__})") from None

    def alone(self, work: Callable[[Tx], StoreOutcome]) -> StoreOutcome:
        """Write the rows of one object in a transaction of its own."""
        with begin(self.db, self.actor, RECEIVED) as tx:
            return work(tx)

    @property
    def actor(self) -> Actor:
        """Who writes what arrives here."""
        return Actor("dicom", self.location_id)

    def _keep(self, arrived: Arrived, put: Callable[[], str], transact: Transact) -> StoreOutcome:
        with read(self.db) as conn:
            known = find_known(conn, self.location_id, arrived.sop_instance_uid, arrived.sha256)
        if known is not None and self.store.holds(known.storage_key):
            return known.outcome
        storage_key = put()

        def work(tx: Tx) -> StoreOutcome:
            arrival = Arrival(tx, self.engine, arrived, storage_key)
            return arrival.insert() if known is None else arrival.restore(known)

        try:
            result = transact(work)
        except BaseException:
            self._discard_if_unused(storage_key)
            raise
        if result.kept is Kept.SAME_AGAIN and known is None:  # another association was faster
            self.store.discard(storage_key)
        return result

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
