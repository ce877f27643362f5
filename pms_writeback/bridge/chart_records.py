"""Lines of the chart of a bridged system as records: the one kind that a public table shows.

Statuses are the words that the workflows read: TP planned, C complete, EO existing.
"""

from __future__ import annotations

from collections.abc import Mapping

from node.errors import Unsupported
from pms_writeback.pms import PmsProcedure, ProcedureStatus
from pms_writeback.records import PmsRecord, Reach, RecordKind

_STATUSES = {
    ProcedureStatus.TREATMENT_PLANNED: "TP",
    ProcedureStatus.COMPLETE: "C",
    ProcedureStatus.EXISTING: "EO",
}


def chart_reach(has_procedures: bool) -> Mapping[RecordKind, Reach]:
    """Say how each kind can be read; `has_procedures` that the bridge's driver shows them."""
    reach = dict.fromkeys(RecordKind, Reach.NONE)
    if has_procedures:
        reach[RecordKind.PROCEDURE] = Reach.CHANGES
    return reach


def check_is_chart(kind: RecordKind, product: str) -> None:
    """Raise Unsupported for every kind but lines of the chart."""
    if kind is not RecordKind.PROCEDURE:
        raise Unsupported(f"no public table of {product} shows any {kind.value}")


def chart_record(line: PmsProcedure) -> PmsRecord:
    """Write one line under the neutral names; what no public column tells is empty."""
    return PmsRecord(
        kind=RecordKind.PROCEDURE,
        key=line.key,
        patient_key=line.patient_key,
        clinic_key=line.clinic_key,
        changed_at=line.changed_at,
        values={
            "cdt_code": line.cdt_code,
            "status": _STATUSES.get(line.status, ""),
            "tooth": line.tooth,
            "surfaces": line.surfaces,
            "tooth_range": line.tooth_range,
            "day": line.day.isoformat() if line.day else None,
            "fee": None,
            "provider_key": line.provider_key,
            "appointment_key": line.appointment_key,
            "planned_on": None,
            "description": line.description,
            "claim_note": "",
            "original_prosthesis_on": None,
        },
    )
