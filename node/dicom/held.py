"""Stored objects by the UIDs that others know them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.tables import instance, study
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile

_MOST = 65_535


@dataclass(frozen=True, slots=True)
class Held:
    """One object that can be given out."""

    study_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: ObjectFile

    @property
    def url_path(self) -> str:
        """Where DICOMweb finds it, below its root."""
        return (
            f"studies/{self.study_instance_uid}/series/{self.series_instance_uid}"
            f"/instances/{self.sop_instance_uid}"
        )


def find_held(
    conn: sa.Connection,
    store: InstanceStore,
    location_id: str,
    *,
    studies: Sequence[str] = (),
    series: Sequence[str] = (),
    instances: Sequence[str] = (),
) -> list[Held]:
    """Find one location's objects; what is empty does not narrow."""
    conditions = [
        column.in_(uids)
        for column, uids in (
            (study.c.study_instance_uid, studies),
            (instance.c.series_instance_uid, series),
            (instance.c.sop_instance_uid, instances),
        )
        if uids
    ]
    rows = conn.execute(
        sa.select(instance, study.c.study_instance_uid)
        .join(study, study.c.id == instance.c.study_id)
        .where(instance.c.location_id == location_id, *conditions)
        .order_by(instance.c.series_instance_uid, instance.c.instance_number, instance.c.id)
        .limit(_MOST)
    )
    return [
        Held(
            row.study_id,
            row.study_instance_uid,
            row.series_instance_uid,
            row.sop_class_uid,
            row.sop_instance_uid,
            row.transfer_syntax_uid,
            store.file(row.storage_key),
        )
        for row in rows
    ]
