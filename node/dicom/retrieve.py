"""The DIMSE edge of what is stored here: Study Root C-FIND, C-MOVE and C-GET as SCP.

Objects go out as they were received, in the transfer syntax they were received in; who takes only
others gets a failed sub-operation, never a conversion. C-MOVE sends to the peers of the
configuration and to nobody else; to one outside the office only with an agreement, and no picture
that may name its patient.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext

from node.config import Config
from node.db.agreements import demand_peer
from node.db.session import Actor, read
from node.db.tables import dicom_result, instance
from node.dicom import archive, burned_in, matching
from node.dicom.access import Access, Service
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.held import Held, find_held
from node.dicom.instances import InstanceStore
from node.dicom.object_file import read_dataset
from node.dicom.peers import MAX_CONTEXTS, number_of, tls_of, user_items
from node.dicom.purged import demand_present
from node.dicom.query import Query, parse_query
from node.dicom.reads import note_retrieval, note_search
from node.dicom.store import log_failure
from node.dicom.transport import user_of
from node.errors import InvalidInput, Rejected, Retryable

PENDING = 0xFF00
PENDING_UNSUPPORTED = 0xFF01
CANCEL = 0xFE00
OUT_OF_RESOURCES = 0xA700
_MAX_ANSWERS = 10_000

Answer = tuple[int, Dataset | None]


def _load(held: Held) -> Dataset:
    """Read the file; of one that cannot be read only the UID comes back, which fails."""
    try:
        return read_dataset(held.path)
    except DAMAGE_ERRORS:
        ds = Dataset()
        ds.SOPInstanceUID = held.sop_instance_uid
        return ds


class _Request(Protocol):
    Identifier: io.BytesIO | None
    MoveDestination: str


class _Requestor(Protocol):
    ae_title: str
    address: str | None
    user_identity: UserIdentityNegotiation | None


class _Association(Protocol):
    requestor: _Requestor


class _Context(Protocol):
    transfer_syntax: UID


class RetrieveEvent(Protocol):
    """What pynetdicom hands to a C-FIND, C-MOVE or C-GET handler."""

    request: _Request
    assoc: _Association
    context: _Context

    @property
    def is_cancelled(self) -> bool:
        """Whether the peer sent C-CANCEL for this request."""


def on_study_find(
    event: RetrieveEvent, db: sa.Engine, store: InstanceStore, config: Config
) -> Iterator[Answer]:
    """Answer one query: a pending status and a data set for each match."""
    try:
        query, syntax = _query(event, config), UID(event.context.transfer_syntax)
        level = archive.level_of(query)
        status = PENDING if archive.is_fully_supported(query, level) else PENDING_UNSUPPORTED
        encoding = (syntax.is_implicit_VR, syntax.is_little_endian)
        with read(db) as conn:
            matches = _archive(event, conn, store, config).find(query, level)
            found = list(islice(matches, _MAX_ANSWERS + 1))
        uids = [each.values[archive.STUDY_UID] for each in found[:_MAX_ANSWERS]]
        caller = _caller(event)
        note_search(db, _actor(config), "archive.queried", level.value, uids, peer=caller)
        for count, each in enumerate(found):
            if event.is_cancelled:
                yield CANCEL, None
                return
            if count == _MAX_ANSWERS:
                yield OUT_OF_RESOURCES, None
                return
            yield status, archive.answer(query, each, *encoding)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        yield log_failure("C-FIND", _known(error)).find_status, None


def on_c_move(
    event: RetrieveEvent, db: sa.Engine, store: InstanceStore, config: Config
) -> Iterator[object]:
    """Send what is asked for to a configured peer: its address, how many, then each object."""
    title = str(event.request.MoveDestination).strip()
    peer = next((p for p in config.dicom.peers if p.ae_title.strip() == title), None)
    if peer is None:
        yield None, None
        return
    try:
        demand_peer(db, config, peer.name, datetime.now(UTC))
        objects = _held(event, db, store, config)
        if peer.is_outside:
            _demand_nameless(db, config.node.location_id, objects)
        number = number_of(peer)
        caller = _caller(event)
        note_retrieval(db, _actor(config), "archive.moved", objects, peer=caller, to=peer.name)
    except Exception as error:
        log_failure("C-MOVE", _known(error))
        raise
    kwargs = {
        "ae_title": peer.ae_title,
        "contexts": _contexts(objects),
        "ext_neg": list(user_items(peer)),
        "tls_args": tls_of(peer),
    }
    yield number, peer.port, kwargs
    yield len(objects)
    yield from _objects(event, objects)


def on_c_get(
    event: RetrieveEvent, db: sa.Engine, store: InstanceStore, config: Config
) -> Iterator[object]:
    """Send what is asked for on the peer's own association: how many, then each object."""
    try:
        objects = _held(event, db, store, config)
        note_retrieval(db, _actor(config), "archive.retrieved", objects, peer=_caller(event))
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        yield 1
        yield log_failure("C-GET", _known(error)).find_status, None
        return
    yield len(objects)
    yield from _objects(event, objects)


def _objects(event: RetrieveEvent, objects: Sequence[Held]) -> Iterator[Answer]:
    for item in objects:
        if event.is_cancelled:
            yield CANCEL, None
            return
        yield PENDING, _load(item)


def _held(event: RetrieveEvent, db: sa.Engine, store: InstanceStore, config: Config) -> list[Held]:
    """Find the objects of a request. Raises InvalidInput when it names no study."""
    query = _query(event, config)
    level = archive.level_of(query)
    wanted = {
        archive.Level.STUDY: (archive.STUDY_UID,),
        archive.Level.SERIES: (archive.STUDY_UID, archive.SERIES_UID),
        archive.Level.IMAGE: (archive.STUDY_UID, archive.SERIES_UID, archive.IMAGE_UID),
    }[level]
    uids = {tag: matching.plain_values(query.keys.texts.get(tag, "")) for tag in wanted}
    # PS3.4 C.4.2.2.1: unique keys, single value or list of UIDs; series may be left out (seen)
    if not uids[wanted[-1]]:
        raise InvalidInput("the request names no object of its level")
    with read(db) as conn:
        found = find_held(
            conn,
            store,
            config.node.location_id,
            studies=uids[archive.STUDY_UID],
            series=uids.get(archive.SERIES_UID, ()),
            instances=uids.get(archive.IMAGE_UID, ()),
            with_results=_sees_results(event, config),
        )
    demand_present(db, _actor(config), found)
    return found


def _demand_nameless(db: sa.Engine, location_id: str, objects: Sequence[Held]) -> None:
    """Refuse (Rejected) to let pictures leave the house while one may name its patient."""
    uids = [item.sop_instance_uid for item in objects]
    pictures = sa.select(instance.c.id).where(
        instance.c.location_id == location_id, instance.c.sop_instance_uid.in_(uids)
    )
    copies = sa.select(dicom_result.c.instance_id).where(
        dicom_result.c.location_id == location_id,
        dicom_result.c.sop_instance_uid.in_(uids),
        dicom_result.c.kind == "SC",
        dicom_result.c.instance_id.is_not(None),
    )
    with read(db) as conn:
        if burned_in.doubted(conn, list(conn.execute(pictures.union(copies)).scalars())):
            raise Rejected(burned_in.DOUBT)


def _contexts(objects: Sequence[Held]) -> list[PresentationContext]:
    pairs = dict.fromkeys((item.sop_class_uid, item.transfer_syntax_uid) for item in objects)
    return [build_context(*pair) for pair in list(pairs)[:MAX_CONTEXTS]]


def _query(event: RetrieveEvent, config: Config) -> Query:
    if event.request.Identifier is None:
        raise InvalidInput("a request without an identifier")
    data, syntax = event.request.Identifier.getvalue(), str(event.context.transfer_syntax)
    return parse_query(data, syntax, config.dicom.fallback_charset)


def _archive(
    event: RetrieveEvent, conn: sa.Connection, store: InstanceStore, config: Config
) -> archive.Archive:
    dicom = config.dicom
    return archive.Archive(
        conn,
        store,
        config.node.location_id,
        dicom.ae_title,
        dicom.fallback_charset,
        _sees_results(event, config),
    )


def _sees_results(event: RetrieveEvent, config: Config) -> bool:
    """Whether a peer is granted what dentists signed, besides what was received."""
    peer = event.assoc.requestor
    granted = Access(config.dicom.clients).services(
        peer.ae_title.strip(), peer.address or "", user_of(peer.user_identity)
    )
    return Service.RESULTS in granted


def _known(error: Exception) -> Exception:
    """Tell a database that is away from a bug of ours."""
    if isinstance(error, sa.exc.OperationalError):
        return Retryable(f"the database is away ({type(error.orig).__name__})")
    return error


def _actor(config: Config) -> Actor:
    return Actor("dicom", config.node.location_id)


def _caller(event: RetrieveEvent) -> str:
    return event.assoc.requestor.ae_title.strip()
