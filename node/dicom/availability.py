"""Instance Availability Notification as SCU: telling peers which images of a study are here.

Each peer marked ``availability`` hears of a study once all its images are analysed, and again when
late images came. What a peer does not take now is told again; paused with everything outbound.
Source: PS3.4 Annex R, IHE RAD-49.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import build_context

from node.config import Config, PeerSection
from node.db import switches
from node.db.agreements import demand_peer
from node.db.session import Actor, begin, insert_once, new_id, read
from node.db.tables import availability_notice, performed_step, study
from node.dicom.derived import derived_uid, reference_item
from node.dicom.held import Held, find_held
from node.dicom.instances import InstanceStore
from node.dicom.peers import associate
from node.dicom.retrying import claim, is_due
from node.domain.study import StudyState
from node.errors import BitewingError, Rejected, Retryable

NOTIFICATION_CLASS = "1.2.840.10008.5.1.4.33"
_STEP_CLASS = "1.2.840.10008.3.1.2.3.3"
#: A study that has been quiet for longer is not told of: this was switched on later.
_RECENT = timedelta(days=2)
_BATCH = 50

Row = sa.Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Notifier:
    """The notices of one location."""

    db: sa.Engine
    store: InstanceStore
    config: Config

    def run_due(self, now: datetime) -> int:
        """Plan what became available, tell what is due; returns how many peers took a notice."""
        peers = {peer.name: peer for peer in self.config.dicom.peers if peer.availability}
        if not peers:
            return 0
        self.plan(list(peers), now)
        with read(self.db) as conn:
            if switches.is_paused(conn, self._location, [switches.OUTBOUND]):
                return 0
            waiting = conn.execute(
                sa.select(availability_notice)
                .where(
                    availability_notice.c.location_id == self._location,
                    availability_notice.c.state == "queued",
                    availability_notice.c.peer.in_(peers),
                )
                .order_by(availability_notice.c.updated_at)
                .limit(_BATCH)
            ).all()
        due = [row for row in waiting if is_due(row.attempts, row.updated_at, now)]
        return sum(self._try(row, peers[row.peer], now) for row in due)

    def plan(self, peers: Sequence[str], now: datetime) -> int:
        """Queue a notice of each study that became ready; returns how many studies."""
        is_told = sa.exists().where(
            availability_notice.c.study_id == study.c.id,
            availability_notice.c.generation == study.c.generation,
        )
        with read(self.db) as conn:
            ready = conn.execute(
                sa.select(study.c.id, study.c.generation).where(
                    study.c.location_id == self._location,
                    study.c.state.in_([StudyState.READY.value, StudyState.SIGNED.value]),
                    study.c.last_image_at > now - _RECENT,
                    sa.not_(study.c.is_prior),
                    sa.not_(is_told),
                )
            ).all()
        for row in ready:
            with begin(self.db, self._actor, "availability.planned") as tx:
                for peer in peers:
                    values = {
                        "id": new_id(),
                        "location_id": tx.location_id,
                        "study_id": row.id,
                        "generation": row.generation,
                        "peer": peer,
                        "state": "queued",
                        "updated_at": tx.now,
                    }
                    insert_once(tx.conn, availability_notice, values)
                tx.record(f"study:{row.id}", peers=len(peers))
        return len(ready)

    @property
    def _location(self) -> str:
        return self.config.node.location_id

    @property
    def _actor(self) -> Actor:
        return Actor("availability", self._location)

    def _try(self, row: Row, peer: PeerSection, now: datetime) -> bool:
        with begin(self.db, self._actor, "availability.tried") as tx:
            if not claim(tx.conn, availability_notice, str(row.id), row.updated_at, tx.now):
                return False
            tx.record(f"study:{row.study_id}", peer=peer.name)
        try:
            demand_peer(self.db, self.config, peer.name, now)
            notice = self.compose(str(row.study_id))
            if notice is not None:
                self._send(notice, peer, str(row.id))
            state, error = "done", ""
        except Retryable as problem:
            state, error = "queued", str(problem)
        except BitewingError as problem:
            state, error = "failed", str(problem)
        with begin(self.db, self._actor, f"availability.{state}") as tx:
            tx.conn.execute(
                availability_notice.update()
                .where(availability_notice.c.id == row.id)
                .values(state=state, error=error[:255], updated_at=tx.now)
            )
            tx.record(f"study:{row.study_id}", peer=peer.name, state=state)
        return state == "done"

    def compose(self, study_id: str) -> Dataset | None:
        """Compose the notice of one study (PS3.4 Table R.3.2-1); None when nothing is here."""
        with read(self.db) as conn:
            uid = str(
                conn.execute(
                    sa.select(study.c.study_instance_uid).where(study.c.id == study_id)
                ).scalar_one()
            )
            held = find_held(conn, self.store, self._location, studies=[uid])
            steps = list(
                conn.execute(
                    sa.select(performed_step.c.sop_instance_uid).where(
                        performed_step.c.location_id == self._location,
                        performed_step.c.study_instance_uid == uid,
                    )
                ).scalars()
            )
        if not held:
            return None
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.ReferencedPerformedProcedureStepSequence = [_step(step) for step in steps]
        ds.ReferencedSeriesSequence = [
            self._series(series_uid, list(group)) for series_uid, group in groupby(held, _series_of)
        ]
        ds.StudyInstanceUID = uid
        return ds

    def _series(self, uid: str, held: Sequence[Held]) -> Dataset:
        series = Dataset()
        series.ReferencedSOPSequence = [self._object(each) for each in held]
        series.SeriesInstanceUID = uid
        return series

    def _object(self, held: Held) -> Dataset:
        item = reference_item(held.sop_class_uid, held.sop_instance_uid)
        item.RetrieveAETitle = self.config.dicom.ae_title
        item.InstanceAvailability = "ONLINE"
        return item

    def _send(self, notice: Dataset, peer: PeerSection, notice_id: str) -> None:
        """Send N-CREATE. Raises Retryable when the peer is away, Rejected when it refuses."""
        assoc = associate(peer, self.config.dicom.ae_title, [build_context(NOTIFICATION_CLASS)])
        if not assoc.is_established:
            raise Rejected(f"{peer.ae_title} takes no availability notices")
        try:
            answer, _ = assoc.send_n_create(
                notice, NOTIFICATION_CLASS, derived_uid("availability", notice_id)
            )
        finally:
            if assoc.is_established:
                assoc.release()
        status = answer.get("Status")
        if status is None or status == 0x0213:  # resource limitation, PS3.7 C.5.19
            raise Retryable(f"{peer.ae_title} did not take the availability notice")
        if status not in (0x0000, 0x0111):  # it has this notice already
            raise Rejected(f"{peer.ae_title} refused the availability notice ({status:04X})")


def _step(uid: str) -> Dataset:
    item = reference_item(_STEP_CLASS, uid)
    item.PerformedWorkitemCodeSequence = []
    return item


def _series_of(held: Held) -> str:
    return held.series_instance_uid
