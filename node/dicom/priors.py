"""Fetching earlier studies from the office's archive, before the patient sits in the chair.

For each visit of the coming days every archive marked ``priors`` is asked by patient ID; only
studies whose name and birth date agree with ours are fetched, by C-GET, else by C-MOVE to this
node. They are kept and analysed like any image, for comparison; nobody is asked to sign them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association

from node.config import Config, PeerSection
from node.db.agreements import demand_peer
from node.db.session import Actor, begin, insert_once, new_id, read
from node.db.tables import appointment, patient, patient_identity, prior_fetch, study
from node.dicom.fetching import fetch_study, matches
from node.dicom.identity import read_day
from node.dicom.instances import InstanceStore
from node.dicom.peers import associate
from node.dicom.pixel_return import keep_fetched
from node.dicom.retrying import claim, is_due
from node.domain.study import dicom_name_key
from node.engine import DurableEngine
from node.errors import BitewingError, Rejected

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_GIVE_UP_AFTER = 12
Row = sa.Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class PriorStudy:
    """A study of the archive that is surely this patient's."""

    study_instance_uid: str
    study_date: str


@dataclass(frozen=True, slots=True)
class PriorFetcher:
    """What is to be fetched for one location."""

    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    config: Config

    def run_due(self, now: datetime) -> int:
        """Plan the coming days' visits and fetch what is due; returns how many images came."""
        self.plan(now)
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(prior_fetch)
                .where(
                    prior_fetch.c.location_id == self.config.node.location_id,
                    prior_fetch.c.state == "queued",
                )
                .order_by(prior_fetch.c.created_at)
            ).all()
        return sum(self._try(row, now) for row in rows)

    def plan(self, now: datetime) -> int:
        """Write down whose priors are wanted; once for each visit and archive."""
        archives = [peer.name for peer in self.config.dicom.peers if peer.priors]
        if not archives:
            return 0
        with read(self.db) as conn:
            visits = conn.execute(
                sa.select(appointment.c.id, appointment.c.patient_id)
                .outerjoin(prior_fetch, prior_fetch.c.appointment_id == appointment.c.id)
                .where(
                    appointment.c.location_id == self.config.node.location_id,
                    appointment.c.tombstoned_at.is_(None),
                    appointment.c.start_at >= now,
                    appointment.c.start_at < now + timedelta(days=self.config.dicom.priors_days),
                    prior_fetch.c.id.is_(None),
                )
            ).all()
        if not visits:
            return 0
        planned = 0
        with begin(self.db, self._actor, "priors.planned") as tx:
            for visit in visits:
                for name in archives:
                    planned += insert_once(
                        tx.conn,
                        prior_fetch,
                        {
                            "id": new_id(),
                            "location_id": tx.location_id,
                            "appointment_id": visit.id,
                            "patient_id": visit.patient_id,
                            "peer": name,
                            "state": "queued",
                            "created_at": tx.now,
                            "updated_at": tx.now,
                        },
                    )
            tx.record("priors", visits=len(visits))
        return planned

    @property
    def _actor(self) -> Actor:
        return Actor("priors", self.config.node.location_id)

    def _try(self, row: Row, now: datetime) -> int:
        if not is_due(row.attempts, row.updated_at, now):
            return 0
        with begin(self.db, self._actor, "priors.tried") as tx:
            if not claim(tx.conn, prior_fetch, row.id, row.updated_at, tx.now):
                return 0
            tx.record(f"priors:{row.id}")
        try:
            found, fetched = self._fetch(row)
        except BitewingError as error:
            state = "failed" if row.attempts + 1 >= _GIVE_UP_AFTER else "queued"
            self._close(row.id, state, 0, 0, str(error))
            return 0
        self._close(row.id, "done", found, fetched, "")
        return fetched

    def _fetch(self, row: Row) -> tuple[int, int]:
        peer = next((p for p in self.config.dicom.peers if p.name == row.peer), None)
        if peer is None or not peer.priors:
            raise Rejected(f"the archive {row.peer} is no longer asked for priors")
        demand_peer(self.db, self.config, peer.name, datetime.now(UTC))
        with read(self.db) as conn:
            person = conn.execute(
                sa.select(patient.c.pms_key, patient_identity)
                .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
                .where(patient.c.id == row.patient_id)
            ).one()
        found = find_studies(
            peer,
            self.config.dicom.ae_title,
            patient_id=person.pms_key,
            name_key=person.name_key,
            birth_date=person.birth_date,
            issuer=self.config.dicom.issuer_of_patient_id,
        )
        wanted = self._missing(found)[: self.config.dicom.priors_most]
        return len(found), sum(self._retrieve(peer, each) for each in wanted)

    def _missing(self, found: Sequence[PriorStudy]) -> list[PriorStudy]:
        """Leave out what is here; the newest first."""
        uids = [each.study_instance_uid for each in found]
        with read(self.db) as conn:
            here = set(
                conn.execute(
                    sa.select(study.c.study_instance_uid).where(
                        study.c.location_id == self.config.node.location_id,
                        study.c.study_instance_uid.in_(uids),
                    )
                ).scalars()
            )
        new = [each for each in found if each.study_instance_uid not in here]
        return sorted(new, key=lambda each: each.study_date, reverse=True)

    def _retrieve(self, peer: PeerSection, wanted: PriorStudy) -> int:
        began = datetime.now(UTC)
        try:
            return fetch_study(
                peer,
                self.config.dicom.ae_title,
                wanted.study_instance_uid,
                lambda event: keep_fetched(self.db, self.store, self.engine, self.config, event),
            )
        finally:
            with begin(self.db, self._actor, "priors.fetched") as tx:
                tx.conn.execute(
                    study.update()
                    .where(
                        study.c.location_id == tx.location_id,
                        study.c.study_instance_uid == wanted.study_instance_uid,
                        study.c.received_at >= began,
                    )
                    .values(is_prior=True)
                )
                tx.record(peer.name)

    def _close(self, row_id: str, state: str, found: int, fetched: int, error: str) -> None:
        with begin(self.db, self._actor, f"priors.{state}") as tx:
            tx.conn.execute(
                prior_fetch.update()
                .where(prior_fetch.c.id == row_id)
                .values(
                    state=state,
                    found=found,
                    fetched=fetched,
                    error=error[:255],
                    updated_at=tx.now,
                )
            )
            tx.record(f"priors:{row_id}", found=found, fetched=fetched)


def find_studies(
    peer: PeerSection,
    calling_ae: str,
    *,
    patient_id: str,
    name_key: str,
    birth_date: date | None,
    issuer: str = "",
) -> list[PriorStudy]:
    """Ask an archive for one patient's studies; only those that are surely theirs.

    A name or birth date that differs or is missing, there or here, leaves a study out, and so does
    another issuer of the patient ID. Raises Retryable when the archive is away, Rejected when it
    refuses the query.
    """
    if birth_date is None or not patient_id:
        return []
    assoc = associate(peer, calling_ae, [build_context(_FIND)])
    if not assoc.is_established:
        raise Rejected(f"{peer.ae_title} answers no queries")
    try:
        return [
            PriorStudy(str(ds.get("StudyInstanceUID", "")), str(ds.get("StudyDate", "") or ""))
            for ds in _answers(assoc, peer, patient_id)
            if str(ds.get("PatientID", "") or "").strip() == patient_id
            and dicom_name_key(str(ds.get("PatientName", "") or "")) == name_key
            and read_day(str(ds.get("PatientBirthDate", "") or "")) == birth_date
            and str(ds.get("IssuerOfPatientID", "") or "") in ("", issuer)
            and ds.get("StudyInstanceUID")
        ]
    finally:
        if assoc.is_established:
            assoc.release()


def _answers(assoc: Association, peer: PeerSection, patient_id: str) -> Iterator[Dataset]:
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.QueryRetrieveLevel = "STUDY"
    query.PatientID = patient_id
    for keyword in ("PatientName", "PatientBirthDate", "IssuerOfPatientID"):
        setattr(query, keyword, "")
    for keyword in ("StudyInstanceUID", "StudyDate"):
        setattr(query, keyword, "")
    return matches(assoc.send_c_find(query, _FIND), peer.ae_title)
