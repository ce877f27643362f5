"""Sending what storage commitment owes: reports to senders, requests to archives.

A report goes out on a new association in which we take the SCP role; where the sender has no
address in ``dicom.peers``, or cannot be reached, on the association that it still has open with us.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association

from node.config import Config, PeerSection
from node.db.agreements import demand_peer
from node.db.session import Actor, begin, read
from node.db.tables import commitment, image_delivery, instance
from node.dicom.commitment import (
    ALL_COMMITTED,
    COMMITMENT_CLASS,
    COMMITMENT_INSTANCE,
    SOME_FAILED,
    SUCCESS,
    CommitmentState,
    Judgement,
    Reference,
    Role,
    action_information,
    event_information,
    judge,
    on_n_event_report,
)
from node.dicom.instances import InstanceStore
from node.dicom.peers import associate
from node.dicom.retrying import claim, is_due
from node.errors import BitewingError, Rejected, Retryable

#: An answer nobody took, a promise that never came: given up, or asked for again.
_GIVE_UP = timedelta(days=7)
_ASK_AGAIN = timedelta(hours=1)
#: How long the archive may use the association of our own request for its report.
_SAME_ASSOCIATION_S = 3.0

#: Finds an association that an AE title has open with our listener now.
FindOpen = Callable[[str], Association | None]


@dataclass(frozen=True, slots=True)
class CommitmentDesk:
    """What is due in one location."""

    db: sa.Engine
    store: InstanceStore
    config: Config
    find_open: FindOpen

    def run_due(self, now: datetime) -> int:
        """Send every report and request that is due; returns how many were taken."""
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(commitment)
                .where(
                    commitment.c.location_id == self.config.node.location_id,
                    commitment.c.state == CommitmentState.QUEUED.value,
                )
                .order_by(commitment.c.created_at)
            ).all()
        taken = sum(self._try(row, now) for row in rows)
        self._ask_again(now)
        return taken

    def _try(self, row: sa.Row[tuple[object, ...]], now: datetime) -> bool:
        if not is_due(row.attempts, row.updated_at, now):
            return False
        objects = [(str(pair[0]), str(pair[1])) for pair in row.objects]
        judged = Judgement()
        if row.role == Role.ANSWER.value:
            with read(self.db) as conn:
                judged = judge(conn, self.store, self.config, row.peer, objects)
            if judged.is_waiting and now - row.created_at < _GIVE_UP:
                return False
        with begin(self.db, self._actor, "commitment.tried") as tx:
            if not claim(tx.conn, commitment, row.id, row.updated_at, tx.now):
                return False
            tx.record(f"commitment:{row.id}", role=row.role)
        try:
            if row.role == Role.ANSWER.value:
                self._report(row.peer, row.transaction_uid, judged, now)
            else:
                self._ask(row.peer, row.transaction_uid, objects, now)
        except BitewingError as error:
            is_over = now - row.created_at >= _GIVE_UP
            state = CommitmentState.LAPSED if is_over else CommitmentState.QUEUED
            self._close(row.id, state, str(error), ())
            return False
        if row.role == Role.ANSWER.value:
            self._close(row.id, CommitmentState.DONE, "", judged.failed)
        return True

    @property
    def _actor(self) -> Actor:
        return Actor("dicom", self.config.node.location_id)

    def _report(
        self, ae_title: str, transaction_uid: str, judged: Judgement, now: datetime
    ) -> None:
        if judged.is_waiting:
            raise Retryable("the archive has not promised in time")
        peer = next((p for p in self.config.dicom.peers if p.ae_title.strip() == ae_title), None)
        assoc, is_ours = self._open(ae_title, peer, now)
        try:
            status, _ = assoc.send_n_event_report(
                event_information(transaction_uid, judged),
                SOME_FAILED if judged.failed else ALL_COMMITTED,
                COMMITMENT_CLASS,
                COMMITMENT_INSTANCE,
            )
        except (ValueError, RuntimeError):  # the role was refused, or the association ended
            raise Retryable(f"{ae_title} does not take commitment reports") from None
        finally:
            if is_ours and assoc.is_established:
                assoc.release()
        if "Status" not in status or status.Status != SUCCESS:
            raise Retryable(f"{ae_title} did not take the commitment report")

    def _open(
        self, ae_title: str, peer: PeerSection | None, now: datetime
    ) -> tuple[Association, bool]:
        """Open an association in the SCP's role; or take the one that the sender left open."""
        problem = f"{ae_title} has no address in dicom.peers and no association open"
        if peer is not None:
            try:
                self._demand(peer, now)
                assoc = associate(
                    peer,
                    self.config.dicom.ae_title,
                    [build_context(COMMITMENT_CLASS)],
                    roles=[build_role(COMMITMENT_CLASS, scp_role=True)],
                )
                if assoc.is_established:
                    return assoc, True
                problem = f"{ae_title} takes no association for commitment reports"
            except (Retryable, Rejected) as error:
                problem = str(error)
        found = self.find_open(ae_title)
        if found is None:
            raise Retryable(problem)
        return found, False

    def _ask(
        self, archive: str, transaction_uid: str, objects: list[Reference], now: datetime
    ) -> None:
        peer = next((p for p in self.config.dicom.peers if p.name == archive), None)
        if peer is None:
            raise Retryable(f"the archive {archive} is no longer configured")
        self._demand(peer, now)
        came = threading.Event()

        def take(event: evt.Event) -> tuple[int, None]:
            answer = on_n_event_report(event, self.db, self.config)
            came.set()
            return answer

        assoc = associate(
            peer,
            self.config.dicom.ae_title,
            [build_context(COMMITMENT_CLASS)],
            handlers=[(evt.EVT_N_EVENT_REPORT, take)],
        )
        if not assoc.is_established:
            raise Rejected(f"{peer.ae_title} offers no storage commitment")
        self._mark(archive, objects, "sent", "asked")
        self._set_asked(transaction_uid)  # before: the report may overtake the answer
        try:
            status, _ = assoc.send_n_action(
                action_information(transaction_uid, objects),
                1,
                COMMITMENT_CLASS,
                COMMITMENT_INSTANCE,
            )
            if "Status" not in status or status.Status != SUCCESS:
                self._mark(archive, objects, "asked", "sent")
                raise Retryable(f"{peer.ae_title} did not take the commitment request")
            came.wait(_SAME_ASSOCIATION_S)
        finally:
            if assoc.is_established:
                assoc.release()

    def _demand(self, peer: PeerSection, now: datetime) -> None:
        """Refuse (NoAgreement) to call a peer outside without an agreement in force."""
        demand_peer(self.db, self.config, peer.name, now)

    def _set_asked(self, transaction_uid: str) -> None:
        with begin(self.db, self._actor, "commitment.asked") as tx:
            tx.conn.execute(
                commitment.update()
                .where(
                    commitment.c.location_id == tx.location_id,
                    commitment.c.role == Role.ASK.value,
                    commitment.c.transaction_uid == transaction_uid,
                )
                .values(state=CommitmentState.ASKED.value)
            )
            tx.record(f"commitment:{transaction_uid}")

    def _mark(self, archive: str, objects: list[Reference], before: str, after: str) -> None:
        with begin(self.db, self._actor, "commitment.marked") as tx:
            mine = sa.select(instance.c.id).where(
                instance.c.location_id == tx.location_id,
                instance.c.sop_instance_uid.in_([uid for _, uid in objects]),
            )
            tx.conn.execute(
                image_delivery.update()
                .where(
                    image_delivery.c.peer == archive,
                    image_delivery.c.instance_id.in_(mine),
                    image_delivery.c.state == before,
                )
                .values(state=after, updated_at=tx.now)
            )
            tx.record(archive, objects=len(objects), state=after)

    def _ask_again(self, now: datetime) -> None:
        """Take back requests whose promise never came: their objects are asked for anew."""
        with read(self.db) as conn:
            stale = conn.execute(
                sa.select(commitment).where(
                    commitment.c.location_id == self.config.node.location_id,
                    commitment.c.state == CommitmentState.ASKED.value,
                    commitment.c.updated_at < now - _ASK_AGAIN,
                )
            ).all()
        for row in stale:
            objects = [(str(pair[0]), str(pair[1])) for pair in row.objects]
            self._mark(row.peer, objects, "asked", "sent")
            self._close(row.id, CommitmentState.LAPSED, "no report came", ())

    def _close(
        self,
        row_id: str,
        state: CommitmentState,
        error: str,
        failures: tuple[tuple[str, str, int], ...],
    ) -> None:
        with begin(self.db, self._actor, f"commitment.{state}") as tx:
            tx.conn.execute(
                commitment.update()
                .where(commitment.c.id == row_id)
                .values(
                    state=state.value,
                    error=error[:255],
                    failures=[list(failure) for failure in failures],
                    updated_at=tx.now,
                )
            )
            tx.record(f"commitment:{row_id}", state=state.value)
