"""Messages as rows: claimed before they go, so that none goes twice and none against a wish.

A row is claimed in the same transaction in which it is asked once more whether the message may go
(an opt-out, a count). What then happened to it is written down: `sending` while nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import message, patient
from node.errors import BitewingError, Retryable, Unsupported
from orchestration.messengers.contacts import keep_choice
from orchestration.messengers.message import (
    Channel,
    Message,
    Messenger,
    OutcomeUnknown,
    Receipt,
    RecipientRefused,
    address_digest,
)
from orchestration.workflow import Json

#: Whether a message may go, asked when it is claimed: the reason why not, empty when it may.
Check = Callable[[sa.Connection], str]


class MessageState(StrEnum):
    """What became of a message; the value is stored."""

    QUEUED = "queued"  # certainly not sent yet
    SENDING = "sending"  # may have been sent
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"  # may have been sent, and nobody can tell; it is not sent again
    FAILED = "failed"


#: Those that count as one message to the person.
COUNTED = (
    MessageState.SENDING, MessageState.SENT, MessageState.DELIVERED, MessageState.IN_DOUBT
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Letter:
    """One message under its key, and what it is for; `at` is the workflow's moment."""

    key: str
    purpose: str
    channel: Channel
    message: Message
    at: datetime
    patient_id: str | None = None
    case_id: str | None = None
    template: str = ""


@dataclass(frozen=True, slots=True)
class Mailroom:
    """Sends letters of one location, each once; `open_messenger` gives the way of a channel."""

    db: sa.Engine
    actor: Actor
    open_messenger: Callable[[Channel], Messenger]

    def send(self, letter: Letter, check: Check) -> Json:
        """Send a letter unless `check` objects; its outcome is a word with the provider's id.

        ``{"state": "sent" | "refused" | "held", "provider_id", "reason"}``; `held` was not sent
        and left no trace.

        Raises
        ------
        OutcomeUnknown
            It may have gone out: call :meth:`find` before sending again.
        Retryable, Rejected, ConfigError
            It has not gone out.
        """
        with begin(self.db, self.actor, "message.claimed") as tx:
            reason = self._claim(tx, letter, check)
        if reason:
            return {"state": "held", "reason": reason}
        try:
            receipt = self.open_messenger(letter.channel).send(letter.message, letter.key)
        except OutcomeUnknown:
            raise
        except RecipientRefused as error:
            return self._refused(letter, error)
        except BitewingError as error:
            is_later = isinstance(error, Retryable)
            state = MessageState.QUEUED if is_later else MessageState.FAILED
            self._keep(letter.key, state, error=str(error))
            raise
        return self._sent(letter.key, receipt)

    def find(self, letter: Letter) -> Json | None:
        """Look what became of an earlier attempt; None when it certainly did not go out."""
        return self.settle(letter.key, letter.channel)

    def settle(self, key: str, channel: Channel) -> Json | None:
        """Find out what became of the message under a key, and write it down."""
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(message.c.state, message.c.provider_id).where(*self._mine(key))
            ).first()
        if row is None or row.state in (MessageState.QUEUED, MessageState.FAILED):
            return None
        if row.state != MessageState.SENDING:
            state = "sent" if row.state in COUNTED[1:3] else row.state
            return {"state": state, "provider_id": row.provider_id}
        try:
            receipt = self.open_messenger(channel).find(key)
        except Unsupported:
            self._keep(key, MessageState.IN_DOUBT)
            return {"state": "in_doubt", "provider_id": ""}
        if receipt is None:
            self._keep(key, MessageState.QUEUED)
            return None
        return self._sent(key, receipt)

    def _claim(self, tx: Tx, letter: Letter, check: Check) -> str:
        """Mark the letter as on its way; returns the objection when there is one."""
        if letter.patient_id is not None:  # one claim at a time for a patient: the count holds
            lock = sa.select(patient.c.id).where(patient.c.id == letter.patient_id)
            tx.conn.execute(lock.with_for_update())
        reason = check(tx.conn)
        tx.record(f"case:{letter.case_id}", channel=letter.channel.value, held=bool(reason))
        if reason:
            return reason
        values: dict[str, object] = {
            "id": new_id(),
            "location_id": tx.location_id,
            "key": letter.key,
            "channel": letter.channel.value,
            "purpose": letter.purpose,
            "patient_id": letter.patient_id,
            "case_id": letter.case_id,
            "template": letter.template,
            "address_digest": address_digest(letter.message.to),
            "state": MessageState.SENDING.value,
            "created_at": letter.at,
            "updated_at": tx.now,
        }
        if not insert_once(tx.conn, message, values):
            again = {"state": MessageState.SENDING.value, "error": "", "created_at": letter.at}
            tx.conn.execute(
                message.update().where(*self._mine(letter.key)).values(**again, updated_at=tx.now)
            )
        return ""

    def _sent(self, key: str, receipt: Receipt) -> Json:
        self._keep(key, MessageState.SENT, provider_id=receipt.provider_id)
        return {"state": "sent", "provider_id": receipt.provider_id}

    def _refused(self, letter: Letter, error: RecipientRefused) -> Json:
        with begin(self.db, self.actor, "message.refused") as tx:
            self._change(tx, letter.key, MessageState.REFUSED, error=str(error))
            if error.is_opt_out:
                keep_choice(
                    tx,
                    f"refused:{letter.key}",
                    scope="all",
                    choice="stop",
                    source="provider",
                    patient_id=letter.patient_id,
                    digest=address_digest(letter.message.to),
                )
        return {"state": "refused", "provider_id": "", "reason": str(error)}

    def _keep(self, key: str, state: MessageState, **values: str) -> None:
        with begin(self.db, self.actor, "message.kept") as tx:
            self._change(tx, key, state, **values)
            tx.record("message", state=state.value)

    def _change(self, tx: Tx, key: str, state: MessageState, **values: str) -> None:
        """Write an outcome down; one that the provider told meanwhile is not taken back."""
        fitted = {name: text[:128] if name == "provider_id" else text[:255]
                  for name, text in values.items()}  # fmt: skip
        told = (MessageState.DELIVERED.value, MessageState.UNDELIVERED.value)
        tx.conn.execute(
            message.update()
            .where(*self._mine(key), message.c.state.not_in(told))
            .values(state=state.value, updated_at=tx.now, **fitted)
        )

    def _mine(self, key: str) -> tuple[sa.ColumnElement[bool], ...]:
        return (message.c.location_id == self.actor.location_id, message.c.key == key)


def sent_to(
    conn: sa.Connection, location_id: str, patient_id: str, since: datetime, apart_from: str = ""
) -> list[datetime]:
    """Read when messages went to a patient since a moment, over all channels.

    The one under the key `apart_from` is left out: it may be on its way while this is asked.
    """
    rows = conn.execute(
        sa.select(message.c.created_at)
        .where(
            message.c.location_id == location_id,
            message.c.patient_id == patient_id,
            message.c.created_at >= since,
            message.c.key != apart_from,
            message.c.state.in_([state.value for state in COUNTED]),
        )
        .order_by(message.c.created_at)
    )
    return list(rows.scalars())
