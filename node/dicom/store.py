"""C-STORE: keep the bytes, commit the rows, then say Success.

Nothing about an image makes the node refuse it: a header that cannot be read is a reason on the
study, not a lost film.
"""

from __future__ import annotations

import io
import logging
import traceback
from typing import Protocol

import sqlalchemy as sa
from pydicom.uid import UID

from node.db.session import new_id
from node.dicom.arrival import Arrived
from node.dicom.header import parse_data_set
from node.dicom.incoming import Incoming, write_part_10
from node.dicom.instances import InstanceStore
from node.dicom.kept import DOES_NOT_MATCH, SUCCESS, Kept, StoreOutcome
from node.dicom.place import Place
from node.engine import DurableEngine
from node.errors import InvalidInput, Outcome, outcome

__all__ = [
    "DOES_NOT_MATCH",
    "SUCCESS",
    "Incoming",
    "Kept",
    "Place",
    "StoreEvent",
    "StoreOutcome",
    "log_failure",
    "on_c_store",
    "receive",
    "write_part_10",
]

_LOG = logging.getLogger(__name__)


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
    arrived = Arrived(
        new_id(),
        incoming.sop_class_uid,
        incoming.sop_instance_uid,
        incoming.transfer_syntax_uid,
        incoming.calling_ae,
        parse_data_set(incoming.data, incoming.transfer_syntax_uid, fallback_charset),
        incoming.digest,
        incoming.data.nbytes,
    )

    def put() -> str:
        store.require_room(incoming.data.nbytes)
        return store.put(
            location_id,
            f"{arrived.object_id}.dcm",
            lambda file: write_part_10(file, incoming),
            arrived.sha256,
        ).storage_key

    return Place(db, store, engine, location_id, fallback_charset).keep(arrived, put)


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
