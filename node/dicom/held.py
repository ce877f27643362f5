"""Stored objects by the UIDs that others know them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.tables import study
from node.dicom.holdings import holdings
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
    with_results: bool = False,
) -> list[Held]:
    """Find one location's objects; what is empty does not narrow."""
    held = holdings(location_id, with_results=with_results)
    conditions = [
        column.in_(uids)
        for column, uids in (
            (study.c.study_instance_uid, studies),
            (held.c.series_instance_uid, series),
            (held.c.sop_instance_uid, instances),
        )
        if uids
    ]
    rows = conn.execute(
        sa.select(held, study.c.study_instance_uid)
        .join(study, study.c.id == held.c.study_id)
        .where(*conditions)
        .order_by(held.c.series_instance_uid, held.c.instance_number, held.c.id)
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
