"""What a workflow may see: its declared kinds of record and modules, of one location, read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.db.tables import appointment, instance, patient, patient_identity, review, study
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile
from node.domain.review import SignedReview
from node.domain.study import MatchState
from node.errors import Forbidden, NotFound
from orchestration.messengers.contacts import Reached, reach
from orchestration.workflow import Module, Workflow
from pms_writeback.record_rows import read_records
from pms_writeback.records import PmsRecord, RecordKind


@dataclass(frozen=True, slots=True)
class Person:
    """A patient as our tables know them."""

    id: str
    pms_key: str
    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    birth_date: date | None = field(repr=False)
    sex: str


@dataclass(frozen=True, slots=True)
class Visit:
    """One appointment; `starts_at` is aware UTC."""

    id: str
    pms_key: str
    patient_id: str
    starts_at: datetime
    minutes: int
    status: str
    provider_key: str
    operatory_key: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Reads for one workflow; whatever its header does not declare is refused (Forbidden).

    `patient_id` restricts every read to one patient; a hook or a daily sweep has none and names
    the patient, or reads those of everybody.
    """

    db: sa.Engine
    config: Config
    store: InstanceStore
    workflow: Workflow
    now: datetime
    patient_id: str | None = None

    @property
    def location_id(self) -> str:
        """The location whose data this is."""
        return self.config.node.location_id

    @property
    def zone(self) -> ZoneInfo:
        """The practice's time zone."""
        return self.config.zone

    @property
    def today(self) -> date:
        """The practice's day at `now`."""
        return self.now.astimezone(self.zone).date()

    def records(self, kind: RecordKind, patient_id: str | None = None) -> list[PmsRecord]:
        """Read living PMS records: of the case's patient, of the one named, or of everybody."""
        self._demand(kind)
        whose = self._whose(patient_id)
        with read(self.db) as conn:
            key = None if whose is None else _pms_key(conn, self.location_id, whose)
            return read_records(conn, self.location_id, kind, key)

    def office_records(self, kind: RecordKind, key: str | None = None) -> list[PmsRecord]:
        """Read records that belong to the office, such as carriers and laboratories."""
        self._demand(kind)
        with read(self.db) as conn:
            return [
                record
                for record in read_records(conn, self.location_id, kind, key=key)
                if not record.patient_key
            ]

    def person(self, patient_id: str | None = None) -> Person:
        """Read who a patient is.

        Raises
        ------
        NotFound
            There is no such patient at this location, or none was named.
        """
        self._demand(Module.IDENTITY)
        whose = self._whose(patient_id)
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(patient.c.id, patient.c.pms_key, patient_identity)
                .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
                .where(patient.c.id == whose, patient.c.location_id == self.location_id)
            ).first()
        if row is None:
            raise NotFound("no such patient at this location")
        return Person(row.id, row.pms_key, row.family_name, row.given_name, row.birth_date, row.sex)

    def reached(self, patient_id: str | None = None) -> Reached | None:
        """Read how a patient is reached today; None when there is no such patient here."""
        self._demand(Module.CONTACT)
        with read(self.db) as conn:
            return reach(conn, self.location_id, self._whose(patient_id) or "", self.today)

    def pms_key(self, patient_id: str | None = None) -> str:
        """Read the key under which the PMS knows a patient."""
        with read(self.db) as conn:
            return _pms_key(conn, self.location_id, self._whose(patient_id) or "")

    def patient_of(self, pms_key: str) -> str | None:
        """Find our id of a patient whom the PMS knows under a key; None when it is not synced."""
        with read(self.db) as conn:
            return conn.execute(
                sa.select(patient.c.id).where(
                    patient.c.location_id == self.location_id,
                    patient.c.pms_key == pms_key,
                    patient.c.tombstoned_at.is_(None),
                )
            ).scalar()

    def visits(
        self, since: datetime, until: datetime, patient_id: str | None = None
    ) -> list[Visit]:
        """Read appointments that start in a span, earliest first; removed ones are left out."""
        self._demand(Module.APPOINTMENTS)
        whose = self._whose(patient_id)
        columns = appointment.c
        query = sa.select(appointment).where(
            columns.location_id == self.location_id,
            columns.start_at >= since,
            columns.start_at < until,
            columns.tombstoned_at.is_(None),
        )
        if whose is not None:
            query = query.where(columns.patient_id == whose)
        with read(self.db) as conn:
            rows = conn.execute(query.order_by(columns.start_at)).all()
        return [_visit(row) for row in rows]

    def visit(self, pms_key: str) -> Visit | None:
        """Read one appointment of the case's patient, whatever became of it.

        The status of one that was removed in the PMS is ``deleted``; None when we never saw it.
        """
        self._demand(Module.APPOINTMENTS)
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(appointment).where(
                    appointment.c.location_id == self.location_id,
                    appointment.c.pms_key == pms_key,
                    appointment.c.patient_id == self._whose(None),
                )
            ).first()
        if row is None:
            return None
        found = _visit(row)
        return found if row.tombstoned_at is None else replace(found, status="deleted")

    def reviews(self, patient_id: str | None = None) -> list[SignedReview]:
        """Read the latest signed review of every study that is certainly the patient's."""
        self._demand(Module.REVIEWS)
        certain = [state.value for state in MatchState if state.is_certain]
        latest = (
            sa.select(review.c.study_id, sa.func.max(review.c.version).label("version"))
            .group_by(review.c.study_id)
            .subquery()
        )
        query = (
            sa.select(review.c.content)
            .join(latest, sa.and_(
                latest.c.study_id == review.c.study_id, latest.c.version == review.c.version
            ))
            .join(study, study.c.id == review.c.study_id)
            .where(
                study.c.location_id == self.location_id,
                study.c.patient_id == self._whose(patient_id),
                study.c.match_state.in_(certain),
            )
            .order_by(review.c.signed_at)
        )  # fmt: skip
        with read(self.db) as conn:
            contents = conn.execute(query).scalars().all()
        return [SignedReview.from_json(content) for content in contents]

    def review(self, study_id: str) -> SignedReview | None:
        """Read the latest signed review of one study; None when it is unsigned."""
        self._demand(Module.REVIEWS)
        with read(self.db) as conn:
            content = conn.execute(
                sa.select(review.c.content)
                .where(review.c.location_id == self.location_id, review.c.study_id == study_id)
                .order_by(review.c.version.desc())
                .limit(1)
            ).scalar()
        return None if content is None else SignedReview.from_json(content)

    def patient_of_study(self, study_id: str) -> str | None:
        """Find whose study it is; None unless that is certain."""
        certain = [state.value for state in MatchState if state.is_certain]
        with read(self.db) as conn:
            return conn.execute(
                sa.select(study.c.patient_id).where(
                    study.c.id == study_id,
                    study.c.location_id == self.location_id,
                    study.c.match_state.in_(certain),
                )
            ).scalar()

    def images(self, image_ids: Sequence[str]) -> list[tuple[str, ObjectFile]]:
        """Find the stored files of readable images, in the order asked for."""
        self._demand(Module.IMAGES)
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(instance.c.id, instance.c.storage_key).where(
                    instance.c.location_id == self.location_id,
                    instance.c.id.in_(list(image_ids)),
                    instance.c.rows.is_not(None),
                )
            )
            keys = {row.id: row.storage_key for row in rows}
        return [(each, self.store.file(keys[each])) for each in image_ids if each in keys]

    def demand(self, *what: RecordKind | Module) -> None:
        """Refuse what the workflow's header does not declare (Forbidden)."""
        for each in what:
            self._demand(each)

    def whose(self, patient_id: str | None = None) -> str:
        """Name the one patient a read is about: the case's, or to a hook the one it names.

        Raises Forbidden for another patient than the case's, NotFound when there is none.
        """
        whose = self._whose(patient_id)
        if whose is None:
            raise NotFound("no patient was named")
        return whose

    def _demand(self, what: RecordKind | Module) -> None:
        if what not in self.workflow.reads:
            raise Forbidden(f"the workflow {self.workflow.name} does not declare {what.value}")

    def _whose(self, patient_id: str | None) -> str | None:
        if self.patient_id is None or patient_id in (None, self.patient_id):
            return patient_id or self.patient_id
        raise Forbidden(f"a case of {self.workflow.name} asked for another patient")


def _visit(row: sa.Row) -> Visit:  # type: ignore[type-arg]  # generic over its columns
    return Visit(
        row.id, row.pms_key, row.patient_id, row.start_at, row.duration_min,
        row.status, row.provider_key, row.operatory_key,
    )  # fmt: skip


def _pms_key(conn: sa.Connection, location_id: str, patient_id: str) -> str:
    key = conn.execute(
        sa.select(patient.c.pms_key).where(
            patient.c.id == patient_id, patient.c.location_id == location_id
        )
    ).scalar()
    if key is None:
        raise NotFound("no such patient at this location")
    return str(key)
