"""Modality Performed Procedure Step: what a device says about its work, as SCP (PS3.4 F.7).

Every message is kept as it was sent; a row says how the step stands, whose it is and which images
belong to it. It is joined to the schedule by the rule for images: a key counts only if name and
birth date agree, anything else stays open for a person. A completed step leaves the worklist and
ends the quiet time of its study (node.analysis.completion).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from node.config import Config
from node.db.session import Actor, Tx, begin, insert_once, new_id
from node.db.tables import performed_step, worklist_item
from node.dicom.identity import MatchOutcome, SenderIdentity, match_identity, read_day
from node.dicom.instances import InstanceStore
from node.dicom.query import Keys, parse_query
from node.dicom.store import Incoming, log_failure, write_part_10
from node.dicom.uid import is_uid
from node.domain.events import EventKind
from node.domain.performed import PerformedState
from node.domain.study import dicom_name_key
from node.errors import Retryable

SUCCESS = 0x0000
INVALID_VALUE = 0x0106
FAILURE = 0x0110
DUPLICATE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
RESOURCES = 0x0213
#: PS3.4 F.7.2.2.3: "Performed Procedure Step Object may no longer be updated".
NO_LONGER_UPDATED = 0xA710

MPPS_CLASS = "1.2.840.10008.3.1.2.3.3"

_STATUS = 0x00400252
_SCHEDULED_STEPS = 0x00400270
_SERIES = 0x00400340
_IMAGES = (0x00081140, 0x00400220)
_REFERENCED_UID = 0x00081155
_DISCONTINUATION = 0x00400281

_EVENTS = {
    PerformedState.STARTED: EventKind.STEP_STARTED,
    PerformedState.COMPLETED: EventKind.STEP_COMPLETED,
    PerformedState.DISCONTINUED: EventKind.STEP_DISCONTINUED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A DIMSE status; ``error_id`` goes with 0110 where the standard names one."""

    status: int
    error_id: int = 0

    @property
    def data_set(self) -> Dataset:
        """The status as pynetdicom takes it."""
        ds = Dataset()
        ds.Status = self.status
        if self.error_id:
            ds.ErrorID = self.error_id
        return ds


@dataclass(frozen=True, slots=True)
class Message:
    """One N-CREATE or N-SET: the bytes, and what was read of them."""

    sop_instance_uid: str
    data: bytes
    transfer_syntax_uid: str
    calling_ae: str
    keys: Keys

    @classmethod
    def read(
        cls, sop_instance_uid: str, data: bytes, syntax: str, calling_ae: str, fallback: str
    ) -> Message:
        """Read the attribute list. Raises InvalidInput when it is none."""
        keys = parse_query(data, syntax, fallback).keys
        return cls(sop_instance_uid, data, syntax, calling_ae.strip()[:16], keys)

    def text(self, tag: int, limit: int = 64) -> str:
        """Return a text at the root."""
        return self.keys.texts.get(tag, "")[:limit]

    @property
    def state(self) -> PerformedState | None:
        """The status that it tells, None when it tells none that there is."""
        return PerformedState.read(self.text(_STATUS))

    @property
    def scheduled(self) -> Keys:
        """The first scheduled step that was performed; empty for unscheduled work."""
        items = self.keys.sequences.get(_SCHEDULED_STEPS, ())
        return items[0] if items else Keys()

    @property
    def image_uids(self) -> list[str] | None:
        """The objects that it lists, None when it does not speak of series."""
        if _SERIES not in self.keys.sequences:
            return None
        return list(dict.fromkeys(_referenced(self.keys.sequences[_SERIES])))

    @property
    def reason(self) -> str:
        """The code value of why the work was broken off."""
        items = self.keys.sequences.get(_DISCONTINUATION, ())
        return items[0].texts.get(0x00080100, "")[:64] if items else ""

    @property
    def identity(self) -> SenderIdentity:
        """Whom it names."""
        return SenderIdentity(
            name_key=dicom_name_key(self.text(0x00100010, 324)),
            birth_date=read_day(self.text(0x00100030)),
            patient_id=self.text(0x00100020).strip(),
            issuer=self.text(0x00100021).strip(),
            accession_number=self.scheduled.texts.get(0x00080050, "").strip(),
            study_instance_uid=self.scheduled.texts.get(0x0020000D, "").strip(),
            study_day=read_day(self.text(0x00400244)),
        )


def create(db: sa.Engine, store: InstanceStore, message: Message, config: Config) -> Answer:
    """Begin a step; the row is committed before the answer.

    Raises Retryable when the disk is full or the database is away.
    """
    if not is_uid(message.sop_instance_uid):
        return Answer(INVALID_INSTANCE)
    if not message.text(_STATUS).strip():
        return Answer(MISSING_ATTRIBUTE)
    if message.state is not PerformedState.STARTED:  # PS3.4 F.7.2.1.2: always IN PROGRESS
        return Answer(INVALID_VALUE)
    step_id = new_id()
    with _kept(store, config, step_id, 0, message) as file, _writing(db, config) as tx:
        matched = match_identity(tx.conn, tx.location_id, message.identity, config)
        values = {
            "id": step_id,
            "location_id": tx.location_id,
            "sop_instance_uid": message.sop_instance_uid,
            "state": PerformedState.STARTED.value,
            "study_instance_uid": _uid(message.scheduled.texts.get(0x0020000D, "")),
            "modality": message.text(0x00080060, 16),
            "station_ae_title": message.text(0x00400241, 16).strip(),
            "image_uids": message.image_uids or [],
            "messages": [file.storage_key],
            "sender_ae_title": message.calling_ae,
            "started_at": tx.now,
            **_placed(tx, message, matched),
        }
        if not insert_once(tx.conn, performed_step, values):
            return Answer(DUPLICATE)
        file.is_used = True
        _announce(tx, step_id, values)
    return Answer(SUCCESS)


def change(db: sa.Engine, store: InstanceStore, message: Message, config: Config) -> Answer:
    """Change a step that is still in progress, or end it.

    Raises Retryable when the disk is full or the database is away.
    """
    state = message.state
    if message.text(_STATUS).strip() and state is None:
        return Answer(INVALID_VALUE)
    with _writing(db, config) as tx:
        row = tx.conn.execute(
            sa.select(performed_step)
            .where(
                performed_step.c.location_id == tx.location_id,
                performed_step.c.sop_instance_uid == message.sop_instance_uid,
            )
            .with_for_update()
        ).first()
        if row is None:
            return Answer(NO_SUCH_INSTANCE)
        if PerformedState(row.state).is_final:
            return Answer(FAILURE, NO_LONGER_UPDATED)
        state = state or PerformedState.STARTED
        with _kept(store, config, row.id, len(row.messages), message) as file:
            values: dict[str, object] = {
                "state": state.value,
                "messages": [*row.messages, file.storage_key],
                "reason": message.reason or row.reason,
                "ended_at": tx.now if state.is_final else None,
            }
            if message.image_uids is not None:
                values["image_uids"] = message.image_uids
            tx.conn.execute(
                performed_step.update().where(performed_step.c.id == row.id).values(values)
            )
            _announce(tx, row.id, {**row._mapping, **values})
            file.is_used = True
    return Answer(SUCCESS)


@dataclass(slots=True)
class _File:
    """A message in the store; it is removed again unless a row came to refer to it."""

    storage_key: str
    is_used: bool = False


@contextlib.contextmanager
def _kept(
    store: InstanceStore, config: Config, step_id: str, number: int, message: Message
) -> Iterator[_File]:
    incoming = Incoming(
        memoryview(message.data),
        MPPS_CLASS,
        message.sop_instance_uid,
        message.transfer_syntax_uid,
        message.calling_ae,
    )
    store.require_room(len(message.data))
    stored = store.put(
        config.node.location_id,
        f"{step_id}-{number}.dcm",
        lambda file: write_part_10(file, incoming),
    )
    file = _File(stored.storage_key)
    try:
        yield file
    finally:
        if not file.is_used:
            store.discard(file.storage_key)


def _writing(db: sa.Engine, config: Config) -> contextlib.AbstractContextManager[Tx]:
    return begin(db, Actor("dicom", config.node.location_id), "step.performed")


def _placed(tx: Tx, message: Message, matched: MatchOutcome) -> dict[str, object]:
    """Say whose step it is and which one of the schedule, where that is certain."""
    item = _item(tx, message, matched) if matched.state.is_certain else None
    return {
        "match_state": matched.state.value,
        "match_reason": matched.reason[:255],
        "patient_id": matched.patient_id,
        "appointment_id": matched.appointment_id,
        "worklist_item_id": item,
    }


def _item(tx: Tx, message: Message, matched: MatchOutcome) -> str | None:
    """Find the scheduled step of the visit: by its ID, by its modality, or because it is alone."""
    rows = tx.conn.execute(
        sa.select(
            worklist_item.c.id,
            worklist_item.c.modality,
            worklist_item.c.scheduled_procedure_step_id,
        ).where(
            worklist_item.c.location_id == tx.location_id,
            worklist_item.c.appointment_id == matched.appointment_id,
        )
    ).all()
    step_id = message.scheduled.texts.get(0x00400009, "").strip()
    named = [row.id for row in rows if step_id and row.scheduled_procedure_step_id == step_id]
    same = [row.id for row in rows if row.modality == message.text(0x00080060, 16)]
    for found in (named, same, [row.id for row in rows]):
        if len(found) == 1:
            return str(found[0])
    return None


def _announce(tx: Tx, step_id: str, row: Mapping[str, object]) -> None:
    """Mark the scheduled step of the appointment, and leave the event."""
    state = PerformedState(str(row["state"]))
    if row["worklist_item_id"]:
        tx.conn.execute(
            worklist_item.update()
            .where(
                worklist_item.c.id == row["worklist_item_id"],
                worklist_item.c.performed != PerformedState.COMPLETED.value,
            )
            .values(performed=state.value)
        )
    images = row["image_uids"]
    told = {
        "appointment_id": row["appointment_id"],
        "worklist_item_id": row["worklist_item_id"],
        "match_state": row["match_state"],
        "images": len(images) if isinstance(images, list) else 0,
    }
    tx.append_event(_EVENTS[state], step_id, f"step:{step_id}:{state.value}", told)
    tx.record(f"step:{step_id}", state=state.value, match_state=row["match_state"])


def _referenced(series: tuple[Keys, ...]) -> Iterator[str]:
    for item in series:
        for tag in _IMAGES:
            for reference in item.sequences.get(tag, ()):
                if uid := _uid(reference.texts.get(_REFERENCED_UID, "")):
                    yield uid


def _uid(text: str) -> str:
    return text.strip() if is_uid(text.strip()) else ""


class _Request(Protocol):
    AffectedSOPInstanceUID: UID | None
    RequestedSOPInstanceUID: UID | None
    AttributeList: io.BytesIO | None
    ModificationList: io.BytesIO | None


class _Requestor(Protocol):
    ae_title: str


class _Association(Protocol):
    requestor: _Requestor


class _Context(Protocol):
    transfer_syntax: UID


class StepEvent(Protocol):
    """What pynetdicom hands to an N-CREATE or N-SET handler."""

    request: _Request
    assoc: _Association
    context: _Context


def on_n_create(
    event: StepEvent, db: sa.Engine, store: InstanceStore, config: Config
) -> tuple[Dataset, Dataset | None]:
    """Answer one N-CREATE: the status, and the UID where the peer left it to us."""
    request, made = event.request, None
    uid = str(request.AffectedSOPInstanceUID or "")
    if not uid:
        uid = generate_uid(prefix=None)
        made = Dataset()
        made.AffectedSOPInstanceUID = uid
    try:
        answer = create(db, store, _message(event, uid, request.AttributeList, config), config)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        answer = _refusal("N-CREATE", error)
    return answer.data_set, made


def on_n_set(
    event: StepEvent, db: sa.Engine, store: InstanceStore, config: Config
) -> tuple[Dataset, Dataset | None]:
    """Answer one N-SET."""
    uid = str(event.request.RequestedSOPInstanceUID or "")
    try:
        message = _message(event, uid, event.request.ModificationList, config)
        answer = change(db, store, message, config)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        answer = _refusal("N-SET", error)
    return answer.data_set, None


def _message(event: StepEvent, uid: str, data: io.BytesIO | None, config: Config) -> Message:
    return Message.read(
        uid,
        data.getvalue() if data is not None else b"",
        str(event.context.transfer_syntax),
        event.assoc.requestor.ae_title,
        config.dicom.fallback_charset,
    )


def _refusal(service: str, error: BaseException) -> Answer:
    log_failure(service, error)
    return Answer(RESOURCES if isinstance(error, Retryable) else FAILURE)
