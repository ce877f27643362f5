"""The clearinghouse's inbox: every answer becomes a row once, and a signal for its case.

An answer is found by the submission it names, else by our claim id in its X12. What belongs to no
open case is kept all the same, for a person. Reading the inbox again from the beginning has no
effect: each answer has its sender's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, insert_once, new_id, read, upsert
from node.db.tables import case_signal, payer_inbox, payer_mail, workflow_case
from node.engine import DurableEngine
from node.errors import InvalidInput, NotFound
from orchestration import cases
from orchestration.access import Chart
from orchestration.payers.acknowledgements import read_277ca
from orchestration.payers.clearinghouse import Clearinghouse, PayerMail
from orchestration.payers.remittance import read_835
from orchestration.workflow import Draft, Start

#: The topic by which an answer reaches its case; its payload names the row.
TOPIC = "payer"
_MOST_PAGES = 200
#: How long the sweep may have been off without an answer being overlooked.
_LATE = timedelta(days=14)
_SUBMISSION = re.compile(r"([0-9a-f]{32})-\d{1,4}")


@dataclass(frozen=True, slots=True)
class KeptMail:
    """One answer as it came."""

    id: str
    kind: str
    submission_id: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Reads one location's inbox; one run at a time."""

    db: sa.Engine
    engine: DurableEngine
    house: Clearinghouse
    workflow: str
    location_id: str
    demand: Callable[[], None] = lambda: None  # refuses while the house may not be called

    def poll(self) -> int:
        """Take in what is new; returns how many answers were. Raises what the house raises."""
        self.demand()
        count = 0
        for _ in range(_MOST_PAGES):
            cursor = self._cursor()
            mails, following = self.house.inbox(cursor)
            if following == cursor or (not mails and not cursor):
                return count
            with begin(self.db, Actor("payer-mail", self.location_id), "payer.mail") as tx:
                count += sum(self._keep(tx, mail) for mail in mails)
                values: dict[str, object] = {"location_id": self.location_id, "cursor": following}
                upsert(tx.conn, payer_inbox, ("location_id",), values)
                tx.record("payer-inbox", answers=len(mails))
            if not mails:
                return count
        return count

    def _keep(self, tx: Tx, mail: PayerMail) -> bool:
        row_id = new_id()
        case_id = self._case_of(tx.conn, mail)
        values: dict[str, object] = {
            "id": row_id,
            "location_id": tx.location_id,
            "delivery_id": mail.id,
            "kind": mail.kind[:16],
            "submission_id": mail.submission_id[:128],
            "media_type": mail.media_type[:64],
            "content": mail.content,
            "case_id": case_id,
            "state": "unknown" if case_id is None else "given",
            "at": tx.now,
        }
        if not insert_once(tx.conn, payer_mail, values):
            return False
        if case_id is not None:
            payload = {"mail": row_id, "kind": mail.kind, "submission": mail.submission_id}
            taken = cases.signal(tx, self.engine, case_id, TOPIC, f"payer:{mail.id}", payload)
            if not taken:
                tx.conn.execute(
                    payer_mail.update().where(payer_mail.c.id == row_id).values(state="late")
                )
        return True

    def _case_of(self, conn: sa.Connection, mail: PayerMail) -> str | None:
        mine = (
            workflow_case.c.location_id == self.location_id,
            workflow_case.c.workflow == self.workflow,
        )
        named = _SUBMISSION.fullmatch(mail.submission_id)
        if named is not None:
            query = sa.select(workflow_case.c.id).where(*mine, workflow_case.c.id == named[1])
            return conn.execute(query).scalar()
        wanted = set(_claim_ids(mail))
        if not wanted:
            return None
        rows = conn.execute(sa.select(workflow_case.c.id, workflow_case.c.data).where(*mine))
        found = [row.id for row in rows if wanted & set(row.data.get("claim_ids", []))]
        return found[0] if len(found) == 1 else None

    def _cursor(self) -> str:
        with read(self.db) as conn:
            found = conn.execute(
                sa.select(payer_inbox.c.cursor).where(payer_inbox.c.location_id == self.location_id)
            ).scalar()
        return found or ""


def late_answers(chart: Chart) -> Iterator[Start]:
    """Give the answers that came when their case had ended, or as it ended, for a person to read.

    What only acknowledges is left out.
    """
    unread = (
        sa.select(case_signal.c.id)
        .where(
            case_signal.c.case_id == payer_mail.c.case_id,
            case_signal.c.delivery_id == sa.literal("payer:") + payer_mail.c.delivery_id,
            case_signal.c.taken_at.is_(None),
        )
        .exists()
    )
    open_states = [state.value for state in cases.OPEN]
    query = (
        sa.select(payer_mail.c.id, workflow_case.c.patient_id, workflow_case.c.stage)
        .join(workflow_case, workflow_case.c.id == payer_mail.c.case_id)
        .where(
            payer_mail.c.location_id == chart.location_id,
            payer_mail.c.at >= chart.now - _LATE,
            payer_mail.c.kind.not_in(["999", "277CA"]),
            workflow_case.c.state.not_in(open_states),
            sa.or_(payer_mail.c.state == "late", unread),
        )
    )
    with read(chart.db) as conn:
        rows = conn.execute(query).all()
    for row in rows:
        data: Draft = {"mail": row.id, "ended_as": row.stage, "procedures": []}
        yield Start(f"mail:{row.id}", row.patient_id, data)


def read_mail(db: sa.Engine, location_id: str, mail_id: str) -> KeptMail:
    """Read one answer; raises NotFound, also for one whose words are no longer kept."""
    with read(db) as conn:
        row = conn.execute(
            sa.select(payer_mail).where(
                payer_mail.c.id == mail_id, payer_mail.c.location_id == location_id
            )
        ).first()
    if row is None:
        raise NotFound("there is no such answer of a payer")
    if row.reduced_at is not None:
        raise NotFound("this answer was settled long ago; its digest alone is kept")
    return KeptMail(row.id, row.kind, row.submission_id, row.media_type, row.content)


def _claim_ids(mail: PayerMail) -> Iterator[str]:
    """Name the claims that an answer speaks of; what cannot be read names none."""
    try:
        if mail.kind == "835":
            yield from (claim.claim_id for each in read_835(mail.content) for claim in each.claims)
        elif mail.kind == "277CA":
            yield from (each.claim_id for each in read_277ca(mail.content))
    except InvalidInput:
        return
