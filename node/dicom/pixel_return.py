"""Fetching pixels again that were given up: wanted by a person, a peer, or a visit to come.

What comes back with other bytes than it left is the same image when its samples and whose it says
it is are the same; anything else stays beside, flagged, for a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from pynetdicom import evt

from node.config import Config, PeerSection
from node.db.agreements import demand_peer
from node.db.session import Actor, Tx, begin, read
from node.db.tables import (
    appointment,
    instance,
    instance_duplicate,
    pixel_fetch,
    pixel_purge,
    study,
    study_identity,
)
from node.dicom.fetching import fetch_study
from node.dicom.header import Header, read_header
from node.dicom.instances import InstanceStore
from node.dicom.purged import FetchState, PurgeState, mark_restored, queue_fetch
from node.dicom.retention import pixel_digest
from node.dicom.retrying import claim, is_due
from node.dicom.store import Incoming, log_failure, receive
from node.domain import jobs
from node.domain.study import StudyState, dicom_name_key
from node.engine import STUDIES, DurableEngine
from node.errors import BitewingError, Rejected, Retryable

_GIVE_UP_AFTER = 12
_UNSIGNED = (StudyState.RECEIVING.value, StudyState.COMPLETE.value, StudyState.READY.value)
Row = sa.Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class PixelFetcher:
    """What is to be fetched again for one location."""

    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    config: Config

    def run_due(self, now: datetime) -> int:
        """Fetch what is due; returns how many images are here again."""
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(pixel_fetch)
                .where(
                    pixel_fetch.c.location_id == self.config.node.location_id,
                    pixel_fetch.c.state == FetchState.QUEUED.value,
                )
                .order_by(pixel_fetch.c.created_at)
            ).all()
        return sum(self._try(row, now) for row in rows)

    def plan(self, now: datetime) -> int:
        """Want back the newest purged studies of who comes in these days or is being read now."""
        with read(self.db) as conn:
            wanted = [
                study_id
                for patient_id in self._soon_needed(conn, now)
                for study_id in self._newest_purged(conn, patient_id)
            ]
        if not wanted:
            return 0
        with begin(self.db, self._actor, "pixels.planned") as tx:
            for study_id in wanted:
                queue_fetch(tx, study_id)
            tx.record("visits", studies=len(wanted))
        return len(wanted)

    @property
    def _actor(self) -> Actor:
        return Actor("pixel-return", self.config.node.location_id)

    def _soon_needed(self, conn: sa.Connection, now: datetime) -> Sequence[str]:
        until = now + timedelta(days=self.config.dicom.priors_days)
        mine = self.config.node.location_id
        visits = sa.select(appointment.c.patient_id).where(
            appointment.c.location_id == mine,
            appointment.c.tombstoned_at.is_(None),
            appointment.c.start_at.between(now - timedelta(hours=12), until),
        )
        unread = sa.select(study.c.patient_id).where(
            study.c.location_id == mine,
            study.c.patient_id.is_not(None),
            sa.not_(study.c.is_prior),
            study.c.state.in_(_UNSIGNED),
        )
        purged = (
            sa.select(study.c.patient_id)
            .join(instance, instance.c.study_id == study.c.id)
            .join(pixel_purge, pixel_purge.c.instance_id == instance.c.id)
            .where(
                study.c.location_id == mine,
                pixel_purge.c.state == PurgeState.PURGED.value,
                sa.or_(study.c.patient_id.in_(visits), study.c.patient_id.in_(unread)),
            )
            .distinct()
        )
        return [str(each) for each in conn.execute(purged).scalars()]

    def _newest_purged(self, conn: sa.Connection, patient_id: str) -> Iterator[str]:
        """Give the newest studies that are away and for which nobody asks yet."""
        rows = conn.execute(
            sa.select(study.c.id, pixel_fetch.c.state)
            .outerjoin(pixel_fetch, pixel_fetch.c.study_id == study.c.id)
            .where(
                study.c.patient_id == patient_id,
                study.c.id.in_(
                    sa.select(instance.c.study_id)
                    .join(pixel_purge, pixel_purge.c.instance_id == instance.c.id)
                    .where(pixel_purge.c.state == PurgeState.PURGED.value)
                ),
            )
            .order_by(study.c.study_date.desc(), study.c.received_at.desc())
            .limit(self.config.dicom.priors_most)
        )
        for row in rows:
            if row.state in (None, FetchState.DONE.value):  # what failed waits for a person
                yield row.id

    def _try(self, row: Row, now: datetime) -> int:
        if not is_due(row.attempts, row.updated_at, now):
            return 0
        with begin(self.db, self._actor, "pixels.tried") as tx:
            if not claim(tx.conn, pixel_fetch, row.id, row.updated_at, tx.now):
                return 0
            tx.record(f"study:{row.study_id}")
        try:
            restored = self._fetch(row.study_id)
        except BitewingError as error:
            is_over = row.attempts + 1 >= _GIVE_UP_AFTER or isinstance(error, Rejected)
            self._close(row, FetchState.FAILED if is_over else FetchState.QUEUED, str(error))
            return 0
        self._close(row, FetchState.DONE, "")
        self._read_again(row)
        return restored

    def _read_again(self, fetched: Row) -> None:
        """Have the patient's unsigned studies read again: their earlier films are here now."""
        with begin(self.db, self._actor, "study.reread") as tx:
            whose = sa.select(study.c.patient_id).where(study.c.id == fetched.study_id)
            rows = tx.conn.execute(
                sa.select(study.c.id, study.c.generation).where(
                    study.c.patient_id == whose.scalar_subquery(),
                    study.c.id != fetched.study_id,
                    study.c.state == StudyState.READY.value,
                )
            ).all()
            for row in rows:
                cause = f"{fetched.study_id[:8]}@{tx.now:%Y%m%dT%H%M%S}"
                key = jobs.reread_key(row.id, row.generation, cause)
                self.engine.enqueue(
                    tx.conn, STUDIES, jobs.FINISH_STUDY, key, row.id, row.generation
                )
            tx.record(f"study:{fetched.study_id}", studies=len(rows))

    def _fetch(self, study_id: str) -> int:
        """Fetch one study from each archive that holds images of it.

        Raises Retryable while some are away, Rejected when another image came for one of ours.
        """
        away = self._away(study_id)
        for name in sorted({row.holder for row in away}):
            demand_peer(self.db, self.config, name, datetime.now(UTC))
            uid = str(away[0].study_instance_uid)
            fetch_study(self._peer(name), self.config.dicom.ae_title, uid, self._keep)
        self._adopt(study_id)
        missing = self._away(study_id)
        if missing and any(self._beside(row) for row in missing):
            raise Rejected("the archive gave another image than was given up; a person must look")
        if missing:
            raise Retryable(f"{len(missing)} of {len(away)} images did not come back")
        return len(away)

    def _away(self, study_id: str) -> Sequence[Row]:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(instance, pixel_purge, study.c.study_instance_uid)
                .join(pixel_purge, pixel_purge.c.instance_id == instance.c.id)
                .join(study, study.c.id == instance.c.study_id)
                .where(study.c.id == study_id, pixel_purge.c.state == PurgeState.PURGED.value)
                .order_by(instance.c.id)
            ).all()

    def _peer(self, name: str) -> PeerSection:
        found = next((p for p in self.config.dicom.peers if p.name == name), None)
        if found is None:
            raise Rejected(f"the archive {name} holds the pixels, and is configured no more")
        return found

    def _keep(self, event: evt.Event) -> int:
        return keep_fetched(self.db, self.store, self.engine, self.config, event)

    def _adopt(self, study_id: str) -> None:
        """Take what came with other bytes, where samples and patient are the same."""
        with read(self.db) as conn:
            whose = conn.execute(
                sa.select(study_identity).where(study_identity.c.study_id == study_id)
            ).first()
        for row in self._away(study_id):
            for beside in self._beside(row):
                file = self.store.file(beside.storage_key)
                header = read_header(file)
                if not _is_theirs(header, whose) or pixel_digest(file) != row.pixel_sha256:
                    continue
                with begin(self.db, self._actor, "pixels.restored") as tx:
                    _put_in_place(tx, row, beside, header.transfer_syntax_uid)
                break

    def _beside(self, row: Row) -> Sequence[Row]:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(instance_duplicate)
                .where(instance_duplicate.c.instance_id == row.instance_id)
                .order_by(instance_duplicate.c.received_at.desc())
            ).all()

    def _close(self, row: Row, state: FetchState, error: str) -> None:
        with begin(self.db, self._actor, f"pixels.fetch_{state.value}") as tx:
            tx.conn.execute(
                pixel_fetch.update()
                .where(pixel_fetch.c.id == row.id)
                .values(state=state.value, error=error[:255], updated_at=tx.now)
            )
            tx.record(f"study:{row.study_id}")


def keep_fetched(
    db: sa.Engine, store: InstanceStore, engine: DurableEngine, config: Config, event: evt.Event
) -> int:
    """Keep one object of a C-GET like one that was sent to us; gives the status."""
    try:
        incoming = Incoming(
            event.request.DataSet.getbuffer(),
            str(event.request.AffectedSOPClassUID),
            str(event.request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            str(event.assoc.acceptor.ae_title).strip(),
        )
        return receive(
            db,
            store,
            engine,
            incoming,
            location_id=config.node.location_id,
            fallback_charset=config.dicom.fallback_charset,
        ).status
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        return log_failure("C-STORE of a C-GET", error).store_status


def _is_theirs(header: Header, whose: Row | None) -> bool:
    """Tell whether an image names the patient whom the study named when it first came."""
    if whose is None:
        return False
    return (header.patient_id, dicom_name_key(header.patient_name), header.birth_date) == (
        whose.patient_id_text,
        dicom_name_key(whose.patient_name),
        whose.birth_date,
    )


def _put_in_place(tx: Tx, row: Row, beside: Row, transfer_syntax_uid: str) -> None:
    tx.conn.execute(
        instance.update()
        .where(instance.c.id == row.instance_id)
        .values(
            storage_key=beside.storage_key,
            sha256=beside.sha256,
            size_bytes=beside.size_bytes,
            transfer_syntax_uid=transfer_syntax_uid,
        )
    )
    tx.conn.execute(instance_duplicate.delete().where(instance_duplicate.c.id == beside.id))
    mark_restored(tx, row.instance_id)
    tx.record(str(row.instance_id), was=row.sha256, sha256=beside.sha256)
