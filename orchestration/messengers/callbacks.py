"""What the text message provider calls back: what became of a message, and what people answer.

An answer is kept, and a wish to stop or start holds from then on, before any workflow hears of it;
the cases that have written to that number are told through `orchestration.webhooks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import message, message_reply, workflow_case
from orchestration import signatures
from orchestration.cases import OPEN
from orchestration.messengers import sms
from orchestration.messengers.contacts import keep_choice, written_to
from orchestration.messengers.mailroom import MessageState
from orchestration.messengers.message import address_digest
from orchestration.recall.replies import Meaning, parse
from orchestration.webhooks import Delivery
from orchestration.workflow import Signal

_STATES = {
    sms.SmsState.DELIVERED: MessageState.DELIVERED,
    sms.SmsState.UNDELIVERED: MessageState.UNDELIVERED,
    sms.SmsState.FAILED: MessageState.UNDELIVERED,
}
#: How a meaning is told to a case.
_TOPICS = {Meaning.STOP: "opt_out", Meaning.START: "", Meaning.HELP: ""}


@dataclass(frozen=True, slots=True)
class SmsSource:
    """Reads the provider's calls back, for `orchestration.webhooks`."""

    db: sa.Engine
    actor: Actor
    secret: str = field(repr=False)

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
        """Verify one call back, keep what it says, and name the cases to be told.

        Raises
        ------
        Forbidden
            It is not signed, or was long ago.
        InvalidInput
            It is signed and cannot be understood.
        """
        signatures.verify(self.secret, body, headers.get("x-signature", ""), now)
        event = sms.read_event(body)
        match event:
            case sms.StatusEvent():
                return Delivery(event.event_id, self._keep_status(event))
            case sms.ReplyEvent():
                return Delivery(event.event_id, self._keep_reply(event))
            case _:  # taken and passed over, so that the provider does not send it again
                return Delivery(f"other:{sha256(body).hexdigest()[:32]}", ())

    def _keep_status(self, event: sms.StatusEvent) -> Sequence[tuple[str, Signal]]:
        state = _STATES.get(event.state)
        if state is None:
            return ()
        with begin(self.db, self.actor, "message.told") as tx:
            row = tx.conn.execute(
                message.update()
                .where(
                    message.c.location_id == tx.location_id,
                    message.c.provider_id == event.provider_id,
                    # told out of order: delivered is the last word
                    message.c.state != MessageState.DELIVERED.value,
                )
                .values(state=state.value, updated_at=tx.now)
                .returning(message.c.case_id, message.c.key, message.c.patient_id)
            ).first()
            tx.record("message", state=state.value)
            if row is None or state is not MessageState.UNDELIVERED:
                return ()
            payload = {"key": row.key, "provider_id": event.provider_id}
            return _signals(tx.conn, [row.case_id], "undelivered", event.event_id, payload)

    def _keep_reply(self, event: sms.ReplyEvent) -> Sequence[tuple[str, Signal]]:
        meaning = parse(event.text)
        digest = address_digest(event.sender)
        with begin(self.db, self.actor, "message.answered") as tx:
            self._keep_answer(tx, event, meaning, digest)
            if meaning in (Meaning.STOP, Meaning.START):
                keep_choice(
                    tx,
                    f"sms:{event.event_id}",
                    scope="all",
                    choice=meaning.value,
                    source="text message",
                    digest=digest,
                )
        topic = _TOPICS.get(meaning, "reply")
        if not topic:
            return ()
        payload = {"meaning": meaning.value, "event_id": event.event_id}
        with read(self.db) as conn:
            told = cases_written_to(conn, self.actor.location_id, digest)
            first = _signals(conn, told[:1], topic, event.event_id, payload)
            # the others go quiet too, but one person is asked to call once
            quiet = {**payload, "quiet": "yes"}
            return [*first, *_signals(conn, told[1:], topic, event.event_id, quiet)]

    def _keep_answer(self, tx: Tx, event: sms.ReplyEvent, meaning: Meaning, digest: str) -> None:
        """Keep the words; they stay with us and go to no log."""
        patients = written_to(tx.conn, tx.location_id, digest)
        values: dict[str, object] = {
            "id": new_id(),
            "location_id": tx.location_id,
            "key": event.event_id,
            "channel": "sms",
            "address_digest": digest,
            "patient_id": next(iter(patients)) if len(patients) == 1 else None,
            "meaning": meaning.value,
            "text": event.text.replace("\x00", ""),
            "at": tx.now,
        }
        insert_once(tx.conn, message_reply, values)


def cases_written_to(conn: sa.Connection, location_id: str, digest: str) -> list[str]:
    """Find the open cases that have written to an address, the newest first."""
    rows = conn.execute(
        sa.select(message.c.case_id, sa.func.max(message.c.created_at).label("at"))
        .join(workflow_case, workflow_case.c.id == message.c.case_id)
        .where(
            message.c.location_id == location_id,
            message.c.address_digest == digest,
            workflow_case.c.state.in_([state.value for state in OPEN]),
        )
        .group_by(message.c.case_id)
        .order_by(sa.desc("at"))
    )
    return [str(row.case_id) for row in rows]


def _signals(
    conn: sa.Connection,
    case_ids: Sequence[str | None],
    topic: str,
    delivery_id: str,
    payload: Mapping[str, str],
) -> list[tuple[str, Signal]]:
    wanted = [each for each in case_ids if each]
    rows = conn.execute(
        sa.select(workflow_case.c.workflow, workflow_case.c.key).where(
            workflow_case.c.id.in_(wanted)
        )
    ).all()
    return [
        (row.workflow, Signal(row.key, topic, f"{topic}:{delivery_id}", dict(payload)))
        for row in rows
    ]
