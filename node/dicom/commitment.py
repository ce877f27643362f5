"""Storage commitment: promises given to senders and asked of archives (PS3.4 J).

A promise is given only where this node is meant to keep images for good: to the senders of
``dicom.archive_senders``, or once an archive behind us has promised itself. Requests and answers
are rows; what is due is sent by :mod:`node.dicom.commitment_report`, again and again until the
other side has it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, new_id
from node.db.tables import commitment, image_delivery, instance
from node.dicom.instances import InstanceStore
from node.dicom.purged import find_purged
from node.dicom.query import Keys, parse_query
from node.dicom.store import log_failure
from node.dicom.uid import is_uid
from node.domain.study import InstanceState
from node.errors import InvalidInput, Retryable

COMMITMENT_CLASS = "1.2.840.10008.1.20.1"
#: The well-known SOP instance of the push model (PS3.4 J.3.5).
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
ALL_COMMITTED = 1
SOME_FAILED = 2

SUCCESS = 0x0000
FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
CLASS_CONFLICT = 0x0119
NO_SUCH_ACTION = 0x0123
RESOURCES = 0x0213

_TRANSACTION = 0x00081195
_OBJECTS = 0x00081199
_FAILED = 0x00081198
_CLASS = 0x00081150
_INSTANCE = 0x00081155
_REASON = 0x00081197

_JUDGED = ("id", "study_id", "sop_class_uid", "storage_key")
Reference = tuple[str, str]  # SOP class, SOP instance


class Role(StrEnum):
    """Which side of a commitment we are."""

    ANSWER = "answer"  # a sender asked us
    ASK = "ask"  # we asked an archive


class CommitmentState(StrEnum):
    """Where one transaction stands."""

    QUEUED = "queued"  # to be answered, or to be asked
    ASKED = "asked"  # the archive has the request
    DONE = "done"  # the answer was delivered, or came
    LAPSED = "lapsed"  # given up: nobody took the answer, or none came


@dataclass(frozen=True, slots=True)
class Judgement:
    """What we can say of the objects of a request; nothing while ``is_waiting``."""

    held: tuple[Reference, ...] = ()
    failed: tuple[tuple[str, str, int], ...] = ()
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """An N-EVENT-REPORT as it came."""

    transaction_uid: str
    held: tuple[Reference, ...]
    failed: tuple[tuple[str, str, int], ...] = field(default=())


def request(db: sa.Engine, config: Config, calling_ae: str, keys: Keys) -> None:
    """Write down what a sender asks for; the same transaction again is answered again.

    Raises InvalidInput when it names no transaction or no object.
    """
    transaction = keys.texts.get(_TRANSACTION, "").strip()
    objects = _references(keys.sequences.get(_OBJECTS, ()))
    if not is_uid(transaction) or not objects:
        raise InvalidInput("a commitment request without a transaction or without objects")
    with begin(db, Actor("dicom", config.node.location_id), "commitment.requested") as tx:
        values = _row(tx, Role.ANSWER, calling_ae, transaction, objects)
        if not insert_once(tx.conn, commitment, values):
            tx.conn.execute(
                commitment.update()
                .where(
                    commitment.c.location_id == tx.location_id,
                    commitment.c.role == Role.ANSWER.value,
                    commitment.c.peer == calling_ae,
                    commitment.c.transaction_uid == transaction,
                )
                .values(
                    state=CommitmentState.QUEUED.value,
                    objects=values["objects"],
                    attempts=0,
                    updated_at=tx.now,
                )
            )
        tx.record(f"commitment:{transaction}", objects=len(objects))


def ask(tx: Tx, archive: str, transaction_uid: str, objects: Sequence[Reference]) -> None:
    """Write down that an archive is to be asked for these objects."""
    insert_once(tx.conn, commitment, _row(tx, Role.ASK, archive, transaction_uid, objects))


def asked_for(conn: sa.Connection, location_id: str, archive: str) -> set[str]:
    """Return the objects about which an archive is being asked, by SOP Instance UID."""
    rows = conn.execute(
        sa.select(commitment.c.objects).where(
            commitment.c.location_id == location_id,
            commitment.c.role == Role.ASK.value,
            commitment.c.peer == archive,
            commitment.c.state.in_([CommitmentState.QUEUED.value, CommitmentState.ASKED.value]),
        )
    ).scalars()
    return {str(pair[1]) for objects in rows for pair in objects}


def _row(
    tx: Tx, role: Role, peer: str, transaction_uid: str, objects: Iterable[Reference]
) -> dict[str, object]:
    return {
        "id": new_id(),
        "location_id": tx.location_id,
        "role": role.value,
        "peer": peer,
        "transaction_uid": transaction_uid,
        "state": CommitmentState.QUEUED.value,
        "objects": [list(reference) for reference in objects],
        "failures": [],
        "created_at": tx.now,
        "updated_at": tx.now,
    }


def judge(
    conn: sa.Connection,
    store: InstanceStore,
    config: Config,
    sender: str,
    objects: Sequence[Reference],
) -> Judgement:
    """Say which objects are safe: durably here for an archive sender, else at every archive."""
    archives = [peer.name for peer in config.dicom.peers if peer.archive]
    is_archive = bool({sender, "*"} & set(config.dicom.archive_senders))
    held: list[Reference] = []
    failed: list[tuple[str, str, int]] = []
    for sop_class, uid in objects:
        row = conn.execute(
            sa.select(*(instance.c[name] for name in _JUDGED)).where(
                instance.c.location_id == config.node.location_id,
                instance.c.sop_instance_uid == uid,
                instance.c.state != InstanceState.REJECTED.value,
            )
        ).first()
        is_away = row is not None and row.id in find_purged(conn, [row.study_id])
        if row is None or not (is_away or store.holds(row.storage_key)):
            failed.append((sop_class, uid, NO_SUCH_INSTANCE))
        elif row.sop_class_uid != sop_class:
            failed.append((sop_class, uid, CLASS_CONFLICT))
        elif is_archive:
            held.append((sop_class, uid))
        else:
            states = _archived(conn, row.id, archives)
            if not archives or "failed" in states:
                failed.append((sop_class, uid, FAILURE))  # held, but not promised
            elif states == ["committed"] * len(archives):
                held.append((sop_class, uid))
            else:
                return Judgement(is_waiting=True)
    return Judgement(tuple(held), tuple(failed))


def _archived(conn: sa.Connection, instance_id: str, archives: Sequence[str]) -> list[str]:
    return list(
        conn.execute(
            sa.select(image_delivery.c.state).where(
                image_delivery.c.instance_id == instance_id, image_delivery.c.peer.in_(archives)
            )
        ).scalars()
    )


def take_report(db: sa.Engine, config: Config, report: Report) -> bool:
    """Write down what an archive promised; False when we never asked for that transaction.

    Running it again has no further effect.
    """
    with begin(db, Actor("dicom", config.node.location_id), "commitment.reported") as tx:
        row = tx.conn.execute(
            sa.select(commitment).where(
                commitment.c.location_id == tx.location_id,
                commitment.c.role == Role.ASK.value,
                commitment.c.transaction_uid == report.transaction_uid,
            )
        ).first()
        if row is None:
            return False
        asked = {uid for _, uid in row.objects}
        for uids, values in (
            ({uid for _, uid in report.held} & asked, {"state": "committed", "error": ""}),
            (
                {uid for _, uid, _ in report.failed} & asked,
                {"state": "queued", "error": "the archive does not vouch for it; sent again"},
            ),
        ):
            mine = sa.select(instance.c.id).where(
                instance.c.location_id == tx.location_id, instance.c.sop_instance_uid.in_(uids)
            )
            tx.conn.execute(
                image_delivery.update()
                .where(
                    image_delivery.c.peer == row.peer,
                    image_delivery.c.instance_id.in_(mine),
                    image_delivery.c.state.in_(["sent", "asked"]),
                )
                .values(**values, attempts=image_delivery.c.attempts + 1, updated_at=tx.now)
            )
        tx.conn.execute(
            commitment.update()
            .where(commitment.c.id == row.id)
            .values(
                state=CommitmentState.DONE.value,
                failures=[list(failure) for failure in report.failed],
                updated_at=tx.now,
            )
        )
        tx.record(f"commitment:{row.id}", committed=len(report.held), failed=len(report.failed))
    return True


def event_information(transaction_uid: str, judged: Judgement) -> Dataset:
    """Compose what an N-EVENT-REPORT says (PS3.4 Table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    if judged.held:
        ds.ReferencedSOPSequence = [_item(*reference) for reference in judged.held]
    if judged.failed:
        ds.FailedSOPSequence = [_item(*failure) for failure in judged.failed]
    return ds


def action_information(transaction_uid: str, objects: Iterable[Reference]) -> Dataset:
    """Compose what an N-ACTION asks for (PS3.4 Table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_item(*reference) for reference in objects]
    return ds


def _item(sop_class: str, uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        item.FailureReason = reason
    return item


def _references(items: Iterable[Keys]) -> list[Reference]:
    found = (
        (item.texts.get(_CLASS, "").strip(), item.texts.get(_INSTANCE, "").strip())
        for item in items
    )
    return list(dict.fromkeys(pair for pair in found if is_uid(pair[0]) and is_uid(pair[1])))


class _Request(Protocol):
    RequestedSOPInstanceUID: UID | None
    ActionTypeID: int | None
    ActionInformation: io.BytesIO | None
    EventInformation: io.BytesIO | None


class _Requestor(Protocol):
    ae_title: str


class _Association(Protocol):
    requestor: _Requestor


class _Context(Protocol):
    transfer_syntax: UID


class CommitmentEvent(Protocol):
    """What pynetdicom hands to an N-ACTION or N-EVENT-REPORT handler."""

    request: _Request
    assoc: _Association
    context: _Context


def on_n_action(event: CommitmentEvent, db: sa.Engine, config: Config) -> tuple[int, None]:
    """Take one request; the report follows."""
    if event.request.ActionTypeID != 1:
        return NO_SUCH_ACTION, None
    if event.request.RequestedSOPInstanceUID != COMMITMENT_INSTANCE:
        return NO_SUCH_INSTANCE, None
    try:
        keys = _keys(event, event.request.ActionInformation, config)
        request(db, config, event.assoc.requestor.ae_title.strip()[:16], keys)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        return _refusal("N-ACTION", error), None
    return SUCCESS, None


def on_n_event_report(event: CommitmentEvent, db: sa.Engine, config: Config) -> tuple[int, None]:
    """Take one report of an archive."""
    try:
        keys = _keys(event, event.request.EventInformation, config)
        report = Report(
            keys.texts.get(_TRANSACTION, "").strip(),
            tuple(_references(keys.sequences.get(_OBJECTS, ()))),
            tuple((*pair, FAILURE) for pair in _references(keys.sequences.get(_FAILED, ()))),
        )
        is_known = take_report(db, config, report)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        return _refusal("N-EVENT-REPORT", error), None
    return (SUCCESS if is_known else INVALID_ARGUMENT), None


def _keys(event: CommitmentEvent, data: io.BytesIO | None, config: Config) -> Keys:
    syntax, raw = str(event.context.transfer_syntax), data.getvalue() if data else b""
    return parse_query(raw, syntax, config.dicom.fallback_charset).keys


def _refusal(service: str, error: BaseException) -> int:
    log_failure(service, error)
    if isinstance(error, Retryable):
        return RESOURCES
    return INVALID_ARGUMENT if isinstance(error, InvalidInput) else FAILURE
