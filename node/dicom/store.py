"""C-STORE: keep the bytes, commit the rows, then say Success.

The data set is kept byte for byte as sent, behind a preamble of zeros and file meta information of
our own. Nothing about an image makes the node refuse it: a header that cannot be read is a reason
on the study, not a lost film.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import sqlalchemy as sa
from pydicom.uid import UID

from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import instance, instance_duplicate, study, study_identity
from node.dicom.header import Header, is_uid, parse_data_set
from node.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dicom.instances import InstanceStore, StoredObject
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import InstanceState, MatchState, StudyState, dicom_name_key
from node.engine import ANALYSIS, DurableEngine
from node.errors import InvalidInput, Outcome, Retryable, outcome

_LOG = logging.getLogger(__name__)

SUCCESS = 0x0000
#: PS3.4 Table B.2-1 offers three warnings. B000 says that we changed elements and B006 that we
#: dropped some; neither is true, both copies are kept whole. B007, "the data set does not match",
#: is the one that tells the sender to look at what it sent.
DOES_NOT_MATCH = 0xB007

#: What the audit calls the arrival of an object.
RECEIVED = "image.received"

_DERIVED = uuid.uuid5(uuid.NAMESPACE_URL, "https://bitewing.invalid/derived-study")


#: Built once: on the way of every image, building them cost more than running them.
_FIRST = sa.select(
    instance.c.id, instance.c.study_id, instance.c.sha256, instance.c.storage_key
).where(
    instance.c.location_id == sa.bindparam("location"),
    instance.c.sop_instance_uid == sa.bindparam("uid"),
)
_STUDY = (
    sa.select(
        study.c.id,
        study_identity.c.patient_name,
        study_identity.c.birth_date,
        study_identity.c.patient_id_text,
    )
    .join(study_identity, study_identity.c.study_id == study.c.id)
    .where(
        study.c.location_id == sa.bindparam("location"),
        study.c.study_instance_uid == sa.bindparam("uid"),
    )
)
_TOUCH = (
    study.update()
    .where(study.c.id == sa.bindparam("study"))
    .values(last_image_at=sa.bindparam("now"))
    .returning(study.c.state)
)


class Kept(Enum):
    """What became of one C-STORE."""

    STORED = "stored"
    SAME_AGAIN = "same_again"  # the bytes were here already; nothing was written
    BESIDE = "beside"  # other bytes under a known SOP Instance UID


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The answer to one C-STORE, given after everything is on the disk."""

    kept: Kept
    status: int
    instance_id: str
    study_id: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """One object as it came: the bytes and what the network said about them."""

    data: memoryview
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str

    def __post_init__(self) -> None:
        for uid in (self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid):
            if not is_uid(uid):
                raise InvalidInput("a UID of the C-STORE request is not a UID")

    @property
    def digest(self) -> str:
        """SHA-256 of the data set as sent."""
        return hashlib.sha256(self.data).hexdigest()


class Writable(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Append."""


class _Request(Protocol):
    AffectedSOPClassUID: UID
    AffectedSOPInstanceUID: UID
    DataSet: io.BytesIO | None


class _Requestor(Protocol):
    ae_title: str


class _Association(Protocol):
    requestor: _Requestor


class _Context(Protocol):
    transfer_syntax: UID


class StoreEvent(Protocol):
    """What pynetdicom hands to a C-STORE handler."""

    request: _Request
    assoc: _Association
    context: _Context


def on_c_store(
    event: StoreEvent,
    db: sa.Engine,
    store: InstanceStore,
    engine: DurableEngine,
    location_id: str,
    fallback_charset: str,
) -> int:
    """Answer one C-STORE request: the status, once everything is on the disk."""
    try:
        request = event.request
        if request.DataSet is None:
            raise InvalidInput("a C-STORE request without a data set")
        incoming = Incoming(
            request.DataSet.getbuffer(),
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            event.assoc.requestor.ae_title.strip()[:16],
        )
        return receive(
            db, store, engine, incoming, location_id=location_id, fallback_charset=fallback_charset
        ).status
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        return log_failure("C-STORE", error).store_status


def receive(
    db: sa.Engine,
    store: InstanceStore,
    engine: DurableEngine,
    incoming: Incoming,
    *,
    location_id: str,
    fallback_charset: str = "ISO_IR 100",
) -> StoreOutcome:
    """Keep one object: file, rows, event and analysis job; all of it or nothing.

    Raises
    ------
    Retryable
        The disk is full or the database is away; nothing is left behind.
    """
    place = Place(db, store, engine, location_id, fallback_charset)

    def put(object_id: str) -> StoredObject:
        store.require_room(incoming.data.nbytes)
        return store.put(
            location_id, f"{object_id}.dcm", lambda file: write_part_10(file, incoming), sha256
        )

    sha256 = incoming.digest
    return place.keep(incoming, sha256, put, new_id())


#: Runs a write in a transaction, alone or with others; returns once it is committed.
Transact = Callable[[Callable[[Tx], StoreOutcome]], StoreOutcome]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of one location are kept."""

    db: sa.Engine
    store: InstanceStore
    engine: DurableEngine
    location_id: str
    fallback_charset: str

    def keep(
        self,
        incoming: Incoming,
        sha256: str,
        put: Callable[[str], StoredObject],
        object_id: str,
        transact: Transact | None = None,
    ) -> StoreOutcome:
        """Keep one object: the file that `put` makes, and its rows; all of it or nothing.

        `put` is not called for bytes that are here already. Raises Retryable as :func:`receive`.
        """
        try:
            return self._keep(incoming, sha256, put, object_id, transact or self.alone)
        except sa.exc.OperationalError as error:  # reading; `begin` speaks for writing
            raise Retryable(f"the database is away ({type(error.orig).__name__})") from None

    def alone(self, work: Callable[[Tx], StoreOutcome]) -> StoreOutcome:
        """Write the rows of one object in a transaction of its own."""
        with begin(self.db, self.actor, RECEIVED) as tx:
            return work(tx)

    @property
    def actor(self) -> Actor:
        """Who writes what arrives here."""
        return Actor("dicom", self.location_id)

    def _keep(
        self,
        incoming: Incoming,
        sha256: str,
        put: Callable[[str], StoredObject],
        object_id: str,
        transact: Transact,
    ) -> StoreOutcome:
        with read(self.db) as conn:
            known = _known(conn, self.location_id, incoming.sop_instance_uid, sha256)
        if known is not None and self.store.holds(known.storage_key):
            return known.outcome
        header = parse_data_set(incoming.data, incoming.transfer_syntax_uid, self.fallback_charset)
        stored = put(object_id)

        def work(tx: Tx) -> StoreOutcome:
            arrival = _Arrival(tx, self.engine, incoming, header, stored, sha256, object_id)
            return arrival.insert() if known is None else arrival.restore(known)

        try:
            result = transact(work)
        except BaseException:
            _discard_if_unused(self.db, self.store, stored.storage_key)
            raise
        if (
            result.kept is Kept.SAME_AGAIN and known is None
        ):  # another association was faster with the same bytes
            self.store.discard(stored.storage_key)
        return result


def _discard_if_unused(db: sa.Engine, store: InstanceStore, storage_key: str) -> None:
    """Remove the file unless its row may be there: a commit can succeed and its answer be lost."""
    with contextlib.suppress(sa.exc.SQLAlchemyError, OSError), read(db) as conn:
        rows = sa.union_all(
            sa.select(instance.c.id).where(instance.c.storage_key == storage_key),
            sa.select(instance_duplicate.c.id).where(
                instance_duplicate.c.storage_key == storage_key
            ),
        )
        if conn.execute(rows).first() is None:
            store.discard(storage_key)


@dataclass(frozen=True, slots=True)
class _Known:
    """Bytes that were kept before: what to answer, and where they should be."""

    outcome: StoreOutcome
    storage_key: str


def _known(
    conn: sa.Connection, location_id: str, sop_instance_uid: str, sha256: str
) -> _Known | None:
    first = conn.execute(_FIRST, {"location": location_id, "uid": sop_instance_uid}).first()
    if first is None:
        return None
    if first.sha256 == sha256:
        same = StoreOutcome(Kept.SAME_AGAIN, SUCCESS, first.id, first.study_id)
        return _Known(same, first.storage_key)
    beside = conn.execute(
        sa.select(instance_duplicate.c.storage_key).where(
            instance_duplicate.c.instance_id == first.id, instance_duplicate.c.sha256 == sha256
        )
    ).first()
    if beside is None:
        return None
    same = StoreOutcome(Kept.SAME_AGAIN, DOES_NOT_MATCH, first.id, first.study_id)
    return _Known(same, beside.storage_key)


def write_part_10(file: Writable, incoming: Incoming) -> None:
    """Write the bytes behind a preamble of zeros and file meta information of our own."""
    # PS3.10 7.1: the preamble is zeros, so that a stored file is never anything but DICOM
    meta = b"".join(
        (
            b"\2\0\1\0OB\0\0\2\0\0\0\0\1",
            _meta_element(0x02, b"UI", incoming.sop_class_uid),
            _meta_element(0x03, b"UI", incoming.sop_instance_uid),
            _meta_element(0x10, b"UI", incoming.transfer_syntax_uid),
            _meta_element(0x12, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta_element(0x13, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    length = b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
    file.write(bytes(128) + b"DICM" + length + meta)
    file.write(incoming.data)


def _meta_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    tag = b"\2\0" + element.to_bytes(2, "little")
    return tag + vr + len(value).to_bytes(2, "little") + value


@dataclass(slots=True)
class _Arrival:
    """The rows of one object, inside its transaction."""

    tx: Tx
    engine: DurableEngine
    incoming: Incoming
    header: Header
    stored: StoredObject
    sha256: str
    object_id: str

    def insert(self) -> StoreOutcome:
        first = self._first_instance()
        if first is not None:
            return self._keep_beside(*first)
        study_id = self._study()
        if not insert_once(self.tx.conn, instance, self._instance_values(study_id)):
            raced = self._first_instance()  # PostgreSQL: a transaction beside this one won
            assert raced is not None
            return self._keep_beside(*raced)
        self._touch(study_id)
        self._announce(study_id)
        self.tx.record(self.object_id, kept=Kept.STORED.value, study=study_id)
        status = SUCCESS if self._is_what_it_says() else DOES_NOT_MATCH
        return StoreOutcome(Kept.STORED, status, self.object_id, study_id)

    def restore(self, known: _Known) -> StoreOutcome:
        """Put bytes back whose file was lost (a restored backup): Success must not be a lie."""
        for table in (instance, instance_duplicate):
            self.tx.conn.execute(
                table.update()
                .where(
                    table.c.location_id == self.tx.location_id,
                    table.c.storage_key == known.storage_key,
                )
                .values(storage_key=self.stored.storage_key)
            )
        self.tx.record(known.outcome.instance_id, kept="restored")
        return known.outcome

    def _first_instance(self) -> tuple[str, str, str] | None:
        row = self.tx.conn.execute(
            _FIRST, {"location": self.tx.location_id, "uid": self.incoming.sop_instance_uid}
        ).first()
        return None if row is None else (row.id, row.study_id, row.sha256)

    def _keep_beside(self, instance_id: str, study_id: str, sha256: str) -> StoreOutcome:
        if sha256 == self.sha256:
            self.tx.record(instance_id, kept=Kept.SAME_AGAIN.value)
            return StoreOutcome(Kept.SAME_AGAIN, SUCCESS, instance_id, study_id)
        values = {
            "id": self.object_id,
            "location_id": self.tx.location_id,
            "instance_id": instance_id,
            "sha256": self.sha256,
            "size_bytes": self.incoming.data.nbytes,
            "storage_key": self.stored.storage_key,
            "sender_ae_title": self.incoming.calling_ae,
            "received_at": self.tx.now,
        }
        if not insert_once(self.tx.conn, instance_duplicate, values):
            self.tx.record(instance_id, kept=Kept.SAME_AGAIN.value)
            return StoreOutcome(Kept.SAME_AGAIN, DOES_NOT_MATCH, instance_id, study_id)
        self.tx.append_event(
            EventKind.DUPLICATE_KEPT,
            instance_id,
            f"duplicate:{instance_id}:{self.sha256}",
            {"study_id": study_id, "duplicate_id": self.object_id},
        )
        self.tx.record(instance_id, kept=Kept.BESIDE.value, duplicate=self.object_id)
        return StoreOutcome(Kept.BESIDE, DOES_NOT_MATCH, instance_id, study_id)

    def _study(self) -> str:
        """Find or make the study; another patient under the same UID gets a study of its own."""
        uid = self.header.study_instance_uid or _derived_uid(self.incoming.sop_instance_uid)
        first = self._find_or_make_study(uid)
        if self._is_another_patient(first):
            key = (self._name_key(), self.header.birth_date, self.header.patient_id)
            first = self._find_or_make_study(_derived_uid("\0".join((uid, *key))))
        return str(first.id)

    def _find_or_make_study(self, uid: str) -> sa.Row[Any, Any, Any, Any]:
        found = self._find_study(uid)
        if found is None:
            self._insert_study(uid)
            found = self._find_study(uid)
            assert found is not None
        return found

    def _find_study(self, uid: str) -> sa.Row[Any, Any, Any, Any] | None:
        """Find a study with what its first image said of the patient."""
        return self.tx.conn.execute(_STUDY, {"location": self.tx.location_id, "uid": uid}).first()

    def _insert_study(self, uid: str) -> None:
        """Make the study unless it is there already."""
        header, tx, study_id = self.header, self.tx, new_id()
        if insert_once(
            tx.conn,
            study,
            {
                "id": study_id,
                "location_id": tx.location_id,
                "study_instance_uid": uid,
                # longer than SH allows: no accession number of ours, and nothing is cut short
                "accession_number": header.accession_number
                if len(header.accession_number) <= 16
                else "",
                "study_date": header.study_date,
                "state": StudyState.RECEIVING.value,
                "match_state": MatchState.PENDING.value,
                "match_reason": f"header unreadable: {header.problem}"[:255]
                if header.problem
                else "",
                "sender_ae_title": self.incoming.calling_ae,
                "received_at": tx.now,
                "last_image_at": tx.now,
            },
        ):
            tx.conn.execute(
                study_identity.insert().values(
                    study_id=study_id,
                    location_id=tx.location_id,
                    patient_name=header.patient_name,
                    patient_id_text=header.patient_id,
                    issuer_of_patient_id=header.issuer_of_patient_id,
                    birth_date=header.birth_date,
                    sex=header.sex,
                )
            )

    def _is_another_patient(self, first: sa.Row[Any, Any, Any, Any]) -> bool:
        """Whether the image contradicts the study's first image in name, birth date or ID.

        Study UIDs are reused for years by some sensor bridges; images of two people never mix.
        """
        pairs = (
            (dicom_name_key(first.patient_name), self._name_key()),
            (first.birth_date, self.header.birth_date),
            (first.patient_id_text.lstrip("0"), self.header.patient_id.lstrip("0")),
        )
        return any(a.strip("^") and b.strip("^") and a != b for a, b in pairs)

    def _name_key(self) -> str:
        return dicom_name_key(self.header.patient_name)

    def _instance_values(self, study_id: str) -> dict[str, object]:
        header, incoming = self.header, self.incoming
        return {
            "id": self.object_id,
            "location_id": self.tx.location_id,
            "study_id": study_id,
            "sop_instance_uid": incoming.sop_instance_uid,
            "sop_class_uid": incoming.sop_class_uid,
            "series_instance_uid": header.series_instance_uid,
            "transfer_syntax_uid": incoming.transfer_syntax_uid,
            "modality": header.modality,
            "instance_number": header.instance_number,
            "rows": header.rows,
            "columns": header.columns,
            "spacing_mm_row": header.spacing.mm_row if header.spacing.is_known else None,
            "spacing_mm_col": header.spacing.mm_col if header.spacing.is_known else None,
            "spacing_kind": header.spacing.kind,
            "sha256": self.sha256,
            "size_bytes": incoming.data.nbytes,
            "storage_key": self.stored.storage_key,
            "sender_ae_title": incoming.calling_ae,
            "state": InstanceState.RECEIVED.value,
            "failure": header.problem[:255],
            "received_at": self.tx.now,
        }

    def _touch(self, study_id: str) -> None:
        """Note the time of the last image; a study that was closed is received again."""
        state = self.tx.conn.execute(_TOUCH, {"study": study_id, "now": self.tx.now}).scalar_one()
        if state in (StudyState.COMPLETE, StudyState.READY, StudyState.SIGNED):
            self.tx.conn.execute(
                study.update()
                .where(study.c.id == study_id)
                .values(
                    state=StudyState.RECEIVING.value,
                    generation=study.c.generation + 1,
                    completed_at=None,
                )
            )
            generation = self.tx.conn.execute(
                sa.select(study.c.generation).where(study.c.id == study_id)
            ).scalar_one()
            self.tx.append_event(
                EventKind.STUDY_REOPENED,
                study_id,
                f"reopened:{study_id}:{generation}",
                {"generation": generation},
            )

    def _announce(self, study_id: str) -> None:
        instance_id = self.object_id
        self.tx.append_event(
            EventKind.IMAGE_STORED, instance_id, f"stored:{instance_id}", {"study_id": study_id}
        )
        self.engine.enqueue(
            self.tx.conn,
            ANALYSIS,
            jobs.ANALYSE_IMAGE,
            jobs.analyse_key(instance_id),
            instance_id,
        )

    def _is_what_it_says(self) -> bool:
        """Whether the data set carries the UIDs that the request announced."""
        header, incoming = self.header, self.incoming
        return header.sop_instance_uid in ("", incoming.sop_instance_uid) and (
            header.sop_class_uid in ("", incoming.sop_class_uid)
        )


def _derived_uid(seed: str) -> str:
    """Make a stable UID from text (PS3.5 B.2: 2.25 and a UUID as one decimal number)."""
    return f"2.25.{uuid.uuid5(_DERIVED, seed).int}"


def log_failure(service: str, error: BaseException) -> Outcome:
    """Log a failed request under an error id, without anything that was sent; map it."""
    mapped = outcome(error)
    error_id = new_id()[:8]
    where = "".join(traceback.format_tb(error.__traceback__)[-2:])
    if mapped.exit_code == 70:
        _LOG.error("%s failed, error %s: %s\n%s", service, error_id, type(error).__name__, where)
    else:  # our own words, which never carry patient data
        _LOG.warning("%s refused, error %s: %s", service, error_id, error)
    return mapped
