"""The rows of one object that was received: study, instance, event and analysis job."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from node.db.session import Tx, insert_once, new_id
from node.db.tables import instance, instance_duplicate, study, study_identity
from node.dicom.header import Header
from node.dicom.kept import DOES_NOT_MATCH, SUCCESS, Kept, StoreOutcome
from node.dicom.purged import mark_restored
from node.domain import jobs
from node.domain.events import EventKind
from node.domain.study import InstanceState, MatchState, StudyState, dicom_name_key
from node.engine import ANALYSIS, DurableEngine

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


#: The first instance under a UID: id, study_id, sha256, storage_key.
_First = sa.Row[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Arrived:
    """An object whose bytes are here: what the network and its own header say about it."""

    object_id: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    header: Header
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """Bytes that were kept before: what to answer, and where they should be."""

    outcome: StoreOutcome
    storage_key: str


@dataclass(slots=True)
class Arrival:
    """The rows of one object, inside its transaction."""

    tx: Tx
    engine: DurableEngine
    it: Arrived
    storage_key: str

    def keep(self, holds: Callable[[str], bool]) -> StoreOutcome:
        """Write the rows; `holds` says of a storage key whether its file is there."""
        first = self._first_instance()
        return self._insert() if first is None else self._again(first, holds)

    def _insert(self) -> StoreOutcome:
        study_id = self._study()
        if not insert_once(self.tx.conn, instance, self._instance_values(study_id)):
            raced = self._first_instance()  # PostgreSQL: a transaction beside this one won
            assert raced is not None
            return self._again(raced, lambda _: True)
        self._touch(study_id)
        self._announce(study_id)
        self.tx.record(self.it.object_id, kept=Kept.STORED.value, study=study_id)
        status = SUCCESS if self._is_what_it_says() else DOES_NOT_MATCH
        return StoreOutcome(Kept.STORED, status, self.it.object_id, study_id)

    def _again(self, first: _First, holds: Callable[[str], bool]) -> StoreOutcome:
        """Keep what came under a UID that is here already."""
        known = _known_bytes(self.tx.conn, first, self.it.sha256)
        if known is None:
            return self._keep_beside(first)
        if not holds(known.storage_key):
            return self._restore(known)
        self.tx.record(known.outcome.instance_id, kept=Kept.SAME_AGAIN.value)
        return known.outcome

    def _restore(self, known: Known) -> StoreOutcome:
        """Put bytes back whose file was lost or given up: Success must not be a lie."""
        for table in (instance, instance_duplicate):
            changed = self.tx.conn.execute(
                table.update()
                .where(
                    table.c.location_id == self.tx.location_id,
                    table.c.storage_key == known.storage_key,
                )
                .values(storage_key=self.storage_key)
            )
            if table is instance and changed.rowcount:
                mark_restored(self.tx, known.outcome.instance_id)
        self.tx.record(known.outcome.instance_id, kept=Kept.RESTORED.value)
        return replace(known.outcome, kept=Kept.RESTORED)

    def _first_instance(self) -> _First | None:
        return _find_first(self.tx.conn, self.tx.location_id, self.it.sop_instance_uid)

    def _keep_beside(self, first: _First) -> StoreOutcome:
        instance_id, study_id = first.id, first.study_id
        values = {
            "id": self.it.object_id,
            "location_id": self.tx.location_id,
            "instance_id": instance_id,
            "sha256": self.it.sha256,
            "size_bytes": self.it.size_bytes,
            "storage_key": self.storage_key,
            "sender_ae_title": self.it.calling_ae,
            "received_at": self.tx.now,
        }
        if not insert_once(self.tx.conn, instance_duplicate, values):
            self.tx.record(instance_id, kept=Kept.SAME_AGAIN.value)
            return StoreOutcome(Kept.SAME_AGAIN, DOES_NOT_MATCH, instance_id, study_id)
        self.tx.append_event(
            EventKind.DUPLICATE_KEPT,
            instance_id,
            f"duplicate:{instance_id}:{self.it.sha256}",
            {"study_id": study_id, "duplicate_id": self.it.object_id},
        )
        self.tx.record(instance_id, kept=Kept.BESIDE.value, duplicate=self.it.object_id)
        return StoreOutcome(Kept.BESIDE, DOES_NOT_MATCH, instance_id, study_id)

    def _study(self) -> str:
        """Find or make the study; another patient under the same UID gets a study of its own."""
        uid = self.it.header.study_instance_uid or _derived_uid(self.it.sop_instance_uid)
        first = self._find_or_make_study(uid)
        if self._is_another_patient(first):
            key = (self._name_key(), self.it.header.birth_date, self.it.header.patient_id)
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
        header, tx, study_id = self.it.header, self.tx, new_id()
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
                "sender_ae_title": self.it.calling_ae,
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
            (first.birth_date, self.it.header.birth_date),
            (first.patient_id_text.lstrip("0"), self.it.header.patient_id.lstrip("0")),
        )
        return any(a.strip("^") and b.strip("^") and a != b for a, b in pairs)

    def _name_key(self) -> str:
        return dicom_name_key(self.it.header.patient_name)

    def _instance_values(self, study_id: str) -> dict[str, object]:
        header, it = self.it.header, self.it
        return {
            "id": self.it.object_id,
            "location_id": self.tx.location_id,
            "study_id": study_id,
            "sop_instance_uid": it.sop_instance_uid,
            "sop_class_uid": it.sop_class_uid,
            "series_instance_uid": header.series_instance_uid,
            "transfer_syntax_uid": it.transfer_syntax_uid,
            "modality": header.modality,
            "instance_number": header.instance_number,
            "rows": header.rows,
            "columns": header.columns,
            "spacing_mm_row": header.spacing.mm_row if header.spacing.is_known else None,
            "spacing_mm_col": header.spacing.mm_col if header.spacing.is_known else None,
            "spacing_kind": header.spacing.kind,
            "sha256": self.it.sha256,
            "size_bytes": it.size_bytes,
            "storage_key": self.storage_key,
            "sender_ae_title": it.calling_ae,
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
        instance_id = self.it.object_id
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
        header, it = self.it.header, self.it
        return header.sop_instance_uid in ("", it.sop_instance_uid) and (
            header.sop_class_uid in ("", it.sop_class_uid)
        )


def find_known(conn: sa.Connection, location_id: str, arrived: Arrived) -> Known | None:
    """Find bytes that were kept before under the same SOP Instance UID."""
    first = _find_first(conn, location_id, arrived.sop_instance_uid)
    return None if first is None else _known_bytes(conn, first, arrived.sha256)


def _find_first(conn: sa.Connection, location_id: str, sop_instance_uid: str) -> _First | None:
    return conn.execute(_FIRST, {"location": location_id, "uid": sop_instance_uid}).first()


def _known_bytes(conn: sa.Connection, first: _First, sha256: str) -> Known | None:
    if first.sha256 == sha256:
        same = StoreOutcome(Kept.SAME_AGAIN, SUCCESS, first.id, first.study_id)
        return Known(same, first.storage_key)
    beside = conn.execute(
        sa.select(instance_duplicate.c.storage_key).where(
            instance_duplicate.c.instance_id == first.id, instance_duplicate.c.sha256 == sha256
        )
    ).first()
    if beside is None:
        return None
    same = StoreOutcome(Kept.SAME_AGAIN, DOES_NOT_MATCH, first.id, first.study_id)
    return Known(same, beside.storage_key)


def _derived_uid(seed: str) -> str:
    """Make a stable UID from text (PS3.5 B.2: 2.25 and a UUID as one decimal number)."""
    return f"2.25.{uuid.uuid5(_DERIVED, seed).int}"
