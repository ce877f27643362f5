"""What this node can be asked for: received objects, and results that a dentist signed.

Left out is what its sender withdrew by a rejection note, what nobody signed, and results whose
review was taken back since.
"""

from __future__ import annotations

import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian

from node.db.tables import dicom_result, instance, rejected_object, retraction
from node.domain.study import InstanceState

_NAMES = (
    *("id", "study_id", "sop_instance_uid", "sop_class_uid", "series_instance_uid"),
    *("transfer_syntax_uid", "modality", "instance_number", "rows", "columns"),
    *("storage_key", "received_at"),
)


def holdings(location_id: str, *, with_results: bool) -> sa.Subquery:
    """Select the objects of one location as one table; results only for who may see them."""
    received = sa.select(*(instance.c[name] for name in _NAMES)).where(
        instance.c.location_id == location_id,
        instance.c.state != InstanceState.REJECTED.value,
    )
    if not with_results:
        return received.subquery("holdings")
    return sa.union_all(received, _signed(location_id)).subquery("holdings")


def _signed(location_id: str) -> sa.Select[tuple[object, ...]]:
    is_taken_back = sa.exists().where(
        sa.or_(
            retraction.c.id == dicom_result.c.id,  # the rejection note that says so
            sa.and_(
                retraction.c.study_id == dicom_result.c.study_id,
                retraction.c.version >= dicom_result.c.review_version,
            ),
        )
    )
    is_rejected = sa.exists().where(
        rejected_object.c.location_id == location_id,
        rejected_object.c.sop_instance_uid == dicom_result.c.sop_instance_uid,
    )
    computed: dict[str, sa.ColumnElement[object]] = {
        "transfer_syntax_uid": sa.literal(str(ExplicitVRLittleEndian)),
        "rows": sa.cast(sa.null(), sa.Integer),
        "columns": sa.cast(sa.null(), sa.Integer),
        "received_at": dicom_result.c.created_at,
    }
    columns = [
        (computed[name] if name in computed else dicom_result.c[name]).label(name)
        for name in _NAMES
    ]
    return sa.select(*columns).where(
        dicom_result.c.location_id == location_id,
        dicom_result.c.review_version > 0,
        dicom_result.c.series_instance_uid != "",
        sa.not_(is_taken_back),
        sa.not_(is_rejected),
    )
