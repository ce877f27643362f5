"""Results kept before their series was written beside them: read from their files, once.

Rows of ``dicom_result`` made before migration 0021 say neither series nor modality, and so cannot
be asked for by query and retrieve. Their files do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import dicom_result
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.instances import InstanceStore
from node.dicom.object_file import read_dataset
from node.errors import BitewingError

_LOG = logging.getLogger(__name__)
_ROWS_PER_TRANSACTION = 200
_NAMES = ["SeriesInstanceUID", "Modality", "InstanceNumber"]
_UNREADABLE: tuple[type[Exception], ...] = (*DAMAGE_ERRORS, BitewingError)


def complete_results(db: sa.Engine, store: InstanceStore, actor: Actor) -> int:
    """Fill in what a location's older results lack; return how many can be asked for now.

    One whose file is gone or damaged stays as it was. Raises Retryable when the database does not
    take the write.
    """
    found = list(_completions(store, _incomplete(db, actor.location_id)))
    for start in range(0, len(found), _ROWS_PER_TRANSACTION):
        part = found[start : start + _ROWS_PER_TRANSACTION]
        with begin(db, actor, "results.completed") as tx:
            for result_id, values in part:
                tx.conn.execute(
                    dicom_result.update().where(dicom_result.c.id == result_id).values(values)
                )
            tx.record("results", count=len(part))
    return len(found)


def _incomplete(db: sa.Engine, location_id: str) -> list[sa.Row[tuple[str, str]]]:
    query = sa.select(dicom_result.c.id, dicom_result.c.storage_key).where(
        dicom_result.c.location_id == location_id, dicom_result.c.series_instance_uid == ""
    )
    with read(db) as conn:
        return list(conn.execute(query))


def _completions(
    store: InstanceStore, rows: Iterable[sa.Row[tuple[str, str]]]
) -> Iterable[tuple[str, Mapping[str, object]]]:
    for row in rows:
        try:
            ds = read_dataset(
                store.file(row.storage_key), stop_before_pixels=True, specific_tags=_NAMES
            )
            values = {
                "series_instance_uid": str(ds.SeriesInstanceUID),
                "modality": str(ds.Modality),
                "instance_number": int(ds.InstanceNumber),
            }
        except _UNREADABLE as error:
            _LOG.warning("result %s cannot be read (%s)", row.id, type(error).__name__)
            continue
        yield row.id, values
