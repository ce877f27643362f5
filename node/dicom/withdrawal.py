"""Rejection notes that others send: what they list leaves lists, queries and promises.

A rejection note is a key object whose title says why (PS3.16 CID 7011, IHE RAD TF-2 4.66). It
counts where it comes from the sender of the object it lists, or from one of
``dicom.may_reject``; of anybody else it is kept and nothing more. Nothing is deleted: the object
is hidden, and a note titled *Rejection Withdrawn* shows it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from pydicom.dataset import Dataset

from node.db.session import Tx, insert_once, new_id
from node.db.tables import image_delivery, instance, rejected_object
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.uid import is_uid
from node.domain.events import EventKind
from node.domain.study import InstanceState

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"

#: Titles that withdraw, in words for the page. Source: PS3.16 CID 7011.
TITLES = {
    "113001": "rejected for quality reasons",
    "113037": "rejected for patient safety reasons",
    "113038": "rejected: wrong worklist entry",
    "113039": "no longer to be kept, its sender says",
}
_WITHDRAWN = "131360"
_MOST_LISTED = 10_000

Row = sa.Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Note:
    """A rejection note, or its withdrawal: the code of its title, and the objects it lists."""

    code: str
    sop_instance_uids: tuple[str, ...]


def read_note(file: ObjectFile) -> Note | None:
    """Read a key object; None when its title neither rejects nor restores, or it is damaged."""
    try:
        ds = read_dataset(file, stop_before_pixels=True)
        title = ds.get("ConceptNameCodeSequence") or [Dataset()]
        code = str(title[0].get("CodeValue", ""))
        listed = tuple(dict.fromkeys(_listed(ds)))[:_MOST_LISTED]
    except DAMAGE_ERRORS:
        return None
    return Note(code, listed) if code in (*TITLES, _WITHDRAWN) else None


def act_on(tx: Tx, note: Note, note_id: str, may_reject: Collection[str]) -> int:
    """Do what a note says of every object here that it may speak of; returns how many."""
    sender = _sender(tx.conn, note_id)
    rows = tx.conn.execute(
        sa.select(instance).where(
            instance.c.location_id == tx.location_id,
            instance.c.sop_instance_uid.in_(note.sop_instance_uids),
        )
    ).all()
    ours = {row.sop_instance_uid for row in rows}
    changed = 0
    for row in rows:
        if not _may(sender, row.sender_ae_title, may_reject):
            continue
        if note.code == _WITHDRAWN:
            changed += _restore(tx, row)
        else:
            _list(tx, str(row.sop_instance_uid), note_id, note.code)
            changed += hide(tx, row, note.code)
    if note.code != _WITHDRAWN:
        for uid in note.sop_instance_uids:
            if uid not in ours:  # on its way, or a result of ours
                _list(tx, uid, note_id, note.code)
    tx.record(f"instance:{note_id}", code=note.code, objects=changed)
    return changed


def code_of(conn: sa.Connection, image: Row, may_reject: Collection[str]) -> str:
    """Give the code of the note that rejected an image, also before it came; empty for none."""
    row = conn.execute(
        sa.select(rejected_object).where(
            rejected_object.c.location_id == image.location_id,
            rejected_object.c.sop_instance_uid == image.sop_instance_uid,
        )
    ).first()
    if row is None:
        return ""
    is_said = _may(_sender(conn, row.note_id), str(image.sender_ae_title), may_reject)
    return str(row.code) if is_said else ""


def hide(tx: Tx, image: Row, code: str) -> int:
    """Take one image out of lists, queries and queues; returns 1 when it stood there before."""
    if image.state == InstanceState.REJECTED.value:
        return 0
    tx.conn.execute(
        instance.update()
        .where(instance.c.id == image.id)
        .values(state=InstanceState.REJECTED.value, failure=TITLES[code])
    )
    tx.conn.execute(
        image_delivery.update()
        .where(
            image_delivery.c.instance_id == image.id,
            image_delivery.c.state.in_(["queued", "held"]),
        )
        .values(state="withdrawn", error="its sender rejected it", updated_at=tx.now)
    )
    key = f"rejected:{image.id}:{tx.now.isoformat()}"
    data = {"study_id": image.study_id, "code": code}
    tx.append_event(EventKind.IMAGE_REJECTED, str(image.id), key, data)
    return 1


def _restore(tx: Tx, image: Row) -> int:
    """Show an image again; it is analysed anew by the sweep for images that were forgotten."""
    tx.conn.execute(
        rejected_object.delete().where(
            rejected_object.c.location_id == tx.location_id,
            rejected_object.c.sop_instance_uid == image.sop_instance_uid,
        )
    )
    return tx.conn.execute(
        instance.update()
        .where(instance.c.id == image.id, instance.c.state == InstanceState.REJECTED.value)
        .values(state=InstanceState.RECEIVED.value, failure="")
    ).rowcount


def _list(tx: Tx, uid: str, note_id: str, code: str) -> None:
    values = {
        "id": new_id(),
        "location_id": tx.location_id,
        "sop_instance_uid": uid,
        "note_id": note_id,
        "code": code,
        "at": tx.now,
    }
    insert_once(tx.conn, rejected_object, values)


def _sender(conn: sa.Connection, note_id: str) -> str:
    query = sa.select(instance.c.sender_ae_title).where(instance.c.id == note_id)
    return str(conn.execute(query).scalar() or "")


def _may(sender: str, owner: str, may_reject: Collection[str]) -> bool:
    return bool(sender) and (sender == owner or bool({sender, "*"} & set(may_reject)))


def _listed(ds: Dataset) -> Iterator[str]:
    """Read the objects of the evidence (PS3.3 C.17.6.2.1)."""
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for item in series.get("ReferencedSOPSequence") or ():
                uid = str(item.get("ReferencedSOPInstanceUID", ""))
                if is_uid(uid):
                    yield uid
