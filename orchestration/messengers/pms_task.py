"""A message to the team as a task in the practice's own system, through the outbox."""

from __future__ import annotations

import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import patient, pms_command
from node.engine import DurableEngine
from node.errors import NotFound
from orchestration.messengers.message import Channel, Message, Receipt
from pms_writeback import outbox
from pms_writeback.commands import CreateTask
from pms_writeback.payload import DocumentStore


class TaskMessenger:
    """Queues tasks about patients; the outbox sees to it that each lands once."""

    channel = Channel.TASK

    def __init__(
        self, db: sa.Engine, engine: DurableEngine, store: DocumentStore, actor: Actor
    ) -> None:
        self._db = db
        self._engine = engine
        self._store = store
        self._actor = actor

    def send(self, message: Message, key: str) -> Receipt:
        """Queue a task about the patient `message.to`, our id; the receipt is the command's id."""
        location = self._actor.location_id
        with begin(self._db, self._actor, "task.queued") as tx:
            pms_key = tx.conn.execute(
                sa.select(patient.c.pms_key).where(
                    patient.c.id == message.to, patient.c.location_id == location
                )
            ).scalar()
            if pms_key is None:
                raise NotFound("there is no such patient to write a task about")
            command = CreateTask(pms_key, message.text, outbox.ref_for(location, key))
            command_id = outbox.queue(
                tx, self._engine, self._store, key=key, command=command, patient_id=message.to
            )
            tx.record(f"command:{command_id}")
        return Receipt(self.channel, command_id)

    def find(self, key: str) -> Receipt | None:
        """Look for the queued command."""
        with read(self._db) as conn:
            found = conn.execute(
                sa.select(pms_command.c.id).where(
                    pms_command.c.location_id == self._actor.location_id, pms_command.c.key == key
                )
            ).scalar()
        return None if found is None else Receipt(self.channel, found, True)
