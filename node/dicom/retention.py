"""Giving up pixels that an archive keeps: when that is allowed, and doing it so that no crash lies.

In processor mode an image's file goes once its study is signed and every receipt is there (the
practice's system, the peers, the patient's open cases), and the archive has promised to keep it, by
a storage commitment that stands in our rows; or its sender is declared to be the archive, and says
at this moment that it holds it. A legal hold stops everything. The tombstone is committed before
the file goes. Findings, reviews, results, headers in the tables and the audit stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.config import Config, PeerSection
from node.db.agreements import demand_peer
from node.db.session import Actor, Tx, begin, read, upsert
from node.db.tables import (
    commitment,
    dicom_delivery,
    dicom_result,
    image_delivery,
    instance,
    instance_duplicate,
    pixel_purge,
    pms_command,
    review,
    study,
    workflow_case,
)
from node.dicom.commitment import CommitmentState, Role
from node.dicom.fetching import find_images
from node.dicom.frames import frame_count, samples_of
from node.dicom.holds import is_held
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile
from node.dicom.purged import GONE, PurgeState
from node.domain.study import StudyState
from node.errors import BitewingError, InvalidInput

_CHUNK = 200
#: Nothing of these workflows reads a picture, and they stay open for months.
_WITHOUT_PICTURES = ("recall", "recall_interval", "eligibility")
_CLOSED_CASES = ("done", "cancelled", "silent")
_SETTLED_WRITES = ("done", "withdrawn", "declined")
_SETTLED_DELIVERIES = ("done", "withdrawn")
_SETTLED_IMAGES = ("sent", "committed")
Row = sa.Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds one image instead of us, and how we know."""

    instance_id: str
    storage_key: str
    sop_instance_uid: str
    holder: str
    basis: str  # committed | declared
    transaction_uid: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one study stands: `reasons` keep its pixels here; without any they may go."""

    study_id: str
    reasons: tuple[str, ...]
    holdings: tuple[Holding, ...] = ()

    @property
    def may_go(self) -> bool:
        """Whether all of its pixels may be given up."""
        return not self.reasons and bool(self.holdings)


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did, or would do: studies and images given up, and why others stay."""

    studies: int
    images: int
    size_bytes: int
    kept: dict[str, int] = field(default_factory=dict)  # reason -> studies


@dataclass(frozen=True, slots=True)
class Retention:
    """The pixels of one location."""

    db: sa.Engine
    store: InstanceStore
    config: Config

    def run(self, now: datetime, *, is_dry: bool = False) -> Report:
        """Finish what was begun, then give up what may go; with `is_dry` only say what would.

        Outside processor mode nothing ever goes.
        """
        if not is_dry:
            self.resume()
        studies = images = size = 0
        kept: dict[str, int] = {}
        for standing in self.standings(now):
            if not standing.may_go:
                for reason in standing.reasons:
                    kept[reason] = kept.get(reason, 0) + 1
                continue
            if not is_dry and not self.purge(standing, now):
                continue
            studies += 1
            images += len(standing.holdings)
            size += self._size_of(standing)
        return Report(studies, images, size, dict(sorted(kept.items())))

    def standings(self, now: datetime) -> Iterator[Standing]:
        """Look at every study that has pixels here, the oldest first."""
        last: tuple[datetime, str] | None = None
        while True:
            with read(self.db) as conn:
                query = self._with_pixels().order_by(study.c.received_at, study.c.id).limit(_CHUNK)
                if last is not None:
                    query = query.where(sa.tuple_(study.c.received_at, study.c.id) > last)
                rows = conn.execute(query).all()
            for row in rows:
                with read(self.db) as conn:
                    standing = self._standing(conn, row, now)
                yield self._asked(standing, row)
            if len(rows) < _CHUNK:
                return
            last = (rows[-1].received_at, rows[-1].id)

    def purge(self, standing: Standing, now: datetime) -> bool:
        """Give up one study's pixels; False when something came between, or one is not readable."""
        if not standing.may_go:
            return False
        try:
            digests = {
                each.instance_id: pixel_digest(self.store.file(each.storage_key))
                for each in standing.holdings
            }
        except BitewingError:  # what cannot be read cannot be compared with what comes back
            return False
        with begin(self.db, self._actor, "pixels.purged") as tx:
            held = is_held(tx.conn, standing.study_id, locks=True)
            query = self._with_pixels().where(study.c.id == standing.study_id)
            row = tx.conn.execute(query).first()
            again = None if row is None or held else self._standing(tx.conn, row, now)
            if again is None or again.holdings != standing.holdings or again.reasons:
                tx.record(f"study:{standing.study_id}", images=0)
                return False
            for each in standing.holdings:
                _write_tombstone(tx, each, digests[each.instance_id])
            tx.record(
                f"study:{standing.study_id}",
                images=[each.instance_id for each in standing.holdings],
                holders=sorted({each.holder for each in standing.holdings}),
            )
        self.resume()
        return True

    def resume(self) -> int:
        """Remove the files whose tombstones stand; returns how many. Also after a crash."""
        with read(self.db) as conn:
            begun = conn.execute(
                sa.select(instance.c.study_id)
                .join(pixel_purge, pixel_purge.c.instance_id == instance.c.id)
                .where(
                    pixel_purge.c.location_id == self.config.node.location_id,
                    pixel_purge.c.state == PurgeState.PURGING.value,
                )
                .distinct()
            ).scalars()
            studies = list(begun)
        return sum(self._remove(study_id) for study_id in studies)

    @property
    def _actor(self) -> Actor:
        return Actor("retention", self.config.node.location_id)

    def _remove(self, study_id: str) -> int:
        with begin(self.db, self._actor, "pixels.removed") as tx:
            rows = tx.conn.execute(
                sa.select(instance.c.id, instance.c.storage_key)
                .join(pixel_purge, pixel_purge.c.instance_id == instance.c.id)
                .where(
                    instance.c.study_id == study_id,
                    pixel_purge.c.state == PurgeState.PURGING.value,
                )
            ).all()
            mine = pixel_purge.c.instance_id.in_([row.id for row in rows])
            if is_held(tx.conn, study_id, locks=True):  # a hold came in time for what lies here
                here = [row.id for row in rows if self.store.holds(row.storage_key)]
                tx.conn.execute(pixel_purge.delete().where(pixel_purge.c.instance_id.in_(here)))
                rows = [row for row in rows if row.id not in here]
                mine = pixel_purge.c.instance_id.in_([row.id for row in rows])
            for row in rows:
                self.store.discard(row.storage_key)
            tx.conn.execute(
                pixel_purge.update()
                .where(mine)
                .values(state=PurgeState.PURGED.value, removed_at=tx.now)
            )
            tx.record(f"study:{study_id}", images=len(rows))
        return len(rows)

    def _with_pixels(self) -> sa.Select[tuple[object, ...]]:
        gone = sa.select(pixel_purge.c.instance_id).where(pixel_purge.c.state.in_(GONE))
        here = sa.select(instance.c.study_id).where(
            instance.c.study_id == study.c.id,
            instance.c.rows.is_not(None),
            instance.c.id.not_in(gone),
        )
        return sa.select(study).where(
            study.c.location_id == self.config.node.location_id, here.exists()
        )

    def _standing(self, conn: sa.Connection, row: Row, now: datetime) -> Standing:
        """Judge one study by our rows alone."""
        study_id = str(row.id)
        reasons = list(self._reasons(conn, row, now))
        holdings: list[Holding] = []
        for image in conn.execute(_images_here(study_id)).all():
            found = self._holding(conn, image)
            if isinstance(found, str):
                reasons.append(found)
            else:
                holdings.append(found)
        return Standing(study_id, tuple(dict.fromkeys(reasons)), tuple(holdings))

    def _reasons(self, conn: sa.Connection, row: Row, now: datetime) -> Iterator[str]:
        if self.config.retention.mode != "processor":
            yield "this location keeps its pixels"
        if is_held(conn, str(row.id)):
            yield "legal hold"
        yield from self._age_reasons(conn, row, now)
        yield from _receipt_reasons(conn, str(row.id))
        if row.patient_id is not None and _has_open_case(conn, str(row.patient_id)):
            yield "a case of the patient is open"
        if not row.is_prior and row.routed_generation != row.generation:
            yield "not yet routed to other systems"

    def _age_reasons(self, conn: sa.Connection, row: Row, now: datetime) -> Iterator[str]:
        since = row.received_at
        if not row.is_prior:
            signed_at = conn.execute(
                sa.select(sa.func.max(review.c.signed_at)).where(review.c.study_id == row.id)
            ).scalar()
            if row.state != StudyState.SIGNED.value or signed_at is None:
                yield "not signed"
                return
            since = signed_at
        restored_at = conn.execute(
            sa.select(sa.func.max(pixel_purge.c.restored_at))
            .join(instance, instance.c.id == pixel_purge.c.instance_id)
            .where(instance.c.study_id == row.id)
        ).scalar()
        newest = max(each for each in (since, restored_at) if each is not None)
        if newest + timedelta(days=self.config.retention.pixels_days) > now:
            yield "younger than retention.pixels_days"

    def _holding(self, conn: sa.Connection, image: Row) -> Holding | str:
        """Find who holds an image; or the reason why nobody surely does."""
        beside = sa.select(instance_duplicate.c.id).where(
            instance_duplicate.c.instance_id == image.id
        )
        if conn.execute(beside.limit(1)).first() is not None:
            return "other bytes came under the same UID: a person must decide"
        key, uid = str(image.storage_key), str(image.sop_instance_uid)
        archive = self._declared(str(image.sender_ae_title))
        if archive is not None:
            return Holding(str(image.id), key, uid, archive.name, "declared")
        for peer in self._archives():
            transaction = _promise(conn, str(image.id), uid, peer.name)
            if transaction:
                return Holding(str(image.id), key, uid, peer.name, "committed", transaction)
        return "no archive has promised to keep every image"

    def _archives(self) -> list[PeerSection]:
        return [peer for peer in self.config.dicom.peers if peer.archive]

    def _declared(self, sender: str) -> PeerSection | None:
        if sender not in self.config.retention.declared_archives:
            return None
        return next((p for p in self.config.dicom.peers if p.ae_title.strip() == sender), None)

    def _asked(self, standing: Standing, row: Row) -> Standing:
        """Ask each declared archive whether it still holds the images; silence keeps them here."""
        declared = [each for each in standing.holdings if each.basis == "declared"]
        if standing.reasons or not declared:
            return standing
        held: set[str] = set()
        for name in sorted({each.holder for each in declared}):
            peer = next(p for p in self.config.dicom.peers if p.name == name)
            try:
                demand_peer(self.db, self.config, name, datetime.now(UTC))
                held |= find_images(peer, self.config.dicom.ae_title, str(row.study_instance_uid))
            except BitewingError as error:
                return Standing(standing.study_id, (f"{name} cannot be asked: {error}",))
        if all(each.sop_instance_uid in held for each in declared):
            return standing
        return Standing(standing.study_id, ("the declared archive does not hold every image",))

    def _size_of(self, standing: Standing) -> int:
        ids = [each.instance_id for each in standing.holdings]
        with read(self.db) as conn:
            query = sa.select(sa.func.sum(instance.c.size_bytes)).where(instance.c.id.in_(ids))
            return int(conn.execute(query).scalar() or 0)


def pixel_digest(file: ObjectFile) -> str:
    """Digest an image's frames as samples, so that another encoding of them is the same.

    Raises InvalidInput when it has none or they cannot be decoded, NotFound without a file.
    """
    frames = frame_count(file)
    if not frames:
        raise InvalidInput("the object holds no pixels")
    digest = hashlib.sha256(str(frames).encode())
    for number in range(1, frames + 1):
        digest.update(samples_of(file, number))
    return digest.hexdigest()


def _images_here(study_id: str) -> sa.Select[tuple[object, ...]]:
    gone = sa.select(pixel_purge.c.instance_id).where(pixel_purge.c.state.in_(GONE))
    return (
        sa.select(instance)
        .where(
            instance.c.study_id == study_id,
            instance.c.rows.is_not(None),
            instance.c.id.not_in(gone),
        )
        .order_by(instance.c.id)
    )


def _receipt_reasons(conn: sa.Connection, study_id: str) -> Iterator[str]:
    open_writes = sa.select(pms_command.c.id).where(
        pms_command.c.study_id == study_id, pms_command.c.state.not_in(_SETTLED_WRITES)
    )
    open_results = (
        sa.select(dicom_delivery.c.id)
        .join(dicom_result, dicom_result.c.id == dicom_delivery.c.result_id)
        .where(
            dicom_result.c.study_id == study_id, dicom_delivery.c.state.not_in(_SETTLED_DELIVERIES)
        )
    )
    open_images = (
        sa.select(image_delivery.c.id)
        .join(instance, instance.c.id == image_delivery.c.instance_id)
        .where(instance.c.study_id == study_id, image_delivery.c.state.not_in(_SETTLED_IMAGES))
    )
    for query, words in (
        (open_writes, "no receipt of the practice's system for every write"),
        (open_results, "a result is not yet with every peer"),
        (open_images, "an image is not yet with every peer"),
    ):
        if conn.execute(query.limit(1)).first() is not None:
            yield words


def _has_open_case(conn: sa.Connection, patient_id: str) -> bool:
    query = sa.select(workflow_case.c.id).where(
        workflow_case.c.patient_id == patient_id,
        workflow_case.c.state.not_in(_CLOSED_CASES),
        workflow_case.c.workflow.not_in(_WITHOUT_PICTURES),
    )
    return conn.execute(query.limit(1)).first() is not None


def _promise(conn: sa.Connection, instance_id: str, sop_instance_uid: str, peer: str) -> str:
    """Find the transaction in which an archive promised to keep one image; empty: none is kept."""
    committed_at = conn.execute(
        sa.select(image_delivery.c.updated_at).where(
            image_delivery.c.instance_id == instance_id,
            image_delivery.c.peer == peer,
            image_delivery.c.state == "committed",
        )
    ).scalar()
    if committed_at is None:
        return ""
    kept = conn.execute(
        sa.select(commitment.c.transaction_uid, commitment.c.objects, commitment.c.failures).where(
            commitment.c.role == Role.ASK.value,
            commitment.c.peer == peer,
            commitment.c.state == CommitmentState.DONE.value,
            commitment.c.updated_at == committed_at,  # written by one transaction
        )
    )
    for row in kept:
        if _names(row.objects, sop_instance_uid) and not _names(row.failures, sop_instance_uid):
            return str(row.transaction_uid)
    return ""


def _names(references: Sequence[Sequence[object]], sop_instance_uid: str) -> bool:
    return any(str(each[1]) == sop_instance_uid for each in references)


def _write_tombstone(tx: Tx, holding: Holding, pixel_sha256: str) -> None:
    values = {
        "instance_id": holding.instance_id,
        "location_id": tx.location_id,
        "state": PurgeState.PURGING.value,
        "holder": holding.holder,
        "basis": holding.basis,
        "transaction_uid": holding.transaction_uid,
        "pixel_sha256": pixel_sha256,
        "purged_at": tx.now,
        "removed_at": None,
    }
    upsert(tx.conn, pixel_purge, ("instance_id",), values)
